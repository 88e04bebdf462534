//! What the main plugin does with the answer: one row for each behavior that users do not expect.
//! docs/main-plugins.md has the same table, and tests/it/main_plugins.rs plays each row with the
//! real plugins.
//!
//! `routes` has the conditions on routes.

mod routes;

use super::case::Case;
use crate::addr::Family;
use crate::config::{Dns, declares_ips};
use crate::json::Json;

/// One behavior.
pub(super) struct Behavior {
    /// A short name, the same as in docs/main-plugins.md.
    #[cfg_attr(not(test), allow(dead_code, reason = "a test compares it with the document"))]
    id: &'static str,
    /// The main plugins that do this. Empty: every one.
    plugins: &'static [&'static str],
    /// Returns the part of the network that it concerns, or `None`.
    concerns: fn(&Case<'_>) -> Option<String>,
    /// What happens. `{}` stands for the part of the network.
    words: &'static str,
    /// Where it was seen.
    seen: &'static str,
    /// Whether it is about the main plugin rather than the values of this network. Such notes are
    /// printed once for all networks.
    pub(super) is_general: bool,
}

impl Behavior {
    /// Returns where the behavior of one plugin was seen.
    fn seen_of(&self, plugin: Option<&str>) -> String {
        let seen = self.seen.split(';').next().unwrap_or_default();
        match plugin {
            Some("ipvlan" | "vlan" | "dummy") if seen != self.seen => {
                format!("{seen}, by its source")
            }
            _ => seen.to_owned(),
        }
    }
}

/// A behavior of a main plugin, in words about one network.
pub(super) struct Remark {
    pub(super) words: String,
    pub(super) is_general: bool,
}

const PLUGINS: &str = "plugins v1.9.1";
const MULTUS: &str = "Multus 4.3.0";
/// ipvlan, vlan and dummy are not in every kernel.
const SOURCE: &str = "plugins v1.9.1; ipvlan, vlan and dummy by their source";

const fn row(
    id: &'static str,
    plugins: &'static [&'static str],
    concerns: fn(&Case<'_>) -> Option<String>,
    words: &'static str,
    seen: &'static str,
) -> Behavior {
    Behavior { id, plugins, concerns, words, seen, is_general: false }
}

const fn general(
    id: &'static str,
    plugins: &'static [&'static str],
    concerns: fn(&Case<'_>) -> Option<String>,
    words: &'static str,
    seen: &'static str,
) -> Behavior {
    Behavior { id, plugins, concerns, words, seen, is_general: true }
}

