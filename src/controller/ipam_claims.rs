//! IPAMClaims: says in their status what they hold, and frees what a claim held that is gone.
//!
//! The plugin gives addresses to claims: see `plugin/ipam_claim`. An address is freed in three steps.
//! The IPAllocation is deleted: it stays, because it has a finalizer, and from now on no sandbox
//! becomes a user. Then the API server is asked for its users, of which there are two at most, with
//! known names. If there is none, the finalizer is taken away.

use super::conditions::{Told, merged};
use super::lack;
use super::requests::Failure;
use super::shapes::IpamClaimStatus;
use super::state::{ClaimHolder, Finding, Holder, IpamClaim, Kind, Name, State, Version};
use super::work::{Again, Controller, Outcome, now};
use crate::ipam::{IPAM_CLAIM, Scope, USERS};
use crate::store::kube::objects::claim_object::IN_USE;
use crate::store::kube::objects::ip_pool_status::Condition;
use crate::store::kube::objects::names;
use k8s::ResourceExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// A pause until the watch has told more.
const SOON: Duration = Duration::from_secs(1);
/// How often it is looked at why a claim has no address.
const LOOK: Duration = Duration::from_secs(15);
/// The condition of an IPAMClaim, and its reason if the claim has addresses
/// (github.com/k8snetworkplumbingwg/ipamclaims).
const ALLOCATED: &str = "IPsAllocated";
const SUCCESS: &str = "SuccessfulAllocation";

impl Controller {
    /// Frees what an IPAMClaim held, if the claim is gone and nobody uses it, or if somebody deleted
    /// the IPAllocation and nobody uses it.
    pub(super) async fn see_to_held(
        &self,
        name: &str,
        version: &Version,
        holder: &ClaimHolder,
    ) -> Outcome {
        let Some((_, address)) = names::split(name) else { return Ok(None) };
        if !holder.is_ending {
            if self.has_claim(holder).await? {
                return Ok(None);
            }
            match self.requests.end(name, version).await {
                Ok(true) | Err(Failure::Gone) => return Ok(self.is_free(name, version, holder)),
                Ok(false) => {}
                Err(Failure::Changed) => return Ok(Some(SOON)),
                Err(failure) => return Err(failure),
            }
        }
        for number in 0..USERS {
            let scope = Scope::of_claim_user(&holder.uid, number);
            let user = names::object(&scope, address);
            if self.requests.get_allocation(&user).await?.is_some() {
                // The end of the user leads here again.
                tracing::info!("{name} is freed later: {IPAM_CLAIM} {} has a user", holder.name);
                return Ok(None);
            }
        }
        let Some(object) = self.requests.get_allocation(name).await? else {
            return Ok(self.is_free(name, version, holder));
        };
        let found = Version::of(&object.metadata);
        if found.uid != version.uid || object.metadata.deletion_timestamp.is_none() {
            return Ok(Some(SOON));
        }
        let kept: Vec<&String> =
            object.finalizers().iter().filter(|text| *text != IN_USE).collect();
        let patch = found.patch(json!({"finalizers": kept}));
        match self.requests.patch_allocation(name, &patch).await {
            Ok(()) | Err(Failure::Gone) => Ok(self.is_free(name, version, holder)),
            Err(Failure::Changed) => Ok(Some(SOON)),
            Err(failure) => Err(failure),
        }
    }

    /// Returns whether the claim that holds an address is there, by its uid.
    async fn has_claim(&self, holder: &ClaimHolder) -> Result<bool, Failure> {
        let is_known = self
            .state
            .borrow()
            .ipam_claim(&holder.name)
            .is_some_and(|claim| claim.version.uid == holder.uid);
        if is_known {
            return Ok(true);
        }
        let api = self.requests.ipam_claims(&holder.name.namespace);
        let found = self.requests.get(&api, &holder.name.name).await?;
        Ok(found.is_some_and(|object| object.metadata.uid.as_deref() == Some(&*holder.uid)))
    }

    fn is_free(&self, name: &str, version: &Version, holder: &ClaimHolder) -> Option<Duration> {
        tracing::info!("freed {name}: {IPAM_CLAIM} {} does not have it", holder.name);
        let name = Name { namespace: "".into(), name: name.into() };
        self.apply(|state| state.remove(Kind::Allocations, &name, &version.uid));
        None
    }

