//! Re-homing: a name gets another record, in one rename.

use super::index::by_pod;
use super::session::FileSession;
use super::writer::Written;
use super::{layout, remove, sync_name};
use crate::ipam::Allocation;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Inode};
use crate::store::{Rehome, StoreError};
use std::path::Path;

impl<D: Disk> FileSession<'_, D> {
    /// Gives the name of an old record to a new one, by a rename: at no instant
    /// is the name without a record. Nothing of another's can be replaced: only
    /// this node removes its records, and a link to a name that stands fails.
    pub(super) fn swap(&mut self, held: &Allocation, old: Inode, new: &Written) -> Result<Rehome, StoreError> {
        let old_entry = self.entry_of(held, old);
        if let Err(error) = self.store.replace(&new.entry, &new.name) {
            match self.store.disk.inode(&new.name) {
                Ok(now) if now == new.inode => tracing::debug!(%error, "the name was given and the answer lost"),
                // Whether the name was given is not known: the entry stays, so
                // that DEL finds it.
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
        // The address has moved: an error here would say that it has not.
        let tidied = match old_entry.filter(|_| held.held.attachment == new.allocation.held.attachment) {
            Some(entry) => self.move_down(new, &entry),
            None => Ok(()),
        };
        if let Err(error) = tidied.and_then(|()| self.unlink_entries(&[(held.clone(), old)])) {
            tracing::warn!(%error, "an entry of the old holder stays until its DEL or the next sweep");
        }
        Ok(Rehome::Done(self.at_name(new)))
    }

    /// Puts the entry by pod of the new record in the place of that of the old one:
    /// below it, the old one would stay until the DEL.
    fn move_pod(&self, held: &Allocation, old: Inode, new: &Written) {
        let stem = by_pod(&held.held);
        let entry = stem.as_ref().filter(|_| stem == by_pod(&new.allocation.held)).and_then(|stem| self.entry_at(stem, old));
        match entry.map(|entry| self.store.replace(&new.entry, &entry)) {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "the entry by pod could not be moved"),
            None => self.link_pod(new),
        }
    }

    /// Puts the new entry of an attachment that was re-homed to itself in the
    /// place of its old one, which is always below it. Left there, the old one
    /// would be a left-over; and a client of CephFS (16, ceph-fuse) that has put a
    /// file in the place of a hard link takes the other links of that file for
    /// gone, so that a look from the lowest number upwards would end there. Not
    /// flushed: where a power loss brings it back, the old entry leads to the
    /// record all the same, by its content.
    fn move_down(&self, new: &Written, old_entry: &Path) -> Result<(), StoreError> {
        self.store.replace(&new.entry, old_entry).map_err(|error| failed(&self.store.disk, "rename to", old_entry, error))?;
        remove(&self.store.disk, &new.entry)
    }

    /// After a sync that failed: the old record's index entry is still there,
    /// and it gets its name again. The new entry goes only when that is durable.
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
