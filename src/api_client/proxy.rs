//! Decides whether the connection to the API server goes through a proxy.
//!
//! The proxy is `proxy-url` of the kubeconfig. Without it, the proxy is `HTTPS_PROXY`, unless
//! `NO_PROXY` names the server. Both variables are read as Go reads them. Only HTTP proxies are
//! supported.

use super::url::{Host, Url};
use crate::addr::Subnet;
use crate::environment::ProxyVariables;
use std::net::IpAddr;

/// Returns the proxy to use for a server, if any.
///
/// # Errors
/// Returns the setting that names a proxy, and why that proxy cannot be used.
pub(crate) fn choose(
    server: &Url,
    proxy_url: Option<&str>,
    variables: &ProxyVariables,
) -> Result<Option<Url>, (String, String)> {
    if let Some(text) = proxy_url {
        return parse(text).map(Some).map_err(|reason| ("proxy-url".to_owned(), reason));
    }
    let Some((name, text)) = &variables.https else {
        return Ok(None);
    };
    let exceptions =
        variables.exceptions.as_ref().map(|value| value.to_string_lossy()).unwrap_or_default();
    if is_direct(server, &exceptions) {
        return Ok(None);
    }
    parse(&text.to_string_lossy()).map(Some).map_err(|reason| ((*name).to_owned(), reason))
}

fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)?;
    match url.scheme.as_str() {
        "http" | "" => Ok(Url { scheme: "http".to_owned(), ..url }),
        other => Err(format!(
            "expected an http proxy, found {other}; https and SOCKS proxies are not supported"
        )),
    }
}

/// Returns whether a server is reached without a proxy. This is always true for this machine, and
/// for a server that an entry of the comma-separated list names. An entry is `*`, an address, a
/// CIDR, a domain with everything below it, or, with a leading dot, only what is below the domain.
/// All but a CIDR may have a port.
fn is_direct(server: &Url, exceptions: &str) -> bool {
    match &server.host {
        Host::Name(name) if name == "localhost" => return true,
        Host::Address(address) if address.is_loopback() => return true,
        Host::Name(_) | Host::Address(_) => {}
    }
    let port = server.port.unwrap_or(super::url::HTTPS);
    exceptions
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| entry == "*" || names(entry, &server.host, port))
}

fn names(entry: &str, host: &Host, port: u16) -> bool {
    if let (Ok(subnet), Host::Address(address)) = (Subnet::parse(entry), host) {
        return subnet.contains(*address);
    }
    let (entry, wanted) = without_port(entry);
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    match host {
        Host::Address(address) => entry.parse::<IpAddr>().is_ok_and(|entry| entry == *address),
        Host::Name(name) => {
            let entry = entry.to_ascii_lowercase();
            let name = name.strip_suffix('.').unwrap_or(name);
            let (domain, itself) = match entry.strip_prefix('*').unwrap_or(&entry).strip_prefix('.')
            {
                Some(domain) => (domain, false),
                None => (entry.as_str(), true),
            };
            let below = name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
            !domain.is_empty() && (below || (itself && name == domain))
        }
    }
}

fn without_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[')
        && let Some((host, port)) = rest.split_once(']')
    {
        return (host, port.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(server: &str, exceptions: &str) -> bool {
        is_direct(&Url::parse(server).unwrap(), exceptions)
    }

    #[test]
    fn exceptions_are_read_as_go_reads_them() {
        for (server, exceptions) in [
            ("https://localhost:6443", ""),
            ("https://127.0.0.1:6443", ""),
            ("https://[::1]:6443", ""),
            ("https://api.example.com", "*"),
            ("https://api.example.com", "x, example.com"),
            ("https://api.example.com", "api.example.com"),
            ("https://api.example.com", ".Example.com"),
            ("https://api.example.com", "*.example.com"),
            ("https://api.example.com:6443", "example.com:6443"),
            ("https://10.96.0.1", "10.0.0.0/8"),
            ("https://10.96.0.1", "10.96.0.1"),
            ("https://10.96.0.1", "10.96.0.1:443"),
            ("https://[fd00::1]:6443", "fd00::/8"),
            ("https://[fd00::1]:6443", "fd00::1"),
            ("https://[fd00::1]:6443", "[fd00::1]:6443"),
        ] {
            assert!(direct(server, exceptions), "{server} {exceptions}");
        }
        for (server, exceptions) in [
            ("https://api.example.com", ""),
            ("https://example.com", ".example.com"),
            ("https://example.com", "*.example.com"),
            ("https://badexample.com", "example.com"),
            ("https://api.example.com:6443", "example.com:443"),
            ("https://api.example.com", ".,*x"),
            ("https://10.96.0.1", "10.96.0.1:6443"),
            ("https://10.96.0.1", "192.168.0.0/16"),
            ("https://10.96.0.1", "0.1"),
        ] {
            assert!(!direct(server, exceptions), "{server} {exceptions}");
        }
    }

    #[test]
    fn the_kubeconfig_beats_the_environment_and_only_http_is_spoken() {
        let server = Url::parse("https://10.0.0.1").unwrap();
        let variables = ProxyVariables {
            https: Some(("https_proxy", "p.example:3128".into())),
            exceptions: None,
        };
        let chosen = |proxy_url: Option<&str>| {
            choose(&server, proxy_url, &variables).map(|url| url.map(|url| url.to_string()))
        };
        assert_eq!(chosen(None), Ok(Some("http://p.example:3128".to_owned())));
        assert_eq!(chosen(Some("http://q:1")), Ok(Some("http://q:1".to_owned())));
        for scheme in ["socks5", "https"] {
            let (place, reason) = chosen(Some(&format!("{scheme}://me:secret@q:1"))).unwrap_err();
            assert_eq!(place, "proxy-url");
            assert!(
                reason.contains(&format!("found {scheme};")) && !reason.contains("secret"),
                "{reason}"
            );
        }
        assert_eq!(choose(&server, None, &ProxyVariables::default()), Ok(None));
    }
}
