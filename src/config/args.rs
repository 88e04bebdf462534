//! Parses `CNI_ARGS`: `KEY=value` pairs separated by `;`, as libcni, Multus and containerd send
//! them.
//!
//! The pairs come in any order. Sometimes every key comes twice, and the last value counts. A value
//! that is not used may contain bytes that are not valid text.

use super::error::{ConfigError, Problem};
use crate::addr::{Family, Subnet, parse_address, parse_prefixed};
use crate::ipam::{IfName, PodRef, Requested};
use crate::json::excerpt;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

const PLACE: &str = "CNI_ARGS";
/// The maximum length of a value, in bytes. Kubernetes names are not longer than 253.
const LONGEST: usize = 253;

/// The values of `CNI_ARGS` that the plugin uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniArgs {
    /// The pod. Present only if a pod name was given.
    pub pod: Option<PodRef>,
    /// The requested addresses (`IP=`).
    pub requested: Vec<Requested>,
    /// The interface in the pod (`CNI_IFNAME`), if the caller added it.
    pub interface: Option<IfName>,
}

impl CniArgs {
    /// Adds the interface in the pod, which is a variable of its own.
    #[must_use]
    pub fn with_interface(self, interface: &IfName) -> Self {
        Self { interface: Some(interface.clone()), ..self }
    }

    /// Parses the bytes of the variable.
    ///
    /// # Errors
    /// [`Problem::Args`] for a malformed pair, for an unknown key without `IgnoreUnknown`, or for
    /// an invalid pod name. [`Problem::Meaning`] for an `IP=` or `GATEWAY=` that is not an address.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut found = Pairs::default();
        if !bytes.is_empty() {
            for pair in bytes.split(|b| *b == b';') {
                found.add(pair)?;
            }
        }
        found.check_unknown()?;
        let name = found.text("K8S_POD_NAME")?;
        let pod = match name {
            Some(name) => Some(PodRef {
                namespace: found.text("K8S_POD_NAMESPACE")?.unwrap_or_default(),
                name,
                uid: found.text("K8S_POD_UID")?,
            }),
            None => None,
        };
        Ok(Self { pod, requested: found.requested()?, interface: None })
    }

    /// Returns whether the bytes name a pod, even if other parts are malformed. DEL needs this to
    /// recognize a node that lost its flat file.
    #[must_use]
    pub fn name_a_pod(bytes: &[u8]) -> bool {
        bytes
            .split(|b| *b == b';')
            .any(|pair| pair.strip_prefix(b"K8S_POD_NAME=").is_some_and(|name| !name.is_empty()))
    }
}

#[derive(Default)]
struct Pairs<'a>(Vec<(&'a [u8], &'a [u8])>);

const KNOWN: &[&str] = &[
    "IgnoreUnknown",
    "IP",
    "GATEWAY",
    "K8S_POD_NAME",
    "K8S_POD_NAMESPACE",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_UID",
];

impl<'a> Pairs<'a> {
    fn add(&mut self, pair: &'a [u8]) -> Result<(), ConfigError> {
        let mut parts = pair.split(|b| *b == b'=');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(key), Some(value), None) if !key.is_empty() => {
                self.0.push((key, value));
                Ok(())
            }
            _ => Err(wrong(format!(
                "expected KEY=value pairs separated by ';', found {}",
                excerpt(&String::from_utf8_lossy(pair))
            ))),
        }
    }

    /// Returns the last value of a key, or `None` if the key is missing or its last value is empty.
    fn find(&self, key: &str) -> Option<&'a [u8]> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| *name == key.as_bytes())
            .map(|(_, value)| *value)
            .filter(|value| !value.is_empty())
    }

    fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        match std::str::from_utf8(value) {
            Ok(text) if text.len() <= LONGEST && !text.chars().any(char::is_control) => {
                Ok(Some(text.to_owned()))
            }
            _ => Err(wrong(format!(
                "{key}: expected a name of at most {LONGEST} bytes without control characters: {}",
                excerpt(&String::from_utf8_lossy(value))
            ))),
        }
    }

    fn check_unknown(&self) -> Result<(), ConfigError> {
        let ignore = match self.find("IgnoreUnknown") {
            None => false,
            Some(value) if value == b"1" || value.eq_ignore_ascii_case(b"true") => true,
            Some(value) if value == b"0" || value.eq_ignore_ascii_case(b"false") => false,
            Some(value) => {
                return Err(wrong(format!(
                    "IgnoreUnknown: expected true or false, found {}",
                    excerpt(&String::from_utf8_lossy(value))
                )));
            }
        };
        let unknown =
            self.0.iter().find(|(name, _)| !KNOWN.iter().any(|known| known.as_bytes() == *name));
        match unknown {
            Some((name, _)) if !ignore => Err(wrong(format!(
                "expected a known key, or IgnoreUnknown=true, found {}",
                excerpt(&String::from_utf8_lossy(name))
            ))),
            _ => Ok(()),
        }
    }

    fn requested(&self) -> Result<Vec<Requested>, ConfigError> {
        let mut gateways: Vec<IpAddr> = self.list("GATEWAY", parse_address)?;
        // An unspecified address means that there is no gateway.
        gateways.retain(|gateway| !gateway.is_unspecified());
        let mut requested: Vec<Requested> = self
            .list("IP", parse_requested)?
            .into_iter()
            .map(|(address, prefix)| Requested {
                address,
                prefix,
                gateway: None,
                origin: format!("{PLACE} IP"),
            })
            .collect();
        if !gateways.is_empty() {
            let places = Subnets::of(&requested);
            for gateway in gateways {
                let Some(at) = places.find(gateway) else {
                    return Err(ConfigError::meaning(
                        format!("{PLACE} GATEWAY"),
                        format!(
                            "expected a gateway inside the subnet of an address of IP=, found {gateway}"
                        ),
                    ));
                };
                requested[at].gateway = Some(gateway);
            }
        }
        Ok(requested)
    }

    fn list<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, crate::addr::AddrError>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(value) = self.find(key) else {
            return Ok(Vec::new());
        };
        let text = String::from_utf8_lossy(value);
        let item = |item: &str| match parse(item.trim_matches(' ')) {
            Ok(value) => Ok(value),
            Err(error) => Err(ConfigError::meaning(
                format!("{PLACE} {key}"),
                format!("{error}: {}", excerpt(item)),
            )),
        };
        text.split(',').map(item).collect()
    }
}

