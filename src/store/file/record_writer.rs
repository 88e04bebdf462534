//! Writes a record: its entry in the index, and its name, which commits it.

use super::index;
use super::index::by_pod;
use super::links::{FileAtName, file_at_name};
use super::session::FileSession;
use super::{failed_link, is_gone, layout, record, sync_name};
use crate::ipam::{Allocation, Attachment, Record, Scope};
use crate::store::StoreError;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Inode};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A record that is written and can get its name.
pub(super) struct Written {
    pub(super) allocation: Allocation,
    pub(super) name: PathBuf,
    pub(super) entry: PathBuf,
    pub(super) inode: Inode,
}

/// Returns whether a name of this claim may differ from another holder's name only in capital
/// letters. At least one of two such names contains a capital letter.
pub(super) fn has_capitals(scope: &Scope, record: &Record) -> bool {
    let Attachment { node, network, container, ifname } = &record.attachment;
    let names = [
        scope.name().unwrap_or_default(),
        node.as_str(),
        network.as_str(),
        container.as_str(),
        ifname.as_str(),
    ];
    names
        .iter()
        .any(|name| name.chars().any(|letter| !letter.is_ascii() || letter.is_ascii_uppercase()))
}

/// The result of one try to create a name.
#[derive(PartialEq, Eq)]
pub(super) enum Link {
    Made,
    Taken,
    /// The name's directory, which was empty, has been removed since it was seen.
    Gone,
}

/// Returns whether a step failed because a directory that existed before is gone:
/// [`super::empty_directories`] removes empty ones.
pub(super) fn has_gone<T>(done: &Result<T, StoreError>) -> bool {
    matches!(done, Err(StoreError::Io { source, .. }) if is_gone(source))
}

