//! Adopts answers that others wrote, and frees IPAllocations whose claim is gone.

use super::pool::PoolId;
use super::requests::Failure;
use super::shapes::{ADDRESS, CLAIM, IPAM};
use super::state::{Answer, ClaimHolder, Holder, Holding, Name, PoolState, State, Work};
use super::work::{Again, Controller, Outcome, now};
use crate::ipam::adoption::Adoption;
use crate::ipam::{ClaimAllocation, IPAM_CLAIM, ObjectRef, Source};
use crate::store::kube::objects::claim_object::ClaimObject;
use crate::store::kube::objects::names;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// A pause until the watch has told more.
const SOON: Duration = Duration::from_secs(1);
/// How long an answer is without a claim before that is said. A claim may be on its way.
const LEFT_FOR: Duration = Duration::from_secs(30);

impl Controller {
    /// Makes sure that the address of an answer is held, so that it is never given again: also of
    /// an answer that somebody else wrote, such as an earlier provider, `clusterctl move`, or a
    /// backup.
    pub(super) async fn adopt(&self, name: &Name) -> Outcome {
        let Some((object, holder)) = self.adoption(name) else {
            return Ok(None);
        };
        let now = Instant::now();
        let held =
            self.state.borrow().held.named(&object.metadata.name).map(|held| held.holder.clone());
        // If no watch has told of it by then, nobody holds it.
        let held = held.filter(|held| !matches!(held, Holder::Unknown(until) if *until <= now));
        let recorded = held.as_ref().map(Holder::recorded);
        // Whether somebody holds it will be told soon.
        if matches!(recorded, Some(None)) {
            return Ok(Some(SOON));
        }
        let recorded = recorded.flatten();
        match Adoption::of(&name.namespace, &name.name, recorded.as_ref()) {
            Adoption::Held => {
                self.state.borrow_mut().conflicts.remove(name);
                Ok(self.name_if_left(name, object.spec.address))
            }
            Adoption::Conflict => {
                let other = recorded.map(|other| other.told()).unwrap_or_default();
                self.conflict(name, &object, &other);
                Ok(None)
            }
            Adoption::New => match self.create_allocation(&object, holder).await? {
                true => {
                    self.metrics.adopted();
                    tracing::info!("adopted {ADDRESS} {name} with {}", object.spec.address);
                    self.add([Work::Claim(name.clone())]);
                    Ok(self.name_if_left(name, object.spec.address))
                }
                false => Ok(Some(SOON)),
            },
        }
    }

    /// Says once that an answer has had no claim for some time, as after `clusterctl move` of a claim
    /// whose pool has no namespace. Returns when to look again.
    fn name_if_left(&self, name: &Name, address: IpAddr) -> Again {
        let mut state = self.state.borrow_mut();
        if state.claim(name).is_some() {
            return None;
        }
        let (since, is_said) = state.left.entry(name.clone()).or_insert((Instant::now(), false));
        let wait = LEFT_FOR.checked_sub(since.elapsed()).filter(|left| !left.is_zero());
        if wait.is_none() && !std::mem::replace(is_said, true) {
            tracing::warn!(
                "{ADDRESS} {name} stands without its claim, and {address} stays held. If nothing uses it, delete the {ADDRESS} and its finalizer"
            );
        }
        wait
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
        let holder = ClaimHolder {
            kind: kind.to_owned(),
            uid,
            name: name.clone(),
            pool: Some(Rc::clone(&id)),
            prefix: answer.prefix,
            gateway: answer.gateway,
            is_ending: false,
            later_format: None,
        };
        let object = allocation(&holder, &id, pool, address, Source::Dynamic);
        Some((object, holder))
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
        if holder.kind != IPAM_CLAIM && seems_needed(&self.state.borrow(), name, &holder) {
            return Ok(None);
        }
        if let Some(text) = holder.of_later_version(name) {
            if self.state.borrow_mut().later.insert(name.into()) {
                tracing::warn!("{text}");
            }
            return Ok(None);
        }
        if holder.kind == IPAM_CLAIM {
            return self.see_to_held(name, &version, &holder).await;
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

/// Returns the IPAllocation with which a holder gets an address of a pool.
pub(super) fn allocation(
    holder: &ClaimHolder,
    id: &PoolId,
    pool: &PoolState,
    address: IpAddr,
    source: Source,
) -> ClaimObject {
    ClaimObject::new(&ClaimAllocation {
        scope: pool.scope.clone(),
        address,
        prefix: holder.prefix,
        gateway: holder.gateway,
        since: now(),
        source,
        claim: ObjectRef {
            api_group: IPAM.to_owned(),
            kind: holder.kind.clone(),
            namespace: Some(holder.name.namespace.to_string()),
            name: holder.name.name.to_string(),
            uid: holder.uid.to_string(),
        },
        pool: Some(ObjectRef {
            api_group: id.kind.group().to_owned(),
            kind: id.kind.name().to_owned(),
            namespace: Some(id.namespace.clone()).filter(|text| !text.is_empty()),
            name: id.name.clone(),
            uid: pool.version.uid.to_string(),
        }),
        is_ending: false,
        version: None,
    })
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
