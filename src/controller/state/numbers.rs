//! Pools in numbers, for metrics and for the page.

use super::{Name, PoolState, State};
use crate::controller::overview::PoolNumbers;
use crate::controller::pool::{PoolId, Supply};
use std::net::IpAddr;

impl State {
    /// Returns the pools in numbers.
    #[must_use]
    pub fn pool_numbers(&self) -> Vec<PoolNumbers> {
        self.pools.iter().map(|(id, pool)| self.numbers(id, pool)).collect()
    }

    /// Counts what is held in the addresses of a pool, by whomever.
    #[must_use]
    pub fn numbers(&self, id: &PoolId, pool: &PoolState) -> PoolNumbers {
        let parts = pool.supply.as_ref().map(|supply| supply.parts.as_slice()).unwrap_or_default();
        let ranges = parts.iter().flat_map(|part| part.addresses.ranges());
        let held = ranges.flat_map(|range| {
            self.held.between(&pool.scope_label, range.first_address(), range.last_address())
        });
        let slices = self.slice_numbers(id, pool);
        let held = slices.map_or_else(|| held.count() as u128, |slices| slices.held.into());
        let total = pool.supply.as_ref().map(Supply::total).unwrap_or_default();
        let outside = |(address, _): &&(IpAddr, Name)| {
            pool.supply.as_ref().is_ok_and(|supply| supply.part(*address).is_none())
        };
        let claims = self.claims_of.get(id).into_iter().flatten();
        let waiting = claims
            .filter(|name| self.claims.get(*name).is_some_and(|claim| claim.answered_by.is_none()));
        let trouble = match &pool.supply {
            Err(mistake) => Some(mistake.clone()),
            Ok(_) if pool.is_ending => Some("it is being deleted".to_owned()),
            Ok(_) if pool.is_paused => Some("it is paused".to_owned()),
            Ok(_) => None,
        };
        PoolNumbers {
            kind: id.kind.name(),
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            scope: pool.scope.to_string(),
            total,
            held,
            free: total.saturating_sub(held),
            out_of_range: self.answers_of(id).filter(outside).count() as u128,
            has_slices: pool.scope.is_of_slices(),
            slices,
            waiting: waiting.count() as u64,
            trouble,
        }
    }
}
