//! The addresses of Services, and the pools whose conditions depend on others.

use super::{Name, PoolState, State, Work};
use crate::addr::{Blocks, Range, Subnet, first_shared};
use crate::controller::pool::PoolKind;
use crate::controller::shapes::ServiceRangesObject;
use crate::store::kube::objects::names;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The addresses of Services, by the name of the object.
#[derive(Debug, Default)]
pub(super) struct Services(BTreeMap<Name, Vec<Range>>);

impl Services {
    pub(super) fn names(&self) -> impl Iterator<Item = Name> {
        self.0.keys().cloned()
    }

    pub(super) fn remove(&mut self, name: &Name) {
        self.0.remove(name);
    }
}

impl State {
    /// Notes a ServiceCIDR. Returns what to look at.
    pub fn apply_services(&mut self, object: &ServiceRangesObject) -> Vec<Work> {
        let subnets = object.spec.cidrs.iter().filter_map(|text| Subnet::parse(text).ok());
        let ranges: Blocks = subnets.map(|subnet| subnet.whole()).collect();
        let ranges: Vec<Range> = ranges.ranges().collect();
        let name = Name::of(&object.metadata);
        if self.services.0.get(&name) == Some(&ranges) {
            return Vec::new();
        }
        self.services.0.insert(name, ranges);
        self.own_pools()
    }

    /// Returns the addresses of Services, each with the name of the object.
    pub fn service_ranges(&self) -> impl Iterator<Item = (&Name, &[Range])> {
        self.services.0.iter().map(|(name, ranges)| (name, ranges.as_slice()))
    }

    /// Returns a look at each IPPool of hereabouts. Before everything has been read, there is none:
    /// then everything is looked at.
    pub(super) fn own_pools(&self) -> Vec<Work> {
        if !self.is_synced() {
            return Vec::new();
        }
        let own = self.pools.keys().filter(|id| id.kind == PoolKind::Own);
        own.map(|id| Work::Pool(Rc::clone(id))).collect()
    }

    /// Returns a look at each IPPool of hereabouts that counts an IPAllocation. There may be
    /// thousands of others in its scope.
    pub(super) fn own_pools_of(&self, allocation: &str) -> Vec<Work> {
        let Some((scope, address)) = names::split(allocation).filter(|_| self.is_synced()) else {
            return Vec::new();
        };
        let own = self.pools.iter().filter(|(id, pool)| {
            id.kind == PoolKind::Own
                && *pool.scope_label == *scope
                && (pool.may_count(address) || self.is_answered(id, address))
        });
        own.map(|(id, _)| Work::Pool(Rc::clone(id))).collect()
    }

    /// Returns a look at each IPPool of hereabouts that has addresses of another pool: its
    /// conditions depend on that one.
    pub(super) fn neighbors(&self, pool: &PoolState) -> Vec<Work> {
        if !self.is_synced() {
            return Vec::new();
        }
        let own = self.pools.iter().filter(|(id, other)| {
            id.kind == PoolKind::Own
                && pool.hull.touches(&other.hull)
                && first_shared(pool.reach(), other.reach()).is_some()
        });
        own.map(|(id, _)| Work::Pool(Rc::clone(id))).collect()
    }
}
