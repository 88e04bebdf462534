//! IPAMClaims: claims of addresses that outlive a pod. A virtual machine keeps its addresses in this
//! way, whichever pods run it (k8s.cni.cncf.io/v1alpha1; github.com/k8snetworkplumbingwg/ipamclaims).
//!
//! The claim holds its addresses, by its UID. A sandbox that has them is a user of the claim: it
//! holds the same addresses in one of two scopes that only this claim has. Two users at once are
//! allowed only for one virtual machine, while it moves to another node.

use super::{Candidates, ClaimAllocation, Slot, Source};
use crate::addr::{AddrSet, Family, Range};
use std::collections::HashSet;
use std::net::IpAddr;
use std::rc::Rc;

/// The most users of a claim.
pub const USERS: u8 = 2;

/// An IPAMClaim, as far as an ADD needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpamClaim {
    /// Its namespace, which is that of the pod.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Whether it is being deleted.
    pub is_ending: bool,
    /// The name of the network that it is for. Empty if it does not say.
    pub network: String,
    /// The addresses that it asks for (`spec.ipRequests`), each with the prefix length.
    pub wanted: Vec<String>,
    /// The addresses that its status names. They are only a wish: what the claim holds is in the
    /// IPAllocations.
    pub told: Vec<String>,
    /// The virtual machine that owns it.
    pub machine: Option<String>,
}

impl std::fmt::Display for IpamClaim {
    /// Writes kind, namespace and name: `IPAMClaim default/vm.blue`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IPAMClaim {}/{}", self.namespace, self.name)
    }
}

/// The virtual machine that a pod runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The label `vm.kubevirt.io/name`.
    pub label: String,
    /// The name of the VirtualMachineInstance that owns the pod. A label cannot have a long name.
    pub owner: String,
}

impl Machine {
    /// Returns whether this is the virtual machine of a name.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        [&self.label, &self.owner].iter().any(|own| *own == name)
    }
}

/// A pod that may use a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimPod {
    /// Its UID.
    pub uid: String,
    /// The virtual machine that it runs.
    pub machine: Option<Machine>,
    /// Its interfaces that ask for a claim, each with the name of the claim.
    pub references: Vec<(String, String)>,
}

impl ClaimPod {
    /// Returns the name of the claim that the pod asks for at an interface.
    #[must_use]
    pub fn claim_of(&self, interface: &str) -> Option<&str> {
        let found = self.references.iter().find(|(name, _)| name == interface);
        found.map(|(_, claim)| claim.as_str())
    }
}

/// Why a pod does not get the addresses of a claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimProblem {
    /// The store has no claims.
    #[error("the file store has no IPAMClaims")]
    NoClaims,
    /// The call names no pod.
    #[error("CNI_ARGS names no pod, and a claim is one of the pod's namespace")]
    NoPod,
    /// The pod of the call is not the one that the API server has.
    #[error("the API server has no pod {0} with the uid that CNI_ARGS names")]
    UnknownPod(String),
    /// The pod names no claim for the interface.
    #[error("expected a claim of this name in the namespace of the pod, found none")]
    Absent,
    /// The claim is being deleted.
    #[error("it is being deleted")]
    Ending,
    /// One of its addresses is being freed.
    #[error("its address {0} is being freed, because its IPAllocation was deleted")]
    AddressEnding(IpAddr),
    /// The claim is for another network.
    #[error("it is for the network {expected}, and this network is {found}")]
    OtherNetwork {
        /// The network in the claim.
        expected: String,
        /// The network of the ADD.
        found: String,
    },
    /// The claim is that of a virtual machine, and the pod runs another one or none.
    #[error("it is owned by the virtual machine {expected}, and the pod runs {found}")]
    OtherMachine {
        /// The owner of the claim.
        expected: String,
        /// The virtual machine of the pod, or "none".
        found: String,
    },
    /// Somebody else uses the claim.
    #[error("it is in use by {0}")]
    InUse(String),
    /// It holds other addresses than those that the pod asks for.
    #[error("it holds {holds}, and the pod requests {asked}")]
    HoldsOthers {
        /// The requested address.
        asked: IpAddr,
        /// The addresses that the claim holds.
        holds: String,
    },
    /// The address was freed while the ADD used it.
    #[error("its address {0} was freed while this call was under way")]
    Freed(IpAddr),
}

