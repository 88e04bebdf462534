//! Pools: named sets of addresses that several networks share (`IPPool` of hereabouts.dev/v1alpha1).
//!
//! A network that names a pool has no ranges of its own. An address is unique in the scope of the
//! pool, so networks with ranges in that scope, and other pools of it, may overlap with the pool.

mod exclusion;
mod slices;

use super::address_list::listed;
use super::field::Field;
use super::gateway::gateway_of;
use super::keys::check_known;
use super::main_plugin::MainPlugin;
use super::pool_kind::{API_VERSION, KIND};
use super::{ConfigError, Mistakes, documents, limits, reservations, routes};
use crate::addr::{AddrSet, Blocks, Range, Subnet, number};
use crate::config::{Families, Route};
use crate::ipam::{ConfiguredRange, RangeSet, Reservation, Scope};
use crate::json::{Json, TWO_VALUES};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

pub use exclusion::Exclusion;
use exclusion::{MOST_BLOCKS, buggy, exclusions};
pub(super) use slices::MOST_PER_NODE;
pub use slices::PoolSlices;

type Result<T> = std::result::Result<T, Mistakes>;

const KEYS: &[&str] = &[
    "subnets",
    "ranges",
    "slices",
    "scope",
    "namespaces",
    "nodeSelector",
    "reservations",
    "avoidBuggyAddresses",
    "routes",
    "ipFamilyPolicy",
    "ipFamilies",
];
const SUBNET_KEYS: &[&str] = &["subnet", "gateway", "addresses", "exclude"];

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The name, a DNS subdomain (RFC 1123).
    pub name: String,
    /// The UID of the object, if the API server has it.
    pub uid: Option<String>,
    /// Whether the object is being deleted. Then nothing is given from it.
    pub is_ending: bool,
    /// The scope of its addresses.
    pub scope: Scope,
    /// The subnets. No two of them overlap.
    pub subnets: Vec<PoolSubnet>,
    /// How the subnets are cut into slices, if nodes own slices of them.
    pub slices: Option<PoolSlices>,
    /// The namespaces whose pods may use the pool. If there is none, all may.
    pub namespaces: Vec<String>,
    /// The labels of the nodes on which the pool may be used. If there is none, it may be used on
    /// every node.
    pub node_labels: BTreeMap<String, String>,
    /// The addresses for certain pods.
    pub reservations: Vec<Reservation>,
    /// The routes of networks that have none of their own.
    pub routes: Vec<Route>,
    /// The families that networks give, unless they say it themselves.
    pub families: Families,
}

/// A subnet of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSubnet {
    /// The subnet. Its prefix length is a part of the result.
    pub subnet: Subnet,
    /// The gateway of the result.
    pub gateway: Option<IpAddr>,
    /// The addresses that belong to the pool, whether they are excluded or not.
    pub addresses: Blocks,
    /// The addresses of them that no pod gets.
    pub excluded: Vec<Exclusion>,
}

impl Pool {
    /// Reads a file that holds the pool of this name and nothing else.
    ///
    /// # Errors
    /// Returns every mistake, with `place` and its JSON path.
    pub fn read(name: &str, place: &str, bytes: &[u8]) -> Result<Self> {
        let document = documents::only(bytes)
            .map_err(|error| ConfigError { place: place.to_owned(), ..error })?;
        let pool = Self::parse(&document, place)?;
        if pool.name != name {
            let reason = format!("expected the name of the file, {name}, found {}", pool.name);
            return Err(ConfigError::meaning(format!("{place}: metadata.name"), reason).into());
        }
        Ok(pool)
    }

