//! Claiming an address in the Kubernetes API: which candidate is tried next, and how the server's
//! answer is handled.

use super::KubeStore;
use super::api::Created;
use super::api::retries::Failed;
use super::node_state::occupancy::Occupancy;
use super::objects::claim_object::ClaimObject;
use super::objects::ip_allocation::{IpAllocation, PLURAL};
use super::objects::names;
use super::session::KubeSession;
use crate::addr::{AddrSet, Range};
use crate::ipam::{Allocation, AllocationOrder, Record, Scope, Source};
use crate::retry::{self, Deadline};
use crate::store::{Claim, Rehome, StoreError};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// How long the node believes that every address is held: between one and two times this.
const BELIEVED: Duration = Duration::from_secs(5);
/// The pause between two listings of a range that seems full. Within this time, a failing ADD of
/// another node frees its first address.
const SECOND_LISTING: Duration = Duration::from_millis(200);

/// After this many misses in one claim, a recent listing is not trusted: the scope is listed again,
/// whatever that costs. A miss is a candidate that another attachment holds.
const MAX_MISSES_BEFORE_LIST: u32 = 3;
/// A list costs the API server as much as one try per 1024 held addresses. So in a larger range,
/// more candidates are tried before the scope is listed.
const TRIED: u128 = 1024;
/// The maximum number of tries before the scope is listed, however large the range is.
const MOST_TRIES: u32 = 32;

