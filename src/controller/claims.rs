//! Answers claims, and releases them: does what [`decide`] says, one write after the other.

use super::allocations::allocation;
use super::decide::{self, Candidate, Step};
use super::pool::PoolId;
use super::requests::Failure;
use super::shapes::{
    ADDRESS, AddressObject, AddressSpec, CLAIM, CLUSTER_NAME, NameRef, PROTECT_ADDRESS, PoolRef,
    RELEASE_ADDRESS,
};
use super::state::{Claim, ClaimHolder, Holder, Holding, Kind, Name, Version, Work};
use super::watches;
use super::work::{Controller, Outcome, now};
use crate::store::kube::objects::claim_object::ClaimObject;
use crate::store::kube::objects::names;
use k8s::api::ObjectMeta;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// The most writes of one look at a claim: more than any claim needs.
const MOST_STEPS: usize = 64;
/// How long it is believed that an address is held, if the API server says so and the watch does
/// not yet.
const UNTOLD: Duration = Duration::from_secs(10);

impl Controller {
    /// Brings a claim as far as it can go now.
    pub(super) async fn see_to_claim(&self, name: &Name) -> Outcome {
        let uid = self.state.borrow().claim(name).map(|claim| Rc::clone(&claim.version.uid));
        let outcome = self.take_steps(name).await;
        if let Some(uid) = uid {
            self.state.borrow_mut().held.forget_promises(&uid);
        }
        if let Err(failure @ Failure::Refused { .. }) = &outcome {
            self.explain_refusal(name, failure).await;
        }
        outcome
    }

    async fn take_steps(&self, name: &Name) -> Outcome {
        let (mut has_looked, mut is_fresh, mut is_held) = (false, false, false);
        for _ in 0..MOST_STEPS {
            let step = decide::claim(&self.state.borrow(), name, now(), Instant::now());
            let Some(claim) = self.state.borrow().claim(name).cloned() else {
                return Ok(None);
            };
            let done = match step {
                Step::Rest => return Ok(None),
                Step::Later(pause) => return Ok(Some(pause)),
                Step::Explain(reason) => return self.explain(name, &claim, &reason).await,
                Step::Protect => {
                    is_fresh = true;
                    self.protect(name, &claim).await
                }
                // What is known of the claim may be old, also before the time to which the API
                // server was set back.
                Step::Hold(_) | Step::Answer { .. } if !is_fresh => {
                    is_fresh = true;
                    self.read_claim(name, &claim).await
                }
                Step::Hold(candidate) => {
                    self.hold(name, &claim, &candidate).await.map(|is_new| is_held = is_new)
                }
                // The same of what is held.
                Step::Answer { address, .. } if !is_held => {
                    is_held = true;
                    self.read_held(&claim, address).await
                }
                Step::Answer { address, prefix, gateway } => {
                    self.answer(name, &claim, address, prefix, gateway).await
                }
                Step::Repair => self.repair(name, &claim).await,
                Step::Publish => self.publish(name, &claim).await,
                Step::Withdraw => self.withdraw(name).await.map(|is_gone| has_looked |= is_gone),
                Step::Free(_) if !has_looked => {
                    has_looked = true;
                    self.read_answer(name).await.map(|_| ())
                }
                Step::Free(_) if self.state.borrow().answer(name).is_some() => {
                    // It belongs to another claim of this name.
                    return Ok(Some(Duration::from_secs(10)));
                }
                Step::Free(held) => {
                    let version =
                        self.state.borrow().held.named(&held).map(|held| held.version.clone());
                    match version {
                        Some(version) => self.free(&held, &version).await,
                        None => Ok(()),
                    }
                }
                Step::Release => self.release(name, &claim).await,
            };
            match done {
                Ok(()) => {}
                // The watch tells what the object is now.
                Err(Failure::Changed | Failure::Gone) => {
                    return Ok(Some(Duration::from_millis(50)));
                }
                Err(failure) => return Err(failure),
            }
        }
        tracing::warn!("claim {name}: no end after {MOST_STEPS} steps");
        Ok(Some(Duration::from_secs(10)))
    }

