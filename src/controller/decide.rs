//! What to do about a claim next. It looks only at the state, and changes nothing.
//!
//! A claim is answered in four writes: the claim's finalizer, the IPAllocation, the IPAddress, the
//! claim's status. After each of them, the next decision is made from the state that it left, so
//! that a controller that starts in the middle goes on there.

use super::conditions::{ALLOCATION_FAILED, POOL_EXHAUSTED, POOL_NOT_READY, READY};
use super::pool::{Part, PoolId, PoolKind};
use super::shapes::{ADDRESS, RELEASE_ADDRESS};
use super::state::{Answer, Claim, ClaimHolder, Holder, Name, PoolState, State};
use crate::addr::{Range, address, number, parse_address};
use crate::ipam::Source;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The next step for a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes.
    Rest,
    /// Nothing before this time has passed.
    Later(Duration),
    /// Put the finalizer on the claim.
    Protect,
    /// Say in the claim's condition why it has no address.
    Explain(Reason),
    /// Create the IPAllocation of an address.
    Hold(Candidate),
    /// Create the answer, from an IPAllocation.
    Answer {
        /// The address.
        address: IpAddr,
        /// The prefix length.
        prefix: u8,
        /// The gateway.
        gateway: Option<IpAddr>,
    },
    /// Give the answer its owners, finalizer and label.
    Repair,
    /// Name the answer in the claim's status.
    Publish,
    /// Delete the answer of a claim that ends.
    Withdraw,
    /// Make sure that a claim that ends has no answer, then delete an IPAllocation.
    Free(Rc<str>),
    /// Take the finalizer off a claim that ends and holds nothing.
    Release,
}

/// An address that a claim may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The address.
    pub address: IpAddr,
    /// The prefix length.
    pub prefix: u8,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// Whether the claim asked for this very address.
    pub source: Source,
}

/// Why a claim has no address: the reason of its condition (Cluster API, contract of IPAM
/// providers), and a text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// [`POOL_NOT_READY`], [`POOL_EXHAUSTED`] or [`ALLOCATION_FAILED`].
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// A pause in which what others do is told.
const SOON: Duration = Duration::from_millis(200);
/// How often a claim looks at addresses of which it will soon be known whether they are held.
const UNSETTLED: Duration = Duration::from_secs(1);

fn explain(reason: &'static str, message: String) -> Step {
    Step::Explain(Reason { reason, message })
}

/// Returns the next step for a claim.
#[must_use]
pub fn claim(state: &State, name: &Name, now: SystemTime, instant: Instant) -> Step {
    let Some(claim) = state.claim(name) else {
        return Step::Rest;
    };
    let is_served = match &claim.pool {
        Some(id) => state.serves(id.kind),
        // These pools, too, are the provider's.
        None => claim.prefix_pool.is_some() && state.serves(PoolKind::InCluster),
    };
    if !is_served {
        return Step::Rest;
    }
    if let Some(cluster) = &claim.cluster {
        match state.cluster(cluster) {
            Some(cluster) if cluster.is_paused => return Step::Rest,
            // A cluster may go before its claims. It may also be on its way here.
            None if claim.deleted_at.is_none() => return Step::Rest,
            Some(_) | None => {}
        }
    }
    if claim.is_paused {
        return Step::Rest;
    }
    let Some(id) = &claim.pool else {
        return refuse(claim);
    };
    let pool = state.pool(id);
    let is_protected = claim.finalizers.iter().any(|text| text == RELEASE_ADDRESS);
    match (claim.deleted_at, of_later_version(state, claim)) {
        (None, _) if !is_protected => Step::Protect,
        (_, Some(text)) => explain(ALLOCATION_FAILED, text),
        (Some(deleted), None) => release(state, name, claim, pool, now, deleted),
        (None, None) => match pool {
            None => explain(POOL_NOT_READY, format!("there is no {id}")),
            Some(pool) if pool.is_paused => Step::Rest,
            Some(pool) => give(state, name, claim, id, pool, instant),
        },
    }
}

