//! Leak candidates: addresses whose holders are probably gone. The controller counts and names them,
//! and frees none of them: see [`crate::ipam::leak`].
//!
//! An address becomes a candidate when two looks, [`LOOKS_APART`] from each other, and every look
//! between them have found the same evidence about the same state of its object. Before it counts,
//! everything is read again from the API server, because a watch may be behind. This is repeated
//! from time to time. What cannot be read is not evidence.

use super::requests::{Answered, Requests};
use super::shapes::{AllocationObject, resource as shape};
use super::slim::{Slim, resource};
use super::state::{State, Version};
use crate::ipam::leak::{Cluster, Evidence, Holder, LOOKS_APART, LivingNodes};
use crate::store::kube::objects::evidence::{NodeObject, PodObject};
use crate::store::kube::objects::ip_allocation as allocation;
use crate::store::kube::objects::names;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// The time between two looks of the controller.
pub const LOOK: Duration = Duration::from_secs(30);
/// How long what was read from the API server counts. Half of it is over when it is read again.
const CONFIRMED: Duration = Duration::from_secs(1200);
/// How many candidates one look names in the log.
const NAMED: usize = 20;

/// What is known for leak candidates.
#[derive(Debug, Default)]
pub struct Leaks {
    cluster: RefCell<Cluster>,
    /// The kinds that have been read once.
    read: RefCell<HashSet<&'static str>>,
    /// By the name of the IPAllocation.
    found: RefCell<Found>,
}

#[derive(Debug, Default)]
struct Found {
    candidates: BTreeMap<Rc<str>, Candidate>,
    /// The nodes on which pods with addresses live.
    living: LivingNodes,
    /// Whether everything has been looked at since it was read.
    is_known: bool,
}

/// A candidate that counts.
#[derive(Debug, Clone)]
pub struct Leak {
    /// The name of the IPAllocation.
    pub name: Rc<str>,
    /// The uid of the IPAllocation.
    pub uid: Rc<str>,
    /// What the IPAllocation says about the holder.
    pub holder: Holder,
    /// Why it may be gone.
    pub evidence: Evidence,
    /// When it was found first.
    pub since: Instant,
}

#[derive(Debug, Clone)]
struct Candidate {
    version: Version,
    holder: Holder,
    evidence: Evidence,
    /// When it was first found.
    since: Instant,
    /// When the API server confirmed it last.
    confirmed: Option<Instant>,
}

impl Candidate {
    fn is_due(&self, now: Instant) -> bool {
        let is_recent = |at: Instant| now.duration_since(at) < CONFIRMED / 2;
        LOOKS_APART <= now.duration_since(self.since) && !self.confirmed.is_some_and(is_recent)
    }

    fn counts(&self, now: Instant) -> bool {
        self.confirmed.is_some_and(|at| now.duration_since(at) < CONFIRMED)
    }

    fn leak(&self, name: &Rc<str>) -> Leak {
        Leak {
            name: Rc::clone(name),
            uid: Rc::clone(&self.version.uid),
            holder: self.holder.clone(),
            evidence: self.evidence,
            since: self.since,
        }
    }
}

impl Leaks {
    /// Changes what is known of pods and nodes.
    pub fn change(&self, change: impl FnOnce(&mut Cluster)) {
        change(&mut self.cluster.borrow_mut());
    }

    /// Returns what is read of what is known of pods and nodes.
    pub fn seen<T>(&self, read: impl FnOnce(&Cluster) -> T) -> T {
        read(&self.cluster.borrow())
    }

    /// Notes that all objects of a kind have been read.
    pub fn has_read(&self, kind: &'static str) {
        self.read.borrow_mut().insert(kind);
    }

    /// Returns whether all objects of a kind have been read.
    #[must_use]
    pub fn knows(&self, kind: &str) -> bool {
        self.read.borrow().contains(kind)
    }

    /// Looks at everything that is held, as it is known at this moment.
    pub fn look(&self, state: &State, now: Instant) {
        let mut found = self.found.borrow_mut();
        if self.read.borrow().len() < 2 || !state.has_read_allocations() {
            *found = Found::default();
            return;
        }
        let cluster = self.cluster.borrow();
        // An object without a node is damaged: `verify` reports it.
        let attachments =
            || state.held.attachments().filter(|(.., holder)| !holder.node.is_empty());
        let living = cluster.living_nodes(attachments().map(|(.., holder)| holder));
        let mut candidates = BTreeMap::new();
        for (scope, version, holder) in attachments() {
            let Some(evidence) = cluster.evidence(holder, &living) else { continue };
            let name: Rc<str> = names::join(scope, holder.address).as_str().into();
            let known = found.candidates.remove(&name);
            let is_same =
                |known: &Candidate| known.version == *version && known.evidence == evidence;
            let candidate = known.filter(is_same).unwrap_or_else(|| Candidate {
                version: version.clone(),
                holder: holder.clone(),
                evidence,
                since: now,
                confirmed: None,
            });
            candidates.insert(name, candidate);
        }
        *found = Found { candidates, living, is_known: true };
    }

