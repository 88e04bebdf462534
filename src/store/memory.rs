//! A store in memory, for tests. It passes the same conformance list as the real ones. No
//! configuration selects it.

use super::disk::Held;
use super::{
    Access, Claim, Filter, Holdings, Listing, Rehome, Release, Session, Store, StoreError,
};
use crate::addr::AddrSet;
use crate::ipam::{
    Allocation, Attachment, IfName, NetworkName, NodeName, PodRef, Record, Scope, Version,
};
use crate::retry::Deadline;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

/// See the module.
pub struct MemoryStore {
    node: NodeName,
    records: RefCell<BTreeMap<(Scope, IpAddr), Allocation>>,
    /// Attachments that a call has locked.
    locked: Rc<RefCell<HashSet<Attachment>>>,
    /// The number of records that were written.
    written: Cell<u64>,
}

/// The lock of an attachment.
struct Lock {
    locked: Rc<RefCell<HashSet<Attachment>>>,
    attachment: Attachment,
}

impl Held for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.locked.borrow_mut().remove(&self.attachment);
    }
}

impl MemoryStore {
    /// Returns an empty store as one node sees it.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self { node, records: RefCell::default(), locked: Rc::default(), written: Cell::default() }
    }

    /// Returns the version of the next record that is written.
    fn next_version(&self) -> Version {
        self.written.set(self.written.get() + 1);
        Version { uid: self.written.get().to_string(), revision: String::new(), newer: Vec::new() }
    }

    /// Returns all records, in order.
    #[must_use]
    pub fn records(&self) -> Vec<Allocation> {
        self.records.borrow().values().cloned().collect()
    }
}

impl Store for MemoryStore {
    /// Does not wait: a test that meets a busy attachment gets the error at once.
    fn lock_attachment(
        &self,
        attachment: &Attachment,
        _: Access,
        deadline: Deadline,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        match self.try_lock_attachment(attachment)? {
            Some(held) => Ok(Some(held)),
            None => Err(StoreError::AttachmentBusy {
                attachment: attachment.to_string(),
                waited: humantime::format_duration(deadline.limit()).to_string(),
                holder: "this process".to_owned(),
            }),
        }
    }

    fn try_lock_attachment(
        &self,
        attachment: &Attachment,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        let lock = || Lock { locked: Rc::clone(&self.locked), attachment: attachment.clone() };
        Ok(self
            .locked
            .borrow_mut()
            .insert(attachment.clone())
            .then(|| Box::new(lock()) as Box<dyn Held>))
    }

    fn noted(&self, attachment: &Attachment) -> Option<Vec<Allocation>> {
        Some(
            self.records()
                .into_iter()
                .filter(|allocation| allocation.record.attachment == *attachment)
                .collect(),
        )
    }

    fn open(&self, _: Access, _: Deadline) -> Result<Box<dyn Session + '_>, StoreError> {
        Ok(Box::new(MemorySession { store: self }))
    }

    fn list(&self, filter: &Filter) -> Result<Listing<'_>, StoreError> {
        let filter = filter.clone();
        Ok(Box::new(
            self.records().into_iter().filter(move |allocation| filter.matches(allocation)).map(Ok),
        ))
    }

    fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn has_room(&self, scope: &Scope, candidates: &AddrSet) -> Result<bool, StoreError> {
        Ok(self.lowest_free(scope, candidates).is_some())
    }
}

impl MemoryStore {
    fn lowest_free(&self, scope: &Scope, candidates: &AddrSet) -> Option<IpAddr> {
        let records = self.records.borrow();
        let mut left = candidates.clone();
        for (_, address) in records.keys().filter(|(of, _)| of == scope) {
            left.remove(&crate::addr::Range::single(*address));
        }

        left.ranges().next().map(|range| range.first_address())
    }

    /// Returns this attachment's record at the address.
    fn current(&self, held: &Allocation) -> Option<Allocation> {
        let current = self.records.borrow().get(&(held.scope.clone(), held.address)).cloned();
        current.filter(|current| {
            held.record.attachment.node == self.node
                && current.record.attachment == held.record.attachment
        })
    }

    fn release_if(&self, held: &Allocation, is_meant: impl Fn(&Allocation) -> bool) -> Release {
        if !self.current(held).is_some_and(|current| is_meant(&current)) {
            return Release::NotYours;
        }
        self.records.borrow_mut().remove(&(held.scope.clone(), held.address));
        Release::Done
    }
}

struct MemorySession<'s> {
    store: &'s MemoryStore,
}

impl Session for MemorySession<'_> {
    fn holdings(&self, attachment: &Attachment) -> Result<Holdings, StoreError> {
        let mut held = self.store.records();
        held.retain(|allocation| allocation.record.attachment == *attachment);
        held.sort_by_key(|allocation| allocation.record.part.index);
        Ok(Holdings { held, ..Holdings::default() })
    }

    fn holdings_of_pod(
        &self,
        network: &NetworkName,
        pod: &PodRef,
        ifname: &IfName,
    ) -> Result<Vec<Allocation>, StoreError> {
        let mut held = self.store.records();
        held.retain(|allocation| {
            let attachment = &allocation.record.attachment;
            let place = attachment.node == self.store.node
                && attachment.network == *network
                && attachment.ifname == *ifname;
            let same =
                allocation.record.pod.as_ref().is_some_and(|other| {
                    other.namespace == pod.namespace && other.name == pod.name
                });
            place && same && pod.is_whole()
        });
        Ok(held)
    }

    fn claim(
        &mut self,
        scope: &Scope,
        candidates: &AddrSet,
        record: &Record,
    ) -> Result<Claim, StoreError> {
        let Some(address) = self.store.lowest_free(scope, candidates) else {
            return Ok(Claim::Full);
        };
        let version = Some(self.store.next_version());
        let allocation =
            Allocation { scope: scope.clone(), address, record: record.clone(), version };
        self.store.records.borrow_mut().insert((scope.clone(), address), allocation.clone());
        Ok(Claim::Claimed(allocation))
    }

    fn confirm(&mut self, _: &Allocation) -> Result<(), StoreError> {
        Ok(())
    }

    fn rehome(&mut self, held: &Allocation, to: &Record) -> Result<Rehome, StoreError> {
        if self.store.current(held).as_ref() != Some(held) {
            return Ok(Rehome::Changed);
        }
        let moved = Allocation {
            record: to.clone(),
            version: Some(self.store.next_version()),
            ..held.clone()
        };
        self.store.records.borrow_mut().insert((held.scope.clone(), held.address), moved.clone());
        Ok(Rehome::Done(moved))
    }

    fn release(&mut self, held: &Allocation) -> Result<Release, StoreError> {
        Ok(self.store.release_if(held, |_| true))
    }

    fn release_unchanged(&mut self, held: &Allocation) -> Result<Release, StoreError> {
        Ok(self.store.release_if(held, |current| current == held))
    }

    fn clean_up(&mut self, _attachment: &Attachment) -> Result<(), StoreError> {
        Ok(())
    }
}
