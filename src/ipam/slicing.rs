//! Slices: a pool is cut into blocks of one size, and each block belongs to one node at a time. The
//! node gives addresses inside its blocks without asking anybody.
//!
//! The geometry says which blocks there are. Every node computes the same blocks from it.

use crate::addr::{Family, Subnet, address, number};
use std::net::IpAddr;

/// Subnets of both families that belong together, or one subnet: a range of a pool, or one of its
/// slices.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Block {
    /// The IPv4 subnet.
    pub v4: Option<Subnet>,
    /// The IPv6 subnet.
    pub v6: Option<Subnet>,
}

impl Block {
    /// Returns the subnet of a family.
    #[must_use]
    pub const fn of(&self, family: Family) -> Option<Subnet> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Returns the subnets, IPv4 first.
    pub fn subnets(&self) -> impl Iterator<Item = Subnet> + use<> {
        [self.v4, self.v6].into_iter().flatten()
    }

    /// Returns the first address, by which a slice is named: that of the IPv4 subnet, if there is
    /// one. `None` for a block without subnets.
    #[must_use]
    pub fn first(&self) -> Option<IpAddr> {
        self.subnets().next().map(|subnet| subnet.network())
    }

    /// Returns whether the address is in one of the subnets.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.of(Family::of(address)).is_some_and(|subnet| subnet.contains(address))
    }

    /// Returns whether both have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let both = [(self.v4, other.v4), (self.v6, other.v6)];
        both.into_iter().any(|pair| match pair {
            (Some(one), Some(two)) => one.whole().intersection(&two.whole()).is_some(),
            _ => false,
        })
    }
}

impl std::fmt::Display for Block {
    /// Writes `10.0.0.0/24` or `10.0.0.0/24 and fd00::/120`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts: Vec<String> = self.subnets().map(|subnet| subnet.to_string()).collect();
        f.write_str(&texts.join(" and "))
    }
}

/// How a pool is cut: its ranges, and the prefix length of a slice in each family that they have.
/// The ranges may grow at the end. Nothing else ever changes.
///
/// The subnet of one family may have room for more slices than that of the other, as a /64 has. The
/// rest of it is in no slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    ranges: Vec<Block>,
    v4: Option<u8>,
    v6: Option<u8>,
}

/// The most slices of one range, as of a podCIDR: 2 to the power of 16.
const MOST_BITS: u8 = 16;

impl Geometry {
    /// Returns the geometry of these ranges.
    ///
    /// # Errors
    /// The reason in words: a range lacks a family, the families have different numbers of addresses
    /// in a slice, or there are too many slices.
    pub fn new(ranges: Vec<Block>, v4: Option<u8>, v6: Option<u8>) -> Result<Self, String> {
        if ranges.is_empty() || v4.is_none() && v6.is_none() {
            return Err("expected at least one range, and the size of a slice".to_owned());
        }
        if let (Some(v4), Some(v6)) = (v4, v6)
            && Family::V4.bits().checked_sub(v4) != Family::V6.bits().checked_sub(v6)
        {
            return Err(format!(
                "expected slices with equally many addresses of both families, found /{v4} and /{v6}"
            ));
        }
        let geometry = Self { ranges, v4, v6 };
        geometry.ranges.iter().try_for_each(|range| geometry.check(range))?;
        Ok(geometry)
    }

    /// Refuses a range that cannot be cut.
    fn check(&self, range: &Block) -> Result<(), String> {
        for (family, length) in [(Family::V4, self.v4), (Family::V6, self.v6)] {
            let (length, subnet) = match (length, range.of(family)) {
                (None, None) => continue,
                (Some(length), Some(subnet)) => (length, subnet),
                _ => {
                    return Err(format!(
                        "expected the size of a slice for each family of a range, and for no other: {range}"
                    ));
                }
            };
            // The other family bounds the number of slices.
            let is_few = self.bits(range).is_some_and(|bits| bits <= MOST_BITS);
            if length < subnet.length() || family.bits() < length || !is_few {
                return Err(format!(
                    "expected slices of /{} to /{} in {subnet}, found /{length}",
                    subnet.length(),
                    family.bits().min(subnet.length().saturating_add(MOST_BITS))
                ));
            }
        }
        Ok(())
    }

    /// Returns by how many bits a slice is longer than the range, in the family in which it is fewer.
    fn bits(&self, range: &Block) -> Option<u8> {
        let of = |family| self.length(family)?.checked_sub(range.of(family)?.length());
        [of(Family::V4), of(Family::V6)].into_iter().flatten().min()
    }

