//! Pools that share addresses.
//!
//! The ranges of all pools are sorted and read once from the lowest address to the highest. So the
//! cost grows with the number of ranges, and not with the number of pairs of pools.

use super::Content;
use super::html::{Html, counted, grouped};
use super::pools::shown_name;
use super::query::path_of_pool;
use super::walk::each_pool;
use crate::addr::{Edge, Range, sweep};
use crate::controller::pool::PoolId;
use crate::controller::state::State;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// How many ranges are compared.
const RANGES: usize = 30_000;
/// How many groups of pools are shown, and how many pools of each.
const GROUPS: usize = 200;
const POOLS: usize = 6;

/// Pools that share the same addresses.
struct Group {
    /// The first of the ranges that they share.
    first: Range,
    ranges: usize,
    addresses: u128,
    /// Some of the pools, by their number.
    some: Vec<usize>,
    pools: usize,
}

/// Returns the page.
pub(super) async fn page(state: &RefCell<State>) -> Content {
    let mut pools: Vec<(Rc<PoolId>, Rc<str>)> = Vec::new();
    let mut ranges: Vec<(Range, usize)> = Vec::new();
    let mut left = 0usize;
    each_pool(state, |state, id| {
        let Some(pool) = state.pool(id) else { return };
        let Ok(supply) = &pool.supply else { return };
        let number = pools.len();
        pools.push((Rc::clone(id), Rc::clone(&pool.scope_label)));
        for range in supply.parts.iter().flat_map(|part| part.addresses.ranges()) {
            match ranges.len() < RANGES {
                true => ranges.push((range, number)),
                false => left += 1,
            }
        }
    })
    .await;
    let groups = groups(&ranges);
    tokio::task::yield_now().await;
    let mut html = Html::default();
    html.raw("<p>Pools of one scope may share addresses: an address has one holder in its scope. ");
    html.raw("Pools of different scopes may both give the same address. That is right if they ");
    html.raw("are for networks that do not see each other.</p>\n");
    if 0 < left {
        html.raw("<p class=\"trouble\">").text(counted(left as u128, "range", "ranges"));
        html.raw(" of the last pools were not compared. The page compares at most ");
        html.text(grouped(RANGES as u128)).raw(".</p>\n");
    }
    if groups.is_empty() {
        html.raw("<p>No two pools share an address.</p>\n");
    } else {
        write(&mut html, &groups, &pools);
    }
    Content { status: 200, title: "Overlaps".to_owned(), html }
}

/// Returns the groups of pools that share addresses, in the order of their first shared address.
fn groups(ranges: &[(Range, usize)]) -> Vec<Group> {
    let random = RandomState::new();
    let mut active: BTreeSet<usize> = BTreeSet::new();
    // The set of active pools as a number: each pool that comes or goes flips its bits.
    let mut set = 0u64;
    let mut known: HashMap<u64, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    sweep(ranges, |edge| match edge {
        Edge::Begins(pool) => {
            active.insert(pool);
            set ^= random.hash_one(pool);
        }
        Edge::Ends(pool) => {
            active.remove(&pool);
            set ^= random.hash_one(pool);
        }
        Edge::Between(range) if 1 < active.len() => {
            let at = *known.entry(set).or_insert_with(|| {
                let some = active.iter().copied().take(POOLS).collect();
                groups.push(Group {
                    first: range,
                    ranges: 0,
                    addresses: 0,
                    some,
                    pools: active.len(),
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

fn write(html: &mut Html, groups: &[Group], pools: &[(Rc<PoolId>, Rc<str>)]) {
    html.raw("<table>\n<thead><tr><th>Addresses</th><th class=\"number\">Shared</th>");
    html.raw("<th>Scopes</th><th>Pools</th></tr></thead>\n<tbody>\n");
    for group in groups.iter().take(GROUPS) {
        html.raw("<tr><td><code>").text(group.first).raw("</code>");
        if 1 < group.ranges {
            html.raw("<br><span class=\"quiet\">and ");
            html.text(counted(group.ranges as u128 - 1, "more range", "more ranges"));
            html.raw("</span>");
        }
        html.raw("</td><td class=\"number\" data-label=\"Shared\">");
        html.text(grouped(group.addresses)).raw("</td><td data-label=\"Scopes\">");
        let members = || group.some.iter().filter_map(|number| pools.get(*number));
        let scopes: BTreeSet<&str> = members().map(|(_, scope)| &**scope).collect();
        html.raw(match (scopes.len() <= 1, group.pools <= POOLS) {
            (true, true) => "one scope",
            (true, false) => "one scope, as far as shown",
            (false, _) => "different scopes",
        });
        html.raw("</td><td data-label=\"Pools\">");
        for (id, _) in members() {
            html.raw("<div><a href=\"").text(path_of_pool(id)).raw("\">").name(shown_name(id));
            html.raw("</a> <span class=\"quiet\">").text(id.kind.name()).raw("</span></div>");
        }
        let more = group.pools - group.some.len();
        if 0 < more {
            html.raw("<div>").text(counted(more as u128, "more pool", "more pools"));
            html.raw("</div>");
        }
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
    if let Some(more) = groups.len().checked_sub(GROUPS).filter(|more| 0 < *more) {
        html.raw("<p>").text(counted(more as u128, "more group", "more groups"));
        html.raw(" of pools not shown.</p>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ranges: &[(&str, usize)]) -> Vec<String> {
        let parse = |(text, pool): &(&str, usize)| {
            let (first, last) = text.split_once('-').unwrap();
            (Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap(), *pool)
        };
        let ranges: Vec<_> = ranges.iter().map(parse).collect();
        let show = |group: &Group| {
            let Group { first, ranges, addresses, some, .. } = group;
            format!("{first} {ranges} {addresses} {some:?}")
        };
        groups(&ranges).iter().map(show).collect()
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
