//! An address that is held by a claim: an object, such as an IPAddressClaim of Cluster API, that
//! asks for an address of a pool. It belongs to no sandbox and no node.

use super::{Allocation, Scope, Source, Version};
use crate::addr::Family;
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

/// The API group of an IPAMClaim.
pub const IPAM_CLAIM_GROUP: &str = "k8s.cni.cncf.io";
/// The kind of an IPAMClaim.
pub const IPAM_CLAIM: &str = "IPAMClaim";

/// An object of the Kubernetes API. The UID tells it from later objects of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// The API group, without the version.
    pub api_group: String,
    /// The kind.
    pub kind: String,
    /// The namespace; `None` for an object of the whole cluster.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The UID.
    pub uid: String,
}

impl ObjectRef {
    /// Returns whether it is an IPAMClaim: the claim of a pod that may be followed by others, such as
    /// the pods of a virtual machine.
    #[must_use]
    pub fn is_ipam_claim(&self) -> bool {
        (self.api_group.as_str(), self.kind.as_str()) == (IPAM_CLAIM_GROUP, IPAM_CLAIM)
    }
}

impl fmt::Display for ObjectRef {
    /// Writes kind, namespace and name: `IPAddressClaim default/machine-0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// One address that a claim holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimAllocation {
    /// The scope in which the address is unique.
    pub scope: Scope,
    /// The address.
    pub address: IpAddr,
    /// The prefix length of the answer.
    pub prefix: u8,
    /// The gateway of the answer.
    pub gateway: Option<IpAddr>,
    /// When the address was given.
    pub since: SystemTime,
    /// Why this address was chosen. Never [`Source::Static`]: no claim has a network configuration.
    pub source: Source,
    /// The claim that holds the address. It always has a namespace.
    pub claim: ObjectRef,
    /// The pool that the claim names. `None` for an IPAMClaim, which names a network.
    pub pool: Option<ObjectRef>,
    /// Whether the object is being deleted. Until it is gone, the claim holds the address.
    pub is_ending: bool,
    /// The version of the object that was read; `None` for one that is not created yet.
    pub version: Option<Version>,
}

impl ClaimAllocation {
    /// Returns the name of a field with a value that no answer to a claim can have.
    #[must_use]
    pub fn impossible(&self) -> Option<&'static str> {
        let family = Family::of(self.address);
        if family.bits() < self.prefix {
            return Some("prefix");
        }
        if self.gateway.is_some_and(|gateway| Family::of(gateway) != family) {
            return Some("gateway");
        }
        if self.claim.namespace.is_none() {
            return Some("claim");
        }
        if self.pool.is_none() && !self.claim.is_ipam_claim() {
            return Some("pool");
        }
        (self.source == Source::Static).then_some("source")
    }
}

/// An address with its holder, of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum HeldAddress {
    /// An attachment holds it.
    Attachment(Box<Allocation>),
    /// A claim holds it.
    Claim(Box<ClaimAllocation>),
}

impl HeldAddress {
    /// Returns the scope in which the address is unique.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        match self {
            Self::Attachment(held) => &held.scope,
            Self::Claim(held) => &held.scope,
        }
    }

    /// Returns the address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        match self {
            Self::Attachment(held) => held.address,
            Self::Claim(held) => held.address,
        }
    }

    /// Returns who holds the address, for people: [`Allocation::holder`], or the claim.
    #[must_use]
    pub fn holder(&self) -> String {
        match self {
            Self::Attachment(held) => held.holder(),
            Self::Claim(held) => held.claim.to_string(),
        }
    }

    /// Returns the allocation if an attachment holds the address.
    #[must_use]
    pub fn of_attachment(self) -> Option<Allocation> {
        match self {
            Self::Attachment(held) => Some(*held),
            Self::Claim(_) => None,
        }
    }

    /// Returns the allocation if a claim holds the address.
    #[must_use]
    pub fn of_claim(self) -> Option<ClaimAllocation> {
        match self {
            Self::Attachment(_) => None,
            Self::Claim(held) => Some(*held),
        }
    }
}

impl From<Allocation> for HeldAddress {
    fn from(held: Allocation) -> Self {
        Self::Attachment(Box::new(held))
    }
}

impl From<ClaimAllocation> for HeldAddress {
    fn from(held: ClaimAllocation) -> Self {
        Self::Claim(Box::new(held))
    }
}
