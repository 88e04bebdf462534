//! The whole configuration, as ADD, CHECK and STATUS need it: static and requested addresses,
//! routes, DNS and limits, together with the ranges.

use super::args::{CniArgs, parse_requested};
use super::dns::{self, Dns, ResolvConf};
use super::elsewhere::{self, Probe};
use super::families::Families;
use super::field::Field;
use super::gateway::{self, gateway_of};
use super::ipam_claim::{self, ClaimName};
use super::limits::{self, Limits};
use super::main_plugin::MainPlugin;
use super::merge::Merged;
use super::routes::{self, Route};
use super::settings::WhenFull;
use super::{ConfigError, Mistakes, network_pools, node_slices, ranges, reservations};
use crate::addr::{Blocks, Family, Range, Subnet, parse_prefixed};
use crate::ipam::{ConfiguredRange, RangeSet, Requested, Reservations, Scope, Slicing, Static};
use crate::json::Json;
use std::collections::HashSet;
use std::net::IpAddr;
use std::rc::Rc;

/// A network configuration that is ready for allocation.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The scope of its addresses.
    pub scope: Scope,
    /// The range sets. An ADD takes one address from each.
    pub sets: Vec<RangeSet>,
    /// The pools from which it takes its addresses, in order of preference. Such a network has no
    /// range sets until a pool serves it.
    pub pools: Vec<String>,
    /// The slices from which it takes its addresses, if its pool has slices, or it is cut into some
    /// itself.
    pub slicing: Option<Rc<Slicing>>,
    /// Which families it gives.
    pub families: Families,
    /// The families in the order of the result. Without any, the order is that of the range sets,
    /// and static addresses come last.
    pub family_order: Vec<Family>,
    /// What the top-level `exclude` of every level excludes, merged.
    pub barred: Rc<Blocks>,
    /// The static addresses of the configuration.
    pub statics: Vec<Static>,
    /// The addresses that the caller requests.
    pub requested: Vec<Requested>,
    /// How the pod names its IPAMClaim, if it may have one.
    pub ipam_claim: Option<ClaimName>,
    /// The addresses for certain pods, and those that are given only on request.
    pub reservations: Reservations,
    /// The main plugin.
    pub main_plugin: MainPlugin,
    /// Whether there is no range and no static address, because every pod brings its own: the
    /// network declares the capability `ips`.
    pub pods_bring_addresses: bool,
    /// The routes of the result.
    pub routes: Vec<Route>,
    /// The DNS settings of the result.
    pub dns: Dns,
    /// host-local's `resolvConf`: the file that provides `dns`.
    pub resolv_conf: Option<ResolvConf>,
    /// Whether a StatefulSet pod gets its previous address again.
    pub sticky: bool,
    /// Whether pods may get addresses of this node's own interfaces.
    pub own_addresses: bool,
    /// How to ask other hosts whether one of them has an address, if that is asked.
    pub probe: Option<Probe>,
    /// The answer of STATUS if a range is full.
    pub when_full: WhenFull,
    /// Whether the configuration sets `enable_overlapping_ranges: false`. It has no effect:
    /// addresses stay unique in their scope.
    pub overlap_asked: bool,
    /// The entries of the top-level `exclude`, as written, without those of a flat file below.
    pub excludes: Vec<Range>,
    /// The limits on new allocations.
    pub limits: Limits,
    /// The mistakes that prevent a new allocation, and nothing else.
    pub beyond: Mistakes,
}

type Result<T> = std::result::Result<T, ConfigError>;

impl Network {
    /// Returns all ranges, in the order of their sets.
    pub fn ranges(&self) -> impl Iterator<Item = &ConfiguredRange> {
        self.sets.iter().flat_map(|set| &set.ranges)
    }

    /// Returns whether each interface in the network should have both families: because of its
    /// policy, or of its ranges and static addresses. The policy of a pool is not known here.
    #[must_use]
    pub fn wants_both_families(&self) -> bool {
        let of_ranges = self.ranges().map(|range| range.subnet.family());
        let of_statics = self.statics.iter().map(|fixed| Family::of(fixed.address));
        let found: HashSet<Family> = of_ranges.chain(of_statics).collect();
        self.families.wants_both(found.len() == 2)
    }

