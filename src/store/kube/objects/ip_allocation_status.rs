//! The status of the IPAllocation custom resource: marks of the controller. No node reads or writes
//! it. The manifest in deploy/crd is generated from these structs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the controller notes about the record. It decides nothing about who holds the address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(
    description = "What the controller notes about the record. It decides nothing about who holds the address."
)]
pub struct Status {
    /// The node of the record is out of service, and the controller is about to free the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_service: Option<OutOfService>,
}

/// The mark on a record whose node is out of service. Without it, an admission policy does not let
/// the controller free the address. It counts only for this generation of the record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(
    description = "The node of the record is out of service, and the controller is about to free the address.",
    extend("required" = ["node", "nodeUID", "generation", "since"])
)]
pub struct OutOfService {
    /// The name of the Node with the taint.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// The uid of that Node.
    #[serde(rename = "nodeUID")]
    #[schemars(length(min = 1, max = 512))]
    pub node_uid: String,
    /// The metadata.generation of the record that was marked. It rises with each change of the spec.
    #[schemars(range(min = 1))]
    pub generation: i64,
    /// When the controller saw the taint first, by the clock of the API server (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
}

impl Status {
    /// Returns the uid of the Node that this generation of a record is marked for.
    #[must_use]
    pub fn marked_for(&self, generation: Option<i64>) -> Option<&str> {
        let mark = self.out_of_service.as_ref()?;
        (generation == Some(mark.generation)).then_some(mark.node_uid.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_counts_for_one_generation() {
        let mark = OutOfService { node_uid: "u1".to_owned(), generation: 3, ..Default::default() };
        let status = Status { out_of_service: Some(mark) };
        assert_eq!(status.marked_for(Some(3)), Some("u1"));
        for other in [Some(2), Some(4), None] {
            assert_eq!(status.marked_for(other), None, "{other:?}");
        }
        assert_eq!(Status::default().marked_for(Some(0)), None);
    }
}
