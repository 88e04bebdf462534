//! Re-homes an address in the file store: gives its name another record, with one rename.

use super::index::by_pod;
use super::record_writer::Written;
use super::session::FileSession;
use super::{layout, remove, sync_name};
use crate::ipam::Allocation;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Inode};
use crate::store::{Rehome, StoreError};
use std::path::Path;

impl<D: Disk> FileSession<'_, D> {
    /// Gives the name of an old record to a new one, with a rename, so that the name always has a
    /// record. This cannot replace another holder's record: only this node removes its records, and
    /// a link to an existing name fails.
    pub(super) fn swap(
        &mut self,
        held: &Allocation,
        old: Inode,
        new: &Written,
    ) -> Result<Rehome, StoreError> {
        let old_entry = self.entry_of(held, old);
        if let Err(error) = self.store.replace(&new.entry, &new.name) {
            match self.store.disk.inode(&new.name) {
                Ok(now) if now == new.inode => {
                    tracing::debug!(%error, "the name was given and the answer lost")
                }
                // It is unknown whether the name was given: the entry stays, so that DEL finds the
                // record.
                Err(_) => return Err(failed(&self.store.disk, "rename to", &new.name, error)),
                Ok(_) => {
                    remove(&self.store.disk, &new.entry)?;
                    return Err(failed(&self.store.disk, "rename to", &new.name, error));
                }
            }
        }
        let directory = new.name.parent().unwrap_or(Path::new(layout::SCOPES));
        if let Err(error) = sync_name(&self.store.disk, directory, &new.entry) {
            self.put_back(old_entry.as_deref(), new, directory);
            return Err(failed(&self.store.disk, "sync", directory, error));
        }
        self.unlock_shared();
        self.move_pod(held, old, new);
        // The address has moved. An error here would claim that it has not.
        let tidied = match old_entry
            .filter(|_| held.record.attachment == new.allocation.record.attachment)
        {
            Some(entry) => self.move_down(new, &entry),
            None => Ok(()),
        };
        if let Err(error) = tidied.and_then(|()| self.unlink_entries(&[(held.clone(), old)])) {
            tracing::warn!(%error, "an entry of the old holder stays until its DEL or the next sweep");
        }
        Ok(Rehome::Done(self.at_name(new)))
    }

    /// Replaces the old record's entry by pod with that of the new one. Otherwise the old entry
    /// would stay below it until the DEL.
    fn move_pod(&self, held: &Allocation, old: Inode, new: &Written) {
        let stem = by_pod(&held.record);
        let entry = stem
            .as_ref()
            .filter(|_| stem == by_pod(&new.allocation.record))
            .and_then(|stem| self.entry_at(stem, old));
        match entry.map(|entry| self.store.replace(&new.entry, &entry)) {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "the entry by pod could not be moved"),
            None => self.link_pod(new),
        }
    }

    /// Moves the new entry of an attachment that was re-homed to itself to the place of its old
    /// one, which is always below it. If the old entry stayed, it would be a dangling entry. Also,
    /// a client of CephFS (16, ceph-fuse) that has replaced a hard link by another file reports the
    /// other links of the old file as gone, so that a lookup from the lowest number upwards would
    /// end there. The move is not flushed: if a power loss brings the old entry back, it still
    /// leads to the record, by its content.
    fn move_down(&self, new: &Written, old_entry: &Path) -> Result<(), StoreError> {
        self.store
            .replace(&new.entry, old_entry)
            .map_err(|error| failed(&self.store.disk, "rename to", old_entry, error))?;
        remove(&self.store.disk, &new.entry)
    }

    /// Gives the old record its name back after a failed sync. The old record's index entry still
    /// exists. Removes the new entry only when that is durable.
    fn put_back(&self, old_entry: Option<&Path>, new: &Written, directory: &Path) {
        let disk = &self.store.disk;
        let Some(old_entry) = old_entry else {
            return;
        };
        let undone = self
            .store
            .replace(old_entry, &new.name)
            .and_then(|()| sync_name(disk, directory, old_entry))
            .and_then(|()| disk.unlink(&new.entry));
        tracing::debug!(?undone, "the old record was put back");
    }
}
