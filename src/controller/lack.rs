//! Why an IPAMClaim has no address, as far as it can be known here.
//!
//! The plugin knows why, and a node has no right to write about claims: its token could then say
//! anything about all claims of the cluster. The controller knows networks, pools, and what is held.
//! It says only what follows from that: that every address is held which the network could give, or
//! that somebody else holds an address for which the claim asks. In all other cases it says nothing.
//! The event of the pod always says why.
//!
//! The flat file of a node is not known here. It can only take addresses away from a network, except
//! that it can give a scope to a network that names none.

use super::network_ranges::NetworkRanges;
use super::pool::{PoolId, PoolKind};
use super::state::{Finding, Held, IpamClaim, Name, State};
use crate::addr::{Blocks, parse_address};
use crate::store::kube::objects::names;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// The reasons of the condition (github.com/k8snetworkplumbingwg/ipamclaims).
pub const EXHAUSTED: &str = "SubnetExhausted";
/// See [`EXHAUSTED`].
pub const CONFLICT: &str = "IPAddressConflict";

/// How long it is believed that a network is full, or is not. So thousands of claims of one network
/// cost one walk over what is held.
const BELIEVED: Duration = Duration::from_secs(10);
/// The most networks of one name that are looked at. Everybody with rights in a namespace may write
/// networks.
const MOST_NETWORKS: usize = 16;

/// From where a network gives.
struct Place {
    /// The part of the scope in names of IPAllocations.
    scope: Rc<str>,
    /// For people.
    what: Option<String>,
    /// A claim needs one address of each.
    sets: Vec<Blocks>,
}

/// Returns why a claim that holds nothing has no address.
pub fn find(state: &mut State, name: &Name, claim: &IpamClaim, now: Instant) -> Finding {
    if !claim.asks_for_addresses() {
        let key = (Rc::clone(&claim.network), Rc::clone(&name.namespace));
        state.lacks.retain(|_, (since, _)| now.saturating_duration_since(*since) < BELIEVED);
        if let Some((_, known)) = state.lacks.get(&key) {
            return known.clone();
        }
        let found = look(state, name, claim);
        state.lacks.insert(key, (now, found.clone()));
        return found;
    }
    look(state, name, claim)
}

fn look(state: &State, name: &Name, claim: &IpamClaim) -> Finding {
    // Another network of the same name may not have been read yet.
    if !state.knows_networks() {
        return Finding::Unknown;
    }
    let mut networks = state.networks_named(&claim.network).filter(|found| !found.is_in_files);
    let some: Vec<&NetworkRanges> = networks.by_ref().take(MOST_NETWORKS).collect();
    // A pod may be in any of several networks of one name.
    if some.is_empty() || networks.next().is_some() {
        return Finding::Unknown;
    }
    let mut first = None;
    for network in some {
        let Some(places) = places(state, network, &name.namespace) else {
            return Finding::Unknown;
        };
        for place in places {
            match lack(&state.held, claim, &place) {
                None => return Finding::Room,
                Some(found) => first = first.or(Some(found)),
            }
        }
    }
    first.unwrap_or(Finding::Unknown)
}

/// Returns from where a network gives to the claims of a namespace. `None` if this is not known.
fn places(state: &State, network: &NetworkRanges, namespace: &str) -> Option<Vec<Place>> {
    if network.pools.is_empty() {
        let scope = names::of_scope_in_name(&network.scope).as_str().into();
        return Some(vec![Place { scope, what: None, sets: network.sets().to_vec() }]);
    }
    let mut places = Vec::new();
    for name in &network.pools {
        let id = PoolId { kind: PoolKind::Own, namespace: String::new(), name: name.clone() };
        let pool = state.pool(&id).filter(|pool| pool.supply.is_ok())?;
        let is_for = |text: &String| text == namespace;
        if pool.namespaces.is_empty() || pool.namespaces.iter().any(is_for) {
            let scope = Rc::clone(&pool.scope_label);
            places.push(Place {
                scope,
                what: Some(id.to_string()),
                sets: vec![pool.given().collect()],
            });
        }
    }
    Some(places)
}

