//! Finds the lowest free candidate of a store that can only tell whether one of several is free.

use super::StoreError;
use crate::addr::{AddrSet, Range};
use std::net::IpAddr;

/// Returns the lowest free candidate. Asks about a part of the candidates at most once for each bit of
/// their number.
pub(super) fn by_halves(
    candidates: &AddrSet,
    has_room: &dyn Fn(&AddrSet) -> Result<bool, StoreError>,
) -> Result<Option<IpAddr>, StoreError> {
    if !has_room(candidates)? {
        return Ok(None);
    }
    // The lowest free one has at least `low` and at most `high` candidates below it.
    let (mut low, mut high) = (0, candidates.count().saturating_sub(1));
    while low < high {
        let middle = low + (high - low) / 2;
        match has_room(&first(candidates, middle))? {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Ok(candidates.nth(low))
}

/// Returns the candidates up to the one that has `last` candidates below it.
fn first(candidates: &AddrSet, last: u128) -> AddrSet {
    let mut first = candidates.clone();
    let from = candidates.nth(last.saturating_add(1));
    let to = candidates.ranges().last().map(|range| range.last_address());
    if let Some(range) = from.zip(to).and_then(|(from, to)| Range::new(from, to)) {
        first.remove(&range);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_one_is_found_wherever_it_is() {
        let address = |low: u8| IpAddr::from([10, 0, 0, low]);
        let mut candidates = AddrSet::from_range(&Range::new(address(3), address(20)).unwrap());
        candidates.remove(&Range::new(address(6), address(9)).unwrap());
        for free in 0..=24 {
            let is_free = |set: &AddrSet| Ok((free..=255).any(|low| set.contains(address(low))));
            let expected = (free..=255).map(address).find(|low| candidates.contains(*low));
            assert_eq!(by_halves(&candidates, &is_free).unwrap(), expected, "{free}");
        }
    }
}
