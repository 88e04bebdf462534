//! The status of the IPPool custom resource: what the controller reports about a pool. Nodes do not
//! read it. The manifest in deploy/crd is generated from these structs.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// What the controller reports about the pool. No node reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(description = "What the controller reports about the pool. No node reads it.")]
pub struct Status {
    /// Ready, Full, Overlapping and Draining.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map"), extend("x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that the conditions and numbers are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The number of addresses of the pool: those that can be given, the reserved and the excluded
    /// ones. It is text, because a /64 has more addresses than a number of the API can count.
    #[schemars(length(max = 39), regex(pattern = r"^[0-9]+$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// The number of them that pods and claims hold.
    #[schemars(length(max = 39), regex(pattern = r"^[0-9]+$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// The number of them that can be given now, without the reserved ones.
    #[schemars(length(max = 39), regex(pattern = r"^[0-9]+$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<String>,
    /// The number of them that only certain pods get, held or not.
    #[schemars(length(max = 39), regex(pattern = r"^[0-9]+$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<String>,
    /// The number of them that are not given: excluded addresses, gateways and gaps.
    #[schemars(length(max = 39), regex(pattern = r"^[0-9]+$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded: Option<String>,
    /// The number of held addresses that the pool does not give any more.
    #[schemars(length(max = 39), regex(pattern = r"^[0-9]+$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_range: Option<String>,
    /// The slices of a pool with slices. The status of each IPSlice says who holds the addresses in
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slices: Option<Slices>,
    /// The version of the controller that wrote the conditions. An older one leaves them alone.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
}

/// How many slices a pool has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["total", "owned", "released", "free"]))]
pub struct Slices {
    /// All of them.
    pub total: u32,
    /// Those that a node owns.
    pub owned: u32,
    /// Those that an operator released, and that no node may claim yet.
    pub released: u32,
    /// Those that a node may claim.
    pub free: u32,
}

/// What is true of the pool, as the API conventions of Kubernetes want it. The controller reads the
/// conditions of claims in this form, too, and others may have left out a key there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(
    description = "What is true of the pool, as the API conventions of Kubernetes want it.",
    extend("required" = ["type", "status", "reason", "message", "lastTransitionTime"])
)]
pub struct Condition {
    /// What the condition is about.
    #[serde(rename = "type", deserialize_with = "text")]
    #[schemars(length(max = 316))]
    pub kind: String,
    /// True, False or Unknown.
    #[serde(deserialize_with = "text")]
    #[schemars(regex(pattern = r"^(True|False|Unknown)$"))]
    pub status: String,
    /// The reason, one word.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// The reason for people.
    #[serde(deserialize_with = "text")]
    #[schemars(length(max = 32768))]
    pub message: String,
    /// The generation of the spec that the condition is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status changed last.
    #[serde(deserialize_with = "text")]
    #[schemars(length(max = 64))]
    pub last_transition_time: String,
}

/// Reads a text. Null is what Kubernetes writes for a time that is not set.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_of_others_is_read_although_it_lacks_something() {
        for text in [
            r#"{"type":"Ready"}"#,
            r#"{"type":"Ready","lastTransitionTime":null,"severity":"Info"}"#,
            r#"{"type":"Ready","status":"","reason":null,"message":"","observedGeneration":null}"#,
        ] {
            let condition: Condition = serde_json::from_str(text).unwrap();
            assert_eq!(condition, Condition { kind: "Ready".to_owned(), ..Condition::default() });
        }
    }
}
