//! Finds the problems of the Kubernetes store: reads all objects, page by page, and compares them
//! with this node's state. It changes nothing. The state of another node can be checked only on
//! that node.
//!
//! An apparent problem may be a call in progress. So each suspect is checked again, under the lock
//! of its attachment, against the current object.

use super::finding::{Problem, Suspect};
use crate::ipam::{Allocation, Attachment, ClaimAllocation, HeldAddress, Life};
use crate::retry::Deadline;
use crate::store::census::Census;
use crate::store::kube::api::paging::Place;
use crate::store::kube::node_state::Tombstone;
use crate::store::kube::objects::claim_object::ClaimObject;
use crate::store::kube::objects::held::HeldObject;
use crate::store::kube::objects::ip_allocation::IpAllocation;
use crate::store::kube::objects::names;
use crate::store::kube::objects::unreadable::Unreadable;
use crate::store::kube::session::KubeSession;
use crate::store::kube::{KubeStore, PATIENCE};
use crate::store::percent::{decode_path, encode_path};
use crate::store::upkeep::{Extent, Finding, IsAlive};
use crate::store::{Access, StoreError};
use std::collections::BTreeMap;
use std::path::Path;

/// The longest time for which a file is being written.
const WRITING: std::time::Duration = std::time::Duration::from_secs(60);

/// The result of reading the objects and the state.
#[derive(Default)]
pub(crate) struct VerifiedObjects {
    /// The number of objects that can be read.
    pub(crate) records: usize,
    /// The number of entries in the node state.
    pub(crate) entries: usize,
    pub(crate) findings: Vec<Finding>,
    /// Why the state was not checked.
    pub(crate) unseen: Option<String>,
    pub(crate) census: Census,
    suspects: Vec<Suspect>,
}

/// The entries of the node state: the attachment's hash and the object's name, and whether the
/// server has ever answered. They are of this node alone, so they are few.
type Entries = BTreeMap<(String, String), bool>;

/// What exists under a name, from the view of an attachment.
pub(crate) enum ObjectAtName {
    Ours(Box<IpAllocation>),
    /// An object of another attachment or of a claim; its holder in words.
    Anothers(String),
    Nothing,
    /// An object that is being deleted, that another machine of this node's name made, or that
    /// cannot be read.
    Unclear,
}

impl KubeStore {
    /// Checks the objects, all of them or those of this node, and the state if there is one.
    pub(crate) fn verify_objects(
        &self,
        extent: Extent,
        is_alive: IsAlive<'_>,
        patience: std::time::Duration,
    ) -> Result<VerifiedObjects, StoreError> {
        let selector = match extent {
            Extent::Whole => String::new(),
            Extent::Own => self.own_selector(),
        };
        let mut verified = VerifiedObjects::default();
        let mut entries = Entries::new();
        match self.remembered(&mut entries, &mut verified.suspects) {
            Ok(()) => {}
            Err(reason) => {
                verified.unseen = Some(format!("only the objects were checked: {reason}"))
            }
        }
        verified.entries = entries.len();
        let mut place = Place::default();
        while !place.is_ended() {
            for item in self.api.page(&selector, &mut place, &Deadline::after(PATIENCE))? {
                self.verify_object(item, extent, &mut entries, &mut verified, is_alive)?;
            }
        }
        // No object of this node was found for these entries.
        verified
            .suspects
            .extend(entries.into_keys().map(|(hash, name)| Suspect::Entry { hash, name }));
        for suspect in std::mem::take(&mut verified.suspects) {
            // Each suspect has its own deadline: one that takes long must not use up the time of
            // the others.
            let session = KubeSession::new(self, Access::Read, Deadline::after(patience));
            match self.classify(&session, &suspect, is_alive) {
                // A call is under way; a file that cannot be read is a suspect of its own.
                Ok(None) | Err(StoreError::Busy { .. } | StoreError::Damaged { .. }) => {}
                Ok(Some((problem, reason))) => {
                    verified.findings.push(self.finding(problem, &suspect, reason))
                }
                Err(error) => return Err(error),
            }
        }
        verified.findings.sort_by(|a, b| (order(a), &a.path).cmp(&(order(b), &b.path)));
        Ok(verified)
    }

