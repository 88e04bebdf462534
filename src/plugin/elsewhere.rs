//! Addresses that are in use although no record says so: on an interface of this node, or, where
//! the network asks for it, by another host. An ADD does not give them out.
//!
//! The store decides first: an ADD claims an address, and then asks about this one address, without
//! a lock of the store. If it is in use, the ADD takes back its claim, notes the address, and claims
//! another one. So an address never has two holders, and nothing but the claim of this call is
//! taken back.
//!
//! Only new claims are asked about. The address of a repeated ADD, or one that was re-homed, may be
//! on the pod's interface, which would answer.

use super::OwnInterface;
use super::failure::Failure;
use super::given::out_of_time;
use super::host_local::HostLocal;
use super::set_aside::{SetAside, User};
use crate::config::Probe;
use crate::ipam::{Allocation, Scope, Source};
use crate::retry::Deadline;
use crate::wire::{self, Link, Mac};
use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

/// For how long this node's own address is passed over without a claim. Each ADD in this time asks
/// the kernel whether it still is one.
const OWN: Duration = Duration::from_secs(600);

/// Asks the other hosts of a network. Returns the addresses that one of them has.
pub(super) type AskHosts<'a> = &'a dyn Fn(&Probe, &[IpAddr]) -> Result<Vec<(IpAddr, Mac)>, Failure>;

/// How one ADD finds out whether an address is in use elsewhere.
pub struct Elsewhere<'a> {
    /// Returns which interface of this node has an address. `None` if such addresses may be given.
    pub own: Option<&'a OwnInterface>,
    /// How the network wants other hosts to be asked, if it does.
    pub probe: Option<(&'a Probe, AskHosts<'a>)>,
    /// What host-local has given, while its pods run.
    pub host_local: Option<HostLocal>,
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
        if let Some(host_local) = &self.host_local {
            // Each address that is claimed is looked up again, and an error counts there.
            known.extend(host_local.given().unwrap_or_default());
        }
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
    /// One of them was asked for, the other hosts cannot be asked, or there is not enough time.
    pub(super) fn in_use(
        &self,
        claimed: &[&Allocation],
        deadline: Deadline,
    ) -> Result<Vec<IpAddr>, Failure> {
        let (mut in_use, mut unknown) = (Vec::new(), Vec::new());
        for allocation in claimed {
            let address = allocation.address;
            if let Some(container) = self.container_of_host_local(address)? {
                if let Some(what) = what(allocation) {
                    return Err(Failure::GivenByHostLocal { what, address, container });
                }
                in_use.push(address);
                continue;
            }
            let Some(interface) = self.own.and_then(|own| own(address)) else {
                unknown.push(address);
                continue;
            };
            if let Some(what) = what(allocation) {
                return Err(Failure::Own { what, address, interface });
            }
            self.notes.note(&allocation.scope, address, User::Interface(interface), OWN);
            in_use.push(address);
        }
        for (address, mac) in self.ask_hosts(&unknown, deadline)? {
            let Some(allocation) = claimed.iter().find(|claimed| claimed.address == address) else {
                continue;
            };
            if let Some(what) = what(allocation) {
                return Err(Failure::Answered { what, address, mac: mac.to_string() });
            }
            tracing::info!(%address, %mac, "another host has the address, so it is set aside");
            let time = self.probe.map_or(OWN, |(probe, _)| probe.set_aside);
            self.notes.note(&allocation.scope, address, User::Mac(mac.to_string()), time);
            in_use.push(address);
        }
        self.found.borrow_mut().extend(&in_use);
        Ok(in_use)
    }

    /// Returns the container to which host-local has given an address.
    fn container_of_host_local(&self, address: IpAddr) -> Result<Option<String>, Failure> {
        let Some(host_local) = &self.host_local else { return Ok(None) };
        match host_local.note(address) {
            Ok(note) => Ok(note.map(|note| note.container)),
            Err(reason) => {
                let path = host_local.path(address);
                Err(Failure::HostLocal(format!("{}: {reason}", path.display())))
            }
        }
    }

    fn ask_hosts(
        &self,
        addresses: &[IpAddr],
        deadline: Deadline,
    ) -> Result<Vec<(IpAddr, Mac)>, Failure> {
        let Some((probe, ask)) = self.probe.filter(|_| !addresses.is_empty()) else {
            return Ok(Vec::new());
        };
        if deadline.left() < probe.wait {
            return Err(out_of_time(deadline, 0, addresses.len()).into());
        }
        ask(probe, addresses)
    }
}

/// Asks the other hosts on the wire of a network.
///
/// # Errors
/// The interface cannot be used, or the frames cannot be sent.
pub(super) fn ask_hosts(
    probe: &Probe,
    addresses: &[IpAddr],
) -> Result<Vec<(IpAddr, Mac)>, Failure> {
    let failed = |reason: String| Failure::NoProbe { interface: probe.interface.clone(), reason };
    let link = Link::find(&probe.interface).map_err(|error| failed(error.to_string()))?;
    wire::probe(&link, addresses, probe.wait).map_err(|error| failed(error.to_string()))
}

/// Returns how an address was asked for, or `None` if another one serves as well.
fn what(allocation: &Allocation) -> Option<&'static str> {
    match allocation.record.source {
        Source::Dynamic => None,
        Source::Requested => Some("requested"),
        Source::Static => Some("static"),
    }
}
