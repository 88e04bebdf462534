//! Frees the addresses of nodes whose Node object is gone, if the operator has switched this on: then
//! the deletion of a Node says that its machine is off.
//!
//! A Node that is gone is no proof. A kubelet that runs does not register again before it restarts,
//! and does not renew its Lease without its Node. So every other sign of life counts, for a time that
//! is longer than a restart takes: a Node that reports the boot of the record, a Lease that is
//! renewed, a record that is created or changed, a pod that the API server still has. What such a
//! node holds is a leak candidate, and an operator decides. A machine that is cut off gives no sign.

use super::first_sights::{Change, DELETED, FirstSight, FirstSights};
use super::freeing::{
    Freeing, Grounds, Reason, StayHeld, Verdict, about_node, read_attachment, recorded, records,
    remove_marks,
};
use super::node_lease::{Heartbeat, Silence};
use super::off_nodes::read_node;
use super::requests::{Answered, Requests};
use super::sights_lease::{SightsLease, Written};
use super::slim::{Fields, Slim, resource};
use super::state::Version;
use super::work::Controller;
use crate::ipam::leak::{Holder, HolderPod, Node};
use crate::ipam::off_node::{Kept, Recorded, of_deleted_node};
use crate::store::kube::objects::evidence::{NodeObject, PodObject};
use crate::store::kube::objects::ip_allocation_status::OutOfService as Mark;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// How long a node must give no sign of life. An operator who deletes a Node to let its kubelet
/// register again restarts the kubelet within this time.
const SILENT: Duration = Duration::from_secs(600);
/// A node without a Lease.
const NO_LEASE: &str = "-";
/// The Lease is of the Node that has the name now.
const OF_SAME_NAME: &str = "of another Node";

/// What this process knows of nodes whose Node is gone.
#[derive(Debug)]
pub struct DeletedNodes {
    /// Changes when everything is read again: the API server may have been restored.
    again: RefCell<watch::Receiver<()>>,
    /// Since when they are gone.
    sights: SightsLease,
    /// By name and uid.
    watched: RefCell<BTreeMap<String, Watched>>,
    /// Whether the Lease has no first sights, as far as this process knows.
    is_idle: Cell<bool>,
    /// How many nodes wait because of the bound.
    waiting: Cell<usize>,
    freeing: Freeing,
    /// The last failure that was said.
    said: RefCell<String>,
}

/// A node that has given no sign of life since its Node is gone.
#[derive(Debug)]
struct Watched {
    /// What was seen, which must stay the same.
    silence: Silence<Seen>,
    stay: StayHeld,
    /// How many addresses were said to stay held.
    said: u64,
}

/// A Node that is gone, as the records of its pods name it.
#[derive(Debug, Clone)]
struct Gone {
    name: Rc<str>,
    uid: Rc<str>,
    /// The boots of the records.
    boots: BTreeSet<Rc<str>>,
}

/// What the API server has in place of a Node that is gone.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    /// The Node that has its name now.
    same_name: Option<Node>,
    /// The last renewal of the Lease of this name, or that it is of that Node.
    lease: String,
}

/// Looks for nodes whose Node is gone, without end, while this replica leads.
pub async fn run(controller: Rc<Controller>, namespace: String) {
    let deleted = DeletedNodes::new(namespace, controller.again.subscribe());
    loop {
        sleep(LOOK).await;
        let leaks = &controller.leaks;
        let is_read = leaks.knows(NodeObject::KIND)
            && leaks.knows(PodObject::KIND)
            && controller.state.borrow().has_read_allocations();
        if controller.leads() && is_read {
            deleted.look(&controller, Instant::now()).await;
        } else {
            deleted.forget(&controller);
        }
    }
}

impl DeletedNodes {
    /// Returns a value that knows nothing. `namespace` is that of the controller's own Lease. `again`
    /// tells that everything is read again.
    #[must_use]
    pub fn new(namespace: String, again: watch::Receiver<()>) -> Self {
        Self {
            again: RefCell::new(again),
            sights: SightsLease::new(namespace, DELETED),
            watched: RefCell::default(),
            is_idle: Cell::new(false),
            waiting: Cell::new(0),
            freeing: Freeing::default(),
            said: RefCell::default(),
        }
    }

