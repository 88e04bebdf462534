//! How an ADD gets the addresses that it does not hold: claims free ones, and takes over those of an
//! earlier sandbox of the pod.

use super::ask::Ask;
use super::failure::Failure;
use super::given::Given;
use super::preferred::Preferred;
use crate::addr::AddrSet;
use crate::ipam::{Allocation, Slot, Source};
use crate::store::{Rehome, Session, Store, StoreError, Wanted};

/// How an ADD gets the addresses that it does not hold.
pub(super) struct Claim<'c> {
    pub(super) store: &'c dyn Store,
    pub(super) ask: &'c Ask<'c>,
}

impl Claim<'_> {
    /// Claims for some slots at once, each from the first of its ranges that has room.
    pub(super) fn all(
        &self,
        session: &mut dyn Session,
        preferred: &Preferred,
        slots: &[&Slot],
        given: &mut Given,
    ) -> Result<(), Failure> {
        let ordered: Vec<_> =
            slots.iter().map(|slot| (slot, preferred.lately.order(slot))).collect();
        let wanted: Vec<Wanted<'_>> = ordered
            .iter()
            .map(|(slot, candidates)| Wanted {
                candidates: candidates
                    .iter()
                    .map(|(from, candidates)| {
                        (from.as_ref(), slot.record(candidates, self.ask.record))
                    })
                    .collect(),
            })
            .collect();
        let mut made = Vec::new();
        let full = session.claim_all(self.ask.scope, &wanted, &mut made);
        given.unasked.extend(made.iter().map(|claimed| claimed.address));
        given.made(made);
        let Some(slot) = full?.and_then(|number| slots.get(number)) else {
            return Ok(());
        };
        // Who has the addresses is looked up later, without the lock of the store.
        given.full = Some((*slot).clone());
        Err(no_room(slot, preferred.lately.passed_over(slot)))
    }

    /// Moves an address of a sandbox that has ended to this one. Returns whether it was moved.
    pub(super) fn take_over(
        &self,
        session: &mut dyn Session,
        old: &Allocation,
        slot: &Slot,
        given: &mut Given,
    ) -> Result<bool, Failure> {
        // While a call of the other sandbox is under way, that call may take the record back.
        if !given.lock(self.store, &old.record.attachment)? || !self.ask.has_ended(old) {
            return Ok(false);
        }
        let Some(allocation) = rehome(session, self.ask, old, slot)? else {
            return Ok(false);
        };
        given.made(vec![allocation]);
        self.ask.account.inspect(|account| account.moved(old));
        Ok(true)
    }
}

/// Returns the failure of a slot whose candidates have no free address: `passed_over` addresses are in
/// use outside of the store, and the others are held.
pub(super) fn no_room(slot: &Slot, passed_over: usize) -> Failure {
    let what = match slot.source {
        Source::Dynamic => {
            let outlines = slot.candidates.iter().map(|candidates| outline(&candidates.addresses));
            let ranges = outlines.collect::<Vec<_>>().join(", ");
            return match passed_over {
                0 => Failure::Exhausted(ranges),
                _ => Failure::InUse { ranges, passed_over },
            };
        }
        Source::Requested => "requested",
        Source::Static if slot.fallback.is_empty() => "static",
        Source::Static => "reserved",
    };
    let first = slot.candidates.iter().flat_map(|candidates| candidates.addresses.ranges()).next();
    first.map_or_else(
        || Failure::Exhausted("the range".to_owned()),
        |range| Failure::Held { what, address: range.first_address(), holder: None },
    )
}

/// Returns a short text for a set.
fn outline(candidates: &AddrSet) -> String {
    let mut ranges = candidates.ranges();
    match (ranges.next(), ranges.last()) {
        (None, _) => "the range".to_owned(),
        (Some(only), None) => only.to_string(),
        (Some(first), Some(last)) => format!("{}-{}", first.first_address(), last.last_address()),
    }
}

/// Moves an address of a dead sandbox to this one. Returns `None` if the record has changed.
fn rehome(
    session: &mut dyn Session,
    ask: &Ask<'_>,
    old: &Allocation,
    slot: &Slot,
) -> Result<Option<Allocation>, Failure> {
    let candidates =
        slot.candidates.iter().find(|candidates| candidates.addresses.contains(old.address));
    let to = candidates
        .map_or_else(|| old.record.clone(), |candidates| slot.record(candidates, ask.record));
    match session.rehome(old, &to) {
        Ok(Rehome::Done(allocation)) => {
            tracing::info!(address = %old.address, from = %old.record.attachment, "re-homed from a sandbox that has ended");
            Ok(Some(allocation))
        }
        Ok(Rehome::Changed) => Ok(None),
        // The pod gets another address.
        Err(error @ StoreError::Unfit { .. }) => {
            tracing::warn!(address = %old.address, %error, "not re-homed");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
