//! The search: an address, a subnet, or a part of a name.

use super::Content;
use super::holder::Who;
use super::html::{Html, counted, grouped};
use super::pools::shown_name;
use super::query::{encoded, path_of_pool, value};
use super::slices;
use super::walk::{each_pool, each_slice, walk};
use crate::addr::{Range, Subnet, parse_address};
use crate::controller::pool::{PoolId, PoolKind};
use crate::controller::state::{Name, PoolState, State};
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

/// How many results of each kind are shown.
const RESULTS: usize = 200;
/// The longest text that is searched for: a namespace, a name and what is between them.
const LONGEST: usize = 300;
/// What is searched for.
enum Wanted {
    /// Addresses.
    In(Range),
    /// A part of a name, in lower case. Before a `/` there is a namespace.
    Text(String),
}

/// The first results, and the number of all.
struct Found<T> {
    first: Vec<T>,
    total: usize,
}

impl<T> Found<T> {
    const fn new() -> Self {
        Self { first: Vec::new(), total: 0 }
    }

    fn add(&mut self, result: impl FnOnce() -> T) {
        if self.first.len() < RESULTS {
            self.first.push(result());
        }
        self.total += 1;
    }
}

/// An address that matches.
struct Hit {
    place: Place,
    address: IpAddr,
    who: Who,
}

/// Where a held address is.
enum Place {
    /// In a scope, of which any pool may be.
    Scope(Rc<str>),
    /// In a slice.
    Slice {
        pool: Rc<str>,
        first: Option<IpAddr>,
        /// How long ago its node has published that the address is held.
        as_of: String,
    },
}

impl Wanted {
    fn parse(text: &str) -> Self {
        if let Ok(address) = parse_address(text) {
            return Self::In(Range::single(address));
        }
        match Subnet::parse(text) {
            Ok(subnet) => Self::In(subnet.whole()),
            Err(_) => Self::Text(text.to_lowercase()),
        }
    }

    fn is_name(&self, name: &Name) -> bool {
        let Self::Text(wanted) = self else { return false };
        match wanted.split_once('/') {
            Some((namespace, rest)) => {
                name.namespace.eq_ignore_ascii_case(namespace) && has(&name.name, rest)
            }
            None => has(&name.name, wanted),
        }
    }

    fn is_holder(&self, address: IpAddr, who: &Who) -> bool {
        match (self, who) {
            (Self::In(range), _) => range.contains(address),
            (Self::Text(wanted), Who::Pod(name, node)) => self.is_name(name) || has(node, wanted),
            (Self::Text(_), Who::Claim(_, name)) => self.is_name(name),
            (Self::Text(_), Who::Asked | Who::Unknown) => false,
        }
    }

    fn is_pool(&self, id: &PoolId, pool: &PoolState) -> bool {
        match self {
            Self::In(range) => pool.supply.as_ref().is_ok_and(|supply| {
                supply.outline.sections.iter().any(|section| section.listed.touches(range))
            }),
            Self::Text(_) => self.is_name(&Name::of_pool(id)),
        }
    }
}

