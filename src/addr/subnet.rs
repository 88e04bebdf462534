//! A subnet: a network address and a prefix length. Host bits are masked on
//! the way in, so two spellings of one subnet are equal.

use super::{AddrError, Family, Range, number, parse_prefixed};
use ipnet::IpNet;
use std::net::IpAddr;

/// Network address and prefix; host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet(IpNet);

impl Subnet {
    /// The subnet of `length` bits that holds `address`.
    ///
    /// # Errors
    /// A length above the family's.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, AddrError> {
        IpNet::new(address, length)
            .map_or(Err(AddrError("expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6)")), |net| Ok(Self(net.trunc())))
    }

    /// Parses CIDR notation; host bits are masked.
    ///
    /// # Errors
    /// See [`parse_prefixed`].
    pub fn parse(text: &str) -> Result<Self, AddrError> {
        let (address, length) = parse_prefixed(text)?;
        Self::new(address, length)
    }

    /// IPv4 or IPv6.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.0 {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    /// The prefix length in bits.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The network address.
    #[must_use]
    pub fn network(&self) -> IpAddr {
        self.0.network()
    }

    /// Whether the address lies in this subnet.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// All its addresses, the unusable ones included.
    #[must_use]
    pub fn whole(&self) -> Range {
        Range::spanning(self.family(), number(self.0.network()), number(self.0.broadcast()))
    }

    /// The addresses an interface may have: all but the first and the last,
    /// and everything of a /31, /32 (RFC 3021), /127 or /128 (RFC 6164). The
    /// last address of an IPv6 prefix is left out as Whereabouts leaves it.
    #[must_use]
    pub fn usable(&self) -> Range {
        let whole = self.whole();
        if self.length() + 1 < self.family().bits() { Range::spanning(self.family(), whole.first() + 1, whole.last() - 1) } else { whole }
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Subnet;

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
