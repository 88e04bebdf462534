//! Which node and which machine a store acts for.

use crate::ipam::NodeName;

/// Identifies the node that uses a store.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// The node's name.
    pub node: NodeName,
    /// `/etc/machine-id`, where the machine has one.
    pub machine_id: Option<String>,
    /// The kernel's boot ID.
    pub boot_id: String,
}
