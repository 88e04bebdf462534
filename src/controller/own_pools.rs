//! Keeps the finalizer and the status of IPPools of hereabouts.

use super::census::{Census, FEW, Group, census};
use super::conditions::{READY, Told};
use super::events::Regarding;
use super::overlaps;
use super::own_status::{self, Numbers, Readiness};
use super::pool::PoolId;
use super::requests::Failure;
use super::state::{OwnPool, PoolState, State, Work};
use super::watches;
use super::work::{Controller, Outcome, now};
use crate::store::kube::objects::ip_pool_status::Status;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the numbers of a pool stay as they are after each write. Whatever reads pools gets each
/// write.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a pool that is being deleted must hold nothing before it goes: longer than a node gives
/// from its copy of a pool, and an ADD takes after that.
const QUIET: Duration = Duration::from_secs(120);

impl Controller {
    /// Brings finalizer and status of a pool up to date.
    pub(super) async fn see_to_own_pool(self: &Rc<Self>, id: &Rc<PoolId>) -> Outcome {
        let early = self.state.borrow().pool(id).and_then(too_early);
        let is_ending = self.state.borrow().pool(id).is_some_and(|pool| pool.is_ending);
        if let Some(pause) = early {
            self.plan(id, pause);
            // The end of a pool is not put off by its status.
            if !is_ending {
                return Ok(None);
            }
        }
        let known = self.state.borrow().pool(id).cloned();
        let Some(pool) = known.filter(|pool| !pool.is_paused) else { return Ok(None) };
        let Some(own) = pool.own.clone() else { return Ok(None) };
        if !pool.is_ending && !pool.is_protected() {
            self.set_own_finalizers(id, &pool, &pool.protected()).await?;
            // The change makes the next look.
            return Ok(None);
        }
        let census = census(&self.state.borrow(), id, &pool, &own.extent);
        let quiet = match pool.is_ending && pool.is_protected() {
            true => self.quiet_for(id, &census),
            false => None,
        };
        if quiet.is_some_and(|quiet| quiet.is_zero()) {
            tracing::info!("{id} holds nothing any more, and goes");
            self.set_own_finalizers(id, &pool, &pool.unprotected()).await?;
            return Ok(None);
        }
        if early.is_none() {
            self.write_own_status(id, &pool, &own, &census).await?;
        }
        Ok(quiet)
    }

