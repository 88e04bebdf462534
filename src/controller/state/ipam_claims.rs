//! IPAMClaims, and the sandboxes that use them.

use super::{Name, State, Version, Work};
use crate::controller::shapes::{IpamClaimObject, IpamClaimStatus};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// An IPAMClaim.
#[derive(Debug, Clone)]
pub struct IpamClaim {
    /// Which object.
    pub version: Version,
    /// The generation of its spec.
    pub generation: i64,
    /// What its status says.
    pub status: IpamClaimStatus,
    /// The name of its network. Empty if it does not say.
    pub network: Rc<str>,
    /// The addresses for which its spec asks, as texts.
    pub wanted: Vec<String>,
}

/// Why a claim has no address, as far as this is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nothing: no network of that name is known, for example.
    Unknown,
    /// Nothing is in the way of the claim, as far as this is known.
    Room,
    /// Why it gets no address.
    Lack {
        /// The reason of the condition.
        reason: &'static str,
        /// The reason for people.
        message: String,
    },
}

/// All IPAMClaims.
#[derive(Debug, Default)]
pub(super) struct IpamClaims {
    known: HashMap<Name, IpamClaim>,
    /// The uid of the claim that a sandbox uses, by the name of the sandbox's IPAllocation.
    used: HashMap<Rc<str>, Rc<str>>,
}

impl IpamClaims {
    pub(super) fn names(&self) -> impl Iterator<Item = Name> {
        self.known.keys().cloned()
    }

    pub(super) fn version(&self, name: &Name) -> Option<&Version> {
        self.known.get(name).map(|known| &known.version)
    }

    pub(super) fn missing(&self, seen: &HashSet<Name>) -> Vec<Name> {
        super::listing::missing(&self.known, seen)
    }
}

impl IpamClaim {
    /// Reads a claim. A status that somebody else wrote in another shape counts as none.
    #[must_use]
    pub fn of(object: &IpamClaimObject) -> Self {
        let status = object.data.get("status").cloned().unwrap_or_default();
        let spec = object.data.get("spec");
        let network = spec.and_then(|spec| spec.get("network")?.as_str()).unwrap_or_default();
        let wanted = spec.and_then(|spec| spec.get("ipRequests")?.as_array()).into_iter().flatten();
        Self {
            version: Version::of(&object.metadata),
            generation: object.metadata.generation.unwrap_or_default(),
            status: serde_json::from_value(status).unwrap_or_default(),
            network: network.into(),
            wanted: wanted.filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        }
    }

    /// Returns whether it asks for certain addresses.
    #[must_use]
    pub const fn asks_for_addresses(&self) -> bool {
        !self.wanted.is_empty() || !self.status.ips.is_empty()
    }
}

impl State {
    /// Returns an IPAMClaim.
    #[must_use]
    pub fn ipam_claim(&self, name: &Name) -> Option<&IpamClaim> {
        self.ipam_claims.known.get(name)
    }

    /// Notes an IPAMClaim. Returns what to look at: its status, and what an earlier claim of its name
    /// holds.
    pub fn apply_ipam_claim(&mut self, object: &IpamClaimObject) -> Vec<Work> {
        let name = Name::of(&object.metadata);
        let before = self.ipam_claims.known.insert(name.clone(), IpamClaim::of(object));
        let uid = self.ipam_claims.version(&name).map(|version| Rc::clone(&version.uid));
        let gone =
            before.map(|before| before.version.uid).filter(|before| Some(before) != uid.as_ref());
        let mut work: Vec<Work> =
            gone.iter().flat_map(|uid| self.held.of_claim(uid)).map(Work::Allocation).collect();
        work.push(Work::IpamClaim(name));
        work
    }

    pub(super) fn remove_ipam_claim(&mut self, name: &Name) -> Vec<Work> {
        let gone = self.ipam_claims.known.remove(name);
        let held = gone.iter().flat_map(|gone| self.held.of_claim(&gone.version.uid));
        held.map(Work::Allocation).collect()
    }

    /// Notes that a sandbox uses the claim of this uid. Returns what to look at.
    pub fn apply_user(&mut self, allocation: &str, claim: &str) -> Vec<Work> {
        self.ipam_claims.used.insert(allocation.into(), claim.into());
        self.work_of_used(claim)
    }

    /// Forgets an IPAllocation if it was that of a user of a claim. Returns what to look at.
    pub(super) fn forget_user(&mut self, allocation: &str) -> Vec<Work> {
        let claim = self.ipam_claims.used.remove(allocation);
        claim.map_or_else(Vec::new, |claim| self.work_of_used(&claim))
    }

    /// Returns the looks at what a claim holds, and at its status.
    fn work_of_used(&self, claim: &str) -> Vec<Work> {
        let mut work = Vec::new();
        for held in self.held.of_claim(claim) {
            let holder = self.held.named(&held).and_then(|held| held.holder.claim());
            work.extend(holder.map(|holder| Work::IpamClaim(holder.name.clone())));
            work.push(Work::Allocation(held));
        }
        work
    }
}
