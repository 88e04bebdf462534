//! The conditions on the routes of a network: what the kernel refuses, and what it does with routes
//! to one destination.

use super::super::case::Case;
use super::some;
use crate::addr::{Blocks, Family, Subnet, is_link_local};
use crate::config::Route;
use crate::ipam;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// The scope of a route to hosts on the link (RT_SCOPE_LINK).
const LINK: u32 = 253;

/// Returns the routes with mtu or advmss.
pub(super) fn with_mtu(case: &Case<'_>) -> Option<String> {
    let with = case.network.routes.iter().filter(|route| route.mtu.or(route.advmss).is_some());
    some(with.map(|route| route.dst.to_string()))
}

/// Returns the routes in a separate table.
pub(super) fn with_table(case: &Case<'_>) -> Option<String> {
    let with =
        case.network.routes.iter().filter(|route| route.table.is_some_and(|table| 0 < table));
    some(with.map(|route| route.dst.to_string()))
}

/// Returns the routes whose gateway is outside every subnet.
pub(super) fn unreachable(case: &Case<'_>) -> Option<String> {
    let subnets: Blocks = ipam::subnets(&case.network.sets, &case.network.statics)
        .map(|subnet| subnet.whole())
        .collect();
    let implied = Implied::of(case);
    // Earlier routes to the link make a gateway reachable.
    let mut on_link: HashSet<Subnet> = HashSet::new();
    let mut lengths: BTreeSet<u8> = BTreeSet::new();
    let mut found = Vec::new();
    for route in &case.network.routes {
        match implied.gateway(route) {
            None if route.scope == Some(LINK) => {
                lengths.insert(route.dst.length());
                on_link.insert(route.dst);
            }
            None => {}
            Some(gw) => {
                let mut above = lengths.iter().filter_map(|length| Subnet::new(gw, *length).ok());
                let is_reached =
                    subnets.contains(gw) || above.any(|subnet| on_link.contains(&subnet));
                if !is_link_local(gw) && !is_reached {
                    found.push(format!("{} via {gw}", route.dst));
                }
            }
        }
    }
    some(found.into_iter())
}

/// Returns the routes that the kernel takes for the same.
pub(super) fn twice(case: &Case<'_>) -> Option<String> {
    let (mut seen, implied) = (HashSet::new(), Implied::of(case));
    let again = case.network.routes.iter().filter(|route| {
        let gw = implied.gateway(route);
        !seen.insert((route.dst, gw, route.priority.unwrap_or(0), route.table.unwrap_or(0)))
    });
    some(again.map(|route| route.dst.to_string()))
}

/// Returns the routes of a family without an address. The kernel accepts them.
pub(super) fn without_family(case: &Case<'_>) -> Option<String> {
    let families: HashSet<Family> = ipam::subnets(&case.network.sets, &case.network.statics)
        .map(|subnet| subnet.family())
        .collect();
    let implied = Implied::of(case);
    let is_accepted = |route: &Route| match implied.gateway(route) {
        Some(gw) => is_link_local(gw),
        None => true,
    };
    let lost = case
        .network
        .routes
        .iter()
        .filter(|route| !families.contains(&route.dst.family()) && is_accepted(route));
    some(lost.map(|route| route.dst.to_string()))
}

pub(super) fn two_gateways_v4(case: &Case<'_>) -> Option<String> {
    several_gateways(case, Family::V4)
}

pub(super) fn two_gateways_v6(case: &Case<'_>) -> Option<String> {
    several_gateways(case, Family::V6)
}

/// Returns the destinations with different gateways.
fn several_gateways(case: &Case<'_>, family: Family) -> Option<String> {
    let implied = Implied::of(case);
    let mut gateways: HashMap<_, Option<IpAddr>> = HashMap::new();
    let mut found = Vec::new();
    for route in case.network.routes.iter().filter(|route| route.dst.family() == family) {
        let key = (route.dst, route.priority.unwrap_or(0), route.table.unwrap_or(0));
        let gw = implied.gateway(route);
        let first = *gateways.entry(key).or_insert(gw);
        let text = route.dst.to_string();
        if first != gw && !found.contains(&text) && found.len() < 6 {
            found.push(text);
        }
    }
    some(found.into_iter())
}

/// Returns the routes through a link-local gateway in a list with sbr.
pub(super) fn dropped_by_sbr(case: &Case<'_>) -> Option<String> {
    let is_followed = case.chain.types.iter().any(|name| name == "sbr");
    let through = case.network.routes.iter().filter(|route| route.gw.is_some_and(is_link_local));
    some(through.map(|route| route.dst.to_string())).filter(|_| is_followed)
}

/// Returns the default routes of a network that is not the pod's default network.
pub(super) fn default_of_second(case: &Case<'_>) -> Option<String> {
    let defaults = case.network.routes.iter().filter(|route| route.dst.length() == 0);
    some(defaults.map(|route| route.dst.to_string())).filter(|_| case.origin.kind.is_some())
}

/// The gateways of the addresses, which routes without `gw` get.
struct Implied {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
}

impl Implied {
    /// Returns for each family that of the first address that has one.
    fn of(case: &Case<'_>) -> Self {
        let first = |family: Family| {
            let sets = case.network.sets.iter().filter_map(|set| set.ranges.first());
            let gateways = sets.map(|range| range.gateway);
            let statics = case.network.statics.iter().map(|fixed| fixed.gateway);
            let mut all = gateways.chain(statics).flatten();
            all.find(|gateway| Family::of(*gateway) == family)
        };
        Self { v4: first(Family::V4), v6: first(Family::V6) }
    }

    /// Returns the gateway that a main plugin sets for a route.
    fn gateway(&self, route: &Route) -> Option<IpAddr> {
        if route.gw.is_some() || route.scope == Some(LINK) {
            return route.gw;
        }
        match route.dst.family() {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}
