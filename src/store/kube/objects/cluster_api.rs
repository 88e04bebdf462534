//! The fields of objects of Cluster API that both the controller and the command line read: which pool
//! an IPAddress is of, and the scope of that pool.
//!
//! Every field may be absent.

use super::{ip_allocation, ip_pool};
use crate::ipam::Scope;
use serde::{Deserialize, Serialize};

/// The group of claims, addresses and the provider's pools.
pub const IPAM: &str = "ipam.cluster.x-k8s.io";
/// The kind of a claim.
pub const CLAIM: &str = "IPAddressClaim";
/// The kind of an answer.
pub const ADDRESS: &str = "IPAddress";

/// On a pool of Cluster API: the scope in which its addresses are unique.
pub const SCOPE: &str = "hereabouts.dev/scope";
/// On a pool of Cluster API, written by the controller: the scope that it gives from.
pub const SCOPE_IN_USE: &str = "hereabouts.dev/scope-in-use";

/// The name of a pool. A pool with a namespace is in that of the claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolRef {
    /// The group of the pool's kind.
    #[serde(rename = "apiGroup")]
    pub api_group: String,
    /// The pool's kind.
    pub kind: String,
    /// The pool's name.
    pub name: String,
}

/// The name of an object in the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameRef {
    /// The name. Empty if there is none.
    pub name: String,
}

impl NameRef {
    /// Returns whether it names nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.name.is_empty()
    }
}

/// An answer to a claim.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressSpec {
    /// The claim.
    pub claim_ref: NameRef,
    /// The pool.
    pub pool_ref: PoolRef,
    /// The address.
    pub address: String,
    /// The prefix length of the subnet.
    pub prefix: u8,
    /// The gateway. Empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
}

/// The kinds of pools that claims may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolKind {
    /// `InClusterIPPool` of Cluster API, in a namespace.
    InCluster,
    /// `GlobalInClusterIPPool` of Cluster API.
    GlobalInCluster,
    /// `IPPool` of hereabouts.
    Own,
}

impl PoolKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::InCluster, Self::GlobalInCluster, Self::Own];

    /// Returns the group of the kind.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::InCluster | Self::GlobalInCluster => IPAM,
            Self::Own => ip_allocation::GROUP,
        }
    }

    /// Returns the version that is read.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::InCluster | Self::GlobalInCluster => "v1alpha2",
            Self::Own => ip_allocation::VERSION,
        }
    }

    /// Returns the resource of the kind.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::InCluster => "inclusterippools",
            Self::GlobalInCluster => "globalinclusterippools",
            Self::Own => ip_pool::PLURAL,
        }
    }

    /// Returns the resource of the status of the kind.
    #[must_use]
    pub const fn status(self) -> &'static str {
        match self {
            Self::InCluster => "inclusterippools/status",
            Self::GlobalInCluster => "globalinclusterippools/status",
            Self::Own => "ippools/status",
        }
    }

    /// Returns the name of the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InCluster => "InClusterIPPool",
            Self::GlobalInCluster => "GlobalInClusterIPPool",
            Self::Own => ip_pool::KIND,
        }
    }
}

/// Which pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId {
    /// The kind.
    pub kind: PoolKind,
    /// The namespace. Empty for a pool without one.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl PoolId {
    /// Returns the pool that a claim of this namespace names, or `None` for a kind of others.
    #[must_use]
    pub fn named(reference: &PoolRef, namespace: &str) -> Option<Self> {
        let kind = PoolKind::ALL
            .into_iter()
            .find(|kind| kind.group() == reference.api_group && kind.name() == reference.kind)?;
        let namespace = if kind == PoolKind::InCluster { namespace } else { "" };
        Some(Self { kind, namespace: namespace.to_owned(), name: reference.name.clone() })
    }

    /// Returns the text of a pool of prefixes that a claim names. These kinds of Cluster API's
    /// provider (v1.1.0) give whole IPv6 prefixes.
    #[must_use]
    pub fn of_prefixes(reference: &PoolRef) -> Option<String> {
        let kinds = ["InClusterPrefixPool", "GlobalInClusterPrefixPool"];
        let is_one = reference.api_group == IPAM && kinds.contains(&reference.kind.as_str());
        is_one.then(|| format!("{} {}", reference.kind, reference.name))
    }

    /// Returns the scope in which the addresses of a pool of Cluster API are unique, unless the
    /// pool says otherwise. Two pools with the same addresses are two networks there.
    #[must_use]
    pub fn own_scope(&self) -> Scope {
        let Self { kind, namespace, name } = self;
        let text = match namespace.is_empty() {
            true => format!("{}{}/{name}", Scope::OF_CLUSTER_API, kind.name()),
            false => format!("{}{}/{namespace}/{name}", Scope::OF_CLUSTER_API, kind.name()),
        };
        // A name may have 253 characters, and so may a scope.
        Scope::parse(&text).unwrap_or_else(|_| {
            let hash = crate::digest::short(&[&text]);
            Scope::parse(&format!("{}{}/{hash}", Scope::OF_CLUSTER_API, kind.name()))
                .unwrap_or_default()
        })
    }
}

impl PoolId {
    /// Returns the scope from which a pool of Cluster API gives. `in_use` is the annotation that the
    /// controller writes, if there is one.
    #[must_use]
    pub fn scope(&self, in_use: Option<&str>) -> Scope {
        in_use.and_then(named_scope).unwrap_or_else(|| self.own_scope())
    }

    /// Returns the scope for which a pool of Cluster API asks. `wished` is its annotation.
    #[must_use]
    pub fn wished_scope(&self, wished: Option<&str>) -> Scope {
        wished.and_then(named_scope).unwrap_or_else(|| self.own_scope())
    }
}

/// Returns the scope of an annotation. No pool gets the scope of another pool.
fn named_scope(text: &str) -> Option<Scope> {
    Scope::parse(text).ok().filter(|_| !text.starts_with(Scope::OF_CLUSTER_API))
}

impl std::fmt::Display for PoolId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, namespace, name } = self;
        match namespace.is_empty() {
            true => write!(f, "{} {name}", kind.name()),
            false => write!(f, "{} {namespace}/{name}", kind.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_never_has_more_than_253_bytes_and_tells_pools_apart() {
        let id = |kind, namespace: &str, name: &str| PoolId {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let (long, longer) = ("a".repeat(252), "a".repeat(253));
        let scopes = [
            id(PoolKind::InCluster, "default", "x"),
            id(PoolKind::GlobalInCluster, "", "x"),
            id(PoolKind::InCluster, "other", "x"),
            id(PoolKind::InCluster, "default", &long),
            id(PoolKind::InCluster, "default", &longer),
        ]
        .map(|id| id.own_scope().name().unwrap().to_owned());
        assert_eq!(scopes[0], "capi:InClusterIPPool/default/x");
        assert_eq!(scopes[1], "capi:GlobalInClusterIPPool/x");
        assert_eq!(scopes.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    }
}
