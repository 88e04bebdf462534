//! Host name to addresses without the C library: a static executable that
//! called getaddrinfo would load the host's NSS modules into itself.
//!
//! Addresses stand for themselves, names are looked up in /etc/hosts.

use super::connection::Trouble;
use super::endpoint::Host;
use crate::store::retry::Deadline;
use crate::store::small_file::read_small;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

const HOSTS: &str = "/etc/hosts";

/// The addresses of a host, in the order to be tried; never none.
///
/// # Errors
/// Nobody knows the name.
pub(super) fn addresses(host: &Host, _deadline: &Deadline) -> Result<Vec<IpAddr>, Trouble> {
    let name = match host {
        Host::Address(address) => return Ok(vec![*address]),
        Host::Name(name) => name.strip_suffix('.').unwrap_or(name),
    };
    let hosts = read_small(Path::new(HOSTS)).unwrap_or_default();
    let found = in_hosts(&String::from_utf8_lossy(&hosts), name);
    if !found.is_empty() {
        return Ok(found);
    }
    if name == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    Err(Trouble::passing(format!("no address is known for the name: {name}")))
}

/// The addresses that hosts(5) has for a name in lower case.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else {
            continue;
        };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}