/// Returns whether a text has a part, which is in lower case.
fn has(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// Returns what was searched for, without the spaces around it.
pub(super) fn text(query: &str) -> String {
    value(query, "q").unwrap_or_default().trim().to_owned()
}

/// Returns the results.
pub(super) async fn page(state: &RefCell<State>, query: &str) -> Content {
    let text = text(query);
    let mut html = Html::default();
    let title = "Search".to_owned();
    if text.is_empty() || LONGEST < text.len() {
        html.raw("<p>Search for an address, a subnet such as <code>10.0.0.0/28</code>, a pod as ");
        html.raw("<code>namespace/name</code> or a part of its name, a node, a claim, or a pool. ");
        html.raw("The text has at most ").text(LONGEST).raw(" characters.</p>\n");
        return Content { status: 200, title, html };
    }
    let wanted = Wanted::parse(&text);
    let pools = pools(state, &wanted).await;
    let holders = holders(state, &wanted).await;
    let claims = waiting(state, &wanted).await;
    html.raw("<p>Results for <b>").name(&text).raw("</b>.</p>\n");
    write_holders(&mut html, state, &holders).await;
    if 0 < pools.total {
        html.raw("<h2>Pools</h2>\n<ul>\n");
        for id in &pools.first {
            html.raw("<li>");
            link(&mut html, id, None);
            html.raw("</li>\n");
        }
        html.raw("</ul>\n");
        more(&mut html, &pools);
    }
    if 0 < claims.total {
        html.raw("<h2>Claims without an address</h2>\n<ul>\n");
        for (name, id) in &claims.first {
            html.raw("<li>").name(name).raw(", of the pool ");
            link(&mut html, id, None);
            html.raw("</li>\n");
        }
        html.raw("</ul>\n");
        more(&mut html, &claims);
    }
    if pools.total + holders.total + claims.total == 0 {
        html.raw("<p>Nothing was found. An address that is free has no holder.</p>\n");
    }
    Content { status: 200, title, html }
}

fn link(html: &mut Html, id: &PoolId, at: Option<IpAddr>) {
    html.raw("<a href=\"").text(path_of_pool(id));
    // A map of the neighborhood, in which each address is a cell.
    let around = at.and_then(|at| Subnet::new(at, if at.is_ipv4() { 24 } else { 120 }).ok());
    if let Some(around) = around {
        html.raw("?within=").text(encoded(&around.to_string()));
    }
    html.raw("\">").name(shown_name(id)).raw("</a> <span class=\"quiet\">");
    html.text(id.kind.name()).raw("</span>");
}

fn link_to_slice(html: &mut Html, pool: &str, first: Option<IpAddr>, as_of: &str) {
    let id = PoolId { kind: PoolKind::Own, namespace: String::new(), name: pool.to_owned() };
    html.raw("<a href=\"").text(path_of_pool(&id));
    if let Some(first) = first {
        html.text(slices::query_of(first));
    }
    html.raw("\">").name(pool).raw("</a> <span class=\"quiet\">as of ").text(as_of);
    html.raw("</span>");
}

fn more<T>(html: &mut Html, found: &Found<T>) {
    let more = found.total - found.first.len();
    if 0 < more {
        html.raw("<p>").text(counted(more as u128, "more result", "more results"));
        html.raw(" not shown.</p>\n");
    }
}

async fn pools(state: &RefCell<State>, wanted: &Wanted) -> Found<Rc<PoolId>> {
    let mut found = Found::new();
    each_pool(state, |state, id| {
        if state.pool(id).is_some_and(|pool| wanted.is_pool(id, pool)) {
            found.add(|| Rc::clone(id));
        }
    })
    .await;
    found
}

async fn holders(state: &RefCell<State>, wanted: &Wanted) -> Found<Hit> {
    let mut scopes: Vec<Rc<str>> = state.borrow().held.scopes().map(Rc::clone).collect();
    scopes.sort_unstable();
    let ranges = match wanted {
        Wanted::In(range) => vec![*range],
        Wanted::Text(_) => Range::all().to_vec(),
    };
    let mut found = Found::new();
    for scope in &scopes {
        for range in &ranges {
            walk(state, scope, range, |address, holding| {
                let who = Who::of(&holding.holder);
                if wanted.is_holder(address, &who) {
                    found.add(|| Hit { place: Place::Scope(Rc::clone(scope)), address, who });
                }
            })
            .await;
        }
    }
    each_slice(state, |slice| {
        let is_elsewhere = |range: &Range| {
            slice.block.subnets().all(|subnet| subnet.whole().intersection(range).is_none())
        };
        let Some(published) = &slice.published else { return };
        if matches!(wanted, Wanted::In(range) if is_elsewhere(range)) {
            return;
        }
        for (address, holder) in slice.held() {
            let who = slices::who(slice, &holder);
            if wanted.is_holder(address, &who) {
                let (pool, first) = (Rc::clone(&slice.pool), slice.block.first());
                let as_of = slices::as_of(published);
                found.add(|| Hit { place: Place::Slice { pool, first, as_of }, address, who });
            }
        }
    })
    .await;
    found
}

/// Returns the claims that have no address.
async fn waiting(state: &RefCell<State>, wanted: &Wanted) -> Found<(Name, Rc<PoolId>)> {
    let mut found = Found::new();
    if matches!(wanted, Wanted::In(_)) {
        return found;
    }
    each_pool(state, |state, id| {
        for name in state.claims_of(id).filter(|name| wanted.is_name(name)) {
            if state.claim(name).is_some_and(|claim| claim.answered_by.is_none()) {
                found.add(|| (name.clone(), Rc::clone(id)));
            }
        }
    })
    .await;
    found
}

async fn write_holders(html: &mut Html, state: &RefCell<State>, found: &Found<Hit>) {
    if found.total == 0 {
        return;
    }
    let mut pools: Vec<Option<Rc<PoolId>>> = found.first.iter().map(|_| None).collect();
    each_pool(state, |state, id| {
        let Some(pool) = state.pool(id) else { return };
        let Ok(supply) = &pool.supply else { return };
        for (hit, known) in found.first.iter().zip(&mut pools) {
            let has = |hit: &Hit| {
                matches!(&hit.place, Place::Scope(scope) if *scope == pool.scope_label)
                    && supply.outline.sections.iter().any(|part| part.listed.contains(hit.address))
            };
            if known.is_none() && has(hit) {
                *known = Some(Rc::clone(id));
            }
        }
    })
    .await;
    html.raw("<h2>Held addresses</h2>\n<p class=\"quiet\">");
    html.text(grouped(found.total as u128)).raw(" found.</p>\n<table>\n<thead><tr>");
    html.raw("<th>Address</th><th>Holder</th><th>Node</th><th>Pool</th></tr></thead>\n<tbody>\n");
    for (hit, pool) in found.first.iter().zip(&pools) {
        html.raw("<tr><td><code>").text(hit.address).raw("</code></td>");
        hit.who.cells(html);
        html.raw("<td data-label=\"Pool\">");
        match (pool, &hit.place) {
            (_, Place::Slice { pool, first, as_of }) => link_to_slice(html, pool, *first, as_of),
            (Some(id), Place::Scope(_)) => link(html, id, Some(hit.address)),
            (None, Place::Scope(_)) => {
                html.raw("<span class=\"quiet\">in no pool</span>");
            }
        }
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
    more(html, found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_a_part_and_with_their_whole_namespace() {
        let name = Name { namespace: "default".into(), name: "Web-0".into() };
        let is_found = |text: &str| Wanted::parse(text).is_name(&name);
        for text in ["web", "eb-0", "default/web-0", "default/web", "default/"] {
            assert!(is_found(text), "{text}");
        }
        for text in ["web-1", "fault/web-0", "default/web-0/x", "web-0-longer-than-it"] {
            assert!(!is_found(text), "{text}");
        }
    }

    #[test]
    fn addresses_and_subnets_are_not_names() {
        let is_in = |text: &str, address: &str| {
            let wanted = Wanted::parse(text);
            matches!(&wanted, Wanted::In(_))
                && wanted.is_holder(address.parse().unwrap(), &Who::Unknown)
        };
        assert!(is_in("10.0.0.7", "10.0.0.7"));
        assert!(!is_in("10.0.0.7", "10.0.0.8"));
        assert!(is_in("10.0.0.0/28", "10.0.0.8"));
        assert!(is_in("fd00::/64", "fd00::8"));
        assert!(!is_in("10.0.0", "10.0.0.8"));
    }
}