    /// Looks at a pool after this time, once.
    pub(super) fn plan(self: &Rc<Self>, id: &Rc<PoolId>, pause: Duration) {
        if !self.planned.borrow_mut().insert(Rc::clone(id)) {
            return;
        }
        let (this, id) = (Rc::clone(self), Rc::clone(id));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pause).await;
            this.planned.borrow_mut().remove(&id);
            this.add([Work::Pool(id)]);
        });
    }

    /// Returns how long a pool that is being deleted has to hold nothing until it goes; `None`
    /// while it holds something.
    fn quiet_for(&self, id: &PoolId, census: &Census) -> Option<Duration> {
        let mut state = self.state.borrow_mut();
        let is_answered = 0 < state.answer_count(id);
        let is_used = 0 < census.holders.count || census.is_asked || may_have_slices(&state, id);
        let known = state.pool_mut(id)?;
        if is_used || is_answered {
            known.empty_since = None;
            return None;
        }
        let since = *known.empty_since.get_or_insert_with(Instant::now);
        Some(QUIET.saturating_sub(since.elapsed()))
    }

    async fn set_own_finalizers(
        &self,
        id: &PoolId,
        pool: &PoolState,
        finalizers: &[String],
    ) -> Result<(), Failure> {
        let patch = pool.version.patch(json!({"finalizers": finalizers}));
        let api = self.requests.own_pools();
        let object = self.requests.patch(&api, id.kind.plural(), &id.name, &patch).await?;
        self.apply(|state| watches::own_pool(state, &object));
        Ok(())
    }

    async fn write_own_status(
        &self,
        id: &Rc<PoolId>,
        pool: &PoolState,
        own: &OwnPool,
        census: &Census,
    ) -> Result<(), Failure> {
        let told = self.conditions(id, pool, census);
        // What a pool with a mistake gives is not known.
        let numbers = match (&pool.supply, own.slices) {
            (Err(_), _) => Numbers::Unknown,
            (Ok(_), None) => Numbers::Addresses(census),
            (Ok(_), Some(_)) => {
                Numbers::Slices(census, self.state.borrow().slice_numbers(id, pool))
            }
        };
        let status = own_status::status(&own.status, &told, numbers, own.generation, now());
        if status == own.status {
            return Ok(());
        }
        if let Some(known) = self.state.borrow_mut().pool_mut(id) {
            known.written_at = Some(Instant::now());
        }
        let patch = json!({
            "metadata": {"uid": &*pool.version.uid, "resourceVersion": &*pool.version.revision},
            "status": change(&own.status, &status),
        });
        let api = self.requests.own_pools();
        let object = self.requests.patch_status(&api, id.kind.status(), &id.name, &patch).await?;
        self.apply(|state| watches::own_pool(state, &object));
        if !own_status::is_older_than(own.status.writer.as_deref()) {
            let regarding = Regarding::pool(id, &pool.version.uid);
            for told in own_status::turned(&own.status, &told) {
                self.tell(&regarding, told).await;
            }
        }
        Ok(())
    }

    fn conditions(&self, id: &PoolId, pool: &PoolState, census: &Census) -> Vec<Told> {
        let readiness = match (&pool.supply, pool.is_ending) {
            (_, true) => Readiness::Deleting(self.waits(id, pool, census)),
            (Err(mistake), false) => Readiness::Invalid(mistake.clone()),
            (Ok(_), false) => Readiness::Ready,
        };
        let mut told = vec![own_status::ready(&readiness)];
        if pool.supply.is_err() {
            return told;
        }
        let state = self.state.borrow();
        if pool.scope.is_of_slices() {
            told.extend(state.slice_numbers(id, pool).as_ref().map(own_status::full_of_slices));
            told.extend(overlaps::told(&state, id, pool));
        } else {
            let names = holders(&state, pool, &census.outside);
            told.push(own_status::full(census));
            told.extend(overlaps::told(&state, id, pool));
            told.push(own_status::draining(&census.outside, &names));
        }
        told
    }

    /// Returns what a pool waits for that is being deleted.
    fn waits(&self, id: &PoolId, pool: &PoolState, census: &Census) -> String {
        let state = self.state.borrow();
        if may_have_slices(&state, id) {
            let taken: Vec<String> = state
                .slices_of(&id.name)
                .take(FEW)
                .map(|slice| format!("{} ({})", slice.block, slice.node))
                .collect();
            return own_status::waits_for_slices(state.slices_of(&id.name).count(), &taken);
        }
        let names = holders(&state, pool, &census.holders);
        own_status::waits(&census.holders, &names, QUIET.as_secs())
    }
}

/// Returns whether a pool has a slice, or may have one, because not all slices have been read.
fn may_have_slices(state: &State, id: &PoolId) -> bool {
    let is_known =
        state.has_read_slices() || state.pool(id).is_none_or(|pool| !pool.scope.is_of_slices());
    !is_known || state.slices_of(&id.name).next().is_some()
}

/// Returns the first holders of a group, for people.
fn holders(state: &State, pool: &PoolState, group: &Group) -> Vec<String> {
    let named = |address: &IpAddr| {
        let holding = state.held.get(&pool.scope_label, *address);
        match holding.and_then(|holding| holding.holder.told()) {
            Some(holder) => format!("{address} ({holder})"),
            None => address.to_string(),
        }
    };
    group.first.iter().map(named).collect()
}

/// Returns how long a look at a pool has to wait, because its status was written a short time ago.
/// What pods and claims change waits. What a person changes does not: a person waits for it.
fn too_early(pool: &PoolState) -> Option<Duration> {
    let own = pool.own.as_ref()?;
    let left = PAUSE.checked_sub(pool.written_at?.elapsed()).filter(|left| !left.is_zero())?;
    let is_old = own_status::is_older_than(own.status.writer.as_deref());
    let ready = own.status.conditions.iter().find(|found| found.kind == READY)?;
    let expected = match (&pool.supply, pool.is_ending) {
        (_, true) => "Deleting",
        (Err(_), false) => "Invalid",
        (Ok(_), false) => "Ready",
    };
    let is_told =
        own.status.observed_generation == Some(own.generation) && ready.reason == expected;
    let may_wait = (is_told || is_old) && (pool.is_ending || pool.is_protected());
    may_wait.then_some(left)
}

/// Returns the merge patch of a status. Only null removes a key.
fn change(before: &Status, after: &Status) -> Value {
    let mut change = json!(after);
    if let (Value::Object(change), Value::Object(before)) = (&mut change, json!(before)) {
        for key in before.keys() {
            change.entry(key).or_insert(Value::Null);
        }
    }
    change
}
