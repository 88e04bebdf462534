//! A subnet: a network address and a prefix length.
//!
//! Host bits are cleared when a subnet is created, so two spellings of one subnet are equal.

use super::{AddrError, Family, Range, number, parse_prefixed};
use ipnet::IpNet;
use std::net::IpAddr;

/// A network address and a prefix length. The host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet(IpNet);

impl Subnet {
    /// Returns the subnet with a prefix of `length` bits that contains `address`.
    ///
    /// # Errors
    /// Fails for a length that is too large for the family.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, AddrError> {
        IpNet::new(address, length).map_or(
            Err(AddrError("expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6)")),
            |net| Ok(Self(net.trunc())),
        )
    }

    /// Parses CIDR notation. Clears the host bits.
    ///
    /// # Errors
    /// See [`parse_prefixed`].
    pub fn parse(text: &str) -> Result<Self, AddrError> {
        let (address, length) = parse_prefixed(text)?;
        Self::new(address, length)
    }

    /// Returns the smallest subnet that contains a range.
    #[must_use]
    pub fn around(range: &Range) -> Self {
        let bits = range.family().bits();
        let same = (range.first() ^ range.last()).leading_zeros();
        // A number has 128 bits in both families.
        let host_bits = u8::try_from(128_u32.saturating_sub(same)).unwrap_or(bits);
        let address = range.first_address();
        Self::new(address, bits.saturating_sub(host_bits))
            .unwrap_or_else(|_| Self(IpNet::from(address)))
    }

    /// Returns the family.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.0 {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    /// Returns the prefix length in bits.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Returns the network address.
    #[must_use]
    pub fn network(&self) -> IpAddr {
        self.0.network()
    }

    /// Returns whether the address is in this subnet.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Returns all addresses, including those that are not usable.
    #[must_use]
    pub fn whole(&self) -> Range {
        Range::spanning(self.family(), number(self.0.network()), number(self.0.broadcast()))
    }

    /// Returns the addresses that an interface may have. These are all except the first and the
    /// last one. In a /31 or /32 (RFC 3021) and a /127 or /128 (RFC 6164), all addresses are
    /// usable. The last address of an IPv6 prefix is left out as in Whereabouts.
    #[must_use]
    pub fn usable(&self) -> Range {
        let whole = self.whole();
        if self.length() + 1 < self.family().bits() {
            Range::spanning(self.family(), whole.first() + 1, whole.last() - 1)
        } else {
            whole
        }
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Range, Subnet};

    #[test]
    fn the_smallest_subnet_around_a_range_holds_both_ends() {
        let around = |first: &str, last: &str| {
            let range = Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
            Subnet::around(&range).to_string()
        };
        assert_eq!(around("10.0.0.7", "10.0.0.7"), "10.0.0.7/32");
        assert_eq!(around("10.0.0.7", "10.0.0.8"), "10.0.0.0/28");
        assert_eq!(around("10.0.0.0", "10.0.0.255"), "10.0.0.0/24");
        assert_eq!(around("0.0.0.0", "255.255.255.255"), "0.0.0.0/0");
        assert_eq!(around("fd00::1", "fd00::1"), "fd00::1/128");
        assert_eq!(around("fd00::4:101", "fd00::4:110"), "fd00::4:100/123");
        assert_eq!(around("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "::/0");
    }

    #[test]
    fn host_bits_are_masked() {
        assert_eq!(Subnet::parse("10.1.2.77/24").unwrap(), Subnet::parse("10.1.2.0/24").unwrap());
    }

    #[test]
    fn small_subnets_are_usable_whole() {
        let usable = |text: &str| Subnet::parse(text).unwrap().usable().to_string();
        assert_eq!(usable("10.0.0.0/30"), "10.0.0.1-10.0.0.2");
        assert_eq!(usable("10.0.0.0/31"), "10.0.0.0-10.0.0.1");
        assert_eq!(usable("10.0.0.7/32"), "10.0.0.7-10.0.0.7");
        assert_eq!(usable("2001:db8::/126"), "2001:db8::1-2001:db8::2");
        assert_eq!(usable("2001:db8::/127"), "2001:db8::-2001:db8::1");
        assert_eq!(usable("2001:db8::1/128"), "2001:db8::1-2001:db8::1");
        assert_eq!(usable("::/0"), "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe");
    }
}