/// Returns why a claim gets nothing from a place.
fn lack(held: &Held, claim: &IpamClaim, place: &Place) -> Option<Finding> {
    let is_given = |address: &IpAddr| place.sets.iter().any(|set| set.contains(*address));
    let address = |text: &String| {
        let address = text.split_once('/').map_or(text.as_str(), |(address, _)| address);
        parse_address(address).ok()
    };
    let asked: Vec<IpAddr> = match claim.wanted.is_empty() {
        false => claim.wanted.iter().filter_map(address).collect(),
        // Of these, only those count that the network can give.
        true => claim.status.ips.iter().filter_map(address).filter(is_given).collect(),
    };
    for address in &asked {
        let holder = held.get(&place.scope, *address).and_then(|holding| holding.holder.told());
        if let Some(holder) = holder {
            let message = format!("{address}, for which it asks, is held by {holder}");
            return Some(Finding::Lack { reason: CONFLICT, message });
        }
    }
    if !asked.is_empty() || !claim.wanted.is_empty() {
        return None;
    }
    let full = place.sets.iter().find(|set| is_full(held, &place.scope, set))?;
    let (first, last) = (full.ranges().next()?, full.ranges().last()?);
    let count = full.ranges().fold(0, |sum: u128, range| sum.saturating_add(range.count()));
    let what = place.what.as_ref().map_or_else(String::new, |what| format!(" of {what}"));
    Some(Finding::Lack {
        reason: EXHAUSTED,
        message: format!(
            "network {} has no free address: {count}{what} from {} to {} are held",
            claim.network,
            first.first_address(),
            last.last_address()
        ),
    })
}

