//! ADD: allocates all addresses or none, and keeps track of what to undo.

use super::ask::Ask;
use super::debts::{Account, Answer, Owed};
use super::failure::Failure;
use super::preferred::{self, Preferred};
use super::{Ipam, Ready, left_by_the_dead, limit_check, machine};
use crate::addr::{AddrSet, Family};
use crate::cni::{self, Added, Call, CniError, Sandbox, Success, Version};
use crate::config::{CniArgs, FlatFile, Merged, Network};
use crate::ipam::{self, Allocation, Attachment, Record, Slot, Source, Sticky};
use crate::retry::Deadline;
use crate::store::disk::Held;
use crate::store::{Access, Rehome, Session, Store, StoreError, Wanted};
use std::cell::OnceCell;
use std::time::Duration;

/// An ADD that has allocated and whose result is not delivered yet.
pub(super) struct Allocated {
    ready: Ready,
    success: Success,
    given: Given,
    reserve: Duration,
    account: Account,
    record: Record,
}

impl Added for Allocated {
    fn success(&self) -> &Success {
        &self.success
    }

    fn undo(self: Box<Self>) -> Result<(), CniError> {
        let undone = self.given.undo(self.ready.store.as_ref(), Deadline::after(self.reserve));
        Ok(undone.map_err(|error| self.given.owe(error, Some(&self.account), &self.record))?)
    }

    fn delivered(self: Box<Self>) {
        // The locks go first: from here on nothing is taken back.
        let Self { ready, given, .. } = *self;
        drop(given);
        ready.answered();
    }
}

pub(super) fn add(ipam: &Ipam<'_>, call: &Call, sandbox: &Sandbox) -> Result<Allocated, Failure> {
    let args = CniArgs::parse(&call.args)?;
    let flat = ipam.flat_file(call)?;
    let merged = Merged::new(&call.configuration, flat.as_ref())?;
    let mut network = Network::parse(&merged, &args)?;
    let slots =
        ipam::slots(&network.sets, &network.requested, &network.statics, &network.reservations)?;
    check_one_per_family(&slots, call.version)?;
    let dns = dns(&mut network, flat.as_ref())?;
    let ready = ipam.ready(call, &merged, flat.as_ref())?;
    if let Some(path) = sandbox
        .netns
        .as_ref()
        .filter(|path| !sandbox.own_netns_allowed && machine::is_own_netns(path))
    {
        return Err(Failure::OwnNetns(path.display().to_string()));
    }
    let attachment = ready.attachment(call, sandbox);
    let account = ready.account(attachment.clone());
    let record = record(&ready, attachment, sandbox, &args);

    let limit = ready.settings.deadlines.add;
    let reserve = limit / 5;
    let may_allocate = || {
        limit_check::check_name(&record.attachment.ifname)
            .and_then(|()| limit_check::check(&network, &slots))
    };
    let is_alive = |held: &Record| !ready.life(held).is_dead();
    let ask = Ask {
        scope: &network.scope,
        slots: &slots,
        record: &record,
        may_allocate: &may_allocate,
        is_alive: &is_alive,
        caller_gone: ipam.orphaned,
        account: Some(&account),
        freed: Some(&ready.freed()),
        sticky: network.sticky,
    };
    let given = allocate(ready.store.as_ref(), &ask, Deadline::after(limit - reserve), reserve)?;
    preferred::remember(ready.store.as_ref(), &ask, &given.sticky);
    for allocation in &given.held {
        tracing::debug!(address = %allocation.address, scope = %allocation.scope, node = %allocation.record.attachment.node, "given");
        ipam.report.names(allocation);
    }
    let success = Success {
        ips: given.held.iter().map(ip).collect(),
        routes: network.routes.iter().map(route).collect(),
        dns,
    };
    Ok(Allocated { ready, success, given, reserve, account, record })
}

/// What an ADD holds. Until it is dropped, no other call can use its attachment, so that the
/// addresses can be taken back.
pub struct Given {
    /// The addresses, in the order of the result.
    pub held: Vec<Allocation>,
    /// What is to be remembered about them.
    pub sticky: Vec<Sticky>,
    /// The addresses that this call created or moved. A repeat has created none.
    created: Vec<Allocation>,
    /// The locks of the attachment and of those that it was re-homed from.
    locks: Vec<(Attachment, Box<dyn Held>)>,
}

