//! Adopts answers that others wrote, and frees IPAllocations whose claim is gone.

use super::claims::{allocation_name, now, object_of};
use super::requests::Failure;
use super::shapes::{ADDRESS, CLAIM, IPAM};
use super::state::{Answer, ClaimHolder, Holder, Holding, Name, State, Work};
use super::work::{Controller, Outcome};
use crate::ipam::{ClaimAllocation, ObjectRef, Source};
use crate::store::kube::objects::claim_object::ClaimObject;
use crate::store::kube::objects::names;
use std::rc::Rc;
use std::time::Duration;

/// A pause until the watch has told more.
const SOON: Duration = Duration::from_secs(1);

impl Controller {
    /// Makes sure that the address of an answer is held, so that it is never given again: also of
    /// an answer that somebody else wrote, such as an earlier provider, `clusterctl move`, or a
    /// backup.
    pub(super) async fn adopt(&self, name: &Name) -> Outcome {
        let Some((object, holder)) = self.adoption(name) else {
            return Ok(None);
        };
        let held =
            self.state.borrow().held.named(&object.metadata.name).map(|held| held.holder.clone());
        match held {
            Some(Holder::Claim(holder)) if holder.name == *name => {
                self.state.borrow_mut().conflicts.remove(name);
                Ok(None)
            }
            Some(Holder::Asked(_) | Holder::Unknown(_)) => Ok(Some(SOON)),
            Some(Holder::Claim(other)) => {
                self.conflict(name, &object, &format!("{} {}", other.kind, other.name));
                Ok(None)
            }
            Some(Holder::Attachment) => {
                self.conflict(name, &object, "a pod");
                Ok(None)
            }
            None => match self.create_allocation(&object, holder).await? {
                true => {
                    tracing::info!("adopted {ADDRESS} {name} with {}", object.spec.address);
                    self.add([Work::Claim(name.clone())]);
                    Ok(None)
                }
                false => Ok(Some(SOON)),
            },
        }
    }

    fn conflict(&self, name: &Name, object: &ClaimObject, holder: &str) {
        let text =
            format!("{ADDRESS} {name} has {}, which is held by {holder}", object.spec.address);
        let before = self.state.borrow_mut().conflicts.insert(name.clone(), text.clone());
        if before.as_ref() != Some(&text) {
            tracing::error!("{text}: two may use this address; delete one of them");
        }
    }

    /// Returns the IPAllocation that an answer needs.
    fn adoption(&self, name: &Name) -> Option<(ClaimObject, ClaimHolder)> {
        let state = self.state.borrow();
        let answer = state.answer(name)?;
        let id = answer.pool.clone()?;
        let pool = state.pool(&id)?;
        let address = answer.address?;
        let (kind, uid) = holder_of(&state, name, answer);
        let held = ClaimAllocation {
            scope: pool.scope.clone(),
            address,
            prefix: answer.prefix,
            gateway: answer.gateway,
            since: now(),
            source: Source::Dynamic,
            claim: ObjectRef {
                api_group: IPAM.to_owned(),
                kind: kind.to_owned(),
                namespace: Some(name.namespace.to_string()),
                name: name.name.to_string(),
                uid: uid.to_string(),
            },
            pool: object_of(&id, &pool.version.uid),
            version: None,
        };
        debug_assert_eq!(
            allocation_name(&held.scope, address),
            ClaimObject::new(&held).metadata.name
        );
        let holder = ClaimHolder {
            kind: kind.to_owned(),
            uid,
            name: name.clone(),
            pool: Some(id),
            prefix: answer.prefix,
            gateway: answer.gateway,
        };
        Some((ClaimObject::new(&held), holder))
    }

    /// Frees the IPAllocation of a claim that is gone, or that has another address.
    ///
    /// The API server is asked each time: what the watches told may be old, and an address that is
    /// freed too early gets a second holder.
    pub(super) async fn see_to_allocation(&self, name: &str) -> Outcome {
        let holding = self.state.borrow().held.named(name).cloned();
        let Some(Holding { version, holder: Holder::Claim(holder) }) = holding else {
            return Ok(None);
        };
        if seems_needed(&self.state.borrow(), name, &holder) {
            return Ok(None);
        }
        let Some((_, address)) = names::split(name) else {
            return Ok(None);
        };
        let claim = &holder.name;
        let answers = self.requests.answers(&claim.namespace);
        let answer = self.requests.get(&answers, &claim.name).await?;
        let answer = answer.map(|object| Answer::of(&object, None));
        if answer.as_ref().is_some_and(|answer| answer.address == Some(address)) {
            return Ok(None);
        }
        if holder.kind == CLAIM {
            let claims = self.requests.claims(&claim.namespace);
            let lives = self.requests.get(&claims, &claim.name).await?;
            let lives =
                lives.is_some_and(|object| object.metadata.uid.as_deref() == Some(&*holder.uid));
            let has_other =
                answer.is_some_and(|answer| answer.claim_uid == Some(Rc::clone(&holder.uid)));
            if lives && !has_other {
                return Ok(None);
            }
        }
        match self.free(name, &version).await {
            Ok(()) => {
                tracing::info!("freed {name}: {} {claim} does not have it", holder.kind);
                Ok(None)
            }
            Err(Failure::Changed) => Ok(Some(SOON)),
            Err(failure) => Err(failure),
        }
    }
}

/// Returns for whom the address of an answer is held: its claim, or the answer itself if nobody
/// claims it.
fn holder_of(state: &State, name: &Name, answer: &Answer) -> (&'static str, Rc<str>) {
    let claim = state.claim(name).map(|claim| Rc::clone(&claim.version.uid));
    match answer.claim_uid.clone().or(claim) {
        Some(uid) => (CLAIM, uid),
        None => (ADDRESS, Rc::clone(&answer.version.uid)),
    }
}

/// Returns whether the IPAllocation is needed, by what the watches told.
fn seems_needed(state: &State, name: &str, holder: &ClaimHolder) -> bool {
    let address = names::split(name).map(|(_, address)| address);
    let answer = state.answer(&holder.name);
    if answer.is_some_and(|answer| answer.address == address) {
        return true;
    }
    let claim = state.claim(&holder.name).filter(|claim| claim.version.uid == holder.uid);
    claim.is_some() && answer.is_none_or(|answer| answer.claim_uid != Some(Rc::clone(&holder.uid)))
}
