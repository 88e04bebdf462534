//! IPAMClaims in the Kubernetes store.
//!
//! What a claim holds is an IPAllocation with the claim as its holder: its creation is the commit, as
//! for an attachment. If two nodes do this for one claim at once, both addresses are the claim's, and
//! both nodes use the one that was created first.

use super::KubeStore;
use super::api::escape;
use super::api::paging::Place;
use super::api::retries::{Failed, IPAM_CLAIMS, PODS};
use super::objects::claim_object::ClaimObject;
use super::objects::held::HeldObject;
use super::objects::ipam_claim::{ClaimFields, PodFields, VERSION};
use super::objects::names;
use super::session::KubeSession;
use crate::addr::AddrSet;
use crate::ipam::{
    ClaimAllocation, ClaimPod, HeldAddress, IPAM_CLAIM_GROUP, IpamClaim, PodRef, Scope,
};
use crate::retry::Deadline;
use crate::store::ipam_claims::IpamClaims;
use crate::store::{Access, StoreError};
use std::net::IpAddr;
use std::time::SystemTime;

impl IpamClaims for KubeStore {
    fn claim(
        &self,
        namespace: &str,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<IpamClaim>, StoreError> {
        let (within, of) = (escape(namespace), escape(name));
        let path =
            format!("/apis/{IPAM_CLAIM_GROUP}/{VERSION}/namespaces/{within}/{IPAM_CLAIMS}/{of}");
        let read = |body: &[u8]| serde_json::from_slice(body).map(ClaimFields::claim);
        let claim: Option<IpamClaim> = self.api.read(IPAM_CLAIMS, name, &path, deadline, read)?;
        // The uid is the holder. An object without one is no answer to the question.
        Ok(claim.filter(|claim| names::is_label_value(&claim.uid)))
    }

    fn pod(&self, pod: &PodRef, deadline: &Deadline) -> Result<Option<ClaimPod>, StoreError> {
        let (within, of) = (escape(&pod.namespace), escape(&pod.name));
        let path = format!("/api/v1/namespaces/{within}/{PODS}/{of}");
        let read = |body: &[u8]| serde_json::from_slice(body).map(PodFields::pod);
        self.api.read(PODS, &pod.name, &path, deadline, read)
    }

    fn held(&self, uid: &str, deadline: &Deadline) -> Result<Vec<ClaimAllocation>, StoreError> {
        let selector = format!("{}={uid}", names::CLAIM);
        let (mut place, mut held) = (Place::default(), Vec::new());
        while !place.is_ended() {
            for item in self.api.page(&selector, &mut place, deadline)? {
                let HeldObject::Claim(object) = item? else { continue };
                let name = &object.metadata.name;
                held.push(object.allocation().map_err(|unreadable| unreadable.of(name))?);
            }
        }
        held.retain(|held: &ClaimAllocation| held.claim.uid == uid && held.claim.is_ipam_claim());
        held.sort_by_key(age);
        Ok(held)
    }

    fn choose(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        misses: u32,
        began: SystemTime,
        deadline: &Deadline,
    ) -> Result<Option<IpAddr>, StoreError> {
        self.make_complete(deadline)?;
        self.refuse_unshown("an address of an IPAMClaim", deadline)?;
        let allowed = self.without_gateways(scope, candidates, deadline)?;
        if allowed.nth(0).is_none() {
            return Ok(None);
        }
        KubeSession::new(self, Access::Allocate, *deadline).choose(scope, &allowed, misses, began)
    }

    fn hold(
        &self,
        held: &ClaimAllocation,
        deadline: &Deadline,
    ) -> Result<Option<ClaimAllocation>, StoreError> {
        let object = ClaimObject::new(held);
        let created = match self.api.create_for_claim(&object, deadline) {
            // Another call for the claim may have taken it, or an attempt whose answer was lost.
            Ok(None) => self.api.get(&object.metadata.name, deadline)?,
            Ok(created) => created,
            Err(Failed { error, outcome_unknown }) => {
                if !outcome_unknown {
                    let free = |hint: &mut super::node_state::occupancy::Occupancy| {
                        hint.free(held.address);
                    };
                    self.state.change_occupancy(&held.scope, deadline, free)?;
                }
                return Err(error);
            }
        };
        match created.map(|object| (object.metadata().name.clone(), object)) {
            Some((name, HeldObject::Claim(found))) if found.spec.claim.uid == held.claim.uid => {
                let found = found.allocation().map_err(|unreadable| unreadable.of(&name))?;
                Ok(Some(found).filter(|found| !found.is_ending))
            }
            _ => Ok(None),
        }
    }

    fn note_use(&self, held: &[ClaimAllocation]) {
        *self.used.borrow_mut() = held.to_vec();
    }

    fn holder(
        &self,
        scope: &Scope,
        address: IpAddr,
        deadline: &Deadline,
    ) -> Result<Option<HeldAddress>, StoreError> {
        let name = names::object(scope, address);
        let found = self.api.get(&name, deadline)?;
        let holder =
            found.map(|object| object.address().map_err(|unreadable| unreadable.of(&name)));
        holder.transpose()
    }
}

/// Returns when an object was created, for an order. Nothing changes such an object before it is
/// deleted, so the revision is that of its creation. Revisions are numbers that rise (KEP-5504).
fn age(held: &ClaimAllocation) -> u64 {
    let revision = held.version.as_ref().and_then(|version| version.revision.parse().ok());
    revision.unwrap_or(u64::MAX)
}