/// Returns that a later version holds an address for a claim that is not answered, or that ends. It
/// may have more to do than this version knows.
fn of_later_version(state: &State, claim: &Claim) -> Option<String> {
    let names = state.held.of_claim(&claim.version.uid);
    names
        .filter(|_| claim.is_open())
        .find_map(|name| state.held.named(&name)?.holder.claim()?.of_later_version(&name))
}

/// Says that a pool of prefixes is not served. Another controller may serve it and answer.
fn refuse(claim: &Claim) -> Step {
    match &claim.prefix_pool {
        Some(pool) if claim.is_open() && claim.deleted_at.is_none() => explain(
            ALLOCATION_FAILED,
            format!(
                "{pool}: hereabouts-controller gives single addresses, and no prefixes; use an InClusterIPPool, a GlobalInClusterIPPool or an IPPool"
            ),
        ),
        _ => Step::Rest,
    }
}

fn release(
    state: &State,
    name: &Name,
    claim: &Claim,
    pool: Option<&PoolState>,
    now: SystemTime,
    deleted: SystemTime,
) -> Step {
    if let Some(pool) = pool {
        if pool.is_paused {
            return Step::Rest;
        }
        let grace = pool.supply.as_ref().map(|supply| supply.grace).unwrap_or_default();
        let over = now.duration_since(deleted).unwrap_or_default();
        if !pool.is_ending && over < grace {
            return Step::Later(grace.saturating_sub(over));
        }
    }
    if let Some(answer) = state.answer(name).filter(|answer| is_of(answer, claim)) {
        if answer.is_ending && !answer.is_protected() {
            // Somebody else's finalizer keeps it.
            return Step::Rest;
        }
        return Step::Withdraw;
    }
    if let Some(held) = state.held.of_claim(&claim.version.uid).next() {
        return Step::Free(held);
    }
    match claim.finalizers.iter().any(|text| text == RELEASE_ADDRESS) {
        true => Step::Release,
        false => Step::Rest,
    }
}

/// Returns whether an answer of the claim's name belongs to this claim, and not to an earlier one
/// of its name.
fn is_of(answer: &Answer, claim: &Claim) -> bool {
    answer.claim_uid.as_ref().is_none_or(|uid| *uid == claim.version.uid)
}

fn give(
    state: &State,
    name: &Name,
    claim: &Claim,
    id: &Rc<PoolId>,
    pool: &PoolState,
    instant: Instant,
) -> Step {
    if let Some(answer) = state.answer(name) {
        let is_owned =
            [&claim.version.uid, &pool.version.uid].iter().all(|uid| answer.owners.contains(uid));
        let has_label =
            claim.cluster_label.is_none() || claim.cluster_label == answer.cluster_label;
        return match (
            is_owned && answer.is_protected() && has_label,
            is_published(state, claim, name),
        ) {
            (false, _) => Step::Repair,
            (true, false) => publish(state, name, answer),
            (true, true) => Step::Rest,
        };
    }
    let supply = match &pool.supply {
        Err(mistake) => {
            return explain(POOL_NOT_READY, format!("{id} cannot be used: {mistake}"));
        }
        Ok(_) if pool.is_ending => {
            return explain(POOL_NOT_READY, format!("{id} is being deleted"));
        }
        Ok(_) if pool.wished.is_some() && !pool.is_protected() => return Step::Rest,
        Ok(supply) => supply,
    };
    let namespace = &*name.namespace;
    if !pool.namespaces.is_empty() && !pool.namespaces.iter().any(|text| text == namespace) {
        let message = format!("{id} is not for the namespace {namespace}, see its spec.namespaces");
        return explain(ALLOCATION_FAILED, message);
    }
    if pool.scope.is_of_slices() {
        // A single address may be in a slice, where its node gives it without asking.
        let message = format!(
            "nodes own the addresses of {id} in slices, so that no claim gets one; use a pool with subnets"
        );
        return explain("AllocationFailed", message);
    }
    if let Some((address, holder)) = held_by(state, claim) {
        return Step::Answer { address, prefix: holder.prefix, gateway: holder.gateway };
    }
    if let Some(text) = &claim.wanted {
        return wanted(state, claim, id, pool, text, instant);
    }
    let candidate = promised(state, claim, pool).or_else(|| {
        supply.parts.iter().find_map(|part| lowest_free(state, id, pool, part, instant))
    });
    if let Some(candidate) = candidate {
        return Step::Hold(candidate);
    }
    let ranges = supply.parts.iter().flat_map(|part| part.addresses.ranges());
    let unsettled = ranges.filter_map(|range| unsettled(state, claim, pool, &range, instant));
    match unsettled.min() {
        Some(pause) => Step::Later(pause),
        None => explain(POOL_EXHAUSTED, exhausted(state, id, pool)),
    }
}