    /// Parses the document of a pool.
    ///
    /// # Errors
    /// Returns every mistake, with its JSON path after `place`.
    pub fn parse(document: &Json, place: &str) -> Result<Self> {
        let whole = Field::new(place, document);
        if let Some(path) = document.conflict() {
            return Err(ConfigError::meaning(whole.path_of(&path), TWO_VALUES).into());
        }
        expect(&whole, "apiVersion", API_VERSION)?;
        expect(&whole, "kind", KIND)?;
        let name = name(&whole)?;
        let Some(spec) = whole.find("spec") else {
            return Err(whole.lacks("spec").into());
        };
        let mut mistakes = Mistakes::default();
        mistakes.note(check_known(spec.object()?, KEYS));
        let avoid = spec.find("avoidBuggyAddresses").map_or(Ok(false), |field| field.boolean());
        let avoid = mistakes.note(avoid).unwrap_or_default();
        let (slices, subnets) = match mistakes.note(slices::parse(&spec, &name, avoid)) {
            Some(Some((slices, subnets))) => (Some(slices), subnets),
            Some(None) => (None, mistakes.note(subnets(&spec, avoid)).unwrap_or_default()),
            None => (None, Vec::new()),
        };
        let scope = match slices {
            Some(_) => Scope::of_slices(&name),
            None => mistakes.note(scope(&spec)).unwrap_or_default(),
        };
        let namespaces = spec.find("namespaces").map_or(Ok(Vec::new()), |field| field.texts());
        let namespaces = mistakes.note(namespaces).unwrap_or_default();
        let node_labels = mistakes.note(node_labels(&spec)).unwrap_or_default();
        let routes = mistakes.note(routes::of(spec.find("routes"))).unwrap_or_default();
        let reservations = spec.find("reservations").map_or(Ok(Vec::new()), |field| {
            let reservations = reservations::all(&field)?;
            check_reservations(&field, &subnets, &reservations).none_or(reservations)
        });
        let reservations = mistakes.note(reservations).unwrap_or_default();
        let families = Families::parse(spec.find("ipFamilyPolicy"), spec.find("ipFamilies"));
        let families = mistakes.note(families).unwrap_or_default();
        let metadata = whole.find("metadata");
        let of_object = |key: &str| metadata.as_ref().and_then(|metadata| metadata.find(key));
        let uid = of_object("uid").and_then(|uid| uid.value.as_str().map(str::to_owned));
        let pool = Self {
            name,
            uid,
            is_ending: of_object("deletionTimestamp").is_some(),
            scope,
            subnets,
            slices,
            namespaces,
            node_labels,
            reservations,
            routes,
            families,
        };
        mistakes.none_or(pool)
    }

    /// Returns the range sets of a network that names this pool: one for each family, in the order
    /// in which the families occur first.
    #[must_use]
    pub(super) fn range_sets(
        &self,
        main: MainPlugin,
        barred: &Rc<Blocks>,
        gateways: &[IpAddr],
        reserved: &Rc<Blocks>,
    ) -> Vec<RangeSet> {
        let gateway =
            |subnet: &PoolSubnet| subnet.gateway.or_else(|| main.gateway_of(&subnet.subnet));
        let gateways = gateways.iter().copied().chain(self.subnets.iter().filter_map(gateway));
        let gateways: Rc<Blocks> = Rc::new(gateways.map(Range::single).collect());
        let mut sets: Vec<RangeSet> = Vec::new();
        for subnet in &self.subnets {
            let Some((bounds, gaps)) = subnet.bounds() else {
                continue;
            };
            let range = ConfiguredRange {
                subnet: subnet.subnet,
                bounds,
                excluded: [Rc::clone(barred), Rc::new(gaps)],
                gateways: Rc::clone(&gateways),
                reserved: Rc::clone(reserved),
                gateway: gateway(subnet),
            };
            let is_of_family = |set: &&mut RangeSet| {
                set.ranges.iter().all(|other| other.subnet.family() == subnet.subnet.family())
            };
            match sets.iter_mut().find(is_of_family) {
                Some(set) => set.ranges.push(range),
                None => sets.push(RangeSet { ranges: vec![range] }),
            }
        }
        sets
    }

