//! ADD: allocate, all or nothing, and know what to undo.

use super::failure::Failure;
use super::{Ipam, Ready, allowed, attachment, host};
use crate::addr::{AddrSet, Family};
use crate::cni::{self, Added, Call, CniError, Sandbox, Success, Version};
use crate::config::{CniArgs, FlatFile, Merged, Network};
use crate::ipam::{self, Allocation, Attachment, Draft, Part, Scope, Slot, Source};
use crate::store::retry::Deadline;
use crate::store::{Access, Claim, Rehome, Session, Store, StoreError};
use std::time::Duration;

/// An ADD that has allocated.
pub(super) struct Allocated {
    ready: Ready,
    success: Success,
    /// What this call made; a repeat has made nothing.
    created: Vec<Allocation>,
    reserve: Duration,
}

impl Added for Allocated {
    fn success(&self) -> &Success {
        &self.success
    }

    fn undo(self: Box<Self>) -> Result<(), CniError> {
        let deadline = Deadline::after(self.reserve);
        let undone = undo(self.ready.store.as_ref(), &self.created, deadline);
        Ok(undone.map_err(Failure::from)?)
    }
}

pub(super) fn add(ipam: &Ipam<'_>, call: &Call, sandbox: &Sandbox) -> Result<Allocated, Failure> {
    let args = CniArgs::parse(&call.args)?;
    let flat = ipam.flat_file(call)?;
    let merged = Merged::new(&call.configuration, flat.as_ref())?;
    let mut network = Network::parse(&merged, &args)?;
    let slots = ipam::slots(&network.sets, &network.requested, &network.statics)?;
    check_one_per_family(&slots, call.version)?;
    let dns = dns(&mut network, flat.as_ref())?;
    let ready = ipam.ready(call, &merged, flat.as_ref())?;
    if let Some(path) = sandbox.netns.as_ref().filter(|path| !sandbox.own_netns_allowed && host::is_own_netns(path)) {
        return Err(Failure::OwnNetns(path.display().to_string()));
    }
    let draft = draft(&ready, attachment(&ready, call, sandbox), sandbox, &args);

    let limit = ready.settings.deadlines.add;
    let reserve = limit / 5;
    if let Err(refused) = allowed::check_name(&draft.attachment.ifname).and_then(|()| allowed::check(&network, &slots))
        && !allowed::holds_all(ready.store.as_ref(), &draft.attachment, Deadline::after(limit - reserve))?
    {
        return Err(refused);
    }
    let mut undo_list = Vec::new();
    let is_alive = |held: &Draft| ready.is_alive(held);
    let ask = Ask { scope: &network.scope, slots: &slots, draft: &draft, is_alive: &is_alive };
    let allocated = allocate(ready.store.as_ref(), &ask, Deadline::after(limit - reserve), &mut undo_list);
    let held = match allocated {
        Ok(held) => held,
        Err(failure) => {
            return Err(match undo(ready.store.as_ref(), &undo_list, Deadline::after(reserve)) {
                Ok(()) => failure,
                Err(undo) => Failure::NotUndone { failure: Box::new(failure), undo },
            });
        }
    };
    for allocation in &held {
        tracing::info!(address = %allocation.address, scope = %allocation.scope, holder = %allocation.held.attachment, "ADD");
    }
    let success = Success { ips: held.iter().map(ip).collect(), routes: network.routes.iter().map(route).collect(), dns };
    Ok(Allocated { ready, success, created: undo_list, reserve })
}

/// What one ADD asks of a store.
pub struct Ask<'a> {
    /// Where the addresses have to be unique.
    pub scope: &'a Scope,
    /// One for each address.
    pub slots: &'a [Slot],
    /// The holder, and what is recorded of it.
    pub draft: &'a Draft,
    /// Whether a record's sandbox is still there.
    pub is_alive: &'a dyn Fn(&Draft) -> bool,
}

/// Steps through the plan of an ADD; may be repeated. `undo_list` holds what
/// was made, also when a later step fails: the caller releases it then.
///
/// # Errors
/// Why the ADD cannot be answered.
pub fn allocate(store: &dyn Store, ask: &Ask<'_>, deadline: Deadline, undo_list: &mut Vec<Allocation>) -> Result<Vec<Allocation>, Failure> {
    let mut session = store.open(Access::Allocate, deadline)?;
    let holdings = session.holdings(&ask.draft.attachment)?;
    if let Some(damaged) = holdings.damaged.into_iter().next() {
        return Err(damaged.into());
    }
    let lacking = holdings.held.is_empty() || ipam::is_half_done(&holdings.held);
    let of_pod = if lacking { dead_of_pod(session.as_ref(), ask)? } else { Vec::new() };
    let plan = ipam::plan(ask.slots, &holdings.held, &of_pod, ask.draft.pod.as_ref())?;
    let mut allocations = Vec::new();
    for held in plan.held {
        allocations.push(keep(session.as_mut(), ask, held)?);
    }
    for (old, slot) in plan.rehome {
        let offer = slot.offers.iter().find(|offer| offer.candidates.contains(old.address));
        let to = offer.map_or_else(|| old.held.clone(), |offer| slot.draft(offer, ask.draft));
        let allocation = match session.rehome(old, &to)? {
            Rehome::Done(allocation) => {
                tracing::info!(address = %old.address, from = %old.held.attachment, "re-homed from a dead sandbox of the same pod");
                allocation
            }
            Rehome::Changed => claim(session.as_mut(), ask, slot)?,
        };
        undo_list.push(allocation.clone());
        allocations.push(allocation);
    }
    for slot in plan.claim {
        let allocation = claim(session.as_mut(), ask, slot)?;
        undo_list.push(allocation.clone());
        allocations.push(allocation);
    }
    allocations.sort_by_key(|allocation| allocation.held.part.index);
    Ok(allocations)
}

