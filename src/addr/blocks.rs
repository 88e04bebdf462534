//! The excluded ranges of a configuration: many ranges of both families, merged.
//!
//! They are sorted once. After that, the cost of a query about one range depends only on the number
//! of excluded ranges inside it.

use super::{Family, Range, number};
use std::net::IpAddr;

/// Ranges of both families, sorted, disjoint and not adjacent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocks {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl FromIterator<Range> for Blocks {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut blocks = Self::default();
        for range in ranges {
            blocks.spans_mut(range.family()).push((range.first(), range.last()));
        }
        merge(&mut blocks.v4);
        merge(&mut blocks.v6);
        blocks
    }
}

/// The lowest and the highest address of each family in some ranges: two lists of ranges whose hulls
/// do not touch have nothing in common, which takes no look at the ranges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hull {
    v4: Option<(u128, u128)>,
    v6: Option<(u128, u128)>,
}

impl FromIterator<Range> for Hull {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut hull = Self::default();
        for range in ranges {
            let side = match range.family() {
                Family::V4 => &mut hull.v4,
                Family::V6 => &mut hull.v6,
            };
            let (first, last) = side.unwrap_or((range.first(), range.last()));
            *side = Some((first.min(range.first()), last.max(range.last())));
        }
        hull
    }
}

impl Hull {
    /// Returns whether ranges with these two hulls may have addresses in common.
    #[must_use]
    pub const fn touches(&self, other: &Self) -> bool {
        meet(self.v4, other.v4) || meet(self.v6, other.v6)
    }

    /// Returns the range from the lowest to the highest address of each family, IPv4 first.
    pub fn ranges(&self) -> impl Iterator<Item = Range> {
        let of = |family| move |(first, last)| Range::spanning(family, first, last);
        self.v4.map(of(Family::V4)).into_iter().chain(self.v6.map(of(Family::V6)))
    }
}

const fn meet(one: Option<(u128, u128)>, other: Option<(u128, u128)>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.0 <= other.1 && other.0 <= one.1,
        _ => false,
    }
}

/// Returns the first addresses that two lists of ranges have in common. Both are in order, IPv4
/// first.
pub fn first_shared(
    mut one: impl Iterator<Item = Range>,
    mut other: impl Iterator<Item = Range>,
) -> Option<Range> {
    let (mut first, mut second) = (one.next()?, other.next()?);
    loop {
        if let Some(shared) = first.intersection(&second) {
            return Some(shared);
        }
        match (first.family(), first.last()) < (second.family(), second.last()) {
            true => first = one.next()?,
            false => second = other.next()?,
        }
    }
}

fn merge(spans: &mut Vec<(u128, u128)>) {
    spans.sort_unstable();
    spans.dedup_by(|next, kept| {
        let touches = next.0 <= kept.1.saturating_add(1);
        if touches {
            kept.1 = kept.1.max(next.1);
        }
        touches
    });
}

