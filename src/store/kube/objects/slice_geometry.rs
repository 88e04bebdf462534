//! The IPSliceGeometry custom resource: how a pool is cut into slices. The first node that claims a
//! slice of a pool creates it, and no node claims a slice by another geometry: two nodes that read
//! a pool at different times would cut one block in two ways. The manifest in deploy/crd is
//! generated from these structs.

use super::ip_allocation::{GROUP, Metadata, VERSION};
use super::names;
use crate::addr::{Family, Subnet};
use crate::ipam::{Block, Geometry, Scope, Slicing, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The plural name of the resource.
pub const PLURAL: &str = "ipslicegeometries";
/// The kind of the resource.
pub const KIND: &str = "IPSliceGeometry";
/// The columns that its table shows in addition to the name: the title of each, and its path in the
/// object.
pub const COLUMNS: [(&str, &str); 5] = [
    ("Pool", ".spec.pool"),
    ("IPv4", ".spec.ranges[0].ipv4"),
    ("IPv6", ".spec.ranges[0].ipv6"),
    ("IPv4 slice", ".spec.ipv4MaskSize"),
    ("IPv6 slice", ".spec.ipv6MaskSize"),
];

/// How a pool is cut.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceGeometry {
    /// `hereabouts.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// `IPSliceGeometry`.
    #[serde(default)]
    pub kind: String,
    /// Name and version.
    pub metadata: Metadata,
    /// The ranges, and the size of a slice.
    pub spec: Spec,
}

/// The ranges, and the size of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(description = "The ranges, and the size of a slice.")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.ipv4MaskSize) == has(oldSelf.ipv4MaskSize) && has(self.ipv6MaskSize) == has(oldSelf.ipv6MaskSize)", "message": "the size of a slice never changes" },
    {
        "rule": "oldSelf.ranges.size() <= self.ranges.size() && oldSelf.ranges == self.ranges.slice(0, oldSelf.ranges.size())",
        "message": "ranges only grow at the end: nodes own slices of them",
    },
]))]
pub struct Spec {
    /// The name of the pool.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    pub pool: String,
    /// The ranges of the pool.
    #[schemars(length(min = 1, max = 64))]
    pub ranges: Vec<Range>,
    /// The prefix length of the IPv4 part of a slice.
    #[schemars(range(max = 32), extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_mask_size: Option<u8>,
    /// The prefix length of the IPv6 part of a slice.
    #[schemars(range(max = 128), extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_mask_size: Option<u8>,
}

/// A range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Range {
    /// The IPv4 subnet.
    #[schemars(length(max = 18))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    /// The IPv6 subnet.
    #[schemars(length(max = 43))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
}

impl SliceGeometry {
    /// Returns the object of a pool.
    pub(crate) fn of(slicing: &Slicing) -> Self {
        let text = |subnet: Option<Subnet>| subnet.map(|subnet| subnet.to_string());
        let range = |block: &Block| Range { ipv4: text(block.v4), ipv6: text(block.v6) };
        let geometry = &slicing.geometry;
        Self {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND.to_owned(),
            metadata: Metadata { name: name(&slicing.pool), ..Metadata::default() },
            spec: Spec {
                pool: slicing.pool.clone(),
                ranges: geometry.ranges().iter().map(range).collect(),
                ipv4_mask_size: geometry.length(Family::V4),
                ipv6_mask_size: geometry.length(Family::V6),
            },
        }
    }

    /// Returns the geometry, or why the object describes none.
    pub(crate) fn geometry(&self) -> Result<Geometry, String> {
        let subnet = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => Subnet::parse(text).map(Some).map_err(|error| error.to_string()),
        };
        let block = |range: &Range| -> Result<Block, String> {
            Ok(Block { v4: subnet(&range.ipv4)?, v6: subnet(&range.ipv6)? })
        };
        let blocks = self.spec.ranges.iter().map(block).collect::<Result<Vec<_>, _>>()?;
        Geometry::new(blocks, self.spec.ipv4_mask_size, self.spec.ipv6_mask_size)
    }

    /// Returns the version, if the server has answered.
    pub(crate) fn version(&self) -> Option<Version> {
        Some(Version {
            uid: self.metadata.uid.clone()?,
            revision: self.metadata.resource_version.clone()?,
            newer: Vec::new(),
        })
    }
}

/// Returns the name of the object of a pool.
pub(crate) fn name(pool: &str) -> String {
    names::label(Scope::of_slices(pool).name().unwrap_or_default())
}
