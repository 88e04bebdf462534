//! What an ADD asks of its network, or of each pool of its network.

use super::failure::Failure;
use crate::addr::Family;
use crate::cni::Version;
use crate::config::Network;
use crate::ipam::{self, Scope, Slot};
use std::net::IpAddr;

/// A network with ranges, and the slots that an ADD is to fill from them.
pub(super) struct Request {
    pub(super) network: Network,
    pub(super) slots: Vec<Slot>,
}

impl Request {
    pub(super) fn new(network: Network, version: Version) -> Result<Self, Failure> {
        let (requested, statics) = (&network.requested, &network.statics);
        let mut slots = ipam::slots(&network.sets, requested, statics, &network.reservations)?;
        ipam::order_by_family(&mut slots, &network.family_order);
        check_one_per_family(&slots, version)?;
        Ok(Self { network, slots })
    }

    /// Returns the requests of a network that several pools may serve, in order. A pool that cannot
    /// serve all addresses is passed over: all addresses of an ADD come from one pool.
    pub(super) fn of_pools(networks: Vec<Network>, version: Version) -> Result<Vec<Self>, Failure> {
        let (mut requests, mut first) = (Vec::new(), None);
        for network in networks {
            match Self::new(network, version) {
                Ok(request) => requests.push(request),
                Err(failure) => {
                    first.get_or_insert(failure);
                }
            }
        }
        match first.filter(|_| requests.is_empty()) {
            Some(failure) => Err(failure),
            None => Ok(requests),
        }
    }

    /// Returns whether an address of a scope is one that this request may get.
    pub(super) fn may_get(&self, scope: &Scope, address: IpAddr) -> bool {
        let mut candidates = self.slots.iter().flat_map(|slot| &slot.candidates);
        *scope == self.network.scope
            && candidates.any(|candidates| candidates.addresses.contains(address))
    }
}

/// Refuses more addresses of a family than the version allows. 0.2.0 and older have room for one
/// address per family; a further one would be allocated and lost.
fn check_one_per_family(slots: &[Slot], version: Version) -> Result<(), Failure> {
    if Version::V030 <= version {
        return Ok(());
    }
    for family in [Family::V4, Family::V6] {
        let of_family = |slot: &&Slot| {
            slot.candidates
                .first()
                .is_some_and(|candidates| candidates.addresses.family() == family)
        };
        if 1 < slots.iter().filter(of_family).count() {
            return Err(Failure::OnePerFamily { version: version.as_str(), family });
        }
    }
    Ok(())
}
