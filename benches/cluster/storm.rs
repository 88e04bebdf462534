//! Makes many calls at once, and checks that no two of them get the same address.

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

/// The results of many calls at once.
#[derive(Debug, Default)]
pub(crate) struct Storm {
    pub(crate) calls: usize,
    pub(crate) at_once: usize,
    pub(crate) took: Duration,
    /// The times of the calls that succeeded.
    pub(crate) times: Times,
    pub(crate) failed: usize,
    /// The message of the first call that failed.
    pub(crate) said: Option<String>,
    pub(crate) cost: Cost,
}

impl Storm {
    pub(crate) fn rate(&self) -> f64 {
        (self.calls - self.failed) as f64 / self.took.as_secs_f64()
    }
}

/// The container that holds each address. All storms of a range share one map, and each adds its
/// own entries.
pub(crate) type Holders = Mutex<HashMap<String, usize>>;

/// Calls `verb` for each of the containers, with `workers` calls at a time. The containers are
/// distributed over the nodes in turn. A container is always on the same node.
///
/// # Errors
/// Fails if two containers hold the same address, or if a process cannot be started.
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
                // Removed before the call: from the middle of the call on, another container may
                // get the address.
                holders
                    .lock()
                    .map_err(|_| anyhow!("another worker panicked"))?
                    .retain(|_, holder| *holder != index);
            }
            let called = node.call(verb, &container(index))?;
            let mut seen = seen.lock().map_err(|_| anyhow!("another worker panicked"))?;
            match called.outcome {
                Ok(address) if verb == Verb::Add => {
                    let other = holders
                        .lock()
                        .map_err(|_| anyhow!("another worker panicked"))?
                        .insert(address.clone(), index);
                    ensure!(
                        other.is_none(),
                        "{}: two containers hold {address}",
                        node.which.name()
                    );
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
