//! The reasons why a network cannot serve a request.

use crate::addr::Subnet;
use std::net::IpAddr;

/// The reasons why this configuration cannot serve a request, no matter who holds which address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The requested address is not inside any range.
    #[error("{origin}: expected an address of {ranges}, found {address}")]
    Outside {
        /// The place of the request.
        origin: String,
        /// The address.
        address: IpAddr,
        /// The first ranges of the configuration.
        ranges: String,
    },
    /// The network has no range, and the requested address has no prefix length.
    #[error(
        "{origin}: expected a prefix length, because the network has no range, found {address}"
    )]
    NoPrefix {
        /// The place of the request.
        origin: String,
        /// The address.
        address: IpAddr,
    },
    /// The requested address is inside a subnet, but must not be given out.
    #[error("{origin}: expected an address that may be given, but {address} is {what}")]
    Barred {
        /// The place of the request.
        origin: String,
        /// The address.
        address: IpAddr,
        /// The reason.
        what: &'static str,
    },
    /// The requested address is reserved for other pods.
    #[error(
        "{origin}: expected an address that is not reserved, but {address} is reserved for {owner}"
    )]
    Reserved {
        /// The place of the request.
        origin: String,
        /// The address.
        address: IpAddr,
        /// The pods for which it is reserved.
        owner: String,
    },
    /// The requested prefix length is not the one of the subnet.
    #[error(
        "{origin}: expected the prefix length of subnet {subnet}, or none, found {address}/{prefix}"
    )]
    Prefix {
        /// The place of the request.
        origin: String,
        /// The address.
        address: IpAddr,
        /// The requested prefix length.
        prefix: u8,
        /// The subnet that contains the address.
        subnet: Subnet,
    },
    /// A static address that no interface of this network may have.
    #[error("ipam.addresses: expected an address that may be given, but {address} is {what}")]
    BarredStatic {
        /// The address.
        address: IpAddr,
        /// The reason.
        what: &'static str,
    },
    /// One ADD asks for too many addresses.
    #[error("expected at most {most} addresses for one interface, found {found}")]
    TooMany {
        /// The number of addresses.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// The caller requests too many addresses of one range, or of one family.
    #[error("{origin}: expected at most {most} requested of {of}, found one more: {address}")]
    TooManyRequested {
        /// The place of the first request that exceeds the limit.
        origin: String,
        /// The address.
        address: IpAddr,
        /// The limit.
        most: usize,
        /// "one range", or the family.
        of: String,
    },
}

impl RequestError {
    /// Returns advice, if there is any.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooMany { .. } => Some("limits.addresses in the node's flat file sets the limit"),
            Self::TooManyRequested { .. } => {
                Some("limits.requested in the node's flat file sets the limit")
            }
            Self::Outside { .. }
            | Self::NoPrefix { .. }
            | Self::Reserved { .. }
            | Self::Barred { .. }
            | Self::Prefix { .. }
            | Self::BarredStatic { .. } => None,
        }
    }
}
