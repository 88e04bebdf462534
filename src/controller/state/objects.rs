//! The parts of objects that are kept. Whole objects would take ten times the memory.

use crate::addr::{Hull, Range};
use crate::controller::conditions::{ALLOCATION_FAILED, READY};
use crate::controller::extent::Extent;
use crate::controller::pool::{PoolId, Supply};
use crate::controller::shapes::{
    AddressObject, CLUSTER_NAME, ClaimObject, ClusterObject, Numbers, PAUSED, PROTECT_ADDRESS,
    PROTECT_OWN_POOL, PROTECT_POOL, WANTED,
};
use crate::ipam::Scope;
use crate::store::kube::objects::ip_pool_status::{Condition, Status};
use k8s::ResourceExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

/// The name of an object in its namespace. The namespace is empty for an object without one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The namespace.
    pub namespace: Rc<str>,
    /// The name.
    pub name: Rc<str>,
}

impl Default for Name {
    fn default() -> Self {
        Self { namespace: "".into(), name: "".into() }
    }
}

impl Name {
    /// Returns the name in an object's metadata.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.as_deref().unwrap_or_default().into(),
            name: metadata.name.as_deref().unwrap_or_default().into(),
        }
    }

    /// Returns the name of a pool.
    #[must_use]
    pub fn of_pool(id: &PoolId) -> Self {
        Self { namespace: id.namespace.as_str().into(), name: id.name.as_str().into() }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.is_empty() {
            true => f.write_str(&self.name),
            false => write!(f, "{}/{}", self.namespace, self.name),
        }
    }
}

/// Which object of a name, and which state of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The ID that the API server gave to the object.
    pub uid: Rc<str>,
    /// The ID that it gave to this state of it.
    pub revision: Rc<str>,
}

impl Version {
    /// Returns the version of an object that the API server has not created yet.
    #[must_use]
    pub fn none() -> Self {
        Self { uid: "".into(), revision: "".into() }
    }

    /// Returns the version in an object's metadata.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            revision: metadata.resource_version.as_deref().unwrap_or_default().into(),
        }
    }

    /// Returns a merge patch of metadata that changes nothing unless the object is still in this
    /// state.
    #[must_use]
    pub fn patch(&self, mut metadata: Value) -> Value {
        metadata["resourceVersion"] = json!(&*self.revision);
        metadata["uid"] = json!(&*self.uid);
        json!({"metadata": metadata})
    }
}

/// Returns whether a state may replace a known one. The answer to a write often comes before the
/// watch tells of an earlier state. Revisions of one object are numbers that rise (KEP-5504); if
/// they are not, the later message counts.
pub(super) fn is_newer(found: &Version, known: &Version) -> bool {
    let number = |version: &Version| version.revision.parse::<u64>().ok();
    match (number(found), number(known)) {
        (Some(found_number), Some(known_number)) if found.uid == known.uid => {
            known_number < found_number
        }
        _ => true,
    }
}

/// A claim.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Which claim.
    pub version: Version,
    /// The pool that it names; `None` if the kind is not one of ours.
    pub pool: Option<Rc<PoolId>>,
    /// The pool of prefixes that it names, for people. Such pools are not served.
    pub prefix_pool: Option<String>,
    /// The cluster of its machine.
    pub cluster: Option<Name>,
    /// The label of the cluster, which the answer gets too.
    pub cluster_label: Option<String>,
    /// Whether somebody asked all controllers to leave it alone.
    pub is_paused: bool,
    /// When it was deleted.
    pub deleted_at: Option<SystemTime>,
    /// All its finalizers.
    pub finalizers: Vec<String>,
    /// The name of the answer in its status.
    pub answered_by: Option<Rc<str>>,
    /// The conditions in its status.
    pub conditions: Vec<Condition>,
    /// The address that it asks for.
    pub wanted: Option<String>,
    /// The generation of its spec.
    pub generation: i64,
}

