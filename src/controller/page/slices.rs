//! The slices of a pool: their blocks and owners, and who holds the addresses in them, as their nodes
//! have published it.

use super::holder::Who;
use super::html::{Html, counted, grouped};
use super::pools::{ROWS, pages};
use super::query::{encoded, page_number, value};
use crate::controller::pool::PoolId;
use crate::controller::state::{Name, Published, Slice, State};
use crate::controller::work::now;
use crate::store::slices::SliceHolder;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// Writes the table of the slices that nodes own or that were released, or the holders in one of
/// them.
pub(super) fn write(html: &mut Html, state: &State, id: &PoolId, query: &str) {
    let wanted = value(query, "slice").and_then(|text| text.parse().ok());
    let number = page_number(query);
    let skipped = number.saturating_sub(1).saturating_mul(ROWS);
    if let Some(first) = wanted {
        return match state.slice_at(&id.name, first) {
            Some(slice) => holders(html, slice, number, skipped),
            None => drop(html.raw("<p>Nobody owns this slice any more.</p>\n")),
        };
    }
    let total = state.slices_of(&id.name).count();
    html.raw("<h2>Slices</h2>\n<p class=\"quiet\">");
    html.text(counted(total as u128, "slice is", "slices are"));
    html.raw(" not free. Each node publishes what is held in its slices, at most once a minute, ");
    html.raw("and only what has changed. What it holds now, <code>hereabouts list</code> there ");
    html.raw("shows.</p>\n");
    let mut shown = state.slices_of(&id.name).skip(skipped).take(ROWS).peekable();
    if shown.peek().is_some() {
        html.raw("<table>\n<thead><tr><th>Block</th><th>Node</th><th>State</th><th>Held</th>");
        html.raw("<th>As of</th></tr></thead>\n<tbody>\n");
        shown.for_each(|slice| row(html, slice));
        html.raw("</tbody>\n</table>\n");
    }
    pages(html, "", number, total);
}

fn row(html: &mut Html, slice: &Slice) {
    html.raw("<tr><td><code>").text(&slice.block).raw("</code></td><td>");
    html.name(&slice.node).raw("</td><td>");
    match &slice.released {
        Some(since) => html.raw("released ").text(since),
        None => html.raw("owned"),
    };
    html.raw("</td><td>");
    match (&slice.published, slice.block.first()) {
        (Some(published), Some(first)) => {
            html.raw("<a href=\"").text(query_of(first)).raw("\">");
            html.text(grouped(published.count.into())).raw("</a></td><td>");
            html.text(as_of(published));
        }
        _ => drop(html.raw("<span class=\"quiet\">not published</span></td><td>")),
    }
    html.raw("</td></tr>\n");
}

fn holders(html: &mut Html, slice: &Slice, number: usize, skipped: usize) {
    html.raw("<h2>Slice <code>").text(&slice.block).raw("</code></h2>\n<p class=\"quiet\">");
    html.raw("Of node ").name(&slice.node).raw(". ");
    match &slice.published {
        Some(published) => {
            let count = published.count.into();
            html.text(counted(count, "address was", "addresses were")).raw(" held when it ");
            html.raw("published that, ").text(as_of(published)).raw(".");
        }
        None => drop(html.raw("It has published nothing.")),
    }
    html.raw(" <a href=\"?\">All slices</a></p>\n");
    let total = slice.held().count();
    let mut shown = slice.held().skip(skipped).take(ROWS).peekable();
    if shown.peek().is_some() {
        html.raw("<table>\n<thead><tr><th>Address</th><th>Holder</th><th>Node</th></tr></thead>\n");
        html.raw("<tbody>\n");
        for (address, holder) in shown {
            html.raw("<tr><td><code>").text(address).raw("</code></td>");
            who(slice, &holder).cells(html);
            html.raw("</tr>\n");
        }
        html.raw("</tbody>\n</table>\n");
    }
    let rest = slice.block.first().map(query_of).unwrap_or_default();
    pages(html, &format!("{}&", rest.trim_start_matches('?')), number, total);
}

/// Returns who holds an address of a slice.
pub(super) fn who(slice: &Slice, holder: &SliceHolder) -> Who {
    let SliceHolder { namespace, pod, .. } = holder;
    let name = Name { namespace: namespace.as_str().into(), name: pod.as_str().into() };
    Who::Pod(name, Rc::clone(&slice.node))
}

/// Returns the query of the view of one slice.
pub(super) fn query_of(first: IpAddr) -> String {
    format!("?slice={}", encoded(&first.to_string()))
}

/// Returns how long ago a node has published something, in its two largest units.
pub(super) fn as_of(published: &Published) -> String {
    ago(now(), published.at)
}

fn ago(now: SystemTime, at: SystemTime) -> String {
    // The clock of the node may be ahead.
    let age = now.duration_since(at).unwrap_or_default().as_secs();
    let text = humantime::format_duration(Duration::from_secs(age)).to_string();
    let units: Vec<&str> = text.split_whitespace().take(2).collect();
    format!("{} ago", units.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_two_units_and_is_never_negative() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(ago(at(40), at(0)), "40s ago");
        assert_eq!(ago(at(3_661), at(0)), "1h 1m ago");
        assert_eq!(ago(at(0), at(9)), "0s ago");
    }
}