    /// Validates the configuration for an ADD with these `CNI_ARGS`.
    ///
    /// # Errors
    /// Returns every mistake, with its JSON path.
    pub fn parse(merged: &Merged<'_>, args: &CniArgs) -> std::result::Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        mistakes.note(merged.check());
        let scope = mistakes.note(scope(merged));
        let overlap_asked = mistakes.note(
            merged.field("enable_overlapping_ranges").map_or(Ok(true), |field| field.boolean()),
        );
        let limits = mistakes.note(Limits::parse(merged)).unwrap_or_default();
        let statics = mistakes.note(statics(merged));
        let gateways: Vec<IpAddr> =
            statics.iter().flatten().filter_map(|fixed: &Static| fixed.gateway).collect();
        let mut reservations = mistakes.note(reservations::parse(merged)).unwrap_or_default();
        reservations.set_pod(args.pod.as_ref(), args.interface.as_ref());
        // A static address in a range would else be given to a pod of this network, even to the pod
        // that is about to get it as its static address.
        let own = statics.iter().flatten().map(|fixed| Range::single(fixed.address));
        let reserved: Rc<Blocks> = Rc::new(reservations.blocks().ranges().chain(own).collect());
        let ranges = mistakes.note(ranges::parse(merged, &gateways, &reserved));
        let pools = mistakes.note(network_pools::names(merged)).unwrap_or_default();
        let families = Families::parse(merged.field("ipFamilyPolicy"), merged.field("ipFamilies"));
        let families = mistakes.note(families).unwrap_or_default();
        let requested = mistakes.note(requested(merged, args));
        let ipam_claim = mistakes.note(ipam_claim::named(merged));
        let routes = mistakes.note(routes::parse(merged));
        let dns = mistakes.note(dns::configured(merged));
        let resolv_conf = mistakes.note(dns::resolv_conf(merged));
        let when_full = mistakes.note(when_full(merged));
        let sticky = mistakes.note(sticky(merged));
        let named = scope.clone().unwrap_or_default();
        let probe = mistakes.note(elsewhere::probe(merged));
        let own_addresses = mistakes.note(elsewhere::own_addresses(merged, &named));
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let (mut ranges, mut routes) = (ranges.unwrap_or_default(), routes.unwrap_or_default());
        let (statics, mut requested) = (statics.unwrap_or_default(), requested.unwrap_or_default());
        let mut beyond = Mistakes::default();
        if !pools.is_empty() {
            network_pools::check(merged, !ranges.sets.is_empty())
                .into_iter()
                .for_each(|mistake| beyond.add(mistake));
        } else if ranges.sets.is_empty() && statics.is_empty() {
            beyond.note(complete(&mut requested, merged));
        }
        let mut family_order = Vec::new();
        let mut slicing = None;
        if pools.is_empty() {
            if let Some(field) = node_slices::field(merged) {
                slicing = beyond.note(node_slices::slicing(&field, &named, &ranges.sets));
            }
            beyond.add(reservations::check(&reservations, &ranges.sets));
            let selected = families.select(ranges.sets, &statics);
            selected.retain_routes(&mut routes);
            beyond.add(selected.mistakes);
            (ranges.sets, family_order) = (selected.sets, selected.order);
        }
        gateway::unusable(&ranges.sets, &statics, &routes)
            .into_iter()
            .for_each(|mistake| beyond.add(mistake));
        if let Some(field) = merged.field("network_name") {
            beyond.note(limits::check_scope(&field, &named));
        }
        let count = ranges.sets.iter().map(|set| set.ranges.len()).sum();
        let counts = [
            limits::beyond("ranges", "ranges", count, limits.ranges),
            limits::beyond("excludes", "excludes", ranges.excluded, limits.excludes),
            limits::beyond("routes", "routes", routes.len(), limits.routes),
        ];
        counts.into_iter().flatten().for_each(|mistake| beyond.add(mistake));
        let of_slices = slicing.as_ref().map(|slicing| Scope::of_slices(&slicing.pool));
        let mut network = Self {
            scope: of_slices.unwrap_or(named),
            main_plugin: MainPlugin::of(merged.whole),
            pods_bring_addresses: pools.is_empty()
                && ranges.sets.is_empty()
                && statics.is_empty()
                && declares_ips(merged.whole),
            pools,
            slicing: slicing.map(Rc::new),
            families,
            family_order,
            barred: ranges.barred,
            sets: ranges.sets,
            statics,
            requested,
            ipam_claim: ipam_claim.flatten(),
            reservations,
            routes,
            dns: dns.unwrap_or_default(),
            resolv_conf: resolv_conf.flatten(),
            sticky: sticky.unwrap_or_default(),
            own_addresses: own_addresses.unwrap_or_default(),
            probe: probe.flatten(),
            when_full: when_full.unwrap_or(WhenFull::Ready),
            overlap_asked: overlap_asked == Some(false),
            excludes: ranges.excludes,
            limits,
            beyond,
        };
        if network.slicing.is_some() {
            network.beyond.add(network.mistakes_with_slices());
        }
        Ok(network)
    }
}

