//! Ranges, gateways and excludes.
//!
//! They may be written as for Whereabouts (`range`, `ipRanges`: one address from each entry) or as
//! for host-local (`subnet`, `ranges`: one address from each set of the outer list, from the first
//! range of the set that has a free one).

use super::address_list::listed;
use super::field::{Field, either};
use super::gateway::{fits, gateway, gateway_of};
use super::main_plugin::MainPlugin;
use super::merge::Merged;
use super::{ConfigError, Mistakes, keys};
use crate::addr::{Blocks, Family, Range, Subnet, number, parse_address, parse_prefixed};
use crate::ipam::{ConfiguredRange, RangeSet};
use crate::json::Json;
use std::net::IpAddr;
use std::rc::Rc;

type Result<T> = std::result::Result<T, Mistakes>;

/// A range before gateways are assigned, and its place.
struct Raw {
    path: String,
    subnet: Subnet,
    range: Range,
    /// The addresses of its own `exclude`, merged.
    excluded: Blocks,
    excludes: usize,
    gateway: Option<IpAddr>,
}

/// The ranges of a configuration.
#[derive(Default)]
pub(super) struct Ranges {
    /// The range sets, in the order of the result.
    pub(super) sets: Vec<RangeSet>,
    /// The entries of the top-level `exclude`, as written, without those of a flat file below.
    pub(super) excludes: Vec<Range>,
    /// The addresses of the top-level `exclude` of all levels, merged.
    pub(super) barred: Rc<Blocks>,
    /// The number of entries of all `exclude` lists.
    pub(super) excluded: usize,
}

/// Parses all range sets of the configuration. `gateways` are the gateways of its static addresses.
/// None of `reserved` is given dynamically.
pub(super) fn parse(
    merged: &Merged<'_>,
    gateways: &[IpAddr],
    reserved: &Rc<Blocks>,
) -> Result<Ranges> {
    let mut mistakes = Mistakes::default();
    let mut sets: Vec<Vec<Raw>> = Vec::new();
    let runtime = merged
        .whole
        .find("runtimeConfig")
        .and_then(|run| Field::new("runtimeConfig", run).find("ipRanges"));
    sets.extend(
        mistakes
            .note(runtime.map_or(Ok(Vec::new()), |field| parse_nested(&field)))
            .into_iter()
            .flatten(),
    );
    let top = TopLevel { merged };
    sets.extend(mistakes.note(top.range()).flatten().map(|raw| vec![raw]));
    sets.extend(
        mistakes
            .note(merged.field("ranges").map_or(Ok(Vec::new()), |field| parse_nested(&field)))
            .into_iter()
            .flatten(),
    );
    sets.extend(
        mistakes
            .note(merged.field("ipRanges").map_or(Ok(Vec::new()), |field| parse_flat(&field)))
            .into_iter()
            .flatten(),
    );
    let (mut excludes, mut of_node) = (Vec::new(), Vec::new());
    for (field, is_of_ranges) in merged.excludes() {
        let listed = mistakes.note(listed(&field)).unwrap_or_default();
        if is_of_ranges { &mut excludes } else { &mut of_node }.extend(listed);
    }
    // The next steps need all ranges to be valid.
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    if let Some(field) = merged.field("gateway") {
        apply_gateway(&field, &mut sets)?;
    }
    let main = MainPlugin::of(merged.whole);
    for raw in sets.iter_mut().flatten().filter(|raw| raw.gateway.is_none()) {
        raw.gateway = main.gateway_of(&raw.subnet);
    }
    check_overlaps(&sets)?;
    // A gateway is never given out, no matter which range names it. All ranges share one set of
    // gateways. With a set per range, the memory would grow with ranges times gateways.
    let gateways =
        sets.iter().flatten().filter_map(|raw| raw.gateway).chain(gateways.iter().copied());
    let gateways: Rc<Blocks> = Rc::new(gateways.map(Range::single).collect());
    let barred: Rc<Blocks> = Rc::new(excludes.iter().chain(&of_node).copied().collect());
    let excluded = excludes.len()
        + of_node.len()
        + sets.iter().flatten().map(|raw| raw.excludes).sum::<usize>();
    let configured = |raw: Raw| ConfiguredRange {
        subnet: raw.subnet,
        bounds: raw.range,
        excluded: [Rc::clone(&barred), Rc::new(raw.excluded)],
        gateways: Rc::clone(&gateways),
        reserved: Rc::clone(reserved),
        gateway: raw.gateway,
    };
    let sets = sets
        .into_iter()
        .map(|set| RangeSet { ranges: set.into_iter().map(configured).collect() })
        .collect();
    Ok(Ranges { sets, excludes, barred, excluded })
}

