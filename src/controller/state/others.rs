//! Ranges of others than pools, in which pools may have addresses: the podCIDRs of nodes, and the
//! ranges of networks.
//!
//! A cluster has thousands of nodes and thousands of pools. So a look at a pool finds those that
//! concern it without a look at all others.

use super::{Name, State, Work};
use crate::addr::{Blocks, Hull, Hulls, Range, Subnet};
use crate::controller::network_ranges::NetworkRanges;
use crate::controller::pool::PoolKind;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

/// What is known of objects that have ranges, by their names.
#[derive(Debug, Default)]
pub(super) struct Others<T> {
    known: BTreeMap<Name, T>,
    hulls: Hulls<Name>,
    /// Whether all have been read once, or cannot be read.
    is_read: bool,
}

/// What has ranges.
pub(super) trait HasRanges: Default + PartialEq {
    /// Returns them.
    fn ranges(&self) -> impl Iterator<Item = Range>;
}

impl HasRanges for Blocks {
    fn ranges(&self) -> impl Iterator<Item = Range> {
        self.ranges()
    }
}

impl HasRanges for Vec<NetworkRanges> {
    fn ranges(&self) -> impl Iterator<Item = Range> {
        self.iter().flat_map(|network| network.given.ranges())
    }
}

impl<T: HasRanges> Others<T> {
    /// Notes an object. Returns the ranges that it had and those that it has, unless everything is
    /// the same as before.
    fn put(&mut self, name: &Name, new: T) -> Option<[Blocks; 2]> {
        let before = self.known.remove(name).unwrap_or_default();
        let is_same = before == new;
        let changed = (!is_same).then(|| [before.ranges().collect(), new.ranges().collect()]);
        if let Some(changed) = &changed {
            let [before, after] = changed.each_ref().map(hull);
            self.hulls.remove(&before, name);
            self.hulls.insert(&after, name);
        }
        if new != T::default() {
            self.known.insert(name.clone(), new);
        }
        changed
    }

    /// Returns the names of the objects.
    pub(super) fn names(&self) -> impl Iterator<Item = Name> {
        self.known.keys().cloned()
    }

    /// Returns the objects whose ranges may touch a hull, in the order of their names.
    fn near(&self, hull: &Hull) -> impl Iterator<Item = (&Name, &T)> {
        let names = self.hulls.touching(hull).into_iter();
        names.filter_map(|name| Some((name, self.known.get(name)?)))
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
        let changed = self.nodes.put(&node(name), ranges);
        self.own_pools_with(changed)
    }

    /// Forgets a node that is gone. Returns what to look at.
    pub fn remove_node(&mut self, name: &str) -> Vec<Work> {
        self.apply_node(name, &[])
    }

    /// Forgets the nodes whose names are not among these. Returns what to look at.
    pub fn retain_nodes(&mut self, seen: &HashSet<&str>) -> Vec<Work> {
        let gone: Vec<Name> =
            self.nodes.names().filter(|name| !seen.contains(&*name.name)).collect();
        gone.iter().flat_map(|name| self.remove_node(&name.name)).collect()
    }

    /// Returns the `podCIDRs` of nodes that may have addresses within a hull, in the order of the
    /// names of the nodes.
    pub fn pod_ranges(&self, hull: &Hull) -> impl Iterator<Item = (&Name, &Blocks)> {
        self.nodes.near(hull)
    }

    /// Notes the ranges of the networks of an object. Returns what to look at.
    pub fn apply_network(&mut self, name: &Name, ranges: Vec<NetworkRanges>) -> Vec<Work> {
        for known in self.networks.known.get(name).into_iter().flatten() {
            if let Some(objects) = self.networks_of.get_mut(&known.name) {
                objects.remove(name);
                if objects.is_empty() {
                    self.networks_of.remove(&known.name);
                }
            }
        }
        for network in &ranges {
            self.networks_of.entry(Rc::clone(&network.name)).or_default().insert(name.clone());
        }
        let changed = self.networks.put(name, ranges);
        self.own_pools_with(changed)
    }

    /// Returns the networks that may have addresses within a hull, in the order of their names.
    pub fn network_ranges(&self, hull: &Hull) -> impl Iterator<Item = (&Name, &NetworkRanges)> {
        let near = self.networks.near(hull);
        near.flat_map(|(name, all)| all.iter().map(move |network| (name, network)))
    }

    /// Returns all networks that have ranges, in the order of their names.
    pub fn networks(&self) -> impl Iterator<Item = (&Name, &NetworkRanges)> {
        let all = self.networks.known.iter();
        all.flat_map(|(name, all)| all.iter().map(move |network| (name, network)))
    }

    /// Returns the networks that have this name, in the order of the names of their objects.
    pub fn networks_named<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s NetworkRanges> {
        let objects = self.networks_of.get(name).into_iter().flatten();
        let all = objects.filter_map(|object| self.networks.known.get(object)).flatten();
        all.filter(move |network| &*network.name == name)
    }

    /// Returns the `podCIDRs` of all nodes, merged.
    #[must_use]
    pub fn all_pod_ranges(&self) -> Blocks {
        self.nodes.known.values().flat_map(Blocks::ranges).collect()
    }

    /// Returns whether nodes and networks have been read once, or cannot be read. Before that, an
    /// overlap would seem to have ended with each start of the controller.
    #[must_use]
    pub const fn knows_others(&self) -> bool {
        self.nodes.is_read && self.networks.is_read
    }

    /// Returns whether networks have been read once, or cannot be read.
    #[must_use]
    pub const fn knows_networks(&self) -> bool {
        self.networks.is_read
    }

    /// Notes that all nodes have been read, or cannot be read. Returns what to look at.
    pub fn nodes_are_read(&mut self) -> Vec<Work> {
        let knew = self.knows_others();
        self.nodes.is_read = true;
        self.all_pools_unless(knew)
    }

    /// Notes that all networks have been read, or cannot be read. Returns what to look at.
    pub(in crate::controller) fn networks_are_read(&mut self) -> Vec<Work> {
        let knew = self.knows_others();
        self.networks.is_read = true;
        self.all_pools_unless(knew)
    }

    fn all_pools_unless(&self, knew: bool) -> Vec<Work> {
        match !knew && self.knows_others() && self.is_synced() {
            true => self.pools.keys().cloned().map(Work::Pool).collect(),
            false => Vec::new(),
        }
    }

    /// Returns a look at each IPPool of hereabouts that has addresses of these ranges.
    fn own_pools_with(&self, changed: Option<[Blocks; 2]>) -> Vec<Work> {
        let Some(changed) = changed.filter(|_| self.is_synced()) else { return Vec::new() };
        let changed = changed.each_ref().map(|ranges| (hull(ranges), ranges));
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