    async fn protect(&self, name: &Name, claim: &Claim) -> Result<(), Failure> {
        self.promise(name, claim);
        let mut finalizers = claim.finalizers.clone();
        finalizers.push(RELEASE_ADDRESS.to_owned());
        self.set_finalizers(name, claim, &finalizers).await
    }

    /// Keeps an address for a claim that has come, until it is held.
    fn promise(&self, name: &Name, claim: &Claim) {
        let mut state = self.state.borrow_mut();
        let Some(address) = decide::promise(&state, name, Instant::now()) else { return };
        let scope = claim.pool.as_ref().and_then(|id| Some(state.pool(id)?.scope.clone()));
        if let Some(scope) = scope {
            let version = Version::none();
            let holder = Holder::Asked(Rc::clone(&claim.version.uid));
            state.held.insert(&names::object(&scope, address), Holding { version, holder }, true);
        }
    }

    async fn release(&self, name: &Name, claim: &Claim) -> Result<(), Failure> {
        let kept: Vec<String> =
            claim.finalizers.iter().filter(|text| *text != RELEASE_ADDRESS).cloned().collect();
        match self.set_finalizers(name, claim, &kept).await {
            // The last finalizer was the last thing that kept it.
            Ok(()) | Err(Failure::Gone) if kept.is_empty() => {
                self.apply(|state| state.remove(Kind::Claims, name, &claim.version.uid));
                Ok(())
            }
            other => other,
        }
    }

    async fn set_finalizers(
        &self,
        name: &Name,
        claim: &Claim,
        finalizers: &[String],
    ) -> Result<(), Failure> {
        let patch = claim.version.patch(json!({"finalizers": finalizers}));
        let api = self.requests.claims(&name.namespace);
        let object = self.requests.patch(&api, "ipaddressclaims", &name.name, &patch).await?;
        self.apply(|state| watches::claim(state, &object));
        Ok(())
    }

    /// Creates the IPAllocation. From then on, the claim holds the address. Returns whether that was
    /// done.
    async fn hold(
        &self,
        name: &Name,
        claim: &Claim,
        candidate: &Candidate,
    ) -> Result<bool, Failure> {
        let Some(id) = claim.pool.clone() else { return Ok(false) };
        let holder = ClaimHolder {
            kind: CLAIM.to_owned(),
            uid: Rc::clone(&claim.version.uid),
            name: name.clone(),
            pool: Some(Rc::clone(&id)),
            prefix: candidate.prefix,
            gateway: candidate.gateway,
            is_ending: false,
            later_format: None,
        };
        let object = self
            .state
            .borrow()
            .pool(&id)
            .map(|pool| allocation(&holder, &id, pool, candidate.address, candidate.source));
        match object {
            Some(object) => self.create_allocation(&object, holder).await,
            None => Ok(false),
        }
    }

    /// Forgets that a claim holds an address if the API server does not have that IPAllocation any
    /// more: it was set back, and another may hold the address.
    async fn read_held(&self, claim: &Claim, address: IpAddr) -> Result<(), Failure> {
        let held = {
            let state = self.state.borrow();
            let named = |name: Rc<str>| {
                let holding = state.held.named(&name)?.clone();
                let is_it = names::split(&name)?.1 == address;
                (is_it && holding.holder.claim().is_some()).then_some((name, holding.version))
            };
            state.held.of_claim(&claim.version.uid).find_map(named)
        };
        let Some((name, version)) = held else { return Ok(()) };
        let found = self.requests.get_allocation(&name).await?;
        if found.and_then(|object| object.metadata.uid).as_deref() != Some(&*version.uid) {
            let name = Name { namespace: "".into(), name };
            self.apply(|state| state.remove(Kind::Allocations, &name, &version.uid));
        }
        Ok(())
    }

    /// Creates an IPAllocation. Returns whether that was new: otherwise somebody holds the address.
    pub(super) async fn create_allocation(
        &self,
        object: &ClaimObject,
        holder: ClaimHolder,
    ) -> Result<bool, Failure> {
        let note = |holder: Holder, version: Version| {
            let holding = Holding { version, holder };
            self.state.borrow_mut().note_held(&object.metadata.name, holding);
        };
        note(Holder::Asked(Rc::clone(&holder.uid)), Version::none());
        let unknown = Holder::Unknown(Instant::now() + UNTOLD);
        match self.requests.hold(object).await {
            Ok(version) => {
                note(Holder::Claim(Box::new(holder)), version);
                // The claim may have ended meanwhile.
                self.add([Work::Allocation(object.metadata.name.as_str().into())]);
                Ok(true)
            }
            Err(Failure::Exists) => {
                note(unknown, Version::none());
                Ok(false)
            }
            Err(failure) => {
                note(unknown, Version::none());
                Err(failure)
            }
        }
    }