/// The range in `range` or `subnet` at the top level of `ipam`, with its bounds.
struct TopLevel<'m, 'a> {
    merged: &'m Merged<'a>,
}

impl TopLevel<'_, '_> {
    fn range(&self) -> Result<Option<Raw>> {
        let start = self.either("range_start", "rangeStart")?;
        let end = self.either("range_end", "rangeEnd")?;
        let (range, implied) = match (self.merged.field("range"), self.merged.field("subnet")) {
            (Some(_), Some(subnet)) => {
                return Err(subnet.clashes("expected either range or subnet, not both").into());
            }
            (Some(range), None) => (range, false),
            (None, Some(subnet)) => (subnet, true),
            (None, None) => {
                return match start.or(end) {
                    Some(bound) => {
                        Err(bound.wrong("expected a range or subnet with this bound").into())
                    }
                    None => Ok(None),
                };
            }
        };
        let mut raw = bounded(&range, start.as_ref(), end.as_ref())?;
        if implied && self.merged.field("gateway").is_none() {
            raw.gateway = implied_gateway(&raw.subnet);
        }
        Ok(Some(raw))
    }

    fn either(&self, snake: &str, camel: &str) -> Result<Option<Field<'_>>> {
        Ok(either(self.merged.field(snake), self.merged.field(camel))?)
    }
}

/// Parses Whereabouts' list of ranges.
fn parse_flat(field: &Field<'_>) -> Result<Vec<Vec<Raw>>> {
    Mistakes::each(field.list()?, |entry| parse_entry(&entry).map(|raw| vec![raw]))
}

/// Parses host-local's list of lists.
fn parse_nested(field: &Field<'_>) -> Result<Vec<Vec<Raw>>> {
    Mistakes::each(field.list()?, |set| -> Result<Vec<Raw>> {
        if let Json::Object(_) = set.value {
            let expected = "expected a list of lists, such as [[{\"subnet\": \"10.0.0.0/24\"}]]";
            return Err(field.wrong(expected).into());
        }
        let raws = Mistakes::each::<_, _, Mistakes>(set.list()?, |entry| parse_entry(&entry))?;
        let Some(first) = raws.first() else {
            return Err(set.wrong("expected at least one range in the set").into());
        };
        let family = first.subnet.family();
        match raws.iter().find(|raw| raw.subnet.family() != family) {
            Some(other) => Err(ConfigError::meaning(
                &other.path,
                format!("expected ranges of one family in one set, found {}", other.subnet),
            )
            .into()),
            None => Ok(raws),
        }
    })
}

fn parse_entry(entry: &Field<'_>) -> Result<Raw> {
    entry.object()?;
    keys::check_range(entry)?;
    let (range, implied) = match (entry.find("range"), entry.find("subnet")) {
        (Some(range), None) => (range, false),
        (None, Some(subnet)) => (subnet, true),
        (Some(_), Some(subnet)) => {
            return Err(subnet.clashes("expected either range or subnet, not both").into());
        }
        (None, None) => return Err(entry.lacks("range or subnet").into()),
    };
    let start = either(entry.find("range_start"), entry.find("rangeStart"))?;
    let end = either(entry.find("range_end"), entry.find("rangeEnd"))?;
    let mut raw = bounded(&range, start.as_ref(), end.as_ref())?;
    if let Some(field) = entry.find("exclude") {
        let excludes = listed(&field)?;
        raw.excludes = excludes.len();
        raw.excluded = excludes.into_iter().collect();
    }
    match entry.find("gateway") {
        Some(field) => raw.gateway = gateway_of(&field, raw.subnet.family())?,
        None if implied => raw.gateway = implied_gateway(&raw.subnet),
        None => {}
    }
    Ok(raw)
}

/// Returns the gateway that host-local assumes: the first usable address of the subnet. Returns
/// `None` for a subnet in which every address is usable.
fn implied_gateway(subnet: &Subnet) -> Option<IpAddr> {
    (subnet.usable() != subnet.whole()).then(|| subnet.usable().first_address())
}

