//! The page of one pool: its numbers, a map of its addresses, and their holders.

use super::Content;
use super::drawing::{Colors, draw, legend};
use super::holder::Who;
use super::html::{Html, counted, grouped};
use super::map::{CELLS, Map};
use super::pools::{PATTERNS, ROWS, bar, pages, shown_name, trouble};
use super::query::{encoded, page_number, value};
use super::slices;
use super::walk::walk;
use crate::addr::{Range, Subnet};
use crate::controller::pool::{PoolId, Section, Supply};
use crate::controller::state::State;
use std::cell::RefCell;
use std::net::IpAddr;

/// How many subnets have a map. A pool with more of them has a table all the same.
const MAPS: usize = 64;
/// How many claims outside of the pool are listed.
const OUTSIDE: usize = 100;

/// Returns the page, or `None` if the pool does not exist.
pub(super) async fn page(state: &RefCell<State>, id: &PoolId, query: &str) -> Option<Content> {
    let within = value(query, "within").and_then(|text| Subnet::parse(&text).ok());
    let mut html = Html::default();
    html.raw(PATTERNS);
    let (mut maps, rest, scope) = {
        let state = state.borrow();
        let pool = state.pool(id)?;
        let numbers = state.numbers(id, pool);
        html.raw("<p class=\"quiet\">").text(id.kind.name());
        html.raw(". Scope: ").name(&numbers.scope).raw("</p>\n<div class=\"sum\">");
        let listed = pool.supply.as_ref().map_or(0, |supply| supply.outline.count());
        bar(&mut html, &numbers, listed.saturating_sub(numbers.total));
        html.raw("</div>\n<p>").text(counted(numbers.total, "address", "addresses"));
        html.raw(" in total, ");
        html.text(counted(numbers.waiting.into(), "claim waits", "claims wait"));
        html.raw(" for an address.</p>\n<p>");
        trouble(&mut html, &numbers);
        html.raw("</p>\n");
        if numbers.has_slices {
            slices::write(&mut html, &state, id, query);
            return Some(Content { status: 200, title: shown_name(id), html });
        }
        let (maps, rest) = match &pool.supply {
            Ok(supply) => parts(supply, within.map(|subnet| subnet.whole()).as_ref()),
            Err(_) => Default::default(),
        };
        (maps, rest, std::rc::Rc::clone(&pool.scope_label))
    };
    let skipped = page_number(query).saturating_sub(1).saturating_mul(ROWS);
    let mut table = Table { skipped, total: 0, rows: Vec::new() };
    for map in &mut maps {
        let Some(range) = map.range() else { continue };
        walk(state, &scope, &range, |address, holding| {
            let who = Who::of(&holding.holder);
            if map.note(address, &who) {
                table.add(address, who);
            }
        })
        .await;
    }
    for range in &rest {
        walk(state, &scope, range, |address, holding| {
            table.add(address, Who::of(&holding.holder));
        })
        .await;
    }
    let by_node = value(query, "by").is_some_and(|by| by == "node");
    views(&mut html, by_node, within.as_ref());
    drawings(&mut html, &maps, by_node).await;
    if !rest.is_empty() {
        html.raw("<p>Only the first ").text(MAPS).raw(" subnets are drawn.</p>\n");
    }
    table.write(&mut html, &parameters(by_node, within.as_ref()));
    outside(&mut html, &state.borrow(), id);
    Some(Content { status: 200, title: shown_name(id), html })
}

/// Returns the page for a pool that does not exist.
pub(super) fn unknown(id: &PoolId) -> Content {
    let mut html = Html::default();
    html.raw("<p>There is no ").text(id.kind.name()).raw(" of the name ").name(shown_name(id));
    html.raw(". It may have been deleted.</p>\n");
    Content { status: 404, title: "No such pool".to_owned(), html }
}

/// Returns the maps of a pool, and the ranges that have none.
fn parts(supply: &Supply, within: Option<&Range>) -> (Vec<Map>, Vec<Range>) {
    let is_within = |section: &&Section| {
        within.is_none_or(|within| section.subnet.whole().intersection(within).is_some())
    };
    let mut sections: Vec<&Section> = supply.outline.sections.iter().filter(is_within).collect();
    sections.sort_by_key(|section| section.subnet.network());
    let rest = sections.split_off(sections.len().min(MAPS));
    let most = CELLS.checked_div(sections.len()).unwrap_or(CELLS);
    let maps =
        sections.iter().filter_map(|section| Map::new(section, supply, within, most)).collect();
    let rest = rest.iter().flat_map(|section| section.listed.ranges());
    let rest = rest.filter_map(|range| match within {
        Some(within) => range.intersection(within),
        None => Some(range),
    });
    (maps, rest.collect())
}

