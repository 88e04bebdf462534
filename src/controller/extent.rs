//! What an IPPool of hereabouts gives and what it does not, as `hereabouts usage --pool` counts it.

use crate::addr::{AddrSet, Blocks, Family, Range};
use crate::config::Pool;
use std::net::IpAddr;

/// The addresses of an IPPool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The subnets, whole.
    pub subnets: Blocks,
    /// One part for each subnet that has addresses.
    parts: Vec<Part>,
    /// What the pool gives: dynamically, or to certain pods.
    given: Blocks,
}

/// The addresses of one subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// The number of addresses from the first to the last.
    total: u128,
    dynamic: AddrSet,
    reserved: AddrSet,
}

/// How an address belongs to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Everybody may get it.
    Dynamic,
    /// Only certain pods get it.
    Reserved,
    /// The pool does not give it.
    Outside,
}

/// The number of addresses of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// From the first to the last address of each subnet.
    pub total: u128,
    /// Those that everybody may get.
    pub dynamic: u128,
    /// Those that only certain pods get.
    pub reserved: u128,
}

impl Totals {
    /// Returns the number of addresses that are not given.
    #[must_use]
    pub const fn excluded(&self) -> u128 {
        self.total.saturating_sub(self.dynamic).saturating_sub(self.reserved)
    }
}

impl Extent {
    /// Returns the addresses of a pool.
    #[must_use]
    pub fn of(pool: &Pool) -> Self {
        let ranges = pool.ranges();
        let part = |range: &crate::ipam::ConfiguredRange| Part {
            total: AddrSet::from_range(&range.bounds).count(),
            dynamic: range.candidates(),
            reserved: range.reserved_candidates(),
        };
        let parts: Vec<Part> = ranges.iter().map(part).collect();
        let given =
            parts.iter().flat_map(|part| part.dynamic.ranges().chain(part.reserved.ranges()));
        Self {
            subnets: pool.subnets.iter().map(|subnet| subnet.subnet.whole()).collect(),
            given: given.collect(),
            parts,
        }
    }

    /// Returns the addresses of a pool with a mistake: it gives nothing, and its subnets are those
    /// that can be read.
    #[must_use]
    pub fn of_subnets(subnets: impl Iterator<Item = Range>) -> Self {
        Self { subnets: subnets.collect(), parts: Vec::new(), given: Blocks::default() }
    }

    /// Returns what the pool gives, in order.
    pub fn given(&self) -> impl Iterator<Item = Range> + '_ {
        self.given.ranges()
    }

    /// Returns how an address belongs to the pool.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> Place {
        if self.parts.iter().any(|part| part.dynamic.contains(address)) {
            Place::Dynamic
        } else if self.given.contains(address) {
            Place::Reserved
        } else {
            Place::Outside
        }
    }

    /// Returns the number of addresses of a family.
    #[must_use]
    pub fn totals(&self, family: Family) -> Totals {
        let parts = self.parts.iter().filter(|part| part.dynamic.family() == family);
        parts.fold(Totals::default(), |sum, part| Totals {
            total: sum.total.saturating_add(part.total),
            dynamic: sum.dynamic.saturating_add(part.dynamic.count()),
            reserved: sum.reserved.saturating_add(part.reserved.count()),
        })
    }
}
