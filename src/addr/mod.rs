//! Address arithmetic: numbers, subnets, ranges and sets of addresses.
//!
//! All arithmetic uses 128 bits for both families. A /8 and a /64 cost as much as a /24, because no
//! code here counts addresses one by one. The module uses only std and ipnet, and cannot do I/O. No
//! other module does arithmetic on addresses.

mod blocks;
mod grid;
mod hulls;
mod range;
mod set;
mod subnet;
mod sweep;

pub use blocks::{Blocks, Hull, first_shared};
pub use grid::Grid;
pub use hulls::Hulls;
pub use range::Range;
pub use set::{AddrSet, Mask, Shard, add_bit, bits_from, lowest_free, remove_bit};
pub use subnet::Subnet;
pub use sweep::{Edge, sweep};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, 32 bits.
    V4,
    /// IPv6, 128 bits.
    V6,
}

impl Family {
    /// Returns the family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Returns the length of an address in bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// Returns the highest number of an address of this family.
    #[must_use]
    pub const fn highest(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Returns whether an address is a link-local IPv6 address, with which routers announce themselves.
#[must_use]
pub const fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Returns an address as a number.
#[must_use]
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// Returns a number as an address of `family`. For IPv4, only the low 32 bits are used.
#[must_use]
pub fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => {
            let [.., a, b, c, d] = number.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// Returns the address that is `offset` addresses above another one. `None` if the family has none
/// there.
#[must_use]
pub fn above(base: IpAddr, offset: u128) -> Option<IpAddr> {
    let family = Family::of(base);
    let number = number(base).checked_add(offset).filter(|number| *number <= family.highest())?;
    Some(address(family, number))
}

/// Returns how many addresses an address is above another one of its family. `None` if it is below.
#[must_use]
pub fn offset(base: IpAddr, address: IpAddr) -> Option<u128> {
    let same = Family::of(base) == Family::of(address);
    same.then(|| number(address).checked_sub(number(base))).flatten()
}

/// The reason why a text is not an address, subnet or range. The caller adds the place of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddrError(pub &'static str);

impl std::fmt::Display for AddrError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for AddrError {}

/// Parses an address as operators write it. Leading zeros in IPv4 octets are decimal padding, as
/// for Whereabouts. Everything else is strict.
///
/// # Errors
/// Fails for a zone, for an IPv4-mapped IPv6 address, which no main plugin can use, and for a text
/// that is not exactly one address.
pub fn parse_address(text: &str) -> Result<IpAddr, AddrError> {
    if text.contains('%') {
        return Err(AddrError("expected an address without a zone"));
    }
    let parsed = if text.contains(':') {
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    } else {
        parse_v4(text).map(IpAddr::V4)
    };
    match parsed {
        Some(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(AddrError("expected a plain address, not an IPv4-mapped one"))
        }
        Some(address) => Ok(address),
        None => Err(AddrError("expected an IPv4 or IPv6 address")),
    }
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        *octet = parse_padded(part)?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// Parses decimal digits with any number of leading zeros.
fn parse_padded(digits: &str) -> Option<u8> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match digits.trim_start_matches('0') {
        "" => Some(0),
        rest => rest.parse().ok(),
    }
}

/// Parses `address/length`. Keeps the host bits.
///
/// # Errors
/// Fails for a missing or impossible length, or an invalid address.
pub fn parse_prefixed(text: &str) -> Result<(IpAddr, u8), AddrError> {
    let (address, length) = text
        .split_once('/')
        .ok_or(AddrError("expected an address with a prefix length, such as 10.0.0.0/24"))?;
    let address = parse_address(address)?;
    match parse_padded(length) {
        Some(length) if length <= Family::of(address).bits() => Ok((address, length)),
        _ => Err(AddrError("expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_inverse() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "255.255.255.255",
            "::",
            "2001:db8::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(address(Family::of(ip), number(ip)), ip);
        }
    }

    #[test]
    fn no_address_is_above_the_highest_one() {
        for (base, offset, expected) in [
            ("10.0.0.0", 0, Some("10.0.0.0")),
            ("10.0.0.250", 10, Some("10.0.1.4")),
            ("255.255.255.250", 5, Some("255.255.255.255")),
            ("255.255.255.250", 6, None),
            ("10.0.0.0", u128::MAX, None),
            ("fd00::", 1 << 64, Some("fd00:0:0:1::")),
            ("::", u128::MAX, Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
            ("::1", u128::MAX, None),
        ] {
            let found = above(base.parse().unwrap(), offset).map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{base} {offset}");
        }
    }

    #[test]
    fn leading_zeros_in_octets_are_decimal() {
        assert_eq!(parse_address("192.168.010.001").unwrap().to_string(), "192.168.10.1");
        assert_eq!(parse_address("00192.00168.0.00000").unwrap().to_string(), "192.168.0.0");
        assert_eq!(parse_prefixed("10.0.0.0/0024").unwrap().1, 24);
    }

    #[test]
    fn everything_else_is_strict() {
        for text in [
            "",
            "10.1.2",
            "10.1.2.3.4",
            "0x0a000001",
            "167837953",
            "10.1.2.256",
            " 10.1.2.3",
            "10.1.2.3 ",
            "\u{ff11}0.1.2.3",
            "fe80::1%eth0",
            "::ffff:10.1.2.3",
            "+1.2.3.4",
        ] {
            assert!(parse_address(text).is_err(), "{text}");
        }
        for text in [
            "10.1.2.0",
            "10.1.2.0/33",
            "10.1.2.0/-1",
            "10.1.2.0/+24",
            "10.1.2.0/",
            "10.1.2.0/255.255.255.0",
            "10.1.2/24",
            "::/129",
            "10.1.2.0/24 ",
        ] {
            assert!(parse_prefixed(text).is_err(), "{text}");
        }
    }
}
