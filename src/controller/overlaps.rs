//! Which other pools, networks, nodes and ranges of Services have addresses of a pool.

use super::conditions::Told;
use super::pool::PoolId;
use super::state::{PoolState, State};
use crate::addr::{Blocks, Range, first_shared};
use crate::ipam::Scope;

/// The most overlaps that are named.
const FEW: usize = 8;
/// The most nodes that are named: thousands of them must not hide the others.
const FEW_NODES: usize = 3;

/// Something that has addresses of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// What it means.
    pub risk: Risk,
    /// Its name, and its scope if that is another one.
    pub name: String,
    /// The first of the shared addresses.
    pub shared: Range,
}

/// What an overlap means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Nothing: an address has one holder in its scope, whichever pool it comes from.
    SameScope,
    /// The same, but what is held is not only what the pool has given.
    NetworkRange,
    /// On one wire, two holders could get one address.
    OtherScope,
    /// A pod of the cluster's own network may have the same address.
    PodAddresses,
    /// A pod with the address of a Service cannot be reached, or the Service cannot.
    Services,
}

impl Risk {
    /// Returns the reason of the condition.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::SameScope => "SameScope",
            Self::NetworkRange => "NetworkRange",
            Self::OtherScope => "OtherScope",
            Self::PodAddresses => "PodAddresses",
            Self::Services => "ServiceAddresses",
        }
    }
}

/// What all overlaps of a pool mean, in one word and in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The gravest.
    pub risk: Risk,
    /// All of them, for people. At most [`FEW`] are named, and of them at most [`FEW_NODES`] nodes.
    pub message: String,
}

/// Returns the condition `Overlapping` of a pool. `None` while not everything has been read that it
/// depends on: then the one before stays.
#[must_use]
pub fn told(state: &State, id: &PoolId, pool: &PoolState) -> Option<Told> {
    let known = state.knows_others();
    known.then(|| overlapping(summary(&overlaps(state, id, pool))))
}

fn overlapping(summary: Option<Summary>) -> Told {
    let none = || (false, "None", "nothing else has addresses of it".to_owned());
    let found = |found: Summary| (true, found.risk.reason(), found.message);
    let (is_true, reason, message) = summary.map_or_else(none, found);
    Told { kind: "Overlapping", is_true, reason, message }
}

/// Returns the overlaps of a pool, the gravest first.
#[must_use]
pub fn overlaps(state: &State, id: &PoolId, pool: &PoolState) -> Vec<Overlap> {
    let own: Blocks = pool.given().collect();
    let shared = |other: &mut dyn Iterator<Item = Range>| first_shared(own.ranges(), other);
    // First of all: of thousands of pools, most have nothing in common.
    let near = state.pools().filter(|(_, found)| found.hull.touches(&pool.hull));
    let others = near.filter(|(other, _)| ***other != *id);
    let of_pools = others.filter_map(|(other, found)| {
        let shared = shared(&mut found.given())?;
        let is_same = found.scope == pool.scope;
        let name = match is_same {
            true => other.to_string(),
            false => format!("{other} ({})", scope(&found.scope)),
        };
        let risk = if is_same { Risk::SameScope } else { Risk::OtherScope };
        Some(Overlap { risk, name, shared })
    });
    let of_services = state.service_ranges().filter_map(|(name, ranges)| {
        let shared = shared(&mut ranges.iter().copied())?;
        Some(Overlap { risk: Risk::Services, name: format!("ServiceCIDR {name}"), shared })
    });
    let of_nodes = state.pod_ranges(&pool.hull).filter_map(|(name, ranges)| {
        let shared = ranges.ranges().find_map(|range| own.first_shared(&range))?;
        let name = format!("podCIDRs of node {name}");
        Some(Overlap { risk: Risk::PodAddresses, name, shared })
    });
    let of_networks = state.network_ranges(&pool.hull).filter_map(|(name, network)| {
        let shared = shared(&mut network.given.ranges())?;
        let (is_same, store) = match network.is_in_files {
            true => (false, ", file store"),
            false => (network.scope == pool.scope, ""),
        };
        let name = match is_same {
            true => format!("network {name}"),
            false => format!("network {name} ({}{store})", scope(&network.scope)),
        };
        let risk = if is_same { Risk::NetworkRange } else { Risk::OtherScope };
        Some(Overlap { risk, name, shared })
    });
    let mut found: Vec<Overlap> =
        of_pools.chain(of_networks).chain(of_services).chain(of_nodes).collect();
    found.sort_by(|one, other| other.risk.cmp(&one.risk).then_with(|| one.name.cmp(&other.name)));
    found
}

