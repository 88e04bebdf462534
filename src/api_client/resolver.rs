//! Resolves a host name to addresses without the C library. A static executable that called
//! getaddrinfo would load the host's NSS modules into itself.
//!
//! An address resolves to itself. A name is looked up in /etc/hosts first, then in DNS. Other
//! sources that nsswitch.conf may name are not used.

use super::dns_query::{Found, Resolver};
use super::trouble::Trouble;
use super::url::Host;
use crate::retry::Deadline;
use crate::small_file::read_small;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Returns the addresses of a host, in the order in which to try them. There is at least one.
///
/// # Errors
/// Fails if neither /etc/hosts nor DNS has the name.
pub(crate) fn addresses(host: &Host, deadline: &Deadline) -> Result<Vec<IpAddr>, Trouble> {
    let name = match host {
        Host::Address(address) => return Ok(vec![*address]),
        Host::Name(name) => name,
    };
    let plain = name.strip_suffix('.').unwrap_or(name);
    let found = in_hosts(&text_of(HOSTS), plain);
    if !found.is_empty() {
        return Ok(found);
    }
    // These names are never looked up in DNS (RFC 6761, section 6.3).
    if plain == "localhost" || plain.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    match Resolver::parse(&text_of(RESOLV_CONF)).find(name, deadline) {
        Found::Addresses(found) => Ok(found),
        Found::Nothing => Err(Trouble::lasting(format!(
            "neither {HOSTS} nor the DNS servers of {RESOLV_CONF} know the name: {name}"
        ))),
        Found::Failed(reason) => Err(Trouble::passing(format!(
            "{HOSTS} does not have the name {name}, and DNS ({RESOLV_CONF}) gives no answer: {reason}"
        ))),
    }
}

/// Reads a file as text. A file that cannot be read counts as empty.
fn text_of(path: &str) -> String {
    read_small(Path::new(path))
        .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the addresses of a name in the text of a hosts(5) file. Case does not matter.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_has_names_and_aliases_in_any_case() {
        let text = "# comment\n127.0.0.1 localhost\nfd00::1\tApi.example api # 10.0.0.9 api\n10.0.0.1 api\nbad api\n10.0.0.1 api\n";
        assert_eq!(
            in_hosts(text, "api"),
            ["fd00::1".parse::<IpAddr>().unwrap(), "10.0.0.1".parse().unwrap()]
        );
        assert_eq!(in_hosts(text, "api.example").len(), 1);
        assert!(in_hosts(text, "pi").is_empty());
        assert!(in_hosts(text, "127.0.0.1").is_empty());
    }
}
