//! What one ADD asks of a store, and what decides while it is served.

use super::debts::Account;
use super::failure::Failure;
use super::recently_freed::Freed;
use crate::ipam::{Record, Scope, Slot};

/// What one ADD asks of a store.
pub struct Ask<'a> {
    /// Where the addresses have to be unique.
    pub scope: &'a Scope,
    /// One for each address.
    pub slots: &'a [Slot],
    /// The holder, and what is recorded of it.
    pub record: &'a Record,
    /// Whether anything may be allocated: asked when the attachment is locked and
    /// does not hold all that its ADD gave it.
    pub may_allocate: &'a dyn Fn() -> Result<(), Failure>,
    /// Whether a record's sandbox is still there.
    pub is_alive: &'a dyn Fn(&Record) -> bool,
    /// Whether the process that called has gone: nothing is begun for it then.
    pub caller_gone: &'a dyn Fn() -> bool,
    /// What the node owes for the attachment, where that is noted.
    pub account: Option<&'a Account>,
    /// What the node's pods have given back of late, where that is noted.
    pub freed: Option<&'a Freed>,
    /// Whether a pod of a StatefulSet gets the address that it had.
    pub sticky: bool,
}