    async fn answer(
        &self,
        name: &Name,
        claim: &Claim,
        address: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
    ) -> Result<(), Failure> {
        let Some(id) = claim.pool.clone() else { return Ok(()) };
        let owners = {
            let state = self.state.borrow();
            let Some(pool) = state.pool(&id) else { return Ok(()) };
            self.owners(name, &claim.version.uid, &id, &pool.version.uid)
        };
        let label = claim.cluster_label.clone();
        let object = AddressObject {
            types: Some(k8s::api::TypeMeta {
                api_version: self.requests.answers.api_version.clone(),
                kind: ADDRESS.to_owned(),
            }),
            metadata: ObjectMeta {
                name: Some(name.name.to_string()),
                namespace: Some(name.namespace.to_string()),
                labels: label.map(|label| [(CLUSTER_NAME.to_owned(), label)].into()),
                finalizers: Some(vec![PROTECT_ADDRESS.to_owned()]),
                owner_references: Some(owners.into()),
                ..ObjectMeta::default()
            },
            spec: AddressSpec {
                claim_ref: NameRef { name: name.name.to_string() },
                pool_ref: PoolRef {
                    api_group: id.kind.group().to_owned(),
                    kind: id.kind.name().to_owned(),
                    name: id.name.clone(),
                },
                address: address.to_string(),
                prefix,
                gateway: gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            },
            status: None,
        };
        match self.requests.answer(&name.namespace, &object).await {
            Ok(object) => {
                self.apply(|state| watches::answer(state, &object));
                Ok(())
            }
            // Somebody has answered, perhaps with another address. That answer counts.
            Err(Failure::Exists) => self.read_answer(name).await.map(|_| ()),
            Err(failure) => Err(failure),
        }
    }

    /// Returns the owners of an answer: the garbage collector deletes it after them.
    fn owners(&self, claim: &Name, uid: &str, id: &PoolId, pool: &str) -> [OwnerReference; 2] {
        let of_claim = OwnerReference {
            api_version: self.requests.claims.api_version.clone(),
            kind: CLAIM.to_owned(),
            name: claim.name.to_string(),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        let of_pool = OwnerReference {
            api_version: format!("{}/{}", id.kind.group(), id.kind.version()),
            kind: id.kind.name().to_owned(),
            name: id.name.clone(),
            uid: pool.to_owned(),
            controller: Some(false),
            block_owner_deletion: Some(true),
        };
        [of_claim, of_pool]
    }

    /// Reads the answer of a claim as it is now. Returns whether there is none.
    pub(super) async fn read_answer(&self, name: &Name) -> Result<bool, Failure> {
        let api = self.requests.answers(&name.namespace);
        match self.requests.get(&api, &name.name).await? {
            Some(object) => {
                self.apply(|state| watches::answer(state, &object));
                // If it is not known now, the watch has told meanwhile that it is gone. The caller
                // must look again: an address is not free while an answer has it.
                match self.state.borrow().answer(name) {
                    Some(_) => Ok(false),
                    None => Err(Failure::Changed),
                }
            }
            None => {
                let known = self.state.borrow().answer(name).map(|known| known.version.uid.clone());
                if let Some(uid) = known {
                    self.apply(|state| state.remove(Kind::Answers, name, &uid));
                }
                Ok(true)
            }
        }
    }

    /// Reads a claim as it is now.
    async fn read_claim(&self, name: &Name, claim: &Claim) -> Result<(), Failure> {
        let api = self.requests.claims(&name.namespace);
        let found = self.requests.get(&api, &name.name).await?;
        let is_same = found
            .as_ref()
            .is_some_and(|object| object.metadata.uid.as_deref() == Some(&*claim.version.uid));
        if !is_same {
            self.apply(|state| state.remove(Kind::Claims, name, &claim.version.uid));
        }
        if let Some(object) = found {
            self.apply(|state| watches::claim(state, &object));
        }
        Ok(())
    }

    async fn repair(&self, name: &Name, claim: &Claim) -> Result<(), Failure> {
        let api = self.requests.answers(&name.namespace);
        let (Some(object), Some(id)) =
            (self.requests.get(&api, &name.name).await?, claim.pool.clone())
        else {
            return Err(Failure::Gone);
        };
        let pool_uid = match self.state.borrow().pool(&id) {
            Some(pool) => Rc::clone(&pool.version.uid),
            None => return Ok(()),
        };
        let mut owners = object.metadata.owner_references.clone().unwrap_or_default();
        for mut owner in self.owners(name, &claim.version.uid, &id, &pool_uid) {
            let is_same = |other: &&mut OwnerReference| {
                (&other.kind, &other.name, &other.api_version)
                    == (&owner.kind, &owner.name, &owner.api_version)
            };
            let has_controller = owners.iter().any(|other| other.controller == Some(true));
            match owners.iter_mut().find(is_same) {
                Some(other) => other.uid = owner.uid,
                None => {
                    // An object has one controller at most.
                    if has_controller && owner.controller == Some(true) {
                        owner.controller = Some(false);
                    }
                    owners.push(owner);
                }
            }
        }
        let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|text| text == PROTECT_ADDRESS) {
            finalizers.push(PROTECT_ADDRESS.to_owned());
        }
        let mut patch = json!({"metadata": {
            "resourceVersion": object.metadata.resource_version,
            "uid": object.metadata.uid,
            "ownerReferences": owners,
            "finalizers": finalizers,
        }});
        if let Some(label) = &claim.cluster_label {
            patch["metadata"]["labels"] = json!({CLUSTER_NAME: label});
        }
        let object = self.requests.patch(&api, "ipaddresses", &name.name, &patch).await?;
        self.apply(|state| watches::answer(state, &object));
        Ok(())
    }

