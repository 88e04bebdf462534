//! The NetworkAttachmentDefinitions: how the network of an interface is called, and which addresses
//! Whereabouts could give there.

use crate::addr::{Family, Range};
use crate::config::{CniArgs, ConfigError, Content, IpamPlugin, Merged, Network, networks};
use crate::ipam::NetworkName;
use crate::json::Json;
use std::net::IpAddr;
use std::rc::Rc;

/// What a NetworkAttachmentDefinition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Definition {
    Known(Box<KnownNetwork>),
    /// Its addresses come from another plugin. Which one.
    Other(String),
    /// Its configuration is not there, or not readable. Why.
    Unknown(String),
}

/// A network with addresses of Whereabouts or hereabouts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct KnownNetwork {
    /// The name that the main plugin gets: that of the configuration, otherwise that of the object.
    pub(super) name: Rc<str>,
    /// Whether `ipam.type` is `whereabouts`.
    pub(super) is_of_whereabouts: bool,
    /// `network_name`, which may be empty.
    pub(super) network_name: Rc<str>,
    pub(super) has_slices: bool,
    /// Whether its addresses are unique only in its own ranges: `enable_overlapping_ranges` is false.
    pub(super) may_repeat: bool,
    pub(super) has_pools: bool,
    /// The ranges, in the order in which an ADD answers.
    pub(super) ranges: Vec<NetworkRange>,
    /// The static addresses, which Whereabouts does not note.
    pub(super) statics: Vec<IpAddr>,
    /// Why the ranges are not known.
    pub(super) mistake: Option<String>,
}

/// A range of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NetworkRange {
    /// The addresses that it can give.
    pub(super) bounds: Range,
    /// The prefix length of its subnet.
    pub(super) length: u8,
    pub(super) gateway: Option<IpAddr>,
}

impl Definition {
    /// Reads the object.
    pub(super) fn read(object: &str) -> Self {
        let mut read = None;
        let found = networks(object.as_bytes(), "", &mut |found| {
            let one = match found.content {
                Content::Plugin { configuration, .. } => of_plugin(&configuration),
                Content::Mistake(error) => Self::Unknown(error.to_string()),
                Content::Elsewhere(why) => Self::Unknown(why.to_owned()),
                Content::FlatFile(_) | Content::Pool(_) => return,
            };
            // A list may have several plugins. The one with our addresses counts.
            if !matches!((&read, &one), (Some(Self::Known(_)), _) | (Some(_), Self::Other(_))) {
                read = Some(one);
            }
        });
        match (found, read) {
            (Err(error), _) => Self::Unknown(error.to_string()),
            (Ok(_), None) => Self::Unknown("it has no configuration".to_owned()),
            (Ok(_), Some(read)) => read,
        }
    }

    /// Returns `network_name`, which may be empty.
    pub(super) fn network_name(&self) -> Option<&str> {
        match self {
            Self::Known(network) => Some(&network.network_name),
            Self::Other(_) | Self::Unknown(_) => None,
        }
    }
}

fn of_plugin(configuration: &Json) -> Definition {
    match IpamPlugin::of(configuration) {
        IpamPlugin::Ours => {}
        IpamPlugin::HostLocal => return Definition::Other("type host-local".to_owned()),
        IpamPlugin::Other(which) => return Definition::Other(which),
    }
    let name = configuration.find("name").and_then(Json::as_str).unwrap_or_default();
    if NetworkName::parse(name).is_err() {
        return Definition::Unknown(format!("its name is no network name: {name:?}"));
    }
    let of_ipam = |key: &str| configuration.find("ipam").and_then(|ipam| ipam.find(key));
    let text = |key: &str| of_ipam(key).and_then(Json::as_str).unwrap_or_default();
    let mut known = KnownNetwork {
        name: name.into(),
        is_of_whereabouts: text("type") == "whereabouts",
        network_name: text("network_name").into(),
        has_slices: of_ipam("node_slice_size").is_some_and(|size| size.as_str() != Some("")),
        may_repeat: matches!(of_ipam("enable_overlapping_ranges"), Some(Json::Bool(false))),
        has_pools: of_ipam("pool").or_else(|| of_ipam("pools")).is_some(),
        ..KnownNetwork::default()
    };
    let parsed = Merged::new(configuration, None).map_err(|mistake| mistake.to_string()).and_then(
        |merged| {
            Network::parse(&merged, &CniArgs::default())
                .map_err(|mistakes| ConfigError::from(mistakes).to_string())
        },
    );
    match parsed {
        Ok(network) => {
            let ranges = network.ranges();
            known.ranges = ranges
                .map(|range| NetworkRange {
                    bounds: range.bounds,
                    length: range.subnet.length(),
                    gateway: range.gateway,
                })
                .collect();
            known.statics = network.statics.iter().map(|fixed| fixed.address).collect();
        }
        Err(mistake) => known.mistake = Some(mistake),
    }
    Definition::Known(Box::new(known))
}

impl KnownNetwork {
    /// Returns the position of the range that can give an address.
    pub(super) fn position(&self, address: IpAddr) -> Option<usize> {
        self.ranges.iter().position(|range| range.bounds.contains(address))
    }

