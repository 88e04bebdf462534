//! Ranges of others than pools, in which pools may have addresses: the podCIDRs of nodes.
//!
//! A cluster has thousands of nodes and thousands of pools. So a look at a pool finds those that
//! concern it without a look at all others.

use super::{Name, State, Work};
use crate::addr::{Blocks, Hull, Hulls, Subnet};
use crate::controller::pool::PoolKind;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Ranges by the name of the object that has them. An object without ranges is not among them.
#[derive(Debug, Default)]
pub(super) struct Others {
    ranges: HashMap<Name, Blocks>,
    hulls: Hulls<Name>,
}

impl Others {
    /// Notes the ranges of an object. Returns those that it had, if they were other ones.
    fn put(&mut self, name: &Name, ranges: &Blocks) -> Option<Blocks> {
        let known = self.ranges.get(name);
        if known.map_or(ranges.is_empty(), |known| known == ranges) {
            return None;
        }
        let before = self.ranges.remove(name).unwrap_or_default();
        self.hulls.remove(&hull(&before), name);
        if !ranges.is_empty() {
            self.hulls.insert(&hull(ranges), name);
            self.ranges.insert(name.clone(), ranges.clone());
        }
        Some(before)
    }

    /// Returns the objects whose ranges may touch a hull, in the order of their names.
    fn near(&self, hull: &Hull) -> impl Iterator<Item = (&Name, &Blocks)> {
        let names = self.hulls.touching(hull).into_iter();
        names.filter_map(|name| Some((name, self.ranges.get(name)?)))
    }
}

fn hull(ranges: &Blocks) -> Hull {
    ranges.ranges().collect()
}

impl State {
    /// Notes the `podCIDRs` of a node. Returns what to look at: nothing, if they are the same as
    /// before. A node reports every few seconds.
    pub fn apply_node(&mut self, name: &str, pod_cidrs: &[String]) -> Vec<Work> {
        let subnets = pod_cidrs.iter().filter_map(|text| Subnet::parse(text).ok());
        let ranges: Blocks = subnets.map(|subnet| subnet.whole()).collect();
        match self.nodes.put(&node(name), &ranges) {
            None => Vec::new(),
            Some(before) => self.own_pools_with(&[&before, &ranges]),
        }
    }

    /// Forgets a node that is gone. Returns what to look at.
    pub fn remove_node(&mut self, name: &str) -> Vec<Work> {
        self.apply_node(name, &[])
    }

    /// Forgets the nodes whose names are not among these. Returns what to look at.
    pub fn retain_nodes(&mut self, seen: &HashSet<&str>) -> Vec<Work> {
        let known = self.nodes.ranges.keys().filter(|name| !seen.contains(&*name.name));
        let gone: Vec<Name> = known.cloned().collect();
        gone.iter().flat_map(|name| self.remove_node(&name.name)).collect()
    }

    /// Returns the `podCIDRs` of nodes that may have addresses within a hull, in the order of the
    /// names of the nodes.
    pub fn pod_ranges(&self, hull: &Hull) -> impl Iterator<Item = (&Name, &Blocks)> {
        self.nodes.near(hull)
    }

    /// Returns a look at each IPPool of hereabouts that has addresses of these ranges.
    fn own_pools_with(&self, changed: &[&Blocks]) -> Vec<Work> {
        if !self.is_synced() {
            return Vec::new();
        }
        let changed: Vec<(Hull, &Blocks)> =
            changed.iter().map(|ranges| (hull(ranges), *ranges)).collect();
        let own = self.pools.iter().filter(|(id, pool)| {
            id.kind == PoolKind::Own
                && changed.iter().any(|(hull, ranges)| {
                    pool.hull.touches(hull) && pool.reach().any(|range| ranges.touches(&range))
                })
        });
        own.map(|(id, _)| Work::Pool(Rc::clone(id))).collect()
    }
}

fn node(name: &str) -> Name {
    Name { namespace: "".into(), name: name.into() }
}