/// Finds the requested address that a gateway belongs to. Only a prefix decides that. If there is
/// only one address of the gateway's family, it needs no prefix.
#[derive(Default)]
struct Subnets {
    /// The first request of each subnet.
    first: HashMap<Subnet, usize>,
    /// The prefix lengths of the requests.
    lengths: BTreeSet<u8>,
    /// The only request of a family, or `None` if the family has several.
    alone: HashMap<Family, Option<usize>>,
}

impl Subnets {
    fn of(requested: &[Requested]) -> Self {
        let mut places = Self::default();
        for (at, request) in requested.iter().enumerate() {
            places
                .alone
                .entry(Family::of(request.address))
                .and_modify(|alone| *alone = None)
                .or_insert(Some(at));
            if let Some(subnet) =
                request.prefix.and_then(|prefix| Subnet::new(request.address, prefix).ok())
            {
                places.first.entry(subnet).or_insert(at);
                places.lengths.insert(subnet.length());
            }
        }
        // A request with a prefix is found by its subnet only.
        places.alone.retain(|_, alone| {
            alone
                .is_some_and(|at| requested.get(at).is_some_and(|request| request.prefix.is_none()))
        });
        places
    }

    fn find(&self, gateway: IpAddr) -> Option<usize> {
        let subnets = self.lengths.iter().filter_map(|length| Subnet::new(gateway, *length).ok());
        let by_subnet = subnets.filter_map(|subnet| self.first.get(&subnet)).min().copied();
        by_subnet.or_else(|| self.alone.get(&Family::of(gateway)).copied().flatten())
    }
}

/// Parses an address with or without a prefix length.
pub(crate) fn parse_requested(text: &str) -> Result<(IpAddr, Option<u8>), crate::addr::AddrError> {
    if text.contains('/') {
        parse_prefixed(text).map(|(address, prefix)| (address, Some(prefix)))
    } else {
        parse_address(text).map(|address| (address, None))
    }
}

fn wrong(reason: String) -> ConfigError {
    ConfigError { problem: Problem::Args, place: PLACE.to_owned(), reason, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CniArgs, ConfigError> {
        CniArgs::parse(text.as_bytes())
    }

    #[test]
    fn multus_sends_every_key_twice_and_an_empty_value() {
        let once = "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=;K8S_POD_UID=u1";
        let args = parse(&format!("{once};{once}")).unwrap();
        let pod = args.pod.unwrap();
        assert_eq!(pod.to_string(), "default/web");
        assert_eq!(pod.uid.as_deref(), Some("u1"));
    }

    #[test]
    fn malformed_pairs_are_args_errors() {
        for text in [
            "FOO",
            "A=b=c",
            "IP=1.2.3.4;",
            ";;",
            "=x",
            "FOO=BAR",
            "IgnoreUnknown=maybe",
            "ip=10.0.0.1",
        ] {
            assert_eq!(parse(text).unwrap_err().problem, Problem::Args, "{text}");
        }
        assert!(parse("FOO=BAR;IgnoreUnknown=TRUE").is_ok());
        assert!(parse("IgnoreUnknown=1;FOO=BAR").is_ok());
    }

    #[test]
    fn bytes_that_are_no_text_are_fine_in_a_value_nobody_reads() {
        assert!(CniArgs::parse(b"IgnoreUnknown=1;FOO=\xff\xfe").is_ok());
        assert!(CniArgs::parse(b"K8S_POD_NAME=\xff").is_err());
    }

    #[test]
    fn several_addresses_may_be_asked_for() {
        let args = parse("IP=10.1.2.77/24,2001:db8::7;GATEWAY=10.1.2.1").unwrap();
        assert_eq!(args.requested.len(), 2);
        assert_eq!(args.requested[0].gateway, Some("10.1.2.1".parse().unwrap()));
        assert_eq!(args.requested[1].prefix, None);
        assert!(parse("IP=").unwrap().requested.is_empty());
        assert_eq!(parse("IP=::ffff:10.1.2.77/120").unwrap_err().problem, Problem::Meaning);
    }
}
