//! Clusters, whose machines have the claims.

use super::{Claim, Cluster, Name, State, Work};

impl State {
    /// Notes a cluster. Returns what to look at.
    pub fn apply_cluster(&mut self, name: &Name, cluster: Cluster) -> Vec<Work> {
        let before = self.clusters.insert(name.clone(), cluster);
        if before.is_some_and(|before| before == cluster) {
            return Vec::new();
        }
        self.work_of_cluster(name)
    }

    pub(super) fn work_of_cluster(&self, cluster: &Name) -> Vec<Work> {
        let of = |claim: &Claim| claim.cluster.as_ref() == Some(cluster) && claim.is_open();
        let names = self.claims.iter().filter(|(_, claim)| of(claim)).map(|(name, _)| name);
        names.cloned().map(Work::Claim).collect()
    }
}
