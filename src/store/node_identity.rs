//! The identity of the node and the machine that a store acts for.

use crate::ipam::NodeName;

/// The identity of the node that uses a store.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// The node's name.
    pub node: NodeName,
    /// The content of `/etc/machine-id`, if the machine has one.
    pub machine_id: Option<String>,
    /// The kernel's boot ID.
    pub boot_id: String,
}
