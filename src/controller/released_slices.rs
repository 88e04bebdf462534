//! Deletes the slices that an operator has released, as soon as their node cannot use them any more.
//!
//! The word of the operator is not enough: a node that runs gives addresses of its slices without a
//! request, until it sees the mark. So a slice goes only if its node has been silent for ten minutes,
//! or has booted since: after a boot, a node uses no slice before it has read its object.

use super::node_lease::{Heartbeat, Silence};
use super::off_nodes::read_node;
use super::requests::{Answered, Failure};
use super::state::Slice;
use super::work::Controller;
use crate::store::kube::objects::ip_slice::{KIND, PLURAL};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// How long the Lease of a node must be silent.
const SILENT: Duration = Duration::from_secs(600);

/// What this process knows of the nodes whose slices were released.
#[derive(Debug, Default)]
pub struct ReleasedSlices {
    /// The Lease of each node, or that there is none.
    watched: RefCell<BTreeMap<Rc<str>, Silence<Option<Heartbeat>>>>,
    /// The last failure that was said.
    said: RefCell<String>,
}

/// Looks for released slices, without end, while this replica leads.
pub async fn run(controller: Rc<Controller>) {
    let released = ReleasedSlices::default();
    loop {
        sleep(LOOK).await;
        if controller.leads() && controller.state.borrow().has_read_slices() {
            released.look(&controller, Instant::now()).await;
        } else {
            // Another replica leads. What was measured does not count any more.
            released.watched.borrow_mut().clear();
        }
    }
}

impl ReleasedSlices {
    /// Looks once at all slices that were released, and deletes those that no node can use any more.
    pub async fn look(&self, controller: &Controller, now: Instant) {
        let mut of_nodes: BTreeMap<Rc<str>, Vec<(Rc<str>, Slice)>> = BTreeMap::new();
        for (name, slice) in controller.state.borrow().released_slices() {
            let of_node = of_nodes.entry(Rc::clone(&slice.node)).or_default();
            of_node.push((Rc::clone(name), slice.clone()));
        }
        self.watched.borrow_mut().retain(|node, _| of_nodes.contains_key(node));
        let mut failed = String::new();
        for (node, slices) in &of_nodes {
            if let Err(failure) = self.look_after(controller, node, slices, now).await {
                failed = format!("cannot remove the released slices of node {node}: {failure}");
            }
        }
        // Once, and not at each look.
        if !failed.is_empty() && *self.said.borrow() != failed {
            tracing::warn!("{failed}");
        }
        self.said.replace(failed);
    }

    async fn look_after(
        &self,
        controller: &Controller,
        node: &Rc<str>,
        slices: &[(Rc<str>, Slice)],
        now: Instant,
    ) -> Answered<()> {
        let begun = Instant::now();
        let found = read_node(&controller.requests, node).await?;
        let heartbeat = Heartbeat::of(&controller.requests, node).await?;
        let has_lease = heartbeat.is_some();
        // Silence is measured from the end of the first look to the begin of the last one.
        let is_silent = {
            let mut watched = self.watched.borrow_mut();
            let read = now + begun.elapsed();
            match watched.get_mut(node) {
                Some(silence) => silence.note(heartbeat, read),
                None => drop(watched.insert(Rc::clone(node), Silence::new(heartbeat, read))),
            }
            watched.get(node).is_some_and(|silence| silence.lasts(SILENT, now))
        };
        let boot = found.and_then(|found| found.boot_id);
        for (name, slice) in slices {
            let why = if boot.as_ref().is_some_and(|boot| *boot != slice.boot) {
                "has booted since it used the slice"
            // Without a Node in its token, a node may have another name for the API server, and its
            // Lease, too.
            } else if is_silent && (has_lease || slice.has_node_uid) {
                "has been silent for ten minutes"
            } else {
                continue;
            };
            // The version is older than the Lease that was read: nobody has changed the slice since.
            match controller.requests.delete_exactly(KIND, PLURAL, name, &slice.version).await {
                Ok(()) => tracing::info!(
                    "removed the released slice {} of IPPool {}: node {node} {why}",
                    slice.block,
                    slice.pool
                ),
                // The next look sees what it is now.
                Err(Failure::Gone | Failure::Changed) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}
