//! One session of the Kubernetes store: the locks of attachments, and requests that compare an
//! object with the state that was read.

use super::KubeStore;
use super::api::Changed;
use super::moving::During;
use super::objects::ip_allocation::{IpAllocation, PLURAL};
use super::objects::names;
use super::objects::unreadable::Unreadable;
use crate::addr::AddrSet;
use crate::ipam::{Allocation, Attachment, IfName, NetworkName, PodRef, Record, Scope, Version};
use crate::retry::{self, Attempt, Deadline, Pace};
use crate::store::disk::Held;
use crate::store::{Access, Claim, Holdings, Rehome, Release, Session, StoreError};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// A session of the Kubernetes store, see [`Session`].
pub(crate) struct KubeSession<'s> {
    pub(super) store: &'s KubeStore,
    pub(super) deadline: Deadline,
    access: Access,
    /// Locks of attachments other than the caller's own, by their hash.
    locks: RefCell<BTreeMap<String, Box<dyn Held>>>,
    /// Objects that the attachment was to get and that do not exist. A claim tries their addresses
    /// first.
    pub(super) lost: RefCell<Vec<IpAllocation>>,
    /// What the session knows about the move from Whereabouts.
    pub(super) during: During,
}

/// What a removal refers to. It decides what happens when the object is not in the known state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DeleteGuard {
    /// Only the known state.
    State,
    /// The record, whatever labels it has got since.
    ThisRecord,
    /// Whatever the holder has at this address.
    Holder,
}

impl<'s> KubeSession<'s> {
    pub(super) fn new(store: &'s KubeStore, access: Access, deadline: Deadline) -> Self {
        let (locks, lost, during) = Default::default();
        Self { store, deadline, access, locks, lost, during }
    }

    /// Keeps other calls of an attachment out for the rest of the session. Returns false when such
    /// a call is under way. The caller of the session has already locked the attachment that it
    /// opened the session for.
    pub(super) fn try_lock(&self, hash: &str) -> bool {
        let mut locks = self.locks.borrow_mut();
        if locks.contains_key(hash) {
            return true;
        }
        let held = self.store.state.try_lock_attachment(hash);
        held.is_some_and(|held| locks.insert(hash.to_owned(), held).is_none())
    }

    /// Returns the objects of an attachment that is locked. A damaged file is written again from
    /// the attachment's objects in the API; no other attachment is touched.
    fn objects(&self, hash: &str) -> Result<Vec<IpAllocation>, StoreError> {
        match self.store.state.objects(hash) {
            Err(StoreError::Damaged { path, reason }) => {
                tracing::warn!(path = %path.display(), %reason, "a file of the node state is damaged; the attachment's objects are listed instead");
                self.store.read_again(hash, &self.deadline)
            }
            objects => objects,
        }
    }

