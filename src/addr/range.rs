//! An inclusive range of addresses of one family.

use super::{Family, address, number};
use std::net::IpAddr;

/// A range of addresses of one family, from the first to the last. Both are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    family: Family,
    /// Never greater than `last`. Both fit the family.
    first: u128,
    last: u128,
}

impl Range {
    /// Returns the range between two addresses. Returns `None` if they are of different families or
    /// in the wrong order.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        let same = Family::of(first) == Family::of(last);
        let (family, first, last) = (Family::of(first), number(first), number(last));
        (same && first <= last).then_some(Self { family, first, last })
    }

    /// Returns the range of one address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self { family: Family::of(address), first: number(address), last: number(address) }
    }

    /// Returns a range for callers inside `addr`, which pass numbers in order.
    pub(super) const fn spanning(family: Family, first: u128, last: u128) -> Self {
        Self { family, first, last }
    }

    /// Returns the family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    pub(super) const fn first(&self) -> u128 {
        self.first
    }

    pub(super) const fn last(&self) -> u128 {
        self.last
    }

    /// Returns the lowest address.
    #[must_use]
    pub fn first_address(&self) -> IpAddr {
        address(self.family, self.first)
    }

    /// Returns the highest address.
    #[must_use]
    pub fn last_address(&self) -> IpAddr {
        address(self.family, self.last)
    }

    /// Returns the ranges of all addresses, IPv4 first.
    #[must_use]
    pub const fn all() -> [Self; 2] {
        [
            Self::spanning(Family::V4, 0, Family::V4.highest()),
            Self::spanning(Family::V6, 0, Family::V6.highest()),
        ]
    }

    /// Returns the number of addresses. Saturates at 2^128 - 1.
    #[must_use]
    pub const fn count(&self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// Returns whether the address is in this range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.family == Family::of(address)
            && self.first <= number(address)
            && number(address) <= self.last
    }

    /// Returns the addresses that two ranges have in common, or `None` if there are none.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (self.family == other.family && first <= last).then_some(Self {
            family: self.family,
            first,
            last,
        })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first_address(), self.last_address())
    }
}

#[cfg(test)]
mod tests {
    use super::Range;

    #[test]
    fn a_range_is_in_order_and_of_one_family() {
        let range = |a: &str, b: &str| Range::new(a.parse().unwrap(), b.parse().unwrap());
        assert!(range("10.0.0.1", "10.0.0.1").is_some());
        assert!(range("10.0.0.2", "10.0.0.1").is_none());
        assert!(range("10.0.0.1", "::9").is_none());
        assert!(range("::1", "10.0.0.1").is_none());
    }
}