/// All behaviors.
pub(super) const BEHAVIORS: &[Behavior] = &[
    row(
        "dns-dropped",
        &["macvlan", "ipvlan", "vlan", "host-device", "tap"],
        dns,
        "drops {} of ipam and answers with its own dns: put dns beside ipam",
        SOURCE,
    ),
    row(
        "route-mtu",
        &[],
        routes::with_mtu,
        "prints mtu and advmss of a route but does not set them: {}",
        PLUGINS,
    ),
    row(
        "route-unreachable",
        &[],
        routes::unreachable,
        "cannot set a route whose gateway is outside every subnet: {}; ADD fails (\"network is unreachable\" or \"no route to host\") after the address was given, and the interface stays up with it",
        PLUGINS,
    ),
    row(
        "route-twice",
        &[],
        routes::twice,
        "cannot set the same route twice: {}; ADD fails (\"file exists\") after the address was given, and the interface stays up with it",
        PLUGINS,
    ),
    row(
        "route-family",
        &[],
        routes::without_family,
        "sets a route of a family in which the network has no address: {}; no packet of the pod can use it",
        PLUGINS,
    ),
    row(
        "ptp-gateway",
        &["ptp"],
        without_gateway,
        "needs a gateway for each address: {} has none; ADD is refused (7) before an address is given",
        PLUGINS,
    ),
    row(
        "last-gateway",
        &[],
        routes::two_gateways_v4,
        "uses only the gateway that is listed last, of IPv4 routes to one destination: {}",
        PLUGINS,
    ),
    row(
        "multipath",
        &[],
        routes::two_gateways_v6,
        "makes one multipath route of IPv6 routes to one destination: {}; every CHECK fails",
        PLUGINS,
    ),
    row(
        "check-table",
        &[],
        routes::with_table,
        "looks for a route with a table in the main table: {}; every CHECK fails",
        PLUGINS,
    ),
    row(
        "check-32",
        &["macvlan", "ipvlan", "vlan", "host-device", "bridge", "tap", "dummy"],
        single_address,
        "cannot check an IPv4 address with the prefix length 32: {}; every CHECK fails (\"Failed to find Gateway\")",
        SOURCE,
    ),
    row(
        "ptp-32",
        &["ptp"],
        single_address,
        "cannot set an IPv4 address with the prefix length 32: {}; ADD fails (\"failed to delete route\") after the address was given",
        PLUGINS,
    ),
    row(
        "sbr-link-local",
        &[],
        routes::dropped_by_sbr,
        "is followed by sbr, which removes routes through link-local gateways: {}",
        PLUGINS,
    ),
    row(
        "sbr-check",
        &[],
        moved_by_sbr,
        "is followed by sbr, which moves the routes of {} to another table; every CHECK fails",
        PLUGINS,
    ),
    general(
        "slow-ipv6",
        &["macvlan", "ipvlan", "vlan", "host-device", "dummy", "ptp", "tap"],
        ipv6_with_gateway,
        "waits for duplicate address detection of an IPv6 address with a gateway: 1 to 2 s for each ADD, 5 s if the link is down",
        SOURCE,
    ),
    general(
        "duplicate-ipv6",
        &["macvlan", "ipvlan", "vlan", "host-device", "dummy", "tap"],
        ipv6_without_gateway,
        "does not wait for duplicate address detection of an IPv6 address without a gateway: a duplicate goes unnoticed, and CHECK succeeds",
        SOURCE,
    ),
    general(
        "host-device-del",
        &["host-device"],
        always,
        "does not call DEL of ipam once the network namespace is gone: run \"hereabouts sweep\" on each node from a timer, or the DaemonSet",
        PLUGINS,
    ),
    general(
        "gc",
        &["macvlan", "ipvlan", "vlan", "host-device", "bridge", "ptp", "tap", "dummy"],
        version_with_gc,
        "does not call GC of ipam, in any version of CNI: run \"hereabouts sweep\" on each node from a timer, or the DaemonSet",
        PLUGINS,
    ),
    row(
        "default-route",
        &[],
        routes::default_of_second,
        "sets a default route on a second interface: {}; it takes the traffic of the pod's default network over. The annotation's default-route does nothing in a pod that has a default route",
        MULTUS,
    ),
    row(
        "list-version",
        &[],
        list_without_version,
        "gets a DEL without most of its configuration, because the list has no cniVersion{}: set cniVersion beside plugins",
        MULTUS,
    ),
    general(
        "ips-undeclared",
        &[],
        ips_undeclared,
        "gets no addresses that a pod asks for from most runtimes, because capabilities has no \"ips\": true; Multus passes them all the same, as IP=",
        MULTUS,
    ),
];

/// Returns what the main plugin of a network will do with the answer.
pub(super) fn remarks(case: &Case<'_>) -> Vec<Remark> {
    let plugin = case.configuration.find("type").and_then(Json::as_str);
    let of_plugin = |row: &&Behavior| {
        row.plugins.is_empty() || plugin.is_some_and(|plugin| row.plugins.contains(&plugin))
    };
    let rows = BEHAVIORS.iter().filter(of_plugin);
    let name = crate::json::excerpt(plugin.unwrap_or("the main plugin"));
    let remark = |row: &Behavior| {
        let part = (row.concerns)(case)?;
        let words = row.words.replace("{}", &part);
        let words = format!("{} {words} ({})", name.trim_matches('"'), row.seen_of(plugin));
        Some(Remark { words, is_general: row.is_general })
    };
    rows.filter_map(remark).collect()
}

#[allow(clippy::unnecessary_wraps, reason = "it is one of the conditions")]
fn always(_: &Case<'_>) -> Option<String> {
    Some(String::new())
}

fn dns(case: &Case<'_>) -> Option<String> {
    if case.network.dns != Dns::default() {
        return Some("dns".to_owned());
    }
    case.network.resolv_conf.is_some().then(|| "resolvConf".to_owned())
}