    /// Returns the objects of another attachment, whose problems must not fail this call:
    /// unreadable state counts as empty.
    fn objects_of_another(&self, hash: &str) -> Vec<IpAllocation> {
        let known = match self.store.state.objects(hash) {
            Err(StoreError::Damaged { .. }) if self.try_lock(hash) => self.objects(hash),
            known => known,
        };
        known.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the node state of another attachment; it is skipped");
            Vec::new()
        })
    }

    /// Returns the object of a name if it belongs to this attachment and this machine and is not
    /// being deleted.
    pub(super) fn current(
        &self,
        name: &str,
        attachment: &Attachment,
    ) -> Result<Option<Allocation>, StoreError> {
        let found = self.store.api.get_of_attachment(name, &self.deadline)?;
        let Some(object) = found.filter(|object| object.metadata.deletion_timestamp.is_none())
        else {
            return Ok(None);
        };
        if let Err(another) = self.store.check_machine(&object) {
            tracing::warn!(%another, "a record of another machine under this node's name is skipped");
            return Ok(None);
        }
        let allocation = object.allocation().map_err(|unreadable| unreadable.of(name))?;
        Ok(Some(allocation).filter(|allocation| allocation.record.attachment == *attachment))
    }

    /// Writes the server's answer into the node state. The record exists already: a failure only
    /// costs the next call one more request.
    pub(super) fn note_answer(&self, object: &IpAllocation, held: &Record) {
        let state = &self.store.state;
        if let Err(error) = state.put(&names::of_attachment(&held.attachment), object) {
            tracing::warn!(%error, "cannot note an answer; the next call of the attachment asks again");
        }
        state.note_pod(&held.attachment, held.pod.as_ref(), true, &self.deadline);
        self.store.note_gateway(&names::of_attachment(&held.attachment), object, &self.deadline);
    }

    /// Removes an object from the node state: it is gone, or another attachment holds it.
    pub(super) fn forget(&self, held: &Allocation, freed: bool) {
        if self.store.for_dead_node {
            return;
        }
        let state = &self.store.state;
        let hash = names::of_attachment(&held.record.attachment);
        let name = names::object(&held.scope, held.address);
        let forgotten = state.drop_object(&hash, &name).and_then(|()| {
            if state.objects(&hash)?.is_empty() {
                state.note_pod(
                    &held.record.attachment,
                    held.record.pod.as_ref(),
                    false,
                    &self.deadline,
                );
            }
            if freed {
                state.change_occupancy(&held.scope, &self.deadline, |hint| hint.free(held.address))
            } else {
                Ok(())
            }
        });
        if let Err(error) = forgotten {
            tracing::warn!(%error, "cannot tidy the node state; the next call of the attachment does it");
        }
    }

    /// Deletes an object, or returns why it was not deleted.
    fn remove(
        &self,
        held: &Allocation,
        mut version: Version,
        meant: DeleteGuard,
    ) -> Result<Release, StoreError> {
        let name = names::object(&held.scope, held.address);
        let first = version.clone();
        let is_meant = |now: &Allocation| match meant {
            DeleteGuard::State => now.version.as_ref() == Some(&first),
            DeleteGuard::ThisRecord => now.record == held.record,
            DeleteGuard::Holder => now.record.attachment == held.record.attachment,
        };
        let removed = retry::until_paced(&self.deadline, Pace::SERVER, || {
            // After a conflict again: an export that has shown the address changes the object.
            self.withdraw_first(held, &version, &is_meant, &self.deadline)?;
            let release = match self.store.api.delete(&name, &version, &self.deadline)? {
                Changed::Done(()) | Changed::Absent { maybe_ours: true } => Release::Done,
                Changed::Absent { maybe_ours: false } => {
                    self.forget(held, true);
                    Release::NotYours
                }
                Changed::Conflict if meant == DeleteGuard::State => Release::NotYours,
                Changed::Conflict => {
                    match self
                        .current(&name, &held.record.attachment)?
                        .and_then(|now| Some((now.version?, now.record)))
                    {
                        Some((_, now))
                            if meant == DeleteGuard::ThisRecord && now != held.record =>
                        {
                            Release::NotYours
                        }
                        // A label was edited, or the attachment was re-homed to itself. It is also
                        // possible that nothing has changed and the conflict was with no other
                        // change. While the object exists, it is not forgotten.
                        Some((now, _)) => {
                            version = now;
                            return Ok(Attempt::Again(Duration::ZERO));
                        }
                        None => {
                            self.forget(held, false);
                            Release::NotYours
                        }
                    }
                }
            };
            if release == Release::Done {
                self.forget(held, true);
            }
            Ok::<_, StoreError>(Attempt::Done(release))
        })?;
        removed.ok_or_else(|| {
            self.store.api.contended(
                "delete",
                PLURAL,
                &format!("{name} changed before each attempt"),
                &self.deadline,
            )
        })
    }

    /// Ends a claim that Whereabouts does not see, or not completely.
    pub(super) fn release_shown(&self, claimed: &Allocation) -> Result<(), StoreError> {
        match &claimed.version {
            Some(version) => {
                self.remove(claimed, version.clone(), DeleteGuard::State)?;
                Ok(())
            }
            None => Err(StoreError::Changed),
        }
    }

    /// Returns the version of an object that the caller has not read: from the node state,
    /// otherwise from the server.
    fn version_of(&self, held: &Allocation) -> Result<Option<Version>, StoreError> {
        if let Some(version) = &held.version {
            return Ok(Some(version.clone()));
        }
        let name = names::object(&held.scope, held.address);
        if !self.store.for_dead_node {
            let known = self
                .store
                .state
                .objects(&names::of_attachment(&held.record.attachment))
                .unwrap_or_default();
            if let Some(version) = known
                .iter()
                .find(|object| object.metadata.name == name)
                .and_then(IpAllocation::version)
            {
                return Ok(Some(version));
            }
        }
        Ok(self.current(&name, &held.record.attachment)?.and_then(|current| current.version))
    }

    /// Frees those candidates that this node recorded before its last boot, even if their labels
    /// were edited since: their sandboxes are gone. Called only when nothing else is free. Returns
    /// whether any candidate was freed.
    pub(super) fn sweep_earlier_boots(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
    ) -> Result<bool, StoreError> {
        let state = &self.store.state;
        let mut freed = false;
        for hash in state.hashes()? {
            // Never wait for this lock: its holder may be waiting for this call.
            if !self.try_lock(&hash) {
                continue;
            }
            for object in self.objects_of_another(&hash) {
                let (Ok(known), Some(version)) = (object.allocation(), object.version()) else {
                    continue;
                };
                let candidate = known.scope == *scope && candidates.contains(known.address);
                let of_another_boot = known.record.boot_id != self.store.host.boot_id;
                if candidate
                    && of_another_boot
                    && self.store.life.is_none_or(|life| life(&known.record).is_dead())
                {
                    if freed && self.deadline.left().is_zero() {
                        return Ok(true);
                    }
                    freed |=
                        self.remove(&known, version, DeleteGuard::ThisRecord)? == Release::Done;
                }
            }
        }
        Ok(freed)
    }
}

