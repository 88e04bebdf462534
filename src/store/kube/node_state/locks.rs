//! The locks of the node state: of an attachment, of a list, of a file that all calls share.

use super::cleanup::LISTING;
use super::{State, is_no_file};
use crate::ipam::{Attachment, Scope};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::disk::{Held, Locked, Patience};
use crate::store::kube::objects::names;
use std::io;
use std::path::Path;

const LOCK: &str = "lock";
const REBUILD: &str = "rebuild";
const TURN: &str = "turn";
pub(super) const CALLS: &str = "calls";

impl State {
    /// Keeps other calls of an attachment out, and creates the state if it is missing.
    pub(crate) fn lock_attachment(
        &self,
        attachment: &Attachment,
        deadline: &Deadline,
    ) -> Result<Box<dyn Held>, StoreError> {
        let (path, byte) = (Path::new(CALLS), lock_byte(&names::of_attachment(attachment)));
        let lock = || self.disk.lock_byte(path, byte, Patience::Queue(deadline.left()));
        let mut locked = lock();
        if locked.as_ref().is_err_and(is_no_file) {
            self.put_aside(path)?;
            locked = lock();
        }
        if locked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            self.prepare()?;
            locked = lock();
        }
        match locked.map_err(|error| self.failed("lock", path, error))? {
            Locked::Held(held) => Ok(held),
            Locked::Busy => Err(StoreError::AttachmentBusy {
                attachment: attachment.to_string(),
                waited: humantime::format_duration(deadline.limit()).to_string(),
                holder: self.disk.byte_holder(path, byte),
            }),
        }
    }

    /// Locks an attachment by its hash, unless another call has locked it.
    pub(crate) fn try_lock_attachment(&self, hash: &str) -> Option<Box<dyn Held>> {
        match self.disk.lock_byte(Path::new(CALLS), lock_byte(hash), Patience::Try) {
            Ok(Locked::Held(held)) => Some(held),
            _ => None,
        }
    }

    /// Keeps two lists of this node's objects apart.
    pub(crate) fn lock_rebuild(&self, deadline: &Deadline) -> Result<Box<dyn Held>, StoreError> {
        self.lock(Path::new(REBUILD), deadline)
    }

    /// Keeps two lists of one scope apart.
    pub(crate) fn lock_listing(
        &self,
        scope: &Scope,
        deadline: &Deadline,
    ) -> Result<Box<dyn Held>, StoreError> {
        self.lock(Path::new(&format!("{LISTING}{}", names::of_scope(scope))), deadline)
    }

    /// Takes the lock that is held for a moment, around a change of a file that all calls share.
    pub(crate) fn lock_briefly(&self, deadline: &Deadline) -> Result<Box<dyn Held>, StoreError> {
        self.lock(Path::new(LOCK), deadline)
    }

    /// Keeps two turns of this node under Whereabouts' Lease apart.
    pub(crate) fn lock_turn(&self, deadline: &Deadline) -> Result<Box<dyn Held>, StoreError> {
        self.lock(Path::new(TURN), deadline)
    }

    pub(super) fn lock(
        &self,
        path: &Path,
        deadline: &Deadline,
    ) -> Result<Box<dyn Held>, StoreError> {
        let lock = || self.disk.lock(path, Patience::Queue(deadline.left()));
        let mut locked = lock();
        // No process holds a lock on something that is not a file.
        if locked.as_ref().is_err_and(is_no_file) {
            self.put_aside(path)?;
            locked = lock();
        }
        match locked {
            Ok(Locked::Held(held)) => Ok(held),
            Ok(Locked::Busy) => Err(StoreError::Busy {
                path: self.disk.root().join(path),
                waited: humantime::format_duration(deadline.limit()).to_string(),
                holder: self.disk.lock_holder(path),
            }),
            Err(error) => Err(self.failed("lock", path, error)),
        }
    }
}

/// Returns the byte that locks an attachment, from its hash. File offsets are signed.
fn lock_byte(hash: &str) -> u64 {
    u64::from_str_radix(hash.get(..16).unwrap_or(hash), 16).unwrap_or(0) >> 2
}
