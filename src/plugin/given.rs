//! What an ADD holds, and how it is taken back.

use super::debts::{Account, Answer, Owed};
use super::failure::Failure;
use crate::ipam::{Allocation, Attachment, Record, Slot, Sticky};
use crate::retry::Deadline;
use crate::store::disk::Held;
use crate::store::{Access, Store, StoreError};
use std::net::IpAddr;

/// What an ADD holds. Until it is dropped, no other call can use its attachment, so that the
/// addresses can be taken back.
pub struct Given {
    /// The addresses, in the order of the result.
    pub held: Vec<Allocation>,
    /// What the store is to remember about them.
    pub sticky: Vec<Sticky>,
    /// The addresses that this call created or moved. A repeat has created none.
    pub(super) created: Vec<Allocation>,
    /// The addresses among them that are claimed and not yet known to be unused elsewhere.
    pub(super) unasked: Vec<IpAddr>,
    /// The slot that had no room, if the ADD failed for that.
    pub(super) full: Option<Slot>,
    /// The locks of the attachment and of those that it was re-homed from.
    pub(super) locks: Vec<(Attachment, Box<dyn Held>)>,
}

impl Given {
    /// Locks an attachment. Returns false if another call of it is under way.
    pub(super) fn lock(
        &mut self,
        store: &dyn Store,
        attachment: &Attachment,
    ) -> Result<bool, StoreError> {
        if self.locks.iter().any(|(locked, _)| locked == attachment) {
            return Ok(true);
        }
        let lock = store.try_lock_attachment(attachment)?;
        let is_ours = lock.is_some();
        self.locks.extend(lock.map(|lock| (attachment.clone(), lock)));
        Ok(is_ours)
    }

    pub(super) fn made(&mut self, made: Vec<Allocation>) {
        self.created.extend(made.iter().cloned());
        self.held.extend(made);
    }

    /// Releases what this call created, in reverse order: exactly those records. Continues after a
    /// failure and returns the first one.
    ///
    /// # Errors
    /// Something may still be held.
    pub fn undo(&self, store: &dyn Store, deadline: Deadline) -> Result<(), StoreError> {
        let mut first = Ok(());
        for (done, allocation) in self.created.iter().rev().enumerate() {
            if 0 < done && deadline.left().is_zero() {
                return first.and(Err(out_of_time(deadline, done, self.created.len())));
            }
            let released = store
                .open(Access::Release, deadline)
                .and_then(|mut session| session.release_unchanged(allocation));
            first = first.and(released.map(drop));
        }
        first
    }

    /// Leaves a debt for what this call created and could not take back.
    pub(super) fn owe(
        &self,
        error: StoreError,
        account: Option<&Account>,
        record: &Record,
    ) -> Failure {
        let Some(account) = account else { return error.into() };
        let owed = Owed {
            error: &error,
            held: Some(self.created.clone()),
            exclusive: true,
            answered: Answer::Error,
            seen: record.clone(),
        };
        let noted = account.leave(owed);
        Failure::Owed { failure: Box::new(error), unnoted: noted.err() }
    }
}

/// Returns the failure of an ADD whose time is over before all addresses are claimed.
pub(super) fn out_of_time(deadline: Deadline, done: usize, all: usize) -> StoreError {
    StoreError::OutOfTime {
        limit: humantime::format_duration(deadline.limit()).to_string(),
        done,
        all,
    }
}