/// Returns what overlaps mean, or `None` without any.
#[must_use]
pub fn summary(overlaps: &[Overlap]) -> Option<Summary> {
    let risk = overlaps.first()?.risk;
    let named = |overlap: &Overlap| {
        let Overlap { name, shared, .. } = overlap;
        match shared.first_address() == shared.last_address() {
            true => format!("{name}: {}", shared.first_address()),
            false => format!("{name}: {shared}"),
        }
    };
    let mut nodes = 0;
    let is_named = |overlap: &&Overlap| {
        nodes += usize::from(overlap.risk == Risk::PodAddresses);
        overlap.risk != Risk::PodAddresses || nodes <= FEW_NODES
    };
    let mut names: Vec<String> = overlaps.iter().filter(is_named).take(FEW).map(named).collect();
    if let Some(more @ 1..) = overlaps.len().checked_sub(names.len()) {
        names.push(format!("{more} more"));
    }
    let meaning = match risk {
        Risk::SameScope => "an address has one holder, because the scope is the same",
        Risk::NetworkRange => {
            "an address has one holder, because the scope is the same, and what the network holds counts in the numbers of the pool"
        }
        Risk::OtherScope => {
            "on one wire, two could get the same address, because an address is unique only in its scope"
        }
        Risk::PodAddresses => {
            "the network of the cluster may give the same address to another pod, unless it takes its addresses from hereabouts"
        }
        Risk::Services => "a pod with the address of a Service hides it, or is hidden by it",
    };
    Some(Summary { risk, message: format!("also in {}; {meaning}", names.join(", ")) })
}