    /// Reads everything about the candidates again that were found for long enough. One that cannot
    /// be read does not count, and neither does one about which the API server now says something
    /// else. Returns those that count for the first time, at most [`NAMED`] of them.
    pub async fn confirm(&self, requests: &Requests, now: Instant) -> Vec<Leak> {
        let due: Vec<(Rc<str>, Candidate)> = {
            let found = self.found.borrow();
            let due = found.candidates.iter().filter(|(_, candidate)| candidate.is_due(now));
            due.map(|(name, candidate)| (Rc::clone(name), candidate.clone())).collect()
        };
        let (mut new, mut more) = (Vec::new(), 0);
        for (name, candidate) in due {
            let confirmed = match self.is_confirmed(requests, &name, &candidate).await {
                Ok(is_confirmed) => is_confirmed.then_some(now),
                Err(failure) => {
                    tracing::warn!("cannot confirm the leak candidate {name}: {failure}");
                    // The others would fail, too. They wait for the next look.
                    break;
                }
            };
            if confirmed.is_some() && candidate.confirmed.is_none() {
                match new.len() < NAMED {
                    true => new.push(candidate.leak(&name)),
                    false => more += 1,
                }
            }
            if let Some(known) = self.found.borrow_mut().candidates.get_mut(&name) {
                known.confirmed = confirmed;
                // It must last as long again.
                if confirmed.is_none() {
                    known.since = now;
                }
            }
        }
        for leak in &new {
            tracing::info!("leak candidate: {}", leak.text());
        }
        if 0 < more {
            tracing::info!("{more} more leak candidates: \"hereabouts leaks\" shows all");
        }
        new
    }

    async fn is_confirmed(
        &self,
        requests: &Requests,
        name: &str,
        candidate: &Candidate,
    ) -> Answered<bool> {
        let holder = &candidate.holder;
        let kind = shape(allocation::GROUP, allocation::VERSION, allocation::KIND);
        let object = requests.get(&requests.all::<AllocationObject>(&kind), name).await?;
        if object.is_none_or(|object| Version::of(&object.metadata) != candidate.version) {
            return Ok(false);
        }
        let mut now = Cluster::default();
        if let Some(pod) = &holder.pod {
            let api = requests.within::<Slim<PodObject>>(&pod.namespace, &resource::<PodObject>());
            if let Some(found) = requests.get(&api, &pod.name).await? {
                now.put_pod(&pod.namespace, &pod.name, found.object.pod());
            }
        }
        // The Node may have another name than the one that hereabouts knows.
        let of_uid = holder.node_uid.as_ref().and_then(|uid| self.cluster.borrow().named(uid));
        let names: HashSet<Rc<str>> = of_uid.into_iter().chain([Rc::clone(&holder.node)]).collect();
        for name in names {
            let api = requests.all::<Slim<NodeObject>>(&resource::<NodeObject>());
            if let Some(found) = requests.get(&api, &name).await? {
                now.put_node(&name, found.object.node());
            }
        }
        Ok(now.evidence(holder, &self.found.borrow().living) == Some(candidate.evidence))
    }

    /// Returns whether everything has been looked at since it was read.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.found.borrow().is_known
    }

    /// Returns `most` candidates that count, in the order of their names and without the first
    /// `from`, and the number of all. `None` if it is not known.
    #[must_use]
    pub fn list(&self, from: usize, most: usize, now: Instant) -> Option<(Vec<Leak>, usize)> {
        let found = self.found.borrow();
        if !found.is_known {
            return None;
        }
        let all = || found.candidates.iter().filter(|(_, one)| one.counts(now));
        let some = all().skip(from).take(most).map(|(name, one)| one.leak(name));
        Some((some.collect(), all().count()))
    }

    /// Returns the number of candidates by evidence. `None` if it is not known.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Option<Vec<(Evidence, u64)>> {
        let found = self.found.borrow();
        if !found.is_known {
            return None;
        }
        let of = |evidence: Evidence| {
            let all = found.candidates.values();
            all.filter(|one| one.evidence == evidence && one.counts(now)).count() as u64
        };
        Some(Evidence::ALL.into_iter().map(|evidence| (evidence, of(evidence))).collect())
    }
}

