//! What one ADD asks of a store, and the functions that decide while it is served.

use super::debts::Account;
use super::elsewhere::Elsewhere;
use super::failure::Failure;
use super::recently_freed::Freed;
use crate::ipam::{Allocation, Record, Scope, Slot};

/// Checks the addresses of an answer.
pub type Confirm<'a> = &'a dyn Fn(&[Allocation]) -> Result<(), Failure>;

/// What one ADD asks of a store.
pub struct Ask<'a> {
    /// The scope in which the addresses must be unique.
    pub scope: &'a Scope,
    /// The slots, one for each address.
    pub slots: &'a [Slot],
    /// The holder, and what is recorded about it.
    pub record: &'a Record,
    /// Checks whether anything may be allocated. It is called when the attachment is locked and
    /// does not hold everything that its ADD gave it.
    pub may_allocate: &'a dyn Fn() -> Result<(), Failure>,
    /// Returns whether a record's sandbox still exists.
    pub is_alive: &'a dyn Fn(&Record) -> bool,
    /// Returns whether the calling process has exited. If so, nothing is started for it.
    pub caller_gone: &'a dyn Fn() -> bool,
    /// What the node owes for the attachment, if that is noted.
    pub account: Option<&'a Account>,
    /// What the node's pods have recently given back, if that is noted.
    pub freed: Option<&'a Freed>,
    /// How to find out whether an address is in use outside of the store, if that is asked.
    pub elsewhere: Option<&'a Elsewhere<'a>>,
    /// Checks what the ADD is about to answer. If that fails, the ADD takes back what it created.
    pub confirm: Option<Confirm<'a>>,
    /// Whether a pod of a StatefulSet gets the address that it had.
    pub sticky: bool,
}

impl Ask<'_> {
    /// Returns whether the sandbox of a record has ended: it is shown dead, or a DEL of it was
    /// answered with success.
    pub(super) fn has_ended(&self, old: &Allocation) -> bool {
        !(self.is_alive)(&old.record) || self.account.is_some_and(|account| account.has_ended(old))
    }
}
