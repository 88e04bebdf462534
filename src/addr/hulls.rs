//! Finds the things whose hulls have an address in common with a range, without a look at all others.

use super::{Family, Hull, Range};
use std::collections::{BTreeMap, BTreeSet};

/// Things by their hull.
///
/// The hulls of one family are grouped by size: the number of bits of the distance from the first to
/// the last address. So a hull that reaches into a range begins at most that far below it.
#[derive(Debug)]
pub struct Hulls<T>(BTreeMap<(Family, u32, u128), BTreeSet<(u128, T)>>);

impl<T> Default for Hulls<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Clone> Hulls<T> {
    /// Adds a thing.
    pub fn insert(&mut self, hull: &Hull, thing: &T) {
        for range in hull.ranges() {
            let at = self.0.entry(place(&range)).or_default();
            at.insert((range.last(), thing.clone()));
        }
    }

    /// Removes a thing that was added with this hull.
    pub fn remove(&mut self, hull: &Hull, thing: &T) {
        for range in hull.ranges() {
            let place = place(&range);
            if let Some(at) = self.0.get_mut(&place) {
                at.remove(&(range.last(), thing.clone()));
                if at.is_empty() {
                    self.0.remove(&place);
                }
            }
        }
    }

    /// Returns the things whose hulls touch this one, in their order.
    #[must_use]
    pub fn touching(&self, hull: &Hull) -> BTreeSet<&T> {
        let mut found = BTreeSet::new();
        for range in hull.ranges() {
            self.each_near(&range, &mut |last, thing| {
                if range.first() <= last {
                    found.insert(thing);
                }
            });
        }
        found
    }

    /// Calls `look` for each thing whose hull may touch a range, with the last address of the hull.
    /// The hull begins before the end of the range.
    fn each_near<'s>(&'s self, range: &Range, look: &mut dyn FnMut(u128, &'s T)) {
        let family = range.family();
        let mut bits = 0;
        loop {
            let longest = 1_u128.checked_shl(bits).map_or(u128::MAX, |size| size - 1);
            let from = (family, bits, range.first().saturating_sub(longest));
            let mut next = self.0.range(from..).peekable();
            match next.peek() {
                Some((found, _)) if found.0 == family && bits < found.1 => bits = found.1,
                Some((found, _)) if found.0 == family => {
                    let near = next.take_while(|(found, _)| {
                        (found.0, found.1) == (family, bits) && found.2 <= range.last()
                    });
                    near.flat_map(|(_, all)| all).for_each(|(last, thing)| look(*last, thing));
                    bits += 1;
                }
                _ => return,
            }
        }
    }
}

/// Returns the family, the size and the first address of a hull.
const fn place(range: &Range) -> (Family, u32, u128) {
    let bits = u128::BITS - (range.last() - range.first()).leading_zeros();
    (range.family(), bits, range.first())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Subnet, address};

    fn range(family: Family, first: u128, last: u128) -> Range {
        Range::new(address(family, first), address(family, last)).unwrap()
    }

    fn hull(range: Range) -> Hull {
        [range].into_iter().collect()
    }

    /// Compares every pair of ranges in a small universe with a look at all.
    #[test]
    fn the_hulls_that_touch_are_those_that_a_look_at_all_finds() {
        for (family, base) in
            [(Family::V4, 0), (Family::V4, u128::from(u32::MAX) - 20), (Family::V6, u128::MAX - 20)]
        {
            let pairs = (0..20).flat_map(|first| (first..=20).map(move |last| (first, last)));
            let all: Vec<Range> =
                pairs.map(|(first, last)| range(family, base + first, base + last)).collect();
            let mut hulls = Hulls::default();
            // Another family, with the same numbers where it has them.
            hulls.insert(&hull(Range::all()[usize::from(family == Family::V4)]), &usize::MAX);
            for (at, one) in all.iter().enumerate() {
                hulls.insert(&hull(*one), &at);
            }
            for one in &all {
                let expected: Vec<usize> =
                    (0..all.len()).filter(|at| all[*at].intersection(one).is_some()).collect();
                let found: Vec<usize> = hulls.touching(&hull(*one)).into_iter().copied().collect();
                assert_eq!(found, expected, "{one}");
            }
            for (at, one) in all.iter().enumerate().skip(1) {
                hulls.remove(&hull(*one), &at);
            }
            let whole = Range::all()[usize::from(family == Family::V6)];
            let left: Vec<&usize> = hulls.touching(&hull(whole)).into_iter().collect();
            assert_eq!(left, [&0]);
        }
    }

    #[test]
    fn all_addresses_of_a_family_are_a_hull_too() {
        let mut hulls = Hulls::default();
        for (at, whole) in Range::all().into_iter().enumerate() {
            hulls.insert(&hull(whole), &at);
        }
        let both: Hull = Range::all().into_iter().collect();
        hulls.insert(&both, &2);
        assert_eq!(hulls.touching(&both).len(), 3);
        for (at, whole) in Range::all().into_iter().enumerate() {
            for address in [whole.first_address(), whole.last_address()] {
                let found = hulls.touching(&hull(Range::single(address)));
                assert_eq!(found.into_iter().copied().collect::<Vec<_>>(), [at, 2]);
            }
        }
    }

    /// 1,000 nodes with a /24 each, and a few larger subnets.
    #[test]
    fn few_are_looked_at_of_many() {
        let mut hulls = Hulls::default();
        let subnet = |text: &str| Subnet::parse(text).unwrap().whole();
        for at in 0..1000_usize {
            hulls.insert(&hull(subnet(&format!("10.{}.{}.0/24", at / 256, at % 256))), &at);
        }
        for text in ["10.0.0.0/8", "192.168.0.0/16", "0.0.0.0/0"] {
            hulls.insert(&hull(subnet(text)), &usize::MAX);
        }
        let mut looks = 0;
        for at in 0..1000 {
            let range = subnet(&format!("10.{}.{}.64/26", at / 256, at % 256));
            hulls.each_near(&range, &mut |_, _| looks += 1);
            assert!(hulls.touching(&hull(range)).contains(&at));
        }
        assert!(looks <= 5 * 1000, "{looks}");
    }
}