impl KubeSession<'_> {
    pub(super) fn claim_one(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        record: &Record,
    ) -> Result<Claim, StoreError> {
        let given = self.without_given(scope, candidates, &record.attachment)?;
        self.claim_of(scope, &given, record)
    }

    fn claim_of(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        record: &Record,
    ) -> Result<Claim, StoreError> {
        let began = self.store.now();
        // The addresses that an earlier call of this attachment asked for come first: the requests
        // that create their objects may still be under way.
        let mut lost: Vec<IpAddr> = self
            .lost
            .borrow()
            .iter()
            .filter(|object| object.spec.scope.as_deref() == scope.name())
            .map(|object| object.spec.address)
            .collect();
        lost.retain(|address| candidates.contains(*address));
        for address in lost {
            if let Some(allocation) = self.try_given(scope, address, record)? {
                self.lost
                    .borrow_mut()
                    .retain(|object| names::object(scope, address) != object.metadata.name);
                return Ok(Claim::Claimed(allocation));
            }
        }
        // A static address is not compared with the gateways: the author of the configuration is
        // responsible for it.
        let mut allowed = if record.source == Source::Static {
            candidates.clone()
        } else {
            self.store.without_gateways(scope, candidates, &self.deadline)?
        };
        match allowed.nth(0) {
            None => return Ok(Claim::Full),
            Some(only) if allowed.count() == 1 => {
                return self.claim_only(scope, &allowed, only, record);
            }
            Some(_) => {}
        }
        let mut misses = 0;
        while let Some(address) = self.choose(scope, &allowed, misses, began)? {
            if let Some(allocation) = self.try_shown(scope, address, record)? {
                return Ok(Claim::Claimed(allocation));
            }
            // What Whereabouts has is no sign that other nodes take the same addresses as this one.
            if self.was_lost(address) {
                allowed.remove(&Range::single(address));
            } else {
                misses += 1;
            }
            if self.deadline.left().is_zero() {
                let reason = format!(
                    "other nodes took every address that was tried ({misses}); the last was {address}"
                );
                return Err(self.store.api.contended("create", PLURAL, &reason, &self.deadline));
            }
        }
        Ok(Claim::Full)
    }

    /// Claims the only candidate. It is tried whatever the node believes about it.
    fn claim_only(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        address: IpAddr,
        record: &Record,
    ) -> Result<Claim, StoreError> {
        let mut claimed = self.try_given(scope, address, record)?;
        if claimed.is_none() && self.sweep_earlier_boots(scope, candidates)? {
            claimed = self.try_given(scope, address, record)?;
        }
        Ok(claimed.map_or(Claim::Full, Claim::Claimed))
    }

    /// Tries a candidate that the hint did not choose, which would have marked it as taken.
    fn try_given(
        &self,
        scope: &Scope,
        address: IpAddr,
        record: &Record,
    ) -> Result<Option<Allocation>, StoreError> {
        self.store.state.change_occupancy(scope, &self.deadline, |hint| hint.take(address))?;
        self.try_shown(scope, address, record)
    }

    /// Tries one candidate, and lets Whereabouts see it if it is to.
    fn try_shown(
        &self,
        scope: &Scope,
        address: IpAddr,
        record: &Record,
    ) -> Result<Option<Allocation>, StoreError> {
        match self.try_claim(scope, address, record)? {
            Some(claimed) => self.show_claimed(claimed),
            None => Ok(None),
        }
    }

    /// Tries one candidate. Returns `None` when another attachment holds it, or when this
    /// attachment already holds it.
    fn try_claim(
        &self,
        scope: &Scope,
        address: IpAddr,
        record: &Record,
    ) -> Result<Option<Allocation>, StoreError> {
        let store = self.store;
        let hash = names::of_attachment(&record.attachment);
        let mut object = IpAllocation::new(scope, address, record, store.machine.as_deref());
        object.spec.node_uid.clone_from(&store.node_uid);
        if scope.used_claim().is_some()
            && let Some(held) = store.used.borrow().iter().find(|held| held.address == address)
        {
            ClaimObject::note_on(held, &mut object.metadata);
        }
        let earlier = store.state.object(&hash, &object.metadata.name)?;
        // An intent whose request may still be under way.
        let open = earlier.as_ref().filter(|earlier| earlier.metadata.resource_version.is_none());
        if let Some(earlier) = open {
            // Repeats the same intent: whichever attempt the server handles, the object is the
            // same.
            object.spec.since = earlier.spec.since.clone();
            object.spec.view = earlier.spec.view.clone();
            object.spec.node_uid.clone_from(&earlier.spec.node_uid);
        }
        let open = open.is_some();
        let name = &object.metadata.name;
        store.state.put(&hash, &object)?;
        match store.api.create(&object, &self.deadline) {
            Ok(Created::Made { object: made, outcome_unknown }) => {
                self.note_answer(&made, record);
                if open || outcome_unknown {
                    self.track_duplicate_create(&object, made.metadata.uid.as_deref());
                }
                let allocation = made.allocation().map_err(|unreadable| unreadable.of(name))?;
                Ok(Some(allocation))
            }
            Ok(Created::Taken { maybe_ours }) => {
                self.taken(&object, record, earlier, open || maybe_ours)
            }
            Err(Failed { error, outcome_unknown }) => {
                // If the object was certainly not created, nothing has to be remembered.
                if !outcome_unknown && !open {
                    self.take_back_intent(&hash, name, earlier)?;
                    store
                        .state
                        .change_occupancy(scope, &self.deadline, |hint| hint.free(address))?;
                }
                Err(error)
            }
        }
    }

    /// Handles a name that was taken: by another attachment, by this attachment for another part of
    /// its ADD, or by an attempt whose answer was lost.
    fn taken(
        &self,
        object: &IpAllocation,
        record: &Record,
        earlier: Option<IpAllocation>,
        maybe_ours: bool,
    ) -> Result<Option<Allocation>, StoreError> {
        let (name, hash) = (&object.metadata.name, names::of_attachment(&record.attachment));
        let current = if maybe_ours || earlier.is_some() {
            self.current(name, &record.attachment)?
        } else {
            None
        };
        let uid = current.as_ref().and_then(|current| Some(current.version.as_ref()?.uid.clone()));
        let known = earlier.as_ref().and_then(IpAllocation::version).map(|version| version.uid);
        if known.is_some() && known == uid {
            self.take_back_intent(&hash, name, earlier)?;
            return Ok(None);
        }
        if maybe_ours {
            self.track_duplicate_create(object, uid.as_deref());
        }
        match current {
            Some(current) => self.adopt(current, object, record).map(Some),
            None => self.store.state.drop_object(&hash, name).map(|()| None),
        }
    }

    /// Takes over an object that is already ours, from an attempt whose answer was lost. An object
    /// of an earlier call gets the fields of this call, because a tombstone may be waiting to
    /// delete exactly that object.
    fn adopt(
        &self,
        current: Allocation,
        wanted: &IpAllocation,
        record: &Record,
    ) -> Result<Allocation, StoreError> {
        let Some(version) = current.version.clone() else {
            return Err(StoreError::Changed);
        };
        let mut found = IpAllocation::new(
            &current.scope,
            current.address,
            &current.record,
            self.store.machine.as_deref(),
        );
        found.spec.node_uid.clone_from(&wanted.spec.node_uid);
        if found.spec == wanted.spec {
            found.metadata.uid = Some(version.uid);
            found.metadata.resource_version = Some(version.revision);
            self.note_answer(&found, record);
            return Ok(current);
        }
        match self.change(&current, record, version)? {
            Rehome::Done(allocation) => Ok(allocation),
            Rehome::Changed => Err(StoreError::Changed),
        }
    }

    /// Returns the next candidate, or `None` when all of them are held.
    pub(super) fn choose(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        misses: u32,
        began: SystemTime,
    ) -> Result<Option<IpAddr>, StoreError> {
        let (state, order) = (&self.store.state, self.store.order);
        let missed = 0 < misses;
        let listed = missed && self.list_after(scope, candidates, misses, began);
        let mut random = self.store.random();
        let mut chosen = None;
        let wants_a_listing = state.change_occupancy(scope, &self.deadline, |hint| {
            let now = self.store.now();
            if order == AllocationOrder::Auto
                && !missed
                && hint.is_worth_listing(candidates, false, now)
            {
                return true;
            }
            let elsewhere = match order {
                AllocationOrder::Auto => missed && !listed,
                AllocationOrder::Spread => missed || !hint.is_spread(now),
                AllocationOrder::Lowest => false,
            };
            if elsewhere {
                hint.go_elsewhere(candidates, now, &mut random);
            }
            chosen = hint.choose(candidates, now);
            false
        })?;
        if wants_a_listing {
            self.refresh_listing(scope, None);
            chosen = state.change_occupancy(scope, &self.deadline, |hint| {
                hint.choose(candidates, self.store.now())
            })?;
        }
        if chosen.is_some() {
            return Ok(chosen);
        }
        self.list_twice(scope, candidates, began)
    }

    /// Lists the scope after this many misses, if a listing is due before the next guess. Returns
    /// whether the lowest free candidate is then no longer a guess.
    fn list_after(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        misses: u32,
        began: SystemTime,
    ) -> bool {
        let (believed, now, order) =
            (self.store.state.occupancy(scope), self.store.now(), self.store.order);
        if order == AllocationOrder::Auto && believed.is_worth_listing(candidates, true, now) {
            self.refresh_listing(scope, None);
            return true;
        }
        // Drawing does not find the lowest free address.
        let tried = MOST_TRIES <= misses
            || candidates.count() <= TRIED * u128::from(misses)
            || order == AllocationOrder::Lowest;
        if tried {
            self.refresh_listing(scope, Some(began).filter(|_| MAX_MISSES_BEFORE_LIST <= misses));
        }
        false
    }

    /// Lists the scope if its last listing is old or, with `since`, if it was not listed after that
    /// time. Without a new listing, the next candidate is a guess like the one before.
    fn refresh_listing(&self, scope: &Scope, since: Option<SystemTime>) {
        let is_wanted = |believed: &Occupancy| {
            let now = self.store.now();
            believed.is_old(now) || since.is_some_and(|since| !believed.is_listed_since(since, now))
        };
        // The other half of the time is left for the claim, whatever the listing does.
        let share = Deadline::after(self.deadline.left() / 2);
        if let Err(error) = self.store.list_scope(scope, &is_wanted, &share) {
            tracing::debug!(%error, "the scope could not be listed before the next claim");
        }
    }

    /// Lists a scope in which every candidate is believed to be held. Returns `None` only after two
    /// fresh listings, by one process of the node at a time. The node then believes for some
    /// seconds that the range is full, so that not every pod that waits for it lists it.
    fn list_twice(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        began: SystemTime,
    ) -> Result<Option<IpAddr>, StoreError> {
        let (store, state) = (self.store, &self.store.state);
        let _lock = state.lock_listing(scope, &self.deadline)?;
        let choose = |hint: &mut Occupancy| hint.choose(candidates, store.now());
        if state.occupancy(scope).is_full(candidates, store.now()) {
            return Ok(None);
        }
        for since in [Some(began), None] {
            if since.is_none_or(|since| !state.occupancy(scope).is_listed_since(since, store.now()))
            {
                store.list_scope_locked(scope, &self.deadline)?;
            }
            if let Some(chosen) = state.change_occupancy(scope, &self.deadline, choose)? {
                return Ok(Some(chosen));
            }
            if since.is_some() {
                retry::pause(&self.deadline, SECOND_LISTING);
            }
        }
        if self.sweep_earlier_boots(scope, candidates)?
            && let Some(chosen) = state.change_occupancy(scope, &self.deadline, choose)?
        {
            return Ok(Some(chosen));
        }
        let longer = u32::try_from(store.random()(1000)).unwrap_or(0);
        let until = store.now() + BELIEVED + BELIEVED * longer / 1000;
        state.change_occupancy(scope, &self.deadline, |hint| hint.mark_full(until))?;
        Ok(None)
    }
}

