//! `ranges` and `slices`: a pool whose addresses nodes give out of slices that they own.

use super::exclusion::{Exclusion, MOST_BLOCKS, buggy, exclusions};
use super::{PoolSubnet, Result, check_disjoint};
use crate::addr::{Family, Subnet};
use crate::config::field::Field;
use crate::config::gateway::gateway;
use crate::config::keys::check_known;
use crate::config::{ConfigError, Mistakes};
use crate::ipam::{Block, Geometry, Scope};
use std::net::IpAddr;

const RANGE_KEYS: &[&str] = &["ipv4", "ipv6", "gateways", "exclude"];
const SLICES_KEYS: &[&str] = &["ipv4", "ipv6", "maxPerNode", "allowOverlapWith"];
/// The keys of a pool that a pool with slices cannot have: they give single addresses, and a single
/// address may be in a slice of another node.
const REFUSED: &[&str] = &["subnets", "scope", "reservations"];
/// How many slices a node may own if the pool does not say it.
pub(in crate::config) const MOST_PER_NODE: u32 = 8;

/// How a pool is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSlices {
    /// The slices.
    pub geometry: Geometry,
    /// The most slices that one node may own.
    pub most_per_node: u32,
    /// What is on other wires, so that its addresses may lie in the slices: the names of pools with
    /// slices, and scopes.
    pub may_overlap: Vec<String>,
}

/// Parses the ranges of a pool with slices. Returns `None` for a pool without.
///
/// # Errors
/// Returns every mistake.
pub(super) fn parse(
    spec: &Field<'_>,
    name: &str,
    avoid_buggy: bool,
) -> Result<Option<(PoolSlices, Vec<PoolSubnet>)>> {
    let (ranges, slices) = match (spec.find("ranges"), spec.find("slices")) {
        (None, None) => return Ok(None),
        (Some(ranges), Some(slices)) => (ranges, slices),
        (Some(_), None) => return Err(spec.lacks("slices").into()),
        (None, Some(_)) => return Err(spec.lacks("ranges").into()),
    };
    let mut mistakes = Mistakes::default();
    for refused in REFUSED.iter().filter_map(|key| spec.find(key)) {
        let reason = "expected no such key in a pool with slices, where each address belongs to the node of its slice";
        mistakes.add(refused.clashes(reason));
    }
    if Scope::parse(Scope::of_slices(name).name().unwrap_or_default()).is_err() {
        let reason = "expected a shorter name: that of a pool with slices has at most 248 bytes";
        mistakes.add(slices.clashes(reason));
    }
    mistakes.note(check_known(slices.object()?, SLICES_KEYS));
    let v4 = mistakes.note(length(&slices, "ipv4")).flatten();
    let v6 = mistakes.note(length(&slices, "ipv6")).flatten();
    let most_per_node =
        slices.find("maxPerNode").map_or(Ok(MOST_PER_NODE), |field| match field.unsigned()? {
            0 => Err(field.wrong("expected a number of at least 1")),
            number => Ok(number),
        });
    let most_per_node = mistakes.note(most_per_node).unwrap_or_default();
    let may_overlap = slices.find("allowOverlapWith").map_or(Ok(Vec::new()), |list| list.texts());
    let may_overlap = mistakes.note(may_overlap).unwrap_or_default();
    let mut left = avoid_buggy.then_some(MOST_BLOCKS);
    let parsed =
        Mistakes::each::<_, _, Mistakes>(ranges.list()?, |entry| range(&entry, left.as_mut()));
    let Some(parsed) = mistakes.note(parsed) else { return Err(mistakes) };
    let (blocks, subnets): (Vec<Block>, Vec<Vec<PoolSubnet>>) = parsed.into_iter().unzip();
    let geometry =
        Geometry::new(blocks, v4, v6).map_err(|reason| ConfigError::meaning(&slices.path, reason));
    let Some(geometry) = mistakes.note(geometry) else { return Err(mistakes) };
    let subnets: Vec<PoolSubnet> = subnets.into_iter().flatten().collect();
    mistakes.note(check_disjoint(&ranges, &subnets));
    mistakes.none_or(Some((PoolSlices { geometry, most_per_node, may_overlap }, subnets)))
}

