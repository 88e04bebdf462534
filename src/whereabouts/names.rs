//! The names of Whereabouts' objects. They say in which scope an address is unique, because no other
//! field does:
//!
//! - an IPPool: `<range>`, `<network_name>-<range>`, and for the slice of a node `<node>-<range>` or
//!   `<network_name>-<node>-<range>`;
//! - an OverlappingRangeIPReservation: `<address>` or `<network_name>-<address>`.
//!
//! `:` and `/` become `-`. The same name can therefore mean several things.

use super::range::PoolRange;
use crate::addr::Subnet;
use std::collections::HashSet;
use std::net::IpAddr;
use std::rc::Rc;

/// A NodeSlicePool. Its name is `network_name`, or that of the network's configuration.
#[derive(Debug, Default)]
pub(crate) struct SlicePool {
    pub(crate) name: String,
    /// The range that is cut into slices.
    pub(crate) range: Option<Subnet>,
    /// The slices that have a node: the node, and the range as text.
    pub(crate) slices: Vec<(String, String)>,
}

/// What a pool of Whereabouts is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Serves {
    /// All networks with this `network_name`, which is empty for those without one.
    Scope(Rc<str>),
    /// One node, which gives addresses out of a slice of a network with this `network_name`.
    Slice(Rc<str>),
    /// Probably one node, by its name. No NodeSlicePool has the slice.
    LostSlice,
    /// The name does not fit the range.
    Unknown,
}

/// What tells the forms of a pool's name apart.
pub(crate) struct Names<'n> {
    pub(crate) slice_pools: &'n [SlicePool],
    /// The `network_name` of each network.
    pub(crate) network_names: HashSet<&'n str>,
    pub(crate) nodes: HashSet<&'n str>,
}

impl Names<'_> {
    /// Returns what a pool is for.
    pub(crate) fn serves(&self, name: &str, range: &str) -> Serves {
        let in_name = in_name(range);
        if range.is_empty() {
            return Serves::Unknown;
        }
        if name == in_name {
            return Serves::Scope("".into());
        }
        let before = name.strip_suffix(&in_name).and_then(|before| before.strip_suffix('-'));
        let Some(before) = before.filter(|before| !before.is_empty()) else {
            return Serves::Unknown;
        };
        for pool in self.slice_pools {
            let nodes = pool.slices.iter().filter(|(_, slice)| slice == range);
            for (node, _) in nodes {
                if before == node {
                    return Serves::Slice("".into());
                }
                if of_node(before, node) == Some(&pool.name) {
                    return Serves::Slice(pool.name.as_str().into());
                }
            }
        }
        let is_lost = || {
            let range = Subnet::parse(range).ok();
            let is_cut = |pool: &SlicePool| {
                let inside = pool.range.zip(range).is_some_and(|(whole, part)| {
                    whole.length() < part.length() && whole.contains(part.network())
                });
                let rest = before.strip_prefix(&pool.name);
                inside && rest.is_some_and(|rest| rest.starts_with('-'))
            };
            self.nodes.contains(before)
                || self.nodes.iter().any(|node| of_node(before, node).is_some())
                || self.slice_pools.iter().any(is_cut)
        };
        if !self.network_names.contains(before) && is_lost() {
            return Serves::LostSlice;
        }
        Serves::Scope(before.into())
    }
}

/// Returns what stands before `-<node>`.
fn of_node<'b>(before: &'b str, node: &str) -> Option<&'b str> {
    before.strip_suffix(node)?.strip_suffix('-').filter(|rest| !rest.is_empty())
}

/// Returns a range or an address as it stands in a name.
fn in_name(text: &str) -> String {
    let mut name = text.replace([':', '/'], "-");
    if text.ends_with(':') {
        name.push('0');
    }
    name
}

/// Returns what stands before `network_name` in a name: nothing, or the name and `-`.
fn before(scope: &str) -> String {
    if scope.is_empty() { String::new() } else { format!("{scope}-") }
}

