//! Takes over an address of this node whose sandbox has ended, if an ADD finds no other.
//!
//! A DEL that was lost leaves the address of a dead sandbox taken. `sweep` frees it later. An ADD
//! that would fail because the range is full, or because that very address is asked for, need not
//! wait: it frees that record, as `sweep` does, and claims the address.

use super::ask::Ask;
use super::sweep;
use crate::ipam::{Allocation, HeldAddress, Slot};
use crate::retry::Deadline;
use crate::store::{Filter, Store, StoreError};
use std::net::IpAddr;

/// What holds the candidates of a slot that has no room.
#[derive(Default)]
pub(super) struct Left {
    /// The records of this node that another attachment may take over, the lowest address first.
    /// They were read without a lock.
    pub(super) records: Vec<Allocation>,
    /// The holder of the only candidate, if it is a claim, or if its sandbox is alive or in doubt.
    pub(super) holder: Option<HeldAddress>,
}

/// Looks for the holders of the candidates of a slot. If the store cannot be read, nothing is found:
/// the reason for which the ADD fails is that there is no room.
pub(super) fn find(store: &dyn Store, ask: &Ask<'_>, slot: &Slot, deadline: Deadline) -> Left {
    let only = only_address(slot);
    // A call without a pod does this only for a single address. Otherwise, many calls that find no
    // free address would each read all records of the node.
    if only.is_none() && ask.record.pod.is_none() {
        return Left::default();
    }
    let filter = Filter {
        node: Some(ask.record.attachment.node.clone()).filter(|_| only.is_none()),
        scope: Some(ask.scope.clone()),
        address: only,
        deadline: Some(deadline),
        ..Filter::default()
    };
    let mut left = Left::default();
    let found = store.list_held(&filter).and_then(|listing| {
        for item in listing {
            match item {
                Ok(HeldAddress::Attachment(held)) if may_be_taken(ask, slot, &held) => {
                    left.records.push(*held);
                }
                Ok(held) if only == Some(held.address()) => left.holder = Some(held),
                Ok(_) => {}
                Err(error) if error.is_of_one_record() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    });
    if let Err(error) = found {
        tracing::warn!(%error, "who holds the addresses cannot be read");
    }
    let in_use = ask.elsewhere.map_or_else(Vec::new, |elsewhere| elsewhere.known(ask.scope));
    left.records.retain(|held| !in_use.contains(&held.address));
    left.records.sort_by_key(|held| held.address);
    left
}

/// Frees the first of the records that can be freed. Returns whether there was one.
///
/// # Errors
/// The record may still be held.
pub(super) fn free_one(
    store: &dyn Store,
    left: &[Allocation],
    deadline: Deadline,
) -> Result<bool, StoreError> {
    for old in left {
        if sweep::free(store, old, deadline)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a record is one of the candidates and its sandbox has ended.
///
/// A sandbox whose namespace was never seen counts as ended only for the next sandbox of a pod of
/// the same name: nothing else shows that it is not another one that lives.
fn may_be_taken(ask: &Ask<'_>, slot: &Slot, held: &Allocation) -> bool {
    let is_candidate =
        slot.candidates.iter().any(|candidates| candidates.addresses.contains(held.address));
    let was_seen = held.record.netns.is_some() || held.record.boot_id != ask.record.boot_id;
    // The sandbox of this call is alive, whatever the records of its other interfaces show.
    let is_other_sandbox = held.record.attachment.container != ask.record.attachment.container;
    let is_of_node = held.record.attachment.node == ask.record.attachment.node;
    is_candidate
        && is_of_node
        && is_other_sandbox
        && (was_seen || is_next_of(ask, held))
        && ask.has_ended(held)
}

/// Returns whether this call is about the same interface of a pod of the same name.
fn is_next_of(ask: &Ask<'_>, held: &Allocation) -> bool {
    let (Some(pod), Some(before)) = (&ask.record.pod, &held.record.pod) else {
        return false;
    };
    let (own, old) = (&ask.record.attachment, &held.record.attachment);
    (&own.network, &own.ifname) == (&old.network, &old.ifname)
        && (&pod.namespace, &pod.name) == (&before.namespace, &before.name)
}

/// Returns the address of a slot that has only one candidate. A store looks it up directly.
fn only_address(slot: &Slot) -> Option<IpAddr> {
    let [candidates] = slot.candidates.as_slice() else {
        return None;
    };
    candidates.addresses.nth(0).filter(|_| candidates.addresses.count() == 1)
}
