//! Number, MAC address and state of one interface of this node.

use super::netlink::{self, Answer, Kernel};
use nix::libc;
use std::ffi::CStr;
use std::fmt;
use std::io;

/// The size of `ifinfomsg`, the fixed part of an interface.
const INTERFACE: usize = 16;

/// The room for an answer. An interface takes some 2 KiB; what this module reads comes first.
const ROOM: usize = 16 * 1024;

/// The hardware address of an Ethernet interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An Ethernet interface that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of the interface.
    pub index: i32,
    /// The hardware address.
    pub mac: Mac,
}

/// Why an interface cannot be used to ask other hosts.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No interface has this name.
    #[error("no interface of this node has this name")]
    Missing,
    /// The interface is not of the kind Ethernet.
    #[error("the interface is not an Ethernet interface")]
    NotEthernet,
    /// The interface is down.
    #[error("the interface is down")]
    Down,
    /// The kernel cannot be asked.
    #[error("the kernel cannot be asked: {0}")]
    Io(#[from] io::Error),
}

impl Link {
    /// Finds an interface by its name.
    ///
    /// # Errors
    /// Returns the reason why the interface cannot be used.
    pub fn find(name: &str) -> Result<Self, LinkError> {
        const ETHERNET: u16 = 1;
        let mut with_end = name.as_bytes().to_vec();
        with_end.push(0);
        let Some(found) = ask(0, &[(libc::IFLA_IFNAME, &with_end)])? else {
            return Err(LinkError::Missing);
        };
        let mac = netlink::attribute(&found, INTERFACE, libc::IFLA_ADDRESS)
            .and_then(|value| <[u8; 6]>::try_from(value).ok());
        let (Some(ETHERNET), Some(mac)) = (netlink::u16_at(&found, 2), mac) else {
            return Err(LinkError::NotEthernet);
        };
        if netlink::u32_at(&found, 8).is_none_or(|flags| flags & 1 == 0) {
            return Err(LinkError::Down);
        }
        let index = netlink::u32_at(&found, 4).map_or(0, u32::cast_signed);
        Ok(Self { index, mac: Mac(mac) })
    }
}

/// Returns the name of an interface, or `None` if it no longer exists.
pub(super) fn name_of(index: u32) -> io::Result<Option<String>> {
    let found = ask(index, &[])?;
    let name = found
        .as_deref()
        .and_then(|found| netlink::attribute(found, INTERFACE, libc::IFLA_IFNAME))
        .and_then(|value| CStr::from_bytes_until_nul(value).ok());
    Ok(name.map(|name| name.to_string_lossy().into_owned()))
}

fn ask(index: u32, attributes: &[(u16, &[u8])]) -> io::Result<Option<Vec<u8>>> {
    let mut fixed = vec![0; INTERFACE];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    match Kernel::open()?.ask(libc::RTM_GETLINK, libc::RTM_NEWLINK, &fixed, attributes, ROOM)? {
        Answer::Found(found) => Ok(Some(found)),
        Answer::Error(libc::ENODEV) => Ok(None),
        Answer::Error(code) => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_named_by_its_number_and_refused_with_the_reason() {
        assert_eq!(name_of(1).unwrap().as_deref(), Some("lo"));
        assert_eq!(name_of(123_456).unwrap(), None);
        assert!(matches!(Link::find("lo"), Err(LinkError::NotEthernet)));
        assert!(matches!(Link::find("no-such-one"), Err(LinkError::Missing)));
        assert!(matches!(Link::find(&"x".repeat(100)), Err(LinkError::Io(_) | LinkError::Missing)));
    }
}