impl Blocks {
    const fn spans_mut(&mut self, family: Family) -> &mut Vec<(u128, u128)> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn spans(&self, family: Family) -> &[(u128, u128)] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Returns whether there are no ranges.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Returns whether one of the ranges contains the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.touches(&Range::single(address))
    }

    /// Returns whether one of the ranges has an address of `range`.
    #[must_use]
    pub fn touches(&self, range: &Range) -> bool {
        !self.within(range).is_empty()
    }

    /// Returns the first of the addresses that the ranges have in common with `range`.
    #[must_use]
    pub fn first_shared(&self, range: &Range) -> Option<Range> {
        let &(first, last) = self.within(range).first()?;
        Range::spanning(range.family(), first, last).intersection(range)
    }

    /// Returns the merged ranges in order, IPv4 first.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        let of = |family: Family| {
            self.spans(family)
                .iter()
                .map(move |&(first, last)| Range::spanning(family, first, last))
        };
        of(Family::V4).chain(of(Family::V6))
    }

    /// Returns the merged ranges that have an address of `range`.
    pub(super) fn within(&self, range: &Range) -> &[(u128, u128)] {
        let spans = self.spans(range.family());
        let from = spans.partition_point(|&(_, last)| last < number(range.first_address()));
        let to = spans.partition_point(|&(first, _)| first <= number(range.last_address()));
        spans.get(from..to).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AddrSet, address};
    use super::*;

    fn range(first: u128, last: u128) -> Range {
        Range::new(address(Family::V4, first), address(Family::V4, last)).unwrap()
    }

    /// Compares every pair of blocks in a small universe with a simple loop.
    #[test]
    fn merging_and_taking_away_agree_with_brute_force() {
        let spans: Vec<(u128, u128)> = (0..9).flat_map(|a| (a..9).map(move |b| (a, b))).collect();
        for &(a, b) in &spans {
            for &(c, d) in &spans {
                let blocks: Blocks = [range(c, d), range(a, b)].into_iter().collect();
                let left = AddrSet::outside(&range(2, 7), &[&blocks]);
                let left_of_two = AddrSet::outside(
                    &range(2, 7),
                    &[&[range(a, b)].into_iter().collect(), &[range(c, d)].into_iter().collect()],
                );
                assert_eq!(left, left_of_two);
                for n in 0..9 {
                    let held = (a..=b).contains(&n) || (c..=d).contains(&n);
                    assert_eq!(blocks.contains(address(Family::V4, n)), held);
                    assert_eq!(
                        left.contains(address(Family::V4, n)),
                        !held && (2..=7).contains(&n),
                        "{a}-{b} {c}-{d} {n}"
                    );
                }
                assert!(
                    blocks.v4.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0),
                    "sorted, disjoint, not adjacent"
                );
            }
        }
    }

    #[test]
    fn the_end_of_a_family_is_no_overflow() {
        let all = Range::new(
            "::".parse().unwrap(),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
        )
        .unwrap();
        let last = Range::single(all.last_address());
        let blocks: Blocks = [last, all, last].into_iter().collect();
        assert_eq!(blocks.ranges().collect::<Vec<_>>(), [all]);
        assert!(AddrSet::outside(&all, &[&blocks]).is_empty());
    }

    fn ranges<'t>(texts: &'t [&str]) -> impl Iterator<Item = Range> + 't {
        let range = |text: &&'t str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
        };
        texts.iter().map(range)
    }

    #[test]
    fn hulls_touch_if_they_have_an_address_in_common() {
        for (one, other, touch) in [
            (&["10.0.0.1-10.0.0.9"][..], &["10.0.0.10-10.0.0.19"][..], false),
            (&["10.0.0.1-10.0.0.9"], &["10.0.0.9-10.0.0.19"], true),
            (&["10.0.0.9", "10.0.0.1"], &["10.0.0.5"], true),
            (&["10.0.0.1", "fd00::1"], &["fd00::1-fd00::5"], true),
            (&["::a00:1"], &["10.0.0.1"], false),
            (&[], &["10.0.0.1"], false),
        ] {
            let [one, other] = [one, other].map(|texts| ranges(texts).collect::<Hull>());
            assert_eq!([one.touches(&other), other.touches(&one)], [touch; 2], "{one:?} {other:?}");
        }
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
            (&["10.0.0.1", "10.0.0.3"], &["10.0.0.0-10.0.0.9"], Some("10.0.0.1-10.0.0.1")),
            (&["10.0.0.1"], &["fd00::1"], None),
            (&[], &["fd00::1"], None),
        ] {
            let hulls = [one, other].map(|texts| ranges(texts).collect::<Hull>());
            assert!(expected.is_none() || hulls[0].touches(&hulls[1]), "{one:?} {other:?}");
            let found = first_shared(ranges(one), ranges(other)).map(|range| range.to_string());
            assert_eq!(found.as_deref(), expected, "{one:?} {other:?}");
            // A look at each range of the other list finds the same.
            let blocks: Blocks = ranges(one).collect();
            let found = ranges(other).find_map(|range| blocks.first_shared(&range));
            assert_eq!(found.map(|range| range.to_string()).as_deref(), expected);
        }
    }
}