    /// Returns the ranges.
    #[must_use]
    pub fn ranges(&self) -> &[Block] {
        &self.ranges
    }

    /// Returns the prefix length of a slice in a family.
    #[must_use]
    pub const fn length(&self, family: Family) -> Option<u8> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Returns whether both cut the same addresses into the same slices, as far as both have them.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let both = self.ranges.iter().zip(&other.ranges);
        (self.v4, self.v6) == (other.v4, other.v6) && both.into_iter().all(|(one, two)| one == two)
    }

    /// Returns the number of slices of a range.
    fn count_of(&self, range: &Block) -> u32 {
        1 << self.bits(range).unwrap_or_default().min(MOST_BITS)
    }

    /// Returns the number of slices.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.ranges.iter().map(|range| self.count_of(range)).fold(0, u32::saturating_add)
    }

    /// Returns the slice of a number, counted from 0 through all ranges.
    #[must_use]
    pub fn slice(&self, number: u32) -> Option<Block> {
        let mut left = number;
        for range in &self.ranges {
            let count = self.count_of(range);
            if left < count {
                return Some(Block {
                    v4: self.part(range, Family::V4, left),
                    v6: self.part(range, Family::V6, left),
                });
            }
            left -= count;
        }
        None
    }

    fn part(&self, range: &Block, family: Family, offset: u32) -> Option<Subnet> {
        let (subnet, length) = (range.of(family)?, self.length(family)?);
        let step = u32::from(family.bits().checked_sub(length)?);
        let base = number(subnet.network());
        let first = match offset {
            0 => base,
            _ => base.checked_add(u128::from(offset).checked_shl(step)?)?,
        };
        Subnet::new(address(family, first), length).ok()
    }

    /// Returns the slice that contains an address.
    #[must_use]
    pub fn slice_of(&self, address: IpAddr) -> Option<Block> {
        let family = Family::of(address);
        let step = u32::from(family.bits().checked_sub(self.length(family)?)?);
        let range = self.ranges.iter().find(|range| range.contains(address))?;
        let above = number(address).checked_sub(number(range.of(family)?.network()))?;
        let offset = u32::try_from(above.checked_shr(step).unwrap_or_default()).ok()?;
        if self.count_of(range) <= offset {
            return None;
        }
        Some(Block {
            v4: self.part(range, Family::V4, offset),
            v6: self.part(range, Family::V6, offset),
        })
    }
}

/// The pool from whose slices an ADD takes its addresses, or a network that is one by itself because
/// it has `node_slice_size`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slicing {
    /// The name of the pool, or that of a network: its range, as `10.0.0.0/16:blue`.
    pub pool: String,
    /// The uid of the pool. A later pool of the same name has another one. Empty for a network.
    pub pool_uid: String,
    /// How it is cut.
    pub geometry: Geometry,
    /// The most slices that one node may own.
    pub most_per_node: u32,
    /// The pools with slices and the scopes on other wires, see `config`.
    pub may_overlap: Vec<String>,
}