    /// Returns a label that a node needs for the pool and does not have.
    #[must_use]
    pub fn unmet_label(&self, node: &BTreeMap<String, String>) -> Option<(&str, &str)> {
        let is_unmet = |(key, value): &(&String, &String)| node.get(*key) != Some(*value);
        let unmet = self.node_labels.iter().find(is_unmet);
        unmet.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns whether the pods of a namespace may use the pool.
    #[must_use]
    pub fn is_for(&self, namespace: Option<&str>) -> bool {
        let named = |namespace: &str| self.namespaces.iter().any(|other| other == namespace);
        self.namespaces.is_empty() || namespace.is_some_and(named)
    }
}

impl PoolSubnet {
    /// Returns the range from the first to the last address, and what is not given within it.
    fn bounds(&self) -> Option<(Range, Blocks)> {
        let first = self.addresses.ranges().next()?.first_address();
        let last = self.addresses.ranges().last()?.last_address();
        let bounds = Range::new(first, last)?;
        let gaps = AddrSet::outside(&bounds, &[&self.addresses]);
        let excluded = self.excluded.iter().map(|exclusion| exclusion.range);
        Some((bounds, gaps.ranges().chain(excluded).collect()))
    }
}

fn expect(whole: &Field<'_>, key: &str, value: &str) -> std::result::Result<(), ConfigError> {
    match whole.find(key) {
        Some(field) if field.value.as_str() == Some(value) => Ok(()),
        Some(field) => Err(field.wrong(&format!("expected {value}"))),
        None => Err(whole.lacks(key)),
    }
}

/// Parses the name of the object: a DNS subdomain (RFC 1123), as the API server enforces it.
fn name(whole: &Field<'_>) -> std::result::Result<String, ConfigError> {
    let metadata = whole.find("metadata").ok_or_else(|| whole.lacks("metadata"))?;
    let field = metadata.find("name").ok_or_else(|| metadata.lacks("name"))?;
    let text = field.text()?;
    match is_subdomain(text) {
        true => Ok(text.to_owned()),
        false => Err(field.wrong(
            "expected at most 253 lower case letters, digits, \"-\" and \".\", with a letter or digit at both ends of each part",
        )),
    }
}

/// Returns whether a text is a DNS subdomain (RFC 1123).
pub(super) fn is_subdomain(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.into_iter().all(|end| end.is_some_and(|byte| is_inner(*byte)))
            && bytes.iter().all(|byte| is_inner(*byte) || *byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn scope(spec: &Field<'_>) -> std::result::Result<Scope, ConfigError> {
    match spec.find("scope") {
        None => Ok(Scope::default()),
        Some(field) => {
            let scope = Scope::parse(field.text()?)
                .map_err(|_| field.wrong("expected a name of at most 253 bytes"))?;
            limits::check_scope(&field, &scope).map(|()| scope)
        }
    }
}

fn node_labels(spec: &Field<'_>) -> Result<BTreeMap<String, String>> {
    let Some(selector) = spec.find("nodeSelector") else {
        return Ok(BTreeMap::new());
    };
    check_known(selector.object()?, &["matchLabels"])?;
    selector.find("matchLabels").map_or(Ok(BTreeMap::new()), |labels| self::labels(&labels))
}

/// Parses labels: texts by name.
pub(super) fn labels(labels: &Field<'_>) -> Result<BTreeMap<String, String>> {
    let entries = labels.object()?.value.entries();
    let pairs = Mistakes::each(entries, |(key, value)| -> std::result::Result<_, ConfigError> {
        let field = labels.inner(labels.path_of(key), value);
        Ok((key.clone(), field.text()?.to_owned()))
    })?;
    Ok(pairs.into_iter().collect())
}

fn subnets(spec: &Field<'_>, avoid_buggy: bool) -> Result<Vec<PoolSubnet>> {
    let Some(list) = spec.find("subnets") else {
        return Err(spec.lacks("subnets").into());
    };
    let mut left = avoid_buggy.then_some(MOST_BLOCKS);
    let subnets: Vec<PoolSubnet> =
        Mistakes::each::<_, _, Mistakes>(list.list()?, |entry| subnet(&entry, left.as_mut()))?;
    if subnets.is_empty() {
        return Err(list.wrong("expected at least one subnet").into());
    }
    check_disjoint(&list, &subnets)?;
    Ok(subnets)
}

fn check_disjoint(
    list: &Field<'_>,
    subnets: &[PoolSubnet],
) -> std::result::Result<(), ConfigError> {
    let mut order: Vec<&PoolSubnet> = subnets.iter().collect();
    order.sort_by_key(|entry| (entry.subnet.family(), number(entry.subnet.network())));
    for pair in order.windows(2) {
        if pair[0].subnet.whole().intersection(&pair[1].subnet.whole()).is_some() {
            let reason = format!(
                "expected subnets that do not overlap, found {} and {}",
                pair[0].subnet, pair[1].subnet
            );
            return Err(ConfigError::meaning(&list.path, reason));
        }
    }
    Ok(())
}

/// Parses a subnet. `blocks_left` is there if addresses that end in .0 or .255 are to be avoided.
fn subnet(entry: &Field<'_>, blocks_left: Option<&mut u128>) -> Result<PoolSubnet> {
    check_known(entry.object()?, SUBNET_KEYS)?;
    let field = entry.find("subnet").ok_or_else(|| entry.lacks("subnet"))?;
    let subnet = field.parsed(Subnet::parse)?;
    super::ranges::check_unicast(&field, &subnet, &subnet.whole())?;
    let gateway = match entry.find("gateway") {
        Some(field) => gateway_of(&field, subnet.family())?,
        None => None,
    };
    let usable = subnet.usable();
    let addresses = match entry.find("addresses") {
        None => [usable].into_iter().collect(),
        Some(list) => {
            let listed = listed(&list)?;
            let outside =
                listed.iter().find(|range| subnet.whole().intersection(range) != Some(**range));
            if let Some(outside) = outside {
                let reason = format!("expected addresses inside {subnet}, found {outside}");
                return Err(ConfigError::meaning(&list.path, reason).into());
            }
            // The network and broadcast addresses belong to no interface.
            listed.iter().filter_map(|range| usable.intersection(range)).collect()
        }
    };
    let mut excluded = match entry.find("exclude") {
        None => Vec::new(),
        Some(list) => Mistakes::each::<_, _, Mistakes>(list.list()?, |entry| exclusions(&entry))?
            .into_iter()
            .flatten()
            .collect(),
    };
    if let Some(left) = blocks_left {
        excluded.extend(buggy(&field, &subnet, left)?);
    }
    Ok(PoolSubnet { subnet, gateway, addresses, excluded })
}

/// Returns the mistakes of reservations that the subnets cannot serve.
fn check_reservations(
    field: &Field<'_>,
    subnets: &[PoolSubnet],
    reservations: &[Reservation],
) -> Mistakes {
    let usable: Blocks = subnets.iter().map(|subnet| subnet.subnet.usable()).collect();
    let gateways = subnets.iter().filter_map(|subnet| subnet.gateway).map(Range::single);
    let excluded = subnets.iter().flat_map(|subnet| &subnet.excluded).map(|entry| entry.range);
    let barred: Blocks = gateways.chain(excluded).collect();
    reservations::conflicts(&field.path, reservations, &usable, &barred)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    fn parse(spec: &str) -> Result<Pool> {
        let text = format!(
            r#"{{"apiVersion":"{API_VERSION}","kind":"{KIND}","metadata":{{"name":"blue"}},"spec":{spec}}}"#
        );
        Pool::parse(&Json::parse(text.as_bytes()).unwrap(), "")
    }

    /// What the pool gives, or its mistakes.
    fn check(spec: &str, expected: &Expect) {
        let mut text = String::new();
        match parse(spec) {
            Ok(pool) => {
                for set in pool.range_sets(MainPlugin::Other, &Rc::default(), &[], &Rc::default()) {
                    for range in &set.ranges {
                        let candidates: Vec<String> = range
                            .candidates()
                            .ranges()
                            .take(4)
                            .map(|part| part.to_string())
                            .collect();
                        let gateway =
                            range.gateway.map_or("-".to_owned(), |gateway| gateway.to_string());
                        writeln!(text, "{} via {gateway}: {}", range.subnet, candidates.join(" "))
                            .unwrap();
                    }
                    writeln!(text, ".").unwrap();
                }
            }
            Err(mistakes) => {
                mistakes.first().iter().for_each(|mistake| writeln!(text, "{mistake}").unwrap());
            }
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn listed_addresses_are_given_and_gaps_gateways_and_exclusions_are_not() {
        check(
            r#"{"subnets":[
              {"subnet":"10.10.10.0/24","gateway":"10.10.10.1","addresses":["10.10.10.0-10.10.10.100","10.10.10.102"],
               "exclude":["10.10.10.3",{"addresses":["10.10.10.7"],"reason":"a printer"}]},
              {"subnet":"fd00::/120","addresses":["fd00::8/125"]},
              {"subnet":"10.11.0.0/30"}]}"#,
            &expect![[r#"
                10.10.10.0/24 via 10.10.10.1: 10.10.10.2-10.10.10.2 10.10.10.4-10.10.10.6 10.10.10.8-10.10.10.100 10.10.10.102-10.10.10.102
                10.11.0.0/30 via -: 10.11.0.1-10.11.0.2
                .
                fd00::/120 via -: fd00::8-fd00::f
                .
            "#]],
        );
    }

    #[test]
    fn addresses_that_end_in_0_or_255_can_be_left_out() {
        check(
            r#"{"avoidBuggyAddresses":true,"subnets":[{"subnet":"10.0.0.0/23"}]}"#,
            &expect![[r#"
                10.0.0.0/23 via -: 10.0.0.1-10.0.0.254 10.0.1.1-10.0.1.254
                .
            "#]],
        );
        check(
            r#"{"avoidBuggyAddresses":true,"subnets":[{"subnet":"10.0.0.0/12"},{"subnet":"10.64.0.0/24"},{"subnet":"fd00::/64"}]}"#,
            &expect![[r#"
                spec.subnets[1].subnet: expected all IPv4 subnets of the pool to have at most 4096 blocks of 256 addresses with avoidBuggyAddresses, found "10.64.0.0/24"
            "#]],
        );
    }

    #[test]
    fn every_mistake_is_named_with_its_path() {
        for (spec, expected) in [
            (
                r#"{}"#,
                expect![[r#"
                spec: expected the key subnets, found none
            "#]],
            ),
            (
                r#"{"subnets":[]}"#,
                expect![[r#"
                spec.subnets: expected at least one subnet, found a list
            "#]],
            ),
            (
                r#"{"subnets":[{"subnet":"10.0.0.0/24","adresses":[]}]}"#,
                expect![[r#"
                spec.subnets[0].adresses: unknown key with the value a list
            "#]],
            ),
            (
                r#"{"subnets":[{"subnet":"10.0.0.0/24","addresses":["10.0.1.1"]}]}"#,
                expect![[r#"
                spec.subnets[0].addresses: expected addresses inside 10.0.0.0/24, found 10.0.1.1-10.0.1.1
            "#]],
            ),
            (
                r#"{"subnets":[{"subnet":"10.0.0.0/24"},{"subnet":"10.0.0.128/25"}]}"#,
                expect![[r#"
                spec.subnets: expected subnets that do not overlap, found 10.0.0.0/24 and 10.0.0.128/25
            "#]],
            ),
            (
                r#"{"subnets":[{"subnet":"10.0.0.0/24","gateway":"fd00::1"}]}"#,
                expect![[r#"
                spec.subnets[0].gateway: expected an IPv4 address, as the range has, found "fd00::1"
            "#]],
            ),
            (
                r#"{"subnets":[{"subnet":"127.0.0.0/24"}]}"#,
                expect![[r#"
                spec.subnets[0].subnet: expected unicast addresses that an interface can have, so none of 127.0.0.0/8, found "127.0.0.0/24"
            "#]],
            ),
            (
                r#"{"subnets":[{"subnet":"10.0.0.0/24","gateway":"10.0.0.1"}],"reservations":[{"pod":"default/a","address":"10.0.0.1"},{"pod":"default/b","address":"10.9.0.1"}]}"#,
                expect![[r#"
                    spec.reservations: expected addresses that are neither excluded nor a gateway, found 10.0.0.1-10.0.0.1
                    spec.reservations: expected addresses that the network's subnets can give, found 10.9.0.1-10.9.0.1
                "#]],
            ),
            (
                r#"{"subnets":[{"subnet":"10.0.0.0/24"}],"nodeSelector":{"matchExpressions":[]}}"#,
                expect![[r#"
                    spec.nodeSelector.matchExpressions: unknown key, expected one of matchLabels
                "#]],
            ),
        ] {
            check(spec, &expected);
        }
    }

    #[test]
    fn names_are_those_of_kubernetes_objects() {
        for (name, is_right) in [
            ("blue", true),
            ("zone-a.blue", true),
            ("1", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("a..b", false),
            ("Blue", false),
            ("a_b", false),
            ("a/b", false),
        ] {
            assert_eq!(is_subdomain(name), is_right, "{name}");
        }
        assert!(!is_subdomain(&"a".repeat(254)));
    }
}
