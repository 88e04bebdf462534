//! Waits for the locks. Decides which file each lock is on, how long a call waits, and which error
//! it gets when the wait fails.

use super::{FileStore, layout};
use crate::ipam::Attachment;
use crate::retry::{self, Deadline};
use crate::store::disk::error::{below, failed, reason};
use crate::store::disk::{Disk, Held, Locked, Patience};
use crate::store::{StoreError, percent};
use std::io;
use std::path::Path;

/// The directory of the locks that only this machine uses.
const LOCAL_LOCKS: &str = "/run/hereabouts";

pub(super) type LockCall<'a> = &'a dyn Fn(&Path, Patience) -> io::Result<Locked>;

impl<D: Disk> FileStore<D> {
    /// Waits for a lock: in the kernel's queue on a local filesystem, by polling on others.
    pub(super) fn wait(
        &self,
        path: &Path,
        local: bool,
        deadline: &Deadline,
        lock: LockCall<'_>,
    ) -> Result<Box<dyn Held>, StoreError> {
        let refused = |error| refused_lock(&self.disk, path, error);
        let held = if local {
            match lock(path, Patience::Queue(deadline.left())).map_err(&refused)? {
                Locked::Held(held) => Some(held),
                Locked::Busy => None,
            }
        } else {
            retry::until::<_, StoreError>(deadline, || {
                match lock(path, Patience::Try).map_err(&refused)? {
                    Locked::Held(held) => Ok(Some(held)),
                    Locked::Busy => Ok(None),
                }
            })?
        };
        held.ok_or_else(|| StoreError::Busy {
            path: below(&self.disk, path),
            waited: humantime::format_duration(deadline.limit()).to_string(),
            holder: self.disk.lock_holder(path),
        })
    }

    pub(super) fn is_local(&self) -> Result<bool, StoreError> {
        self.disk
            .is_local()
            .map_err(|error| failed(&self.disk, "look at the filesystem of", Path::new(""), error))
    }

    /// Waits for the store's lock. On a local filesystem, where no other filesystem is behind it,
    /// the lock is on the data directory itself: a lock file could be removed under its holder, and
    /// the next call would create and lock another one. On a shared filesystem the lock is on a
    /// file, because not all of them lock directories.
    pub(super) fn wait_store(
        &self,
        local: bool,
        deadline: &Deadline,
    ) -> Result<Box<dyn Held>, StoreError> {
        let path = Path::new(if local { "" } else { layout::LOCK });
        self.wait(path, local, deadline, &|path, patience| self.disk.lock(path, patience))
    }

    /// Waits for the lock that keeps the calls of this machine apart even if the locks of the
    /// shared filesystem fail.
    pub(super) fn wait_machine(
        &self,
        id: &str,
        deadline: &Deadline,
    ) -> Result<Box<dyn Held>, StoreError> {
        let path = Path::new(LOCAL_LOCKS)
            .join(format!("{}-{id}.lock", percent::escape(self.host.node.as_str())));
        self.wait(&path, true, deadline, &|path, patience| self.disk.lock_local(path, patience))
    }
}

impl<D: Disk> FileStore<D> {
    /// Waits until no other call of the attachment is in progress. The lock is a byte of the file
    /// `format`, which every store has and no call replaces. It exists before any record, costs no
    /// file, and every mount namespace that finds the store finds it. Only calls of one node
    /// compete for it.
    pub(super) fn wait_attachment(
        &self,
        attachment: &Attachment,
        deadline: &Deadline,
    ) -> Result<Box<dyn Held>, StoreError> {
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

    /// Takes the same lock if no other call of the attachment is in progress.
    pub(super) fn try_attachment(
        &self,
        attachment: &Attachment,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        let path = Path::new(layout::FORMAT);
        match self.lock_format(path, layout::lock_byte(attachment), Patience::Try) {
            Ok(Locked::Held(held)) => Ok(Some(held)),
            Ok(Locked::Busy) => Ok(None),
            Err(error) => Err(refused_lock(&self.disk, path, error)),
        }
    }

    /// Locks a byte of the file `format`. On a filesystem that is mounted read-only nothing can
    /// change during a call, so no lock is needed, and a call that tries to change something gets
    /// the filesystem's own error.
    fn lock_format(&self, path: &Path, byte: u64, patience: Patience) -> io::Result<Locked> {
        match self.disk.lock_byte(path, byte, patience) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Ok(Locked::Held(Box::new(Unneeded)))
            }
            locked => locked,
        }
    }
}

/// The placeholder for a lock that is not needed.
struct Unneeded;

impl Held for Unneeded {}

/// Returns the error for a refused lock: the filesystem has no locks, or the lock failed.
pub(super) fn refused_lock(disk: &dyn Disk, path: &Path, error: io::Error) -> StoreError {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            StoreError::NoLocks { path: below(disk, path), reason: reason(&error) }
        }
        _ => failed(disk, "lock", path, error),
    }
}
