//! Which allocations a listing means.

use crate::ipam::{Allocation, NetworkName, NodeName, Scope};
use crate::retry::Deadline;
use std::sync::Arc;

/// Which allocations to list.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Of this node alone.
    pub node: Option<NodeName>,
    /// Also what the store knows to be this machine's under another name, where
    /// `node` is its own.
    pub earlier_names: bool,
    /// Of this network alone.
    pub network: Option<NetworkName>,
    /// Of this scope alone.
    pub scope: Option<Scope>,
    /// This address alone, in any scope; looked up, not searched for.
    pub address: Option<std::net::IpAddr>,
    /// Of this pod alone.
    pub pod: Option<PodName>,
    /// None of these attachments; a store may pass over them unread.
    pub spared: Option<Spared>,
    /// Until when to try, for a store that may have to.
    pub deadline: Option<Deadline>,
}

/// A pod as an operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace; `None` for any.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl PodName {
    fn is_of(&self, allocation: &Allocation) -> bool {
        let pod = allocation.held.pod.as_ref();
        pod.is_some_and(|pod| pod.name == self.name && self.namespace.as_ref().is_none_or(|namespace| *namespace == pod.namespace))
    }
}

/// Attachments by container id and interface.
pub type Spared = Arc<crate::ipam::AttachmentSet>;

impl Filter {
    /// Whether an allocation is meant.
    #[must_use]
    pub fn matches(&self, allocation: &Allocation) -> bool {
        let attachment = &allocation.held.attachment;
        self.node.as_ref().is_none_or(|node| *node == attachment.node)
            && self.network.as_ref().is_none_or(|network| *network == attachment.network)
            && self.scope.as_ref().is_none_or(|scope| *scope == allocation.scope)
            && self.address.is_none_or(|address| address == allocation.address)
            && self.pod.as_ref().is_none_or(|pod| pod.is_of(allocation))
            && self.spared.as_ref().is_none_or(|spared| !spared.contains(attachment.container.as_str(), attachment.ifname.as_str()))
    }
}