impl<D: Disk> FileSession<'_, D> {
    /// Writes the record durably as an entry of the index. It has no name yet and holds nothing.
    pub(super) fn write_record(
        &self,
        scope: &Scope,
        address: IpAddr,
        record: &Record,
    ) -> Result<Written, StoreError> {
        let written = self.write_records(scope, &[(address, record)])?;
        written.into_iter().next().ok_or(StoreError::Changed)
    }

    /// Does the same for several addresses of one attachment, which have one directory in the
    /// index.
    pub(super) fn write_records(
        &self,
        scope: &Scope,
        chosen: &[(IpAddr, &Record)],
    ) -> Result<Vec<Written>, StoreError> {
        let disk = &self.store.disk;
        let mut written: Vec<Written> = Vec::with_capacity(chosen.len());
        for (address, record) in chosen {
            match self.write_entry(scope, *address, record, written.last()) {
                Ok(Some(one)) => written.push(one),
                // The remaining addresses are claimed one by one.
                Ok(None) => break,
                Err(error) => {
                    self.drop_entries(&written);
                    return Err(error);
                }
            }
        }
        if 1 < written.len() {
            written.iter().for_each(|one| disk.begin_sync(&one.entry));
        }
        let directory =
            chosen.first().map(|(_, record)| layout::attachment(&record.attachment).directory);
        // On a journaling filesystem the first of these syncs commits everything.
        let paths = written.iter().map(|one| &one.entry).chain(&directory);
        for path in paths {
            if let Err(error) = disk.sync(path) {
                let error = failed(disk, "sync", path, error);
                // Files whose sync failed are never trusted later.
                self.drop_entries(&written);
                return Err(error);
            }
        }
        Ok(written)
    }

    /// Writes one entry without a sync, directly above the entry `below` if there is one. Returns
    /// `None` if that number is taken.
    pub(super) fn write_entry(
        &self,
        scope: &Scope,
        address: IpAddr,
        record: &Record,
        below: Option<&Written>,
    ) -> Result<Option<Written>, StoreError> {
        let disk = &self.store.disk;
        let mut allocation =
            Allocation { scope: scope.clone(), address, record: record.clone(), version: None };
        let name = layout::record(scope, address);
        let stem = layout::attachment(&record.attachment);
        self.store.ensure(name.parent().unwrap_or(Path::new(layout::SCOPES)))?;
        self.store.ensure(&stem.directory)?;
        let bytes = record::encode(&allocation)
            .map_err(|error| failed(disk, "encode", &name, error.into()))?;
        self.store.note_gateway(&allocation);
        let created = match below {
            None => Some(self.next.create(disk, &stem, &bytes)?),
            Some(below) => self.next.create_above(disk, &below.entry, &bytes)?,
        };
        Ok(created.map(|(entry, inode)| {
            allocation.version = Some(record::version(inode));
            Written { allocation, name, entry, inode }
        }))
    }

    /// Creates the name, which is the commit. Returns whether the name is now ours or was taken.
    pub(super) fn link_name(&self, written: &Written) -> Result<Link, StoreError> {
        let disk = &self.store.disk;
        match disk.link(&written.entry, &written.name) {
            Ok(()) => Ok(Link::Made),
            Err(error) if disk.inode(&written.name).ok() == Some(written.inode) => {
                tracing::debug!(%error, "the link was made and its answer lost");
                Ok(Link::Made)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Link::Taken),
            Err(error)
                if is_gone(&error) && disk.inode(&written.entry).ok() == Some(written.inode) =>
            {
                Ok(Link::Gone)
            }
            Err(error) => match file_at_name(disk, &written.entry, &written.name) {
                FileAtName::Ours => Ok(Link::Made),
                FileAtName::Anothers => Ok(Link::Taken),
                // It is unknown whether the name was created: the entry stays, so that DEL finds
                // the record.
                FileAtName::Nothing => Err(failed_link(disk, "link", &written.name, error)),
            },
        }
    }

    /// Returns the new record with the version that its name shows, so that an undo removes exactly
    /// this record. Some shared filesystems show a different inode for each name.
    pub(super) fn at_name(&self, written: &Written) -> Allocation {
        let mut allocation = written.allocation.clone();
        if !self.is_local()
            && let Ok(inode) = self.store.disk.inode(&written.name)
        {
            allocation.version = Some(record::version(inode));
        }
        allocation
    }

    /// Makes the name durable, or removes it.
    pub(super) fn make_durable(&mut self, written: &Written) -> Result<(), StoreError> {
        let directory = written.name.parent().unwrap_or(Path::new(layout::SCOPES));
        if let Err(error) = sync_name(&self.store.disk, directory, &written.entry) {
            let error = failed(&self.store.disk, "sync", directory, error);
            self.lock_store()?;
            self.undo_name(written, directory);
            return Err(error);
        }
        self.link_pod(written);
        Ok(())
    }

    /// Removes a name that could not be made durable, if it is still ours. The entry is removed
    /// only when that removal is durable.
    pub(super) fn undo_name(&self, written: &Written, directory: &Path) {
        let disk = &self.store.disk;
        if disk.inode(&written.name).ok() != Some(written.inode) {
            return;
        }
        let undone = disk
            .unlink(&written.name)
            .and_then(|()| sync_name(disk, directory, &written.entry))
            .and_then(|()| disk.unlink(&written.entry));
        tracing::debug!(?undone, name = %written.name.display(), "a name that could not be synced was taken back");
    }

    /// Creates the entry by pod. Its loss costs a re-homing and nothing else.
    pub(super) fn link_pod(&self, written: &Written) {
        let Some(stem) = by_pod(&written.allocation.record) else {
            return;
        };
        let link = || {
            self.store
                .ensure(&stem.directory)
                .and_then(|()| self.next.link(&self.store.disk, &stem, &written.entry))
        };
        let linked = link();
        if let Err(error) = if has_gone(&linked) { link() } else { linked } {
            tracing::debug!(%error, "the entry by pod could not be made");
        }
    }

    pub(super) fn attachment_addresses(&self, record: &Record) -> Result<Vec<IpAddr>, StoreError> {
        let found = index::entries(&self.store.disk, &layout::attachment(&record.attachment))?;
        Ok(found
            .into_iter()
            .filter_map(|entry| match entry.state {
                index::State::Live(allocation) => Some(allocation.address),
                index::State::DanglingEntry(_) | index::State::Damaged(_) => None,
            })
            .collect())
    }
}