/// Returns the name of the pool of a range, as it is written.
pub(crate) fn pool(scope: &str, range: &str) -> String {
    before(scope) + &in_name(range)
}

/// Returns whether a pool is for the networks with this `network_name`, by its range as it is written.
pub(crate) fn is_pool_of(name: &str, scope: &str, range: &str) -> bool {
    !range.is_empty() && name == pool(scope, range)
}

/// Returns the range that the name of a pool seems to say, if the pool is for the networks with this
/// `network_name`. The object decides: see [`is_pool_of`].
pub(crate) fn range_in(name: &str, scope: &str) -> Option<PoolRange> {
    let (base, length) = name.strip_prefix(&*before(scope))?.rsplit_once('-')?;
    let parse = |base: &str| PoolRange::parse(&format!("{base}/{length}"));
    if base.contains('.') { parse(base) } else { parse(&base.replace('-', ":")) }
}

/// Returns the name of the reservation of an address.
pub(crate) fn reservation(scope: &str, address: IpAddr) -> String {
    before(scope) + &in_name(&address.to_string())
}

/// Returns what the name of a reservation can mean: `network_name`, and the address.
pub(crate) fn reserved(name: &str) -> Vec<(&str, IpAddr)> {
    let dashes = name.match_indices('-').map(|(at, _)| at);
    let splits = dashes.filter_map(|at| Some((name.get(..at)?, name.get(at.checked_add(1)?..)?)));
    let meaning = |(scope, text): (&'_ str, &'_ str)| -> Option<IpAddr> {
        let address = text.parse().ok().or_else(|| text.replace('-', ":").parse().ok())?;
        let again = in_name(&IpAddr::to_string(&address));
        (before(scope) + &again == name).then_some(address)
    };
    std::iter::once(("", name))
        .chain(splits.filter(|(scope, _)| !scope.is_empty()))
        .filter_map(|(scope, text)| Some((scope, meaning((scope, text))?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_pool_says_its_scope_or_its_node() {
        let slice_pools = [
            SlicePool {
                name: "cut".to_owned(),
                range: Subnet::parse("10.1.0.0/16").ok(),
                slices: vec![
                    ("n1".to_owned(), "10.1.0.0/24".to_owned()),
                    ("n2.example".to_owned(), "10.1.1.0/24".to_owned()),
                ],
            },
            SlicePool {
                name: "six".to_owned(),
                range: Subnet::parse("fd00:1::/64").ok(),
                slices: vec![("n1".to_owned(), "fd00:1::/80".to_owned())],
            },
        ];
        let names = Names {
            slice_pools: &slice_pools,
            network_names: HashSet::from(["blue", "cut", "odd-n1"]),
            nodes: HashSet::from(["n1", "n2.example", "n3"]),
        };
        let scope = |text: &str| Serves::Scope(text.into());
        let slice = |text: &str| Serves::Slice(text.into());
        for (name, range, expected) in [
            ("10.0.0.0-24", "10.0.0.0/24", scope("")),
            ("fd00---64", "fd00::/64", scope("")),
            ("2001-db8-0-1---64", "2001:db8:0:1::/64", scope("")),
            ("blue-10.0.0.0-24", "10.0.0.0/24", scope("blue")),
            ("blue-fd00---64", "fd00::/64", scope("blue")),
            // No network has the name any more. It is a name all the same.
            ("a-b-10.0.0.0-24", "10.0.0.0/24", scope("a-b")),
            ("a.b-10.0.0.0-24", "10.0.0.0/24", scope("a.b")),
            ("n1-10.1.0.0-24", "10.1.0.0/24", slice("")),
            ("cut-n1-10.1.0.0-24", "10.1.0.0/24", slice("cut")),
            ("cut-n2.example-10.1.1.0-24", "10.1.1.0/24", slice("cut")),
            ("n1-fd00-1---80", "fd00:1::/80", slice("")),
            ("six-n1-fd00-1---80", "fd00:1::/80", slice("six")),
            // The slice belongs to another node now, or its NodeSlicePool is gone.
            ("cut-n1-10.1.9.0-24", "10.1.9.0/24", Serves::LostSlice),
            ("cut-gone-10.1.9.0-24", "10.1.9.0/24", Serves::LostSlice),
            ("n3-10.2.0.0-24", "10.2.0.0/24", Serves::LostSlice),
            ("deleted-n3-10.2.0.0-24", "10.2.0.0/24", Serves::LostSlice),
            // A network has this name.
            ("odd-n1-10.2.0.0-24", "10.2.0.0/24", scope("odd-n1")),
            ("cut-10.1.0.0-16", "10.1.0.0/16", scope("cut")),
            ("10.0.0.0-24", "10.0.1.0/24", Serves::Unknown),
            ("-10.0.0.0-24", "10.0.0.0/24", Serves::Unknown),
            ("blue10.0.0.0-24", "10.0.0.0/24", Serves::Unknown),
            ("anything", "", Serves::Unknown),
        ] {
            assert_eq!(names.serves(name, range), expected, "{name} {range}");
        }
    }

    #[test]
    fn a_scope_finds_its_pools_and_reservations_by_their_names() {
        for (scope, range, name) in [
            ("", "10.0.0.0/24", "10.0.0.0-24"),
            ("blue", "10.0.0.0/24", "blue-10.0.0.0-24"),
            ("a-b.c", "fd00::/64", "a-b.c-fd00---64"),
            ("", "2001:db8:0:1::/64", "2001-db8-0-1---64"),
            ("", "::/0", "---0"),
            ("", "10.0.0.9/24", "10.0.0.9-24"),
        ] {
            assert!(is_pool_of(name, scope, range), "{name}");
            assert_eq!(range_in(name, scope), PoolRange::parse(range), "{name}");
            for other in ["", "blue", "green"].into_iter().filter(|other| *other != scope) {
                assert!(!is_pool_of(name, other, range), "{name}");
                assert_eq!(range_in(name, other), None, "{name}");
            }
        }
        // The name alone can mean a range of the networks without a name.
        assert!(range_in("ab-fd00---64", "").is_some());
        assert!(!is_pool_of("ab-fd00---64", "", "fd00::/64"));
        for name in ["", "-", "x", "n1-10.0.0.0-24", "10.0.0.0", "10.0.0.0-33", "10.0.0.0-x"] {
            assert_eq!(range_in(name, ""), None, "{name}");
        }
        for (scope, address, name) in
            [("", "10.0.0.5", "10.0.0.5"), ("blue", "fd00::", "blue-fd00--0"), ("", "::5", "--5")]
        {
            let address = address.parse().unwrap();
            assert_eq!(reservation(scope, address), name);
            assert!(reserved(name).contains(&(scope, address)));
        }
    }

    #[test]
    fn the_name_of_a_reservation_has_one_meaning_or_two() {
        for (name, expected) in [
            ("10.0.0.5", &[("", "10.0.0.5")][..]),
            ("blue-10.0.0.5", &[("blue", "10.0.0.5")]),
            ("a-b.c-10.0.0.5", &[("a-b.c", "10.0.0.5")]),
            ("fd00--5", &[("", "fd00::5")]),
            ("fd00--0", &[("", "fd00::")]),
            ("blue-fd00--0", &[("blue", "fd00::")]),
            ("blue-fd00-1-2-3-4-5-6-7", &[("blue", "fd00:1:2:3:4:5:6:7")]),
            ("ab-fd00--5", &[("", "ab:fd00::5"), ("ab", "fd00::5")]),
            ("ab---5", &[("ab", "::5")]),
            ("fd00--", &[]),
            ("-10.0.0.5", &[]),
            ("10.0.0.05", &[]),
            ("fd00-0-0-0-0-0-0-5", &[]),
            ("blue", &[]),
            ("", &[]),
        ] {
            let expected: Vec<(&str, IpAddr)> =
                expected.iter().map(|(scope, text)| (*scope, text.parse().unwrap())).collect();
            assert_eq!(reserved(name), expected, "{name}");
        }
    }
}