/// Returns when to look again if it is not known yet whether an address of a range is held: another
/// claim asks for it, or a request for it was not answered. If it is not held in the end, nothing
/// tells that.
fn unsettled(
    state: &State,
    claim: &Claim,
    pool: &PoolState,
    range: &Range,
    instant: Instant,
) -> Option<Duration> {
    let held = state.held.between(&pool.scope_label, range.first_address(), range.last_address());
    let pauses = held.filter_map(|(_, holding)| match &holding.holder {
        Holder::Asked(uid) => (*uid != claim.version.uid).then_some(UNSETTLED),
        Holder::Unknown(until) => {
            let left = until.saturating_duration_since(instant).min(UNSETTLED);
            Some(left).filter(|left| !left.is_zero())
        }
        Holder::Attachment(_) | Holder::Claim(_) => None,
    });
    pauses.min()
}

/// Publishes an answer only if its address is held for it. Somebody else may have written the
/// answer, with an address that has a holder.
fn publish(state: &State, name: &Name, answer: &Answer) -> Step {
    let pool = answer.pool.as_ref().and_then(|id| state.pool(id));
    let (Some(pool), Some(address)) = (pool, answer.address) else {
        let message = format!("{ADDRESS} {name} names no address of a pool that is known");
        return explain(ALLOCATION_FAILED, message);
    };
    let held = state.held.get(&pool.scope_label, address).map(|holding| &holding.holder);
    if matches!(held, Some(Holder::Claim(holder)) if holder.name == *name) {
        return Step::Publish;
    }
    let Some(other) = held.and_then(Holder::told) else {
        return Step::Later(SOON);
    };
    let message = format!(
        "{ADDRESS} {name} has {address}, which is held by {other}; delete the {ADDRESS}, and this claim gets another address"
    );
    explain(ALLOCATION_FAILED, message)
}

/// Returns the address that a claim is promised when it is first seen, so that claims get addresses
/// in the order in which they came, although many are answered at the same time.
#[must_use]
pub fn promise(state: &State, name: &Name, instant: Instant) -> Option<IpAddr> {
    let claim = state.claim(name)?;
    let id = claim.pool.as_ref()?;
    let pool = state.pool(id)?;
    match give(state, name, claim, id, pool, instant) {
        Step::Hold(candidate) => Some(candidate.address),
        _ => None,
    }
}

fn promised(state: &State, claim: &Claim, pool: &PoolState) -> Option<Candidate> {
    let supply = pool.supply.as_ref().ok()?;
    state.held.of_claim(&claim.version.uid).find_map(|name| {
        let (scope, address) = crate::store::kube::objects::names::split(&name)?;
        let is_promised = matches!(state.held.named(&name)?.holder, Holder::Asked(_));
        let part = supply.part(address).filter(|_| is_promised && *scope == *pool.scope_label)?;
        Some(Candidate {
            address,
            prefix: part.prefix,
            gateway: part.gateway,
            source: Source::Dynamic,
        })
    })
}