impl Claim {
    /// Reads a claim.
    #[must_use]
    pub fn of(object: &ClaimObject, pool: Option<Rc<PoolId>>) -> Self {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let cluster_label = object.labels().get(CLUSTER_NAME).cloned();
        let cluster = match object.spec.cluster_name.is_empty() {
            false => Some(object.spec.cluster_name.clone()),
            true => cluster_label.clone(),
        };
        let cluster =
            cluster.map(|name| Name { namespace: namespace.into(), name: name.as_str().into() });
        let status = object.status.clone().unwrap_or_default();
        Self {
            version: Version::of(&object.metadata),
            pool,
            prefix_pool: PoolId::of_prefixes(&object.spec.pool_ref),
            cluster,
            cluster_label,
            is_paused: object.annotations().contains_key(PAUSED),
            deleted_at: object.metadata.deletion_timestamp.as_ref().map(|time| time.0.into()),
            answered_by: Some(status.address_ref.name)
                .filter(|name| !name.is_empty())
                .map(|name| name.as_str().into()),
            conditions: status.conditions,
            wanted: object.annotations().get(WANTED).cloned(),
            generation: object.metadata.generation.unwrap_or_default(),
            finalizers: object.metadata.finalizers.clone().unwrap_or_default(),
        }
    }

    /// Returns whether there is something to do that depends on others: it has no answer, or it
    /// ends.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.answered_by.is_none() || self.deleted_at.is_some()
    }

    /// Returns whether it would take any address of its pool, and nothing else is in its way.
    #[must_use]
    pub fn waits_for_any(&self) -> bool {
        let ready = self.conditions.iter().find(|condition| condition.kind == READY);
        self.wanted.is_none() && ready.is_none_or(|ready| ready.reason != ALLOCATION_FAILED)
    }
}

/// The answer to a claim: an IPAddress.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Which answer.
    pub version: Version,
    /// The pool; `None` if the kind is not one of ours.
    pub pool: Option<Rc<PoolId>>,
    /// The address, if the text is one.
    pub address: Option<IpAddr>,
    /// The prefix length.
    pub prefix: u8,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The uid of the claim that owns it.
    pub claim_uid: Option<Rc<str>>,
    /// The uids of all owners.
    pub owners: Vec<Rc<str>>,
    /// All its finalizers.
    pub finalizers: Vec<String>,
    /// The label of the cluster.
    pub cluster_label: Option<String>,
    /// Whether it is being deleted.
    pub is_ending: bool,
}

impl Answer {
    /// Reads an answer.
    #[must_use]
    pub fn of(object: &AddressObject, pool: Option<Rc<PoolId>>) -> Self {
        let owners = object.owner_references();
        let of_claim = |uid: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
            uid.kind == crate::controller::shapes::CLAIM
        };
        Self {
            version: Version::of(&object.metadata),
            pool,
            address: crate::addr::parse_address(&object.spec.address).ok(),
            prefix: object.spec.prefix,
            gateway: crate::addr::parse_address(&object.spec.gateway).ok(),
            claim_uid: owners
                .iter()
                .find(of_claim)
                .filter(|owner| can_be_uid(&owner.uid))
                .map(|owner| owner.uid.as_str().into()),
            owners: owners.iter().map(|owner| owner.uid.as_str().into()).collect(),
            finalizers: object.finalizers().to_vec(),
            cluster_label: object.labels().get(CLUSTER_NAME).cloned(),
            is_ending: object.metadata.deletion_timestamp.is_some(),
        }
    }

    /// Returns whether it has the finalizer that keeps it while its claim lives.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.finalizers.iter().any(|text| text == PROTECT_ADDRESS)
    }
}

/// Returns whether a text can be the uid of an object. The API server does not check those in owner
/// references, and refuses an IPAllocation whose label would have another text.
fn can_be_uid(text: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_usual)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A pool.
#[derive(Debug, Clone)]
pub struct PoolState {
    /// Which pool.
    pub version: Version,
    /// What it gives, or the mistake in it.
    pub supply: Result<Supply, String>,
    /// The namespaces whose claims may use it. All, if there is none.
    pub namespaces: Vec<String>,
    /// The scope of its addresses.
    pub scope: Scope,
    /// The part of the scope in names of IPAllocations.
    pub scope_label: Rc<str>,
    /// The scope that the pool asks for, if it may not have it yet.
    pub wished: Option<Scope>,
    /// Whether somebody asked all controllers to leave it alone.
    pub is_paused: bool,
    /// Whether it is being deleted.
    pub is_ending: bool,
    /// All its finalizers.
    pub finalizers: Vec<String>,
    /// The numbers in its status.
    pub written: Option<Numbers>,
    /// When this controller wrote them last.
    pub written_at: Option<tokio::time::Instant>,
    /// Since when nothing is held in its scope, while it waits for another scope or for its end.
    pub empty_since: Option<tokio::time::Instant>,
    /// The hull of the ranges whose holders it reports. `State::apply_pool` notes it.
    pub hull: Hull,
    /// What an IPPool of hereabouts has besides.
    pub own: Option<Rc<OwnPool>>,
    /// What events said about a pool of Cluster API.
    pub said: Said,
}

