//! A set of addresses of one family, and its division into shards.
//!
//! The set is stored as spans. A shard is a block of 256 addresses, which the file store keeps
//! together.

use super::{Blocks, Family, Range, address, number};
use std::net::IpAddr;

/// A set of addresses of one family. A /64 minus a thousand excludes takes 1001 pairs of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddrSet {
    family: Family,
    /// Sorted, disjoint, not adjacent, each first <= last.
    spans: Vec<(u128, u128)>,
}

/// 256 neighboring addresses, which differ only in the last 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    family: Family,
    /// The address number without its low 8 bits.
    index: u128,
}

/// A subset of the 256 addresses of a shard. Bit `n` is the address that ends in `n`.
pub type Mask = [u64; 4];

impl AddrSet {
    /// Returns the set of the addresses of one range.
    #[must_use]
    pub fn from_range(range: &Range) -> Self {
        Self { family: range.family(), spans: vec![(range.first(), range.last())] }
    }

    /// Returns the set of the addresses of a range that are in none of the blocks.
    #[must_use]
    pub fn outside(range: &Range, blocks: &[&Blocks]) -> Self {
        let mut taken: Vec<(u128, u128)> =
            blocks.iter().flat_map(|blocks| blocks.within(range)).copied().collect();
        taken.sort_unstable();
        let (mut spans, mut next) = (Vec::with_capacity(taken.len() + 1), Some(range.first()));
        for (first, last) in taken {
            let Some(from) = next else { break };
            if from < first {
                spans.push((from, first - 1));
            }
            next = last.checked_add(1).map(|after| after.max(from));
        }
        if let Some(from) = next.filter(|from| *from <= range.last()) {
            spans.push((from, range.last()));
        }
        Self { family: range.family(), spans }
    }

    /// Returns the addresses of the set that are in one of the blocks.
    #[must_use]
    pub fn within(&self, blocks: &Blocks) -> Self {
        let mut spans = Vec::new();
        for range in self.ranges() {
            let (from, to) = (range.first(), range.last());
            let shared = blocks.within(&range).iter();
            spans.extend(shared.map(|&(first, last)| (first.max(from), last.min(to))));
        }
        Self { family: self.family, spans }
    }

    /// Returns the addresses of the set that are in none of the blocks.
    #[must_use]
    pub fn without(&self, blocks: &Blocks) -> Self {
        let parts = self.ranges().map(|range| Self::outside(&range, &[blocks]));
        Self { family: self.family, spans: parts.flat_map(|part| part.spans).collect() }
    }

    /// Returns whether an address of the range is in the set.
    #[must_use]
    pub fn has_any_of(&self, range: &Range) -> bool {
        let next = self.spans.partition_point(|&(_, last)| last < range.first());
        range.family() == self.family
            && self.spans.get(next).is_some_and(|&(first, _)| first <= range.last())
    }

    /// Removes a range from the set. A range of the other family changes nothing.
    ///
    /// ```text
    ///   span        [=========]         [=========]        [===]
    ///   removed        [===]        [========]            [=====]
    ///   left        [=]     [=]              [====]
    /// ```
    pub fn remove(&mut self, range: &Range) {
        if range.family() != self.family {
            return;
        }
        let (from, to) = (range.first(), range.last());
        let mut left = Vec::with_capacity(self.spans.len() + 1);
        for &(first, last) in &self.spans {
            if last < from || to < first {
                left.push((first, last));
                continue;
            }
            if first < from {
                left.push((first, from - 1));
            }
            if to < last {
                left.push((to + 1, last));
            }
        }
        self.spans = left;
    }