impl Session for KubeSession<'_> {
    fn holdings(&self, attachment: &Attachment) -> Result<Holdings, StoreError> {
        let mut holdings = Holdings::default();
        let hash = names::of_attachment(attachment);
        let known = match self.objects(&hash) {
            Err(newer @ StoreError::Newer { .. }) => {
                holdings.damaged.push(newer);
                return Ok(holdings);
            }
            known => known?,
        };
        for object in known {
            let name = &object.metadata.name;
            let known = match object.allocation() {
                Ok(known) => known,
                Err(unreadable @ Unreadable::Newer(_)) => {
                    holdings.damaged.push(unreadable.of(name));
                    continue;
                }
                Err(unreadable) => return Err(unreadable.of(name)),
            };
            // Two attachments with the same hash share one file. Objects of the other attachment
            // must not be returned, freed or forgotten here.
            if known.record.attachment != *attachment {
                continue;
            }
            // A DEL deletes what the node state contains, under the condition that the object is
            // unchanged.
            if self.access == Access::Release && known.version.is_some() {
                holdings.held.push(known);
                continue;
            }
            match self.current(name, attachment) {
                Ok(Some(current)) => {
                    let is_its_own =
                        self.access != Access::Allocate || self.show_again(&current)?.is_none();
                    if is_its_own {
                        holdings.held.push(current);
                    } else if let Some(version) = current.version.clone() {
                        // It was never printed: what is printed stands where Whereabouts sees it.
                        self.remove(&current, version, DeleteGuard::ThisRecord)?;
                    }
                }
                Ok(None) => {
                    holdings.needs_cleanup = true;
                    self.lost.borrow_mut().push(object);
                }
                Err(damaged @ (StoreError::DamagedObject { .. } | StoreError::Newer { .. })) => {
                    holdings.damaged.push(damaged)
                }
                Err(error) => return Err(error),
            }
        }
        holdings.held.sort_by_key(|allocation| allocation.record.part.index);
        Ok(holdings)
    }

    fn holdings_of_pod(
        &self,
        network: &NetworkName,
        pod: &PodRef,
        ifname: &IfName,
    ) -> Result<Vec<Allocation>, StoreError> {
        let mut held = Vec::new();
        for hash in self.store.state.attachments_of(network, pod, ifname)? {
            for object in self.objects_of_another(&hash) {
                let Ok(known) = object.allocation() else {
                    continue;
                };
                let attachment = &known.record.attachment;
                let same = known.record.pod.as_ref().is_some_and(|other| {
                    other.namespace == pod.namespace && other.name == pod.name
                });
                if !same || attachment.network != *network || attachment.ifname != *ifname {
                    continue;
                }
                match known.version {
                    Some(_) => held.push(known),
                    None => held.extend(self.current(&object.metadata.name, attachment)?),
                }
            }
        }
        Ok(held)
    }

    fn claim(
        &mut self,
        scope: &Scope,
        candidates: &AddrSet,
        record: &Record,
    ) -> Result<Claim, StoreError> {
        self.claim_one(scope, candidates, record)
    }

    fn confirm(&mut self, _: &Allocation) -> Result<(), StoreError> {
        // The server answers with what is on the disks of a majority of etcd's members.
        Ok(())
    }

    fn rehome(&mut self, held: &Allocation, to: &Record) -> Result<Rehome, StoreError> {
        if held.record.attachment.node != self.store.host.node {
            return Ok(Rehome::Changed);
        }
        match self.version_of(held)? {
            // The entry gets our form first: it then stays right, whichever sandbox the record names.
            Some(version) => {
                let known = Allocation { version: Some(version.clone()), ..held.clone() };
                match self.show_again(&known)? {
                    None => self.change(held, to, version),
                    Some(_) => Ok(Rehome::Changed),
                }
            }
            None => Ok(Rehome::Changed),
        }
    }

    fn release(&mut self, held: &Allocation) -> Result<Release, StoreError> {
        if held.record.attachment.node != self.store.host.node {
            return Ok(Release::NotYours);
        }
        match self.version_of(held)? {
            Some(version) => self.remove(held, version, DeleteGuard::Holder),
            None => {
                self.forget(held, false);
                Ok(Release::NotYours)
            }
        }
    }

    fn release_unchanged(&mut self, held: &Allocation) -> Result<Release, StoreError> {
        if held.record.attachment.node != self.store.host.node {
            return Ok(Release::NotYours);
        }
        match &held.version {
            Some(version) => self.remove(held, version.clone(), DeleteGuard::State),
            None => Ok(Release::NotYours),
        }
    }

    fn clean_up(&mut self, attachment: &Attachment) -> Result<(), StoreError> {
        self.put_tombstones(attachment)
    }
}
