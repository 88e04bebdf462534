//! The list of all pools.

use super::Content;
use super::html::{Html, counted, grouped};
use super::query::{page_number, path_of_pool};
use crate::controller::overview::PoolNumbers;
use crate::controller::pool::PoolId;
use crate::controller::state::State;
use std::cell::RefCell;
use std::rc::Rc;

/// How many rows a page of a list has.
pub(super) const ROWS: usize = 100;

/// Returns the list.
pub(super) async fn list(state: &RefCell<State>, query: &str) -> Content {
    let (ids, total) = {
        let state = state.borrow();
        let number = page_number(query);
        let from = number.saturating_sub(1).saturating_mul(ROWS);
        let ids: Vec<Rc<PoolId>> =
            state.pools().skip(from).take(ROWS).map(|(id, _)| Rc::clone(id)).collect();
        (ids, state.pools().count())
    };
    let mut html = Html::default();
    if total == 0 {
        html.raw("<p>There is no pool. An IPPool of hereabouts, or an InClusterIPPool or ");
        html.raw("GlobalInClusterIPPool of Cluster API, appears here when it exists.</p>\n");
    } else {
        let held = state.borrow().held.count();
        html.raw("<p class=\"quiet\">").text(counted(total as u128, "pool", "pools")).raw(". ");
        html.text(counted(held as u128, "address is", "addresses are"));
        html.raw(" held in the whole cluster, in pools or not.</p>\n");
        rows(&mut html, state, &ids).await;
        pages(&mut html, "", page_number(query), total);
    }
    Content { status: 200, title: "Pools".to_owned(), html }
}

/// Writes a table of pools. Each is counted for itself: one of them may hold many addresses.
async fn rows(html: &mut Html, state: &RefCell<State>, ids: &[Rc<PoolId>]) {
    legend(html);
    html.raw("<table>\n<thead><tr><th>Pool</th><th>Scope</th>");
    html.raw("<th class=\"number\">Addresses</th><th>Held, free, not given</th>");
    html.raw("<th class=\"number\">Waiting claims</th><th>State</th></tr></thead>\n<tbody>\n");
    for id in ids {
        {
            let state = state.borrow();
            // It may be gone since the page began.
            let Some(pool) = state.pool(id) else { continue };
            let numbers = state.numbers(id, pool);
            let listed = pool.supply.as_ref().map_or(0, |supply| supply.outline.count());
            row(html, id, &numbers, listed.saturating_sub(numbers.total));
        }
        tokio::task::yield_now().await;
    }
    html.raw("</tbody>\n</table>\n");
}

fn row(html: &mut Html, id: &PoolId, numbers: &PoolNumbers, excluded: u128) {
    html.raw("<tr><td><a href=\"").text(path_of_pool(id)).raw("\">");
    html.name(shown_name(id)).raw("</a><br><span class=\"quiet\">").text(id.kind.name());
    html.raw("</span></td><td data-label=\"Scope\">");
    html.name(&numbers.scope).raw("</td><td class=\"number\" data-label=\"Addresses\">");
    html.text(grouped(numbers.total)).raw("</td><td>");
    bar(html, numbers, excluded);
    html.raw("</td><td class=\"number\" data-label=\"Waiting claims\">");
    html.text(grouped(numbers.waiting.into())).raw("</td><td>");
    trouble(html, numbers);
    html.raw("</td></tr>\n");
}

/// Writes what is wrong with a pool, or that nothing is.
pub(super) fn trouble(html: &mut Html, numbers: &PoolNumbers) {
    let mut is_fine = true;
    let mut line = |html: &mut Html, text: &str| {
        html.raw("<div class=\"trouble\">").text(text).raw("</div>");
        is_fine = false;
    };
    if let Some(trouble) = &numbers.trouble {
        line(html, trouble);
    } else if numbers.total == 0 {
        line(html, "it gives no address");
    } else if numbers.has_slices {
        if numbers.slices.is_some_and(|slices| slices.free() == 0) {
            line(html, "no slice is free");
        }
    } else if numbers.free == 0 {
        line(html, "no address is free");
    }
    if 0 < numbers.out_of_range {
        let text = counted(numbers.out_of_range, "claim has", "claims have");
        line(html, &format!("{text} an address that is no longer in the pool"));
    }
    if is_fine {
        html.raw("<span class=\"quiet\">ready</span>");
    }
}