/// Parses a subnet with its bounds. `start-end/len` takes precedence over both bounds.
fn bounded(range: &Field<'_>, start: Option<&Field<'_>>, end: Option<&Field<'_>>) -> Result<Raw> {
    let text = range.text()?;
    let (subnet, first, last) = match text.split_once('-') {
        // A word with a hyphen is no range.
        Some((first, rest)) if rest.contains('/') || parse_address(first).is_ok() => {
            if !rest.contains('/') {
                let form = format!("expected the form first-last/length, such as {text}/24");
                return Err(range.wrong(&form).into());
            }
            let first = range.parsed(|_| parse_address(first))?;
            let (last, length) = range.parsed(|_| parse_prefixed(rest))?;
            let subnet = range.parsed(|_| Subnet::new(last, length))?;
            if Family::of(first) != Family::of(last) || !subnet.contains(first) {
                return Err(range
                    .wrong(&format!("expected a first address inside subnet {subnet}"))
                    .into());
            }
            (subnet, first, last)
        }
        _ => {
            let subnet = range.parsed(Subnet::parse)?;
            let bound = |field: Option<&Field<'_>>, otherwise| match field {
                None => Ok(otherwise),
                Some(field) if field.value.as_str().is_some_and(|text| text.contains('/')) => {
                    let expected = "expected an address without a prefix length";
                    Err(Mistakes::from(field.wrong(expected)))
                }
                Some(field) => match field.address()? {
                    bound if subnet.contains(bound) => Ok(bound),
                    _ => Err(Mistakes::from(
                        field.wrong(&format!("expected an address inside subnet {subnet}")),
                    )),
                },
            };
            (
                subnet,
                bound(start, subnet.whole().first_address())?,
                bound(end, subnet.whole().last_address())?,
            )
        }
    };
    let ordered = Range::new(first, last).ok_or_else(|| {
        range.wrong(&format!(
            "expected a first address, {first}, that is not above the last, {last}"
        ))
    })?;
    check_unicast(range, &subnet, &ordered)?;
    // A bound on the network or broadcast address is moved inwards.
    let usable = subnet.usable();
    let clamped = usable
        .intersection(&ordered)
        .ok_or_else(|| range.wrong("expected a range with at least one usable address"))?;
    Ok(Raw {
        path: range.path.clone(),
        subnet,
        range: clamped,
        excluded: Blocks::default(),
        excludes: 0,
        gateway: None,
    })
}

