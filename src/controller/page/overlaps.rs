//! Pools that share addresses with each other, with networks, or with the podCIDRs of nodes.
//!
//! All ranges are sorted and read once from the lowest address to the highest. So the
//! cost grows with the number of ranges, and not with the number of pairs.

use super::Content;
use super::html::{Html, counted, grouped};
use super::pools::shown_name;
use super::query::path_of_pool;
use super::walk::each_pool;
use crate::addr::{Edge, Range, sweep};
use crate::controller::pool::PoolId;
use crate::controller::state::{Name, State};
use crate::store::kube::objects::names;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// How many ranges are compared.
const RANGES: usize = 30_000;
/// How many groups are shown, and how many members of each.
const GROUPS: usize = 200;
const MEMBERS: usize = 6;

/// What has ranges.
enum Member {
    /// A pool, and its scope.
    Pool(Rc<PoolId>, Rc<str>),
    /// A network, and its scope.
    Network(Name, Rc<str>),
    /// The podCIDRs of all nodes.
    Nodes,
}

/// Ranges, each with the number of the member that has it.
#[derive(Default)]
struct Ranges {
    members: Vec<Member>,
    all: Vec<(Range, usize)>,
    /// The number of ranges beyond [`RANGES`].
    left: usize,
}

impl Ranges {
    fn add(&mut self, member: Member, ranges: impl Iterator<Item = Range>) {
        let number = self.members.len();
        self.members.push(member);
        for range in ranges {
            match self.all.len() < RANGES {
                true => self.all.push((range, number)),
                false => self.left += 1,
            }
        }
    }
}

/// Members that share the same addresses, a pool among them.
struct Group {
    /// The first of the ranges that they share.
    first: Range,
    ranges: usize,
    addresses: u128,
    /// Some of the members, by their number: the first ones and the last one, which may be the
    /// podCIDRs.
    some: Vec<usize>,
    members: usize,
}

/// Returns the page.
pub(super) async fn page(state: &RefCell<State>) -> Content {
    let mut ranges = Ranges::default();
    each_pool(state, |state, id| {
        let Some(pool) = state.pool(id) else { return };
        let Ok(supply) = &pool.supply else { return };
        let member = Member::Pool(Rc::clone(id), Rc::clone(&pool.scope_label));
        ranges.add(member, supply.parts.iter().flat_map(|part| part.addresses.ranges()));
    })
    .await;
    let pools = ranges.members.len();
    add_others(&state.borrow(), &mut ranges);
    let Ranges { members, all, left } = ranges;
    tokio::task::yield_now().await;
    let groups = groups(&all, pools);
    tokio::task::yield_now().await;
    let mut html = Html::default();
    html.raw("<p>Pools, and networks with ranges, may share addresses of one scope: an address ");
    html.raw("has one holder in its scope. In different scopes, both may give the same address. ");
    html.raw("That is right if their wires are separate. The network of the cluster gives ");
    html.raw("addresses of the podCIDRs of nodes to pods, unless it ignores them.</p>\n");
    if 0 < left {
        html.raw("<p class=\"trouble\">").text(counted(left as u128, "range", "ranges"));
        html.raw(" of the last pools and networks were not compared. The page compares at most ");
        html.text(grouped(RANGES as u128)).raw(".</p>\n");
    }
    if groups.is_empty() {
        html.raw("<p>No pool shares an address with another one, a network or a node.</p>\n");
    } else {
        write(&mut html, &groups, &members);
    }
    Content { status: 200, title: "Overlaps".to_owned(), html }
}

/// Adds what is not a pool.
fn add_others(state: &State, ranges: &mut Ranges) {
    for (name, network) in state.networks() {
        let scope = names::of_scope_in_name(&network.scope);
        // What is in files is in no scope of the Kubernetes API.
        let scope = if network.is_in_files { format!("{scope} in files") } else { scope };
        let member = Member::Network(name.clone(), scope.as_str().into());
        ranges.add(member, network.given.ranges());
    }
    ranges.add(Member::Nodes, state.all_pod_ranges().ranges());
}

/// Returns the groups of members that share addresses, in the order of their first shared address.
/// In each is one of the first members, which are the pools.
fn groups(ranges: &[(Range, usize)], pools: usize) -> Vec<Group> {
    let random = RandomState::new();
    let mut active: BTreeSet<usize> = BTreeSet::new();
    // The set of active members as a number: each one that comes or goes flips its bits.
    let mut set = 0u64;
    let mut known: HashMap<u64, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    sweep(ranges, |edge| match edge {
        Edge::Begins(member) => {
            active.insert(member);
            set ^= random.hash_one(member);
        }
        Edge::Ends(member) => {
            active.remove(&member);
            set ^= random.hash_one(member);
        }
        Edge::Between(range)
            if 1 < active.len() && active.first().is_some_and(|first| *first < pools) =>
        {
            let at = *known.entry(set).or_insert_with(|| {
                let first = active.iter().take(MEMBERS - 1);
                let last = active.iter().skip(MEMBERS - 1).last();
                let some = first.chain(last).copied().collect();
                groups.push(Group {
                    first: range,
                    ranges: 0,
                    addresses: 0,
                    some,
                    members: active.len(),
                });
                groups.len() - 1
            });
            if let Some(group) = groups.get_mut(at) {
                group.ranges += 1;
                group.addresses = group.addresses.saturating_add(range.count());
            }
        }
        Edge::Between(_) => {}
    });
    groups
}

