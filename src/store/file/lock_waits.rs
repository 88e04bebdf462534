//! Waiting for the locks: which file each is on, how long, and what is said
//! when it is not to be had.

use super::{FileStore, layout};
use crate::ipam::Attachment;
use crate::retry::{self, Deadline};
use crate::store::disk::error::{below, failed, reason};
use crate::store::disk::{Disk, Held, Locked, Patience};
use crate::store::{StoreError, percent};
use std::io;
use std::path::Path;

/// Where locks of this machine alone are kept.
const LOCAL_LOCKS: &str = "/run/hereabouts";

pub(super) type LockCall<'a> = &'a dyn Fn(&Path, Patience) -> io::Result<Locked>;

impl<D: Disk> FileStore<D> {
    /// Waits for a lock: in the kernel's queue on a local filesystem, by
    /// trying again elsewhere.
    pub(super) fn wait(&self, path: &Path, local: bool, deadline: &Deadline, lock: LockCall<'_>) -> Result<Box<dyn Held>, StoreError> {
        let refused = |error| refused_lock(&self.disk, path, error);
        let held = if local {
            match lock(path, Patience::Queue(deadline.left())).map_err(&refused)? {
                Locked::Held(held) => Some(held),
                Locked::Busy => None,
            }
        } else {
            retry::until::<_, StoreError>(deadline, || match lock(path, Patience::Try).map_err(&refused)? {
                Locked::Held(held) => Ok(Some(held)),
                Locked::Busy => Ok(None),
            })?
        };
        held.ok_or_else(|| StoreError::Busy {
            path: below(&self.disk, path),
            waited: humantime::format_duration(deadline.limit()).to_string(),
            holder: self.disk.lock_holder(path),
        })
    }

    pub(super) fn is_local(&self) -> Result<bool, StoreError> {
        self.disk.is_local().map_err(|error| failed(&self.disk, "look at the filesystem of", Path::new(""), error))
    }

    /// The store's lock. On a local filesystem, where no other stands behind
    /// it, the data directory itself: a file could be removed under its holder,
    /// and whoever comes next would make and lock another. On a shared one a
    /// file: not all of them lock directories.
    pub(super) fn wait_store(&self, local: bool, deadline: &Deadline) -> Result<Box<dyn Held>, StoreError> {
        let path = Path::new(if local { "" } else { layout::LOCK });
        self.wait(path, local, deadline, &|path, patience| self.disk.lock(path, patience))
    }

    /// The lock that keeps calls of this machine apart, also where the shared
    /// filesystem's locks fail.
    pub(super) fn wait_machine(&self, id: &str, deadline: &Deadline) -> Result<Box<dyn Held>, StoreError> {
        let path = Path::new(LOCAL_LOCKS).join(format!("{}-{id}.lock", percent::escape(self.host.node.as_str())));
        self.wait(&path, true, deadline, &|path, patience| self.disk.lock_local(path, patience))
    }
}

impl<D: Disk> FileStore<D> {
    /// Waits until no other call of the attachment is under way. The lock is a
    /// byte of the file `format`, which every store has and nothing replaces:
    /// it is there before any record is, costs no file, and is found by every
    /// mount namespace that finds the store. Calls of one node alone meet here.
    pub(super) fn wait_attachment(&self, attachment: &Attachment, deadline: &Deadline) -> Result<Box<dyn Held>, StoreError> {
        let local = self.is_local()?;
        let byte = layout::lock_byte(attachment);
        let lock = |path: &Path, patience: Patience| self.lock_format(path, byte, patience);
        self.wait(Path::new(layout::FORMAT), local, deadline, &lock).map_err(|error| match error {
            StoreError::Busy { waited, .. } => StoreError::AttachmentBusy {
                attachment: attachment.to_string(),
                waited,
                holder: self.disk.byte_holder(Path::new(layout::FORMAT), byte),
            },
            other => other,
        })
    }

    /// The same where no other call of the attachment is under way.
    pub(super) fn try_attachment(&self, attachment: &Attachment) -> Result<Option<Box<dyn Held>>, StoreError> {
        let path = Path::new(layout::FORMAT);
        match self.lock_format(path, layout::lock_byte(attachment), Patience::Try) {
            Ok(Locked::Held(held)) => Ok(Some(held)),
            Ok(Locked::Busy) => Ok(None),
            Err(error) => Err(refused_lock(&self.disk, path, error)),
        }
    }

    /// On a filesystem that is mounted read-only nothing can change under a
    /// call, and what it wants to change says so in its own words.
    fn lock_format(&self, path: &Path, byte: u64, patience: Patience) -> io::Result<Locked> {
        match self.disk.lock_byte(path, byte, patience) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(Locked::Held(Box::new(Unneeded))),
            locked => locked,
        }
    }
}

/// The place of a lock where none is needed.
struct Unneeded;

impl Held for Unneeded {}

/// A lock that was refused: the filesystem has none, or it failed.
pub(super) fn refused_lock(disk: &dyn Disk, path: &Path, error: io::Error) -> StoreError {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS) => StoreError::NoLocks { path: below(disk, path), reason: reason(&error) },
        _ => failed(disk, "lock", path, error),
    }
}