    /// Says in the status of a claim which addresses it has, and which pod uses them, or why it has
    /// none.
    pub(super) async fn see_to_ipam_claim(&self, name: &Name) -> Outcome {
        let (again, wanted) = wanted(&mut self.state.borrow_mut(), name, Instant::now());
        let Some((version, status)) = wanted else {
            return Ok(again);
        };
        let patch = json!({
            "metadata": {"uid": &*version.uid, "resourceVersion": &*version.revision},
            "status": status,
        });
        let api = self.requests.ipam_claims(&name.namespace);
        match self.requests.patch_status(&api, "ipamclaims/status", &name.name, &patch).await {
            Ok(object) => {
                self.apply(|state| state.apply_ipam_claim(&object));
                Ok(again)
            }
            Err(Failure::Gone) => Ok(None),
            Err(Failure::Changed) => Ok(Some(SOON)),
            Err(failure) => Err(failure),
        }
    }
}

/// Returns when to look again, and the status that a claim should have, if it has another one.
fn wanted(
    state: &mut State,
    name: &Name,
    now: Instant,
) -> (Again, Option<(Version, IpamClaimStatus)>) {
    let Some(claim) = state.ipam_claim(name).cloned() else { return (None, None) };
    let (again, status) = match status_of_holder(state, &claim) {
        Some(status) => (None, Some(status)),
        None => {
            let again = (!claim.network.is_empty()).then_some(LOOK);
            (again, status_without_address(&claim, lack::find(state, name, &claim, now)))
        }
    };
    let status = status.filter(|status| *status != claim.status);
    (again, status.map(|status| (claim.version, status)))
}

/// Returns the status of a claim that holds nothing. It keeps its addresses: the plugin takes them for
/// a wish.
fn status_without_address(claim: &IpamClaim, found: Finding) -> Option<IpamClaimStatus> {
    let before = &claim.status.conditions;
    let conditions = match found {
        Finding::Unknown => return None,
        Finding::Lack { reason, message } => {
            let told = Told { kind: ALLOCATED, is_true: false, reason, message };
            merged(before, &[told], claim.generation, now())
        }
        // It gets an address when a pod asks. What stood in its way does not any more.
        Finding::Room => {
            let is_over = |found: &&Condition| {
                found.kind == ALLOCATED
                    && [lack::EXHAUSTED, lack::CONFLICT].contains(&found.reason.as_str())
            };
            before.iter().filter(|found| !is_over(found)).cloned().collect()
        }
    };
    Some(IpamClaimStatus { conditions, ..claim.status.clone() })
}

/// Returns the status of a claim that holds addresses.
fn status_of_holder(state: &State, claim: &IpamClaim) -> Option<IpamClaimStatus> {
    let uid = &claim.version.uid;
    let held: BTreeMap<IpAddr, u8> = state
        .held
        .of_claim(uid)
        .filter_map(|held| {
            let (_, address) = names::split(&held)?;
            let holder = state.held.named(&held)?.holder.claim()?;
            let counts = holder.kind == IPAM_CLAIM && !holder.is_ending;
            counts.then_some((address, holder.prefix))
        })
        .collect();
    let mut users: BTreeMap<u64, &str> = BTreeMap::new();
    let mut used: BTreeMap<IpAddr, u8> = BTreeMap::new();
    for number in 0..USERS {
        let scope = names::of_scope_in_name(&Scope::of_claim_user(uid, number));
        for (address, prefix) in &held {
            let Some(holding) = state.held.get(&scope, *address) else { continue };
            let Holder::Attachment(attached) = &holding.holder else { continue };
            used.insert(*address, *prefix);
            let revision = holding.version.revision.parse().unwrap_or_default();
            users.extend(attached.pod.as_ref().map(|pod| (revision, &*pod.name)));
        }
    }
    // Two nodes may have got addresses for the claim at the same time: both use the same ones.
    let held = if used.is_empty() { held } else { used };
    if held.is_empty() {
        return None;
    }
    Some(of(claim, &held, users.last_key_value().map(|(_, pod)| *pod)))
}

/// Returns the status of a claim with these addresses. The pod of the newest user counts: after a
/// migration it is the one that stays.
fn of(claim: &IpamClaim, held: &BTreeMap<IpAddr, u8>, pod: Option<&str>) -> IpamClaimStatus {
    let ips: Vec<String> =
        held.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
    let told = Told {
        kind: ALLOCATED,
        is_true: true,
        reason: SUCCESS,
        message: format!("has {}", ips.join(", ")),
    };
    let mut owner_pod = claim.status.owner_pod.clone();
    if let Some(pod) = pod {
        owner_pod.name = pod.to_owned();
    }
    let conditions = merged(&claim.status.conditions, &[told], claim.generation, now());
    IpamClaimStatus { ips, owner_pod, conditions }
}
