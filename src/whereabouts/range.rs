//! The range of a pool of Whereabouts, and the keys of its entries. A key is the offset of an address
//! from the address in `spec.range`, as decimal text. It may need 128 bits.

use crate::addr::{self, Range, Subnet, parse_prefixed};
use std::net::IpAddr;

/// The range of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolRange {
    /// The address that offset 0 stands for. Whereabouts takes it as it is written. Old versions
    /// wrote ranges with host bits.
    base: IpAddr,
    subnet: Subnet,
}

/// Why a key stands for no address of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NoAddress {
    /// The range of the pool is not readable.
    NoRange,
    /// It is not a number.
    NotDecimal,
    /// It is below zero. Whereabouts then uses an address far away.
    Negative,
    /// The range does not have so many addresses.
    Outside,
}

impl NoAddress {
    /// Returns the reason for people.
    pub(crate) fn reason(self, key: &str, range: &str) -> String {
        match self {
            Self::NoRange => format!("the range of its pool is not readable: {range:?}"),
            Self::NotDecimal => format!("its offset {key:?} is not a decimal number"),
            Self::Negative => format!("its offset {key} is negative"),
            Self::Outside => format!("its offset {key} is outside of {range}"),
        }
    }
}

impl PoolRange {
    /// Parses the range of a pool.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (base, length) = parse_prefixed(text).ok()?;
        Some(Self { base, subnet: Subnet::new(base, length).ok()? })
    }

    /// Returns the prefix length.
    pub(crate) fn length(&self) -> u8 {
        self.subnet.length()
    }

    /// Returns whether an address is in the subnet.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.subnet.contains(address)
    }

    /// Returns the address that a key stands for.
    ///
    /// # Errors
    /// It stands for none of the range.
    pub(crate) fn address(&self, key: &str) -> Result<IpAddr, NoAddress> {
        let digits = key.strip_prefix('-').unwrap_or(key);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NoAddress::NotDecimal);
        }
        if digits.len() < key.len() {
            return Err(NoAddress::Negative);
        }
        // More digits than 128 bits have are outside of every range.
        let offset = key.parse().map_err(|_| NoAddress::Outside)?;
        let address = addr::above(self.base, offset).ok_or(NoAddress::Outside)?;
        if self.contains(address) { Ok(address) } else { Err(NoAddress::Outside) }
    }

    /// Returns the key of an address, as Whereabouts writes it and reads it back.
    ///
    /// # Errors
    /// It has no key that Whereabouts reads as this address.
    pub(crate) fn key(&self, address: IpAddr) -> Result<String, NoKey> {
        if !self.contains(address) {
            return Err(NoKey::Outside);
        }
        // Whereabouts writes the distance, whichever of the two is higher.
        let offset = addr::offset(self.base, address).ok_or(NoKey::Below)?;
        let most = match address {
            IpAddr::V4(_) => MOST_V4,
            IpAddr::V6(_) => MOST_V6,
        };
        if most < offset {
            return Err(NoKey::TooFar);
        }
        // It subtracts byte by byte, and wrongly where one byte borrows from the next. With each of
        // its writes, it computes the keys of all entries again.
        let borrows = octets(self.base).iter().zip(octets(address)).any(|(base, of)| of < *base);
        if borrows { Err(NoKey::Borrows) } else { Ok(offset.to_string()) }
    }

    /// Returns the addresses that have no key because they are too far from the first one.
    pub(crate) fn too_far(&self) -> Option<Range> {
        let most = match self.base {
            IpAddr::V4(_) => MOST_V4,
            IpAddr::V6(_) => MOST_V6,
        };
        let first = addr::above(self.base, most.checked_add(1)?)?;
        Range::new(first, self.subnet.whole().last_address())
    }

    /// Returns all addresses of the range.
    pub(crate) fn whole(&self) -> Range {
        self.subnet.whole()
    }
}

/// The highest offset that Whereabouts reads: for IPv4, it refuses the highest 32 bits number; a key is
/// read as a signed number of 64 bits.
const MOST_V4: u128 = 0xffff_fffe;
const MOST_V6: u128 = 0x7fff_ffff_ffff_ffff;

/// Why an address has no key in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The range does not have it.
    Outside,
    /// It is below the address that the range is written with.
    Below,
    /// Whereabouts cannot read a number as high as its offset.
    TooFar,
    /// Whereabouts computes another offset than the distance.
    Borrows,
}

