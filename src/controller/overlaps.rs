//! Which other pools, and which ranges of Services, have addresses of a pool.

use super::pool::PoolId;
use super::state::{PoolState, State};
use crate::addr::{Range, first_shared};

/// The most overlaps that are named.
const FEW: usize = 8;

/// Something that has addresses of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// What it means.
    pub risk: Risk,
    /// Its name, and its scope if that is another one.
    pub name: String,
    /// The first of the shared addresses.
    pub shared: Range,
}

/// What an overlap means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Nothing: an address has one holder in its scope, whichever pool it comes from.
    SameScope,
    /// On one wire, two holders could get one address.
    OtherScope,
    /// A pod with the address of a Service cannot be reached, or the Service cannot.
    Services,
}

impl Risk {
    /// Returns the reason of the condition.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::SameScope => "SameScope",
            Self::OtherScope => "OtherScope",
            Self::Services => "ServiceAddresses",
        }
    }
}

/// What all overlaps of a pool mean, in one word and in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The gravest.
    pub risk: Risk,
    /// All of them, for people. At most [`FEW`] are named.
    pub message: String,
}

/// Returns the overlaps of a pool, the gravest first.
#[must_use]
pub fn overlaps(state: &State, id: &PoolId, pool: &PoolState) -> Vec<Overlap> {
    let own: Vec<Range> = pool.given().collect();
    let shared = |other: &mut dyn Iterator<Item = Range>| first_shared(own.iter().copied(), other);
    // First of all: of thousands of pools, most have nothing in common.
    let near = state.pools().filter(|(_, found)| found.hull.touches(&pool.hull));
    let others = near.filter(|(other, _)| ***other != *id);
    let of_pools = others.filter_map(|(other, found)| {
        let shared = shared(&mut found.given())?;
        let is_same = found.scope == pool.scope;
        let name = match is_same {
            true => other.to_string(),
            false => format!("{other} ({})", scope(found)),
        };
        let risk = if is_same { Risk::SameScope } else { Risk::OtherScope };
        Some(Overlap { risk, name, shared })
    });
    let of_services = state.service_ranges().filter_map(|(name, ranges)| {
        let shared = shared(&mut ranges.iter().copied())?;
        Some(Overlap { risk: Risk::Services, name: format!("ServiceCIDR {name}"), shared })
    });
    let mut found: Vec<Overlap> = of_pools.chain(of_services).collect();
    found.sort_by(|one, other| other.risk.cmp(&one.risk).then_with(|| one.name.cmp(&other.name)));
    found
}

/// Returns what overlaps mean, or `None` without any.
#[must_use]
pub fn summary(overlaps: &[Overlap]) -> Option<Summary> {
    let risk = overlaps.first()?.risk;
    let named = |overlap: &Overlap| {
        let Overlap { name, shared, .. } = overlap;
        match shared.first_address() == shared.last_address() {
            true => format!("{name}: {}", shared.first_address()),
            false => format!("{name}: {shared}"),
        }
    };
    let mut names: Vec<String> = overlaps.iter().take(FEW).map(named).collect();
    if let Some(more @ 1..) = overlaps.len().checked_sub(FEW) {
        names.push(format!("{more} more"));
    }
    let meaning = match risk {
        Risk::SameScope => "an address has one holder, because the scope is the same",
        Risk::OtherScope => {
            "on one wire, two could get the same address, because an address is unique only in its scope"
        }
        Risk::Services => "a pod with the address of a Service hides it, or is hidden by it",
    };
    Some(Summary { risk, message: format!("also in {}; {meaning}", names.join(", ")) })
}

fn scope(pool: &PoolState) -> String {
    match pool.scope.name() {
        None => "unnamed scope".to_owned(),
        Some(name) => format!("scope {name}"),
    }
}
