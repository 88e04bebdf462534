//! The fields of other projects' objects that are read: claims, addresses, pools and clusters of
//! Cluster API.
//!
//! Those that the command line reads, too, are in `store/kube/objects`.
//!
//! Every field may be absent: an object that lacks one must not stop the reading of all others.

use super::network_ranges;
use crate::store::kube::objects::ip_allocation_status;
use crate::store::kube::objects::ip_pool_status::Condition;
use crate::store::kube::objects::ip_slice_status;
use crate::store::kube::objects::slice_geometry;
use k8s::api::{ApiResource, DynamicObject, GroupVersionKind, Object};
use k8s::core::object::NotUsed;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::store::kube::objects::cluster_api::{
    ADDRESS, AddressSpec, CLAIM, IPAM, NameRef, PoolRef, SCOPE, SCOPE_IN_USE,
};
pub use crate::store::kube::objects::evidence::AllocationSpec;

/// The group of clusters.
pub const CORE: &str = "cluster.x-k8s.io";
/// On a claim: its address must be freed first.
pub const RELEASE_ADDRESS: &str = "ipam.cluster.x-k8s.io/ReleaseAddress";
/// On an answer: only the end of its claim frees it.
pub const PROTECT_ADDRESS: &str = "ipam.cluster.x-k8s.io/ProtectAddress";
/// On a pool: it stays while it is in use.
pub const PROTECT_POOL: &str = "ipam.cluster.x-k8s.io/ProtectPool";
/// On an IPPool of hereabouts: it stays while something of it is held.
pub const PROTECT_OWN_POOL: &str = "hereabouts.dev/protect-pool";
/// This annotation asks every controller to leave the object alone.
pub const PAUSED: &str = "cluster.x-k8s.io/paused";
/// The label that names the cluster of an object.
pub const CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
/// On a claim: the address that it asks for.
pub const WANTED: &str = "hereabouts.dev/address";
/// A claim.
pub type ClaimObject = Object<ClaimSpec, ClaimStatus>;
/// An answer.
pub type AddressObject = Object<AddressSpec, NotUsed>;
/// A pool of Cluster API, with or without a namespace.
pub type PoolObject = Object<PoolSpec, PoolStatus>;
/// A cluster.
pub type ClusterObject = Object<ClusterSpec, NotUsed>;
/// An IPPool of hereabouts. `config::Pool` reads it.
pub type OwnPoolObject = DynamicObject;
/// An IPAMClaim. It need not have a spec.
pub type IpamClaimObject = DynamicObject;
/// A ServiceCIDR.
pub type ServiceRangesObject = Object<ServiceRanges, NotUsed>;
/// A NetworkAttachmentDefinition. `network_ranges` reads it.
pub type NetworkObject = DynamicObject;
/// An IPSlice: the fields of it that say who owns which addresses, and what its node publishes.
pub type SliceObject = Object<SliceSpec, SliceStatus>;
/// An IPSliceGeometry: the pool that it is of.
pub type GeometryObject = Object<GeometrySpec, NotUsed>;
/// An IPAllocation: the fields of it that say who holds the address, and the marks on it.
pub type AllocationObject = Object<AllocationSpec, ip_allocation_status::Status>;

/// What a claim asks for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSpec {
    /// The cluster of the machine.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_name: String,
    /// The pool.
    pub pool_ref: PoolRef,
}

/// What a claim has got.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimStatus {
    /// The answer.
    pub address_ref: NameRef,
    /// The conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// What a pool of Cluster API gives.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolSpec {
    /// Addresses, subnets and `first-last`.
    pub addresses: Vec<String>,
    /// The prefix length of the subnet.
    pub prefix: u8,
    /// The gateway. Empty if there is none.
    pub gateway: String,
    /// Whether the first and the last address of the subnet are given, too.
    #[serde(rename = "allocateReservedIPAddresses")]
    pub allocate_reserved: bool,
    /// What is not given, in the forms of `addresses`.
    pub excluded_addresses: Vec<String>,
    /// How long an address stays held after its claim was deleted.
    #[serde(rename = "addressReuseGracePeriodSeconds")]
    pub grace_seconds: u32,
}

/// A pool of Cluster API in numbers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolStatus {
    /// The numbers. Absent before the first write.
    pub ip_addresses: Option<Numbers>,
}

/// A pool of Cluster API in numbers, none above the highest `int64`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Numbers {
    /// The addresses that the pool can give.
    pub total: i64,
    /// Of them, those that no answer has. Negative if answers outside of the pool outnumber them.
    pub free: i64,
    /// The answers.
    pub used: i64,
    /// The answers whose address is no longer in the pool.
    pub out_of_range: i64,
}

/// What an IPAMClaim has got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpamClaimStatus {
    /// The addresses, each with the prefix length.
    pub ips: Vec<String>,
    /// The pod that uses them.
    #[serde(skip_serializing_if = "NameRef::is_empty")]
    pub owner_pod: NameRef,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// Whether a cluster may be changed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSpec {
    /// Asks every controller to leave the cluster alone.
    pub paused: bool,
}

/// The addresses of Services.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceRanges {
    /// One subnet of each family.
    pub cidrs: Vec<String>,
}

/// The pool of a geometry.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GeometrySpec {
    /// The name of the pool.
    pub pool: String,
}

/// The addresses of a slice, and the node that owns it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceSpec {
    /// The name of the pool.
    pub pool: String,
    /// The IPv4 addresses. Empty if there is none.
    pub ipv4: String,
    /// The IPv6 addresses. Empty if there is none.
    pub ipv6: String,
    /// The node.
    pub node: String,
    /// The uid of the Node that its token named.
    #[serde(rename = "nodeUID", skip_serializing_if = "Option::is_none")]
    pub node_uid: Option<String>,
    /// The boot in which it uses the slice.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// When an operator released the slice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
}

/// What the node of a slice publishes. One that cannot be read counts as nothing.
#[derive(Debug, Clone, Default)]
pub struct SliceStatus(pub Option<ip_slice_status::Status>);

impl<'de> Deserialize<'de> for SliceStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ip_slice_status::readable(deserializer).map(Self)
    }
}

impl Serialize for SliceStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Returns the resource of a kind, with the plural that it has.
#[must_use]
pub fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    let plural = match kind {
        ADDRESS => "ipaddresses".to_owned(),
        slice_geometry::KIND => slice_geometry::PLURAL.to_owned(),
        network_ranges::KIND => "network-attachment-definitions".to_owned(),
        _ => format!("{}s", kind.to_ascii_lowercase()),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural)
}
