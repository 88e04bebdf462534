//! What a network allocates from, as text and as JSON: a network with ranges, or a network as one of
//! its pools serves it.

use crate::addr::{self, Blocks};
use crate::cli::output;
use crate::config::Network;
use crate::ipam::ConfiguredRange;
use serde_json::{Value, json};

/// The addresses and routes of a network.
pub(super) struct Outline {
    /// The pool that serves the network, if it names pools.
    pub(super) pool: Option<ServedBy>,
    /// The name of the scope of the addresses. `None` is the scope without a name.
    pub(super) scope: Option<String>,
    /// The range sets. An ADD gives one address from each.
    sets: Vec<Vec<Range>>,
    /// The static addresses, with their prefix lengths.
    statics: Vec<String>,
    /// The addresses that are reserved, and for which pods.
    reservations: Vec<(addr::Range, String)>,
    /// The number of reservations of the network itself. Those of the pool follow.
    own_reservations: usize,
    /// The addresses that are given only on request.
    on_request: Vec<addr::Range>,
    /// The addresses that are given dynamically.
    pub(super) dynamic: Vec<addr::Range>,
    /// The routes.
    routes: Vec<String>,
}

/// A pool that serves a network.
pub(super) struct ServedBy {
    /// The name of the pool.
    pub(super) name: String,
    /// The file that contains it.
    pub(super) file: String,
}

/// A range in a report.
struct Range {
    /// The first to the last address.
    range: String,
    /// The subnet.
    subnet: String,
    /// The number of addresses that may be given out.
    addresses: u128,
    /// The gateway.
    gateway: Option<String>,
}

impl Outline {
    /// Returns the outline of a network that has ranges, or that a pool serves. `own` is the number of
    /// entries of its reservations that are not those of the pool.
    pub(super) fn of(network: &Network, pool: Option<ServedBy>, own: usize) -> Self {
        let range_row = |range: &ConfiguredRange| Range {
            range: range.bounds.to_string(),
            subnet: range.subnet.to_string(),
            addresses: range.candidates().count(),
            gateway: range.gateway.map(|gateway| gateway.to_string()),
        };
        let entries = &network.reservations.entries;
        let reserved = entries
            .iter()
            .flat_map(|entry| entry.ranges.iter().map(|range| (*range, entry.owner.to_string())));
        let candidates = network.ranges().map(ConfiguredRange::candidates);
        let routes = network.routes.iter().map(|route| {
            let gw = route.gw.map_or_else(String::new, |gw| format!(" via {gw}"));
            format!("{}{gw}", route.dst)
        });
        let statics = network.statics.iter();
        Self {
            pool,
            scope: network.scope.name().map(str::to_owned),
            sets: network
                .sets
                .iter()
                .map(|set| set.ranges.iter().map(range_row).collect())
                .collect(),
            statics: statics.map(|fixed| format!("{}/{}", fixed.address, fixed.prefix)).collect(),
            reservations: reserved.collect(),
            own_reservations: entries.iter().take(own).map(|entry| entry.ranges.len()).sum(),
            on_request: network.reservations.on_request.ranges().collect(),
            dynamic: candidates.flat_map(|set| set.ranges().collect::<Vec<_>>()).collect(),
            routes: routes.collect(),
        }
    }

    /// Returns the reservations of the network itself, with their owners.
    pub(super) fn own_reservations(&self) -> &[(addr::Range, String)] {
        self.reservations.get(..self.own_reservations).unwrap_or_default()
    }

    /// Returns the reservations of the pool, with their owners.
    pub(super) fn pool_reservations(&self) -> &[(addr::Range, String)] {
        self.reservations.get(self.own_reservations..).unwrap_or_default()
    }

    /// Returns all addresses that can be given, dynamically or not, without the static ones.
    pub(super) fn addresses(&self) -> Blocks {
        let reserved = self.reservations.iter().map(|(range, _)| *range);
        self.dynamic
            .iter()
            .copied()
            .chain(reserved)
            .chain(self.on_request.iter().copied())
            .collect()
    }

    /// Returns the lines for people: what each is about, and its text.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines =
            vec![("scope", self.scope.clone().unwrap_or_else(|| "(unnamed)".to_owned()))];
        for set in &self.sets {
            let ranges: Vec<String> = set.iter().map(Range::outline).collect();
            lines.push(("one address from", ranges.join(", else ")));
        }
        lines.extend(self.statics.iter().map(|fixed| ("static address", fixed.clone())));
        for (range, owner) in &self.reservations {
            lines.push(("reserved", format!("{} for {owner}", output::addresses(range))));
        }
        let on_request = self.on_request.iter();
        lines.extend(on_request.map(|range| ("only on request", output::addresses(range))));
        lines.extend(self.routes.iter().map(|route| ("route", route.clone())));
        lines
    }

    /// Returns the outline of a network with these parts, for programs. The keys are documented and
    /// stable.
    pub(super) fn json(outline: Option<&Self>) -> Vec<(&'static str, Value)> {
        let scope = outline.map(|outline| outline.scope.as_deref().unwrap_or_default());
        let list = |part: &dyn Fn(&Self) -> Vec<Value>| {
            outline.map_or_else(|| json!([]), |outline| Value::Array(part(outline)))
        };
        let ranges = list(&|outline| {
            let set = |set: &Vec<Range>| set.iter().map(Range::json).collect();
            outline.sets.iter().map(set).collect()
        });
        let reserved = |(range, owner): &(addr::Range, String)| json!({"addresses": output::addresses(range), "for": owner});
        let texts = |texts: &[String]| texts.iter().cloned().map(Value::from).collect();
        vec![
            ("scope", json!(scope)),
            ("ranges", ranges),
            ("addresses", list(&|outline| texts(&outline.statics))),
            ("reservations", list(&|outline| outline.reservations.iter().map(reserved).collect())),
            (
                "reserved",
                list(&|outline| {
                    let ranges = outline.on_request.iter();
                    ranges.map(|range| Value::from(output::addresses(range))).collect()
                }),
            ),
            ("routes", list(&|outline| texts(&outline.routes))),
        ]
    }
}

impl Range {
    fn outline(&self) -> String {
        let addresses = if self.addresses == 1 { "address" } else { "addresses" };
        let gateway = match &self.gateway {
            Some(gateway) => format!("gateway {gateway}"),
            None => "no gateway".to_owned(),
        };
        format!("{} in {} ({} {addresses}, {gateway})", self.range, self.subnet, self.addresses)
    }

    fn json(&self) -> Value {
        json!({
            "range": self.range,
            "subnet": self.subnet,
            "addresses": output::number(self.addresses),
            "gateway": self.gateway,
        })
    }
}
