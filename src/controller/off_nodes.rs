//! Frees the addresses of nodes of which an operator has said that their machine is off, with the
//! taint out-of-service.
//!
//! The taint is only a word. A node may be on again while its taint is still there, so the addresses
//! are freed only while the node's Lease is silent, and only those of records that are older than
//! the first sight of the taint: see [`crate::ipam::off_node`]. A node that renews its Lease even
//! once is on. Its taint must go away and come again before it counts again. Marks that are left on
//! its records are removed then.

use super::first_sights::{Change, FirstSight, FirstSights, TAINTED};
use super::freeing::{
    Freeing, Grounds, Reason, StayHeld, Tally, Verdict, about_node, records, remove_marks,
};
use super::node_lease::{Heartbeat, Silence};
use super::requests::{Answered, Requests};
use super::sights_lease::{SightsLease, Written};
use super::slim::{Fields, Slim, resource};
use super::state::Version;
use super::work::Controller;
use crate::ipam::leak::Node;
use crate::ipam::off_node::{Recorded, of_node_out_of_service};
use crate::store::kube::objects::evidence::NodeObject;
use crate::store::kube::objects::ip_allocation_status::OutOfService as Mark;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// How long a Lease must be silent, beyond the time for which it is valid.
const SILENT: Duration = Duration::from_secs(60);

/// The heartbeats of nodes, and when they were read at the latest.
type Found = BTreeMap<String, (Heartbeat, Instant)>;

/// What this process knows of nodes that are out of service.
#[derive(Debug)]
pub struct OffNodes {
    /// Since when they are out of service.
    sights: SightsLease,
    /// By the name of the Node.
    watched: RefCell<BTreeMap<String, Watched>>,
    /// The uids of Nodes that are on although they have the taint, and whose records have no mark any
    /// more.
    unmarked: RefCell<BTreeSet<String>>,
    /// Whether the Lease has no first sights, as far as this process knows.
    is_idle: Cell<bool>,
    /// How many nodes wait because of the bound.
    waiting: Cell<usize>,
    freeing: Freeing,
    /// The last failure that was said.
    said: RefCell<String>,
}

/// A node that is out of service and has been silent since.
#[derive(Debug)]
struct Watched {
    /// The uid of the Node, and its heartbeat.
    silence: Silence<(String, Heartbeat)>,
    stay: StayHeld,
    /// How many addresses were said to stay held.
    said: u64,
}

/// Looks for nodes that are out of service, without end, while this replica leads.
pub async fn run(controller: Rc<Controller>, namespace: String) {
    let off = OffNodes::new(namespace);
    loop {
        sleep(LOOK).await;
        let is_read = controller.leaks.knows(NodeObject::KIND)
            && controller.state.borrow().has_read_allocations();
        if controller.leads() && is_read {
            off.look(&controller, Instant::now()).await;
        } else {
            off.forget(&controller);
        }
    }
}

impl OffNodes {
    /// Returns a value that knows nothing. `namespace` is that of the controller's own Lease.
    #[must_use]
    pub fn new(namespace: String) -> Self {
        Self {
            sights: SightsLease::new(namespace, TAINTED),
            watched: RefCell::default(),
            unmarked: RefCell::default(),
            is_idle: Cell::new(false),
            waiting: Cell::new(0),
            freeing: Freeing::default(),
            said: RefCell::default(),
        }
    }

    /// Forgets what was measured: another replica leads.
    fn forget(&self, controller: &Controller) {
        self.watched.borrow_mut().clear();
        self.unmarked.borrow_mut().clear();
        self.is_idle.set(false);
        controller.metrics.unreleased(Reason::OutOfService.word(), 0);
    }

    /// Looks once at all nodes that are out of service, and frees what is to be freed.
    pub async fn look(&self, controller: &Controller, now: Instant) {
        match self.try_to_look(controller, now).await {
            Ok(()) => self.said.borrow_mut().clear(),
            Err(failure) => {
                let text = failure.to_string();
                // Once, and not at each look.
                if *self.said.borrow() != text {
                    tracing::warn!("cannot look at nodes that are out of service: {text}");
                    self.said.replace(text);
                }
            }
        }
    }