/// Returns whether every address of a set is held.
fn is_full(held: &Held, scope: &str, set: &Blocks) -> bool {
    let count = set.ranges().fold(0, |sum: u128, range| sum.saturating_add(range.count()));
    // Most networks are far from full, which is known without a walk.
    0 < count
        && count <= held.count_in(scope) as u128
        && set.ranges().all(|range| {
            let found = held.between(scope, range.first_address(), range.last_address());
            found.count() as u128 == range.count()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::state::{Holder, Holding, Version};
    use crate::controller::{network_ranges, watches};
    use crate::ipam::Scope;
    use crate::ipam::leak;
    use serde_json::{Value, json};

    /// Returns a state in which a pod holds these addresses of the unnamed scope.
    fn state(held: &[&str]) -> State {
        let mut state = State::default();
        state.networks_are_read();
        hold(&mut state, held);
        state
    }

    fn hold(state: &mut State, held: &[&str]) {
        for text in held {
            let address = text.parse().unwrap();
            let pod = leak::HolderPod { namespace: "a".into(), name: "p".into(), uid: None };
            let attached = leak::Holder {
                address,
                node: "n1".into(),
                node_uid: None,
                boot_id: None,
                interface: "net1".into(),
                pod: Some(pod),
            };
            let holding =
                Holding { version: Version::none(), holder: Holder::Attachment(Rc::new(attached)) };
            state.held.insert(&names::object(&Scope::default(), address), holding, true);
        }
    }

    fn add_network(state: &mut State, namespace: &str, ipam: &Value) {
        let configuration =
            json!({"cniVersion": "1.0.0", "name": "blue", "type": "macvlan", "ipam": ipam});
        let name = Name { namespace: namespace.into(), name: "nad".into() };
        state.apply_network(&name, network_ranges::of(&configuration.to_string(), "nad"));
    }

    fn add_pool(state: &mut State, name: &str, namespaces: &[&str]) {
        let pool = json!({"apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool",
            "metadata": {"name": name, "uid": name},
            "spec": {"namespaces": namespaces, "subnets": [{"subnet": "10.0.0.0/30"}]}});
        watches::own_pool(state, &serde_json::from_value(pool).unwrap());
    }

    fn find_of(state: &mut State, claim: &Value) -> String {
        let object = serde_json::from_value(json!({
            "apiVersion": "k8s.cni.cncf.io/v1alpha1", "kind": "IPAMClaim",
            "metadata": {"name": "c", "namespace": "a"}, "spec": claim["spec"], "status": claim["status"],
        }));
        let claim = IpamClaim::of(&object.unwrap());
        let name = Name { namespace: "a".into(), name: "c".into() };
        state.lacks.clear();
        match find(state, &name, &claim, Instant::now()) {
            Finding::Unknown => "unknown".to_owned(),
            Finding::Room => "room".to_owned(),
            Finding::Lack { reason, message } => format!("{reason}: {message}"),
        }
    }

    fn find_any(state: &mut State) -> String {
        find_of(state, &json!({"spec": {"network": "blue"}}))
    }

    const FULL: &str =
        "SubnetExhausted: network blue has no free address: 2 from 10.0.0.1 to 10.0.0.2 are held";

    #[test]
    fn a_claim_lacks_an_address_only_if_no_network_of_its_name_can_give_one() {
        let both = ["10.0.0.1", "10.0.0.2"];
        let small = json!({"type": "hereabouts", "range": "10.0.0.0/30"});
        let mut begun = State::default();
        hold(&mut begun, &both);
        add_network(&mut begun, "a", &small);
        assert_eq!(find_any(&mut begun), "unknown", "not all networks have been read");
        let mut known = state(&both);
        assert_eq!(find_any(&mut known), "unknown", "no such network");
        add_network(&mut known, "a", &small);
        assert_eq!(find_any(&mut known), FULL);
        assert_eq!(find_of(&mut known, &json!({"spec": {"network": "red"}})), "unknown");
        // A pod may be in this one.
        add_network(&mut known, "b", &json!({"type": "hereabouts", "range": "10.0.0.0/29"}));
        assert_eq!(find_any(&mut known), "room");
        add_network(&mut known, "b", &json!({"type": "host-local", "subnet": "10.0.0.0/30"}));
        assert_eq!(find_any(&mut known), FULL);
        add_network(
            &mut known,
            "a",
            &json!({"type": "hereabouts", "range": "10.0.0.0/30", "datastore": "file"}),
        );
        assert_eq!(find_any(&mut known), "unknown", "the file store");
        let mut known = state(&both[..1]);
        add_network(&mut known, "a", &small);
        assert_eq!(find_any(&mut known), "room");
        let other_scope =
            json!({"type": "hereabouts", "range": "10.0.0.0/30", "network_name": "x"});
        let mut known = state(&both);
        add_network(&mut known, "a", &other_scope);
        assert_eq!(find_any(&mut known), "room");
        // A pod gets an address of each family.
        let dual = json!({"type": "hereabouts", "ipRanges": [{"range": "fd00::/64"}, {"range": "10.0.0.0/30"}]});
        add_network(&mut known, "a", &dual);
        assert_eq!(find_any(&mut known), FULL);
    }

    #[test]
    fn an_address_that_it_asks_for_is_in_conflict_if_somebody_holds_it() {
        let mut known = state(&["10.0.0.1", "10.0.0.2"]);
        add_network(&mut known, "a", &json!({"type": "hereabouts", "range": "10.0.0.0/29"}));
        let asks = |address: &str| json!({"spec": {"network": "blue", "ipRequests": [address]}});
        let conflict = "IPAddressConflict: 10.0.0.1, for which it asks, is held by pod a/p";
        assert_eq!(find_of(&mut known, &asks("10.0.0.1/29")), conflict);
        assert_eq!(find_of(&mut known, &asks("10.0.0.3/29")), "room");
        assert_eq!(find_of(&mut known, &asks("x")), "room", "the plugin says what is wrong");
        let told =
            |address: &str| json!({"spec": {"network": "blue"}, "status": {"ips": [address]}});
        assert_eq!(find_of(&mut known, &told("10.0.0.1/29")), conflict);
        // The network cannot give it, so that the claim gets another one.
        assert_eq!(find_of(&mut known, &told("192.0.2.1/24")), "room");
    }

    #[test]
    fn every_pool_of_a_network_must_be_full() {
        let mut known = state(&["10.0.0.1", "10.0.0.2"]);
        add_network(&mut known, "a", &json!({"type": "hereabouts", "pools": ["one", "two"]}));
        assert_eq!(find_any(&mut known), "unknown", "the pools are not there");
        add_pool(&mut known, "one", &[]);
        add_pool(&mut known, "two", &["b"]);
        assert_eq!(
            find_any(&mut known),
            "SubnetExhausted: network blue has no free address: 2 of IPPool one from 10.0.0.1 to 10.0.0.2 are held"
        );
        let mut known = state(&["10.0.0.1"]);
        add_network(&mut known, "a", &json!({"type": "hereabouts", "pool": "one"}));
        add_pool(&mut known, "one", &[]);
        assert_eq!(find_any(&mut known), "room");
    }
}