impl std::fmt::Display for NoKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Outside => "the address is outside of the range",
            Self::Below => "the address is below the one that the range is written with",
            Self::TooFar => "Whereabouts cannot read an offset of 2^63 or more",
            Self::Borrows => "Whereabouts computes its offset wrongly in a range with host bits",
        })
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_has_up_to_128_bits() {
        for (range, key, expected) in [
            ("10.0.0.0/24", "5", Ok("10.0.0.5")),
            ("10.0.0.0/24", "0", Ok("10.0.0.0")),
            ("10.0.0.0/24", "005", Ok("10.0.0.5")),
            ("10.0.0.0/24", "255", Ok("10.0.0.255")),
            ("10.0.0.0/24", "256", Err(NoAddress::Outside)),
            ("10.0.0.0/0", "4294967295", Err(NoAddress::Outside)),
            ("0.0.0.0/0", "4294967295", Ok("255.255.255.255")),
            ("0.0.0.0/0", "4294967296", Err(NoAddress::Outside)),
            // The range of an old version has host bits, and Whereabouts counts from them.
            ("10.0.0.9/24", "5", Ok("10.0.0.14")),
            ("10.0.0.9/24", "250", Err(NoAddress::Outside)),
            ("fd00::/64", "9223372036854775807", Ok("fd00::7fff:ffff:ffff:ffff")),
            ("fd00::/64", "9223372036854775808", Ok("fd00::8000:0:0:0")),
            ("fd00::/64", "18446744073709551615", Ok("fd00::ffff:ffff:ffff:ffff")),
            ("fd00::/64", "18446744073709551616", Err(NoAddress::Outside)),
            ("fd00::/48", "18446744073709551621", Ok("fd00:0:0:1::5")),
            (
                "::/0",
                "340282366920938463463374607431768211455",
                Ok("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ),
            ("::/0", "340282366920938463463374607431768211456", Err(NoAddress::Outside)),
            ("::/0", "99999999999999999999999999999999999999999999", Err(NoAddress::Outside)),
            // Whereabouts' issue 403: an address below the base became this.
            ("10.0.0.0/24", "18446463705355360228", Err(NoAddress::Outside)),
            ("10.0.0.0/24", "-5", Err(NoAddress::Negative)),
            ("10.0.0.0/24", "", Err(NoAddress::NotDecimal)),
            ("10.0.0.0/24", "-", Err(NoAddress::NotDecimal)),
            ("10.0.0.0/24", "+5", Err(NoAddress::NotDecimal)),
            ("10.0.0.0/24", " 5", Err(NoAddress::NotDecimal)),
            ("10.0.0.0/24", "0x5", Err(NoAddress::NotDecimal)),
            ("10.0.0.0/24", "5.0", Err(NoAddress::NotDecimal)),
        ] {
            let found = PoolRange::parse(range).unwrap().address(key);
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(found, expected, "{range} {key}");
        }
    }

    #[test]
    fn an_address_has_the_key_that_whereabouts_reads() {
        for (range, address, expected) in [
            ("10.0.0.0/24", "10.0.0.5", Ok("5")),
            ("10.0.0.0/16", "10.0.3.2", Ok("770")),
            ("10.0.0.0/24", "10.0.1.5", Err(NoKey::Outside)),
            ("10.0.0.0/24", "fd00::5", Err(NoKey::Outside)),
            ("10.0.0.9/24", "10.0.0.14", Ok("5")),
            ("10.0.0.9/24", "10.0.0.8", Err(NoKey::Below)),
            // Its subtraction gives 761 for 765.
            ("192.168.0.5/16", "192.168.3.2", Err(NoKey::Borrows)),
            ("192.168.0.5/16", "192.168.3.5", Ok("768")),
            ("0.0.0.0/0", "255.255.255.254", Ok("4294967294")),
            ("0.0.0.0/0", "255.255.255.255", Err(NoKey::TooFar)),
            ("fd00::/64", "fd00::7fff:ffff:ffff:ffff", Ok("9223372036854775807")),
            ("fd00::/64", "fd00::8000:0:0:0", Err(NoKey::TooFar)),
        ] {
            let range = PoolRange::parse(range).unwrap();
            let address = address.parse().unwrap();
            let key = range.key(address);
            assert_eq!(key.as_deref(), expected.as_ref().map(|key| *key), "{address}");
            let far = range.too_far().is_some_and(|far| far.contains(address));
            assert_eq!(far, key == Err(NoKey::TooFar), "{address}");
            if let Ok(key) = key {
                assert_eq!(range.address(&key), Ok(address));
            }
        }
    }

    #[test]
    fn a_range_has_an_address_and_a_length() {
        for text in
            ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.1-10.0.0.9", "::ffff:10.0.0.0/120", "x/24"]
        {
            assert_eq!(PoolRange::parse(text), None, "{text}");
        }
        assert_eq!(PoolRange::parse("10.0.0.9/24").unwrap().length(), 24);
    }
}