fn scope(scope: &Scope) -> String {
    match scope.name() {
        None => "unnamed scope".to_owned(),
        // A network may have a scope with any characters.
        Some(_) => format!("scope {scope}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::network_ranges;
    use crate::controller::pool::PoolKind;
    use crate::controller::state::{Kind, Name, Work};
    use crate::controller::watches;
    use serde_json::json;
    use std::collections::{BTreeSet, HashSet};
    use std::rc::Rc;

    /// Returns a state that has read all pools.
    fn state() -> State {
        let kind = Kind::Pools(PoolKind::Own);
        let mut state = State::new(BTreeSet::from([kind]), true);
        state.finish(kind, &HashSet::new());
        state
    }

    fn write(state: &mut State, name: &str, scope: &str, subnet: &str) {
        let object = json!({
            "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool",
            "metadata": {"name": name, "uid": name}, "spec": {"scope": scope, "subnets": [{"subnet": subnet}]},
        });
        watches::own_pool(state, &serde_json::from_value(object).unwrap());
    }

    fn id(name: &str) -> PoolId {
        PoolId { kind: PoolKind::Own, namespace: String::new(), name: name.to_owned() }
    }

    fn summed(state: &State, name: &str) -> Option<(&'static str, String)> {
        let id = id(name);
        let summary = summary(&overlaps(state, &id, state.pool(&id).unwrap()))?;
        Some((summary.risk.reason(), summary.message))
    }

    fn cidrs(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn pools_are_looked_at_again_when_the_pod_cidrs_of_a_node_change() {
        let mut state = state();
        write(&mut state, "blue", "", "10.1.0.0/24");
        write(&mut state, "green", "", "fd00:1::/64");
        let look = |names: &[&str]| -> Vec<Work> {
            names.iter().map(|name| Work::Pool(Rc::new(id(name)))).collect()
        };
        assert_eq!(state.apply_node("n1", &cidrs(&["10.0.0.0/24"])), []);
        assert_eq!(summed(&state, "blue"), None);
        let both = cidrs(&["10.1.0.0/16", "fd00:1::/48"]);
        assert_eq!(state.apply_node("n1", &both), look(&["blue", "green"]));
        // It reports again, and nothing has changed.
        assert_eq!(state.apply_node("n1", &both), []);
        assert_eq!(state.apply_node("n2", &cidrs(&["none"])), []);
        assert_eq!(
            summed(&state, "blue").unwrap(),
            ("PodAddresses", "also in podCIDRs of node n1: 10.1.0.1-10.1.0.254; the network of the cluster may give the same address to another pod, unless it takes its addresses from hereabouts".to_owned())
        );
        assert_eq!(state.apply_node("n1", &both[1..]), look(&["blue", "green"]));
        assert_eq!(
            (summed(&state, "blue"), summed(&state, "green").unwrap().0),
            (None, "PodAddresses")
        );
        assert_eq!(state.retain_nodes(&HashSet::from(["n1"])), []);
        assert_eq!(state.retain_nodes(&HashSet::from(["n2"])), look(&["green"]));
        assert_eq!(summed(&state, "green"), None);
        assert_eq!(state.remove_node("n1"), []);
    }

    #[test]
    fn pools_are_looked_at_again_when_the_ranges_of_a_network_change() {
        let mut state = state();
        write(&mut state, "blue", "", "10.1.0.0/24");
        write(&mut state, "red", "red", "10.1.0.128/25");
        let look = ["blue", "red"].map(|name| Work::Pool(Rc::new(id(name))));
        let name = Name { namespace: "default".into(), name: "net1".into() };
        let of = |scope: &str, store: &str| {
            let ipam = json!({"type": "hereabouts", "range": "10.1.0.192/26", "network_name": scope, "datastore": store});
            network_ranges::of(&json!({"type": "macvlan", "ipam": ipam}).to_string(), "n")
        };
        let told = |state: &State| {
            let [blue, red] = ["blue", "red"].map(|name| summed(state, name).unwrap().1);
            [blue, red].map(|text| text.split(';').next().unwrap().to_owned())
        };
        let shared = "10.1.0.193-10.1.0.254";
        let pools = [
            "also in IPPool red (scope red): 10.1.0.129-10.1.0.254".to_owned(),
            "also in IPPool blue (unnamed scope): 10.1.0.129-10.1.0.254".to_owned(),
        ];
        assert_eq!(state.apply_network(&name, of("red", "kubernetes")), look);
        assert_eq!(state.apply_network(&name, of("red", "kubernetes")), []);
        assert_eq!(
            told(&state),
            [
                format!("{}, network default/net1 (scope red): {shared}", pools[0]),
                format!("{}, network default/net1: {shared}", pools[1]),
            ]
        );
        // The same ranges in another scope, and in another store.
        assert_eq!(state.apply_network(&name, of("", "kubernetes")), look);
        assert!(told(&state)[0].ends_with(&format!(", network default/net1: {shared}")));
        assert_eq!(state.apply_network(&name, of("", "file")), look);
        let file_store = format!("network default/net1 (unnamed scope, file store): {shared}");
        told(&state).iter().for_each(|text| assert!(text.ends_with(&file_store), "{text}"));
        assert_eq!(state.remove(Kind::Networks, &name, ""), look);
        assert_eq!(told(&state), pools);
        state.apply_network(&name, of("", "file"));
        assert_eq!(state.finish(Kind::Networks, &HashSet::from([name.clone()])), []);
        assert_eq!(state.finish(Kind::Networks, &HashSet::new()), look);
        assert_eq!(told(&state), pools);
    }

    #[test]
    fn a_network_of_the_same_scope_is_no_danger() {
        let mut state = state();
        write(&mut state, "blue", "", "10.1.0.0/24");
        let name = Name { namespace: "default".into(), name: "net1".into() };
        let of = |scope: &str| {
            let ipam = json!({"type": "hereabouts", "range": "10.1.0.8/29", "network_name": scope});
            network_ranges::of(&json!({"type": "macvlan", "ipam": ipam}).to_string(), "n")
        };
        state.apply_network(&name, of(""));
        let same = "also in network default/net1: 10.1.0.9-10.1.0.14; an address has one holder, because the scope is the same, and what the network holds counts in the numbers of the pool";
        assert_eq!(summed(&state, "blue").unwrap(), ("NetworkRange", same.to_owned()));
        state.apply_network(&name, of("a\u{7}b"));
        let (reason, message) = summed(&state, "blue").unwrap();
        assert_eq!(reason, "OtherScope");
        let other =
            r#"also in network default/net1 (scope "a\u{7}b"): 10.1.0.9-10.1.0.14; on one wire, "#;
        assert!(message.starts_with(other), "{message}");
    }

    #[test]
    fn the_condition_waits_until_nodes_and_networks_have_been_read() {
        let mut state = state();
        write(&mut state, "blue", "", "10.1.0.0/24");
        let condition = |state: &State| told(state, &id("blue"), state.pool(&id("blue")).unwrap());
        let look = [Work::Pool(Rc::new(id("blue")))];
        assert_eq!(condition(&state), None);
        assert_eq!(state.finish(Kind::Networks, &HashSet::new()), []);
        assert_eq!(condition(&state), None);
        assert_eq!(state.nodes_are_read(), look);
        assert!(!condition(&state).unwrap().is_true);
        assert_eq!(state.nodes_are_read(), []);
        // A cluster without Multus has no networks.
        let mut state = State::new(BTreeSet::new(), true);
        write(&mut state, "blue", "", "10.1.0.0/24");
        assert_eq!(state.nodes_are_read(), []);
        assert_eq!(state.not_served(Kind::Networks), look);
        assert!(condition(&state).is_some());
    }

    #[test]
    fn the_nodes_do_not_hide_other_overlaps() {
        let mut state = state();
        write(&mut state, "blue", "", "10.0.0.0/8");
        write(&mut state, "wide", "red", "10.0.0.0/8");
        for at in 0..1000 {
            let name = format!("n{at:03}");
            state.apply_node(&name, &cidrs(&[&format!("10.{}.{}.0/24", at / 256, at % 256)]));
        }
        let (reason, message) = summed(&state, "blue").unwrap();
        assert_eq!(reason, "PodAddresses");
        let names = "also in podCIDRs of node n000: 10.0.0.1-10.0.0.255, podCIDRs of node n001: 10.0.1.0-10.0.1.255, podCIDRs of node n002: 10.0.2.0-10.0.2.255, IPPool wide (scope red): 10.0.0.1-10.255.255.254, 997 more; ";
        assert!(message.starts_with(names), "{message}");
    }

    /// 1,000 nodes and 1,000 pools, each with a subnet of its own. With a look at each node, the
    /// names and ranges of a million pairs would be compared.
    #[test]
    fn a_thousand_pools_with_a_thousand_nodes_take_no_million_looks() {
        let mut state = state();
        let third = |at: u32| format!("{}.{}", at / 256, at % 256);
        for at in 0..1000 {
            state.apply_node(&format!("n{at}"), &cidrs(&[&format!("10.{}.0/24", third(at))]));
        }
        for at in 0..1000 {
            write(&mut state, &format!("p{at}"), "", &format!("10.{}.64/26", third(at)));
        }
        let near = |(_, pool): (&Rc<PoolId>, &PoolState)| state.pod_ranges(&pool.hull).count();
        assert_eq!(state.pools().map(near).sum::<usize>(), 1000);
        for at in 0..1000 {
            let (_, message) = summed(&state, &format!("p{at}")).unwrap();
            assert!(message.starts_with(&format!("also in podCIDRs of node n{at}: ")), "{message}");
        }
    }
}