/// What a repeated ADD finds: made durable before it is printed again; a
/// record that no longer looks alive gets today's namespace, lest it be swept
/// under a living pod.
fn keep(session: &mut dyn Session, ask: &Ask<'_>, held: &Allocation) -> Result<Allocation, Failure> {
    let draft = ask.draft;
    if (ask.is_alive)(&held.held) || draft.netns == held.held.netns && draft.boot_id == held.held.boot_id {
        session.confirm(held)?;
        return Ok(held.clone());
    }
    let to = Draft { boot_id: draft.boot_id.clone(), netns: draft.netns.clone(), ..held.held.clone() };
    match session.rehome(held, &to)? {
        Rehome::Done(allocation) => Ok(allocation),
        Rehome::Changed => Err(StoreError::Changed.into()),
    }
}

/// What other sandboxes of the same pod hold and are shown dead.
fn dead_of_pod(session: &dyn Session, ask: &Ask<'_>) -> Result<Vec<Allocation>, StoreError> {
    let Some(pod) = ask.draft.pod.as_ref().filter(|pod| pod.is_whole()) else {
        return Ok(Vec::new());
    };
    let attachment = &ask.draft.attachment;
    let mut held = session.holdings_of_pod(&attachment.network, pod, &attachment.ifname)?;
    // An address is unique in its scope alone: in today's another may hold it.
    held.retain(|old| old.scope == *ask.scope && old.held.attachment != *attachment && !(ask.is_alive)(&old.held));
    Ok(held)
}

/// Claims for one slot: the first offer that has room.
fn claim(session: &mut dyn Session, ask: &Ask<'_>, slot: &Slot) -> Result<Allocation, Failure> {
    for offer in &slot.offers {
        match session.claim(ask.scope, &offer.candidates, &slot.draft(offer, ask.draft))? {
            Claim::Claimed(allocation) => return Ok(allocation),
            Claim::Full => {}
        }
    }
    let what = match slot.source {
        Source::Dynamic => {
            return Err(Failure::Exhausted(slot.offers.iter().map(|offer| outline(&offer.candidates)).collect::<Vec<_>>().join(", ")));
        }
        Source::Requested => "requested",
        Source::Static => "static",
    };
    let first = slot.offers.iter().flat_map(|offer| offer.candidates.ranges()).next();
    Err(first.map_or_else(|| Failure::Exhausted("the range".to_owned()), |range| Failure::Held { what, address: range.first_address() }))
}

/// A set in few words.
fn outline(candidates: &AddrSet) -> String {
    let mut ranges = candidates.ranges();
    match (ranges.next(), ranges.last()) {
        (None, _) => "the range".to_owned(),
        (Some(only), None) => only.to_string(),
        (Some(first), Some(last)) => format!("{}-{}", first.first_address(), last.last_address()),
    }
}

/// Releases in the reverse order. Goes on past a failure, and tells the first.
///
/// # Errors
/// Something may be held still.
pub fn undo(store: &dyn Store, created: &[Allocation], deadline: Deadline) -> Result<(), StoreError> {
    if created.is_empty() {
        return Ok(());
    }
    let mut session = store.open(Access::Release, deadline)?;
    let mut first = Ok(());
    for allocation in created.iter().rev() {
        let released = session.release(allocation).map(|_| ());
        if first.is_ok() {
            first = released;
        }
    }
    first
}

fn draft(ready: &Ready, attachment: Attachment, sandbox: &Sandbox, args: &CniArgs) -> Draft {
    Draft {
        attachment,
        pod: args.pod.clone(),
        netns: sandbox.netns.as_deref().and_then(host::find_netns),
        boot_id: ready.machine.boot_id.clone(),
        since: ready.machine.now,
        source: Source::Dynamic,
        part: Part { index: 0, of: 1 },
        prefix: 0,
        gateway: None,
    }
}

/// 0.2.0 and older can say one address a family; more would be given and lost.
fn check_one_per_family(slots: &[Slot], version: Version) -> Result<(), Failure> {
    if Version::V030 <= version {
        return Ok(());
    }
    for family in [Family::V4, Family::V6] {
        let of_family = |slot: &&Slot| slot.offers.first().is_some_and(|offer| offer.candidates.family() == family);
        if 1 < slots.iter().filter(of_family).count() {
            return Err(Failure::OnePerFamily { version: version.as_str(), family });
        }
    }
    Ok(())
}

fn dns(network: &mut Network, flat: Option<&FlatFile>) -> Result<cni::Dns, Failure> {
    let mut dns = std::mem::take(&mut network.dns);
    if let Some(file) = network.resolv_conf.as_ref().filter(|_| dns.is_empty()) {
        let bytes = host::read_resolv_conf(file, flat)
            .map_err(|error| Failure::Machine { path: file.path.display().to_string(), reason: host::words(&error) })?;
        dns = crate::config::Dns::from_resolv_conf(&bytes);
    }
    Ok(cni::Dns { nameservers: dns.nameservers, domain: dns.domain, search: dns.search, options: dns.options })
}

fn ip(allocation: &Allocation) -> cni::Ip {
    cni::Ip { address: allocation.address, prefix: allocation.held.prefix, gateway: allocation.held.gateway }
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