/// Parses `perNodeMaskSize` of a family.
fn length(slices: &Field<'_>, key: &str) -> Result<Option<u8>> {
    let Some(family) = slices.find(key) else { return Ok(None) };
    check_known(family.object()?, &["perNodeMaskSize"])?;
    let Some(field) = family.find("perNodeMaskSize") else {
        return Err(family.lacks("perNodeMaskSize").into());
    };
    match u8::try_from(field.unsigned()?) {
        Ok(length) => Ok(Some(length)),
        Err(_) => Err(field.wrong("expected a prefix length of at most 128").into()),
    }
}

fn range(
    entry: &Field<'_>,
    mut blocks_left: Option<&mut u128>,
) -> Result<(Block, Vec<PoolSubnet>)> {
    check_known(entry.object()?, RANGE_KEYS)?;
    let mut mistakes = Mistakes::default();
    let v4 = mistakes.note(subnet(entry, "ipv4", Family::V4)).flatten();
    let v6 = mistakes.note(subnet(entry, "ipv6", Family::V6)).flatten();
    let gateways: Vec<Option<IpAddr>> = match entry.find("gateways") {
        None => Vec::new(),
        Some(list) => Mistakes::each(list.list()?, |field| gateway(&field))?,
    };
    let listed: Vec<Exclusion> = match entry.find("exclude") {
        None => Vec::new(),
        Some(list) => Mistakes::each::<_, _, Mistakes>(list.list()?, |entry| exclusions(&entry))?
            .into_iter()
            .flatten()
            .collect(),
    };
    let mut subnets = Vec::new();
    for subnet in [v4, v6].into_iter().flatten() {
        let family = subnet.family();
        let mut own =
            gateways.iter().copied().flatten().filter(|gateway| Family::of(*gateway) == family);
        let (gateway, second) = (own.next(), own.next());
        if second.is_some() {
            let field = entry.find("gateways").unwrap_or_else(|| entry.clone());
            mistakes.add(field.clashes("expected at most one gateway of each family"));
        }
        let is_of_family = |exclusion: &&Exclusion| exclusion.range.family() == family;
        let mut excluded: Vec<Exclusion> = listed.iter().filter(is_of_family).cloned().collect();
        if let Some(left) = blocks_left.as_deref_mut() {
            excluded.extend(mistakes.note(buggy(entry, &subnet, left)).unwrap_or_default());
        }
        let addresses = [subnet.usable()].into_iter().collect();
        subnets.push(PoolSubnet { subnet, gateway, addresses, excluded });
    }
    mistakes.none_or((Block { v4, v6 }, subnets))
}

fn subnet(
    entry: &Field<'_>,
    key: &str,
    family: Family,
) -> std::result::Result<Option<Subnet>, ConfigError> {
    let Some(field) = entry.find(key) else { return Ok(None) };
    let subnet = field.parsed(Subnet::parse)?;
    if subnet.family() != family {
        return Err(field.wrong(&format!("expected a subnet of the family {key}")));
    }
    crate::config::ranges::check_unicast(&field, &subnet, &subnet.whole())?;
    Ok(Some(subnet))
}

#[cfg(test)]
mod tests {
    use crate::config::Pool;
    use crate::json::Json;
    use expect_test::{Expect, expect};