/// Writes a bar with the shares of a pool, and the same in numbers.
pub(super) fn bar(html: &mut Html, numbers: &PoolNumbers, excluded: u128) {
    let (held, barred, text) = match (numbers.has_slices, numbers.slices) {
        (false, _) => {
            let all = numbers.total.saturating_add(excluded);
            let words = [numbers.held, numbers.free, excluded].map(grouped);
            let [held, free, excluded_text] = words;
            let text = format!("{held} held, {free} free, {excluded_text} not given");
            (width(numbers.held.min(numbers.total), all), width(excluded, all), text)
        }
        (true, Some(slices)) => {
            let words = [slices.owned, slices.released, slices.free()];
            let [owned, released, free] = words.map(|number| grouped(number.into()));
            let held = counted(slices.held.into(), "address", "addresses");
            let text =
                format!("slices: {owned} owned, {released} released, {free} free; {held} held");
            (width(slices.taken().min(slices.total).into(), slices.total.into()), 0, text)
        }
        (true, None) => (0, 0, "its slices have not been read".to_owned()),
    };
    html.raw("<svg class=\"bar\" role=\"img\"><title>").text(&text).raw("</title>");
    if 0 < held {
        html.raw("<rect class=\"k-held\" height=\"100%\" width=\"").text(held).raw("%\"/>");
    }
    if 0 < barred {
        html.raw("<rect class=\"k-excluded\" height=\"100%\" x=\"").text(100 - barred);
        html.raw("%\" width=\"").text(barred).raw("%\"/>");
    }
    html.raw("</svg><span class=\"of\">").text(&text).raw("</span>");
}

/// Returns a share of a whole in percent. What is there is seen, and what is missing, too.
fn width(part: u128, whole: u128) -> u32 {
    if part == 0 || whole == 0 {
        return 0;
    }
    if part == whole {
        return 100;
    }
    // Two shares of at most 99 % could cover more than the whole only if both were large.
    let percent = part as f64 / whole as f64 * 100.0;
    (1..=99).find(|step| percent <= f64::from(*step)).unwrap_or(99)
}

fn legend(html: &mut Html) {
    html.raw(PATTERNS);
    html.raw("<ul class=\"legend\" aria-label=\"Legend\">");
    for (class, name) in [
        ("held", "held"),
        ("free", "free"),
        ("excluded", "not given: excluded, reserved or gateway"),
    ] {
        html.raw("<li>");
        sample(html, class);
        html.text(name).raw("</li>");
    }
    html.raw("</ul>\n");
}

/// Writes a small square in the color and pattern of a class of the stylesheet.
pub(super) fn sample(html: &mut Html, class: &str) {
    html.raw("<svg width=\"15\" height=\"15\" aria-hidden=\"true\"><rect class=\"edge k-");
    html.text(class).raw("\" x=\"1\" y=\"1\" width=\"13\" height=\"13\"/></svg>");
}

/// The patterns that the stylesheet names. Without color, they tell the states apart.
pub(super) const PATTERNS: &str = concat!(
    "<svg width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>",
    "<pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">",
    "<rect class=\"k-free\" width=\"6\" height=\"6\"/>",
    "<path class=\"line-excluded\" d=\"M-1 1l2-2M0 6l6-6M5 7l2-2\"/></pattern>",
    "<pattern id=\"dots\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\">",
    "<rect class=\"k-free\" width=\"5\" height=\"5\"/>",
    "<circle class=\"dot-reserved\" cx=\"2.5\" cy=\"2.5\" r=\"1.5\"/></pattern>",
    "<pattern id=\"cross\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">",
    "<rect class=\"k-free\" width=\"6\" height=\"6\"/>",
    "<path class=\"line-outside\" d=\"M0 0l6 6M0 6l6-6\"/></pattern>",
    "<pattern id=\"stripes\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\">",
    "<rect class=\"back-claim\" width=\"5\" height=\"5\"/>",
    "<path class=\"line-claim\" d=\"M0 2.5h5\"/></pattern>",
    "</defs></svg>\n"
);

/// Returns the name of a pool for people, without its kind.
pub(super) fn shown_name(id: &PoolId) -> String {
    match id.namespace.is_empty() {
        true => id.name.clone(),
        false => format!("{}/{}", id.namespace, id.name),
    }
}

/// Writes links to the other pages of a list. `rest` is the rest of the query, with a `&` after it.
pub(super) fn pages(html: &mut Html, rest: &str, number: usize, total: usize) {
    if total <= ROWS && number == 1 {
        return;
    }
    let last = total.div_ceil(ROWS).max(1);
    html.raw("<div class=\"pages\"><span>Page ").text(grouped(number as u128)).raw(" of ");
    html.text(grouped(last as u128)).raw("</span>");
    let mut link = |to: usize, name: &'static str| {
        html.raw("<a href=\"?").text(rest).raw("page=").text(to).raw("\">").raw(name).raw("</a>");
    };
    if 1 < number {
        link(1, "First");
        link((number - 1).min(last), "Previous");
    }
    if number < last {
        link(number + 1, "Next");
        link(last, "Last");
    }
    html.raw("</div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_what_is_there_and_what_is_missing() {
        assert_eq!(width(0, 10), 0);
        assert_eq!(width(1, 1 << 64), 1);
        assert_eq!(width(5, 10), 50);
        assert_eq!(width((1 << 64) - 1, 1 << 64), 99);
        assert_eq!(width(10, 10), 100);
        assert_eq!(width(0, 0), 0);
    }
}
