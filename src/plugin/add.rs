//! ADD: allocates all addresses or none, and keeps track of what to undo.

use super::ask::Ask;
use super::claim::Claim;
use super::debts::Account;
use super::elsewhere::{self, Elsewhere};
use super::failure::Failure;
pub use super::given::Given;
use super::given::out_of_time;
use super::pool_choice::PoolChoice;
use super::preferred::{self, Preferred};
use super::request::Request;
use super::{Ipam, Ready, left_by_the_dead, limit_check, machine};
use crate::cni::{self, Added, Call, CniError, Sandbox, Success};
use crate::config::{CniArgs, FlatFile, Merged, Network};
use crate::ipam::{self, Allocation, Attachment, HeldAddress, Record, Slot, Source};
use crate::retry::Deadline;
use crate::store::{Access, Rehome, Session, Store, StoreError};
use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
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

impl Allocated {
    /// Returns the result, and what it consists of.
    pub(super) const fn parts(&self) -> (&Success, &Given) {
        (&self.success, &self.given)
    }
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
        // The locks are released first: from here on, nothing is undone.
        let Self { ready, given, .. } = *self;
        drop(given);
        ready.answered();
    }
}

/// Where the addresses of an ADD come from.
enum Origin {
    /// The network's own ranges.
    Ranges(Request),
    /// The pools that the network names.
    Pools(Network),
}

pub(super) fn add(ipam: &Ipam<'_>, call: &Call, sandbox: &Sandbox) -> Result<Allocated, Failure> {
    let args = CniArgs::parse(&call.args)?.with_interface(&sandbox.ifname);
    let flat = ipam.flat_file(call)?;
    let merged = Merged::new(&call.configuration, flat.as_ref())?;
    let mut network = Network::parse(&merged, &args)?;
    let dns = dns(&mut network, flat.as_ref())?;
    // What is wrong with a network is found before a store is opened.
    let origin = match network.pools.is_empty() {
        true => Origin::Ranges(Request::new(network, call.version)?),
        false => Origin::Pools(network),
    };
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
    let (reserve, deadline) = (limit / 5, Deadline::after(limit - limit / 5));
    let give =
        |request: &Request| give(ipam, &ready, request, &record, &account, (deadline, reserve));
    let (request, given) = match origin {
        Origin::Ranges(request) => {
            let given = give(&request)?;
            (request, given)
        }
        Origin::Pools(network) => {
            let choice = PoolChoice {
                ready: &ready,
                network: &network,
                flat: flat.as_ref(),
                args: &args,
                attachment: &record.attachment,
                version: call.version,
                deadline,
            };
            choice.give(&give)?
        }
    };
    for allocation in &given.held {
        tracing::debug!(address = %allocation.address, scope = %allocation.scope, node = %allocation.record.attachment.node, "given");
        ipam.report.names(allocation);
    }
    let success = Success {
        ips: given.held.iter().map(ip).collect(),
        routes: request.network.routes.iter().map(route).collect(),
        dns,
    };
    Ok(Allocated { ready, success, given, reserve, account, record })
}

/// Gives the addresses of one request.
fn give(
    ipam: &Ipam<'_>,
    ready: &Ready,
    request: &Request,
    record: &Record,
    account: &Account,
    (deadline, reserve): (Deadline, Duration),
) -> Result<Given, Failure> {
    let Request { network, slots } = request;
    let may_allocate = || {
        limit_check::check_name(&record.attachment.ifname)
            .and_then(|()| limit_check::check(network, slots))
    };
    let is_alive = |held: &Record| !ready.life(held).is_dead();
    let own = (!network.own_addresses).then(|| ready.surroundings.own_addresses());
    let probe = network.probe.as_ref().filter(|_| !ready.surroundings.is_trial());
    let elsewhere = Elsewhere {
        own: own.as_deref(),
        probe: probe.map(|probe| (probe, &elsewhere::ask_hosts as elsewhere::AskHosts<'_>)),
        notes: ready.set_aside(),
        found: RefCell::default(),
    };
    let ask = Ask {
        scope: &network.scope,
        slots,
        record,
        may_allocate: &may_allocate,
        is_alive: &is_alive,
        caller_gone: ipam.orphaned,
        account: Some(account),
        freed: Some(&ready.freed()),
        elsewhere: Some(&elsewhere),
        sticky: network.sticky,
    };
    let given = allocate(ready.store.as_ref(), &ask, deadline, reserve)?;
    preferred::remember(ready.store.as_ref(), &ask, &given.sticky);
    Ok(given)
}

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
            None => return Err(failure.held_by(left.holder)),
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

fn record(ready: &Ready, attachment: Attachment, sandbox: &Sandbox, args: &CniArgs) -> Record {
    Record { pod: args.pod.clone(), ..ready.record(attachment, sandbox) }
}

fn dns(network: &mut Network, flat: Option<&FlatFile>) -> Result<cni::Dns, Failure> {
    let mut dns = std::mem::take(&mut network.dns);
    if let Some(file) = network.resolv_conf.as_ref().filter(|_| dns.is_empty()) {
        let bytes = machine::read_resolv_conf(file, flat).map_err(|error| Failure::Machine {
            path: file.path.display().to_string(),
            reason: machine::error_text(&error),
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