/// Returns the query of this view, with a `&` after each part.
fn parameters(by_node: bool, within: Option<&Subnet>) -> String {
    let mut text = String::new();
    if by_node {
        text.push_str("by=node&");
    }
    if let Some(within) = within {
        text.push_str(&format!("within={}&", encoded(&within.to_string())));
    }
    text
}

/// Writes the links to the other views.
fn views(html: &mut Html, by_node: bool, within: Option<&Subnet>) {
    html.raw("<h2>Map</h2>\n<div class=\"pages\">");
    let other = parameters(!by_node, within);
    html.raw("<a href=\"?").text(&other).raw("\">");
    html.raw(if by_node { "Color by holder" } else { "Color by node" }).raw("</a>");
    if let Some(within) = within {
        html.raw("<span>Only <code>").text(within).raw("</code></span><a href=\"?");
        html.text(parameters(by_node, None)).raw("\">Whole pool</a>");
    }
    html.raw("</div>\n");
}

async fn drawings(html: &mut Html, maps: &[Map], by_node: bool) {
    let colors = by_node.then(|| Colors::of(maps));
    if maps.is_empty() {
        html.raw("<p class=\"quiet\">There is no address to draw.</p>\n");
        return;
    }
    legend(html, maps, colors.as_ref());
    if maps.iter().any(|map| !map.grid.is_of_single_addresses()) {
        html.raw("<p class=\"quiet\">A cell that is a block of addresses is filled from below ");
        html.raw("as far as they are held. It leads to a map of the block.</p>\n");
    }
    for map in maps {
        if let Some(first) = map.grid.subnet(0) {
            let words = match map.grid.is_of_single_addresses() {
                true => "one address per cell".to_owned(),
                false => format!("{} addresses per cell", grouped(first.whole().count())),
            };
            let range = map.range().map(|range| range.to_string()).unwrap_or_default();
            html.raw("<h3><code>").text(range).raw("</code> <span class=\"quiet\">");
            html.text(words).raw("</span></h3>\n");
        }
        let rest = if by_node { "by=node&" } else { "" };
        draw(html, map, colors.as_ref(), rest);
        tokio::task::yield_now().await;
    }
}

/// The holders of one page of the table.
struct Table {
    skipped: usize,
    total: usize,
    rows: Vec<(IpAddr, Who)>,
}

impl Table {
    fn add(&mut self, address: IpAddr, who: Who) {
        if self.skipped <= self.total && self.rows.len() < ROWS {
            self.rows.push((address, who));
        }
        self.total += 1;
    }

    fn write(&self, html: &mut Html, rest: &str) {
        html.raw("<h2>Holders</h2>\n<p class=\"quiet\">");
        html.text(counted(self.total as u128, "address is", "addresses are")).raw(" held.</p>\n");
        if !self.rows.is_empty() {
            rows(html, &self.rows);
        }
        let number = self.skipped / ROWS + 1;
        pages(html, rest, number, self.total);
    }
}

fn rows(html: &mut Html, rows: &[(IpAddr, Who)]) {
    html.raw("<table>\n<thead><tr><th>Address</th><th>Holder</th><th>Node</th></tr></thead>\n");
    html.raw("<tbody>\n");
    for (address, who) in rows {
        html.raw("<tr><td><code>").text(address).raw("</code></td>");
        who.cells(html);
        html.raw("</tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}

/// Writes the claims of the pool whose address it does not list any more.
fn outside(html: &mut Html, state: &State, id: &PoolId) {
    let Some(Ok(supply)) = state.pool(id).map(|pool| pool.supply.as_ref()) else { return };
    let is_listed =
        |address: IpAddr| supply.outline.sections.iter().any(|part| part.listed.contains(address));
    let all = state.answers_of(id).filter(|(address, _)| !is_listed(*address));
    let mut found: Vec<(IpAddr, Who)> = Vec::new();
    let mut total = 0usize;
    for (address, name) in all {
        if found.len() < OUTSIDE {
            found.push((*address, Who::Claim("IPAddress".to_owned(), name.clone())));
        }
        total += 1;
    }
    if total == 0 {
        return;
    }
    html.raw("<h2>Held outside of the pool</h2>\n<p>");
    html.text(counted(total as u128, "claim has", "claims have"));
    html.raw(" an address that the pool does not list any more.</p>\n");
    rows(html, &found);
    if found.len() < total {
        html.raw("<p>").text(grouped((total - found.len()) as u128)).raw(" more.</p>\n");
    }
}
