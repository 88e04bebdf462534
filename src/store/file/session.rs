//! A session of the file store: the locks that it holds, and calls that change a record only after
//! a comparison.

use super::hint::FullShards;
use super::{FileStore, given_notes, index, layout, read, record, remove, sync_name};
use crate::addr::{AddrSet, Shard};
use crate::ipam::{Allocation, Attachment, IfName, NetworkName, PodRef, Record, Scope};
use crate::retry::Deadline;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Held, Inode};
use crate::store::{
    Access, Claim, Filter, Holdings, Rehome, Release, Session, Store, StoreError, Wanted,
};
use std::path::{Path, PathBuf};

/// The size of a group of addresses: as many as a dual-stack ADD has. The lock is held while this
/// many entries are flushed.
const AT_ONCE: usize = 2;

/// The place of the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The store does not exist yet.
    Absent,
    /// On this machine: the session holds the store's lock from the start to the commit.
    Local,
    /// On a shared filesystem: the session holds the machine's own lock throughout, and the store's
    /// lock from the search to the commit.
    Shared,
}

/// Finds the record of an allocation, with its inode.
type Find<'s, D> =
    fn(&FileSession<'s, D>, &Allocation) -> Result<Option<(Allocation, Inode)>, StoreError>;

/// See [`Session`].
pub(super) struct FileSession<'s, D: Disk> {
    pub(super) store: &'s FileStore<D>,
    pub(super) deadline: Deadline,
    access: Access,
    place: Place,
    machine_lock: Option<Box<dyn Held>>,
    store_lock: Option<Box<dyn Held>>,
    /// The numbers at which index entries can be created.
    pub(super) next: index::Next,
}

impl<'s, D: Disk> FileSession<'s, D> {
    pub(super) fn absent(store: &'s FileStore<D>, deadline: Deadline) -> Self {
        Self::at(store, Access::Release, deadline, Place::Absent)
    }

    pub(super) fn local(
        store: &'s FileStore<D>,
        access: Access,
        deadline: Deadline,
        lock: Box<dyn Held>,
    ) -> Self {
        Self { store_lock: Some(lock), ..Self::at(store, access, deadline, Place::Local) }
    }

    pub(super) fn shared(
        store: &'s FileStore<D>,
        access: Access,
        deadline: Deadline,
        lock: Box<dyn Held>,
    ) -> Self {
        Self { machine_lock: Some(lock), ..Self::at(store, access, deadline, Place::Shared) }
    }