/// Returns whether the main plugin declares that it passes on requested addresses.
#[must_use]
pub fn declares_ips(whole: &Json) -> bool {
    let declared = whole.find("capabilities").and_then(|declared| declared.find("ips"));
    declared == Some(&Json::Bool(true))
}

/// Completes the requested addresses of a network without ranges: their gateway is that of the
/// network, if it is of the same family.
fn complete(requested: &mut [Requested], merged: &Merged<'_>) -> Result<()> {
    if requested.is_empty() {
        let reason = "expected one of range, ipRanges, ranges, subnet or addresses, found none";
        let hint = "a network without these gives only addresses that a pod asks for, with their prefix length";
        return Err(ConfigError::meaning("ipam", reason).with_hint(hint));
    }
    let main = MainPlugin::of(merged.whole);
    let field = merged.field("gateway");
    let gateway = field.map(|field| gateway::gateway(&field)).transpose()?.flatten();
    for request in requested {
        let is_of_family = |gateway: &IpAddr| Family::of(*gateway) == Family::of(request.address);
        let of_bridge = || {
            let subnet = Subnet::new(request.address, request.prefix?).ok()?;
            main.gateway_of(&subnet)
        };
        request.gateway = request.gateway.or(gateway.filter(is_of_family)).or_else(of_bridge);
    }
    Ok(())
}

fn scope(merged: &Merged<'_>) -> Result<Scope> {
    match merged.field("network_name") {
        None => Ok(Scope::default()),
        Some(field) => Scope::parse(field.text()?)
            .map_err(|_| field.wrong("expected a name of at most 253 bytes")),
    }
}

fn sticky(merged: &Merged<'_>) -> Result<bool> {
    match merged.field("sticky") {
        None => Ok(false),
        Some(field) => match field.text()? {
            "statefulSet" => Ok(true),
            _ => Err(field.wrong("expected statefulSet")),
        },
    }
}

fn when_full(merged: &Merged<'_>) -> Result<WhenFull> {
    match merged.field("status_when_full") {
        None => Ok(WhenFull::Ready),
        Some(field) => match field.text()? {
            "ready" => Ok(WhenFull::Ready),
            "not_ready" => Ok(WhenFull::NotReady),
            _ => Err(field.wrong("expected ready or not_ready")),
        },
    }
}

