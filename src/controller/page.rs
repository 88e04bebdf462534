//! The page: what the controller sees, for people. It changes nothing, needs no script, and loads
//! nothing from elsewhere.
//!
//! The thread that renders a page also answers claims. So no page holds the state for long: lists
//! are cut into pages, long walks are cut into slices (`walk.rs`), and few pages are rendered at
//! the same time.

mod drawing;
mod holder;
mod html;
mod leaks;
mod map;
mod overlaps;
mod pool;
mod pools;
mod query;
mod search;
mod slices;
mod walk;

use super::leaks::Leaks;
use super::pool::PoolId;
use super::state::State;
use html::{Frame, Html};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::Semaphore;

/// How many pages are rendered at the same time. The others wait.
const AT_ONCE: usize = 2;

/// Renders pages.
#[derive(Debug)]
pub struct Pages {
    state: Rc<RefCell<State>>,
    leaks: Rc<Leaks>,
    turns: Semaphore,
    policy: String,
}

/// A page that was asked for.
#[derive(Debug)]
pub struct Page {
    /// The status of the answer (HTTP).
    pub status: u16,
    /// The HTML.
    pub html: String,
}

/// Which page was asked for.
enum Wanted {
    Pools,
    Search,
    Overlaps,
    Leaks,
    Pool(PoolId),
}

/// One part of a page, with what the frame needs.
struct Content {
    status: u16,
    title: String,
    html: Html,
}

impl Pages {
    /// Returns the pages about a state.
    #[must_use]
    pub fn new(state: Rc<RefCell<State>>, leaks: Rc<Leaks>) -> Self {
        Self { state, leaks, turns: Semaphore::new(AT_ONCE), policy: html::policy() }
    }

    /// Returns what a browser may do with the pages, for the header `Content-Security-Policy`.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns the page of a path, or `None` if there is none. `leading` is whether this replica
    /// writes.
    pub async fn get(&self, path: &str, query: &str, leading: bool) -> Option<Page> {
        let depth = path.matches('/').count().saturating_sub(1);
        let wanted = match path {
            "/" => Wanted::Pools,
            "/search" => Wanted::Search,
            "/overlaps" => Wanted::Overlaps,
            "/leaks" => Wanted::Leaks,
            _ => Wanted::Pool(query::pool_of_path(path.strip_prefix("/pool/")?)?),
        };
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.ok()?;
        let is_synced = self.state.borrow().is_synced();
        let content = match wanted {
            _ if !is_synced => not_yet(),
            Wanted::Pools => pools::list(&self.state, query).await,
            Wanted::Search => search::page(&self.state, query).await,
            Wanted::Overlaps => overlaps::page(&self.state).await,
            Wanted::Leaks => leaks::page(&self.leaks, query),
            Wanted::Pool(id) => {
                pool::page(&self.state, &id, query).await.unwrap_or_else(|| pool::unknown(&id))
            }
        };
        let up = "../".repeat(depth);
        let searched = if path == "/search" { search::text(query) } else { String::new() };
        let searched = if is_synced { searched.as_str() } else { "" };
        let frame = Frame { up: &up, title: &content.title, searched, leading };
        Some(Page { status: content.status, html: content.html.framed(&frame) })
    }
}

fn not_yet() -> Content {
    let mut html = Html::default();
    html.raw("<p>The controller has not read all objects of the API server yet. ");
    html.raw("Load this page again in a few seconds. If it stays like this, the log of the ");
    html.raw("controller says what cannot be read.</p>\n");
    Content { status: 503, title: "Not ready yet".to_owned(), html }
}
