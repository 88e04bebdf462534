//! A way to a cluster: what a kubeconfig says of where it leads.
//!
//! A cluster is not its URL: a kubeconfig may reach it by a name or an address,
//! a restored control plane may have another URL or other authorities, and two
//! networks may name two kubeconfigs of one cluster. So a node state keeps the
//! ways that have led to its cluster, and a new one is compared with them.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// A hash of the authorities, `-`, and one of the URL. One of the two alone
    /// may change without its being another cluster.
    pub id: String,
    /// The kubeconfig's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The ServiceAccount that the token is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

/// A ServiceAccount. Its uid is the same in no two clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Namespace and name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Way {
    /// What is known of a way from its id alone.
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self { id: id.to_owned(), file: None, account: None }
    }

    /// Whether both lead to one cluster, as far as they tell. A cluster may get
    /// another URL, or other authorities; another one has both. Where one authority
    /// signs for several clusters, the uids of the same ServiceAccount differ.
    pub(crate) fn leads_where(&self, other: &Self) -> bool {
        let (authorities, server) = self.compare(other);
        let file = self.file.is_some() && self.file == other.file;
        let accounts = self.account.as_ref().zip(other.account.as_ref());
        match accounts.filter(|(ours, theirs)| ours.name == theirs.name) {
            Some((ours, theirs)) if ours.uid == theirs.uid => true,
            // It may have been removed and made again.
            Some(_) => authorities && server || (authorities || server) && file,
            None => authorities || server || file,
        }
    }

    /// Whether authorities and URL are the same. Trust in the system's authorities
    /// names no cluster, and what an earlier version noted speaks against nothing.
    fn compare(&self, other: &Self) -> (bool, bool) {
        match (self.id.split_once('-'), other.id.split_once('-')) {
            (Some((ours, our_server)), Some((theirs, their_server))) => {
                (ours == theirs && !matches!(ours, "system" | "anybody"), our_server == their_server)
            }
            _ => (true, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::api_client::way::*;

    fn way(id: &str, file: &str, uid: &str) -> Way {
        let account = Some(Account { name: "kube-system/hereabouts".to_owned(), uid: uid.to_owned() });
        Way { file: Some(file.to_owned()), account: account.filter(|_| !uid.is_empty()), ..Way::of(id) }
    }

    #[test]
    fn a_new_url_or_new_authorities_lead_to_the_same_cluster_and_both_to_another() {
        let known = way("a-s", "k", "");
        for (other, same) in [
            (way("a-s", "k", ""), true),
            (way("a-s2", "other", ""), true),
            (way("a2-s", "other", ""), true),
            (way("system-s", "other", "x"), true),
            // The node's own kubeconfig, written again.
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
        // Another ServiceAccount says nothing of the cluster.
        let mut another = way("a-s2", "other", "y");
        another.account = Some(Account { name: "kube-system/other".to_owned(), uid: "y".to_owned() });
        assert!(known.leads_where(&another));
    }
}
