//! A way to a cluster: the facts that a client knows about the cluster that a kubeconfig leads to.
//!
//! The URL does not identify a cluster. One kubeconfig uses a name and another an address of the
//! same cluster, a restored control plane may have another URL or other authorities, and two
//! networks may name two kubeconfigs of one cluster. Therefore the node state stores the ways that
//! have led to its cluster, and each new way is compared with them.

use serde::{Deserialize, Serialize};

/// A way to a cluster. See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// A hash of the authorities, `-`, and a hash of the URL. If only one of the two changes, it is
    /// still the same cluster.
    pub id: String,
    /// The path of the kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The ServiceAccount of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

/// A ServiceAccount. No two clusters use the same UID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The namespace and the name.
    pub name: String,
    /// The UID.
    pub uid: String,
}

impl Way {
    /// Returns a way of which only the ID is known.
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self { id: id.to_owned(), file: None, account: None }
    }

    /// Returns whether both ways lead to the same cluster, as far as they show. A cluster may get
    /// another URL, or other authorities. A different cluster differs in both. If one authority
    /// signs for several clusters, the UIDs of the same ServiceAccount differ.
    pub(crate) fn leads_where(&self, other: &Self) -> bool {
        let (authorities, server) = self.compare(other);
        let file = self.file.is_some() && self.file == other.file;
        let accounts = self.account.as_ref().zip(other.account.as_ref());
        match accounts.filter(|(ours, theirs)| ours.name == theirs.name) {
            Some((ours, theirs)) if ours.uid == theirs.uid => true,
            // The ServiceAccount may have been deleted and created again.
            Some(_) => authorities && server || (authorities || server) && file,
            None => authorities || server || file,
        }
    }

    /// Returns whether the authorities are the same, and whether the URL is the same. Trust in the
    /// system's authorities identifies no cluster. An ID from an earlier version has no `-` and
    /// contradicts nothing.
    fn compare(&self, other: &Self) -> (bool, bool) {
        match (self.id.split_once('-'), other.id.split_once('-')) {
            (Some((ours, our_server)), Some((theirs, their_server))) => (
                ours == theirs && !matches!(ours, "system" | "anybody"),
                our_server == their_server,
            ),
            _ => (true, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(id: &str, file: &str, uid: &str) -> Way {
        let account =
            Some(Account { name: "kube-system/hereabouts".to_owned(), uid: uid.to_owned() });
        Way {
            file: Some(file.to_owned()),
            account: account.filter(|_| !uid.is_empty()),
            ..Way::of(id)
        }
    }

    #[test]
    fn a_new_url_or_new_authorities_lead_to_the_same_cluster_and_both_to_another() {
        let known = way("a-s", "k", "");
        for (other, same) in [
            (way("a-s", "k", ""), true),
            (way("a-s2", "other", ""), true),
            (way("a2-s", "other", ""), true),
            (way("system-s", "other", "x"), true),
            // The node's own kubeconfig after it was written again.
            (way("a2-s2", "k", ""), true),
            (way("a2-s2", "other", ""), false),
            (way("a2-s2", "other", "x"), false),
            (way("noted by an earlier version".replace('-', "").as_str(), "other", ""), true),
        ] {
            assert_eq!(known.leads_where(&other), same, "{other:?}");
        }
        assert!(!way("system-s", "k", "").leads_where(&way("system-s2", "other", "")));
    }

    #[test]
    fn the_account_of_a_token_tells_clusters_apart_and_shows_one_through_every_change() {
        let known = way("a-s", "k", "x");
        for (other, same) in [
            (way("a2-s2", "other", "x"), true),
            (way("a-s2", "other", "y"), false),
            (way("a2-s", "other", "y"), false),
            (way("a-s", "other", "y"), true),
            (way("a-s2", "k", "y"), true),
            (way("a2-s2", "k", "y"), false),
        ] {
            assert_eq!(known.leads_where(&other), same, "{other:?}");
        }
        // A different ServiceAccount tells nothing about the cluster.
        let mut another = way("a-s2", "other", "y");
        another.account =
            Some(Account { name: "kube-system/other".to_owned(), uid: "y".to_owned() });
        assert!(known.leads_where(&another));
    }
}