fn without_gateway(case: &Case<'_>) -> Option<String> {
    let all = case.network.ranges();
    let ranges = all.filter(|range| range.gateway.is_none()).map(|range| range.subnet.to_string());
    let statics = case.network.statics.iter().filter(|fixed| fixed.gateway.is_none());
    let statics = statics.map(|fixed| format!("{}/{}", fixed.address, fixed.prefix));
    some(ranges.chain(statics))
}

fn single_address(case: &Case<'_>) -> Option<String> {
    let all = case.network.ranges();
    let is_one = |family: Family, length: u8| family == Family::V4 && length == 32;
    let ranges = all
        .filter(|range| is_one(range.subnet.family(), range.subnet.length()))
        .map(|range| range.subnet.to_string());
    let statics =
        case.network.statics.iter().filter(|fixed| is_one(Family::of(fixed.address), fixed.prefix));
    some(ranges.chain(statics.map(|fixed| format!("{}/{}", fixed.address, fixed.prefix))))
}

fn gateways_of_v6(case: &Case<'_>) -> impl Iterator<Item = bool> {
    let all = case.network.ranges();
    let ranges = all
        .filter(|range| range.subnet.family() == Family::V6)
        .map(|range| range.gateway.is_some());
    let statics =
        case.network.statics.iter().filter(|fixed| Family::of(fixed.address) == Family::V6);
    ranges.chain(statics.map(|fixed| fixed.gateway.is_some()))
}

fn ipv6_with_gateway(case: &Case<'_>) -> Option<String> {
    gateways_of_v6(case).any(|has| has).then(String::new)
}

/// One IPv6 address with a gateway makes the plugin wait for all of them.
fn ipv6_without_gateway(case: &Case<'_>) -> Option<String> {
    let found: Vec<bool> = gateways_of_v6(case).collect();
    (!found.is_empty() && found.iter().all(|has| !has)).then(String::new)
}

fn moved_by_sbr(case: &Case<'_>) -> Option<String> {
    let is_followed = case.chain.types.iter().any(|name| name == "sbr");
    let all = case.network.ranges();
    let with = all.filter(|range| range.gateway.is_some() && range.subnet.family() == Family::V4);
    some(with.map(|range| range.subnet.to_string())).filter(|_| is_followed)
}

/// GC came with version 1.1.0. A user of an earlier version does not expect it.
fn version_with_gc(case: &Case<'_>) -> Option<String> {
    let version = case.configuration.find("cniVersion").and_then(Json::as_str)?;
    (version == "1.1.0").then(String::new)
}

fn list_without_version(case: &Case<'_>) -> Option<String> {
    (case.chain.is_list && !case.chain.has_version && case.origin.kind.is_some()).then(String::new)
}

fn ips_undeclared(case: &Case<'_>) -> Option<String> {
    let is_declared = declares_ips(case.configuration);
    let has_ranges = !case.network.sets.is_empty();
    (has_ranges && !is_declared && case.configuration.find("type").is_some()).then(String::new)
}

/// Joins the first items of a list, or returns `None` for an empty one.
fn some(items: impl Iterator<Item = String>) -> Option<String> {
    let mut items: Vec<String> = items.take(6).collect();
    if items.len() == 6 {
        "...".clone_into(&mut items[5]);
    }
    (!items.is_empty()).then(|| items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::BEHAVIORS;
    use std::collections::HashSet;

    /// The document says what the code says.
    #[test]
    fn the_document_has_a_row_for_every_behavior() {
        let document = include_str!("../../../docs/main-plugins.md");
        let mut ids = HashSet::new();
        for row in BEHAVIORS {
            assert!(ids.insert(row.id), "{} stands twice", row.id);
            let line = document.lines().find(|line| line.starts_with(&format!("| `{}` |", row.id)));
            let line =
                line.unwrap_or_else(|| panic!("docs/main-plugins.md has no row for {}", row.id));
            let plugins = if row.plugins.is_empty() {
                "every one".to_owned()
            } else {
                row.plugins.join(", ")
            };
            for part in [plugins.as_str(), row.seen] {
                assert!(line.contains(part), "the row of {} lacks: {part}", row.id);
            }
        }
        let rows = document.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, BEHAVIORS.len(), "the document has other rows");
    }
}