impl Given {
    /// Locks an attachment. Returns false if another call of it is under way.
    fn lock(&mut self, store: &dyn Store, attachment: &Attachment) -> Result<bool, StoreError> {
        if self.locks.iter().any(|(locked, _)| locked == attachment) {
            return Ok(true);
        }
        let lock = store.try_lock_attachment(attachment)?;
        let is_ours = lock.is_some();
        self.locks.extend(lock.map(|lock| (attachment.clone(), lock)));
        Ok(is_ours)
    }

    fn made(&mut self, made: Vec<Allocation>) {
        self.created.extend(made.iter().cloned());
        self.held.extend(made);
    }

    /// Releases what this call created, in reverse order: those very records and no others.
    /// Continues after a failure and returns the first one.
    ///
    /// # Errors
    /// Something may still be held.
    pub fn undo(&self, store: &dyn Store, deadline: Deadline) -> Result<(), StoreError> {
        let mut first = Ok(());
        for (done, allocation) in self.created.iter().rev().enumerate() {
            if 0 < done && deadline.left().is_zero() {
                return first.and(Err(out_of_time(deadline, done, self.created.len())));
            }
            let released = store
                .open(Access::Release, deadline)
                .and_then(|mut session| session.release_unchanged(allocation));
            first = first.and(released.map(drop));
        }
        first
    }

    /// Leaves a debt for what this call created and could not take back.
    fn owe(&self, error: StoreError, account: Option<&Account>, record: &Record) -> Failure {
        let Some(account) = account else { return error.into() };
        let owed = Owed {
            error: &error,
            held: Some(self.created.clone()),
            exclusive: true,
            answered: Answer::Error,
            seen: record.clone(),
        };
        let noted = account.leave(owed);
        Failure::Owed { failure: Box::new(error), unnoted: noted.err() }
    }
}