    /// Deletes the answer of a claim that ends. Returns whether it is gone.
    async fn withdraw(&self, name: &Name) -> Result<bool, Failure> {
        let Some(answer) = self.state.borrow().answer(name).cloned() else {
            return Ok(false);
        };
        if answer.is_protected() {
            let kept: Vec<&String> =
                answer.finalizers.iter().filter(|text| *text != PROTECT_ADDRESS).collect();
            let patch = answer.version.patch(json!({"finalizers": kept}));
            let api = self.requests.answers(&name.namespace);
            match self.requests.patch(&api, "ipaddresses", &name.name, &patch).await {
                Ok(object) => self.apply(|state| watches::answer(state, &object)),
                Err(Failure::Gone) => {}
                Err(failure) => return Err(failure),
            }
        }
        let is_gone =
            self.requests.withdraw(&name.namespace, &name.name, &answer.version.uid).await?;
        if is_gone {
            self.apply(|state| state.remove(Kind::Answers, name, &answer.version.uid));
        }
        Ok(is_gone)
    }

    /// Deletes an IPAllocation that is not needed any more. `version` is the one about which this was
    /// decided: meanwhile the address may have another holder.
    pub(super) async fn free(&self, name: &str, version: &Version) -> Result<(), Failure> {
        match self.requests.free(name, version).await {
            Ok(()) | Err(Failure::Gone) => {
                let name = Name { namespace: "".into(), name: name.into() };
                self.apply(|state| state.remove(Kind::Allocations, &name, &version.uid));
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Reads all answers as they are now.
    pub(super) async fn read_answers(&self) -> Result<(), Failure> {
        let api = self.requests.all_answers();
        let mut from = None;
        loop {
            let page = self.requests.page(&api, from.as_deref()).await?;
            for object in page.items {
                self.apply(|state| watches::answer(state, &object));
            }
            from = page.metadata.continue_.filter(|token| !token.is_empty());
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Applies a change to the state, and adds the work that follows from it.
    pub(super) fn apply(&self, change: impl FnOnce(&mut super::state::State) -> Vec<Work>) {
        let work = change(&mut self.state.borrow_mut());
        // Most messages about nodes change nothing.
        if !work.is_empty() {
            self.add(work);
        }
    }
}
