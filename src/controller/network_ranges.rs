//! The ranges of networks: NetworkAttachmentDefinitions with a configuration for hereabouts.
//!
//! They are read with the code of the plugin, but without the flat file of a node: no setting of a
//! node is known here. A configuration with a mistake gives nothing, and `config check` tells why.

use crate::addr::{Blocks, Hull, Range};
use crate::config::{CniArgs, Content, IpamPlugin, Merged, Network, Settings, StoreKind, networks};
use crate::ipam::{ConfiguredRange, Scope};
use crate::json::Json;
use serde_json::json;
use std::rc::Rc;

/// The group of NetworkAttachmentDefinitions.
pub const GROUP: &str = "k8s.cni.cncf.io";
/// Their version.
pub const VERSION: &str = "v1";
/// Their kind.
pub const KIND: &str = "NetworkAttachmentDefinition";

/// The most ranges of one network that are kept. Of a network with more of them, what is left out
/// between its ranges is not known. Its author may be anybody with rights in a namespace.
const MOST_RANGES: usize = 1024;
/// The most networks of one object. Usually there is one.
const MOST_NETWORKS: usize = 16;

/// The ranges of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRanges {
    /// The scope of its addresses.
    pub scope: Scope,
    /// Whether its configuration says that its addresses are not in the Kubernetes API.
    pub is_in_files: bool,
    /// What it gives.
    pub given: Blocks,
    /// Its name, which pods and IPAMClaims know.
    pub name: Rc<str>,
    /// The same by sets, if it has several. Empty if they are many.
    sets: Vec<Blocks>,
    /// The pools that it names. It then gives nothing itself.
    pub pools: Vec<String>,
}

impl NetworkRanges {
    /// Returns what it gives, by sets: a pod gets one address of each.
    #[must_use]
    pub fn sets(&self) -> &[Blocks] {
        if self.sets.is_empty() { std::slice::from_ref(&self.given) } else { &self.sets }
    }
}

/// Returns the networks in the configuration of a NetworkAttachmentDefinition of this name, which is
/// also that of a network without a name (Multus). One that is not for hereabouts is none.
#[must_use]
pub fn of(configuration: &str, name: &str) -> Vec<NetworkRanges> {
    let object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND, "spec": {"config": configuration},
    });
    let mut found = Vec::new();
    let read = networks(object.to_string().as_bytes(), "", &mut |one| {
        if let Content::Plugin { configuration, .. } = one.content
            && found.len() < MOST_NETWORKS
        {
            found.extend(of_plugin(&configuration, name));
        }
    });
    if read.is_ok() { found } else { Vec::new() }
}

fn of_plugin(configuration: &Json, name: &str) -> Option<NetworkRanges> {
    if IpamPlugin::of(configuration) != IpamPlugin::Ours {
        return None;
    }
    let merged = Merged::new(configuration, None).ok()?;
    let network = Network::parse(&merged, &CniArgs::default()).ok()?;
    let given = given(network.sets.iter().flat_map(|set| &set.ranges));
    let mut sets: Vec<Blocks> =
        network.sets.iter().map(|set| self::given(set.ranges.iter())).collect();
    if sets.len() == 1 || sets.iter().flat_map(Blocks::ranges).nth(MOST_RANGES).is_some() {
        sets = Vec::new();
    }
    let name = configuration.find("name").and_then(Json::as_str).unwrap_or(name);
    let settings = Settings::parse(&merged, false).ok();
    let store = settings.map(|settings| settings.store);
    let is_in_files = store.is_some_and(|store| store.named && store.kind == StoreKind::File);
    let gives = !given.is_empty() || !network.pools.is_empty();
    gives.then(|| NetworkRanges {
        scope: network.scope,
        is_in_files,
        given,
        name: name.into(),
        sets,
        pools: network.pools,
    })
}