    async fn try_to_look(&self, controller: &Controller, now: Instant) -> Answered<()> {
        let tainted: BTreeMap<String, String> = controller.leaks.seen(|cluster| {
            let found = cluster.out_of_service();
            found.map(|(name, node)| (name.to_string(), node.uid.to_string())).collect()
        });
        if tainted.is_empty() && self.is_idle.get() {
            controller.metrics.unreleased(Reason::OutOfService.word(), 0);
            return Ok(());
        }
        let begun = Instant::now();
        let requests = &controller.requests;
        let sights = self.sights.read(requests).await?;
        // Before the nodes are read: a node that is on again changes and creates records later.
        let is_new = |(name, uid): (&String, &String)| {
            sights.get(name).is_none_or(|known| known.uid != *uid)
        };
        let moment = match tainted.iter().any(is_new) {
            true => Some(self.sights.moment(requests).await?),
            false => None,
        };
        let (mut changes, mut found) = (Vec::new(), Found::new());
        let unknown = tainted.keys().filter(|name| !sights.contains_key(*name));
        let room = self.sights.most().saturating_sub(sights.len());
        self.say_who_waits(unknown.clone().count().saturating_sub(room));
        for name in sights.keys().chain(unknown.take(room)) {
            let node = read_node(requests, name).await?;
            let known = sights.get(name);
            let Some(node) = node.filter(|node| node.is_out_of_service) else {
                // The first sight ends after the marks, so that none is left if this fails.
                if let Some(known) = known
                    && self.remove_marks(controller, name, &known.uid).await
                {
                    changes.push((name.clone(), Change::End(known.uid.clone())));
                }
                continue;
            };
            // A Node without a Lease says nothing: its kubelet may have another way to say it.
            let Some(heartbeat) = Heartbeat::of(requests, name).await? else { continue };
            match (known.filter(|known| *known.uid == *node.uid), moment) {
                (Some(known), _) => {
                    if known.renewed != heartbeat.renewed && !known.has_renewed {
                        changes.push((name.clone(), Change::Renewed(known.uid.clone())));
                    }
                }
                (None, Some(moment)) => {
                    let first = FirstSight::new(&node.uid, moment, &heartbeat.renewed);
                    changes.push((name.clone(), Change::Begin(first)));
                }
                (None, None) => continue,
            }
            // Silence is measured from the end of the first look to the begin of the last one.
            found.insert(name.clone(), (heartbeat, now + begun.elapsed()));
        }
        let sights = match changes.is_empty() {
            true => sights,
            false => self.write(controller, &changes).await?,
        };
        self.is_idle.set(sights.is_empty());
        self.note(&sights, &found);
        self.unmark(controller, &sights).await;
        self.free(controller, &sights, now).await;
        Ok(())
    }

    /// Removes the marks of nodes that are on although they have the taint.
    async fn unmark(&self, controller: &Controller, sights: &FirstSights) {
        let on = || sights.iter().filter(|(_, sight)| sight.has_renewed);
        self.unmarked.borrow_mut().retain(|uid| on().any(|(_, sight)| sight.uid == *uid));
        for (node, sight) in on() {
            let is_done = self.unmarked.borrow().contains(&sight.uid);
            if !is_done && self.remove_marks(controller, node, &sight.uid).await {
                self.unmarked.borrow_mut().insert(sight.uid.clone());
            }
        }
    }

    /// Removes the marks of the records of a node. Returns whether none is left.
    async fn remove_marks(&self, controller: &Controller, node: &str, uid: &str) -> bool {
        match remove_marks(&controller.requests, records_of(controller, node, uid)).await {
            Ok(()) => true,
            Err(failure) => {
                let text = format!("cannot remove the marks of the node {node}: {failure}");
                self.freeing.say(&text);
                false
            }
        }
    }

    /// Says how many nodes wait because of the bound, if that has changed.
    fn say_who_waits(&self, count: usize) {
        if self.waiting.replace(count) != count && 0 < count {
            tracing::warn!(
                "{count} more nodes are out of service than the {} that are looked at",
                self.sights.most()
            );
        }
    }

    /// Writes changes into the Lease as it is now. Returns what it says then.
    async fn write(
        &self,
        controller: &Controller,
        changes: &[(String, Change)],
    ) -> Answered<FirstSights> {
        let written = self.sights.write(&controller.requests, changes).await?;
        tell(controller, changes, &written).await;
        Ok(written.after)
    }

    /// Notes how long the nodes have been silent.
    fn note(&self, sights: &FirstSights, found: &Found) {
        let mut watched = self.watched.borrow_mut();
        let is_silent = |name: &String| {
            let sight = sights.get(name).filter(|sight| !sight.has_renewed);
            let heartbeat = found.get(name);
            sight.zip(heartbeat).is_some_and(|(sight, (found, _))| sight.renewed == found.renewed)
        };
        watched.retain(|name, _| is_silent(name));
        for (name, (heartbeat, at)) in found.iter().filter(|(name, _)| is_silent(name)) {
            let Some(sight) = sights.get(name) else { continue };
            let seen = (sight.uid.clone(), heartbeat.clone());
            match watched.get_mut(name) {
                Some(known) => known.silence.note(seen, *at),
                None => {
                    let silence = Silence::new(seen, *at);
                    let new = Watched { silence, stay: StayHeld::default(), said: 0 };
                    watched.insert(name.clone(), new);
                }
            }
        }
    }

