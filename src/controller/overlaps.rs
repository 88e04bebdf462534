//! Which other pools, and which ranges of Services, have addresses of a pool.

use super::pool::PoolId;
use super::state::{PoolState, State};
use crate::addr::{Range, number};

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
    let own = given(pool);
    let others = state.pools().filter(|(other, _)| ***other != *id);
    let of_pools = others.filter_map(|(other, found)| {
        let is_same = found.scope == pool.scope;
        let name = match is_same {
            true => other.to_string(),
            false => format!("{other} ({})", scope(found)),
        };
        let risk = if is_same { Risk::SameScope } else { Risk::OtherScope };
        Some(Overlap { risk, name, shared: shared(&own, &given(found))? })
    });
    let of_services = state.service_ranges().filter_map(|(name, ranges)| {
        let shared = shared(&own, ranges)?;
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

/// Returns the ranges that a pool gives, in order. None if the pool has a mistake.
#[must_use]
pub fn given(pool: &PoolState) -> Vec<Range> {
    if let Some(own) = &pool.own {
        return own.extent.given().collect();
    }
    let parts = pool.supply.as_ref().map(|supply| supply.parts.as_slice()).unwrap_or_default();
    parts.iter().flat_map(|part| part.addresses.ranges()).collect()
}

fn scope(pool: &PoolState) -> String {
    match pool.scope.name() {
        None => "unnamed scope".to_owned(),
        Some(name) => format!("scope {name}"),
    }
}

/// Returns the first addresses that two lists have in common. Both are in order, IPv4 first.
fn shared(one: &[Range], other: &[Range]) -> Option<Range> {
    let end = |range: &Range| (range.family(), number(range.last_address()));
    let (mut one, mut other) = (one, other);
    while let ([first, one_rest @ ..], [second, other_rest @ ..]) = (one, other) {
        if let Some(shared) = first.intersection(second) {
            return Some(shared);
        }
        match end(first) < end(second) {
            true => one = one_rest,
            false => other = other_rest,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Range> {
        let range = |text: &&str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
        };
        texts.iter().map(range).collect()
    }

    #[test]
    fn the_first_shared_addresses_are_found_in_lists_of_both_families() {
        for (one, other, expected) in [
            (&["10.0.0.1-10.0.0.9"][..], &["10.0.0.10-10.0.0.19"][..], None),
            (&["10.0.0.1-10.0.0.9"], &["10.0.0.9"], Some("10.0.0.9-10.0.0.9")),
            (
                &["10.0.0.1", "10.0.0.3", "10.0.0.5"],
                &["10.0.0.2", "10.0.0.5-10.0.0.9"],
                Some("10.0.0.5-10.0.0.5"),
            ),
            (&["10.0.0.1", "fd00::1-fd00::9"], &["fd00::5-fd00::20"], Some("fd00::5-fd00::9")),
            (&["fd00::1"], &["10.0.0.1", "fd00::1"], Some("fd00::1-fd00::1")),
            (&["10.0.0.1"], &["fd00::1"], None),
            (&[], &["fd00::1"], None),
        ] {
            let found = shared(&ranges(one), &ranges(other)).map(|range| range.to_string());
            assert_eq!(found.as_deref(), expected, "{one:?} {other:?}");
        }
    }
}