fn is_published(state: &State, claim: &Claim, name: &Name) -> bool {
    let ready = claim.conditions.iter().find(|condition| condition.kind == READY);
    let is_ready = ready.is_some_and(|condition| condition.status == "True");
    claim.answered_by.as_ref() == Some(&name.name) && (is_ready || !state.has_conditions)
}

/// Returns the lowest address that is held by the claim. Two controllers may have got one each;
/// the other one is freed when the claim has its answer.
fn held_by<'s>(state: &'s State, claim: &Claim) -> Option<(IpAddr, &'s ClaimHolder)> {
    let names = state.held.of_claim(&claim.version.uid);
    let held = names.filter_map(|name| {
        let (_, address) = crate::store::kube::objects::names::split(&name)?;
        match &state.held.named(&name)?.holder {
            Holder::Claim(holder) => Some((address, &**holder)),
            Holder::Attachment(_) | Holder::Asked(_) | Holder::Unknown(_) => None,
        }
    });
    held.min_by_key(|(address, _)| *address)
}

fn wanted(
    state: &State,
    claim: &Claim,
    id: &PoolId,
    pool: &PoolState,
    text: &str,
    instant: Instant,
) -> Step {
    let fails = |reason: String| {
        explain(ALLOCATION_FAILED, format!("annotation hereabouts.dev/address: {reason}"))
    };
    let address = match parse_address(text) {
        Ok(address) => address,
        Err(error) => return fails(format!("{error}, found \"{text}\"")),
    };
    let supply = pool.supply.as_ref().ok();
    let Some(part) = supply.and_then(|supply| supply.part(address)) else {
        return fails(format!("{id} cannot give {address}"));
    };
    if let Some(pause) = unsettled(state, claim, pool, &Range::single(address), instant) {
        return Step::Later(pause);
    }
    if let Some(holder) = holder(state, id, pool, address) {
        return fails(format!("{address} is held by {holder}"));
    }
    Step::Hold(Candidate {
        address,
        prefix: part.prefix,
        gateway: part.gateway,
        source: Source::Requested,
    })
}

/// Returns who has an address, for people.
fn holder(state: &State, id: &PoolId, pool: &PoolState, address: IpAddr) -> Option<String> {
    let held = state.held.get(&pool.scope_label, address);
    held.and_then(|holding| holding.holder.told()).or_else(|| {
        let mut answers = state.answers_of(id);
        let found = answers.find(|(found, _)| *found == address);
        found.map(|(_, name)| format!("{ADDRESS} {name}"))
    })
}

/// Returns the lowest address that is neither held nor in an answer of the pool.
fn lowest_free(
    state: &State,
    id: &PoolId,
    pool: &PoolState,
    part: &Part,
    instant: Instant,
) -> Option<Candidate> {
    let is_taken = |holder: &Holder| match holder {
        Holder::Unknown(until) => instant < *until,
        Holder::Attachment(_) | Holder::Claim(_) | Holder::Asked(_) => true,
    };
    for range in part.addresses.ranges() {
        let family = range.family();
        let last = number(range.last_address());
        let mut next = number(range.first_address());
        let held =
            state.held.between(&pool.scope_label, range.first_address(), range.last_address());
        let mut held = held
            .filter(|(_, holding)| is_taken(&holding.holder))
            .map(|(address, _)| number(*address))
            .peekable();
        while next <= last {
            if held.peek() == Some(&next) {
                held.next();
            } else if !state.is_answered(id, address(family, next)) {
                return Some(Candidate {
                    address: address(family, next),
                    prefix: part.prefix,
                    gateway: part.gateway,
                    source: Source::Dynamic,
                });
            }
            let Some(after) = next.checked_add(1) else { break };
            next = after;
        }
    }
    None
}