/// Refuses addresses that no interface can hold. For IPv4 these are "this network", loopback,
/// multicast and limited broadcast. For IPv6 these are the unspecified address, loopback,
/// multicast, and addresses that map or embed IPv4 (RFC 6890, RFC 4291).
pub(super) fn check_unicast(field: &Field<'_>, subnet: &Subnet, range: &Range) -> Result<()> {
    const NEVER: &[&str] =
        &["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "::/127", "::ffff:0:0/96", "ff00::/8"];
    let clash = NEVER.iter().find(|never| {
        let mut parts = never.split('/');
        let address = parts.next().and_then(|text| text.parse::<IpAddr>().ok());
        let length = parts.next().and_then(|text| text.parse().ok());
        address
            .zip(length)
            .and_then(|(address, length)| Subnet::new(address, length).ok())
            .is_some_and(|never| {
                never.whole().intersection(range).is_some_and(|common| {
                    // ::/64 and 0.0.0.0/0 begin with an address that is not usable and is removed
                    // below.
                    common.first_address() != subnet.network()
                        || common.last_address() != subnet.network()
                        || subnet.usable() == subnet.whole()
                })
            })
    });
    if let Some(never) = clash {
        return Err(field
            .wrong(&format!(
                "expected unicast addresses that an interface can have, so none of {never}"
            ))
            .into());
    }
    let broadcast = IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    if subnet.contains(broadcast) && 8 < subnet.length() {
        return Err(field
            .wrong("expected a subnet without the limited broadcast address 255.255.255.255")
            .into());
    }
    Ok(())
}

/// Assigns the top-level gateway to the ranges whose subnet contains it, or if there is none, to
/// all ranges of its family. A range's own gateway takes precedence.
fn apply_gateway(field: &Field<'_>, sets: &mut [Vec<Raw>]) -> Result<()> {
    let Some(gateway) = gateway(field)?.filter(|_| !sets.is_empty()) else {
        return Ok(());
    };
    let family = Family::of(gateway);
    let is_inside = sets.iter().flatten().any(|raw| fits(&raw.subnet, gateway));
    let is_served = |raw: &&mut Raw| match is_inside {
        true => fits(&raw.subnet, gateway),
        false => raw.subnet.family() == family,
    };
    let mut served = false;
    for raw in sets.iter_mut().flatten().filter(is_served) {
        served = true;
        raw.gateway.get_or_insert(gateway);
    }
    match served {
        true => Ok(()),
        false => Err(field.wrong("expected a gateway of the family of a range").into()),
    }
}

/// Refuses ranges that overlap: an ADD that takes an address from each could take the same address
/// twice.
fn check_overlaps(sets: &[Vec<Raw>]) -> Result<()> {
    let mut all: Vec<&Raw> = sets.iter().flatten().collect();
    all.sort_by_key(|raw| (raw.subnet.family(), number(raw.range.first_address())));
    for pair in all.windows(2) {
        if pair[0].range.intersection(&pair[1].range).is_some() {
            return Err(ConfigError::meaning(
                &pair[1].path,
                format!(
                    "expected ranges that do not overlap, but {} has addresses of {}: {}",
                    pair[0].path, pair[0].range, pair[1].range
                ),
            )
            .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    /// What the ranges of `ipam` give: one line per set, each range with its addresses and gateway;
    /// or the mistakes.
    fn check(ipam: &str, expected: &Expect) {
        let whole = Json::parse(format!("{{\"ipam\":{ipam}}}").as_bytes()).unwrap();
        let merged = Merged::new(&whole, None).unwrap();
        let mut text = String::new();
        match parse(&merged, &[], &Rc::default()) {
            Ok(ranges) => {
                for set in ranges.sets {
                    let shown = set.ranges.iter().map(|range| {
                        let given: Vec<String> =
                            range.candidates().ranges().map(|part| part.to_string()).collect();
                        let gateway = range
                            .gateway
                            .map_or_else(String::new, |gateway| format!(" via {gateway}"));
                        let given =
                            if given.is_empty() { "nothing".to_owned() } else { given.join(" ") };
                        format!("{given} of {}{gateway}", range.subnet)
                    });
                    writeln!(text, "{}", shown.collect::<Vec<_>>().join(", else ")).unwrap();
                }
            }
            Err(mistakes) => {
                mistakes.first().iter().for_each(|mistake| writeln!(text, "{mistake}").unwrap())
            }
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn a_word_with_a_hyphen_is_no_range() {
        check(
            r#"{"subnet":"node-2"}"#,
            &expect![[r#"
            ipam.subnet: expected an address with a prefix length, such as 10.0.0.0/24, found "node-2"
        "#]],
        );
        check(
            r#"{"range":"10.0.0.10-10.0.0.20"}"#,
            &expect![[r#"
            ipam.range: expected the form first-last/length, such as 10.0.0.10-10.0.0.20/24, found "10.0.0.10-10.0.0.20"
        "#]],
        );
    }

    #[test]
    fn one_range() {
        check(
            r#"{"range":"10.1.2.0/29"}"#,
            &expect![[r#"
            10.1.2.1-10.1.2.6 of 10.1.2.0/29
        "#]],
        );
        check(
            r#"{"range":"10.1.2.3-10.1.2.5/24"}"#,
            &expect![[r#"
            10.1.2.3-10.1.2.5 of 10.1.2.0/24
        "#]],
        );
        check(
            r#"{"range":"10.1.2.0/24","range_start":"10.1.2.9","range_end":"10.1.2.12"}"#,
            &expect![[r#"
            10.1.2.9-10.1.2.12 of 10.1.2.0/24
        "#]],
        );
        check(
            r#"{"subnet":"10.1.2.0/29","rangeStart":"10.1.2.4","gateway":"10.1.2.1"}"#,
            &expect![[r#"
            10.1.2.4-10.1.2.6 of 10.1.2.0/29 via 10.1.2.1
        "#]],
        );
        check(
            r#"{"range":"2001:db8::/126"}"#,
            &expect![[r#"
            2001:db8::1-2001:db8::2 of 2001:db8::/126
        "#]],
        );
    }

    /// RFC 3021 and RFC 6164: both addresses of the smallest subnets are usable.
    #[test]
    fn the_smallest_subnets() {
        for (range, expected) in [
            (
                "10.1.2.0/31",
                expect![[r#"
                10.1.2.0-10.1.2.1 of 10.1.2.0/31
            "#]],
            ),
            (
                "10.1.2.7/32",
                expect![[r#"
                10.1.2.7-10.1.2.7 of 10.1.2.7/32
            "#]],
            ),
            (
                "2001:db8::/127",
                expect![[r#"
                2001:db8::-2001:db8::1 of 2001:db8::/127
            "#]],
            ),
            (
                "2001:db8::7/128",
                expect![[r#"
                2001:db8::7-2001:db8::7 of 2001:db8::7/128
            "#]],
            ),
        ] {
            check(&format!(r#"{{"range":"{range}"}}"#), &expected);
        }
    }

    #[test]
    fn what_is_excluded_and_gateways_are_not_given() {
        check(
            r#"{"range":"10.1.2.0/28","exclude":["10.1.2.4/30","10.1.2.9"]}"#,
            &expect![[r#"
            10.1.2.1-10.1.2.3 10.1.2.8-10.1.2.8 10.1.2.10-10.1.2.14 of 10.1.2.0/28
        "#]],
        );
        check(
            r#"{"range":"10.1.2.0/28","gateway":"10.1.2.1","exclude":["10.1.2.2-10.1.2.6"]}"#,
            &expect![[r#"
                10.1.2.7-10.1.2.14 of 10.1.2.0/28 via 10.1.2.1
            "#]],
        );
        check(
            r#"{"range":"10.1.2.8-10.1.2.14/28","exclude":["10.1.2.8/29"]}"#,
            &expect![[r#"
                nothing of 10.1.2.0/28
            "#]],
        );
    }

    #[test]
    fn several_sets() {
        check(
            r#"{"ipRanges":[{"range":"10.1.2.0/29"},{"range":"2001:db8::/125"}]}"#,
            &expect![[r#"
            10.1.2.1-10.1.2.6 of 10.1.2.0/29
            2001:db8::1-2001:db8::6 of 2001:db8::/125
        "#]],
        );
        check(
            r#"{"ranges":[[{"subnet":"10.1.2.0/30"},{"subnet":"10.1.3.0/30"}],[{"subnet":"2001:db8::/126"}]]}"#,
            &expect![[r#"
            10.1.2.2-10.1.2.2 of 10.1.2.0/30 via 10.1.2.1, else 10.1.3.2-10.1.3.2 of 10.1.3.0/30 via 10.1.3.1
            2001:db8::2-2001:db8::2 of 2001:db8::/126 via 2001:db8::1
        "#]],
        );
    }

    #[test]
    fn mistakes() {
        for (ipam, expected) in [
            (
                r#"{"range":"10.1.2.0/33"}"#,
                expect![[r#"
                    ipam.range: expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6), found "10.1.2.0/33"
                "#]],
            ),
            (
                r#"{"range":"10.1.2.9-10.1.2.3/24"}"#,
                expect![[r#"
                    ipam.range: expected a first address, 10.1.2.9, that is not above the last, 10.1.2.3, found "10.1.2.9-10.1.2.3/24"
                "#]],
            ),
            (
                r#"{"range":"10.1.2.0/24","range_start":"10.1.3.1"}"#,
                expect![[r#"
                    ipam.range_start: expected an address inside subnet 10.1.2.0/24, found "10.1.3.1"
                "#]],
            ),
            (
                r#"{"range":"10.1.2.0/24","exclude":["10.1.2.0/24x"]}"#,
                expect![[r#"
                    ipam.exclude[0]: expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6), found "10.1.2.0/24x"
                "#]],
            ),
            (
                r#"{"range":"10.1.2.0/24","gateway":"2001:db8::1"}"#,
                expect![[r#"
                    ipam.gateway: expected a gateway of the family of a range, found "2001:db8::1"
                "#]],
            ),
            (
                r#"{"ranges":[[{"subnet":"10.1.2.0/24"},{"subnet":"2001:db8::/64"}]]}"#,
                expect![[r#"
                    ipam.ranges[0][1].subnet: expected ranges of one family in one set, found 2001:db8::/64
                "#]],
            ),
            (
                r#"{"ipRanges":[{"range":"10.1.2.0/24"},{"range":"10.1.2.128/25"}]}"#,
                expect![[r#"
                ipam.ipRanges[1].range: expected ranges that do not overlap, but ipam.ipRanges[0].range has addresses of 10.1.2.1-10.1.2.254: 10.1.2.129-10.1.2.254
            "#]],
            ),
        ] {
            check(ipam, &expected);
        }
    }
}
