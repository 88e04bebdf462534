//! The addresses that are held, of pods as well as of claims, by scope.

use super::objects::{Name, Version, is_newer};
use crate::controller::pool::PoolId;
use crate::ipam::adoption::Recorded;
use crate::ipam::leak::Holder as Attached;
use crate::store::kube::objects::{FORMAT, names};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Bound;
use std::rc::Rc;
use tokio::time::Instant;

/// Who holds an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// An interface of a pod.
    Attachment(Rc<Attached>),
    /// A claim, or an answer without a claim.
    Claim(Box<ClaimHolder>),
    /// This controller asks for it, for the claim of this uid, or will do so next.
    Asked(Rc<str>),
    /// The API server said that it is held, and the watch has not yet said by whom. Believed until
    /// this time.
    Unknown(Instant),
}

impl Holder {
    /// Returns the claim that holds the address.
    #[must_use]
    pub const fn claim(&self) -> Option<&ClaimHolder> {
        match self {
            Self::Claim(holder) => Some(holder),
            Self::Attachment(_) | Self::Asked(_) | Self::Unknown(_) => None,
        }
    }

    /// Returns the holder, if a watch has told of it.
    #[must_use]
    pub fn recorded(&self) -> Option<Recorded<'_>> {
        match self {
            Self::Claim(holder) => Some(Recorded::Claim {
                kind: &holder.kind,
                namespace: &holder.name.namespace,
                name: &holder.name.name,
            }),
            Self::Attachment(held) => Some(Recorded::Attachment(held)),
            Self::Asked(_) | Self::Unknown(_) => None,
        }
    }

    /// Returns the same for people.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        self.recorded().map(|holder| holder.told())
    }
}

/// The claim that holds an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimHolder {
    /// The kind: a claim, or an answer that nobody claims.
    pub kind: String,
    /// The uid.
    pub uid: Rc<str>,
    /// The name.
    pub name: Name,
    /// The pool; `None` if the kind is not one of ours.
    pub pool: Option<Rc<PoolId>>,
    /// The prefix length of the answer.
    pub prefix: u8,
    /// The gateway of the answer.
    pub gateway: Option<IpAddr>,
    /// Whether the IPAllocation is being deleted. Until it is gone, the claim holds the address.
    pub is_ending: bool,
    /// The format of the record, if a later version wrote it. Such a record is left alone.
    pub later_format: Option<u64>,
}

impl ClaimHolder {
    /// Returns that a later version wrote the record of this name, for people.
    #[must_use]
    pub fn of_later_version(&self, name: &str) -> Option<String> {
        let format = self.later_format?;
        Some(format!(
            "IPAllocation {name} was written by a later version of hereabouts (format {format}, but this version reads only up to {FORMAT}); install the newer hereabouts again"
        ))
    }
}

/// An address that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Which object.
    pub version: Version,
    /// Its holder.
    pub holder: Holder,
}

impl Holding {
    /// Returns whether a watch has told of it, or the answer to a creation.
    #[must_use]
    pub const fn is_told(&self) -> bool {
        matches!(self.holder, Holder::Attachment(_) | Holder::Claim(_))
    }
}

/// All that is held.
#[derive(Debug, Default)]
pub struct Held {
    scopes: HashMap<Rc<str>, BTreeMap<IpAddr, Holding>>,
    /// The names of the IPAllocations of a claim, by its uid.
    of_claims: HashMap<Rc<str>, BTreeSet<Rc<str>>>,
}

impl Held {
    /// Returns who holds an address. `scope` is the part of the scope in names of IPAllocations.
    #[must_use]
    pub fn get(&self, scope: &str, address: IpAddr) -> Option<&Holding> {
        self.scopes.get(scope)?.get(&address)
    }

    /// Returns how many addresses are held.
    #[must_use]
    pub fn count(&self) -> usize {
        self.scopes.values().map(BTreeMap::len).sum()
    }

    /// Returns how many addresses are held in a scope.
    #[must_use]
    pub fn count_in(&self, scope: &str) -> usize {
        self.scopes.get(scope).map_or(0, BTreeMap::len)
    }

