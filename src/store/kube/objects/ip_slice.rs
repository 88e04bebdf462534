//! The IPSlice custom resource: one block of a pool with slices, and the node that owns it. The
//! manifest in deploy/crd is generated from these structs.
//!
//! The name is made of the scope and the first address of the block, and every node computes the
//! same blocks. So the API server itself lets a block have only one owner.

use super::ip_allocation::{GROUP, Metadata, VERSION};
use super::ip_slice_status::{Status, readable};
use super::names;
use crate::addr::Subnet;
use crate::ipam::{Block, NodeName, Scope, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The plural name of the resource.
pub const PLURAL: &str = "ipslices";
/// The kind of the resource.
pub const KIND: &str = "IPSlice";
/// The columns that its table shows in addition to the name: the title of each, and its path in the
/// object.
pub const COLUMNS: [(&str, &str); 6] = [
    ("Pool", ".spec.pool"),
    ("IPv4", ".spec.ipv4"),
    ("IPv6", ".spec.ipv6"),
    ("Node", ".spec.node"),
    ("Held", ".status.count"),
    ("Released", ".spec.released"),
];

/// One slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpSlice {
    /// `hereabouts.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// `IPSlice`.
    #[serde(default)]
    pub kind: String,
    /// Name, labels, version.
    pub metadata: Metadata,
    /// The block and its owner.
    pub spec: Spec,
    /// What its node publishes. It decides nothing.
    #[serde(default, deserialize_with = "readable", skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// The block and its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(description = "The block and its owner.")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.ipv4) || has(self.ipv6)", "message": "expected a block" },
    { "rule": "has(self.ipv4) == has(oldSelf.ipv4) && has(self.ipv6) == has(oldSelf.ipv6)", "message": "the block never changes" },
    {
        "rule": "has(oldSelf.returned) || (self.node == oldSelf.node && has(self.machine) == has(oldSelf.machine) && (!has(self.machine) || self.machine == oldSelf.machine))",
        "message": "the owner never changes, unless it has marked the slice as returned",
    },
    { "rule": "!has(oldSelf.released) || has(self.released)", "message": "a slice that was released stays so until it is deleted" },
]))]
pub struct Spec {
    /// The name of the pool.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    pub pool: String,
    /// The uid of the IPSliceGeometry by which the pool was cut.
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    pub geometry: String,
    /// The IPv4 addresses.
    #[schemars(length(max = 18), extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }, { "rule": "isCIDR(self)", "message": "expected a subnet in CIDR notation" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    /// The IPv6 addresses.
    #[schemars(length(max = 43), extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }, { "rule": "isCIDR(self)", "message": "expected a subnet in CIDR notation" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// The node that owns the slice.
    #[schemars(length(max = 253), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    pub node: String,
    /// A hash of the node's machine ID. A second machine of the name does not own the slice.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The uid of the Node object that the node's token named when it got the slice.
    #[schemars(length(max = 512))]
    #[serde(rename = "nodeUID", default, skip_serializing_if = "Option::is_none")]
    pub node_uid: Option<String>,
    /// The boot in which the node uses the slice. After a reboot the node writes the new one before
    /// it gives an address.
    #[serde(rename = "bootID")]
    #[schemars(length(max = 64))]
    pub boot_id: String,
    /// When the node got the slice (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// When an operator released the slice because the node is off (RFC 3339). Nobody gives
    /// addresses from it then.
    #[schemars(extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    /// When its node found that it had given the slice back before the cluster was restored to an
    /// older state (RFC 3339). Nobody gives addresses from it then. A node whose pods hold addresses
    /// of it takes it over.
    #[schemars(extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<String>,
}

impl Spec {
    /// Returns the block. A text that is no subnet counts as none.
    pub(crate) fn block(&self) -> Block {
        let parse = |text: &Option<String>| Subnet::parse(text.as_deref()?).ok();
        Block { v4: parse(&self.ipv4), v6: parse(&self.ipv6) }
    }
}

/// The node, machine and boot that own a slice.
pub(crate) struct Owner<'a> {
    pub(crate) node: &'a NodeName,
    pub(crate) machine: Option<&'a str>,
    pub(crate) node_uid: Option<&'a str>,
    pub(crate) boot_id: &'a str,
}

impl IpSlice {
    /// Returns the object by which a node claims a block.
    pub(crate) fn new(
        pool: &str,
        geometry: &str,
        block: &Block,
        owner: &Owner<'_>,
        now: SystemTime,
    ) -> Option<Self> {
        let scope = Scope::of_slices(pool);
        let labels = BTreeMap::from([
            (names::NODE.to_owned(), names::of_node(owner.node)),
            (names::SCOPE.to_owned(), names::of_scope(&scope)),
        ]);
        let name = names::object(&scope, block.first()?);
        Some(Self {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND.to_owned(),
            metadata: Metadata { name, labels, ..Metadata::default() },
            spec: Spec {
                pool: pool.to_owned(),
                geometry: geometry.to_owned(),
                ipv4: block.v4.map(|subnet| subnet.to_string()),
                ipv6: block.v6.map(|subnet| subnet.to_string()),
                node: owner.node.to_string(),
                machine: owner.machine.map(str::to_owned),
                node_uid: owner.node_uid.map(str::to_owned),
                boot_id: owner.boot_id.to_owned(),
                since: humantime::format_rfc3339_micros(now).to_string(),
                released: None,
                returned: None,
            },
            status: None,
        })
    }

    /// Returns the block.
    pub(crate) fn block(&self) -> Block {
        self.spec.block()
    }

    /// Returns the version, if the server has answered.
    pub(crate) fn version(&self) -> Option<Version> {
        Some(Version {
            uid: self.metadata.uid.clone()?,
            revision: self.metadata.resource_version.clone()?,
            newer: Vec::new(),
        })
    }

    /// Returns whether the node of this machine owns the slice, in whatever boot. A machine without
    /// a known ID cannot be told from another one, so it owns only what names none.
    pub(crate) fn is_of(&self, node: &NodeName, machine: Option<&str>) -> bool {
        self.spec.node == node.as_str()
            && self.spec.machine.as_deref() == machine
            && self.spec.released.is_none()
            && self.spec.returned.is_none()
            && self.metadata.deletion_timestamp.is_none()
    }
}
