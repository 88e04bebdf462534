//! Addresses that are in use although no record says so: on an interface of this node. An ADD does
//! not give them out.
//!
//! The store decides first: an ADD claims an address, and then asks about this one address, without
//! a lock of the store. If it is in use, the ADD takes back its claim, notes the address, and claims
//! another one. So an address never has two holders, and nothing but the claim of this call is
//! taken back.

use super::failure::Failure;
use super::set_aside::{SetAside, User};
use crate::ipam::{Allocation, Scope, Source};
use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

/// For how long this node's own address is passed over without a claim. Each ADD in this time asks
/// the kernel whether it still is one.
const OWN: Duration = Duration::from_secs(600);

/// How one ADD finds out whether an address is in use elsewhere.
pub struct Elsewhere<'a> {
    /// Returns which interface of this node has an address. `None` if such addresses may be given.
    pub own: Option<&'a dyn Fn(IpAddr) -> Option<String>>,
    /// The notes of what was found before.
    pub notes: SetAside,
    /// What this ADD has found. The notes may not be writable.
    pub found: RefCell<Vec<IpAddr>>,
}

impl Elsewhere<'_> {
    /// Returns the addresses that are not to be claimed: those that this ADD has found in use, and
    /// those that were noted and still may be.
    pub(super) fn known(&self, scope: &Scope) -> Vec<IpAddr> {
        let mut known = self.found.borrow().clone();
        let noted = self.notes.list().into_iter().filter(|aside| {
            aside.scope == *scope
                && match aside.user {
                    User::Interface(_) => self.own.is_some_and(|own| own(aside.address).is_some()),
                    User::Mac(_) => true,
                }
        });
        known.extend(noted.map(|aside| aside.address));
        known.sort_unstable();
        known.dedup();
        known
    }

    /// Returns which addresses of these new claims are in use elsewhere, and notes them.
    ///
    /// # Errors
    /// One of them was asked for.
    pub(super) fn in_use(&self, claimed: &[&Allocation]) -> Result<Vec<IpAddr>, Failure> {
        let Some(own) = self.own else { return Ok(Vec::new()) };
        let mut in_use = Vec::new();
        for allocation in claimed {
            let Some(interface) = own(allocation.address) else { continue };
            let address = allocation.address;
            match what(allocation) {
                Some(what) => return Err(Failure::Own { what, address, interface }),
                None => {
                    self.notes.note(&allocation.scope, address, User::Interface(interface), OWN)
                }
            }
            in_use.push(address);
        }
        self.found.borrow_mut().extend(&in_use);
        Ok(in_use)
    }
}

/// Returns how an address was asked for, or `None` if another one serves as well.
fn what(allocation: &Allocation) -> Option<&'static str> {
    match allocation.record.source {
        Source::Dynamic => None,
        Source::Requested => Some("requested"),
        Source::Static => Some("static"),
    }
}