/// What an IPPool of hereabouts has, and a pool of Cluster API has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPool {
    /// Its addresses.
    pub extent: Extent,
    /// The number of its slices, if it has any and no mistake.
    pub slices: Option<u32>,
    /// Its status.
    pub status: Status,
    /// The generation of its spec.
    pub generation: i64,
}

/// What events said about a pool whose status has no conditions, and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said {
    /// The reason of `Full`.
    pub full: Option<&'static str>,
    /// The reason of `Overlapping`.
    pub overlapping: Option<&'static str>,
    /// When it was looked at last.
    pub at: Option<tokio::time::Instant>,
}

impl PoolState {
    /// Returns the ranges that it gives, in order. None if it has a mistake.
    pub fn given(&self) -> impl Iterator<Item = Range> + '_ {
        let of_extent = self.own.iter().flat_map(|own| own.extent.given());
        of_extent.chain(self.given_to_claims().filter(|_| self.own.is_none()))
    }

    /// Returns the ranges whose holders it reports, in order: those of whole subnets, or what it
    /// gives.
    pub(super) fn reach(&self) -> impl Iterator<Item = Range> + '_ {
        let of_extent = self.own.iter().flat_map(|own| own.extent.subnets.ranges());
        of_extent.chain(self.given_to_claims().filter(|_| self.own.is_none()))
    }

    fn given_to_claims(&self) -> impl Iterator<Item = Range> + '_ {
        let supply = self.supply.iter();
        supply.flat_map(|supply| &supply.parts).flat_map(|part| part.addresses.ranges())
    }

    /// Returns whether it may report the holder of an address of its scope. A pool of Cluster API
    /// has few others in its scope.
    pub(super) fn may_count(&self, address: IpAddr) -> bool {
        self.own.as_ref().is_none_or(|own| own.extent.subnets.contains(address))
    }

    /// Returns whether nothing has changed on which another pool's conditions depend.
    pub(super) fn has_same_addresses(&self, other: &Self) -> bool {
        let own = (self.own.as_ref(), other.own.as_ref());
        self.scope == other.scope
            && own.0.map(|own| &own.extent) == own.1.map(|own| &own.extent)
            && self.given_to_claims().eq(other.given_to_claims())
    }

    const fn finalizer(&self) -> &'static str {
        if self.own.is_some() { PROTECT_OWN_POOL } else { PROTECT_POOL }
    }

    /// Returns whether it has the finalizer that keeps it while it is in use.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.finalizers.iter().any(|text| text == self.finalizer())
    }

    /// Returns its finalizers with that one.
    #[must_use]
    pub fn protected(&self) -> Vec<String> {
        let mut finalizers = self.unprotected();
        finalizers.push(self.finalizer().to_owned());
        finalizers
    }

    /// Returns its finalizers without that one.
    #[must_use]
    pub fn unprotected(&self) -> Vec<String> {
        self.finalizers.iter().filter(|text| *text != self.finalizer()).cloned().collect()
    }

    /// Returns whether two states differ at most in what the controller itself writes often.
    pub(super) fn is_same_but_for_numbers(&self, other: &Self) -> bool {
        self.version.uid == other.version.uid
            && self.supply == other.supply
            && self.namespaces == other.namespaces
            && self.scope == other.scope
            && self.wished == other.wished
            && self.is_paused == other.is_paused
            && self.is_ending == other.is_ending
            && self.finalizers == other.finalizers
            && self.own.as_ref().map(|own| own.generation)
                == other.own.as_ref().map(|own| own.generation)
    }
}

/// Whether a cluster may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cluster {
    /// Whether somebody asked all controllers to leave it alone.
    pub is_paused: bool,
}

impl Cluster {
    /// Reads a cluster.
    #[must_use]
    pub fn of(object: &ClusterObject) -> Self {
        Self { is_paused: object.spec.paused || object.annotations().contains_key(PAUSED) }
    }
}

/// Whether the provider of Cluster API, whose pools are served here, runs and answers claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Provider {
    /// It does not, as far as this process can see.
    #[default]
    Away,
    /// Nothing is known yet, or its Lease names a holder that may have ended.
    InDoubt,
    /// It does. The text says where.
    Serves(String),
}