    /// Reads the state. Returns the reason if there is no state to read.
    fn remembered(&self, entries: &mut Entries, suspects: &mut Vec<Suspect>) -> Result<(), String> {
        if self.for_dead_node {
            return Err("this command does not act as a node".to_owned());
        }
        let words = |error: StoreError| error.in_one_line();
        if !self.remembers().map_err(words)? {
            return Err(
                "the node state belongs to another boot, node or cluster; \"repair\" or the next ADD or DEL compares it with the objects"
                    .to_owned(),
            );
        }
        for hash in self.state.hashes().map_err(words)? {
            match self.state.objects(&hash) {
                Ok(objects) => {
                    suspects.extend(objects.iter().filter_map(|user| {
                        let held = ClaimObject::noted_on(user)?.metadata.name;
                        let (hash, name) = (hash.clone(), user.metadata.name.clone());
                        Some(Suspect::User { hash, name, held })
                    }));
                    entries.extend(objects.iter().map(|object| {
                        ((hash.clone(), object.metadata.name.clone()), object.version().is_some())
                    }));
                }
                Err(StoreError::Damaged { .. }) => suspects.push(Suspect::File { hash }),
                Err(error) => return Err(words(error)),
            }
        }
        suspects.extend(
            self.state
                .tombstones()
                .into_iter()
                .map(|tombstone| Suspect::Tombstone(Box::new(tombstone))),
        );
        suspects.extend(
            self.state
                .temporaries()
                .map_err(words)?
                .iter()
                .map(|path| Suspect::Temporary(encode_path(path.as_os_str()))),
        );
        Ok(())
    }