    /// Forgets what was measured.
    fn forget(&self, controller: &Controller) {
        self.watched.borrow_mut().clear();
        self.is_idle.set(false);
        controller.metrics.unreleased(Reason::NodeDeleted.word(), 0);
    }

    /// Looks once at all nodes whose Node is gone, and frees what is to be freed.
    pub async fn look(&self, controller: &Controller, now: Instant) {
        let is_read_again = self.again.borrow().has_changed().unwrap_or_default();
        if is_read_again {
            self.again.borrow_mut().mark_unchanged();
            return self.forget(controller);
        }
        match self.try_to_look(controller, now).await {
            Ok(()) => self.said.borrow_mut().clear(),
            Err(failure) => {
                let text = failure.to_string();
                // Once, and not at each look.
                if *self.said.borrow() != text {
                    tracing::warn!("cannot look at nodes that were deleted: {text}");
                    self.said.replace(text);
                }
            }
        }
    }

    async fn try_to_look(&self, controller: &Controller, now: Instant) -> Answered<()> {
        let gone = gone(controller);
        if gone.is_empty() && self.is_idle.get() {
            controller.metrics.unreleased(Reason::NodeDeleted.word(), 0);
            return Ok(());
        }
        let begun = Instant::now();
        let requests = &controller.requests;
        let sights = self.sights.read(requests).await?;
        let unknown = || gone.keys().filter(|key| !sights.contains_key(*key));
        // Before anything is read: a machine that is on changes and creates records later.
        let moment = match unknown().next() {
            Some(_) => Some(self.sights.moment(requests).await?),
            None => None,
        };
        let (mut changes, mut found) = (Vec::new(), Found::new());
        for (key, sight) in sights.iter().filter(|(key, _)| !gone.contains_key(*key)) {
            // It holds nothing more, or it is there. The first sight ends after the marks.
            if self.remove_marks(controller, &sight.uid).await {
                changes.push((key.clone(), Change::End(sight.uid.clone())));
            }
        }
        let room = self.sights.most().saturating_sub(sights.len());
        self.say_who_waits(unknown().count().saturating_sub(room));
        let looked_at = sights.keys().chain(unknown().take(room));
        for (key, node) in looked_at.filter_map(|key| gone.get_key_value(key)) {
            let known = sights.get(key);
            if known.is_some_and(|sight| sight.has_renewed) {
                continue;
            }
            match (self.sign(controller, node, known).await?, known) {
                (Sign::Registered, Some(known)) => {
                    if self.remove_marks(controller, &known.uid).await {
                        changes.push((key.clone(), Change::End(known.uid.clone())));
                    }
                }
                (Sign::Lives, Some(known)) => {
                    if self.remove_marks(controller, &known.uid).await {
                        changes.push((key.clone(), Change::Renewed(known.uid.clone())));
                    }
                }
                (Sign::Registered | Sign::Lives, None) => {}
                (Sign::None(seen), _) => {
                    if let (None, Some(moment)) = (known, moment) {
                        let first = FirstSight::new(&node.uid, moment, &seen.lease);
                        changes.push((key.clone(), Change::Begin(first)));
                    }
                    // Silence is measured from the end of the first look to the begin of the last one.
                    found.insert(key, (node, seen, now + begun.elapsed()));
                }
            }
        }
        let sights = match changes.is_empty() {
            true => sights,
            false => {
                let written = self.sights.write(requests, &changes).await?;
                tell(controller, &changes, &written).await;
                written.after
            }
        };
        self.is_idle.set(sights.is_empty());
        self.note(&sights, &found);
        self.free(controller, &sights, &found, now).await;
        Ok(())
    }