    fn at(store: &'s FileStore<D>, access: Access, deadline: Deadline, place: Place) -> Self {
        Self {
            store,
            deadline,
            access,
            place,
            machine_lock: None,
            store_lock: None,
            next: index::Next::default(),
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        self.place == Place::Absent
    }

    pub(super) fn is_local(&self) -> bool {
        self.place == Place::Local
    }

    /// Takes the store's lock unless it is already held.
    pub(super) fn lock_store(&mut self) -> Result<(), StoreError> {
        if self.store_lock.is_none() && self.place != Place::Absent {
            self.store_lock = Some(self.store.wait_store(self.is_local(), &self.deadline)?);
        }
        Ok(())
    }

    /// Releases the store's lock, for example once an address is ours. A sync takes as long as
    /// everything else, and calls that wait for it at the same time share one flush. The
    /// attachment's lock keeps the calls of the attachment apart.
    pub(super) fn unlock_store(&mut self) {
        self.store_lock = None;
    }

    /// Releases the store's lock if the machine's own lock is held too.
    pub(super) fn unlock_shared(&mut self) {
        if self.place == Place::Shared {
            self.store_lock = None;
        }
    }

    /// Releases all locks, for a long search.
    pub(super) fn unlock(&mut self) {
        self.store_lock = None;
        self.machine_lock = None;
    }

    /// Takes the locks again that [`Self::unlock`] released.
    pub(super) fn relock(&mut self) -> Result<(), StoreError> {
        if self.place == Place::Shared {
            let id = self.store.read_format()?.map(|format| format.id).unwrap_or_default();
            self.machine_lock = Some(self.store.wait_machine(&id, &self.deadline)?);
        }
        self.lock_store()
    }

    /// Frees the records that this node made before its last boot and whose sandboxes are gone.
    /// Used only when nothing else is free. Returns whether anything was freed.
    pub(super) fn sweep_earlier_boots(&mut self, record: &Record) -> Result<bool, StoreError> {
        let filter = Filter {
            node: Some(self.store.host.node.clone()),
            earlier_names: true,
            ..Filter::default()
        };
        let mut stale = Vec::new();
        for allocation in self.store.list(&filter)? {
            match allocation {
                Ok(allocation)
                    if allocation.record.boot_id != record.boot_id
                        && self.is_dead(&allocation.record) =>
                {
                    stale.push(allocation)
                }
                Ok(_) | Err(StoreError::Damaged { .. } | StoreError::Newer { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut freed = false;
        for allocation in stale {
            if freed && self.deadline.left().is_zero() {
                break;
            }
            // A call of that attachment that is in progress decides about its record.
            if let Some(_lock) = self.store.try_attachment(&allocation.record.attachment)? {
                freed |= self.release_unchanged(&allocation)? == Release::Done;
            }
        }
        self.lock_store()?;
        Ok(freed)
    }

    /// Returns whether the sandbox of a record of another boot is proven to be gone.
    fn is_dead(&self, held: &Record) -> bool {
        self.store.life.is_none_or(|life| life(held).is_dead())
    }

    /// Returns the record at an allocation's name, in its current state and with its inode, if it
    /// belongs to the same attachment. It may name another pod than the one that the caller saw.
    pub(super) fn current(
        &self,
        held: &Allocation,
    ) -> Result<Option<(Allocation, Inode)>, StoreError> {
        let name = layout::record(&held.scope, held.address);
        let Some(content) = read(&self.store.disk, &name)? else {
            return Ok(None);
        };
        let current = record::read(&content)
            .ok()
            .filter(|current| current.record.attachment == held.record.attachment);
        Ok(current.map(|current| (current, content.inode)))
    }

    /// Returns the same if it is exactly the record that was read or made: the same file with the
    /// same content.
    fn unchanged(&self, held: &Allocation) -> Result<Option<(Allocation, Inode)>, StoreError> {
        Ok(self.current(held)?.filter(|(current, _)| record::is_same(current, held)))
    }

    /// Frees the record that `find` returns for the address.
    fn release_found(
        &mut self,
        held: &Allocation,
        find: Find<'s, D>,
    ) -> Result<Release, StoreError> {
        if self.place == Place::Absent || !self.store.is_own_name(&held.record.attachment.node)? {
            return Ok(Release::NotYours);
        }
        self.lock_store()?;
        match find(self, held)? {
            Some(found) => {
                let removed = self.remove_records(&[found]);
                self.unlock_store();
                removed.map(|()| Release::Done)
            }
            None => {
                self.unlock_store();
                Ok(Release::NotYours)
            }
        }
    }

    /// Updates the hints about an address that is about to be free. This comes before the release,
    /// so that a crash in between leaves hints that are too careful. A failure of a hint fails no
    /// verb: "exhausted" is forgotten after 5 s anyway, and "full" is checked again before an ADD
    /// reports "exhausted".
    pub(super) fn forget_full(&self, allocation: &Allocation) {
        let disk = &self.store.disk;
        if let Err(error) = remove(disk, &layout::exhausted(&allocation.scope)) {
            tracing::debug!(%error, "a hint could not be removed");
        }
        let mut full = FullShards::read(disk, &allocation.scope);
        let shard = Shard::of(allocation.address);
        if full.contains(shard) {
            full.remove(shard);
            full.write(self.store, &allocation.scope);
        }
    }

    /// Removes the index entries of records of one attachment whose names are durably removed.
    /// Looks for the entry by pod a second time at the end: an ADD may be creating it at that
    /// moment, without the lock, for as long as there is an entry to link.
    pub(super) fn unlink_entries(&self, freed: &[(Allocation, Inode)]) -> Result<(), StoreError> {
        let inodes: Vec<Inode> = freed.iter().map(|(_, inode)| *inode).collect();
        // A record under an earlier name of the node has a different attachment.
        for of_one in
            freed.chunk_by(|one, other| one.0.record.attachment == other.0.record.attachment)
        {
            let pods = || {
                of_one
                    .chunk_by(|one, other| one.0.record.pod == other.0.record.pod)
                    .filter_map(<[_]>::first)
            };
            pods().for_each(|(held, _)| self.unlink_pod(held, &inodes));
            if let Some((held, _)) = of_one.first() {
                index::remove(
                    &self.store.disk,
                    &layout::attachment(&held.record.attachment),
                    &inodes,
                )?;
            }
            pods().for_each(|(held, _)| self.unlink_pod(held, &inodes));
        }
        Ok(())
    }

    fn unlink_pod(&self, held: &Allocation, inodes: &[Inode]) {
        let Some(stem) = index::by_pod(&held.record) else {
            return;
        };
        if let Err(error) = index::remove(&self.store.disk, &stem, inodes) {
            tracing::debug!(%error, "the entry by pod could not be removed");
        }
    }

    /// Returns the entry of the attachment that is this file.
    pub(super) fn entry_of(&self, held: &Allocation, inode: Inode) -> Option<PathBuf> {
        self.entry_at(&layout::attachment(&held.record.attachment), inode)
    }

    pub(super) fn entry_at(&self, stem: &layout::Stem, inode: Inode) -> Option<PathBuf> {
        let entries = (0..).map(|number| stem.entry(number));
        let inodes = entries
            .map_while(|entry| self.store.disk.inode(&entry).ok().map(|found| (entry, found)));
        inodes.into_iter().find_map(|(entry, found)| (found == inode).then_some(entry))
    }
}

impl<D: Disk> Session for FileSession<'_, D> {
    fn holdings(&self, attachment: &Attachment) -> Result<Holdings, StoreError> {
        let mut holdings = Holdings::default();
        if self.place == Place::Absent {
            return Ok(holdings);
        }
        for named in self.store.under_each_name(attachment)? {
            let is_earlier = named.node != attachment.node;
            if is_earlier && !holdings.held.is_empty() {
                break;
            }
            let stem = layout::attachment(&named);
            let entries = index::entries(&self.store.disk, &stem)?;
            let (count, before) = (entries.len(), holdings.held.len());
            for entry in entries {
                match entry.state {
                    index::State::Live(allocation) => {
                        let known = holdings.held.iter().any(|other| {
                            other.address == allocation.address && other.scope == allocation.scope
                        });
                        // Two names may also be two nodes on one machine with one directory. So an
                        // ADD answers from a record of the other name only if the record is shown
                        // to be of this sandbox.
                        let counts = !is_earlier
                            || self.access != Access::Allocate
                            || self
                                .store
                                .life
                                .is_some_and(|life| life(&allocation.record).is_seen());
                        if allocation.record.attachment == named && !known && counts {
                            holdings.held.push(*allocation);
                        }
                    }
                    index::State::DanglingEntry(_) => holdings.needs_cleanup = true,
                    index::State::Damaged(error) => holdings.damaged.push(error),
                }
            }
            if holdings.held.len() - before == count {
                self.next.know(&stem, u32::try_from(count).unwrap_or(0));
            }
        }
        holdings.held.sort_by_key(|allocation| allocation.record.part.index);
        // A note may be about a record that the store has lost: a DEL must remove it, so that the
        // record is not recreated.
        holdings.needs_cleanup |= self.store.given().is_some_and(|given| {
            given
                .of(attachment)
                .iter()
                .any(|noted| !holdings.held.iter().any(|held| given_notes::is_at(noted, held)))
        });
        Ok(holdings)
    }

    fn holdings_of_pod(
        &self,
        network: &NetworkName,
        pod: &PodRef,
        ifname: &IfName,
    ) -> Result<Vec<Allocation>, StoreError> {
        if self.place == Place::Absent || !pod.is_whole() {
            return Ok(Vec::new());
        }
        let stem = layout::pod(&self.store.host.node, network, pod, ifname);
        let mut held: Vec<Allocation> = Vec::new();
        for entry in index::entries(&self.store.disk, &stem)? {
            if let index::State::Live(allocation) = entry.state {
                // After a re-homing to itself, the old entry leads to the same record.
                if held.iter().any(|other| {
                    other.address == allocation.address && other.scope == allocation.scope
                }) {
                    continue;
                }
                let attachment = &allocation.record.attachment;
                let ours = attachment.node == self.store.host.node
                    && attachment.network == *network
                    && attachment.ifname == *ifname;
                if ours
                    && allocation.record.pod.as_ref().is_some_and(|other| {
                        other.namespace == pod.namespace && other.name == pod.name
                    })
                {
                    held.push(*allocation);
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
        let claimed = self.claim_lowest(scope, candidates, record);
        self.unlock_store();
        if let Ok(Claim::Claimed(allocation)) = &claimed {
            self.store.note_given(allocation);
        }
        claimed
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }

    fn claim_all(
        &mut self,
        scope: &Scope,
        wanted: &[Wanted<'_>],
        made: &mut Vec<Allocation>,
    ) -> Result<Option<usize>, StoreError> {
        let claimed = self.claim_several(scope, wanted, made);
        self.unlock_store();
        claimed
    }

    fn confirm(&mut self, held: &Allocation) -> Result<(), StoreError> {
        // A killed process may have left a name that is visible but not durable. The file that it
        // is a second link of was durable before.
        let name = layout::record(&held.scope, held.address);
        let directory = name.parent().unwrap_or(Path::new(layout::SCOPES));
        sync_name(&self.store.disk, directory, &name)
            .map_err(|error| failed(&self.store.disk, "sync", &name, error))?;
        self.store.note_given(held);
        Ok(())
    }

    fn rehome(&mut self, held: &Allocation, to: &Record) -> Result<Rehome, StoreError> {
        if !self.store.is_own_name(&held.record.attachment.node)? {
            return Ok(Rehome::Changed);
        }
        self.lock_store()?;
        let Some((old, inode)) = self.unchanged(held)? else {
            self.unlock_store();
            return Ok(Rehome::Changed);
        };
        self.store.ensure(&layout::temporary(&self.store.host.node))?;
        if let Err(error) = self.store.check_replaces() {
            self.unlock_store();
            return Err(error);
        }
        let swapped = self
            .write_record(&held.scope, held.address, to)
            .and_then(|new| self.swap(&old, inode, &new));
        self.unlock_store();
        if let Ok(Rehome::Done(moved)) = &swapped {
            self.store.note_given(moved);
            if moved.record.attachment != held.record.attachment {
                self.store.take_given(held);
            }
        }
        swapped
    }

    fn release(&mut self, held: &Allocation) -> Result<Release, StoreError> {
        self.release_found(held, Self::current)
    }

    fn release_all(&mut self, held: &[Allocation]) -> Result<(), StoreError> {
        self.release_several(held)
    }

    fn release_unchanged(&mut self, held: &Allocation) -> Result<Release, StoreError> {
        self.release_found(held, Self::unchanged)
    }

    fn clean_up(&mut self, attachment: &Attachment) -> Result<(), StoreError> {
        if self.place == Place::Absent || attachment.node != self.store.host.node {
            return Ok(());
        }
        if let Some(Err(error)) = self.store.given().map(|given| given.forget(attachment)) {
            tracing::warn!(%error, "cannot remove the note about a freed address; the next sweep removes it");
        }
        for named in self.store.under_each_name(attachment)? {
            index::clean_up(&self.store.disk, &layout::attachment(&named))?;
        }
        Ok(())
    }
}