    /// Returns the family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns whether the address is in the set.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let wanted = number(address);
        Family::of(address) == self.family && {
            let after = self.spans.partition_point(|&(first, _)| first <= wanted);
            after.checked_sub(1).is_some_and(|at| wanted <= self.spans[at].1)
        }
    }

    /// Returns the number of addresses. Saturates at 2^128 - 1.
    #[must_use]
    pub fn count(&self) -> u128 {
        self.spans
            .iter()
            .fold(0u128, |sum, &(first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }

    /// Returns the address that has `number` addresses of the set below it.
    #[must_use]
    pub fn nth(&self, number: u128) -> Option<IpAddr> {
        let mut left = number;
        for &(first, last) in &self.spans {
            if left <= last - first {
                return Some(address(self.family, first + left));
            }
            left -= last - first + 1;
        }
        None
    }

    /// Returns the ranges of the set, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        self.spans.iter().map(|&(first, last)| Range::spanning(self.family, first, last))
    }

    /// Returns the first shard at or above `from` that has an address of the set. Without `from`,
    /// returns the lowest one.
    #[must_use]
    pub fn shard_from(&self, from: Option<Shard>) -> Option<Shard> {
        let floor = from.map_or(0, |shard| shard.index << 8);
        let at = self.spans.partition_point(|&(_, last)| last < floor);
        let &(first, _) = self.spans.get(at)?;
        Some(Shard { family: self.family, index: first.max(floor) >> 8 })
    }

    /// Returns the addresses of the set in one shard.
    #[must_use]
    pub fn mask(&self, shard: Shard) -> Mask {
        let mut mask = [0u64; 4];
        let (low, high) = (shard.index << 8, (shard.index << 8) | 0xff);
        let at = self.spans.partition_point(|&(_, last)| last < low);
        for &(first, last) in &self.spans[at..] {
            if high < first {
                break;
            }
            set_bits(&mut mask, low_byte(first.max(low)), low_byte(last.min(high)));
        }
        mask
    }
}

fn low_byte(number: u128) -> u8 {
    number.to_be_bytes()[15]
}

fn set_bits(mask: &mut Mask, first: u8, last: u8) {
    for (word, bits) in (0u8..4).zip(mask.iter_mut()) {
        let (low, high) = (word * 64, word * 64 + 63);
        if first <= high && low <= last {
            let from = first.max(low) - low;
            let to = last.min(high) - low;
            *bits |= (u64::MAX >> (63 - to)) & (u64::MAX << from);
        }
    }
}

impl Shard {
    /// Returns the shard that contains an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self { family: Family::of(address), index: number(address) >> 8 }
    }

    /// Returns the shard with this index, or `None` if the family does not have it.
    #[must_use]
    pub fn at(family: Family, index: u128) -> Option<Self> {
        (index <= family.highest() >> 8).then_some(Self { family, index })
    }

    /// Returns the index of the shard in its family.
    #[must_use]
    pub const fn index(self) -> u128 {
        self.index
    }

    /// Returns the family.
    #[must_use]
    pub const fn family(self) -> Family {
        self.family
    }

    /// Returns the next shard, if there is one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::at(self.family, self.index + 1)
    }

    /// Returns the lowest address of the shard.
    #[must_use]
    pub fn base(self) -> IpAddr {
        address(self.family, self.index << 8)
    }

    /// Returns the address that ends in the 8 bits `low`.
    #[must_use]
    pub fn member(self, low: u8) -> IpAddr {
        address(self.family, (self.index << 8) | u128::from(low))
    }

    /// Returns the last 8 bits of an address, if it is in this shard.
    #[must_use]
    pub fn position(self, address: IpAddr) -> Option<u8> {
        (Self::of(address) == self).then(|| low_byte(number(address)))
    }
}

/// Returns the lowest bit of `wanted` that is not in `taken`.
#[must_use]
pub fn lowest_free(wanted: &Mask, taken: &Mask) -> Option<u8> {
    (0u8..4).zip(wanted.iter().zip(taken)).find_map(|(word, (wanted, taken))| {
        let free = wanted & !taken;
        // trailing_zeros of a u64 that is not zero is at most 63.
        (free != 0).then(|| word * 64 + u8::try_from(free.trailing_zeros()).unwrap_or(63))
    })
}

/// Adds the address that ends in `low`.
pub fn add_bit(mask: &mut Mask, low: u8) {
    mask[usize::from(low >> 6)] |= 1 << (low & 63);
}

