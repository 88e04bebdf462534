//! The Move custom resource: how far the move of a cluster from Whereabouts to hereabouts is. There
//! is one, named `whereabouts`, and none where nothing is moved. The manifest in deploy/crd is
//! generated from these structs.
//!
//! ```text
//! (none)   -> shared     `move start`   nodes of both give addresses out of one range
//! shared   -> closing    `move finish`  Whereabouts has lost its rights
//! closing  -> finished   `move finish`  nothing is written for Whereabouts any more
//! finished -> opening    `move back`    nodes write for Whereabouts again; it has no rights yet
//! opening  -> shared     `move back`    Whereabouts has its rights again
//! shared   -> ended      `move back`    no node is hereabouts' any more
//! ended    -> shared     `move start`
//! ```

use super::ip_allocation::{GROUP, VERSION};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The plural name of the resource.
pub const PLURAL: &str = "moves";
/// The kind of the resource.
pub const KIND: &str = "Move";
/// The name of the one object.
pub const NAME: &str = "whereabouts";
/// The columns that its table shows in addition to the name: the title of each, and its path in the
/// object.
pub const COLUMNS: [(&str, &str); 3] =
    [("State", ".spec.state"), ("Generation", ".spec.generation"), ("Since", ".spec.since")];

/// A move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveObject {
    /// `hereabouts.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// `Move`.
    #[serde(default)]
    pub kind: String,
    /// Name, version and age.
    pub metadata: MoveMetadata,
    /// The state.
    pub spec: Spec,
    /// What the nodes have answered.
    #[serde(default)]
    pub status: Status,
}

/// The part of a Move's metadata that is used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveMetadata {
    /// `whereabouts`.
    pub name: String,
    /// The ID that the server gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The version that the server gave. It changes with every change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// When the server created it (RFC 3339). A later move is younger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
}

/// How far the move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MoveState {
    /// Nodes of Whereabouts and of hereabouts give addresses out of one range.
    Shared,
    /// Whereabouts gives no addresses any more. Nodes still write what it must see.
    Closing,
    /// The move has ended: nodes write nothing for Whereabouts.
    Finished,
    /// Nodes write again what Whereabouts must see. It gives no addresses yet.
    Opening,
    /// Whereabouts has all nodes again. A node that hereabouts serves nevertheless writes what
    /// Whereabouts must see.
    Ended,
}

impl std::fmt::Display for MoveState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::Closing => "closing",
            Self::Finished => "finished",
            Self::Opening => "opening",
            Self::Ended => "ended",
        })
    }
}

impl MoveState {
    /// Returns whether an address counts as given only when Whereabouts can see it.
    #[must_use]
    pub const fn shows_addresses(self) -> bool {
        !matches!(self, Self::Finished)
    }
}

/// The state of a move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(description = "How far the move is.")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.state == oldSelf.state ? self.generation == oldSelf.generation : self.generation == oldSelf.generation + 1", "message": "the generation rises by 1 with each new state, and only then" },
    { "rule": "[['shared', 'shared'], ['shared', 'closing'], ['closing', 'closing'], ['closing', 'finished'], ['closing', 'shared'], ['finished', 'finished'], ['finished', 'opening'], ['opening', 'opening'], ['opening', 'shared'], ['shared', 'ended'], ['ended', 'ended'], ['ended', 'shared']].exists(step, step[0] == oldSelf.state && step[1] == self.state)", "message": "no such step: see hereabouts move status" },
]))]
pub struct Spec {
    /// The state.
    pub state: MoveState,
    /// Rises with each change of the state. No node goes back to a lower one.
    #[schemars(range(min = 1))]
    pub generation: u64,
    /// When this state began (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// The ClusterRoleBindings of Whereabouts that `move finish` has deleted, as JSON, for `move back`.
    #[schemars(length(max = 16), inner(length(max = 65536)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
}

/// What the nodes have answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(description = "What the nodes have answered.")]
pub struct Status {
    /// By the name of the node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, NodeAnswer>,
}

/// What a node has answered: it has noted the state durably, and goes by it from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeAnswer {
    /// The generation of the state that it has noted.
    pub generation: u64,
    /// Whose the executable `whereabouts` of the node is.
    pub executable: Executable,
    /// When it answered (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
}

/// Whose the executable `whereabouts` of a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Executable {
    /// The node has none.
    None,
    /// It is hereabouts under this name.
    Hereabouts,
    /// It is another program.
    Other,
}

impl MoveObject {
    /// Returns the object of a move that begins.
    #[must_use]
    pub fn new(since: String) -> Self {
        Self {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND.to_owned(),
            metadata: MoveMetadata { name: NAME.to_owned(), ..MoveMetadata::default() },
            spec: Spec { state: MoveState::Shared, generation: 1, since, kept: Vec::new() },
            status: Status::default(),
        }
    }
}
