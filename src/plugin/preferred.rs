//! Which addresses an ADD tries first, and which it leaves to other pods while another address is
//! free. It considers what pods had a moment ago (`recently_freed`) and, on a network with
//! `sticky`, what the StatefulSet pods of the same names had before. All of it is a hint that
//! decides nothing: the claim does.

use super::ask::Ask;
use super::failure::Failure;
use super::recently_freed::Lately;
use crate::ipam::{Allocation, Source, Sticky, StickyOwner, of_owner};
use crate::retry::Deadline;
use crate::store::{Store, StoreError};
use std::net::IpAddr;
use std::time::Duration;

/// The time for the list of remembered addresses, as a part of the time of an ADD.
const LIST: Duration = Duration::from_secs(5);
/// The time for each newly remembered address. The addresses have been given before that.
const WRITE: Duration = Duration::from_secs(1);

/// The preferences of one ADD, see the module.
pub(super) struct Preferred {
    pub(super) lately: Lately,
    /// The addresses that are remembered for the pod.
    remembered: Vec<IpAddr>,
}

impl Preferred {
    /// Reads the hints for an ADD. This is done only if an address is claimed: with `sticky` it is
    /// one request to the API server, or a read of one directory.
    ///
    /// # Errors
    /// The network has `sticky`, and this node may not read what is remembered, or the cluster does
    /// not know the resource. A store that is away for the moment is not an error: the claim
    /// reports it.
    pub(super) fn find(
        store: &dyn Store,
        ask: &Ask<'_>,
        deadline: Deadline,
    ) -> Result<Self, Failure> {
        let record = ask.record;
        let lately = ask.freed.map_or_else(Lately::default, |freed| {
            freed.lately(&record.attachment, record.pod.as_ref(), ask.scope)
        });
        let in_use = ask.elsewhere.map_or_else(Vec::new, |elsewhere| elsewhere.known(ask.scope));
        let lately = lately.without(in_use);
        if !ask.sticky {
            return Ok(Self { lately, remembered: Vec::new() });
        }
        let all = match store.sticky(ask.scope, deadline.or_after(LIST)) {
            Ok(all) => all,
            Err(error @ (StoreError::Refused { .. } | StoreError::NoResource { .. })) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read which pod had which address; a pod of a StatefulSet may get another address");
                Vec::new()
            }
        };
        let (own, others) = of_owner(&all, owner(ask).as_ref());
        Ok(Self { lately: lately.and(&own, others), remembered: own })
    }

    /// Returns what is to be remembered of the addresses that an ADD gives. Returns nothing if it
    /// is remembered already.
    pub(super) fn to_remember(&self, ask: &Ask<'_>, held: &[Allocation]) -> Vec<Sticky> {
        let Some(owner) = owner(ask) else { return Vec::new() };
        let given: Vec<IpAddr> = held
            .iter()
            .filter(|held| held.record.source == Source::Dynamic)
            .map(|held| held.address)
            .collect();
        if given.iter().all(|address| self.remembered.contains(address)) {
            return Vec::new();
        }
        given
            .into_iter()
            .map(|address| Sticky { address, owner: owner.clone(), since: ask.record.since })
            .collect()
    }
}

fn owner(ask: &Ask<'_>) -> Option<StickyOwner> {
    StickyOwner::of(&ask.record.attachment, ask.record.pod.as_ref()).filter(|_| ask.sticky)
}

/// Remembers what an ADD has given. If that fails, the addresses are given in any case.
pub(super) fn remember(store: &dyn Store, ask: &Ask<'_>, all: &[Sticky]) {
    for sticky in all {
        if let Err(error) = store.remember(ask.scope, sticky, Deadline::after(WRITE)) {
            tracing::warn!(%error, address = %sticky.address, "cannot note that a pod of a StatefulSet has this address");
        }
    }
}
