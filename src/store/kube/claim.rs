//! A claim: which candidate is tried next, and what is made of the answer.

use super::KubeStore;
use super::api::Created;
use super::api::retries::Failed;
use super::node_state::occupancy::Occupancy;
use super::objects::ip_allocation::IpAllocation;
use super::objects::names;
use super::session::KubeSession;
use crate::addr::AddrSet;
use crate::ipam::{Allocation, AllocationOrder, Record, Scope, Source};
use crate::retry::{self, Deadline};
use crate::store::{Claim, Rehome, StoreError};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// How long "every address is held" is believed: between once and twice this.
const BELIEVED: Duration = Duration::from_secs(5);
/// Between two looks at a range that seems full: another node's ADD that fails
/// gives its first address back in this time.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// So many candidates of one claim were another's: what is believed is listed
/// anew, whatever that costs.
const MAX_MISSES_BEFORE_LIST: u32 = 3;
/// A list costs the API server as much as a try for each thousandth of the
/// addresses held: the larger a range, the more places are tried before.
const TRIED: u128 = 1024;
/// But so many tries are enough.
const MOST_TRIES: u32 = 32;

impl KubeSession<'_> {
    pub(super) fn claim_one(&self, scope: &Scope, candidates: &AddrSet, record: &Record) -> Result<Claim, StoreError> {
        let began = self.store.now();
        // What an earlier call of this attachment asked for comes first: the
        // object may be on its way.
        let mut lost: Vec<IpAddr> = self
            .lost
            .borrow()
            .iter()
            .filter(|object| object.spec.scope.as_deref() == scope.name())
            .map(|object| object.spec.address)
            .collect();
        lost.retain(|address| candidates.contains(*address));
        for address in lost {
            // A look since may have shown it free.
            self.store.state.change_occupancy(scope, &self.deadline, |hint| hint.take(address))?;
            if let Some(allocation) = self.try_claim(scope, address, record)? {
                self.lost.borrow_mut().retain(|object| names::object(scope, address) != object.metadata.name);
                return Ok(Claim::Claimed(allocation));
            }
        }
        // What the configuration itself assigns, its author answers for.
        let allowed = if record.source == Source::Static {
            candidates.clone()
        } else {
            self.store.without_gateways(scope, candidates, &self.deadline)?
        };
        let candidates = &allowed;
        match candidates.nth(0) {
            None => return Ok(Claim::Full),
            Some(only) if candidates.count() == 1 => return self.claim_only(scope, candidates, only, record),
            Some(_) => {}
        }
        let mut misses = 0;
        while let Some(address) = self.choose(scope, candidates, misses, began)? {
            if let Some(allocation) = self.try_claim(scope, address, record)? {
                return Ok(Claim::Claimed(allocation));
            }
            misses += 1;
            if self.deadline.left().is_zero() {
                let reason = format!("other nodes had taken each of the {misses} addresses that were tried, the last: {address}");
                return Err(self.store.api.contended("create", &reason, &self.deadline));
            }
        }
        Ok(Claim::Full)
    }

    /// One candidate alone is tried, whatever is believed of it.
    fn claim_only(&self, scope: &Scope, candidates: &AddrSet, address: IpAddr, record: &Record) -> Result<Claim, StoreError> {
        let attempt = || {
            self.store.state.change_occupancy(scope, &self.deadline, |hint| hint.take(address))?;
            self.try_claim(scope, address, record)
        };
        let mut claimed = attempt()?;
        if claimed.is_none() && self.sweep_earlier_boots(scope, candidates)? {
            claimed = attempt()?;
        }
        Ok(claimed.map_or(Claim::Full, Claim::Claimed))
    }

    /// Tries one candidate; `None` when it is another's, or one that the
    /// attachment holds already.
    fn try_claim(&self, scope: &Scope, address: IpAddr, record: &Record) -> Result<Option<Allocation>, StoreError> {
        let store = self.store;
        let hash = names::of_attachment(&record.attachment);
        let mut object = IpAllocation::new(scope, address, record, store.machine.as_deref());
        object.spec.node_uid.clone_from(&store.node_uid);
        let earlier = store.state.objects(&hash)?.into_iter().find(|known| known.metadata.name == object.metadata.name);
        // An intent that may be on its way still.
        let open = earlier.as_ref().filter(|earlier| earlier.metadata.resource_version.is_none());
        if let Some(earlier) = open {
            // The same intent once more: whichever attempt is served, the object
            // is the same.
            object.spec.since = earlier.spec.since.clone();
            object.spec.view = earlier.spec.view.clone();
            object.spec.node_uid.clone_from(&earlier.spec.node_uid);
        }
        let open = open.is_some();
        let name = &object.metadata.name;
        store.state.put(&hash, &object)?;
        match store.api.create(&object, &self.deadline) {
            Ok(Created::Made { object: made, outcome_unknown }) => {
                self.note(&made, record);
                if open || outcome_unknown {
                    self.track_duplicate_create(&object, made.metadata.uid.as_deref());
                }
                let allocation = made.allocation().map_err(|unreadable| unreadable.of(name))?;
                Ok(Some(allocation))
            }
            Ok(Created::Taken { maybe_ours }) => self.taken(&object, record, earlier, open || maybe_ours),
            Err(Failed { error, outcome_unknown }) => {
                // Of what was surely not made nothing has to be remembered.
                if !outcome_unknown && !open {
                    self.take_back_intent(&hash, name, earlier)?;
                    store.state.change_occupancy(scope, &self.deadline, |hint| hint.free(address))?;
                }
                Err(error)
            }
        }
    }

    /// A name that was taken: by another, by this attachment for another part of
    /// its ADD, or by an attempt whose answer nobody saw.
    fn taken(
        &self,
        object: &IpAllocation,
        record: &Record,
        earlier: Option<IpAllocation>,
        maybe_ours: bool,
    ) -> Result<Option<Allocation>, StoreError> {
        let (name, hash) = (&object.metadata.name, names::of_attachment(&record.attachment));
        let standing = if maybe_ours || earlier.is_some() { self.standing(name, &record.attachment)? } else { None };
        let uid = standing.as_ref().and_then(|standing| Some(standing.version.as_ref()?.uid.clone()));
        let known = earlier.as_ref().and_then(IpAllocation::version).map(|version| version.uid);
        if known.is_some() && known == uid {
            self.take_back_intent(&hash, name, earlier)?;
            return Ok(None);
        }
        if maybe_ours {
            self.track_duplicate_create(object, uid.as_deref());
        }
        match standing {
            Some(standing) => self.adopt(standing, object, record).map(Some),
            None => self.store.state.drop_object(&hash, name).map(|()| None),
        }
    }

    /// The object is ours already, from an attempt whose answer nobody saw. One
    /// of an earlier call gets this call's fields: a tombstone may be waiting for
    /// that very object, to take it back.
    fn adopt(&self, standing: Allocation, wanted: &IpAllocation, record: &Record) -> Result<Allocation, StoreError> {
        let Some(version) = standing.version.clone() else {
            return Err(StoreError::Changed);
        };
        let mut found = IpAllocation::new(&standing.scope, standing.address, &standing.record, self.store.machine.as_deref());
        found.spec.node_uid.clone_from(&wanted.spec.node_uid);
        if found.spec == wanted.spec {
            found.metadata.uid = Some(version.uid);
            found.metadata.resource_version = Some(version.revision);
            self.note(&found, record);
            return Ok(standing);
        }
        match self.change(&standing, record, version)? {
            Rehome::Done(allocation) => Ok(allocation),
            Rehome::Changed => Err(StoreError::Changed),
        }
    }

    /// The next candidate, or `None` when every one is held.
    fn choose(&self, scope: &Scope, candidates: &AddrSet, misses: u32, began: SystemTime) -> Result<Option<IpAddr>, StoreError> {
        let (state, order) = (&self.store.state, self.store.order);
        let missed = 0 < misses;
        let looked = missed && self.look_after(scope, candidates, misses, began);
        let mut random = self.store.random();
        let mut chosen = None;
        let wants_a_look = state.change_occupancy(scope, &self.deadline, |hint| {
            let now = self.store.now();
            if order == AllocationOrder::Auto && !missed && hint.is_worth_a_look(candidates, false, now) {
                return true;
            }
            let elsewhere = match order {
                AllocationOrder::Auto => missed && !looked,
                AllocationOrder::Spread => missed || !hint.is_spread(now),
                AllocationOrder::Lowest => false,
            };
            if elsewhere {
                hint.go_elsewhere(candidates, now, &mut random);
            }
            chosen = hint.choose(candidates, now);
            false
        })?;
        if wants_a_look {
            self.look(scope, None);
            chosen = state.change_occupancy(scope, &self.deadline, |hint| hint.choose(candidates, self.store.now()))?;
        }
        if chosen.is_some() {
            return Ok(chosen);
        }
        self.look_twice(scope, candidates, began)
    }

    /// Looks at the scope after so many misses, where that is to be before the next
    /// guess; whether the lowest free candidate is then no guess.
    fn look_after(&self, scope: &Scope, candidates: &AddrSet, misses: u32, began: SystemTime) -> bool {
        let (believed, now, order) = (self.store.state.occupancy(scope), self.store.now(), self.store.order);
        if order == AllocationOrder::Auto && believed.is_worth_a_look(candidates, true, now) {
            self.look(scope, None);
            return true;
        }
        // The lowest one is not to be had by drawing.
        let tried = MOST_TRIES <= misses || candidates.count() <= TRIED * u128::from(misses) || order == AllocationOrder::Lowest;
        if tried {
            self.look(scope, Some(began).filter(|_| MAX_MISSES_BEFORE_LIST <= misses));
        }
        false
    }

    /// Lists the scope, unless that was done lately, or since. Without it the next
    /// candidate is a guess as the one before.
    fn look(&self, scope: &Scope, since: Option<SystemTime>) {
        let is_wanted = |believed: &Occupancy| {
            let now = self.store.now();
            believed.is_old(now) || since.is_some_and(|since| !believed.is_listed_since(since, now))
        };
        // Whatever becomes of it, there is time for the claim.
        let share = Deadline::after(self.deadline.left() / 2);
        if let Err(error) = self.store.list_scope(scope, &is_wanted, &share) {
            tracing::debug!(%error, "the scope could not be listed before the next claim");
        }
    }

    /// Every candidate is believed to be held. That is said only after two
    /// fresh looks, by one process of the node at a time, and is then believed
    /// for some seconds: a full range must not be listed by every pod that waits
    /// for it.
    fn look_twice(&self, scope: &Scope, candidates: &AddrSet, began: SystemTime) -> Result<Option<IpAddr>, StoreError> {
        let (store, state) = (self.store, &self.store.state);
        let _lock = state.lock_listing(scope, &self.deadline)?;
        let choose = |hint: &mut Occupancy| hint.choose(candidates, store.now());
        if state.occupancy(scope).is_full(candidates, store.now()) {
            return Ok(None);
        }
        for since in [Some(began), None] {
            if since.is_none_or(|since| !state.occupancy(scope).is_listed_since(since, store.now())) {
                store.list_scope_locked(scope, &self.deadline)?;
            }
            if let Some(chosen) = state.change_occupancy(scope, &self.deadline, choose)? {
                return Ok(Some(chosen));
            }
            if since.is_some() {
                retry::pause(&self.deadline, SECOND_LOOK);
            }
        }
        if self.sweep_earlier_boots(scope, candidates)?
            && let Some(chosen) = state.change_occupancy(scope, &self.deadline, choose)?
        {
            return Ok(Some(chosen));
        }
        let longer = u32::try_from(store.random()(1000)).unwrap_or(0);
        let until = store.now() + BELIEVED + BELIEVED * longer / 1000;
        state.change_occupancy(scope, &self.deadline, |hint| hint.say_full(until))?;
        Ok(None)
    }
}