    /// Returns what the API server says at this moment about a node whose Node is gone.
    async fn sign(
        &self,
        controller: &Controller,
        node: &Gone,
        known: Option<&FirstSight>,
    ) -> Answered<Sign> {
        let requests = &controller.requests;
        let seen = Seen::now(requests, &node.name).await?;
        if seen.is_of(node) {
            return Ok(Sign::Registered);
        }
        let Some(known) = known else { return Ok(Sign::None(seen)) };
        if seen.is_renewed(known) || self.has_changed(controller, node, known).await? {
            return Ok(Sign::Lives);
        }
        Ok(Sign::None(seen))
    }

    /// Returns whether a record of the node was created or changed after its Node was gone.
    async fn has_changed(
        &self,
        controller: &Controller,
        node: &Gone,
        known: &FirstSight,
    ) -> Answered<bool> {
        let moment = known.moment();
        let may_be_later = |version: &Version| {
            version.revision.parse::<u64>().is_ok_and(|revision| moment.revision < revision)
        };
        let found = records(&controller.state.borrow(), |holder| node.may_have(holder));
        for (name, _) in found.into_iter().filter(|(_, version)| may_be_later(version)) {
            // A mark is a change, too.
            let object = read_attachment(&controller.requests, &name).await?;
            let is_later =
                |(object, holder): &(_, _)| !recorded(holder, object).was_before(moment, &node.uid);
            if object.as_ref().is_some_and(is_later) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the marks of the records of a Node. Returns whether none is left.
    async fn remove_marks(&self, controller: &Controller, uid: &str) -> bool {
        let found =
            records(&controller.state.borrow(), |holder| holder.node_uid.as_deref() == Some(uid));
        match remove_marks(&controller.requests, found).await {
            Ok(()) => true,
            Err(failure) => {
                self.freeing.say(&format!("cannot remove the marks of a node: {failure}"));
                false
            }
        }
    }

    /// Says how many nodes wait because of the bound, if that has changed.
    fn say_who_waits(&self, count: usize) {
        if self.waiting.replace(count) != count && 0 < count {
            let most = self.sights.most();
            tracing::warn!("{count} more nodes were deleted than the {most} that are looked at");
        }
    }

    /// Notes how long the nodes have given no sign of life.
    fn note(&self, sights: &FirstSights, found: &Found<'_>) {
        let mut watched = self.watched.borrow_mut();
        let begun = |key: &String| sights.get(key).is_some_and(|sight| !sight.has_renewed);
        watched.retain(|key, _| found.contains_key(key) && begun(key));
        for (key, (_, seen, at)) in found.iter().filter(|(key, _)| begun(key)) {
            match watched.get_mut(*key) {
                Some(known) => known.silence.note(seen.clone(), *at),
                None => {
                    let silence = Silence::new(seen.clone(), *at);
                    let new = Watched { silence, stay: StayHeld::default(), said: 0 };
                    watched.insert((*key).clone(), new);
                }
            }
        }
    }

    /// Frees the addresses of the nodes that have given no sign of life for long enough.
    async fn free(
        &self,
        controller: &Controller,
        sights: &FirstSights,
        found: &Found<'_>,
        now: Instant,
    ) {
        let mut kept = 0;
        for (key, (node, ..)) in found {
            let known = self.watched.borrow_mut().remove(*key);
            let (Some(mut known), Some(sight)) = (known, sights.get(*key)) else { continue };
            if known.silence.lasts(SILENT, now) {
                kept += self.free_node(controller, node, sight, &mut known).await;
            }
            self.watched.borrow_mut().insert((*key).clone(), known);
        }
        controller.metrics.unreleased(Reason::NodeDeleted.word(), kept);
    }

    /// Returns how many addresses stay held.
    async fn free_node(
        &self,
        controller: &Controller,
        node: &Gone,
        sight: &FirstSight,
        known: &mut Watched,
    ) -> u64 {
        let (found, mut kept) = controller.leaks.seen(|cluster| {
            let state = controller.state.borrow();
            let all = records(&state, |holder| node.has(holder));
            let found =
                records(&state, |holder| node.has(holder) && !cluster.has_living_pod(holder));
            let kept = all.len().saturating_sub(found.len());
            (found, u64::try_from(kept).unwrap_or_default())
        });
        if known.stay.has_others(&found) {
            match is_reported(&controller.requests, node).await {
                Ok(false) => {}
                // The next look sees it, too.
                Ok(true) => return kept,
                Err(failure) => {
                    self.freeing.say(&format!("cannot read all nodes: {failure}"));
                    return kept;
                }
            }
        }
        let grounds = NodeDeleted { node, sight, seen: known.silence.seen().clone() };
        let tally = self.freeing.free_all(controller, found, &grounds, &mut known.stay).await;
        kept += tally.kept;
        let text = Reason::NodeDeleted.text();
        if 0 < tally.freed {
            let note = format!("{} addresses freed: {text}", tally.freed);
            let about = about_node(&node.name, &node.uid);
            controller.send_event(&about, false, "FreeAddresses", "AddressesFreed", &note).await;
        }
        if kept != known.said {
            known.said = kept;
            if 0 < kept {
                let name = &node.name;
                tracing::warn!(
                    "{kept} addresses of the node {name} stay held, although {text}: their pods are still there, or they cannot be deleted"
                );
            }
        }
        kept
    }
}

/// What was found about nodes that give no sign of life, and when it was read at the latest. By name
/// and uid.
type Found<'g> = BTreeMap<&'g String, (&'g Gone, Seen, Instant)>;

/// What the API server says about a node whose Node is gone.
enum Sign {
    /// The machine is there as a Node.
    Registered,
    /// The machine has done something without a Node.
    Lives,
    /// Nothing.
    None(Seen),
}

impl Gone {
    /// Returns whether a record is of this node, and names its boot.
    fn has(&self, holder: &Holder) -> bool {
        holder.node_uid.as_ref() == Some(&self.uid)
            && holder.node == self.name
            && holder.boot_id.is_some()
    }

    /// Returns whether the machine may have written the record.
    fn may_have(&self, holder: &Holder) -> bool {
        match &holder.node_uid {
            Some(uid) => *uid == self.uid,
            None => holder.node == self.name,
        }
    }
}

impl Seen {
    /// Reads it.
    async fn now(requests: &Requests, name: &str) -> Answered<Self> {
        let same_name = read_node(requests, name).await?;
        // Last, because a node that is on again renews it first.
        let lease = Heartbeat::of(requests, name).await?;
        let is_its = |found: &Heartbeat| {
            same_name.as_ref().is_some_and(|node| found.owner.as_deref() == Some(&*node.uid))
        };
        let lease = match lease {
            None => NO_LEASE.to_owned(),
            // Its renewals say nothing about the Node that is gone.
            Some(found) if is_its(&found) => OF_SAME_NAME.to_owned(),
            Some(found) => found.renewed,
        };
        Ok(Self { same_name, lease })
    }

    /// Returns whether the machine is there under its name, or may be.
    fn is_of(&self, node: &Gone) -> bool {
        self.same_name.as_ref().is_some_and(|found| {
            found.uid == node.uid
                || found.boot_id.as_ref().is_none_or(|boot| node.boots.contains(boot))
        })
    }

    /// Returns whether somebody has renewed the Lease since the first sight, who is not the Node of
    /// the same name. That the Lease is gone is no renewal: it goes with its Node.
    fn is_renewed(&self, since: &FirstSight) -> bool {
        ![NO_LEASE, OF_SAME_NAME, &since.renewed].contains(&&*self.lease)
    }
}

/// Returns the nodes that records name by a uid of no Node, and whose boot no Node reports, by name and
/// uid.
fn gone(controller: &Controller) -> BTreeMap<String, Gone> {
    let mut gone = BTreeMap::<String, Gone>::new();
    let state = controller.state.borrow();
    controller.leaks.seen(|cluster| {
        for (.., holder) in state.held.attachments() {
            let (Some(uid), Some(boot)) = (&holder.node_uid, &holder.boot_id) else { continue };
            if holder.node.is_empty() || cluster.named(uid).is_some() {
                continue;
            }
            let key = format!("{}/{uid}", holder.node);
            let node = gone.entry(key).or_insert_with(|| Gone {
                name: Rc::clone(&holder.node),
                uid: Rc::clone(uid),
                boots: BTreeSet::new(),
            });
            node.boots.insert(Rc::clone(boot));
        }
        // Their machines are Nodes again, under any name.
        gone.retain(|_, node| !node.boots.iter().any(|boot| cluster.reports(boot)));
    });
    gone
}

/// Returns whether a Node is the one that is gone, or reports one of its boots: a machine whose name
/// was changed. All Nodes are read.
async fn is_reported(requests: &Requests, gone: &Gone) -> Answered<bool> {
    let api = requests.all::<Slim<NodeObject>>(&resource::<NodeObject>());
    let mut from = None;
    loop {
        let page = requests.page(&api, from.as_deref()).await?;
        let mut nodes = page.items.iter().map(|slim| slim.object.node());
        if nodes.any(|node| {
            node.uid == gone.uid || node.boot_id.is_some_and(|boot| gone.boots.contains(&boot))
        }) {
            return Ok(true);
        }
        from = page.metadata.continue_.filter(|token| !token.is_empty());
        if from.is_none() {
            return Ok(false);
        }
    }
}

/// Says what has changed.
async fn tell(
    controller: &Controller,
    changes: &[(String, Change)],
    Written { before, after }: &Written,
) {
    for (key, change) in changes.iter().filter(|(key, _)| before.get(key) != after.get(key)) {
        let name = key.split_once('/').map_or(key.as_str(), |(name, _)| name);
        match change {
            Change::Begin(_) => tracing::info!(
                "the Node {name} was deleted: its addresses will be freed if the node gives no sign of life"
            ),
            Change::Renewed(uid) => {
                let note = "no address is freed: the Node was deleted, but its machine has renewed its lease or changed an address. If the machine is off, release its addresses";
                tracing::warn!("the node {name}: {note}");
                let node = about_node(name, uid);
                controller.send_event(&node, true, "FreeAddresses", "NodeIsOn", note).await;
            }
            Change::End(_) => {
                tracing::info!("the node {name} holds nothing without a Node any more");
            }
        }
    }
}

/// A node whose Node is gone.
struct NodeDeleted<'s> {
    node: &'s Gone,
    sight: &'s FirstSight,
    seen: Seen,
}

impl Grounds for NodeDeleted<'_> {
    const REASON: Reason = Reason::NodeDeleted;

    async fn verdict(&self, requests: &Requests, recorded: Recorded<'_>) -> Answered<Verdict> {
        if let Some(pod) = &recorded.holder.pod
            && has_pod(requests, pod).await?
        {
            return Ok(Verdict::Keep(Kept::PodLives));
        }
        let seen = Seen::now(requests, &self.node.name).await?;
        if seen != self.seen {
            return Ok(Verdict::Over);
        }
        let same_name = seen.same_name.as_ref();
        let decided = of_deleted_node(recorded, &self.node.uid, same_name, self.sight.moment());
        Ok(match decided {
            Ok(()) => Verdict::Free,
            // A sign of life, about which the next look decides.
            Err(Kept::Later) => Verdict::Over,
            Err(kept) => Verdict::Keep(kept),
        })
    }

    fn mark(&self, generation: i64) -> Mark {
        self.sight.mark(&self.node.name, generation)
    }
}

/// Returns whether the API server has the pod, and the pod has not ended.
async fn has_pod(requests: &Requests, named: &HolderPod) -> Answered<bool> {
    let api = requests.within::<Slim<PodObject>>(&named.namespace, &resource::<PodObject>());
    let found = requests.get(&api, &named.name).await?.map(|found| found.object.pod());
    Ok(found
        .is_some_and(|pod| !pod.has_ended && named.uid.as_ref().is_none_or(|uid| *uid == pod.uid)))
}