fn write(html: &mut Html, groups: &[Group], all: &[Member]) {
    html.raw("<table>\n<thead><tr><th>Addresses</th><th class=\"number\">Shared</th>");
    html.raw("<th>Scopes</th><th>Who has them</th></tr></thead>\n<tbody>\n");
    for group in groups.iter().take(GROUPS) {
        html.raw("<tr><td><code>").text(group.first).raw("</code>");
        if 1 < group.ranges {
            html.raw("<br><span class=\"quiet\">and ");
            html.text(counted(group.ranges as u128 - 1, "more range", "more ranges"));
            html.raw("</span>");
        }
        html.raw("</td><td class=\"number\" data-label=\"Shared\">");
        html.text(grouped(group.addresses)).raw("</td><td data-label=\"Scopes\">");
        let members = || group.some.iter().filter_map(|number| all.get(*number));
        let scopes: BTreeSet<&str> = members().filter_map(Member::scope).collect();
        html.raw(match (scopes.len() <= 1, group.members <= MEMBERS) {
            (true, true) => "one scope",
            (true, false) => "one scope, as far as shown",
            (false, _) => "different scopes",
        });
        if members().any(|member| matches!(member, Member::Nodes)) {
            html.raw(", and the network of the cluster");
        }
        html.raw("</td><td data-label=\"Who has them\">");
        members().for_each(|member| write_member(html, member));
        let more = group.members - group.some.len();
        if 0 < more {
            html.raw("<div>").text(grouped(more as u128)).raw(" more</div>");
        }
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
    if let Some(more) = groups.len().checked_sub(GROUPS).filter(|more| 0 < *more) {
        html.raw("<p>").text(counted(more as u128, "more group", "more groups"));
        html.raw(" not shown.</p>\n");
    }
}

impl Member {
    fn scope(&self) -> Option<&str> {
        match self {
            Self::Pool(_, scope) | Self::Network(_, scope) => Some(scope),
            Self::Nodes => None,
        }
    }
}

fn write_member(html: &mut Html, member: &Member) {
    html.raw("<div>");
    match member {
        Member::Pool(id, _) => {
            html.raw("<a href=\"").text(path_of_pool(id)).raw("\">").name(shown_name(id));
            html.raw("</a> <span class=\"quiet\">").text(id.kind.name()).raw("</span>");
        }
        Member::Network(name, _) => {
            html.name(name).raw(" <span class=\"quiet\">network</span>");
        }
        Member::Nodes => {
            html.raw("podCIDRs of nodes");
        }
    }
    html.raw("</div>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ranges: &[(&str, usize)]) -> Vec<String> {
        shown_with(usize::MAX, ranges)
    }

    fn shown_with(pools: usize, ranges: &[(&str, usize)]) -> Vec<String> {
        let parse = |(text, pool): &(&str, usize)| {
            let (first, last) = text.split_once('-').unwrap();
            (Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap(), *pool)
        };
        let ranges: Vec<_> = ranges.iter().map(parse).collect();
        let show = |group: &Group| {
            let Group { first, ranges, addresses, some, .. } = group;
            format!("{first} {ranges} {addresses} {some:?}")
        };
        groups(&ranges, pools).iter().map(show).collect()
    }

    #[test]
    fn what_no_pool_has_is_not_shown() {
        let ranges = [
            ("10.0.0.1-10.0.0.9", 0),
            ("10.0.0.5-10.0.0.20", 1),
            ("10.0.0.7-10.0.0.15", 2),
            ("10.0.0.30-10.0.0.40", 0),
        ];
        let with_pool = ["10.0.0.5-10.0.0.6 1 2 [0, 1]", "10.0.0.7-10.0.0.9 1 3 [0, 1, 2]"];
        assert_eq!(shown_with(1, &ranges), with_pool);
        assert_eq!(shown_with(2, &ranges).len(), 3);
        assert_eq!(shown_with(0, &ranges), Vec::<String>::new());
        let many: Vec<_> = (0..9).map(|member| ("10.0.0.1-10.0.0.1", member)).collect();
        assert_eq!(shown(&many), ["10.0.0.1-10.0.0.1 1 1 [0, 1, 2, 3, 4, 8]"]);
    }

    #[test]
    fn what_pools_share_is_found_once_for_each_set_of_pools() {
        assert_eq!(
            shown(&[("10.0.0.1-10.0.0.9", 0), ("10.0.0.10-10.0.0.19", 1)]),
            Vec::<String>::new()
        );
        assert_eq!(
            shown(&[
                ("10.0.0.1-10.0.0.9", 0),
                ("10.0.0.5-10.0.0.9", 1),
                ("10.0.0.9-10.0.0.20", 2),
                ("10.0.0.20-10.0.0.30", 0),
                ("10.0.0.30-10.0.0.40", 1),
            ]),
            [
                "10.0.0.5-10.0.0.8 2 5 [0, 1]",
                "10.0.0.9-10.0.0.9 1 1 [0, 1, 2]",
                "10.0.0.20-10.0.0.20 1 1 [0, 2]",
            ]
        );
        // The last address of a family, and both families.
        assert_eq!(
            shown(&[
                ("ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0),
                (
                    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                    1
                ),
                ("0.0.0.1-0.0.0.1", 0),
                ("::1-::1", 1),
            ]),
            [
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 1 1 [0, 1]"
            ]
        );
    }
}