/// Removes the address that ends in `low`.
pub fn remove_bit(mask: &mut Mask, low: u8) {
    mask[usize::from(low >> 6)] &= !(1 << (low & 63));
}

/// Returns the addresses of the mask that end in `low` or a higher number.
#[must_use]
pub fn bits_from(mask: &Mask, low: u8) -> Mask {
    let mut from = [0; 4];
    set_bits(&mut from, low, 255);
    std::array::from_fn(|word| mask[word] & from[word])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn v4(low: u16) -> IpAddr {
        address(Family::V4, u128::from(low))
    }

    /// Compares every pair of removals in a small universe with a simple set.
    #[test]
    fn removal_agrees_with_brute_force() {
        let whole = Range::new(v4(2), v4(13)).unwrap();
        let spans: Vec<(u16, u16)> = (0..16).flat_map(|a| (a..16).map(move |b| (a, b))).collect();
        for &(a, b) in &spans {
            for &(c, d) in &spans {
                let mut set = AddrSet::from_range(&whole);
                let mut plain: BTreeSet<u16> = (2..=13).collect();
                for (first, last) in [(a, b), (c, d)] {
                    set.remove(&Range::new(v4(first), v4(last)).unwrap());
                    plain.retain(|n| *n < first || last < *n);
                }
                for n in 0..16 {
                    assert_eq!(set.contains(v4(n)), plain.contains(&n), "{a}-{b} {c}-{d} {n}");
                }
                assert_eq!(set.count(), plain.len() as u128);
                for &(first, last) in &spans {
                    let range = Range::new(v4(first), v4(last)).unwrap();
                    let has_any = plain.range(first..=last).next().is_some();
                    assert_eq!(set.has_any_of(&range), has_any, "{a}-{b} {c}-{d} {range}");
                }
                let in_order: Vec<_> =
                    (0..=plain.len() as u128).map_while(|number| set.nth(number)).collect();
                assert_eq!(in_order, plain.iter().map(|n| v4(*n)).collect::<Vec<_>>());
                assert!(
                    set.spans.windows(2).all(|w| w[0].1 + 1 < w[1].0),
                    "sorted, disjoint, not adjacent"
                );
            }
        }
    }

    #[test]
    fn masks_agree_with_contains() {
        let mut set = AddrSet::from_range(&Range::new(v4(250), v4(1030)).unwrap());
        set.remove(&Range::new(v4(300), v4(301)).unwrap());
        set.remove(&Range::new(v4(512), v4(767)).unwrap());
        let mut seen = Vec::new();
        let mut from = None;
        while let Some(shard) = set.shard_from(from) {
            let mask = set.mask(shard);
            for low in 0..=255u8 {
                let bit = mask[usize::from(low >> 6)] >> (low & 63) & 1 == 1;
                assert_eq!(bit, set.contains(shard.member(low)));
            }
            seen.push(shard.index());
            from = shard.next();
        }
        assert_eq!(seen, [0, 1, 3, 4]);
    }

    #[test]
    fn the_last_shard_of_a_family_has_no_next() {
        assert_eq!(Shard::of("255.255.255.255".parse().unwrap()).next(), None);
        assert_eq!(
            Shard::of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()).next(),
            None
        );
    }

    #[test]
    fn the_lowest_free_bit_is_found() {
        let mut taken = [0; 4];
        for low in 0..130 {
            assert_eq!(lowest_free(&[u64::MAX; 4], &taken), Some(low));
            add_bit(&mut taken, low);
        }
        assert_eq!(lowest_free(&[u64::MAX, 0, 0, 0], &taken), None);
        assert_eq!(lowest_free(&bits_from(&[u64::MAX; 4], 200), &taken), Some(200));
        remove_bit(&mut taken, 70);
        assert_eq!(lowest_free(&[u64::MAX; 4], &taken), Some(70));
    }

    #[test]
    fn counting_everything_saturates() {
        let all = Range::new(
            "::".parse().unwrap(),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
        )
        .unwrap();
        assert_eq!(AddrSet::from_range(&all).count(), u128::MAX);
    }
}
