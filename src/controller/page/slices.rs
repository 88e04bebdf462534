//! The slices of a pool: their blocks and owners.

use super::html::{Html, counted};
use super::pools::{ROWS, pages};
use super::query::page_number;
use crate::controller::pool::PoolId;
use crate::controller::state::State;

/// Writes the table of the slices that nodes own or that were released.
pub(super) fn write(html: &mut Html, state: &State, id: &PoolId, query: &str) {
    let total = state.slices_of(&id.name).count();
    html.raw("<h2>Slices</h2>\n<p class=\"quiet\">");
    html.text(counted(total as u128, "slice is", "slices are"));
    html.raw(" not free. Who holds an address in a slice, its node knows: ");
    html.raw("<code>hereabouts list</code> there.</p>\n");
    let number = page_number(query);
    let skipped = number.saturating_sub(1).saturating_mul(ROWS);
    let mut shown = state.slices_of(&id.name).skip(skipped).take(ROWS).peekable();
    if shown.peek().is_some() {
        html.raw("<table>\n<thead><tr><th>Block</th><th>Node</th><th>State</th></tr></thead>\n");
        html.raw("<tbody>\n");
        for slice in shown {
            html.raw("<tr><td><code>").text(&slice.block).raw("</code></td><td>");
            html.name(&slice.node).raw("</td><td>");
            match &slice.released {
                Some(since) => html.raw("released ").text(since),
                None => html.raw("owned"),
            };
            html.raw("</td></tr>\n");
        }
        html.raw("</tbody>\n</table>\n");
    }
    pages(html, "", number, total);
}
