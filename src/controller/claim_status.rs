//! What a claim's status says: the name of its answer, or why there is none.

use super::conditions::{ALLOCATION_FAILED, READY, Told, merged};
use super::decide::Reason;
use super::events::Regarding;
use super::requests::Failure;
use super::shapes::CLAIM;
use super::state::{Claim, Name};
use super::watches;
use super::work::{Controller, Outcome, now};
use serde_json::json;
use std::time::Duration;

impl Controller {
    /// Says in the claim's condition why it has no address.
    pub(super) async fn explain(&self, name: &Name, claim: &Claim, reason: &Reason) -> Outcome {
        if let Some(pool) = &claim.pool {
            self.state.borrow_mut().wait(pool, name);
        }
        let ready = claim.conditions.iter().find(|condition| condition.kind == READY);
        let is_said = ready.is_some_and(|ready| {
            (ready.status.as_str(), ready.reason.as_str(), &ready.message)
                == ("False", reason.reason, &reason.message)
        });
        if is_said || !self.state.borrow().has_conditions {
            return Ok(None);
        }
        // Another text of the same reason is in the condition, and is not worth an event.
        let is_turn =
            ready.is_none_or(|ready| (&*ready.status, &*ready.reason) != ("False", reason.reason));
        let told = Told {
            kind: READY,
            is_true: false,
            reason: reason.reason,
            message: reason.message.clone(),
        };
        let conditions = merged(&claim.conditions, &[told], claim.generation, now());
        let patch =
            json!({"metadata": {"uid": &*claim.version.uid}, "status": {"conditions": conditions}});
        match self.patch_claim_status(name, &patch).await {
            Ok(()) if !is_turn => Ok(None),
            Ok(()) => {
                let version = self.requests.claims.api_version.clone();
                let regarding = Regarding::object(version, CLAIM, name, &claim.version.uid);
                self.send_event(&regarding, true, "Allocate", reason.reason, &reason.message).await;
                Ok(None)
            }
            Err(Failure::Gone) => Ok(None),
            Err(Failure::Changed) => Ok(Some(Duration::from_millis(50))),
            Err(failure) => Err(failure),
        }
    }

    /// Says that the API server refuses a write without which a claim gets no answer, or does not
    /// end: in its condition, and by an event if its status cannot be written either.
    pub(super) async fn explain_refusal(&self, name: &Name, failure: &Failure) {
        let claim = self.state.borrow().claim(name).filter(|claim| claim.is_open()).cloned();
        let Some(claim) = claim else { return };
        let reason = Reason { reason: ALLOCATION_FAILED, message: failure.to_string() };
        if let Err(Failure::Refused { .. }) = self.explain(name, &claim, &reason).await {
            let version = self.requests.claims.api_version.clone();
            let regarding = Regarding::object(version, CLAIM, name, &claim.version.uid);
            self.send_event(&regarding, true, "Allocate", reason.reason, &reason.message).await;
        }
    }

    /// Names the answer in the claim's status.
    pub(super) async fn publish(&self, name: &Name, claim: &Claim) -> Result<(), Failure> {
        if let Some(pool) = &claim.pool {
            self.state.borrow_mut().stop_waiting(pool, name);
        }
        let mut status = json!({"addressRef": {"name": &*name.name}});
        if self.state.borrow().has_conditions {
            let address = self.state.borrow().answer(name).and_then(|answer| answer.address);
            let message = address.map(|address| format!("has {address}")).unwrap_or_default();
            let told = Told { kind: READY, is_true: true, reason: "AddressAllocated", message };
            let all = merged(&claim.conditions, &[told], claim.generation, now());
            status["conditions"] = json!(all);
        }
        let patch = json!({"metadata": {"uid": &*claim.version.uid}, "status": status});
        self.patch_claim_status(name, &patch).await
    }

    async fn patch_claim_status(
        &self,
        name: &Name,
        patch: &serde_json::Value,
    ) -> Result<(), Failure> {
        let api = self.requests.claims(&name.namespace);
        let object =
            self.requests.patch_status(&api, "ipaddressclaims/status", &name.name, patch).await?;
        self.apply(|state| watches::claim(state, &object));
        Ok(())
    }
}
