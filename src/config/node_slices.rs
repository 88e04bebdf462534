//! `node_slice_size`: a network whose range is cut into slices, as Whereabouts spells it. No pool
//! names it: the network is one by itself, and its name is made of the range and `network_name`.

use super::ConfigError;
use super::field::Field;
use super::merge::Merged;
use super::pool::MOST_PER_NODE;
use crate::addr::{Family, Subnet};
use crate::ipam::{Block, Geometry, RangeSet, Scope, Slicing};
use crate::json::Json;

/// By how many bits an IPv6 address is longer than one of IPv4.
const LONGER: u8 = 96;

/// Returns the key, if it has a value.
pub(super) fn field<'a>(merged: &Merged<'a>) -> Option<Field<'a>> {
    merged.field("node_slice_size").filter(|field| field.value.as_str() != Some(""))
}

/// Returns the slices into which the ranges of a network are cut.
///
/// # Errors
/// The value is no prefix length, or the ranges cannot be cut by it.
pub(super) fn slicing(
    field: &Field<'_>,
    scope: &Scope,
    sets: &[RangeSet],
) -> Result<Slicing, ConfigError> {
    let length = length(field)?;
    let subnets: Vec<Subnet> =
        sets.iter().flat_map(|set| &set.ranges).map(|range| range.subnet).collect();
    let of = |family: Family| {
        let mut own = subnets.iter().copied().filter(move |subnet| subnet.family() == family);
        (own.next(), own.next())
    };
    let ((v4, second_v4), (v6, second_v6)) = (of(Family::V4), of(Family::V6));
    let first = v4.or(v6).ok_or_else(|| {
        field.clashes("expected a range beside node_slice_size, which is cut into slices")
    })?;
    if second_v4.or(second_v6).is_some() {
        let reason = "expected at most one range of each family beside node_slice_size";
        let hint = "a pool with several ranges and slices is an IPPool";
        return Err(field.clashes(reason).with_hint(hint));
    }
    let lengths = match (v4, v6) {
        // Equally many addresses of each: /24 and /120.
        (Some(_), Some(_)) => match length.checked_sub(LONGER) {
            Some(of_v4) => (Some(of_v4), Some(length)),
            None => (Some(length), length.checked_add(LONGER)),
        },
        (Some(_), None) => (Some(length), None),
        (None, _) => (None, Some(length)),
    };
    let geometry = Geometry::new(vec![Block { v4, v6 }], lengths.0, lengths.1)
        .map_err(|reason| field.wrong(&reason))?;
    let pool = match scope.name() {
        None => first.to_string(),
        Some(name) => format!("{first}:{name}"),
    };
    if Scope::parse(Scope::of_slices(&pool).name().unwrap_or_default()).is_err() {
        return Err(field.clashes("expected a shorter network_name beside node_slice_size"));
    }
    Ok(Slicing {
        pool,
        pool_uid: String::new(),
        geometry,
        most_per_node: MOST_PER_NODE,
        may_overlap: Vec::new(),
    })
}

/// Parses `/24`, `24`, or the number 24.
fn length(field: &Field<'_>) -> Result<u8, ConfigError> {
    let length = match field.value {
        Json::Number(_) => field.unsigned()?.try_into().ok(),
        _ => {
            let text = field.text()?;
            text.strip_prefix('/').unwrap_or(text).parse().ok()
        }
    };
    let expected = "expected the prefix length of a slice, such as /24";
    length.filter(|length| *length <= Family::V6.bits()).ok_or_else(|| field.wrong(expected))
}

#[cfg(test)]
mod tests {
    use crate::config::{CniArgs, Merged, Network};
    use crate::json::Json;
    use expect_test::{Expect, expect};