    /// Returns the prefix length of the range that can give an address.
    pub(super) fn length(&self, address: IpAddr) -> Option<u8> {
        Some(self.ranges.get(self.position(address)?)?.length)
    }

    /// Returns the gateway that an ADD answers with for an address: that of its range, otherwise that
    /// of any range of its family.
    pub(super) fn gateway(&self, address: IpAddr) -> Option<IpAddr> {
        let family = Family::of(address);
        match self.position(address).and_then(|position| self.ranges.get(position)) {
            Some(range) => range.gateway,
            None => self
                .ranges
                .iter()
                .filter_map(|range| range.gateway)
                .find(|gateway| Family::of(*gateway) == family),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: &str) -> Definition {
        let object = json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "n", "namespace": "default"}, "spec": {"config": config},
        });
        Definition::read(&object.to_string())
    }

    fn known(config: &str) -> KnownNetwork {
        match read(config) {
            Definition::Known(known) => *known,
            other => panic!("{config}: {other:?}"),
        }
    }

    #[test]
    fn the_name_is_that_of_the_configuration_or_that_of_the_object() {
        let ipam = r#""ipam":{"type":"whereabouts","range":"10.0.0.0/24"}"#;
        for (config, expected) in [
            (format!(r#"{{"cniVersion":"1.0.0","type":"macvlan",{ipam}}}"#), "n"),
            (format!(r#"{{"cniVersion":"1.0.0","name":"","type":"macvlan",{ipam}}}"#), "n"),
            (format!(r#"{{"cniVersion":"1.0.0","name":"own","type":"macvlan",{ipam}}}"#), "own"),
            (
                format!(
                    r#"{{"cniVersion":"1.0.0","name":"list","plugins":[{{"type":"macvlan","name":"x",{ipam}}},{{"type":"sbr"}}]}}"#
                ),
                "list",
            ),
            (format!(r#"{{"cniVersion":"1.0.0","plugins":[{{"type":"macvlan",{ipam}}}]}}"#), "n"),
        ] {
            assert_eq!(&*known(&config).name, expected, "{config}");
        }
    }

    #[test]
    fn a_network_has_ranges_and_gateways_of_each_family() {
        let of = |ipam: &str| {
            known(&format!(
                r#"{{"cniVersion":"1.0.0","type":"macvlan","ipam":{{"type":"whereabouts",{ipam}}}}}"#
            ))
        };
        let dual = of(
            r#""ipRanges":[{"range":"fd00::/64","range_start":"fd00::10"},{"range":"10.0.0.0/24"}],"gateway":"10.0.0.1","network_name":"blue","addresses":[{"address":"10.9.0.5/24"}]"#,
        );
        let gateway = |address: &str| {
            dual.gateway(address.parse().unwrap()).map(|gateway| gateway.to_string())
        };
        let position = |address: &str| dual.position(address.parse().unwrap());
        assert_eq!(&*dual.network_name, "blue");
        assert_eq!((position("10.0.0.9"), position("fd00::10")), (Some(1), Some(0)));
        assert_eq!((position("fd00::9"), position("10.0.1.9")), (None, None));
        assert_eq!(gateway("10.0.0.9").as_deref(), Some("10.0.0.1"));
        assert_eq!(gateway("10.0.1.9").as_deref(), Some("10.0.0.1"));
        assert_eq!(gateway("fd00::10"), None);
        assert_eq!(dual.statics, ["10.9.0.5".parse::<IpAddr>().unwrap()]);
        assert_eq!((dual.has_slices, dual.has_pools, dual.mistake), (false, false, None));
        assert!(of(r#""range":"10.0.0.0/16","node_slice_size":"/24""#).has_slices);
        assert!(!of(r#""range":"10.0.0.0/16","node_slice_size":"""#).has_slices);
        assert!(of(r#""pool":"p""#).has_pools);
        // Whereabouts accepts this, and gives addresses.
        let mistaken = of(r#""range":"10.0.0.0/24","range_end":"10.1.0.9""#);
        assert!(mistaken.mistake.is_some() && mistaken.ranges.is_empty());
    }

    #[test]
    fn other_networks_say_what_they_are() {
        for (config, expected) in [
            (
                r#"{"type":"macvlan","ipam":{"type":"host-local"}}"#,
                Definition::Other("type host-local".to_owned()),
            ),
            (r#"{"type":"macvlan","ipam":{}}"#, Definition::Other("empty ipam".to_owned())),
            (
                "",
                Definition::Unknown(
                    "no spec.config; Multus uses a file of that name on the node".to_owned(),
                ),
            ),
            (
                r#"{"name":"a b","type":"macvlan","ipam":{"type":"whereabouts"}}"#,
                Definition::Unknown("its name is no network name: \"a b\"".to_owned()),
            ),
        ] {
            assert_eq!(read(config), expected, "{config}");
        }
        assert!(matches!(read("{"), Definition::Unknown(_)));
        assert!(matches!(Definition::read("{}"), Definition::Unknown(_)));
    }
}
