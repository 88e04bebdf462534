//! Many calls at once, and whether two of them got one address.

use crate::at_once::at_once;
use crate::counters::{Cost, Counters, Idle};
use crate::plugin::{Node, container};
use crate::process::Verb;
use crate::server::Server;
use crate::times::Times;
use anyhow::{Result, anyhow, ensure};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What came of many calls at once.
#[derive(Debug, Default)]
pub(crate) struct Storm {
    pub(crate) calls: usize,
    pub(crate) at_once: usize,
    pub(crate) took: Duration,
    /// Of those that succeeded, or of all where all were to fail.
    pub(crate) times: Times,
    pub(crate) failed: usize,
    /// What the first of the failed said.
    pub(crate) said: Option<String>,
    pub(crate) cost: Cost,
}

impl Storm {
    pub(crate) fn rate(&self) -> f64 {
        (self.calls - self.failed) as f64 / self.took.as_secs_f64()
    }
}

/// What is held, by address: the container. One for all storms of a range, to
/// which each adds its own.
pub(crate) type Holders = Mutex<HashMap<String, usize>>;

/// Calls `verb` for each of the containers, so many at a time. The containers
/// are on the nodes in turn, always on the same one.
///
/// # Errors
/// Two containers hold one address, or a process could not be started.
pub(crate) fn storm(
    (server, idle): (&Server, Idle),
    nodes: &[Node],
    verb: Verb,
    containers: Range<usize>,
    workers: usize,
    holders: &Holders,
) -> Result<Storm> {
    let next = AtomicUsize::new(containers.start);
    let seen = Mutex::new(Storm { calls: containers.len(), at_once: workers, ..Storm::default() });
    let poisoned = |_| anyhow!("another worker panicked");
    let before = Counters::read(server)?;
    let took = at_once(workers.min(containers.len()), |_| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if containers.end <= index {
                return Ok(());
            }
            let node = nodes.get(index % nodes.len()).ok_or_else(|| anyhow!("no nodes"))?;
            if verb == Verb::Del {
                // Before the call: from its middle on, another may have it.
                holders.lock().map_err(|_| anyhow!("another worker panicked"))?.retain(|_, holder| *holder != index);
            }
            let called = node.call(verb, &container(index))?;
            let mut seen = seen.lock().map_err(|_| anyhow!("another worker panicked"))?;
            match called.outcome {
                Ok(address) if verb == Verb::Add => {
                    let other = holders.lock().map_err(|_| anyhow!("another worker panicked"))?.insert(address.clone(), index);
                    ensure!(other.is_none(), "{}: two containers hold {address}", node.which.name());
                    seen.times.push(called.took);
                }
                Ok(_) => seen.times.push(called.took),
                Err(error) => {
                    seen.failed += 1;
                    seen.said.get_or_insert_with(|| format!("{error:#}"));
                }
            }
        }
    })?;
    let mut storm = seen.into_inner().map_err(poisoned)?;
    storm.took = took;
    storm.cost = before.cost(server, idle)?;
    Ok(storm)
}
