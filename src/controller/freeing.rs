//! Frees addresses of nodes that are off: each after everything that speaks for it was read again,
//! by uid and resourceVersion, and not too many in a short time. The record is marked first, because
//! the API server compares only the mark with the Nodes.

use super::events::Regarding;
use super::marks;
use super::requests::{Answered, Failure, Requests};
use super::shapes::AllocationObject;
use super::state::{Kind, Name, State, Version};
use super::work::Controller;
use crate::ipam::Texts;
use crate::ipam::leak::Holder;
use crate::ipam::off_node::{Kept, Recorded};
use crate::store::kube::objects::ip_allocation_status::OutOfService as Mark;
use crate::store::kube::objects::names;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The shortest time between two deletions: 50 in a second.
const PAUSE: Duration = Duration::from_millis(20);
/// How many deletions one look tries although the API server refuses them. An admission policy may
/// refuse one and allow another.
const REFUSED: u32 = 10;

/// Why addresses are freed: a label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The node has the taint out-of-service, and is silent.
    OutOfService,
    /// The Node is gone, and the node is silent.
    NodeDeleted,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::OutOfService, Self::NodeDeleted];

    /// Returns the word for metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OutOfService => "out-of-service",
            Self::NodeDeleted => "node-deleted",
        }
    }

    /// Returns the reason for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::OutOfService => "the node is out of service and silent",
            Self::NodeDeleted => "the Node was deleted, and the node is silent",
        }
    }
}

/// What the API server says about an address at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is free to be deleted.
    Free,
    /// The address stays held.
    Keep(Kept),
    /// No address of the node is to be freed any more.
    Over,
}

/// Why addresses of one node may be freed.
pub trait Grounds {
    /// The reason.
    const REASON: Reason;

    /// Reads everything again, and decides about a record.
    fn verdict(
        &self,
        requests: &Requests,
        recorded: Recorded<'_>,
    ) -> impl Future<Output = Answered<Verdict>>;

    /// Returns the mark for a generation of a record.
    fn mark(&self, generation: i64) -> Mark;
}

/// The records of a node that stay held, by name, each with the state about which that was decided.
#[derive(Debug, Default)]
pub struct StayHeld(HashMap<Rc<str>, (Version, Kept)>);

impl StayHeld {
    fn verdict(&self, name: &str, version: &Version) -> Option<Kept> {
        self.0.get(name).filter(|(known, _)| known == version).map(|(_, kept)| *kept)
    }

    /// Returns whether there are others among these.
    #[must_use]
    pub fn has_others(&self, records: &[(Rc<str>, Version)]) -> bool {
        records.iter().any(|(name, version)| self.verdict(name, version).is_none())
    }
}

/// What became of the addresses of a node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// How many were freed.
    pub freed: u64,
    /// How many are the node's and are not freed.
    pub kept: u64,
}

/// Frees addresses, at a bounded pace.
#[derive(Debug, Default)]
pub struct Freeing {
    last: Cell<Option<Instant>>,
    /// The last failure that was said.
    said: RefCell<String>,
}

impl Freeing {
    /// Frees the addresses of these records that the grounds cover. Stops when they are over, when a
    /// request fails, or when this replica does not lead any more.
    pub async fn free_all<G: Grounds>(
        &self,
        controller: &Controller,
        records: Vec<(Rc<str>, Version)>,
        grounds: &G,
        stay: &mut StayHeld,
    ) -> Tally {
        let (mut tally, mut refused) = (Tally::default(), 0);
        let mut records = records.into_iter();
        while let Some((name, version)) = records.next() {
            if let Some(kept) = stay.verdict(&name, &version) {
                tally.kept += u64::from(kept.is_of_the_node());
                continue;
            }
            if !controller.leads() {
                break;
            }
            match self.free(controller, &name, grounds).await {
                Ok(Freed::Yes) => tally.freed += 1,
                Ok(Freed::Changed) => {}
                Ok(Freed::No(version, kept)) => {
                    tally.kept += u64::from(kept.is_of_the_node());
                    // A pod ends without a change of the record.
                    if kept != Kept::PodLives {
                        stay.0.insert(name, (version, kept));
                    }
                }
                Ok(Freed::Over) => break,
                Err(failure) => {
                    self.say(&format!("cannot free {name}: {failure}"));
                    tally.kept += 1;
                    refused += u32::from(matches!(failure, Failure::Refused { .. }));
                    // The others would fail, too. They wait for the next look.
                    if refused == REFUSED || !matches!(failure, Failure::Refused { .. }) {
                        tally.kept += records.len() as u64;
                        break;
                    }
                }
            }
        }
        tally
    }

    /// Says what failed once, and not at each look.
    pub fn say(&self, text: &str) {
        if *self.said.borrow() != text {
            tracing::warn!("{text}");
            text.clone_into(&mut self.said.borrow_mut());
        }
    }