    /// Checks one object of the list.
    fn verify_object(
        &self,
        item: Result<HeldObject, StoreError>,
        extent: Extent,
        entries: &mut Entries,
        verified: &mut VerifiedObjects,
        is_alive: IsAlive<'_>,
    ) -> Result<(), StoreError> {
        let object = match item {
            Ok(object) => object,
            Err(StoreError::DamagedObject { name, reason }) => {
                let name = name.rsplit('/').next().unwrap_or_default().to_owned();
                verified.findings.push(self.finding(
                    Problem::Damaged,
                    &Suspect::Plain { name },
                    reason,
                ));
                return Ok(());
            }
            Err(StoreError::Newer { path, found, .. }) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                verified.findings.push(self.finding(
                    Problem::Newer,
                    &Suspect::Plain { name },
                    Unreadable::Newer(found).to_string(),
                ));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let name = object.metadata().name.clone();
        let held = match object.address() {
            Ok(held) => held,
            Err(unreadable) => {
                let problem = match unreadable {
                    Unreadable::Newer(_) => Problem::Newer,
                    Unreadable::Damaged(_) if object.is_named_right() => Problem::Damaged,
                    Unreadable::Damaged(_) => Problem::Misnamed,
                };
                verified.findings.push(self.finding(
                    problem,
                    &Suspect::Plain { name },
                    unreadable.to_string(),
                ));
                return Ok(());
            }
        };
        let has_wrong_labels = object.has_wrong_labels();
        let (HeldObject::Attachment(object), HeldAddress::Attachment(allocation)) = (object, held)
        else {
            // A claim is of no node, so a check of one node's own records leaves it out.
            if extent == Extent::Whole {
                verified.records += 1;
                verified.census.claims += 1;
                let labels = Suspect::Labels { name, node: None };
                verified.suspects.extend(Some(labels).filter(|_| has_wrong_labels));
            }
            return Ok(());
        };
        verified.records += 1;
        verified.census.count(&allocation);
        if self.is_of_another_machine(&object) {
            verified.findings.push(self.finding(
                Problem::SecondMachine,
                &Suspect::Plain { name },
                allocation.holder(),
            ));
            return Ok(());
        }
        if has_wrong_labels {
            let node = Some(object.spec.node.clone());
            verified.suspects.push(Suspect::Labels { name: name.clone(), node });
        }
        if self.for_dead_node || allocation.record.attachment.node != self.host.node {
            return Ok(());
        }
        if let Life::Doubted(doubt) = is_alive(&allocation.record) {
            verified.census.doubt((*allocation).clone(), doubt);
        }
        if verified.unseen.is_some() {
            return Ok(());
        }
        let hash = names::of_attachment(&allocation.record.attachment);
        match entries.remove(&(hash.clone(), name.clone())) {
            Some(true) => {}
            Some(false) => verified.suspects.push(Suspect::Entry { hash, name }),
            None => verified.suspects.push(Suspect::Object { name }),
        }
        Ok(())
    }

    /// Returns the problem that a suspect has turned out to be, with details, or `None` if it is
    /// not a problem. This takes the lock of the suspect's attachment, which the session keeps. It
    /// also returns `None` while a call of the attachment is under way.
    pub(crate) fn classify(
        &self,
        session: &KubeSession<'_>,
        suspect: &Suspect,
        is_alive: IsAlive<'_>,
    ) -> Result<Option<(Problem, String)>, StoreError> {
        let plain = |problem: Problem| Some((problem, String::new()));
        match suspect {
            Suspect::Entry { hash, name } => {
                if !session.try_lock(hash) {
                    return Ok(None);
                }
                self.classify_entry(session, hash, name, is_alive)
            }
            Suspect::User { hash, name, .. } => {
                if !session.try_lock(hash) {
                    return Ok(None);
                }
                self.classify_user(session, hash, name, is_alive)
            }
            Suspect::Object { name } => {
                let Some((object, held)) = self.own(session, name)? else { return Ok(None) };
                let hash = names::of_attachment(&held.record.attachment);
                if !session.try_lock(&hash) {
                    return Ok(None);
                }
                let known = self.state.object(&hash, name)?.is_some();
                let is_late = |tombstone: &Tombstone| tombstone.object.spec == object.spec;
                let still = !known
                    && self.own(session, name)?.is_some()
                    && !self.state.tombstones().iter().any(is_late);
                Ok(Some((Problem::Unindexed, held.holder())).filter(|_| still))
            }
            Suspect::Labels { name, .. } => {
                let object = self.api.get(name, &session.deadline)?;
                let is_wrong = object.is_some_and(|object| object.has_wrong_labels());
                Ok(plain(Problem::WrongLabels).filter(|_| is_wrong))
            }
            Suspect::Tombstone(tombstone) => {
                let Ok(held) = tombstone.object.allocation() else {
                    return Ok(plain(Problem::DanglingEntry));
                };
                let hash = names::of_attachment(&held.record.attachment);
                if !session.try_lock(&hash) {
                    return Ok(None);
                }
                if session.find_late(tombstone, &hash, &session.deadline)?.is_some() {
                    return Ok(Some((Problem::Late, held.holder())));
                }
                Ok(plain(Problem::DanglingEntry).filter(|_| session.is_over(tombstone)))
            }
            Suspect::File { hash } => {
                if !session.try_lock(hash) {
                    return Ok(None);
                }
                match self.state.objects(hash) {
                    Err(StoreError::Damaged { reason, .. }) => {
                        Ok(Some((Problem::DamagedState, reason)))
                    }
                    Ok(_) => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Suspect::Temporary(path) => Ok(plain(Problem::Temporary)
                .filter(|_| self.state.is_abandoned(Path::new(&decode_path(path)), WRITING))),
            Suspect::Plain { .. } => Ok(None),
        }
    }

    fn classify_entry(
        &self,
        session: &KubeSession<'_>,
        hash: &str,
        name: &str,
        is_alive: IsAlive<'_>,
    ) -> Result<Option<(Problem, String)>, StoreError> {
        let Some(entry) = self.state.object(hash, name)? else {
            return Ok(None);
        };
        let known = match entry.allocation() {
            Ok(known) => known,
            // This is reported for the object itself, if there is one.
            Err(Unreadable::Newer(_)) => return Ok(None),
            Err(unreadable) => return Ok(Some((Problem::DanglingEntry, unreadable.to_string()))),
        };
        let confirmed = known.version.is_some();
        let problem = match self.object_at_name(session, name, &known.record.attachment)? {
            // A list by the label of its node would miss it.
            ObjectAtName::Ours(object) if confirmed => {
                return Ok(Some((Problem::WrongLabels, String::new()))
                    .filter(|_| !object.is_labelled(&known)));
            }
            ObjectAtName::Unclear => return Ok(None),
            ObjectAtName::Ours(_) => Problem::Unconfirmed,
            // Only a sandbox that is seen justifies an object: an operator may have freed one in
            // doubt.
            _ if !is_alive(&known.record).is_seen() => Problem::DanglingEntry,
            ObjectAtName::Nothing if confirmed => Problem::Lost,
            ObjectAtName::Nothing => Problem::Unconfirmed,
            ObjectAtName::Anothers(who) if confirmed => {
                return Ok(Some((
                    Problem::GivenAway,
                    format!("{}; now held by {who}", known.holder()),
                )));
            }
            ObjectAtName::Anothers(_) => Problem::DanglingEntry,
        };
        Ok(Some((problem, known.holder())))
    }

    /// Checks that the claim of a living user has its address.
    fn classify_user(
        &self,
        session: &KubeSession<'_>,
        hash: &str,
        name: &str,
        is_alive: IsAlive<'_>,
    ) -> Result<Option<(Problem, String)>, StoreError> {
        let Some((user, claimed)) = self.user(hash, name)? else { return Ok(None) };
        if !is_alive(&user.record).is_seen() {
            return Ok(None);
        }
        let who = format!("{}, the address of {}", user.holder(), claimed.claim);
        let found =
            self.api.get(&names::object(&claimed.scope, claimed.address), &session.deadline)?;
        match found.map(|object| object.address()) {
            None => Ok(Some((Problem::Lost, who))),
            Some(Ok(HeldAddress::Claim(now))) if now.claim.uid == claimed.claim.uid => Ok(None),
            Some(Ok(now)) => {
                Ok(Some((Problem::GivenAway, format!("{who}; now held by {}", now.holder()))))
            }
            // This is reported for the object itself.
            Some(Err(_)) => Ok(None),
        }
    }

    /// Returns a user of an IPAMClaim, by its entry, and what the claim holds.
    pub(crate) fn user(
        &self,
        hash: &str,
        name: &str,
    ) -> Result<Option<(Allocation, ClaimAllocation)>, StoreError> {
        let known = self.state.object(hash, name)?;
        Ok(known.and_then(|known| {
            let claimed = ClaimObject::noted_on(&known)?.allocation().ok()?;
            Some((known.allocation().ok()?, claimed))
        }))
    }

    /// Returns what exists under a name.
    pub(crate) fn object_at_name(
        &self,
        session: &KubeSession<'_>,
        name: &str,
        attachment: &Attachment,
    ) -> Result<ObjectAtName, StoreError> {
        let object = match self.api.get(name, &session.deadline)? {
            None => return Ok(ObjectAtName::Nothing),
            Some(HeldObject::Attachment(object)) => *object,
            Some(HeldObject::Claim(object)) => {
                return Ok(match object.allocation() {
                    Ok(held) if object.metadata.deletion_timestamp.is_none() => {
                        ObjectAtName::Anothers(held.claim.to_string())
                    }
                    _ => ObjectAtName::Unclear,
                });
            }
        };
        if object.metadata.deletion_timestamp.is_some() || self.is_of_another_machine(&object) {
            return Ok(ObjectAtName::Unclear);
        }
        Ok(match object.allocation() {
            Ok(allocation) if allocation.record.attachment == *attachment => {
                ObjectAtName::Ours(Box::new(object))
            }
            Ok(allocation) => ObjectAtName::Anothers(allocation.holder()),
            Err(_) => ObjectAtName::Unclear,
        })
    }

    /// Returns an object of this node and machine.
    pub(crate) fn own(
        &self,
        session: &KubeSession<'_>,
        name: &str,
    ) -> Result<Option<(IpAllocation, Allocation)>, StoreError> {
        let found = self.api.get_of_attachment(name, &session.deadline)?;
        let found = found.filter(|object| {
            object.metadata.deletion_timestamp.is_none() && !self.is_of_another_machine(object)
        });
        let read = found
            .and_then(|object| object.allocation().ok().map(|allocation| (object, allocation)));
        Ok(read.filter(|(_, allocation)| allocation.record.attachment.node == self.host.node))
    }

    fn finding(&self, problem: Problem, suspect: &Suspect, reason: String) -> Finding {
        let node = match suspect {
            Suspect::Labels { node, .. } => node.clone(),
            Suspect::Plain { .. } if problem != Problem::SecondMachine => None,
            _ => Some(self.host.node.to_string()),
        };
        Finding {
            problem: problem.name(),
            meaning: problem.meaning(),
            done: problem.done(),
            is_repairable: problem.is_repairable(),
            // Entries of the state are this node's own, and any node may repair labels.
            is_ours: true,
            path: suspect.path(problem),
            other: suspect.other(problem),
            reason,
            node,
            // All of it is text, so the encoding cannot fail.
            key: serde_json::to_string(suspect).unwrap_or_default(),
        }
    }
}

fn order(finding: &Finding) -> Option<Problem> {
    Problem::find(finding.problem)
}