fn exhausted(state: &State, id: &PoolId, pool: &PoolState) -> String {
    let total = pool.supply.as_ref().map(super::pool::Supply::total).unwrap_or_default();
    format!(
        "{id} has no free address: all {total} are held, {} of them by its claims; enlarge the pool, or delete claims or pods that are no longer needed",
        state.answer_count(id)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::shapes::CLAIM;
    use crate::controller::state::{Holding, Version, Work};
    use crate::controller::watches;
    use crate::store::kube::objects::names;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    /// Returns a state with a pool of one address, and a claim of it that has its finalizer.
    fn state(annotations: &Value) -> State {
        let mut state = State::new(BTreeSet::new(), true);
        let pool = json!({
            "metadata": {"name": "pool", "namespace": "default", "uid": "pool"},
            "spec": {"addresses": ["10.0.0.1"], "prefix": 24},
        });
        let pool = serde_json::from_value(pool).unwrap();
        watches::pool(&mut state, PoolKind::InCluster, &pool);
        let claim = json!({
            "metadata": {
                "name": "a", "namespace": "default", "uid": "claim", "finalizers": [RELEASE_ADDRESS],
                "annotations": annotations,
            },
            "spec": {"poolRef": {
                "apiGroup": "ipam.cluster.x-k8s.io", "kind": "InClusterIPPool", "name": "pool",
            }},
        });
        watches::claim(&mut state, &serde_json::from_value(claim).unwrap());
        state
    }

    fn name() -> Name {
        Name { namespace: "default".into(), name: "a".into() }
    }

    fn next(state: &State, instant: Instant) -> Step {
        claim(state, &name(), SystemTime::UNIX_EPOCH, instant)
    }

    /// Returns the name of the IPAllocation of the pool's address.
    fn held_name(state: &State) -> String {
        let (_, pool) = state.pools().next().unwrap();
        names::object(&pool.scope, "10.0.0.1".parse().unwrap())
    }

    fn held(state: &mut State, holder: Holder) {
        let name = held_name(state);
        state.note_held(&name, Holding { version: Version::none(), holder });
    }

    /// Nothing tells that an address is free whose creation failed, or that another claim did not
    /// take. So the claim must not wait for a word.
    #[test]
    fn a_claim_looks_again_while_it_is_not_known_whether_an_address_is_held() {
        let begun = Instant::now();
        let until = begun + Duration::from_secs(10);
        for annotations in [json!({}), json!({"hereabouts.dev/address": "10.0.0.1"})] {
            let mut state = state(&annotations);
            assert!(matches!(next(&state, begun), Step::Hold(_)));
            held(&mut state, Holder::Unknown(until));
            assert_eq!(next(&state, begun), Step::Later(UNSETTLED));
            let near = until - Duration::from_millis(300);
            assert_eq!(next(&state, near), Step::Later(Duration::from_millis(300)));
            assert!(matches!(next(&state, until), Step::Hold(_)));
            held(&mut state, Holder::Asked("other".into()));
            assert_eq!(next(&state, until), Step::Later(UNSETTLED));
            held(&mut state, Holder::Asked("claim".into()));
            assert!(matches!(next(&state, until), Step::Hold(_)), "its own promise");
        }
    }

    /// The answer to the creation was lost, and the watch tells of it.
    #[test]
    fn a_claim_is_looked_at_when_a_watch_tells_that_an_address_is_held_for_it() {
        let mut state = state(&json!({}));
        let holder = ClaimHolder {
            kind: CLAIM.to_owned(),
            uid: "claim".into(),
            name: name(),
            pool: None,
            prefix: 24,
            gateway: None,
            is_ending: false,
            later_format: None,
        };
        let version = Version { uid: "held".into(), revision: "7".into() };
        let holding = Holding { version, holder: Holder::Claim(Box::new(holder)) };
        let held = held_name(&state);
        assert!(state.apply_allocation(&held, holding.clone()).contains(&Work::Claim(name())));
        assert!(matches!(next(&state, Instant::now()), Step::Answer { .. }));
        assert_eq!(state.apply_allocation(&held, holding), [], "it is known");
    }
}
