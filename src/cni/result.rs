//! The result of ADD in the shape of each version, and the parser for `prevResult` in any of these
//! shapes.
//!
//! 0.1.0 and 0.2.0 have one address per family, under `ip4` and `ip6`. 0.3.0 to 0.4.0 have a list
//! with a `version` in each entry. 1.0.0 and later have the list without it.

use super::{CniError, Code, Version};
use crate::addr::{Family, parse_prefixed};
use crate::json::Json;
use serde::Serialize;
use std::net::IpAddr;

/// The result of an ADD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Success {
    /// The addresses in order. The first one is the main address.
    pub ips: Vec<Ip>,
    /// The routes.
    pub routes: Vec<Route>,
    /// The DNS settings.
    pub dns: Dns,
}

/// An address of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// The address.
    pub address: IpAddr,
    /// The prefix length.
    pub prefix: u8,
    /// The gateway, if there is one.
    pub gateway: Option<IpAddr>,
}

/// A route of the result. 0.2.0 and older have `dst` and `gw` only. Later versions contain all
/// fields, as in the reference code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The destination in CIDR notation.
    pub dst: String,
    /// The next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The MTU. 0 is left out.
    #[serde(skip_serializing_if = "says_nothing")]
    pub mtu: Option<u32>,
    /// The TCP segment size. 0 is left out.
    #[serde(skip_serializing_if = "says_nothing")]
    pub advmss: Option<u32>,
    /// The priority. 0 is left out.
    #[serde(skip_serializing_if = "says_nothing")]
    pub priority: Option<u32>,
    /// The table. 0 is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope. 0 is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

fn says_nothing(value: &Option<u32>) -> bool {
    value.unwrap_or(0) == 0
}

/// The DNS settings of the result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// The addresses of name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The search list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// The resolver options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    cni_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<OldIp<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<OldIp<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<NewIp>,
    #[serde(skip_serializing_if = "<[Route]>::is_empty")]
    routes: &'a [Route],
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<&'a Dns>,
}

#[derive(Serialize)]
struct OldIp<'a> {
    ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<OldRoute<'a>>,
}

#[derive(Serialize)]
struct OldRoute<'a> {
    dst: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
}

#[derive(Serialize)]
struct NewIp {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

impl Success {
    /// Returns the document for stdout, with a newline.
    ///
    /// # Errors
    /// [`Code::Internal`] if serialization fails.
    pub fn encode(&self, version: Version) -> Result<Vec<u8>, CniError> {
        let old = version < Version::V030;
        let document = Document {
            cni_version: version.as_str(),
            ip4: self.old_ip(Family::V4).filter(|_| old),
            ip6: self.old_ip(Family::V6).filter(|_| old),
            ips: if old {
                Vec::new()
            } else {
                self.ips.iter().map(|ip| ip.encode(version)).collect()
            },
            routes: if old { &[] } else { &self.routes },
            // Before 1.0.0, the object is always present.
            dns: (version < Version::V100 || self.dns != Dns::default()).then_some(&self.dns),
        };
        let mut bytes = serde_json::to_vec(&document)
            .map_err(|error| CniError::new(Code::Internal, format!("result: {error}")))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn old_ip(&self, family: Family) -> Option<OldIp<'_>> {
        let ip = self.ips.iter().find(|ip| Family::of(ip.address) == family)?;
        let of_family = |route: &&Route| route.dst.contains(':') == (family == Family::V6);
        let routes = self
            .routes
            .iter()
            .filter(of_family)
            .map(|route| OldRoute { dst: &route.dst, gw: route.gw });
        Some(OldIp {
            ip: format!("{}/{}", ip.address, ip.prefix),
            gateway: ip.gateway,
            routes: routes.collect(),
        })
    }
}

impl Ip {
    fn encode(&self, version: Version) -> NewIp {
        let family = match Family::of(self.address) {
            Family::V4 => "4",
            Family::V6 => "6",
        };
        NewIp {
            version: (version < Version::V100).then_some(family),
            address: format!("{}/{}", self.address, self.prefix),
            gateway: self.gateway,
        }
    }
}

/// Returns the addresses of a `prevResult` in the shape of any version. Only CHECK reads it, and
/// only for the addresses: Multus rewrites its routes.
pub(super) fn previous(configuration: &Json, version: Version) -> Result<Vec<Ip>, CniError> {
    let wrong = |place: &str, value: &Json, expected: &str| {
        CniError::new(Code::Config, format!("prevResult{place}: {expected}: {}", value.excerpt()))
    };
    let Some(previous) = configuration.find("prevResult") else {
        return Err(CniError::new(
            Code::Config,
            "prevResult: expected the result of ADD, found none",
        ));
    };
    let Json::Object(_) = previous else {
        return Err(wrong("", previous, "expected an object"));
    };
    let shape = match previous.find("cniVersion") {
        None => version,
        Some(value) => match value.as_str() {
            Some("") => version,
            Some(text) => Version::find(text).ok_or_else(|| {
                wrong(
                    ".cniVersion",
                    value,
                    "expected a version of the CNI spec that the plugin supports",
                )
            })?,
            None => return Err(wrong(".cniVersion", value, "expected a string")),
        },
    };
    let mut found = Vec::new();
    if shape < Version::V030 {
        for key in ["ip4", "ip6"] {
            if let Some(entry) = previous.find(key) {
                found.push((format!(".{key}"), entry, "ip"));
            }
        }
    } else if let Some(list) = previous.find("ips") {
        let Json::Array(items) = list else {
            return Err(wrong(".ips", list, "expected a list"));
        };
        found.extend(
            items.iter().enumerate().map(|(at, item)| (format!(".ips[{at}]"), item, "address")),
        );
    }
    let mut ips = Vec::new();
    for (place, entry, key) in found {
        let text = entry.find(key).and_then(Json::as_str).ok_or_else(|| {
            wrong(&format!("{place}.{key}"), entry, "expected an address with its prefix length")
        })?;
        let parsed = parse_prefixed(text);
        let (address, prefix) = parsed.map_err(|error| {
            wrong(&format!("{place}.{key}"), &Json::String(text.to_owned()), error.0)
        })?;
        let gateway =
            entry.find("gateway").and_then(Json::as_str).and_then(|text| text.parse().ok());
        ips.push(Ip { address, prefix, gateway });
    }
    Ok(ips)
}
