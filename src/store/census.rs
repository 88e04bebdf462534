//! Counts which node holds how many records while a store is read. It helps an operator to find
//! nodes that are gone and records that nothing frees by itself.

use crate::ipam::{Allocation, Doubt, NodeName, Scope};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Records in doubt beyond this number are counted and not kept. Scopes beyond it are left out.
const MOST_KEPT: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Census {
    /// The holdings of each node.
    pub nodes: BTreeMap<NodeName, OfNode>,
    /// Records of the node that reads the store, if their sandboxes are neither seen nor proven to
    /// be gone.
    pub doubted: Vec<(Allocation, Doubt)>,
    /// The number of further such records.
    pub more_doubted: usize,
    /// The number of addresses that claims hold. They are on no node.
    pub claims: usize,
    /// The scopes that are kept for pools of Cluster API and in which attachments hold addresses,
    /// with the number of addresses: earlier versions let a network have any name.
    pub kept_scopes: BTreeMap<Scope, usize>,
    /// The other names under which the node that reads the store holds records.
    pub earlier_names: Vec<NodeName>,
}

/// The holdings of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfNode {
    /// The number of addresses.
    pub records: usize,
    /// The time at which the node got the last of them.
    pub youngest: SystemTime,
}

impl Census {
    /// Counts a record.
    pub fn count(&mut self, allocation: &Allocation) {
        let scope = &allocation.scope;
        let is_noted = |scopes: &BTreeMap<Scope, usize>| {
            scopes.len() < MOST_KEPT || scopes.contains_key(scope)
        };
        if scope.is_of_cluster_api() && is_noted(&self.kept_scopes) {
            *self.kept_scopes.entry(scope.clone()).or_default() += 1;
        }
        let (node, since) = (&allocation.record.attachment.node, allocation.record.since);
        // Look up by reference first, because one node may have a million records.
        match self.nodes.get_mut(node) {
            Some(known) => {
                known.records += 1;
                known.youngest = known.youngest.max(since);
            }
            None => drop(self.nodes.insert(node.clone(), OfNode { records: 1, youngest: since })),
        }
    }

    /// Adds the census of another part of the store.
    pub fn add(&mut self, other: Self) {
        for (node, of_other) in other.nodes {
            let known = self.nodes.entry(node).or_insert(OfNode { records: 0, ..of_other });
            known.records += of_other.records;
            known.youngest = known.youngest.max(of_other.youngest);
        }
        other.doubted.into_iter().for_each(|(held, doubt)| self.doubt(held, doubt));
        self.more_doubted += other.more_doubted;
        self.claims += other.claims;
        for (scope, count) in other.kept_scopes {
            *self.kept_scopes.entry(scope).or_default() += count;
        }
        for name in other.earlier_names {
            if !self.earlier_names.contains(&name) {
                self.earlier_names.push(name);
            }
        }
    }

    /// Keeps a record that is in doubt.
    pub fn doubt(&mut self, allocation: Allocation, doubt: Doubt) {
        if self.doubted.len() < MOST_KEPT {
            self.doubted.push((allocation, doubt));
        } else {
            self.more_doubted += 1;
        }
    }
}