fn statics(merged: &Merged<'_>) -> std::result::Result<Vec<Static>, Mistakes> {
    let Some(field) = merged.field("addresses") else {
        return Ok(Vec::new());
    };
    let mut seen: HashSet<IpAddr> = HashSet::new();
    let main = MainPlugin::of(merged.whole);
    Mistakes::each(field.list()?, |entry| {
        let (text, mut fixed) = static_address(&entry)?;
        if fixed.gateway.is_none() {
            let subnet = Subnet::new(fixed.address, fixed.prefix).ok();
            fixed.gateway = subnet.and_then(|subnet| main.gateway_of(&subnet));
            if fixed.gateway == Some(fixed.address) {
                return Err(text.wrong("expected another address, because the bridge takes it"));
            }
        }
        if !seen.insert(fixed.address) {
            return Err(text.wrong("expected each address once"));
        }
        Ok(fixed)
    })
}

fn static_address<'a>(entry: &Field<'a>) -> Result<(Field<'a>, Static)> {
    let text = entry.object()?.find("address").ok_or_else(|| entry.lacks("address"))?;
    let (address, prefix) = text.parsed(parse_prefixed)?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(text.wrong("expected a unicast address that an interface can have"));
    }
    let gateway = match entry.find("gateway") {
        None => None,
        Some(field) => {
            let gateway = gateway_of(&field, Family::of(address))?;
            if gateway == Some(address) {
                return Err(field.wrong("expected a gateway other than the address itself"));
            }
            gateway
        }
    };
    Ok((text, Static { address, prefix, gateway }))
}

