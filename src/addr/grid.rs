//! Blocks of equal size that cover ranges: the cells of a map of addresses.
//!
//! The size is a power of two, and each block begins at a multiple of it. So a block is a subnet.

use super::{Family, Range, Subnet, address, number};
use std::net::IpAddr;

/// The blocks that have an address of some ranges, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    family: Family,
    /// A block has two to the power of this many addresses.
    bits: u8,
    /// The numbers of the blocks: the addresses without these bits.
    blocks: Vec<u128>,
}

impl Grid {
    /// Returns the smallest blocks of which at most `most` cover the ranges, or `None` without a
    /// range. The ranges are of one family, in order, and disjoint. `most` is at least 1.
    #[must_use]
    pub fn over(ranges: &[Range], most: usize) -> Option<Self> {
        let family = ranges.first()?.family();
        let count = |bits: u8| {
            let mut last_seen = None;
            ranges.iter().fold(0u128, |sum, range| {
                let (first, last) = (cut(range.first(), bits), cut(range.last(), bits));
                let shared = u128::from(last_seen.replace(last) == Some(first));
                sum.saturating_add(last - first).saturating_add(1) - shared
            })
        };
        // One block of all bits covers everything.
        let bits = (0..family.bits()).find(|bits| count(*bits) <= most as u128);
        let bits = bits.unwrap_or(family.bits());
        let all =
            ranges.iter().flat_map(|range| cut(range.first(), bits)..=cut(range.last(), bits));
        let mut blocks: Vec<u128> = all.take(most.saturating_mul(2)).collect();
        blocks.dedup();
        Some(Self { family, bits, blocks })
    }

    /// Returns the number of blocks.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Returns whether there is no block.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Returns whether each block is one address.
    #[must_use]
    pub const fn is_of_single_addresses(&self) -> bool {
        self.bits == 0
    }

    /// Returns the subnet of a block.
    #[must_use]
    pub fn subnet(&self, position: usize) -> Option<Subnet> {
        let block = *self.blocks.get(position)?;
        let first = block.checked_shl(self.bits.into()).unwrap_or(0);
        Subnet::new(address(self.family, first), self.family.bits() - self.bits).ok()
    }

    /// Returns the row and the column of a block in a table of this many columns, in which a row
    /// begins at a multiple of its addresses. Rows are counted as if there were no gaps.
    #[must_use]
    pub fn place(&self, position: usize, columns: u8) -> Option<(u128, u8)> {
        let block = *self.blocks.get(position)?;
        let columns = u128::from(columns.max(1));
        Some((block / columns, u8::try_from(block % columns).ok()?))
    }

    /// Returns the block of an address.
    #[must_use]
    pub fn position(&self, address: IpAddr) -> Option<usize> {
        let block = cut(number(address), self.bits);
        let is_ours = Family::of(address) == self.family;
        is_ours.then(|| self.blocks.binary_search(&block).ok()).flatten()
    }

    /// Returns the blocks that have an address of a range, each with the number of these addresses.
    pub fn spread(&self, range: &Range) -> impl Iterator<Item = (usize, u128)> + '_ {
        let range = *range;
        let first = cut(range.first(), self.bits);
        let from = match range.family() == self.family {
            true => self.blocks.partition_point(|block| *block < first),
            false => self.blocks.len(),
        };
        (from..self.blocks.len()).map_while(move |at| {
            let shared = self.subnet(at)?.whole().intersection(&range)?;
            Some((at, shared.count()))
        })
    }
}

/// Returns a number without its low bits.
fn cut(number: u128, bits: u8) -> u128 {
    number.checked_shr(bits.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        let (first, last) = text.split_once('-').unwrap();
        Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    fn shown(ranges: &[&str], most: usize) -> String {
        let ranges: Vec<Range> = ranges.iter().map(|text| range(text)).collect();
        let grid = Grid::over(&ranges, most).unwrap();
        let subnets = (0..grid.len()).map(|at| grid.subnet(at).unwrap().to_string());
        subnets.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn blocks_are_as_small_as_their_number_allows() {
        assert_eq!(shown(&["10.0.0.7-10.0.0.9"], 3), "10.0.0.7/32 10.0.0.8/32 10.0.0.9/32");
        assert_eq!(shown(&["10.0.0.7-10.0.0.9"], 2), "10.0.0.6/31 10.0.0.8/31");
        assert_eq!(shown(&["10.0.0.1-10.0.0.1", "10.0.0.3-10.0.0.3"], 1), "10.0.0.0/30");
        assert_eq!(shown(&["0.0.0.0-0.0.0.0", "255.0.0.0-255.0.0.0"], 1), "0.0.0.0/0");
        let all = "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(shown(&[all], 1), "::/0");
        assert_eq!(shown(&[all], 2), "::/1 8000::/1");
        assert_eq!(
            shown(&["fd00::-fd00::ffff:ffff:ffff:ffff"], 2),
            "fd00::/65 fd00::8000:0:0:0/65"
        );
    }

    #[test]
    fn each_address_counts_in_its_block() {
        let grid = Grid::over(&[range("10.0.0.0-10.0.3.255")], 1024).unwrap();
        assert!(grid.is_of_single_addresses());
        let grid = Grid::over(&[range("10.0.0.0-10.0.255.255")], 1024).unwrap();
        assert_eq!((grid.len(), grid.position("10.0.0.63".parse().unwrap())), (1024, Some(0)));
        assert_eq!(grid.position("10.0.0.64".parse().unwrap()), Some(1));
        assert_eq!(grid.position("10.1.0.0".parse().unwrap()), None);
        assert_eq!(grid.position("::".parse().unwrap()), None);
        let spread: Vec<_> = grid.spread(&range("10.0.0.60-10.0.0.129")).collect();
        assert_eq!(spread, [(0, 4), (1, 64), (2, 2)]);
        let everything = grid.spread(&range("0.0.0.0-255.255.255.255"));
        assert_eq!(everything.map(|(_, count)| count).sum::<u128>(), 65_536);
        assert_eq!(grid.spread(&range("::-::9")).count(), 0);
        assert_eq!(grid.place(33, 32), Some(((10 << 13) + 1, 1)));
    }
}
