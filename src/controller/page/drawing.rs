//! The map of a pool as SVG. Each cell has a title, which browsers show beside the pointer and
//! programs that read pages aloud say.

use super::html::{Html, counted, grouped};
use super::map::{Cell, Map, State};
use super::pools::sample;
use super::query::encoded;
use std::collections::HashMap;
use std::rc::Rc;

/// How many nodes have a color of their own.
const COLORS: usize = 8;
/// The distance between two cells, and the size of one.
const PITCH: u32 = 20;
const SIZE: u32 = 17;
/// The width of a letter of a label.
const LETTER: u32 = 8;

/// The nodes that have a color of their own, those with the most addresses first.
#[derive(Debug, Default)]
pub(super) struct Colors {
    ranks: HashMap<Rc<str>, usize>,
    order: Vec<(Rc<str>, u64)>,
    others: u64,
}

impl Colors {
    /// Counts the nodes of all maps of a page.
    pub(super) fn of(maps: &[Map]) -> Self {
        let mut counts: HashMap<Rc<str>, u64> = HashMap::new();
        for (node, count) in maps.iter().flat_map(|map| &map.cells).flat_map(|cell| &cell.nodes) {
            *counts.entry(Rc::clone(node)).or_default() += count;
        }
        let mut order: Vec<(Rc<str>, u64)> = counts.into_iter().collect();
        order.sort_by(|(a, more), (b, fewer)| fewer.cmp(more).then_with(|| a.cmp(b)));
        let others = order.split_off(order.len().min(COLORS)).iter().map(|(_, count)| count).sum();
        let names = order.iter().map(|(name, _)| Rc::clone(name));
        Self { ranks: names.zip(1..).collect(), order, others }
    }

    /// Returns the color of the node that has the most addresses of a cell, from 1; 0 for the color
    /// of all others.
    fn rank(&self, cell: &Cell) -> Option<usize> {
        let (node, _) = cell.nodes.iter().max_by_key(|(_, count)| *count)?;
        Some(self.ranks.get(node).copied().unwrap_or_default())
    }
}

/// Writes the legend of all maps: the states that occur.
pub(super) fn legend(html: &mut Html, maps: &[Map], colors: Option<&Colors>) {
    let occurs = |state: State| {
        maps.iter().flat_map(|map| &map.cells).any(|cell| match state {
            State::Pod => cell.outside < cell.pods,
            State::Claim => 0 < cell.claims && cell.outside < cell.held(),
            State::Reserved => 0 < cell.reserved,
            State::Gateway => cell.gateway,
            other => cell.state() == other,
        })
    };
    html.raw("<ul class=\"legend\" aria-label=\"Legend\">");
    for state in State::ALL.into_iter().filter(|state| occurs(*state)) {
        if let (State::Pod, Some(colors)) = (state, colors) {
            nodes(html, colors);
            continue;
        }
        html.raw("<li>");
        sample(html, state.class());
        html.raw(state.words()).raw("</li>");
    }
    html.raw("</ul>\n");
}

fn nodes(html: &mut Html, colors: &Colors) {
    for ((name, count), rank) in colors.order.iter().zip(1..) {
        html.raw("<li>");
        sample(html, &format!("n{rank}"));
        html.raw("<b>").text(rank).raw("</b> ").name(name).raw(": ").text(grouped((*count).into()));
        html.raw("</li>");
    }
    if 0 < colors.others {
        html.raw("<li>");
        sample(html, "n0");
        html.raw("other nodes: ").text(grouped(colors.others.into())).raw("</li>");
    }
}

/// Writes a map.
pub(super) fn draw(html: &mut Html, map: &Map, colors: Option<&Colors>, rest: &str) {
    let columns: u8 = if map.cells.len() <= 256 { 16 } else { 32 };
    let rows = rows(map, columns);
    let labels: Vec<String> = rows.iter().map(|row| label(map, row)).collect();
    let longest = labels.iter().map(String::len).max().unwrap_or_default();
    let left = u32::try_from(longest).unwrap_or_default() * LETTER + 8;
    let (width, height) =
        (left + u32::from(columns) * PITCH, u32::try_from(rows.len()).unwrap_or_default() * PITCH);
    html.raw("<div class=\"map\" tabindex=\"0\" role=\"group\" aria-label=\"Map of addresses\">");
    html.raw(if columns <= 16 { "<svg class=\"fit\" width=\"" } else { "<svg width=\"" })
        .text(width)
        .raw("\" height=\"")
        .text(height);
    html.raw("\" viewBox=\"0 0 ").text(width).raw(" ").text(height).raw("\">\n");
    let mut top = 1;
    for (row, label) in rows.iter().zip(&labels) {
        html.raw("<text class=\"label\" x=\"0\" y=\"").text(top + 13).raw("\">").text(label);
        html.raw("</text>\n");
        for (at, column) in row {
            if let Some(cell) = map.cells.get(*at) {
                let x = left + u32::from(*column) * PITCH;
                one(html, map, *at, cell, (x, top), colors, rest);
            }
        }
        top += PITCH;
    }
    html.raw("</svg></div>\n");
}

