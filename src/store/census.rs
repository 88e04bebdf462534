//! Who holds how much, counted while a store is read: for an operator who looks
//! for nodes that are gone and for records that nothing frees by itself.

use crate::ipam::{Allocation, Doubt, NodeName};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// More records in doubt are counted and not kept.
const MOST_KEPT: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Census {
    /// What each node holds.
    pub nodes: BTreeMap<NodeName, OfNode>,
    /// Records of the node that looks, whose sandboxes are neither seen nor shown
    /// to be gone.
    pub doubted: Vec<(Allocation, Doubt)>,
    /// How many more of them there are.
    pub more_doubted: usize,
    /// Other names under which the node that looks holds what is there.
    pub earlier_names: Vec<NodeName>,
}

/// What one node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfNode {
    /// How many addresses.
    pub records: usize,
    /// When it was given the last of them.
    pub youngest: SystemTime,
}

impl Census {
    /// Counts a record.
    pub fn count(&mut self, allocation: &Allocation) {
        let (node, since) = (&allocation.held.attachment.node, allocation.held.since);
        // By reference first: a million records of one node.
        match self.nodes.get_mut(node) {
            Some(known) => {
                known.records += 1;
                known.youngest = known.youngest.max(since);
            }
            None => drop(self.nodes.insert(node.clone(), OfNode { records: 1, youngest: since })),
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
