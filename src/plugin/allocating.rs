//! Allocates all addresses of an ADD or none, under the lock of its attachment, and keeps track of
//! what to undo.

use super::ask::Ask;
use super::claim::Claim;
use super::failure::Failure;
use super::given::{Given, out_of_time};
use super::left_by_the_dead;
use super::preferred::Preferred;
use crate::ipam::{self, Allocation, HeldAddress, Record, Slot, Source};
use crate::retry::Deadline;
use crate::store::{Access, Rehome, Session, Store, StoreError};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::Duration;

/// Carries out the plan of an ADD under the lock of its attachment; may be repeated. An ADD that
/// fails frees what it created, and takes at most `reserve` for that.
///
/// # Errors
/// The reason why the ADD cannot be answered.
pub fn allocate(
    store: &dyn Store,
    ask: &Ask<'_>,
    deadline: Deadline,
    reserve: Duration,
) -> Result<Given, Failure> {
    let attachment = &ask.record.attachment;
    let lock = store
        .lock_attachment(attachment, Access::Allocate, deadline)?
        .map(|lock| (attachment.clone(), lock));
    let mut given = Given {
        held: Vec::new(),
        unasked: Vec::new(),
        full: None,
        sticky: Vec::new(),
        created: Vec::new(),
        locks: lock.into_iter().collect(),
    };
    let Err(failure) = settle_and_allocate(store, ask, deadline, &mut given) else {
        return Ok(given);
    };
    match given.undo(store, Deadline::after(reserve)) {
        Ok(()) => Err(failure),
        Err(undo) => Err(Failure::NotUndone {
            failure: Box::new(failure),
            undo: Box::new(given.owe(undo, ask.account, ask.record)),
        }),
    }
}

/// Settles what an earlier DEL of the attachment has left, and allocates. After the answer nothing
/// is owed: the attachment holds what the ADD answered.
fn settle_and_allocate(
    store: &dyn Store,
    ask: &Ask<'_>,
    deadline: Deadline,
    given: &mut Given,
) -> Result<(), Failure> {
    let is_dead = |held: &Record| !(ask.is_alive)(held);
    let unsettled = ask
        .account
        .map_or(Ok(None), |account| account.settle_first(store, &is_dead, ask.freed, deadline))?;
    make_room_and_fill(store, ask, deadline, given)?;
    while leave_to_others(store, ask, deadline, given)? {
        given.held.clear();
        make_room_and_fill(store, ask, deadline, given)?;
    }
    if let Some(confirm) = ask.confirm {
        confirm(&given.held)?;
    }
    match (ask.account, unsettled) {
        (Some(account), Some(unsettled)) => account.cancel(&unsettled),
        _ => Ok(()),
    }
}

/// Allocates. While there is no free address, frees one whose sandbox on this node has ended.
fn make_room_and_fill(
    store: &dyn Store,
    ask: &Ask<'_>,
    deadline: Deadline,
    given: &mut Given,
) -> Result<(), Failure> {
    let mut slots = Cow::Borrowed(ask.slots);
    loop {
        let asked = Ask { slots: &slots, ..*ask };
        let Err(failure) = fill(store, &asked, deadline, given) else { return Ok(()) };
        let Some(full) = given.full.take() else { return Err(failure) };
        let left = left_by_the_dead::find(store, &asked, &full, deadline);
        let is_freed = !deadline.left().is_zero()
            && left_by_the_dead::free_one(store, &left.records, deadline)?;
        match further_interface(&full, ask, left.holder.as_ref()) {
            _ if is_freed => {}
            Some(further) => {
                if let Some(slot) = slots.to_mut().get_mut(usize::from(further.part.index)) {
                    *slot = further;
                }
            }
            None => {
                let failure = failure.held_by(left.holder);
                return Err(failure.without_slice(store.why_full(ask.scope)));
            }
        }
        given.held.clear();
    }
}

/// Returns a dynamic slot, if another interface of the same sandbox already has the reserved
/// address of the pod.
fn further_interface(slot: &Slot, ask: &Ask<'_>, holder: Option<&HeldAddress>) -> Option<Slot> {
    let HeldAddress::Attachment(held) = holder? else { return None };
    let (own, other) = (&ask.record.attachment, &held.record.attachment);
    let is_of_sandbox = (&own.node, &own.container) == (&other.node, &other.container);
    (is_of_sandbox && !slot.fallback.is_empty()).then(|| Slot {
        part: slot.part,
        source: Source::Dynamic,
        candidates: slot.fallback.to_vec(),
        fallback: Default::default(),
    })
}

