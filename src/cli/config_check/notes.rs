//! What is valid in a network, but probably not what its author wants. ADD accepts it.

use super::case::Case;
use super::report::Report;
use crate::addr::{Blocks, Range, Subnet, parse_prefixed};
use crate::config::{ADDRESS_KEYS, ConfigError, gateway_fits, ignored};
use crate::ipam::{ConfiguredRange, RangeSet};
use crate::json::{Json, TWO_VALUES, excerpt};
use std::collections::HashSet;
use std::net::IpAddr;

/// The maximum number of notes of one kind about one network.
const MOST: usize = 20;

/// Adds the notes about the values of a valid network, without those about its addresses.
pub(super) fn of_values(report: &mut Report, case: &Case<'_>) {
    if case.configuration.find("name").is_none() {
        report.note("no name: the runtime must fill it in");
    }
    if case.network.overlap_asked {
        report.note(
            "enable_overlapping_ranges is false, but addresses stay unique in their scope; \
             to use the same addresses twice, give the networks different values of network_name",
        );
    }
    if let Some(ipam) = own_ipam(case) {
        host_bits(report, ipam);
        unused_of_flat_file(report, case);
    }
}

/// Adds the notes about the addresses of a valid network, or of a network as a pool serves it, and
/// the mistake that no address is left.
pub(super) fn of_addresses(report: &mut Report, case: &Case<'_>) {
    gateways_outside(report, case);
    empty_ranges(report, case);
    vain_excludes(report, case);
}

/// Returns the `ipam` of a network that has its own addresses.
fn own_ipam<'c>(case: &Case<'c>) -> Option<&'c Json> {
    let has_own =
        |ipam: &&Json| ADDRESS_KEYS.iter().any(|key| ipam.find_in_any_case(key).is_some());
    case.configuration.find("ipam").filter(has_own)
}

/// Notes gateways outside the subnet of their range. They are answered, as by Whereabouts and
/// host-local: in clouds, the router of a part of a subnet is in another part.
fn gateways_outside(report: &mut Report, case: &Case<'_>) {
    let is_outside = |(subnet, gateway): &(Subnet, IpAddr)| !gateway_fits(subnet, *gateway);
    let gateways = case.network.ranges().filter_map(|range| Some((range.subnet, range.gateway?)));
    let mut seen = HashSet::new();
    let outside = gateways.filter(is_outside).filter(|pair| seen.insert(*pair));
    for (subnet, gateway) in outside.take(MOST) {
        report.note(format!(
            "gateway {gateway} is outside of {subnet}: a pod reaches it only over a route that leads to it"
        ));
    }
}

/// Adds the notes about keys that nothing reads.
pub(super) fn of_keys(report: &mut Report, configuration: &Json) {
    repeats(report, configuration);
    if let Some(ipam) = configuration.find("ipam") {
        keys(report, ipam, "ipam");
    }
}

/// Adds the notes about keys of a flat file that nothing reads.
pub(super) fn of_flat_file(report: &mut Report, content: &Json) {
    repeats(report, content);
    keys(report, content, "flat file");
}

/// Reports the keys that occur twice in one object.
fn repeats(report: &mut Report, content: &Json) {
    for repeat in content.repeats().into_iter().take(MOST) {
        if repeat.is_equal {
            report.note(format!("{} occurs twice, with the same value", repeat.path));
        } else {
            report.mistakes.add(ConfigError::meaning(repeat.path, TWO_VALUES));
        }
    }
}

fn keys(report: &mut Report, object: &Json, place: &str) {
    let (accepted, unread): (Vec<_>, Vec<_>) =
        ignored(object, place).into_iter().partition(|key| key.is_accepted);
    let extra = unread.len().saturating_sub(MOST);
    for key in unread.into_iter().take(MOST) {
        let hint = key.hint.map_or_else(String::new, |hint| format!(" ({hint})"));
        report.note(format!("ignored: {}{hint}", key.place));
    }
    if 0 < extra {
        report.note(format!("ignored: {extra} more keys"));
    }
    if !accepted.is_empty() {
        let places: Vec<String> = accepted.into_iter().map(|key| key.place).collect();
        report.note(format!("without effect here: {}", places.join(", ")));
    }
}

/// Notes texts of subnets whose address is not the first one: an `exclude` that covers more than
/// the one address in it, and a range that begins earlier.
fn host_bits(report: &mut Report, ipam: &Json) {
    let mut notes = Vec::new();
    for_each_range(ipam, &mut |entry, place| {
        let bounded =
            ["range_start", "rangeStart"].iter().any(|key| entry.find_in_any_case(key).is_some());
        for key in ["range", "subnet"] {
            if let Some((_, text, subnet)) =
                with_host_bits(entry.find_in_any_case(key)).filter(|_| !bounded)
            {
                notes.push(format!(
                    "{place}.{key}: {text} means the subnet {subnet}, with the addresses {}; range_start sets the first address",
                    subnet.usable()
                ));
            }
        }
        let Some(Json::Array(excludes)) = entry.find_in_any_case("exclude") else {
            return;
        };
        for (at, item) in excludes.iter().enumerate().take(1000) {
            if let Some((address, text, subnet)) = with_host_bits(Some(item)) {
                let bits = subnet.family().bits();
                notes.push(format!(
                    "{place}.exclude[{at}]: {text} excludes {}; for one address write {address}/{bits}",
                    subnet.whole()
                ));
            }
        }
    });
    report.notes.extend(notes.into_iter().take(MOST));
}

