//! The filter that selects allocations for a listing.

use crate::ipam::{Allocation, ClaimAllocation, HeldAddress, NetworkName, NodeName, Scope};
use crate::retry::Deadline;
use std::sync::Arc;

/// The allocations to list.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only those of this node.
    pub node: Option<NodeName>,
    /// Also those that the store knows this machine to hold under another name, if `node` is its
    /// own name.
    pub earlier_names: bool,
    /// Only those of this network.
    pub network: Option<NetworkName>,
    /// Only those of this scope.
    pub scope: Option<Scope>,
    /// Only this address, in any scope. The store looks it up directly.
    pub address: Option<std::net::IpAddr>,
    /// Only those of this pod.
    pub pod: Option<PodName>,
    /// Only those of this claim.
    pub claim: Option<ClaimName>,
    /// None of these attachments. A store may skip their records without reading them.
    pub spared: Option<Spared>,
    /// The time until which a store tries, if it has to try repeatedly.
    pub deadline: Option<Deadline>,
}

/// A pod as an operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// The namespace; `None` for any.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl PodName {
    fn is_of(&self, allocation: &Allocation) -> bool {
        let pod = allocation.record.pod.as_ref();
        pod.is_some_and(|pod| {
            pod.name == self.name
                && self.namespace.as_ref().is_none_or(|namespace| *namespace == pod.namespace)
        })
    }
}

/// A claim as an operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ClaimName {
    fn is_of(&self, held: &ClaimAllocation) -> bool {
        held.claim.name == self.name && held.claim.namespace.as_ref() == Some(&self.namespace)
    }
}

/// Attachments by container ID and interface.
pub type Spared = Arc<crate::ipam::AttachmentSet>;

impl Filter {
    /// Returns whether an allocation passes the filter.
    #[must_use]
    pub fn matches(&self, allocation: &Allocation) -> bool {
        let attachment = &allocation.record.attachment;
        self.claim.is_none()
            && self.node.as_ref().is_none_or(|node| *node == attachment.node)
            && self.network.as_ref().is_none_or(|network| *network == attachment.network)
            && self.scope.as_ref().is_none_or(|scope| *scope == allocation.scope)
            && self.address.is_none_or(|address| address == allocation.address)
            && self.pod.as_ref().is_none_or(|pod| pod.is_of(allocation))
            && self.spared.as_ref().is_none_or(|spared| {
                !spared.contains(attachment.container.as_str(), attachment.ifname.as_str())
            })
    }

    /// Returns whether an address that a claim holds passes the filter. A claim is of no node, no
    /// network and no pod.
    #[must_use]
    pub fn matches_claim(&self, held: &ClaimAllocation) -> bool {
        self.node.is_none()
            && self.network.is_none()
            && self.pod.is_none()
            && self.scope.as_ref().is_none_or(|scope| *scope == held.scope)
            && self.address.is_none_or(|address| address == held.address)
            && self.claim.as_ref().is_none_or(|claim| claim.is_of(held))
    }

    /// Returns whether an address passes the filter.
    #[must_use]
    pub fn matches_held(&self, held: &HeldAddress) -> bool {
        match held {
            HeldAddress::Attachment(held) => self.matches(held),
            HeldAddress::Claim(held) => self.matches_claim(held),
        }
    }
}
