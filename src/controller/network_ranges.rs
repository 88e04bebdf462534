//! The ranges of networks: NetworkAttachmentDefinitions with a configuration for hereabouts.
//!
//! They are read with the code of the plugin, but without the flat file of a node: no setting of a
//! node is known here. A configuration with a mistake gives nothing, and `config check` tells why.

use crate::addr::{Blocks, Hull, Range};
use crate::config::{CniArgs, Content, IpamPlugin, Merged, Network, Settings, StoreKind, networks};
use crate::ipam::{ConfiguredRange, Scope};
use crate::json::Json;
use serde_json::json;

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
}

/// Returns the ranges of the networks in the configuration of a NetworkAttachmentDefinition. A
/// network that names pools, or that is not for hereabouts, has none.
#[must_use]
pub fn of(configuration: &str) -> Vec<NetworkRanges> {
    let object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND, "spec": {"config": configuration},
    });
    let mut found = Vec::new();
    let read = networks(object.to_string().as_bytes(), "", &mut |one| {
        if let Content::Plugin { configuration, .. } = one.content
            && found.len() < MOST_NETWORKS
        {
            found.extend(of_plugin(&configuration));
        }
    });
    if read.is_ok() { found } else { Vec::new() }
}

fn of_plugin(configuration: &Json) -> Option<NetworkRanges> {
    if IpamPlugin::of(configuration) != IpamPlugin::Ours {
        return None;
    }
    let merged = Merged::new(configuration, None).ok()?;
    let network = Network::parse(&merged, &CniArgs::default()).ok()?;
    let given = given(&network);
    let settings = Settings::parse(&merged, false).ok();
    let store = settings.map(|settings| settings.store);
    let is_in_files = store.is_some_and(|store| store.named && store.kind == StoreKind::File);
    (!given.is_empty()).then_some(NetworkRanges { scope: network.scope, is_in_files, given })
}

/// Returns what a network gives, to any pod or to certain ones.
fn given(network: &Network) -> Blocks {
    let of = |range: &ConfiguredRange| {
        let sets = [range.candidates(), range.reserved_candidates()];
        sets.iter().flat_map(|set| set.ranges()).collect::<Vec<Range>>()
    };
    let given: Blocks = network.ranges().flat_map(of).collect();
    if given.ranges().nth(MOST_RANGES).is_none() {
        return given;
    }
    let bounds: Blocks = network.ranges().map(|range| range.bounds).collect();
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
            format!("{}{store}: {}", network.scope, given.join(" "))
        };
        ranges.iter().map(of).collect::<Vec<_>>().join("; ")
    }

    fn of_ipam(ipam: &Value) -> String {
        text(&of(&json!({"cniVersion": "1.0.0", "type": "macvlan", "ipam": ipam}).to_string()))
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
                "(unnamed): 10.0.0.1-10.0.0.2 fd00::1-fd00::2",
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
            (json!({"type": "hereabouts", "pool": "blue"}), ""),
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
            assert_eq!(of(nothing), [], "{nothing}");
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
        assert_eq!(text(&of(&list(two))), "a: 10.0.0.1-10.0.0.2; b: 10.0.1.1-10.0.1.2");
        assert_eq!(of(&list(vec![plugin("10.0.0.0/30", "a"); 1000])).len(), MOST_NETWORKS);
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