/// Calls `each` for `ipam` and for every entry of `ranges` and `ipRanges`, with their places.
fn for_each_range<'j>(ipam: &'j Json, each: &mut dyn FnMut(&'j Json, &str)) {
    each(ipam, "ipam");
    for key in ["ranges", "ipRanges"] {
        let Some(Json::Array(items)) = ipam.find_in_any_case(key) else {
            continue;
        };
        for (at, item) in items.iter().enumerate() {
            match item {
                Json::Array(ranges) => {
                    for (inner, item) in ranges.iter().enumerate() {
                        each(item, &format!("ipam.{key}[{at}][{inner}]"));
                    }
                }
                item => each(item, &format!("ipam.{key}[{at}]")),
            }
        }
    }
}

/// Returns address, text and subnet of a CIDR whose address is not the first of the subnet.
fn with_host_bits(value: Option<&Json>) -> Option<(IpAddr, String, Subnet)> {
    let text = value?.as_str()?;
    let (address, length) = parse_prefixed(text).ok()?;
    let subnet = Subnet::new(address, length).ok()?;
    (subnet.network() != address).then(|| (address, excerpt(text).replace('"', ""), subnet))
}

/// Notes keys of the flat file that have no effect because the network has its own addresses.
fn unused_of_flat_file(report: &mut Report, case: &Case<'_>) {
    let Some(flat) = case.flat else {
        return;
    };
    let unused = flat.has(ADDRESS_KEYS);
    if !unused.is_empty() {
        report.note(format!(
            "not used, because the network has its own addresses: {} of the flat file {}",
            unused.join(", "),
            flat.path().display()
        ));
    }
}

/// Reports range sets without a usable address: no ADD can succeed. A single empty range of a set
/// with another one is only noted.
fn empty_ranges(report: &mut Report, case: &Case<'_>) {
    let places = match case.pool {
        Some(pool) => vec![format!("pool {}", pool.name); case.network.sets.len()],
        None => set_places(own_ipam(case)),
    };
    let is_empty = |set: &RangeSet| set.ranges.iter().all(|range| range.candidates().is_empty());
    for (at, set) in case.network.sets.iter().enumerate() {
        if is_empty(set) {
            let place = places.get(at).cloned().unwrap_or_else(|| "ipam (flat file)".to_owned());
            let ranges: Vec<String> =
                set.ranges.iter().take(MOST).map(|range| range.bounds.to_string()).collect();
            let reason = format!(
                "expected an address that may be given out, but all are excluded or gateways: {}",
                ranges.join(", ")
            );
            report.mistakes.add(ConfigError::meaning(place, reason));
            continue;
        }
        let empty = set.ranges.iter().filter(|range| range.candidates().is_empty());
        for range in empty.take(MOST) {
            report.note(format!(
                "no usable address in {}: every address is excluded or a gateway",
                range.bounds
            ));
        }
    }
}

/// Returns the places of the range sets of a network, in the order of the result.
fn set_places(ipam: Option<&Json>) -> Vec<String> {
    let Some(ipam) = ipam else {
        return Vec::new();
    };
    let mut places: Vec<String> = ["range", "subnet"]
        .iter()
        .filter(|key| ipam.find_in_any_case(key).is_some_and(|value| value.as_str() != Some("")))
        .map(|key| format!("ipam.{key}"))
        .collect();
    for key in ["ranges", "ipRanges"] {
        if let Some(Json::Array(items)) = ipam.find_in_any_case(key) {
            places.extend((0..items.len()).map(|at| format!("ipam.{key}[{at}]")));
        }
    }
    places
}

/// Notes excludes without an effect, and static addresses that one of them covers. An exclude
/// inside the subnet is not reported: many configurations also exclude the broadcast address.
fn vain_excludes(report: &mut Report, case: &Case<'_>) {
    let network = case.network;
    let ranges = || network.ranges();
    let subnets: Blocks = ranges().map(|range| range.subnet.whole()).collect();
    // Another pool of the network may have an address that its own `exclude` names.
    let of_network = network.excludes.iter().copied().filter(|_| case.pool.is_none());
    let of_all = of_network.filter(|range| !subnets.touches(range));
    // In a pool, the gaps between its addresses are excluded, too.
    let own: Vec<(Subnet, Range)> = match case.pool {
        Some(pool) => {
            let all = pool.subnets.iter();
            all.flat_map(|entry| entry.excluded.iter().map(|own| (entry.subnet, own.range)))
                .collect()
        }
        None => {
            let own = |range: &ConfiguredRange| {
                let (subnet, own) = (range.subnet, range.excluded[1].ranges());
                own.map(|own| (subnet, own)).collect::<Vec<_>>()
            };
            ranges().flat_map(own).collect()
        }
    };
    let is_outside =
        |(subnet, excluded): &&(Subnet, Range)| subnet.whole().intersection(excluded).is_none();
    let of_one = own.iter().filter(is_outside).map(|(_, excluded)| *excluded);
    let mut said = HashSet::new();
    for range in of_all.chain(of_one).filter(|range| said.insert(*range)).take(MOST) {
        report.note(format!("exclude is outside every range: {range}"));
    }
    let of_ranges = own.iter().map(|(_, excluded)| *excluded);
    let excluded: Blocks = network.excludes.iter().copied().chain(of_ranges).collect();
    let covered = network.statics.iter().filter(|fixed| excluded.contains(fixed.address));
    for fixed in covered.take(MOST) {
        report.note(format!(
            "static address is assigned although exclude covers it: {}",
            fixed.address
        ));
    }
}
