//! Repairs what `verify` has found, one finding at a time, under the lock of its attachment and
//! after another check. If the cluster has lost the record of a living sandbox, it is created again
//! from the node state. If another attachment holds the address in the meantime, the record cannot
//! be repaired here, and the result says so.

use super::finding::{Problem, Suspect};
use super::verify::ObjectAtName;
use crate::ipam::NodeName;
use crate::retry::Deadline;
use crate::store::ipam_claims::IpamClaims;
use crate::store::kube::KubeStore;
use crate::store::kube::api::paging::Place;
use crate::store::kube::api::retries::Failed;
use crate::store::kube::api::{Changed, Created};
use crate::store::kube::objects::claim_object::ClaimObject;
use crate::store::kube::objects::held::HeldObject;
use crate::store::kube::objects::ip_allocation::{IpAllocation, Metadata};
use crate::store::kube::objects::names;
use crate::store::kube::objects::unreadable::Unreadable;
use crate::store::kube::session::KubeSession;
use crate::store::percent::decode_path;
use crate::store::upkeep::{
    Extent, Finding, IsAlive, IsLeftBehind, Repaired, SetBack, TakenOver, Upkeep, Verified,
};
use crate::store::{Access, StoreError};
use std::path::Path;

impl Upkeep for KubeStore {
    fn verify(
        &self,
        extent: Extent,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Verified, StoreError> {
        let verified = self.verify_objects(extent, is_alive, deadline.limit())?;
        Ok(Verified {
            format: None,
            records: verified.records,
            entries: verified.entries,
            findings: verified.findings,
            unseen: verified.unseen,
            census: verified.census,
        })
    }

    fn orphans(
        &self,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Vec<Finding>, StoreError> {
        if self.for_dead_node {
            return Ok(Vec::new());
        }
        let mut found = self.verify_objects(Extent::Own, is_alive, deadline.limit())?.findings;
        found.retain(|finding| Problem::find(finding.problem).is_some_and(Problem::is_orphan));
        Ok(found)
    }

    fn repair(
        &self,
        finding: &Finding,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Repaired, StoreError> {
        let (Some(problem), Ok(suspect)) =
            (Problem::find(finding.problem), serde_json::from_str(&finding.key))
        else {
            return Ok(Repaired::NotYours);
        };
        if !problem.is_repairable() {
            return Ok(Repaired::ByHand);
        }
        let session = KubeSession::new(self, Access::Allocate, deadline);
        if problem != Problem::WrongLabels && !self.remembers()? {
            return Ok(Repaired::Gone);
        }
        match self.classify(&session, &suspect, is_alive) {
            Ok(Some((now, _))) if now == problem => self.clean_up(&session, now, &suspect),
            Ok(_) => Ok(Repaired::Gone),
            Err(error) => Err(error),
        }
    }

    fn take_over(
        &self,
        node_uid: &str,
        is_left_behind: IsLeftBehind<'_>,
        deadline: Deadline,
    ) -> Result<TakenOver, StoreError> {
        self.take_over_from(node_uid, is_left_behind, &deadline)
    }

    fn complete(&self, deadline: Deadline) -> Result<(), StoreError> {
        if self.for_dead_node { Ok(()) } else { self.make_complete(&deadline) }
    }

    fn set_back(&self) -> Option<SetBack> {
        self.find_set_back()
    }

    fn forget_set_back(&self, known: &SetBack) {
        self.remove_set_back(known);
    }

    fn tidy(&self, deadline: Deadline) -> Result<usize, StoreError> {
        self.remove_unused(&deadline)
    }

    /// Returns true: the API keeps no list of the nodes that have used it.
    fn knows(&self, _: &NodeName) -> bool {
        true
    }

    /// Returns false, because the holder is unknown. An operator who has checked it uses `kubectl
    /// delete`.
    fn release_damaged(&self, _: &Path, _: Deadline) -> Result<bool, StoreError> {
        Ok(false)
    }
}

impl KubeStore {
    fn clean_up(
        &self,
        session: &KubeSession<'_>,
        problem: Problem,
        suspect: &Suspect,
    ) -> Result<Repaired, StoreError> {
        match suspect {
            Suspect::Entry { hash, name } if problem == Problem::DanglingEntry => {
                self.forget_entry(session, hash, name)?
            }
            Suspect::Entry { name, .. } if problem == Problem::WrongLabels => {
                return self.label(session, name);
            }
            Suspect::Entry { hash, name } => return self.recreate(session, hash, name),
            Suspect::User { hash, name, .. } => return self.recreate_of_claim(session, hash, name),
            Suspect::Object { name } => {
                let Some((object, held)) = self.own(session, name)? else {
                    return Ok(Repaired::Gone);
                };
                session.note_answer(&object, &held.record);
            }
            Suspect::Labels { name, .. } => return self.label(session, name),
            Suspect::Tombstone(tombstone) => session.repair_tombstone(tombstone)?,
            Suspect::File { hash } => drop(self.read_again(hash, &session.deadline)?),
            Suspect::Temporary(path) => {
                self.state.remove_temporary(Path::new(&decode_path(path)))?
            }
            Suspect::Plain { .. } => return Ok(Repaired::ByHand),
        }
        Ok(Repaired::Done)
    }

    /// Recreates the object of a living sandbox, as its ADD created it.
    fn recreate(
        &self,
        session: &KubeSession<'_>,
        hash: &str,
        name: &str,
    ) -> Result<Repaired, StoreError> {
        let known = self.state.object(hash, name)?;
        let Some((entry, held)) =
            known.and_then(|known| known.allocation().ok().map(|held| (known, held)))
        else {
            return Ok(Repaired::Gone);
        };
        let labels = names::labels(&held.scope, held.address, &held.record);
        let annotations = entry.metadata.annotations.clone();
        let metadata =
            Metadata { name: name.to_owned(), labels, annotations, ..Metadata::default() };
        let object = IpAllocation { metadata, ..entry.clone() };
        // As with any creation: after a kill here, the next call of the attachment asks the server,
        // and a request that is sent twice gets a tombstone.
        self.state.put(hash, &object)?;
        let (made, outcome_unknown) = match self.api.create(&object, &session.deadline) {
            Ok(Created::Made { object, outcome_unknown }) => (object, outcome_unknown),
            Ok(Created::Taken { maybe_ours }) => {
                match self.object_at_name(session, name, &held.record.attachment)? {
                    ObjectAtName::Ours(object) => (object, maybe_ours),
                    ObjectAtName::Anothers(who) => {
                        self.state.put(hash, &entry)?;
                        return Ok(Repaired::GivenAway(who));
                    }
                    ObjectAtName::Nothing | ObjectAtName::Unclear => {
                        self.state.put(hash, &entry)?;
                        return Ok(Repaired::ByHand);
                    }
                }
            }
            Err(Failed { error, outcome_unknown }) => {
                if !outcome_unknown {
                    self.state.put(hash, &entry)?;
                }
                return Err(error);
            }
        };
        if outcome_unknown || held.version.is_none() {
            session.track_duplicate_create(&object, made.metadata.uid.as_deref());
        }
        session.note_answer(&made, &held.record);
        // Whereabouts may have given the address while the object was lost.
        let again = made.allocation().map_err(|unreadable| unreadable.of(name))?;
        if let Some(who) = session.show_again(&again)? {
            return Ok(Repaired::GivenAway(who));
        }
        self.state
            .change_occupancy(&held.scope, &session.deadline, |hint| hint.take(held.address))?;
        Ok(Repaired::Done)
    }

    /// Recreates the object by which an IPAMClaim holds the address of a living user.
    fn recreate_of_claim(
        &self,
        session: &KubeSession<'_>,
        hash: &str,
        name: &str,
    ) -> Result<Repaired, StoreError> {
        let Some((_, claimed)) = self.user(hash, name)? else { return Ok(Repaired::Gone) };
        if self.hold(&claimed, &session.deadline)?.is_some() {
            return Ok(Repaired::Done);
        }
        match self.holder(&claimed.scope, claimed.address, &session.deadline)? {
            None => Ok(Repaired::ByHand),
            Some(now) => Ok(Repaired::GivenAway(now.holder())),
        }
    }

    /// Removes an entry of a sandbox that is gone. Its creation may still be under way.
    fn forget_entry(
        &self,
        session: &KubeSession<'_>,
        hash: &str,
        name: &str,
    ) -> Result<(), StoreError> {
        let Some(entry) = self.state.object(hash, name)? else {
            return Ok(());
        };
        let Ok(known) = entry.allocation() else {
            return self.state.drop_object(hash, name);
        };
        session.lost.borrow_mut().push(entry);
        session.put_tombstones(&known.record.attachment)?;
        if self.state.objects(hash)?.is_empty() {
            self.state.note_pod(
                &known.record.attachment,
                known.record.pod.as_ref(),
                false,
                &session.deadline,
            );
        }
        Ok(())
    }

    /// Gives an object the labels of its record.
    fn label(&self, session: &KubeSession<'_>, name: &str) -> Result<Repaired, StoreError> {
        let mut object = match self.api.get(name, &session.deadline)? {
            Some(HeldObject::Attachment(object)) => *object,
            Some(HeldObject::Claim(object)) => return self.label_claim(session, &object),
            None => return Ok(Repaired::Gone),
        };
        let (Ok(held), Some(version)) = (object.allocation(), object.version()) else {
            return Ok(Repaired::Gone);
        };
        if self.is_of_another_machine(&object) {
            return Ok(Repaired::ByHand);
        }
        object.metadata.labels = names::labels(&held.scope, held.address, &held.record);
        let Changed::Done(labelled) = self.api.patch(&object, &version, &session.deadline)? else {
            return Ok(Repaired::Gone);
        };
        // A node that knows the object in the old state asks the server again. This node notes the
        // new state.
        let hash = names::of_attachment(&held.record.attachment);
        if held.record.attachment.node == self.host.node && self.remembers()? {
            let is_free = session.try_lock(&hash);
            if is_free
                && self
                    .state
                    .objects(&hash)?
                    .iter()
                    .any(|known| known.metadata.uid == labelled.metadata.uid)
            {
                session.note_answer(&labelled, &held.record);
            }
        }
        Ok(Repaired::Done)
    }

    /// Gives an object that a claim holds the labels of its record. No node state knows the object.
    fn label_claim(
        &self,
        session: &KubeSession<'_>,
        object: &ClaimObject,
    ) -> Result<Repaired, StoreError> {
        let (Ok(held), Some(version)) = (object.allocation(), object.version()) else {
            return Ok(Repaired::Gone);
        };
        let labels = names::labels_of_claim(&held);
        let name = &object.metadata.name;
        Ok(match self.api.patch_labels(name, &labels, &version, &session.deadline)? {
            Changed::Done(_) => Repaired::Done,
            Changed::Conflict | Changed::Absent { .. } => Repaired::Gone,
        })
    }

    /// Writes an attachment's file again from the attachment's objects, and returns them. The
    /// caller holds the attachment's lock.
    pub(crate) fn read_again(
        &self,
        hash: &str,
        deadline: &Deadline,
    ) -> Result<Vec<IpAllocation>, StoreError> {
        let selector = format!("{}={hash}", names::ATTACHMENT);
        let mut objects = Vec::new();
        let mut place = Place::default();
        while !place.is_ended() {
            for object in self.api.page_of_attachments(&selector, &mut place, deadline)? {
                let object = match object {
                    Err(newer @ StoreError::Newer { .. }) => return Err(newer),
                    // An object that cannot be read is a finding of its own.
                    Err(_) => continue,
                    Ok(object) => object,
                };
                let is_its_own = match object.allocation() {
                    Ok(held) => names::of_attachment(&held.record.attachment) == hash,
                    Err(unreadable) => matches!(unreadable, Unreadable::Newer(_)),
                };
                if is_its_own && !self.is_of_another_machine(&object) {
                    objects.push(object);
                }
            }
        }
        self.state.replace_objects(hash, &objects)?;
        Ok(objects)
    }
}