    /// How the network with these keys is cut, or its mistakes.
    fn check(ipam: &str, expected: &Expect) {
        let whole = format!(r#"{{"cniVersion":"1.0.0","name":"n","ipam":{{{ipam}}}}}"#);
        let whole = Json::parse(whole.as_bytes()).unwrap();
        let merged = Merged::new(&whole, None).unwrap();
        let network = Network::parse(&merged, &CniArgs::default()).unwrap();
        let mistakes = network.beyond.first();
        let mut text: String = mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
        if let Some(slicing) = &network.slicing {
            let geometry = &slicing.geometry;
            let first = geometry.slice(0).map(|slice| slice.to_string()).unwrap_or_default();
            text += &format!(
                "{}: {}, {} like {first}\n",
                network.scope,
                slicing.pool,
                geometry.count()
            );
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn a_size_is_spelled_in_two_ways_and_a_number_does_too() {
        for size in [r#""/24""#, r#""24""#, "24"] {
            check(
                &format!(r#""range":"10.1.7.9/16","node_slice_size":{size}"#),
                &expect![[r#"
                    pool:10.1.0.0/16: 10.1.0.0/16, 256 like 10.1.0.0/24
                "#]],
            );
        }
        check(r#""range":"10.1.0.0/16","node_slice_size":"""#, &expect![""]);
    }

    #[test]
    fn the_range_and_the_network_name_name_a_network() {
        check(
            r#""range":"10.1.0.0/16","range_start":"10.1.0.9","range_end":"10.1.3.4","network_name":"blue","node_slice_size":"/26""#,
            &expect![[r#"
                pool:10.1.0.0/16:blue: 10.1.0.0/16:blue, 1024 like 10.1.0.0/26
            "#]],
        );
        check(
            r#""ipRanges":[{"range":"fd00::/112"},{"range":"10.1.0.0/16"}],"network_name":"a b","node_slice_size":"/24""#,
            &expect![[r#"
                "pool:10.1.0.0/16:a b": 10.1.0.0/16:a b, 256 like 10.1.0.0/24 and fd00::/120
            "#]],
        );
        check(
            r#""ipRanges":[{"range":"fd00::/64"},{"range":"10.1.0.0/16"}],"node_slice_size":"/120""#,
            &expect![[r#"
                pool:10.1.0.0/16: 10.1.0.0/16, 256 like 10.1.0.0/24 and fd00::/120
            "#]],
        );
        check(
            r#""range":"fd00::/64","node_slice_size":"/80""#,
            &expect![[r#"
                pool:fd00::/64: fd00::/64, 65536 like fd00::/80
            "#]],
        );
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        for (ipam, expected) in [
            (
                r#""range":"10.1.0.0/16","node_slice_size":"/8""#,
                expect![[r#"
                    ipam.node_slice_size: expected slices of /16 to /32 in 10.1.0.0/16, found /8, found "/8"
                "#]],
            ),
            (
                r#""range":"10.1.0.0/16","node_slice_size":"24.""#,
                expect![[r#"
                    ipam.node_slice_size: expected the prefix length of a slice, such as /24, found "24."
                "#]],
            ),
            (
                r#""ipRanges":[{"range":"10.1.0.0/16"},{"range":"10.2.0.0/16"}],"node_slice_size":"/24""#,
                expect![[r#"
                    ipam.node_slice_size: expected at most one range of each family beside node_slice_size
                "#]],
            ),
            (
                r#""pool":"blue","node_slice_size":"/24""#,
                expect![[r#"
                    ipam.node_slice_size: expected no node_slice_size beside a pool
                "#]],
            ),
            (
                r#""addresses":[{"address":"10.1.0.9/24"}],"node_slice_size":"/24""#,
                expect![[r#"
                    ipam.node_slice_size: expected a range beside node_slice_size, which is cut into slices
                "#]],
            ),
            (
                r#""range":"10.1.0.0/16","sticky":"statefulSet","node_slice_size":"/24""#,
                expect![[r#"
                    ipam.sticky: expected no such key, because nodes own the addresses of this network in slices
                    pool:10.1.0.0/16: 10.1.0.0/16, 256 like 10.1.0.0/24
                "#]],
            ),
        ] {
            check(ipam, &expected);
        }
    }
}