/// Returns the cells of each row, with their columns. A row begins at a multiple of its addresses,
/// unless that leaves most places empty.
fn rows(map: &Map, columns: u8) -> Vec<Vec<(usize, u8)>> {
    let mut rows: Vec<Vec<(usize, u8)>> = Vec::new();
    let mut before = None;
    for at in 0..map.cells.len() {
        let Some((row, column)) = map.grid.place(at, columns) else { continue };
        if before.replace(row) != Some(row) {
            rows.push(Vec::new());
        }
        if let Some(last) = rows.last_mut() {
            last.push((at, column));
        }
    }
    if rows.len() <= 2 + 2 * map.cells.len().div_ceil(columns.into()) {
        return rows;
    }
    let all: Vec<usize> = (0..map.cells.len()).collect();
    let packed = all.chunks(columns.into()).map(|row| row.iter().copied().zip(0..).collect());
    packed.collect()
}

fn label(map: &Map, row: &[(usize, u8)]) -> String {
    let first = row.first().and_then(|(at, _)| map.grid.subnet(*at));
    first.map(|subnet| subnet.network().to_string()).unwrap_or_default()
}

fn one(
    html: &mut Html,
    map: &Map,
    at: usize,
    cell: &Cell,
    (x, y): (u32, u32),
    colors: Option<&Colors>,
    rest: &str,
) {
    let Some(subnet) = map.grid.subnet(at) else { return };
    let state = cell.state();
    let is_single = map.grid.is_of_single_addresses();
    if !is_single {
        html.raw("<a href=\"?").text(rest).raw("within=").text(encoded(&subnet.to_string()));
        html.raw("\">");
    }
    html.raw("<g class=\"cell\"><title>");
    match is_single {
        true => html.text(subnet.network()),
        false => html.text(subnet),
    };
    html.raw(": ");
    title(html, cell, is_single);
    html.raw("</title>");
    let color = colors.and_then(|colors| colors.rank(cell));
    let held = color.map_or_else(|| State::Pod.class().to_owned(), |rank| format!("n{rank}"));
    let full = cell.given.max(u128::from(cell.held())).max(1);
    if is_single && state == State::Pod {
        rect(html, &held, x, y, SIZE);
    } else if is_single || cell.held() == 0 || state == State::Outside {
        rect(html, state.class(), x, y, SIZE);
    } else {
        // Filled from below: first pods, then claims.
        rect(html, State::Free.class(), x, y, SIZE);
        let pods = share(cell.pods.into(), full);
        let both = share(cell.held().into(), full).max(pods);
        rect(html, State::Claim.class(), x, y + SIZE - both, both);
        rect(html, &held, x, y + SIZE - pods, pods);
    }
    let sign = match (color, state) {
        (Some(rank), _) if 0 < rank => Some(rank.to_string()),
        (_, State::Gateway) => Some("G".to_owned()),
        _ => None,
    };
    if let Some(sign) = sign {
        html.raw("<text class=\"sign\" x=\"").text(x + SIZE / 2).raw("\" y=\"").text(y + 13);
        html.raw("\">").text(sign).raw("</text>");
    }
    html.raw("</g>").raw(if is_single { "\n" } else { "</a>\n" });
}

fn rect(html: &mut Html, class: &str, x: u32, y: u32, height: u32) {
    if height == 0 {
        return;
    }
    html.raw("<rect class=\"edge k-").text(class).raw("\" x=\"").text(x).raw("\" y=\"").text(y);
    html.raw("\" width=\"").text(SIZE).raw("\" height=\"").text(height).raw("\"/>");
}

/// Returns a share of a cell's height. What is there is seen, and what is missing, too.
fn share(part: u128, whole: u128) -> u32 {
    let share = part as f64 / whole as f64 * f64::from(SIZE);
    let most = if part < whole { SIZE - 1 } else { SIZE };
    if part == 0 { 0 } else { (1..most).find(|step| share <= f64::from(*step)).unwrap_or(most) }
}

/// Writes the title of a cell after its address.
fn title(html: &mut Html, cell: &Cell, is_single: bool) {
    if let (true, Some(who)) = (is_single, &cell.who) {
        html.raw("held by ").text(who);
        if let Some(node) = who.node() {
            html.raw(" on ").text(node);
        }
        if cell.listed == 0 {
            html.raw(", not in this pool");
        } else if cell.given == 0 && cell.reserved == 0 {
            html.raw(", excluded");
        }
    } else if is_single {
        html.raw(cell.state().words());
    } else {
        html.text(grouped(cell.held().into())).raw(" of ");
        html.text(counted(cell.given, "address", "addresses")).raw(" held");
        let gateway = u128::from(cell.gateway);
        let barred = cell.listed.saturating_sub(cell.given).saturating_sub(cell.reserved);
        let barred = barred.saturating_sub(gateway);
        for (count, words) in [
            (u128::from(cell.claims), " by claims"),
            (barred, " excluded"),
            (cell.reserved, " reserved"),
            (gateway, " gateway"),
            (u128::from(cell.outside), " held, not in this pool"),
        ] {
            if 0 < count {
                html.raw(", ").text(grouped(count)).raw(words);
            }
        }
        let mut nodes: Vec<&(Rc<str>, u64)> = cell.nodes.iter().collect();
        nodes.sort_by(|(a, more), (b, fewer)| fewer.cmp(more).then_with(|| a.cmp(b)));
        for (node, count) in nodes.iter().take(3) {
            html.raw(", ").text(node).raw(": ").text(grouped((*count).into()));
        }
        if let Some(more) = nodes.len().checked_sub(4) {
            html.raw(", ").text(counted(more as u128 + 1, "more node", "more nodes"));
        }
    }
}