/// Returns the requested addresses: `runtimeConfig.ips`, else `args.cni.ips`, else `IP=`. According
/// to the CNI conventions, later mechanisms replace earlier ones. Multus sends the same addresses
/// through two of them.
fn requested(merged: &Merged<'_>, args: &CniArgs) -> Result<Vec<Requested>> {
    let runtime = merged.whole.find("runtimeConfig").map(|run| Field::new("runtimeConfig", run));
    let by_args = merged.whole.find("args").and_then(|value| Field::new("args", value).find("cni"));
    let lists =
        [runtime.and_then(|field| field.find("ips")), by_args.and_then(|field| field.find("ips"))];
    for field in lists.into_iter().flatten() {
        let items = field.list()?;
        if items.len() == 0 {
            continue;
        }
        let (mut requested, mut seen): (Vec<Requested>, HashSet<IpAddr>) = Default::default();
        for item in items {
            let (address, prefix) = item.parsed(parse_requested)?;
            if seen.insert(address) {
                requested.push(Requested {
                    address,
                    prefix,
                    gateway: None,
                    origin: item.path.clone(),
                });
            }
        }
        return Ok(requested);
    }
    let mut seen: HashSet<IpAddr> = HashSet::new();
    Ok(args.requested.iter().filter(|request| seen.insert(request.address)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    /// What a configuration asks for with these `CNI_ARGS`, or its mistakes.
    fn check(configuration: &str, args: &str, expected: &Expect) {
        let whole = Json::parse(configuration.as_bytes()).unwrap();
        let merged = Merged::new(&whole, None).unwrap();
        let mut text = String::new();
        match Network::parse(&merged, &CniArgs::parse(args.as_bytes()).unwrap()) {
            Ok(network) => {
                for mistake in network.beyond.first() {
                    writeln!(text, "{mistake}").unwrap();
                }
                for fixed in network.statics {
                    writeln!(
                        text,
                        "static {}/{} via {:?}",
                        fixed.address, fixed.prefix, fixed.gateway
                    )
                    .unwrap();
                }
                for asked in network.requested {
                    writeln!(
                        text,
                        "requested {} prefix {:?} ({})",
                        asked.address, asked.prefix, asked.origin
                    )
                    .unwrap();
                }
                for route in network.routes {
                    writeln!(
                        text,
                        "route {} via {:?} table {:?}",
                        route.dst, route.gw, route.table
                    )
                    .unwrap();
                }
            }
            Err(mistakes) => {
                mistakes.first().iter().for_each(|mistake| writeln!(text, "{mistake}").unwrap())
            }
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn static_addresses() {
        check(
            r#"{"ipam":{"addresses":[{"address":"10.1.2.5/24","gateway":"10.1.2.1"},{"address":"2001:db8::5/64"}]}}"#,
            "",
            &expect![[r#"
                static 10.1.2.5/24 via Some(10.1.2.1)
                static 2001:db8::5/64 via None
            "#]],
        );
        check(
            r#"{"ipam":{"addresses":[{"address":"10.1.2.5"}]}}"#,
            "",
            &expect![[r#"
                ipam.addresses[0].address: expected an address with a prefix length, such as 10.0.0.0/24, found "10.1.2.5"
            "#]],
        );
        check(
            r#"{"ipam":{"addresses":[{"address":"10.1.2.5/24","gateway":"10.1.3.1"}]}}"#,
            "",
            &expect![[r#"
            static 10.1.2.5/24 via Some(10.1.3.1)
        "#]],
        );
    }

    #[test]
    fn requested_addresses() {
        let range = r#""ipam":{"range":"10.1.2.0/24"}"#;
        check(
            &format!("{{{range}}}"),
            "IgnoreUnknown=1;IP=10.1.2.7",
            &expect![[r#"
            requested 10.1.2.7 prefix None (CNI_ARGS IP)
        "#]],
        );
        check(
            &format!("{{{range}}}"),
            "IgnoreUnknown=1;IP=10.1.2.7/24",
            &expect![[r#"
            requested 10.1.2.7 prefix Some(24) (CNI_ARGS IP)
        "#]],
        );
        check(
            &format!(r#"{{{range},"args":{{"cni":{{"ips":["10.1.2.7/24"]}}}}}}"#),
            "",
            &expect![[r#"
            requested 10.1.2.7 prefix Some(24) (args.cni.ips[0])
        "#]],
        );
        check(
            &format!(r#"{{{range},"runtimeConfig":{{"ips":["10.1.2.7"]}}}}"#),
            "",
            &expect![[r#"
            requested 10.1.2.7 prefix None (runtimeConfig.ips[0])
        "#]],
        );
        check(
            &format!(r#"{{{range},"runtimeConfig":{{"ips":["10.1.2"]}}}}"#),
            "",
            &expect![[r#"
                runtimeConfig.ips[0]: expected an IPv4 or IPv6 address, found "10.1.2"
            "#]],
        );
    }

    #[test]
    fn routes_of_the_result() {
        let with =
            |routes: &str| format!(r#"{{"ipam":{{"range":"10.1.2.0/24","routes":{routes}}}}}"#);
        check(
            &with(r#"[{"dst":"0.0.0.0/0","gw":"10.1.2.1"},{"dst":"10.9.8.7/16"}]"#),
            "",
            &expect![[r#"
            route 0.0.0.0/0 via Some(10.1.2.1) table None
            route 10.9.0.0/16 via None table None
        "#]],
        );
        check(
            &with(r#"[{"dst":"10.0.0.0/8","table":0},{"dst":"10.0.0.0/8","table":0}]"#),
            "",
            &expect![[r#"
            route 10.0.0.0/8 via None table Some(0)
        "#]],
        );
        check(
            &with(r#"[{"gw":"10.1.2.1"}]"#),
            "",
            &expect![[r#"
                ipam.routes[0]: expected the key dst, found none
            "#]],
        );
        check(
            &with(r#"[{"dst":"10.0.0.0/8","gw":"2001:db8::1"}]"#),
            "",
            &expect![[r#"
                ipam.routes[0].gw: expected a gateway of the family of 10.0.0.0/8, found "2001:db8::1"
            "#]],
        );
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        check(
            r#"{"ipam":{"range":"10.1.2.0/33","routes":[{}],"exclude":"x","sticky":"yes"}}"#,
            "",
            &expect![[r#"
                ipam.range: expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6), found "10.1.2.0/33"
                ipam.exclude: expected a list, such as ["10.0.0.0/28"], found "x"
                ipam.routes[0]: expected the key dst, found none
                ipam.sticky: expected statefulSet, found "yes"
            "#]],
        );
        check(
            r#"{"ipam":{}}"#,
            "",
            &expect![[r#"
            ipam: expected one of range, ipRanges, ranges, subnet or addresses, found none
        "#]],
        );
    }
}
