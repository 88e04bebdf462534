//! An inclusive range of addresses of one family.

use super::{Family, address, number};
use std::net::IpAddr;

/// First to last, both included, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    family: Family,
    /// Never above `last`; both fit the family.
    first: u128,
    last: u128,
}

impl Range {
    /// The range between two addresses, or `None` when they are of two
    /// families or in the wrong order.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        let same = Family::of(first) == Family::of(last);
        let (family, first, last) = (Family::of(first), number(first), number(last));
        (same && first <= last).then_some(Self { family, first, last })
    }

    /// One address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self { family: Family::of(address), first: number(address), last: number(address) }
    }

    /// For callers inside `addr`, whose numbers are in order by construction.
    pub(super) const fn spanning(family: Family, first: u128, last: u128) -> Self {
        Self { family, first, last }
    }

    /// IPv4 or IPv6.
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

    /// The lowest address.
    #[must_use]
    pub fn first_address(&self) -> IpAddr {
        address(self.family, self.first)
    }

    /// The highest address.
    #[must_use]
    pub fn last_address(&self) -> IpAddr {
        address(self.family, self.last)
    }

    /// Whether the address lies in this range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.family == Family::of(address) && self.first <= number(address) && number(address) <= self.last
    }

    /// What two ranges have in common.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (self.family == other.family && first <= last).then_some(Self { family: self.family, first, last })
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