    /// The slices of a pool, or its mistakes.
    fn check(spec: &str, expected: &Expect) {
        let text = format!(
            r#"{{"apiVersion":"hereabouts.dev/v1alpha1","kind":"IPPool","metadata":{{"name":"blue","uid":"u1"}},"spec":{spec}}}"#
        );
        let text = match Pool::parse(&Json::parse(text.as_bytes()).unwrap(), "") {
            Err(mistakes) => {
                mistakes.first().iter().map(|mistake| format!("{mistake}\n")).collect()
            }
            Ok(pool) => {
                let slices = pool.slices.unwrap();
                let subnets =
                    pool.subnets.iter().map(|of| format!("{} {:?}", of.subnet, of.gateway));
                format!(
                    "{} {:?}: {} slices, {} for a node, beside {:?}\n{}\n",
                    pool.scope,
                    pool.uid,
                    slices.geometry.count(),
                    slices.most_per_node,
                    slices.may_overlap,
                    subnets.collect::<Vec<_>>().join("\n")
                )
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn a_pool_with_slices_has_ranges_of_both_families() {
        check(
            r#"{"ranges":[{"ipv4":"192.168.0.0/16","ipv6":"fd12::1:0/112","gateways":["192.168.0.1","fd12::1:1"]}],
                "slices":{"ipv4":{"perNodeMaskSize":24},"ipv6":{"perNodeMaskSize":120},"maxPerNode":2,"allowOverlapWith":["red",""]}}"#,
            &expect![[r#"
                pool:blue Some("u1"): 256 slices, 2 for a node, beside ["red", ""]
                192.168.0.0/16 Some(192.168.0.1)
                fd12::1:0/112 Some(fd12::1:1)
            "#]],
        );
        check(
            r#"{"ranges":[{"ipv4":"10.0.0.0/24"},{"ipv4":"10.0.1.0/24","exclude":["10.0.1.7"]}],"slices":{"ipv4":{"perNodeMaskSize":28}},"avoidBuggyAddresses":true}"#,
            &expect![[r#"
                pool:blue Some("u1"): 32 slices, 8 for a node, beside []
                10.0.0.0/24 None
                10.0.1.0/24 None
            "#]],
        );
    }

    #[test]
    fn what_would_give_one_address_twice_is_refused() {
        check(
            r#"{"ranges":[{"ipv4":"10.0.0.0/16"},{"ipv4":"10.0.1.0/24"}],"slices":{"ipv4":{"perNodeMaskSize":24}},"scope":"green",
                "reservations":[{"address":"10.0.0.9","pod":"a/b"}]}"#,
            &expect![[r#"
                spec.scope: expected no such key in a pool with slices, where each address belongs to the node of its slice
                spec.reservations: expected no such key in a pool with slices, where each address belongs to the node of its slice
                spec.ranges: expected subnets that do not overlap, found 10.0.0.0/16 and 10.0.1.0/24
                spec.reservations: expected addresses that the network's subnets can give, found 10.0.0.9-10.0.0.9
            "#]],
        );
        check(
            r#"{"subnets":[{"subnet":"10.0.0.0/16"}],"ranges":[{"ipv4":"10.0.0.0/16"}]}"#,
            &expect![[r#"
                spec: expected the key slices, found none
            "#]],
        );
        check(
            r#"{"ranges":[{"ipv4":"10.0.0.0/16","ipv6":"10.0.0.0/16"}],"slices":{"ipv4":{"perNodeMaskSize":300},"maxPerNode":0}}"#,
            &expect![[r#"
                spec.slices.ipv4.perNodeMaskSize: expected a prefix length of at most 128, found 300
                spec.slices.maxPerNode: expected a number of at least 1, found 0
                spec.ranges[0].ipv6: expected a subnet of the family ipv6, found "10.0.0.0/16"
            "#]],
        );
        check(
            r#"{"ranges":[{"ipv4":"10.0.0.0/16","ipv6":"fd00::/112","gateways":["10.0.0.1","10.0.0.2"]}],"slices":{"ipv4":{"perNodeMaskSize":24},"ipv6":{}}}"#,
            &expect![[r#"
                spec.slices.ipv6: expected the key perNodeMaskSize, found none
                spec.ranges[0].gateways: expected at most one gateway of each family
            "#]],
        );
    }
}