impl KubeStore {
    /// Reads which addresses of a scope are held, unless that is not wanted any more
    /// when this process is the only one of this node that does.
    pub(super) fn list_scope(&self, scope: &Scope, is_wanted: &dyn Fn(&Occupancy) -> bool, deadline: &Deadline) -> Result<(), StoreError> {
        let _lock = self.state.lock_listing(scope, deadline)?;
        if is_wanted(&self.state.occupancy(scope)) { self.list_scope_locked(scope, deadline) } else { Ok(()) }
    }

    fn list_scope_locked(&self, scope: &Scope, deadline: &Deadline) -> Result<(), StoreError> {
        let before = self.state.occupancy(scope);
        let mut listed = Occupancy::default();
        let began = self.now();
        let selector = format!("{}={}", names::SCOPE, names::of_scope(scope));
        self.api.names(&selector, deadline, &mut |name| {
            if let Some(address) = names::parse(name) {
                listed.take(address);
            }
        })?;
        let took = self.now().duration_since(began).unwrap_or_default();
        self.state.change_occupancy(scope, deadline, |hint| hint.replace(&before, listed, began, took))
    }

    /// A function that draws a number below another.
    fn random(&self) -> impl FnMut(u128) -> u128 {
        // Of a machine that gives no randomness every draw is the same: more
        // misses, nothing worse.
        let seed = self.state.disk().random().unwrap_or_default();
        let mut state = u128::from_be_bytes(seed);
        move |below| {
            // A step of a linear congruential generator, its high half in front.
            state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(0x5851_f42d_4c95_7f2d_1405_7b7e_f767_814f);
            state.rotate_right(64) % below.max(1)
        }
    }
}