/// Returns whether a name is that of a network, not of an IPPool. No name of an object has a slash.
#[must_use]
pub fn names_network(pool: &str) -> bool {
    pool.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(v4: &str, v6: &str) -> Block {
        let parse = |text: &str| (!text.is_empty()).then(|| Subnet::parse(text).unwrap());
        Block { v4: parse(v4), v6: parse(v6) }
    }

    fn geometry(ranges: &[(&str, &str)], v4: u8, v6: u8) -> Result<Geometry, String> {
        let some = |length: u8| (length != 0).then_some(length);
        let ranges = ranges.iter().map(|(v4, v6)| block(v4, v6)).collect();
        Geometry::new(ranges, some(v4), some(v6))
    }

    #[test]
    fn both_families_of_a_slice_stand_at_the_same_offset_of_their_range() {
        let ranges = [("192.168.0.0/16", "fd12::1:0/112"), ("10.9.0.0/23", "fd12::2:0/119")];
        let geometry = geometry(&ranges, 24, 120).unwrap();
        assert_eq!(geometry.count(), 256 + 2);
        let text = |number| geometry.slice(number).map(|block| block.to_string());
        assert_eq!(text(0).unwrap(), "192.168.0.0/24 and fd12::1:0/120");
        assert_eq!(text(7).unwrap(), "192.168.7.0/24 and fd12::1:700/120");
        assert_eq!(text(255).unwrap(), "192.168.255.0/24 and fd12::1:ff00/120");
        assert_eq!(text(257).unwrap(), "10.9.1.0/24 and fd12::2:100/120");
        assert_eq!(text(258), None);
        for number in 0..geometry.count() {
            let slice = geometry.slice(number).unwrap();
            for subnet in slice.subnets() {
                let last = subnet.whole().last_address();
                assert_eq!(geometry.slice_of(subnet.network()).as_ref(), Some(&slice));
                assert_eq!(geometry.slice_of(last).as_ref(), Some(&slice));
            }
        }
        assert_eq!(geometry.slice_of("10.9.2.0".parse().unwrap()), None);
    }

    #[test]
    fn one_family_and_a_slice_of_the_whole_range_or_of_one_address() {
        assert_eq!(geometry(&[("10.0.0.0/24", "")], 24, 0).unwrap().count(), 1);
        let single = geometry(&[("", "fd00::/112")], 0, 128).unwrap();
        assert_eq!(single.slice(65_535).unwrap().to_string(), "fd00::ffff/128");
        assert_eq!(single.slice_of("fd00::ffff".parse().unwrap()), single.slice(65_535));
        let all = geometry(&[("0.0.0.0/0", "")], 16, 0).unwrap();
        assert_eq!(
            all.slice_of("255.255.1.2".parse().unwrap()).unwrap().to_string(),
            "255.255.0.0/16"
        );
        assert_eq!(
            geometry(&[("", "::/0")], 0, 0),
            Err("expected at least one range, and the size of a slice".to_owned())
        );
        let all = geometry(&[("", "::/0")], 0, 16).unwrap();
        assert_eq!(all.slice(1).unwrap().to_string(), "1::/16");
    }

    #[test]
    fn the_family_with_fewer_slices_bounds_their_number() {
        for (v4, v6, count) in [
            ("10.0.0.0/16", "fd00::/64", 256),
            ("10.0.0.0/16", "fd00::/113", 128),
            ("10.0.0.0/16", "fd00::/120", 1),
        ] {
            let geometry = geometry(&[(v4, v6), ("10.9.0.0/24", "fd09::/120")], 24, 120).unwrap();
            assert_eq!(geometry.count(), count + 1);
            let last = geometry.slice(count - 1).unwrap();
            assert_eq!(last.v4.unwrap().to_string(), format!("10.0.{}.0/24", count - 1));
            assert_eq!(geometry.slice_of(last.v6.unwrap().network()), Some(last));
            assert_eq!(geometry.slice(count).unwrap().to_string(), "10.9.0.0/24 and fd09::/120");
            for address in [format!("10.0.{count}.0"), format!("fd00::{:x}", count * 256)] {
                let slice = address.parse().ok().and_then(|address| geometry.slice_of(address));
                assert_eq!(slice, None, "{address}");
            }
        }
    }

    #[test]
    fn a_geometry_that_would_pair_or_count_wrongly_is_refused() {
        for (ranges, v4, v6, expected) in [
            (&[("10.0.0.0/16", "fd00::/112")][..], 24, 121, "equally many addresses"),
            (&[("10.0.0.0/8", "fd00::/64")], 28, 124, "/8 to /24 in 10.0.0.0/8, found /28"),
            (&[("10.0.0.0/16", "fd00::/121")], 24, 120, "/121 to /128 in fd00::/121, found /120"),
            (&[("10.0.0.0/16", "fd00::/112"), ("10.1.0.0/16", "")], 24, 120, "for each family"),
            (&[("10.0.0.0/16", "fd00::/112")], 24, 0, "for each family"),
            (&[("10.0.0.0/16", "")], 15, 0, "/16 to /32 in 10.0.0.0/16, found /15"),
            (&[("10.0.0.0/24", "")], 33, 0, "/24 to /32 in 10.0.0.0/24, found /33"),
            (&[("", "fd00::/64")], 0, 96, "/64 to /80 in fd00::/64, found /96"),
        ] {
            let found = geometry(ranges, v4, v6).unwrap_err();
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn a_geometry_agrees_with_one_that_has_more_ranges_and_with_no_other() {
        let of = |ranges: &[(&str, &str)], v4| geometry(ranges, v4, 0).unwrap();
        let short = of(&[("10.0.0.0/16", "")], 24);
        let long = of(&[("10.0.0.0/16", ""), ("10.9.0.0/16", "")], 24);
        assert!(short.agrees_with(&long) && long.agrees_with(&short));
        assert!(!short.agrees_with(&of(&[("10.0.0.0/16", "")], 25)));
        assert!(!short.agrees_with(&of(&[("10.0.0.0/17", "")], 24)));
        assert!(!long.agrees_with(&of(&[("10.9.0.0/16", ""), ("10.0.0.0/16", "")], 24)));
    }
}