    /// Returns an IPAllocation by its name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Holding> {
        let (scope, address) = names::split(name)?;
        self.get(scope, address)
    }

    /// Returns what is held in a scope between two addresses, in order.
    pub fn between(
        &self,
        scope: &str,
        first: IpAddr,
        last: IpAddr,
    ) -> impl Iterator<Item = (&IpAddr, &Holding)> {
        self.scopes.get(scope).into_iter().flat_map(move |held| held.range(first..=last))
    }

    /// Returns what is held in a scope from a bound to an address of the same family, in order.
    pub fn from(
        &self,
        scope: &str,
        first: Bound<IpAddr>,
        last: IpAddr,
    ) -> impl Iterator<Item = (&IpAddr, &Holding)> {
        let held = self.scopes.get(scope).into_iter();
        held.flat_map(move |held| held.range((first, Bound::Included(last))))
    }

    /// Returns the attachments that hold addresses, each with its scope, in no order.
    pub fn attachments(&self) -> impl Iterator<Item = (&Rc<str>, &Version, &Attached)> {
        let all = self
            .scopes
            .iter()
            .flat_map(|(scope, held)| held.values().map(move |holding| (scope, holding)));
        all.filter_map(|(scope, holding)| match &holding.holder {
            Holder::Attachment(attached) => Some((scope, &holding.version, &**attached)),
            Holder::Claim(_) | Holder::Asked(_) | Holder::Unknown(_) => None,
        })
    }

    /// Returns all scopes in which an address is held, in no order.
    pub fn scopes(&self) -> impl Iterator<Item = &Rc<str>> {
        self.scopes.keys()
    }

    /// Returns everything that is held in a scope.
    pub fn in_scope(&self, scope: &str) -> impl Iterator<Item = &Holding> {
        self.scopes.get(scope).into_iter().flat_map(BTreeMap::values)
    }

    /// Notes an IPAllocation. Returns whether that was new. `is_anew`: also if it is older than what
    /// is known.
    pub fn insert(&mut self, name: &str, holding: Holding, is_anew: bool) -> bool {
        let Some((scope, address)) = names::split(name) else {
            return false;
        };
        let known = self.get(scope, address);
        let is_known = known.is_some_and(|known| {
            !is_anew
                && !matches!(known.holder, Holder::Asked(_) | Holder::Unknown(_))
                && !is_newer(&holding.version, &known.version)
        });
        if is_known {
            return false;
        }
        self.remove(name);
        let scope: Rc<str> = match self.scopes.get_key_value(scope) {
            Some((known, _)) => Rc::clone(known),
            None => scope.into(),
        };
        if let Some(uid) = uid_of(&holding) {
            self.of_claims.entry(uid).or_default().insert(name.into());
        }
        self.scopes.entry(scope).or_default().insert(address, holding);
        true
    }

    /// Forgets an IPAllocation. Returns its scope, if it was known.
    pub fn remove(&mut self, name: &str) -> Option<Rc<str>> {
        let (scope, address) = names::split(name)?;
        let (label, held) = self.scopes.get_key_value(scope)?;
        let label = Rc::clone(label);
        let holding = held.get(&address)?.clone();
        if let Some(uid) = uid_of(&holding)
            && let Some(names) = self.of_claims.get_mut(&uid)
        {
            names.remove(name);
            if names.is_empty() {
                self.of_claims.remove(&uid);
            }
        }
        let held = self.scopes.get_mut(scope)?;
        held.remove(&address);
        if held.is_empty() {
            self.scopes.remove(scope);
        }
        Some(label)
    }

    /// Returns the names of the IPAllocations of a claim, the lowest first.
    pub fn of_claim(&self, uid: &str) -> impl Iterator<Item = Rc<str>> {
        self.of_claims.get(uid).into_iter().flatten().cloned()
    }

    /// Forgets the addresses that a claim was promised and did not get.
    pub fn forget_promises(&mut self, uid: &str) {
        let is_promised = |name: &Rc<str>| {
            matches!(self.named(name), Some(Holding { holder: Holder::Asked(_), .. }))
        };
        let promised: Vec<Rc<str>> = self.of_claim(uid).filter(is_promised).collect();
        for name in promised {
            self.remove(&name);
        }
    }

    /// Returns the names of all IPAllocations that claims hold.
    pub fn names_of_claims(&self) -> impl Iterator<Item = Rc<str>> {
        self.of_claims.values().flatten().cloned()
    }

    /// Returns the names of all IPAllocations that a watch has told of.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        self.scopes.iter().flat_map(|(scope, held)| {
            held.iter().filter(|(_, holding)| holding.is_told()).map(move |(address, _)| Name {
                namespace: "".into(),
                name: names::join(scope, *address).as_str().into(),
            })
        })
    }
}

fn uid_of(holding: &Holding) -> Option<Rc<str>> {
    match &holding.holder {
        Holder::Claim(holder) => Some(Rc::clone(&holder.uid)),
        Holder::Asked(uid) => Some(Rc::clone(uid)),
        Holder::Attachment(_) | Holder::Unknown(_) => None,
    }
}