/// Carries out the plan of an ADD under the lock of its attachment; may be repeated. An ADD that
/// fails gives back what it created within `reserve`.
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
        sticky: Vec::new(),
        created: Vec::new(),
        locks: lock.into_iter().collect(),
    };
    let Err(failure) = settle(store, ask, deadline, &mut given) else {
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

/// Pays what an earlier DEL of the attachment has left, and allocates. From the answer on nothing
/// is owed: what is held is what is answered.
fn settle(
    store: &dyn Store,
    ask: &Ask<'_>,
    deadline: Deadline,
    given: &mut Given,
) -> Result<(), Failure> {
    let is_dead = |held: &Record| !(ask.is_alive)(held);
    let unpaid = ask
        .account
        .map_or(Ok(None), |account| account.pay_first(store, &is_dead, ask.freed, deadline))?;
    fill(store, ask, deadline, given)?;
    match (ask.account, unpaid) {
        (Some(account), Some(unpaid)) => account.cancel(&unpaid),
        _ => Ok(()),
    }
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
    let claim = Claim { store, ask, deadline };
    for (old, slot) in plan.rehome {
        check_wanted(ask, deadline, given.created.len(), all)?;
        let has_ended = || ask.has_ended(old);
        match claim.take_over(session.as_mut(), old, slot, &has_ended, given)? {
            true => {}
            false => claim.all(session.as_mut(), prefer()?, &[slot], given)?,
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

fn out_of_time(deadline: Deadline, done: usize, all: usize) -> StoreError {
    StoreError::OutOfTime {
        limit: humantime::format_duration(deadline.limit()).to_string(),
        done,
        all,
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

/// Keeps an address that a repeated ADD finds, and makes it durable before it is printed again. A
/// record that no longer looks alive gets the present namespace, so that it is not swept under a
/// living pod.
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

/// Returns what those other sandboxes of the same pod hold that have ended.
fn ended_of_pod(session: &dyn Session, ask: &Ask<'_>) -> Result<Vec<Allocation>, StoreError> {
    let Some(pod) = ask.record.pod.as_ref().filter(|pod| pod.is_whole()) else {
        return Ok(Vec::new());
    };
    let attachment = &ask.record.attachment;
    let mut held = session.holdings_of_pod(&attachment.network, pod, &attachment.ifname)?;
    // An address is unique only in its scope: in the present scope another attachment may hold it.
    held.retain(|old| {
        old.scope == *ask.scope && old.record.attachment != *attachment && ask.has_ended(old)
    });
    Ok(held)
}

/// How an ADD gets the addresses that it does not hold.
struct Claim<'c> {
    store: &'c dyn Store,
    ask: &'c Ask<'c>,
    deadline: Deadline,
}

impl Claim<'_> {
    /// Claims for some slots at once, each from its first offer that has room.
    fn all(
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
            let left = left_by_the_dead::find(self.store, self.ask, slot, self.deadline);
            if !self.take_from_the_dead(session, slot, &left.records, given)? {
                match further_interface(slot, self.ask, left.holder.as_ref()) {
                    Some(further) => self.all(session, preferred, &[&further], given)?,
                    None => return Err(no_room(slot, left.holder)),
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
        given.made(made);
        Ok(full?)
    }

    /// Takes an address for a slot that has no room from a sandbox of this node that has ended.
    fn take_from_the_dead(
        &self,
        session: &mut dyn Session,
        slot: &Slot,
        records: &[Allocation],
        given: &mut Given,
    ) -> Result<bool, Failure> {
        for old in records {
            let has_ended = || left_by_the_dead::may_be_taken(self.ask, slot, old);
            if self.take_over(session, old, slot, &has_ended, given)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves an address of a sandbox that has ended to this one. Returns whether it was moved.
    fn take_over(
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
        offers: slot.otherwise.clone(),
        otherwise: Vec::new(),
    })
}

/// Returns the failure of a slot none of whose offers has room.
fn no_room(slot: &Slot, holder: Option<Allocation>) -> Failure {
    let what = match slot.source {
        Source::Dynamic => {
            return Failure::Exhausted(
                slot.offers
                    .iter()
                    .map(|offer| outline(&offer.candidates))
                    .collect::<Vec<_>>()
                    .join(", "),
            );
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

fn record(ready: &Ready, attachment: Attachment, sandbox: &Sandbox, args: &CniArgs) -> Record {
    Record { pod: args.pod.clone(), ..ready.record(attachment, sandbox) }
}

/// Refuses more addresses of a family than the version allows. 0.2.0 and older have room for one
/// address per family; more would be given and lost.
fn check_one_per_family(slots: &[Slot], version: Version) -> Result<(), Failure> {
    if Version::V030 <= version {
        return Ok(());
    }
    for family in [Family::V4, Family::V6] {
        let of_family = |slot: &&Slot| {
            slot.offers.first().is_some_and(|offer| offer.candidates.family() == family)
        };
        if 1 < slots.iter().filter(of_family).count() {
            return Err(Failure::OnePerFamily { version: version.as_str(), family });
        }
    }
    Ok(())
}

fn dns(network: &mut Network, flat: Option<&FlatFile>) -> Result<cni::Dns, Failure> {
    let mut dns = std::mem::take(&mut network.dns);
    if let Some(file) = network.resolv_conf.as_ref().filter(|_| dns.is_empty()) {
        let bytes = machine::read_resolv_conf(file, flat).map_err(|error| Failure::Machine {
            path: file.path.display().to_string(),
            reason: machine::words(&error),
        })?;
        dns = crate::config::Dns::from_resolv_conf(&bytes);
    }
    Ok(cni::Dns {
        nameservers: dns.nameservers,
        domain: dns.domain,
        search: dns.search,
        options: dns.options,
    })
}

fn ip(allocation: &Allocation) -> cni::Ip {
    cni::Ip {
        address: allocation.address,
        prefix: allocation.record.prefix,
        gateway: allocation.record.gateway,
    }
}

fn route(route: &crate::config::Route) -> cni::Route {
    cni::Route {
        dst: route.dst.to_string(),
        gw: route.gw,
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
    }
}