impl ClaimProblem {
    /// Returns advice, if there is any.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoClaims => Some(
                "use the Kubernetes store, or remove the claim from the pod and allowPersistentIPs from the network",
            ),
            Self::Absent => Some("\"kubectl get ipamclaims\" shows those that exist"),
            Self::AddressEnding(_) => Some(
                "hereabouts-controller frees it when no pod uses the claim any more; the claim then gets another address",
            ),
            Self::OtherNetwork { .. } => {
                Some("correct the claim of the pod, or spec.network of the claim")
            }
            Self::OtherMachine { .. } => {
                Some("a pod of another virtual machine needs a claim of its own")
            }
            Self::InUse(_) => Some(
                "only two pods of one virtual machine may use a claim at once, while it moves; if the node of that pod is off for good, \"hereabouts release --node\" ends its use",
            ),
            Self::HoldsOthers { .. } => {
                Some("remove the request: a claim keeps the addresses that it has")
            }
            Self::NoPod | Self::UnknownPod(_) | Self::Ending | Self::Freed(_) => None,
        }
    }
}

/// Whether a slot may get an address of a claim.
type Rule<'r> = &'r dyn Fn(&Slot, &ClaimAllocation) -> bool;

/// Returns which address of a claim each slot gets: `None` where the claim has to get one.
///
/// A slot gets an address that it could give. An address that no slot could give any more, because
/// the ranges have changed, goes to a slot of its family: a claim keeps what it has.
///
/// # Errors
/// [`ClaimProblem::HoldsOthers`] if a slot is for an address that the pod requests.
pub fn assign<'h>(
    slots: &[Slot],
    held: &'h [ClaimAllocation],
) -> Result<Vec<Option<&'h ClaimAllocation>>, ClaimProblem> {
    let mut taken: HashSet<IpAddr> = HashSet::new();
    let mut assigned: Vec<Option<&ClaimAllocation>> = vec![None; slots.len()];
    let gives = |slot: &Slot, held: &ClaimAllocation| {
        slot.candidates.iter().any(|candidates| candidates.addresses.contains(held.address))
    };
    let is_of_family = |slot: &Slot, held: &ClaimAllocation| {
        let family = Family::of(held.address);
        slot.candidates.first().is_some_and(|candidates| candidates.addresses.family() == family)
    };
    let rules: [Rule<'_>; 2] = [&gives, &is_of_family];
    for rule in rules {
        for (slot, assigned) in slots.iter().zip(&mut assigned) {
            if assigned.is_some() {
                continue;
            }
            let found = held.iter().find(|held| !taken.contains(&held.address) && rule(slot, held));
            taken.extend(found.map(|held| held.address));
            *assigned = found;
        }
    }
    for (slot, assigned) in slots.iter().zip(&assigned) {
        let Some(assigned) = assigned.filter(|held| !gives(slot, held)) else { continue };
        let asked = slot.candidates.first().and_then(|candidates| candidates.addresses.nth(0));
        if slot.source == Source::Requested
            && let Some(asked) = asked
        {
            let holds = assigned.address.to_string();
            return Err(ClaimProblem::HoldsOthers { asked, holds });
        }
    }
    Ok(assigned)
}

/// Returns the slot in which a user of a claim gets an address of it.
#[must_use]
pub fn slot_of_user(slot: &Slot, held: &ClaimAllocation) -> Slot {
    Slot {
        part: slot.part,
        source: Source::Static,
        candidates: vec![Candidates {
            addresses: AddrSet::from_range(&Range::single(held.address)),
            prefix: held.prefix,
            gateway: held.gateway,
        }],
        fallback: Rc::default(),
    }
}
