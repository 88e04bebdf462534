//! STATUS: tells whether an ADD would be served. Runtimes poll it, so it takes no lock. On a
//! default network a "no" takes the node out of service, so a full range is a "no" only if the
//! operator asks for that.

use super::elsewhere::Elsewhere;
use super::failure::Failure;
use super::pools::{Pools, draw_from_slices};
use super::{Ipam, Ready, limit_check};
use crate::addr::Range;
use crate::cni::Call;
use crate::config::{CniArgs, Merged, Network, WhenFull};
use crate::ipam::{self, NetworkName};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::pools::Read;
use std::borrow::Cow;
use std::cell::RefCell;

pub(super) fn status(ipam: &Ipam<'_>, call: &Call) -> Result<(), Failure> {
    let flat = ipam.flat_file(call)?;
    let merged = Merged::new(&call.configuration, flat.as_ref())?;
    let network = Network::parse(&merged, &CniArgs::default())?;
    let slots = ipam::slots(&network.sets, &[], &network.statics, &network.reservations)?;
    if !network.pods_bring_addresses {
        limit_check::check(&network, &slots)?;
    }
    let ready = ipam.ready(call, &merged, flat.as_ref())?;
    ready.store.ready().map_err(|error| not_ready(&error))?;
    let networks = match network.pools.is_empty() {
        true => vec![network],
        false => {
            let pools = Pools {
                flat: flat.as_ref(),
                settings: &ready.settings,
                store: ready.store.as_ref(),
                read: Read::Copies,
                deadline: Deadline::after(ready.settings.deadlines.add),
            };
            usable(pools.all(&network)?)?
        }
    };
    for network in &networks {
        if network.when_full == WhenFull::Ready || has_room(&ready, &call.network, network)? {
            return Ok(());
        }
    }
    let reason =
        "every address of a range is held, excluded or set aside, and status_when_full is not_ready"
            .to_owned();
    Err(Failure::NotReady { reason, hint: None })
}

/// Returns the pools that have the families that the network needs.
fn usable(networks: Vec<Network>) -> Result<Vec<Network>, Failure> {
    let (usable, others): (Vec<Network>, Vec<Network>) =
        networks.into_iter().partition(|network| network.beyond.is_empty());
    match others.into_iter().next() {
        Some(other) if usable.is_empty() => Err(other.beyond.into()),
        _ => Ok(usable),
    }
}

/// Returns whether each range set of a network has an address for the next ADD.
fn has_room(ready: &Ready, name: &NetworkName, network: &Network) -> Result<bool, Failure> {
    draw_from_slices(ready.store.as_ref(), network)?;
    let own = (!network.own_addresses).then(|| ready.surroundings.own_addresses());
    let elsewhere = Elsewhere {
        own: own.as_deref(),
        probe: None,
        host_local: ready.host_local(name),
        notes: ready.set_aside(),
        found: RefCell::default(),
    };
    // What an ADD passes over is no room for it.
    let in_use = elsewhere.known(&network.scope);
    for slot in ipam::slots(&network.sets, &[], &[], &network.reservations)? {
        let mut room = false;
        for offered in &slot.candidates {
            let mut candidates = Cow::Borrowed(&offered.addresses);
            for address in in_use.iter().filter(|address| offered.addresses.contains(**address)) {
                candidates.to_mut().remove(&Range::single(*address));
            }
            room |= ready
                .store
                .has_room(&network.scope, &candidates)
                .map_err(|error| not_ready(&error))?;
        }
        if !room {
            return Ok(false);
        }
    }
    Ok(true)
}

fn not_ready(error: &StoreError) -> Failure {
    Failure::NotReady { reason: error.to_string(), hint: error.hint() }
}