impl KubeStore {
    /// Reads which addresses of a scope are held. Only one process of this node does so at a time.
    /// When its turn comes, `is_wanted` tells whether the listing is still needed.
    pub(super) fn list_scope(
        &self,
        scope: &Scope,
        is_wanted: &dyn Fn(&Occupancy) -> bool,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let _lock = self.state.lock_listing(scope, deadline)?;
        if is_wanted(&self.state.occupancy(scope)) {
            self.list_scope_locked(scope, deadline)
        } else {
            Ok(())
        }
    }

    fn list_scope_locked(&self, scope: &Scope, deadline: &Deadline) -> Result<(), StoreError> {
        let before = self.state.occupancy(scope);
        let mut listed = Occupancy::default();
        let began = self.now();
        let selector = format!("{}={}", names::SCOPE, names::of_scope(scope));
        self.api.names(PLURAL, &selector, deadline, &mut |name| {
            if let Some(address) = names::parse(name) {
                listed.take(address);
            }
        })?;
        let took = self.now().duration_since(began).unwrap_or_default();
        self.state
            .change_occupancy(scope, deadline, |hint| hint.replace(&before, listed, began, took))
    }

    /// Returns a function that draws a number below its argument.
    fn random(&self) -> impl FnMut(u128) -> u128 {
        // On a machine that gives no randomness every draw is the same. That costs more misses and
        // nothing else.
        let seed = self.state.disk().random().unwrap_or_default();
        let mut state = u128::from_be_bytes(seed);
        move |below| {
            // One step of a linear congruential generator, with the high half in front.
            state = state
                .wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645)
                .wrapping_add(0x5851_f42d_4c95_7f2d_1405_7b7e_f767_814f);
            state.rotate_right(64) % below.max(1)
        }
    }
}
