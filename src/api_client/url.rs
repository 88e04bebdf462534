//! The parts of the URL of a server or a proxy (RFC 3986). Parses only: it resolves no name and
//! opens no connection.

use std::fmt;
use std::net::IpAddr;

/// The default port of https.
pub(crate) const HTTPS: u16 = 443;

/// The host in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address. In a URL, an IPv6 address is written in brackets.
    Address(IpAddr),
    /// A DNS name in lower case.
    Name(String),
}

impl Host {
    /// Parses a host, with an IPv6 address written without brackets. Returns `None` for a text that
    /// cannot be a host name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let is_label = |label: &str| {
            let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            plain && (1..=63).contains(&label.len())
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        // If the last label consists of digits only, the name is a mistyped address (RFC 3696,
        // section 2).
        let numeric =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        (name.len() <= 253 && !numeric && name.split('.').all(is_label))
            .then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The parts of a URL. `Display` and `Debug` leave out the credentials, which are secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// The scheme in lower case, or empty if the text has none.
    pub(crate) scheme: String,
    /// The credentials `user:password`, as written.
    pub(crate) credentials: Option<String>,
    /// The host.
    pub(crate) host: Host,
    /// The port, if the text has one.
    pub(crate) port: Option<u16>,
    /// The path without a slash at its end. A URL with a query or a fragment is refused.
    pub(crate) path: String,
}

impl Url {
    /// Parses `[scheme://][user:password@]host[:port][/path]`.
    ///
    /// # Errors
    /// Returns what was expected. It does not contain the text, which may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("expected a URL of ASCII characters without spaces, found others");
        }
        if text.contains(['?', '#']) {
            return Err("expected a URL without ? and #, found one of them");
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials.to_owned()), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place).ok_or(
            "expected HOST or HOST:PORT, with an IPv6 address in brackets, found something else",
        )?;
        let host = Host::parse(host)
            .ok_or("expected an address or a DNS name as host, found something else")?;
        let port = match port {
            None | Some("") => None,
            Some(digits) => match digits.parse() {
                Ok(port) if 0 < port && digits.bytes().all(|b| b.is_ascii_digit()) => Some(port),
                _ => return Err("expected a port from 1 to 65535, found another one"),
            },
        };
        let path = path.trim_end_matches('/').to_owned();
        Ok(Self { scheme: scheme.to_ascii_lowercase(), credentials, host, port, path })
    }

    /// Returns the host and the port in the form of the HTTP header `Host:` and of CONNECT.
    pub(crate) fn authority(&self, default_port: u16) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(default_port))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Splits a text into host and port. An IPv4 address in brackets is accepted too: Whereabouts'
/// installer writes it, and client-go accepts it.
fn split_port(place: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<IpAddr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match place.split_once(':') {
        Some((host, port)) => (!port.contains(':')).then_some((host, Some(port))),
        None => Some((place, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, Option<u16>, String), &'static str> {
        Url::parse(text).map(|url| (url.host.to_string(), url.port, url.path))
    }

    #[test]
    fn hosts_are_names_and_addresses_of_both_families() {
        let ok = |host: &str, port, path: &str| Ok((host.to_owned(), port, path.to_owned()));
        assert_eq!(parse("https://10.0.0.1:6443"), ok("10.0.0.1", Some(6443), ""));
        assert_eq!(parse("https://[fd00::1]:6443/"), ok("[fd00::1]", Some(6443), ""));
        assert_eq!(parse("https://[fd00::1]"), ok("[fd00::1]", None, ""));
        assert_eq!(
            parse("https://API.example.com/k8s/clusters/c-1/"),
            ok("api.example.com", None, "/k8s/clusters/c-1")
        );
        // Whereabouts' installer writes this for an IPv4 cluster.
        assert_eq!(parse("https://[10.96.0.1]:443"), ok("10.96.0.1", Some(443), ""));
        assert_eq!(parse("proxy:3128"), ok("proxy", Some(3128), ""));
        assert_eq!(parse("http://me:a@b@proxy.:3128"), ok("proxy.", Some(3128), ""));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "",
            "https://",
            "https://fd00::1:6443",
            "https://[fd00::1",
            "https://[fd00::1]x",
            "https://[name]:1",
            "https://a:0",
            "https://a:65536",
            "https://a:+1",
            "https://a:1x",
            "https://a b",
            "https://a?x=1",
            "https://a..b",
            "https://10.0.0.256",
            "https://[fe80::1%eth0]:1",
            "https://a\r\nHost: b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = Url::parse("http://me:secret@proxy:3128").unwrap();
        assert_eq!(url.credentials.as_deref(), Some("me:secret"));
        assert_eq!(url.to_string(), "http://proxy:3128");
        assert_eq!(url.authority(80), "proxy:3128");
    }
}
