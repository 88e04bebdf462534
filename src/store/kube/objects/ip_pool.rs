//! The IPPool custom resource: a named set of addresses that several networks share. The manifest in
//! deploy/crd is generated from these structs.
//!
//! The structs are the schema. What a pool means is read by `config::Pool`, from the object as well
//! as from a file, so that both are one language. The API server enforces what one object shows by
//! itself: forms, families, addresses inside their subnet, and that the scope never changes. It
//! cannot compare two addresses, so an ADD refuses a range that ends before it begins, subnets that
//! overlap and reservations outside of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The plural name of the resource.
pub const PLURAL: &str = "ippools";
/// The kind of the resource.
pub const KIND: &str = "IPPool";
/// The short name: `ipp` is taken by other projects.
pub const SHORT: &str = "hpool";
/// The columns of its table: the title of each, and its path in the object. A path that matches
/// several values shows only the first of them: the first subnet is that of `subnets` or of `ranges`.
pub const COLUMNS: [(&str, &str); 7] = [
    ("Subnet", ".spec['subnets','ranges'][0]['subnet','ipv4','ipv6']"),
    ("Scope", ".spec.scope"),
    ("Total", ".status.total"),
    ("Held", ".status.held"),
    ("Free", ".status.free"),
    ("Free slices", ".status.slices.free"),
    ("Ready", ".status.conditions[?(@.type=='Ready')].status"),
];
/// The columns that only `kubectl get -o wide` shows.
pub const WIDE_COLUMNS: [(&str, &str); 10] = [
    ("Second subnet", ".spec.subnets[1].subnet"),
    ("IPv6 range", ".spec.ranges[0].ipv6"),
    ("Node labels", ".spec.nodeSelector.matchLabels"),
    ("Excluded", ".status.excluded"),
    ("Out of range", ".status.outOfRange"),
    ("Slices", ".status.slices.total"),
    ("Owned", ".status.slices.owned"),
    ("Released", ".status.slices.released"),
    ("Full", ".status.conditions[?(@.type=='Full')].reason"),
    ("Overlapping", ".status.conditions[?(@.type=='Overlapping')].reason"),
];

/// The addresses of the pool, and who may have them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(description = "The addresses of the pool, and who may have them.")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.ipFamilies) || self.ipFamilies.size() < 2 || self.ipFamilies[0] != self.ipFamilies[1]",
        "message": "ipFamilies has a family twice",
    },
    {
        "rule": "!has(self.ipFamilyPolicy) || self.ipFamilyPolicy != 'RequireDualStack' || !has(self.ipFamilies) || self.ipFamilies.size() == 2",
        "message": "RequireDualStack needs both families in ipFamilies, or none",
    },
    {
        "rule": "has(self.subnets) != has(self.ranges) && has(self.ranges) == has(self.slices)",
        "message": "expected subnets, or ranges with slices",
    },
    {
        "rule": "!has(self.slices) || !(has(self.scope) || has(self.reservations))",
        "message": "a pool with slices has no scope and no reservations: each address belongs to the node of its slice",
    },
    {
        "rule": "!has(self.slices) || self.ranges.all(r, has(r.ipv4) == has(self.slices.ipv4) && has(r.ipv6) == has(self.slices.ipv6))",
        "message": "slices has the size of a slice for each family of the ranges, and for no other",
    },
    {
        "rule": "has(self.slices) == has(oldSelf.slices)",
        "message": "whether a pool has slices never changes: a node would give addresses that others hold",
    },
    {
        "rule": "!has(self.ranges) || !has(oldSelf.ranges) || (oldSelf.ranges.size() <= self.ranges.size() && oldSelf.ranges.map(r, (has(r.ipv4) ? r.ipv4 : '') + ' ' + (has(r.ipv6) ? r.ipv6 : '')) == self.ranges.map(r, (has(r.ipv4) ? r.ipv4 : '') + ' ' + (has(r.ipv6) ? r.ipv6 : '')).slice(0, oldSelf.ranges.size()))",
        "message": "ranges only grow at the end: nodes own slices of them",
    },
    {
        "rule": "has(self.scope) == has(oldSelf.scope) && (!has(self.scope) || self.scope == oldSelf.scope)",
        "message": "scope never changes: an address that is held would be free in another scope",
    },
]))]
pub struct Spec {
    /// The subnets. They do not overlap. An ADD gets one address of each family, from the first
    /// subnet of the family that has room.
    #[schemars(length(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<Subnet>,
    /// The ranges of a pool with slices, in place of subnets. They do not overlap. Further ranges
    /// may be added at the end; no range ever changes.
    #[schemars(length(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<SlicedRange>,
    /// The slices of the ranges. Each belongs to one node, which gives its addresses without a
    /// request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<Slices>,
    /// The name space in which the addresses are unique, as `network_name` of a network. Absent for
    /// the unnamed one.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = [
        { "rule": "!self.startsWith('capi:')", "message": "names that begin with capi: are kept for pools of Cluster API" },
    ]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The namespaces whose pods may use the pool. Absent for all.
    #[schemars(
        length(max = 256),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// The nodes on which the pool may be used. Absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// Addresses that only certain pods get.
    #[schemars(length(max = 1000))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
    /// Whether IPv4 addresses that end in .0 or .255 are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub avoid_buggy_addresses: bool,
    /// The routes of networks that have none of their own.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Whether an ADD gets one family or both, as for a Service. Absent for all families of the
    /// subnets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<FamilyPolicy>,
    /// The families of an ADD, in the order of its result.
    #[schemars(length(min = 1, max = 2))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<Family>,
}

/// How many families an ADD gets.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub enum FamilyPolicy {
    /// One.
    SingleStack,
    /// Both, if the pool has both.
    PreferDualStack,
    /// Both, or none at all.
    RequireDualStack,
}

