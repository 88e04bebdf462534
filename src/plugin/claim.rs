//! How an ADD gets the addresses that it does not hold: claims free ones, and takes over those that
//! sandboxes of this node have left.

use super::ask::Ask;
use super::failure::Failure;
use super::given::Given;
use super::left_by_the_dead;
use super::preferred::Preferred;
use crate::addr::AddrSet;
use crate::ipam::{Allocation, Slot, Source};
use crate::retry::Deadline;
use crate::store::{Rehome, Release, Session, Store, Wanted};

/// How an ADD gets the addresses that it does not hold.
pub(super) struct Claim<'c> {
    pub(super) store: &'c dyn Store,
    pub(super) ask: &'c Ask<'c>,
    pub(super) deadline: Deadline,
}

impl Claim<'_> {
    /// Claims for some slots at once, each from its first offer that has room.
    pub(super) fn all(
        &self,
        session: &mut dyn Session,
        preferred: &Preferred,
        slots: &[&Slot],
        given: &mut Given,
    ) -> Result<(), Failure> {
        let mut slots = slots;
        while let Some(number) = self.until_full(session, preferred, slots, given)? {
            let Some((slot, rest)) = slots.get(number..).and_then(<[_]>::split_first) else {
                return Ok(());
            };
            let mut left = left_by_the_dead::find(self.store, self.ask, slot, self.deadline);
            left.records.retain(|held| !preferred.lately.is_in_use(held.address));
            if !self.take_from_the_dead(session, preferred, slot, &left.records, given)? {
                match further_interface(slot, self.ask, left.holder.as_ref()) {
                    Some(further) => self.all(session, preferred, &[&further], given)?,
                    None => {
                        let passed_over = preferred.lately.passed_over(slot);
                        return Err(no_room(slot, left.holder, passed_over));
                    }
                }
            }
            slots = rest;
        }
        Ok(())
    }

    /// Claims until a slot has no room. Returns its number.
    fn until_full(
        &self,
        session: &mut dyn Session,
        preferred: &Preferred,
        slots: &[&Slot],
        given: &mut Given,
    ) -> Result<Option<usize>, Failure> {
        let ordered: Vec<_> =
            slots.iter().map(|slot| (slot, preferred.lately.order(slot))).collect();
        let wanted: Vec<Wanted<'_>> = ordered
            .iter()
            .map(|(slot, offers)| Wanted {
                offers: offers
                    .iter()
                    .map(|(from, offer)| (from.as_ref(), slot.record(offer, self.ask.record)))
                    .collect(),
            })
            .collect();
        let mut made = Vec::new();
        let full = session.claim_all(self.ask.scope, &wanted, &mut made);
        given.unasked.extend(made.iter().map(|claimed| claimed.address));
        given.made(made);
        Ok(full?)
    }

    /// Frees an address of a slot that has no room, which a sandbox of this node has left, and
    /// claims it. Returns whether an address was claimed.
    fn take_from_the_dead(
        &self,
        session: &mut dyn Session,
        preferred: &Preferred,
        slot: &Slot,
        records: &[Allocation],
        given: &mut Given,
    ) -> Result<bool, Failure> {
        for old in records {
            // As in a re-homing and in a sweep: a call of that sandbox may be under way.
            let is_free = given.lock(self.store, &old.record.attachment)?
                && left_by_the_dead::may_be_taken(self.ask, slot, old);
            if !is_free || session.release_unchanged(old)? != Release::Done {
                continue;
            }
            tracing::info!(address = %old.address, holder = %old.record.attachment, "freed for this ADD, because its sandbox has ended");
            self.ask.account.inspect(|account| account.moved(old));
            if self.until_full(session, preferred, &[slot], given)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves an address of a sandbox that has ended to this one. Returns whether it was moved.
    pub(super) fn take_over(
        &self,
        session: &mut dyn Session,
        old: &Allocation,
        slot: &Slot,
        has_ended: &dyn Fn() -> bool,
        given: &mut Given,
    ) -> Result<bool, Failure> {
        // While a call of the other sandbox is under way, that call may take the record back.
        if !given.lock(self.store, &old.record.attachment)? || !has_ended() {
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

/// Returns the dynamic slot of a further interface of a sandbox that has the reserved address of its
/// pod at another interface already.
fn further_interface(slot: &Slot, ask: &Ask<'_>, holder: Option<&Allocation>) -> Option<Slot> {
    let (own, other) = (&ask.record.attachment, &holder?.record.attachment);
    let is_of_sandbox = (&own.node, &own.container) == (&other.node, &other.container);
    (is_of_sandbox && !slot.otherwise.is_empty()).then(|| Slot {
        part: slot.part,
        source: Source::Dynamic,
        offers: slot.otherwise.to_vec(),
        otherwise: Default::default(),
    })
}

/// Returns the failure of a slot none of whose offers has room, because so many addresses are
/// passed over and the others are held.
fn no_room(slot: &Slot, holder: Option<Allocation>, passed_over: usize) -> Failure {
    let what = match slot.source {
        Source::Dynamic => {
            let outlines = slot.offers.iter().map(|offer| outline(&offer.candidates));
            let ranges = outlines.collect::<Vec<_>>().join(", ");
            return match passed_over {
                0 => Failure::Exhausted(ranges),
                _ => Failure::InUse { ranges, passed_over },
            };
        }
        Source::Requested => "requested",
        Source::Static if slot.otherwise.is_empty() => "static",
        Source::Static => "reserved",
    };
    let first = slot.offers.iter().flat_map(|offer| offer.candidates.ranges()).next();
    first.map_or_else(
        || Failure::Exhausted("the range".to_owned()),
        |range| Failure::Held {
            what,
            address: range.first_address(),
            holder: holder.map(|holder| Box::new(holder.record)),
        },
    )
}

/// Returns a set in few words.
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
    let offer = slot.offers.iter().find(|offer| offer.candidates.contains(old.address));
    let to = offer.map_or_else(|| old.record.clone(), |offer| slot.record(offer, ask.record));
    match session.rehome(old, &to)? {
        Rehome::Done(allocation) => {
            tracing::info!(address = %old.address, from = %old.record.attachment, "re-homed from a sandbox that has ended");
            Ok(Some(allocation))
        }
        Rehome::Changed => Ok(None),
    }
}