/// Undoes the claims of addresses that are in use outside of the store. Returns whether there were
/// any: then other addresses must be claimed. Holds only the lock of the attachment.
fn leave_to_others(
    store: &dyn Store,
    ask: &Ask<'_>,
    deadline: Deadline,
    given: &mut Given,
) -> Result<bool, Failure> {
    let unasked = std::mem::take(&mut given.unasked);
    let Some(elsewhere) = ask.elsewhere.filter(|_| !unasked.is_empty()) else {
        return Ok(false);
    };
    let is_asked = |made: &&Allocation| unasked.contains(&made.address);
    let claimed: Vec<&Allocation> = given.created.iter().filter(is_asked).collect();
    let in_use = elsewhere.in_use(&claimed, deadline)?;
    while let Some(at) = given.created.iter().position(|made| in_use.contains(&made.address)) {
        store.open(Access::Release, deadline)?.release_unchanged(&given.created[at])?;
        given.created.remove(at);
    }
    if !in_use.is_empty() && deadline.left().is_zero() {
        return Err(out_of_time(deadline, given.created.len(), ask.slots.len()).into());
    }
    Ok(!in_use.is_empty())
}

fn fill(
    store: &dyn Store,
    ask: &Ask<'_>,
    deadline: Deadline,
    given: &mut Given,
) -> Result<(), Failure> {
    let mut session = store.open(Access::Allocate, deadline)?;
    let holdings = session.holdings(&ask.record.attachment)?;
    if let Some(damaged) = holdings.damaged.into_iter().next() {
        return Err(damaged.into());
    }
    let lacking = holdings.held.is_empty() || ipam::is_half_done(&holdings.held);
    if lacking {
        (ask.may_allocate)()?;
    }
    let of_pod = if lacking { ended_of_pod(session.as_ref(), ask)? } else { Vec::new() };
    let plan = ipam::plan(ask.slots, &holdings.held, &of_pod, ask.record.pod.as_ref())?;
    for held in plan.held {
        let kept = keep(session.as_mut(), ask, held)?;
        given.held.push(kept);
    }
    let all = plan.rehome.len() + plan.claim.len();
    let preferred = OnceCell::new();
    let prefer = || match preferred.get() {
        Some(found) => Ok(found),
        None => Preferred::find(store, ask, deadline).map(|found| preferred.get_or_init(|| found)),
    };
    let claim = Claim { store, ask };
    for (old, slot) in plan.rehome {
        check_wanted(ask, deadline, given.created.len(), all)?;
        if !claim.take_over(session.as_mut(), old, slot, given)? {
            claim.all(session.as_mut(), prefer()?, &[slot], given)?;
        }
    }
    for slots in plan.claim.chunks(session.at_once().max(1)) {
        check_wanted(ask, deadline, given.created.len(), all)?;
        claim.all(session.as_mut(), prefer()?, slots, given)?;
    }
    given.held.sort_by_key(|allocation| allocation.record.part.index);
    given.sticky =
        preferred.get().map_or_else(Vec::new, |preferred| preferred.to_remember(ask, &given.held));
    Ok(())
}

/// Checks before each address whether the caller is still waiting for it.
fn check_wanted(ask: &Ask<'_>, deadline: Deadline, done: usize, all: usize) -> Result<(), Failure> {
    if (ask.caller_gone)() {
        return Err(Failure::CallerGone);
    }
    if 0 < done && deadline.left().is_zero() {
        return Err(out_of_time(deadline, done, all).into());
    }
    Ok(())
}

/// Keeps an address that a repeated ADD finds, and makes it durable before it is printed again. A
/// record that no longer looks alive gets the current namespace, so that `sweep` does not free it
/// while its pod lives.
fn keep(
    session: &mut dyn Session,
    ask: &Ask<'_>,
    held: &Allocation,
) -> Result<Allocation, Failure> {
    let record = ask.record;
    if (ask.is_alive)(&held.record)
        || record.netns == held.record.netns && record.boot_id == held.record.boot_id
    {
        session.confirm(held)?;
        return Ok(held.clone());
    }
    let to = Record {
        boot_id: record.boot_id.clone(),
        netns: record.netns.clone(),
        view: record.view.clone(),
        ..held.record.clone()
    };
    match session.rehome(held, &to)? {
        Rehome::Done(allocation) => Ok(allocation),
        Rehome::Changed => Err(StoreError::Changed.into()),
    }
}

/// Returns the allocations of other sandboxes of the same pod that have ended.
fn ended_of_pod(session: &dyn Session, ask: &Ask<'_>) -> Result<Vec<Allocation>, StoreError> {
    let Some(pod) = ask.record.pod.as_ref().filter(|pod| pod.is_whole()) else {
        return Ok(Vec::new());
    };
    let attachment = &ask.record.attachment;
    let mut held = session.holdings_of_pod(&attachment.network, pod, &attachment.ifname)?;
    // An address is unique only in its scope: in the current scope another attachment may hold it.
    held.retain(|old| {
        old.scope == *ask.scope && old.record.attachment != *attachment && ask.has_ended(old)
    });
    Ok(held)
}