/// An address family.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// A subnet.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!isCIDR(self.subnet) || !has(self.gateway) || !isIP(self.gateway) || ip(self.gateway).family() == cidr(self.subnet).ip().family()",
        "message": "gateway and subnet are of two families",
    },
    {
        "rule": "!has(self.addresses) || self.addresses.all(a, a.contains('-') ? cidr(self.subnet).containsIP(a.substring(0, a.indexOf('-'))) && cidr(self.subnet).containsIP(a.substring(a.indexOf('-') + 1)) : a.contains('/') ? cidr(self.subnet).containsCIDR(a) : cidr(self.subnet).containsIP(a))",
        "message": "addresses must be inside the subnet",
    },
]))]
pub struct Subnet {
    /// The subnet in CIDR notation. Its prefix length is a part of the result.
    #[schemars(length(max = 43), extend("x-kubernetes-validations" = [{ "rule": "isCIDR(self)", "message": "expected a subnet in CIDR notation" }]))]
    pub subnet: String,
    /// The gateway of the result. No pod gets it.
    #[schemars(length(max = 45), extend("x-kubernetes-validations" = [{ "rule": "isIP(self)", "message": "expected an address" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The addresses of the subnet that belong to the pool: addresses, CIDRs and `first-last`.
    /// Absent for all.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<Span>>,
    /// What no pod gets.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Exclusion>,
}

/// A range of a pool with slices: one subnet, or one of each family. The slices of both families
/// belong together.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlicedRange {
    /// The IPv4 subnet in CIDR notation.
    #[schemars(length(max = 18), extend("x-kubernetes-validations" = [{ "rule": "isCIDR(self) && cidr(self).ip().family() == 4", "message": "expected an IPv4 subnet in CIDR notation" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    /// The IPv6 subnet in CIDR notation.
    #[schemars(length(max = 43), extend("x-kubernetes-validations" = [{ "rule": "isCIDR(self) && cidr(self).ip().family() == 6", "message": "expected an IPv6 subnet in CIDR notation" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// The gateways of the result, at most one of each family. No pod gets them.
    #[schemars(length(max = 2), inner(length(max = 45)), extend("x-kubernetes-validations" = [{ "rule": "self.all(a, isIP(a))", "message": "expected addresses" }]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// What no pod gets.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Exclusion>,
}

/// The slices of a pool.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slices {
    /// The IPv4 part of a slice.
    #[schemars(extend("x-kubernetes-validations" = [{ "rule": "self.perNodeMaskSize <= 32", "message": "expected a prefix length of at most 32" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<SliceSize>,
    /// The IPv6 part of a slice. It has as many addresses as the IPv4 part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<SliceSize>,
    /// The most slices that one node may own. 8 if it is absent.
    #[schemars(range(min = 1, max = 65536))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_node: Option<u32>,
    /// What is on other wires, so that its addresses may lie in slices of this pool: names of pools
    /// with slices, and scopes of networks and other pools. An empty text is the unnamed scope.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_overlap_with: Vec<String>,
}

/// The size of a slice in one family.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceSize {
    /// The prefix length of a slice.
    #[schemars(range(max = 128), extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    pub per_node_mask_size: u8,
}

/// An address, a CIDR or `first-last`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("maxLength" = 79), extend("x-kubernetes-validations" = [{ "rule": "self.contains('-') ? isIP(self.substring(0, self.indexOf('-'))) && isIP(self.substring(self.indexOf('-') + 1)) : isIP(self) || isCIDR(self)", "message": "expected an address, a CIDR or first-last" }]))]
pub struct Span(pub String);

/// Addresses that no pod gets.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Exclusion {
    /// An address, a CIDR or `first-last`.
    pub addresses: Span,
    /// Why, for people.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The nodes on which a pool may be used.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// The labels that a node must have, all of them.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// Addresses for the pods of one owner.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.pod) != has(self.statefulSet)", "message": "expected either pod or statefulSet" },
    { "rule": "has(self.address) != has(self.addresses)", "message": "expected either address or addresses" },
    { "rule": "!has(self.statefulSet) || has(self.addresses)", "message": "a statefulSet has addresses: the pod with ordinal n gets the nth of them" },
    { "rule": "!has(self.pod) || has(self.address)", "message": "a pod has an address, and another entry for each further address" },
]))]
pub struct Reservation {
    /// The pod that gets the address, as NAMESPACE/NAME.
    #[schemars(length(max = 317), regex(pattern = r"^[^/]+/[^/]+$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The StatefulSet whose pods get the addresses, as NAMESPACE/NAME.
    #[schemars(length(max = 317), regex(pattern = r"^[^/]+/[^/]+$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stateful_set: Option<String>,
    /// The interface in the pod that gets the addresses, such as net1. If it is missing, the first
    /// interface with an address of the pool gets them.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[^/:\s]+$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The address of the pod.
    #[schemars(length(max = 45), extend("x-kubernetes-validations" = [{ "rule": "isIP(self)", "message": "expected an address" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The addresses of the StatefulSet: a CIDR or `first-last`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Span>,
}

/// A route of the result (CNI specification 1.1.0, "Success").
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// The destination in CIDR notation.
    #[schemars(length(max = 43), extend("x-kubernetes-validations" = [{ "rule": "isCIDR(self)", "message": "expected a destination in CIDR notation" }]))]
    pub dst: String,
    /// The next hop.
    #[schemars(length(max = 45), extend("x-kubernetes-validations" = [{ "rule": "isIP(self)", "message": "expected an address" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<String>,
    /// The MTU along the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The TCP segment size to announce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The priority. A lower value is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope: 0 is global, 253 is link, 254 is host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}