    /// Frees the addresses of the nodes that have been silent for long enough.
    async fn free(&self, controller: &Controller, sights: &FirstSights, now: Instant) {
        let mut kept = 0;
        for (node, sight) in sights {
            let known = self.watched.borrow_mut().remove(node);
            let Some(mut known) = known else { continue };
            let (_, heartbeat) = known.silence.seen();
            if known.silence.lasts(heartbeat.duration + SILENT, now) {
                let tally = free_node(&self.freeing, controller, node, sight, &mut known).await;
                kept += tally.kept;
            }
            self.watched.borrow_mut().insert(node.clone(), known);
        }
        controller.metrics.unreleased(Reason::OutOfService.word(), kept);
    }
}

async fn free_node(
    freeing: &Freeing,
    controller: &Controller,
    node: &str,
    sight: &FirstSight,
    known: &mut Watched,
) -> Tally {
    let found = records_of(controller, node, &sight.uid);
    let grounds = OutOfService { node, sight };
    let tally = freeing.free_all(controller, found, &grounds, &mut known.stay).await;
    let text = Reason::OutOfService.text();
    if 0 < tally.freed {
        let note = format!("{} addresses freed: {text}", tally.freed);
        let node = about_node(node, &sight.uid);
        controller.send_event(&node, false, "FreeAddresses", "AddressesFreed", &note).await;
    }
    if tally.kept != known.said {
        known.said = tally.kept;
        if 0 < tally.kept {
            tracing::warn!(
                "{} addresses of the node {node} stay held, although {text}: they were changed after the first sight of the taint, or cannot be deleted",
                tally.kept
            );
        }
    }
    tally
}

/// Returns the records that may be of a node, by name.
fn records_of(controller: &Controller, node: &str, uid: &str) -> Vec<(Rc<str>, Version)> {
    records(&controller.state.borrow(), |holder| {
        *holder.node == *node || holder.node_uid.as_deref() == Some(uid)
    })
}

/// Says what has changed.
async fn tell(
    controller: &Controller,
    changes: &[(String, Change)],
    Written { before, after }: &Written,
) {
    for (name, change) in changes.iter().filter(|(name, _)| before.get(name) != after.get(name)) {
        match change {
            Change::Begin(_) => tracing::info!(
                "the node {name} is out of service: its addresses will be freed if its lease stays silent"
            ),
            Change::Renewed(uid) => {
                let note = "no address is freed: the node renews its lease although it has the taint out-of-service. If the machine is off now, remove the taint and set it again";
                tracing::warn!("the node {name}: {note}");
                let node = about_node(name, uid);
                controller.send_event(&node, true, "FreeAddresses", "NodeIsOn", note).await;
            }
            Change::End(_) => tracing::info!("the node {name} is not out of service any more"),
        }
    }
}

/// Reads a Node as it is now.
pub(super) async fn read_node(requests: &Requests, name: &str) -> Answered<Option<Node>> {
    let api = requests.all::<Slim<NodeObject>>(&resource::<NodeObject>());
    Ok(requests.get(&api, name).await?.map(|found| found.object.node()))
}

/// A node that is out of service.
struct OutOfService<'s> {
    node: &'s str,
    sight: &'s FirstSight,
}

impl Grounds for OutOfService<'_> {
    const REASON: Reason = Reason::OutOfService;

    async fn verdict(&self, requests: &Requests, recorded: Recorded<'_>) -> Answered<Verdict> {
        let node = read_node(requests, self.node).await?;
        let is_it = |node: &Node| node.is_out_of_service && *node.uid == *self.sight.uid;
        let Some(node) = node.filter(is_it) else { return Ok(Verdict::Over) };
        if let Err(kept) = of_node_out_of_service(recorded, self.node, &node, self.sight.moment()) {
            return Ok(Verdict::Keep(kept));
        }
        // Last, because a node that is on again renews it first.
        let heartbeat = Heartbeat::of(requests, self.node).await?;
        let is_silent = heartbeat.is_some_and(|found| found.renewed == self.sight.renewed);
        Ok(if is_silent { Verdict::Free } else { Verdict::Over })
    }

    fn mark(&self, generation: i64) -> Mark {
        self.sight.mark(self.node, generation)
    }
}