/// Returns what ranges give, to any pod or to certain ones.
fn given<'r>(ranges: impl Iterator<Item = &'r ConfiguredRange> + Clone) -> Blocks {
    let of = |range: &ConfiguredRange| {
        let sets = [range.candidates(), range.reserved_candidates()];
        sets.iter().flat_map(|set| set.ranges()).collect::<Vec<Range>>()
    };
    let given: Blocks = ranges.clone().flat_map(of).collect();
    if given.ranges().nth(MOST_RANGES).is_none() {
        return given;
    }
    let bounds: Blocks = ranges.map(|range| range.bounds).collect();
    if bounds.ranges().nth(MOST_RANGES).is_none() {
        return bounds;
    }
    bounds.ranges().collect::<Hull>().ranges().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn text(ranges: &[NetworkRanges]) -> String {
        let of = |network: &NetworkRanges| {
            let given: Vec<String> =
                network.given.ranges().map(|range| range.to_string()).collect();
            let store = if network.is_in_files { " in files" } else { "" };
            let sets = if 1 < network.sets.len() { " in sets" } else { "" };
            let pools = network.pools.iter().map(|pool| format!("pool {pool}"));
            let all: Vec<String> = given.into_iter().chain(pools).collect();
            format!("{}{store}{sets}: {}", network.scope, all.join(" "))
        };
        ranges.iter().map(of).collect::<Vec<_>>().join("; ")
    }

    fn of_ipam(ipam: &Value) -> String {
        text(&of(&json!({"cniVersion": "1.0.0", "type": "macvlan", "ipam": ipam}).to_string(), "n"))
    }

    #[test]
    fn the_ranges_are_those_that_the_plugin_gives() {
        for (ipam, expected) in [
            (json!({"type": "hereabouts", "range": "10.0.0.0/29"}), "(unnamed): 10.0.0.1-10.0.0.6"),
            (
                json!({"type": "whereabouts", "network_name": "red", "gateway": "10.0.0.1",
                    "range": "10.0.0.0/29", "exclude": ["10.0.0.4/32"]}),
                "red: 10.0.0.2-10.0.0.3 10.0.0.5-10.0.0.6",
            ),
            (
                json!({"type": "hereabouts", "datastore": "kubernetes",
                    "ipRanges": [{"range": "10.0.0.0/30"}, {"range": "fd00::/126"}]}),
                "(unnamed) in sets: 10.0.0.1-10.0.0.2 fd00::1-fd00::2",
            ),
            // Reserved addresses are given to certain pods.
            (
                json!({"type": "hereabouts", "range": "10.0.0.0/30",
                    "reservations": [{"pod": "default/a", "address": "10.0.0.1"}]}),
                "(unnamed): 10.0.0.1-10.0.0.2",
            ),
            (
                json!({"type": "hereabouts", "range": "10.0.0.0/30", "datastore": "file"}),
                "(unnamed) in files: 10.0.0.1-10.0.0.2",
            ),
            (
                json!({"type": "hereabouts", "range": "10.0.0.0/30", "data_dir": "/var/lib/cni/net"}),
                "(unnamed) in files: 10.0.0.1-10.0.0.2",
            ),
            // The pool has the addresses.
            (json!({"type": "hereabouts", "pool": "blue"}), "(unnamed): pool blue"),
            (json!({"type": "hereabouts", "addresses": [{"address": "10.0.0.1/24"}]}), ""),
            (json!({"type": "host-local", "subnet": "10.0.0.0/30"}), ""),
            (json!({"type": "static", "addresses": [{"address": "10.0.0.1/24"}]}), ""),
            // Mistakes.
            (json!({"type": "hereabouts", "range": "10.0.0.0/33"}), ""),
            (json!({"type": "hereabouts", "range": "10.0.0.0/29", "exclud": []}), ""),
            (json!("hereabouts"), ""),
        ] {
            assert_eq!(of_ipam(&ipam), expected, "{ipam}");
        }
        for nothing in ["", "{", "[]", "null", "x: y", r#"{"kind":"List","items":[]}"#] {
            assert_eq!(of(nothing, "n"), [], "{nothing}");
        }
    }

    #[test]
    fn each_plugin_of_a_list_is_a_network() {
        let plugin = |range: &str, scope: &str| json!({"type": "macvlan", "ipam": {"type": "hereabouts", "range": range, "network_name": scope}});
        let list = |plugins: Vec<Value>| {
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": plugins}).to_string()
        };
        let two =
            vec![plugin("10.0.0.0/30", "a"), json!({"type": "tuning"}), plugin("10.0.1.0/30", "b")];
        let two = of(&list(two), "nad");
        assert_eq!(text(&two), "a: 10.0.0.1-10.0.0.2; b: 10.0.1.1-10.0.1.2");
        assert!(two.iter().all(|network| &*network.name == "n"), "{two:?}");
        let unnamed = of(&plugin("10.0.0.0/30", "a").to_string(), "nad");
        assert_eq!(&*unnamed[0].name, "nad");
        assert_eq!(of(&list(vec![plugin("10.0.0.0/30", "a"); 1000]), "n").len(), MOST_NETWORKS);
    }

    /// About as much as one object of the API takes.
    #[test]
    fn a_large_network_keeps_few_ranges() {
        let ipam = |count: u32, exclude: &dyn Fn(u32) -> String| {
            let exclude: Vec<String> = (0..count).map(exclude).collect();
            json!({"type": "hereabouts", "range": "10.0.0.0/8", "exclude": exclude})
        };
        let every_second = |at: u32| format!("10.{}.{}.{}", at >> 15, at >> 7 & 255, at << 1 & 255);
        let few = of_ipam(&ipam(1000, &every_second));
        assert_eq!(few.matches('-').count(), 1000, "{few}");
        let many = ipam(49_000, &every_second);
        assert!(500_000 < many.to_string().len());
        assert_eq!(of_ipam(&many), "(unnamed): 10.0.0.1-10.255.255.254");
        let ranges: Vec<Value> = (0..12_000)
            .map(|at| json!({"range": format!("10.{}.{}.0/29", at / 256, at % 256)}))
            .collect();
        let many = json!({"type": "hereabouts", "ipRanges": ranges});
        assert_eq!(of_ipam(&many), "(unnamed): 10.0.0.1-10.46.223.6");
        // More values than the plugin reads.
        assert_eq!(of_ipam(&ipam(60_000, &every_second)), "");
    }
}
