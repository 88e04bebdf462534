//! Counts who holds addresses of an IPPool of hereabouts.

use super::extent::{Extent, Place, Totals};
use super::pool::PoolId;
use super::state::{Holder, Holding, PoolState, State};
use crate::addr::{Blocks, Family, Range};
use std::cell::LazyCell;
use std::net::IpAddr;
use tokio::time::Instant;

/// How many holders are named.
pub const FEW: usize = 5;

/// Who holds addresses of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// The families of the pool.
    pub families: Vec<FamilyCensus>,
    /// The addresses of its subnets that are held, in its scope.
    pub holders: Group,
    /// Those of them that the pool does not give any more, and that no other pool of its scope
    /// gives.
    pub outside: Group,
    /// Whether a claim asks for an address of the pool at this moment.
    pub is_asked: bool,
}

/// One family of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyCensus {
    /// Which family.
    pub family: Family,
    /// What the pool has.
    pub totals: Totals,
    /// How many of the addresses that everybody may get are held.
    pub dynamic: u128,
    /// How many of the addresses that only certain pods get are held.
    pub reserved: u128,
}

/// Some holders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// How many there are.
    pub count: u128,
    /// The first [`FEW`] addresses.
    pub first: Vec<IpAddr>,
}

impl Group {
    fn add(&mut self, address: IpAddr) {
        self.count += 1;
        if self.first.len() < FEW {
            self.first.push(address);
        }
    }
}

/// Counts. It sees what the watches told: it may miss what was taken a moment ago.
#[must_use]
pub fn census(state: &State, id: &PoolId, pool: &PoolState, extent: &Extent) -> Census {
    let mut census = Census::default();
    let with_pool =
        |family| FamilyCensus { family, totals: extent.totals(family), dynamic: 0, reserved: 0 };
    let families = [Family::V4, Family::V6].map(with_pool);
    census.families.extend(families.iter().filter(|found| 0 < found.totals.total));
    // Few pools need it: usually each held address is one that the pool gives.
    let others = LazyCell::new(|| others(state, id, pool));
    for subnet in extent.subnets.ranges() {
        for (address, holding) in held(state, pool, &subnet) {
            if !holding.is_told() {
                census.is_asked |= is_believed(holding);
                continue;
            }
            census.holders.add(*address);
            let family = Family::of(*address);
            let place = extent.place(*address);
            let counted = census.families.iter_mut().find(|found| found.family == family);
            match (place, counted) {
                (Place::Dynamic, Some(found)) => found.dynamic += 1,
                (Place::Reserved, Some(found)) => found.reserved += 1,
                _ if others.contains(*address) => {}
                _ => census.outside.add(*address),
            }
        }
    }
    // A claim names its pool, so its address is known to be of the pool even if the subnet is gone.
    for (address, _) in state.answers_of(id) {
        let is_held = state.held.get(&pool.scope_label, *address).is_some_and(Holding::is_told);
        if is_held && !extent.subnets.contains(*address) {
            census.holders.add(*address);
            census.outside.add(*address);
        }
    }
    census
}

/// Returns what the other pools of the scope give.
fn others(state: &State, id: &PoolId, pool: &PoolState) -> Blocks {
    let others =
        state.pools().filter(|(other, found)| ***other != *id && found.scope == pool.scope);
    others.flat_map(|(_, found)| found.given()).collect()
}

fn held<'s>(
    state: &'s State,
    pool: &'s PoolState,
    range: &Range,
) -> impl Iterator<Item = (&'s IpAddr, &'s Holding)> + use<'s> {
    state.held.between(&pool.scope_label, range.first_address(), range.last_address())
}

fn is_believed(holding: &Holding) -> bool {
    match holding.holder {
        Holder::Unknown(until) => Instant::now() < until,
        Holder::Attachment(_) | Holder::Claim(_) | Holder::Asked(_) => true,
    }
}

impl Census {
    /// Returns the sum of a number over the families.
    pub fn sum(&self, number: impl Fn(&FamilyCensus) -> u128) -> u128 {
        self.families.iter().fold(0, |sum: u128, found| sum.saturating_add(number(found)))
    }
}
