//! Keeps the finalizer and the numbers of pools of Cluster API.

use super::events::Regarding;
use super::pool::{PoolId, PoolKind, Supply};
use super::requests::Failure;
use super::shapes::{Numbers, SCOPE_IN_USE};
use super::state::{Holder, PoolState, State};
use super::watches;
use super::work::{Controller, Outcome};
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the numbers of a pool stay as they are after each write.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a pool must hold nothing before its scope changes: longer than any request, so that
/// nothing is on its way in the old scope.
const EMPTY_FOR: Duration = Duration::from_secs(120);

impl Controller {
    /// Brings finalizer, scope and numbers of a pool up to date.
    pub(super) async fn see_to_pool(self: &Rc<Self>, id: &Rc<PoolId>) -> Outcome {
        let done = match id.kind {
            PoolKind::Own => self.see_to_own_pool(id).await,
            // The provider writes the same, and what it writes must not be mixed with this.
            kind if !self.state.borrow().serves(kind) => return Ok(None),
            PoolKind::InCluster | PoolKind::GlobalInCluster => {
                let done = self.see_to_machines_pool(id).await;
                self.tell_of_pool(id).await;
                done
            }
        };
        match done {
            Err(Failure::Changed) => Ok(Some(Duration::from_millis(50))),
            Err(Failure::Gone) => Ok(None),
            Err(failure @ Failure::Refused { .. }) => {
                self.tell_refusal(id, &failure).await;
                Err(failure)
            }
            other => other,
        }
    }

    /// Says by an event about a pool which write of it the API server refuses: its status may be
    /// what is refused.
    async fn tell_refusal(&self, id: &PoolId, failure: &Failure) {
        let uid = self.state.borrow().pool(id).map(|pool| Rc::clone(&pool.version.uid));
        if let Some(uid) = uid {
            let regarding = Regarding::pool(id, &uid);
            self.send_event(&regarding, true, "Update", "Refused", &failure.to_string()).await;
        }
    }

    async fn see_to_machines_pool(&self, id: &Rc<PoolId>) -> Outcome {
        let Some(pool) = self.state.borrow().pool(id).cloned() else {
            return Ok(None);
        };
        if pool.is_paused {
            return Ok(None);
        }
        if pool.is_ending {
            self.let_go(id, &pool).await
        } else if !pool.is_protected() {
            self.protect_pool(id, &pool).await
        } else if let Some(pause) = self.wait_for_scope(id, &pool) {
            // The numbers are written at the next look, at the latest.
            self.write_numbers(id, &pool)
                .await
                .map(|other| Some(other.map_or(pause, |other| other.min(pause))))
        } else if pool.wished.is_some() {
            self.change_scope(id, &pool).await
        } else {
            self.write_numbers(id, &pool).await
        }
    }

    /// Takes the finalizer off a pool that ends and that nobody uses.
    async fn let_go(&self, id: &PoolId, pool: &PoolState) -> Outcome {
        if !pool.is_protected() || is_used(&self.state.borrow(), id, pool) {
            return Ok(None);
        }
        self.patch_pool(id, pool, json!({"finalizers": pool.unprotected()})).await
    }

    async fn protect_pool(&self, id: &PoolId, pool: &PoolState) -> Outcome {
        let mut change = json!({"finalizers": pool.protected()});
        // Before the first answer, the scope is free to choose.
        if let Some(wished) = &pool.wished
            && !is_used(&self.state.borrow(), id, pool)
        {
            change["annotations"] = json!({SCOPE_IN_USE: wished.name()});
        }
        self.patch_pool(id, pool, change).await
    }

    /// Returns how long a pool has to wait for the scope that it asks for.
    fn wait_for_scope(&self, id: &PoolId, pool: &PoolState) -> Option<Duration> {
        let wished = pool.wished.as_ref()?;
        let is_used = is_used(&self.state.borrow(), id, pool);
        let mut state = self.state.borrow_mut();
        let known = state.pool_mut(id)?;
        if is_used {
            known.empty_since = None;
            tracing::warn!(
                "{id} asks for the scope {wished}, and its claims hold addresses in {}: it changes when none does",
                pool.scope
            );
            return Some(EMPTY_FOR);
        }
        let since = *known.empty_since.get_or_insert_with(Instant::now);
        EMPTY_FOR.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }

    async fn change_scope(&self, id: &PoolId, pool: &PoolState) -> Outcome {
        let wished = pool.wished.as_ref().filter(|scope| **scope != id.own_scope());
        let name = wished.and_then(|scope| scope.name());
        self.patch_pool(id, pool, json!({"annotations": {SCOPE_IN_USE: name}})).await
    }

    async fn patch_pool(&self, id: &PoolId, pool: &PoolState, metadata: Value) -> Outcome {
        let api = self.requests.pools(id.kind, &id.namespace);
        let patch = pool.version.patch(metadata);
        let object = self.requests.patch(&api, id.kind.plural(), &id.name, &patch).await?;
        self.apply(|state| watches::pool(state, id.kind, &object));
        Ok(None)
    }

    async fn write_numbers(&self, id: &PoolId, pool: &PoolState) -> Outcome {
        let Ok(supply) = &pool.supply else {
            return Ok(None);
        };
        if let Some(at) = pool.written_at
            && let Some(left) = PAUSE.checked_sub(at.elapsed())
        {
            return Ok(Some(left));
        }
        let numbers = numbers(&self.state.borrow(), id, supply);
        if pool.written == Some(numbers) {
            return Ok(None);
        }
        let patch = json!({
            "metadata": {"uid": &*pool.version.uid},
            "status": {"ipAddresses": numbers},
        });
        if let Some(known) = self.state.borrow_mut().pool_mut(id) {
            known.written_at = Some(Instant::now());
        }
        let api = self.requests.pools(id.kind, &id.namespace);
        let object = self.requests.patch_status(&api, id.kind.status(), &id.name, &patch).await?;
        self.apply(|state| watches::pool(state, id.kind, &object));
        Ok(None)
    }
}

/// Returns whether somebody has an address of the pool.
fn is_used(state: &State, id: &PoolId, pool: &PoolState) -> bool {
    0 < state.answer_count(id)
        || state.held.in_scope(&pool.scope_label).any(|holding| match &holding.holder {
            Holder::Claim(holder) => holder.pool.as_deref() == Some(id),
            Holder::Asked(_) => true,
            Holder::Attachment(_) | Holder::Unknown(_) => false,
        })
}

/// Counts as the provider of Cluster API does: `used` are the answers of the pool, in it or not.
fn numbers(state: &State, id: &PoolId, supply: &Supply) -> Numbers {
    let capped = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
    let used = i64::try_from(state.answer_count(id)).unwrap_or(i64::MAX);
    let total = capped(supply.total());
    let out_of_range =
        state.answers_of(id).filter(|(address, _)| supply.part(*address).is_none()).count();
    Numbers {
        total,
        used,
        free: total.saturating_sub(used),
        out_of_range: i64::try_from(out_of_range).unwrap_or(i64::MAX),
    }
}