impl Leak {
    /// Returns it for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Holder { address, node, pod, .. } = &self.holder;
        let pod = pod.as_ref();
        let pod =
            pod.map_or_else(|| "-".to_owned(), |pod| format!("{}/{}", pod.namespace, pod.name));
        format!("{address}, node {node}, pod {pod}: {}", self.evidence.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::state::{self, Holding, Kind};
    use crate::ipam::leak::{HolderPod, Node, Pod};

    fn holder() -> Holder {
        Holder {
            address: "10.0.0.5".parse().unwrap(),
            node: "n1".into(),
            node_uid: None,
            boot_id: Some("b".into()),
            interface: "net1".into(),
            pod: Some(HolderPod {
                namespace: "default".into(),
                name: "web-0".into(),
                uid: Some("u".into()),
            }),
        }
    }

    fn version(revision: &str) -> Version {
        Version { uid: "a".into(), revision: revision.into() }
    }

    fn hold(state: &mut State, version: Version) {
        let holder = state::Holder::Attachment(Rc::new(holder()));
        state.held.insert("10.0.0.5", Holding { version, holder }, true);
    }

    /// Returns a state that holds an address, whose pod is gone.
    fn scene() -> (Leaks, State) {
        let mut state = State::default();
        state.finish(Kind::Allocations, &HashSet::new());
        hold(&mut state, version("1"));
        let leaks = Leaks::default();
        leaks.change(|cluster| {
            cluster.put_node(
                "n1",
                Node { uid: "n".into(), boot_id: Some("b".into()), ..Node::default() },
            );
        });
        leaks.has_read("Node");
        leaks.has_read("Pod");
        (leaks, state)
    }

    /// Returns the candidates that are due for a confirmation.
    fn due(leaks: &Leaks, now: Instant) -> Vec<Evidence> {
        let found = leaks.found.borrow();
        let due = found.candidates.values().filter(|candidate| candidate.is_due(now));
        due.map(|candidate| candidate.evidence).collect()
    }

    #[test]
    fn nothing_is_known_before_everything_has_been_read() {
        let now = Instant::now();
        let (_, state) = scene();
        let leaks = Leaks::default();
        leaks.has_read("Pod");
        leaks.look(&state, now);
        assert_eq!(leaks.counts(now), None);
        leaks.has_read("Node");
        leaks.look(&State::default(), now);
        assert_eq!(leaks.counts(now), None);
        leaks.look(&state, now);
        assert!(leaks.counts(now).is_some());
    }

    #[test]
    fn two_looks_are_two_minutes_apart_and_find_the_same() {
        let (leaks, mut state) = scene();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        leaks.look(&state, at(0));
        leaks.look(&state, at(119));
        assert_eq!(due(&leaks, at(119)), []);
        leaks.look(&state, at(120));
        assert_eq!(due(&leaks, at(120)), [Evidence::PodGone]);
        // Nothing counts before it was read again.
        assert!(leaks.counts(at(120)).unwrap().iter().all(|(_, count)| *count == 0));
        // Other evidence, or another state of the object, is found for the first time.
        leaks.change(|cluster| cluster.put_pod("default", "web-0", Pod::default()));
        leaks.look(&state, at(150));
        assert_eq!(due(&leaks, at(150)), []);
        leaks.look(&state, at(270));
        assert_eq!(due(&leaks, at(270)), [Evidence::PodReplaced]);
        hold(&mut state, version("2"));
        leaks.look(&state, at(300));
        assert_eq!(due(&leaks, at(300)), []);
        // A candidate that is disproved disappears, and begins again.
        let pod = || Pod { uid: "u".into(), ..Pod::default() };
        leaks.change(|cluster| cluster.put_pod("default", "web-0", pod()));
        leaks.look(&state, at(330));
        leaks.change(|cluster| cluster.remove_pod("default", "web-0"));
        leaks.look(&state, at(360));
        assert_eq!(due(&leaks, at(450)), []);
        assert_eq!(due(&leaks, at(480)), [Evidence::PodGone]);
    }

    #[test]
    fn what_was_read_again_counts_for_a_time() {
        let (leaks, state) = scene();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        leaks.look(&state, at(0));
        leaks
            .found
            .borrow_mut()
            .candidates
            .values_mut()
            .for_each(|one| one.confirmed = Some(at(120)));
        let count = |seconds| {
            leaks.look(&state, at(seconds));
            leaks.counts(at(seconds)).unwrap().iter().map(|(_, count)| count).sum::<u64>()
        };
        assert_eq!([count(120), count(1319), count(1320)], [1, 1, 0]);
        assert_eq!((due(&leaks, at(719)), due(&leaks, at(720))), (vec![], vec![Evidence::PodGone]));
    }
}