    async fn free<G: Grounds>(
        &self,
        controller: &Controller,
        name: &str,
        grounds: &G,
    ) -> Answered<Freed> {
        if let Some(last) = self.last.get() {
            sleep_until(last + PAUSE).await;
        }
        let requests = &controller.requests;
        let api = marks::api(requests);
        let Some(object) = requests.get(&api, name).await? else { return Ok(Freed::Changed) };
        let version = Version::of(&object.metadata);
        let Some(holder) = attachment(name, &object) else {
            return Ok(Freed::No(version, Kept::OtherMachine));
        };
        match grounds.verdict(requests, recorded(&holder, &object)).await? {
            Verdict::Free => {}
            Verdict::Keep(kept) => return Ok(Freed::No(version, kept)),
            Verdict::Over => return Ok(Freed::Over),
        }
        self.last.set(Some(Instant::now()));
        match free_marked(requests, name, &object, &holder, grounds).await {
            Ok(None) => {}
            Ok(Some(instead)) => return Ok(instead),
            // The node has changed it, or another leader has freed it.
            Err(Failure::Changed | Failure::Gone) => return Ok(Freed::Changed),
            Err(failure) => return Err(failure),
        }
        let gone = Name { namespace: "".into(), name: name.into() };
        controller.apply(|state| state.remove(Kind::Allocations, &gone, &version.uid));
        controller.metrics.released(G::REASON.word());
        let pod = holder.pod.as_ref();
        let pod =
            pod.map_or_else(|| "-".to_owned(), |pod| format!("{}/{}", pod.namespace, pod.name));
        let (address, node) = (holder.address, &holder.node);
        tracing::info!("freed {address}: pod {pod}, node {node}: {}", G::REASON.text());
        Ok(Freed::Yes)
    }
}

/// Marks a record, and deletes it if everything still speaks for it. Returns what became of it
/// instead, if it stays.
async fn free_marked<G: Grounds>(
    requests: &Requests,
    name: &str,
    object: &AllocationObject,
    holder: &Holder,
    grounds: &G,
) -> Answered<Option<Freed>> {
    let mark = grounds.mark(object.metadata.generation.unwrap_or_default());
    let version = Version::of(&object.metadata);
    if marks::marked_for(object) == Some(&mark.node_uid) {
        return requests.free(name, &version).await.map(|()| None);
    }
    let marked = marks::put(requests, name, &version, &mark).await?;
    let version = Version::of(&marked.metadata);
    // The API server took its time to compare all Nodes.
    let instead = match grounds.verdict(requests, recorded(holder, &marked)).await? {
        Verdict::Free => return requests.free(name, &version).await.map(|()| None),
        Verdict::Keep(kept) => Freed::No(version.clone(), kept),
        Verdict::Over => Freed::Over,
    };
    marks::remove(requests, name, &version).await?;
    Ok(Some(instead))
}

/// Removes the marks that are left on these records: no address of them is freed any more.
///
/// # Errors
/// Any failure, but not that a record has changed or is gone.
pub async fn remove_marks(requests: &Requests, records: Vec<(Rc<str>, Version)>) -> Answered<()> {
    let api = marks::api(requests);
    for (name, _) in records {
        let Some(object) = requests.get(&api, &name).await? else { continue };
        if object.status.as_ref().is_none_or(|status| status.out_of_service.is_none()) {
            continue;
        }
        match marks::remove(requests, &name, &Version::of(&object.metadata)).await {
            // A change of its spec ends the mark, too.
            Ok(()) | Err(Failure::Changed | Failure::Gone) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Reads a record of an attachment as it is now.
///
/// # Errors
/// Any failure.
pub async fn read_attachment(
    requests: &Requests,
    name: &str,
) -> Answered<Option<(AllocationObject, Holder)>> {
    let object = requests.get(&marks::api(requests), name).await?;
    Ok(object.and_then(|object| attachment(name, &object).map(|holder| (object, holder))))
}

/// Returns what counts of a record.
#[must_use]
pub fn recorded<'h>(holder: &'h Holder, object: &'h AllocationObject) -> Recorded<'h> {
    let created = object.metadata.creation_timestamp.as_ref();
    Recorded {
        holder,
        created: created.and_then(|time| u64::try_from(time.0.as_second()).ok()),
        revision: object.metadata.resource_version.as_ref().and_then(|text| text.parse().ok()),
        marked_for: marks::marked_for(object),
    }
}

/// What became of one address.
enum Freed {
    Yes,
    /// Somebody else has changed or deleted the record.
    Changed,
    /// This state of it stays.
    No(Version, Kept),
    /// The grounds are over.
    Over,
}

/// Returns the attachment that holds the address. `None` if a claim holds it, or if the object is
/// being deleted or is damaged.
fn attachment(name: &str, object: &AllocationObject) -> Option<Holder> {
    let spec = &object.spec;
    let is_ending = object.metadata.deletion_timestamp.is_some();
    if spec.claim.is_some() || spec.attachment.node.is_empty() || is_ending {
        return None;
    }
    let (_, address) = names::split(name)?;
    Some(spec.attachment.attachment(address, &mut Texts::default()))
}

/// Returns the records whose holder is of interest, by name, in the order of their names.
pub fn records(state: &State, is_meant: impl Fn(&Holder) -> bool) -> Vec<(Rc<str>, Version)> {
    let meant = state.held.attachments().filter(|(.., holder)| is_meant(holder));
    let mut records: Vec<(Rc<str>, Version)> = meant
        .map(|(scope, version, holder)| {
            (names::join(scope, holder.address).as_str().into(), version.clone())
        })
        .collect();
    records.sort_by(|(one, _), (other, _)| one.cmp(other));
    records
}

/// Returns a Node for events.
pub fn about_node(name: &str, uid: &str) -> Regarding {
    let name = Name { namespace: "".into(), name: name.into() };
    Regarding::object("v1".to_owned(), "Node", &name, uid)
}
