//! The leak candidates: addresses whose holders are probably gone.

use super::Content;
use super::html::{Html, counted};
use super::pools::{ROWS, pages};
use super::query::{encoded, page_number};
use crate::controller::leaks::{Leak, Leaks};
use tokio::time::Instant;

/// Returns the page.
pub(super) fn page(leaks: &Leaks, query: &str) -> Content {
    let (number, now) = (page_number(query), Instant::now());
    let mut html = Html::default();
    match leaks.list(number.saturating_sub(1).saturating_mul(ROWS), ROWS, now) {
        None => {
            html.raw("<p>The controller has not read all pods, nodes and addresses yet. If it ");
            html.raw("stays like this, it may not read pods or nodes: the log says why.</p>\n");
        }
        Some((_, 0)) => {
            html.raw("<p>No address has a holder that is probably gone.</p>\n");
        }
        Some((some, total)) => {
            html.raw("<p>").text(counted(total as u128, "address", "addresses"));
            html.raw(" with a holder that is probably gone. This is evidence and not proof, so ");
            html.raw("nothing is freed. <code>hereabouts leaks</code> says what to do.</p>\n");
            write(&mut html, &some, now);
            pages(&mut html, "", number, total);
        }
    }
    Content { status: 200, title: "Leak candidates".to_owned(), html }
}

fn write(html: &mut Html, leaks: &[Leak], now: Instant) {
    html.raw("<table>\n<thead><tr><th>Address</th><th>Pod</th><th>Node</th><th>Evidence</th>");
    html.raw("<th>Found</th></tr></thead>\n<tbody>\n");
    for Leak { holder, evidence, since, .. } in leaks {
        let address = holder.address.to_string();
        html.raw("<tr><td><a href=\"search?q=").text(encoded(&address)).raw("\"><code>");
        html.text(address).raw("</code></a></td><td data-label=\"Pod\">");
        match &holder.pod {
            Some(pod) => html.name(format_args!("{}/{}", pod.namespace, pod.name)),
            None => html.raw("<span class=\"quiet\">none</span>"),
        };
        html.raw("</td><td data-label=\"Node\">").name(&holder.node);
        html.raw("</td><td data-label=\"Evidence\">").text(evidence.text());
        let minutes = now.duration_since(*since).as_secs() / 60;
        html.raw("</td><td data-label=\"Found\">");
        html.text(counted(u128::from(minutes), "minute", "minutes")).raw(" ago</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}
