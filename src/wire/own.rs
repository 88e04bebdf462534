//! Which interface of this node has an address.
//!
//! The kernel is asked for the route to that one address. A list of all interfaces would take
//! longer on a node with thousands of them, and a bind(2) would say nothing about the interface.

use super::link;
use super::netlink::{self, Answer, Kernel};
use nix::libc;
use std::cell::RefCell;
use std::io;
use std::net::IpAddr;

/// The size of `rtmsg`, the fixed part of a route.
const ROUTE: usize = 12;
/// The room for the answer. The entry of an address takes some 60 bytes.
const ROOM: usize = 512;
/// Shows the entry of the routing table that matches, in place of a route made from it
/// (`RTM_F_FIB_MATCH`): only the entry names the interface that has the address.
const AS_STORED: u32 = 0x2000;

/// The addresses of this node's interfaces, as the kernel knows them at the time of each question.
/// The first question opens a socket for all of them.
#[derive(Default)]
pub struct OwnAddresses {
    kernel: RefCell<Option<Kernel>>,
}

impl OwnAddresses {
    /// Returns the name of the interface of this node that has the address, or `None` if it is not
    /// an address of this node. May be repeated.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn interface_of(&self, address: IpAddr) -> io::Result<Option<String>> {
        let (family, bytes) = match address {
            IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
        };
        let family = u8::try_from(family).unwrap_or_default();
        let length = u8::try_from(bytes.len() * 8).unwrap_or(u8::MAX);
        let mut fixed = vec![family, length, 0, 0, 0, 0, 0, 0];
        fixed.extend(AS_STORED.to_ne_bytes());
        let mut kernel = self.kernel.borrow_mut();
        let kernel = match &mut *kernel {
            Some(kernel) => kernel,
            none => none.insert(Kernel::open()?),
        };
        let found = match kernel.ask(
            libc::RTM_GETROUTE,
            libc::RTM_NEWROUTE,
            &fixed,
            &[(libc::RTA_DST, &bytes)],
            ROOM,
        )? {
            Answer::Found(found) => found,
            // No route leads there.
            Answer::Error(_) => return Ok(None),
        };
        // An interface has one address. A longer entry of the type local is a prefix that somebody
        // configured this node to answer for. It may be the range of the pods.
        let is_own = found.get(7) == Some(&libc::RTN_LOCAL) && found.get(1) == Some(&length);
        if !is_own {
            return Ok(None);
        }
        let interface = netlink::attribute(&found, ROUTE, libc::RTA_OIF)
            .and_then(|value| netlink::u32_at(value, 0));
        let name = interface.map_or(Ok(None), link::name_of)?;
        Ok(Some(name.unwrap_or_else(|| "an interface".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every network namespace has an interface lo, if only without an address.
    #[test]
    fn the_loopback_address_is_the_nodes_own_and_a_foreign_one_is_not() {
        let own = OwnAddresses::default();
        let asked = |text: &str| own.interface_of(text.parse().unwrap()).unwrap();
        assert_eq!(asked("127.0.0.1").as_deref(), Some("lo"));
        assert_eq!(asked("192.0.2.77"), None);
        assert_eq!(asked("2001:db8::77"), None);
        // Of 127.0.0.0/8, only one is an address of an interface.
        assert_eq!(asked("127.7.7.7"), None);
    }
}
