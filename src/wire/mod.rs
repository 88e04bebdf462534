//! The wire of this node: asks the kernel about one address or one interface, and asks the other
//! hosts of a network whether one of them has an address.
//!
//! It knows nothing of records, networks or configurations. Everything happens in the network
//! namespace of this process.
//!
//! - `socket`: the system calls
//! - `netlink`: questions to the kernel, each with one answer
//! - `own`: which interface of this node has an address
//! - `link`: number, MAC address and state of an interface
//! - `packets`: frames of one kind on one interface
//! - `arp`, `solicitation`: what is asked about an IPv4 or IPv6 address, and which frames say that a
//!   host has it
//! - `probe`: asks, and waits for an answer

mod arp;
mod link;
mod netlink;
mod own;
mod packets;
mod probe;
mod socket;
mod solicitation;

pub use link::{Link, LinkError, Mac};
pub use own::OwnAddresses;
pub use probe::probe;
