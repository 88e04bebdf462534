//! The index: hard links to the records of each attachment, numbered from 0. As a hint, it also has
//! hard links to the records of each pod.
//!
//! A call writes a record as an index entry by attachment, and then links the record's name to that
//! file. The name is removed before the entry. So a record can be found by its holder at every
//! instant.
//!
//! A dangling entry is an entry whose record is missing or belongs to another attachment, or an
//! entry that was never completely written.
//!
//! New entries get a number above all live entries, and entries are removed from the highest number
//! down. So there is never a gap below a live entry, and a lookup may stop at the first missing
//! number. An entry freed below a higher one stays as a dangling entry until the higher one is
//! removed.

use super::layout::{self, Stem};
use super::record::{self, Unreadable};
use super::{is_gone, is_taken};
use crate::ipam::{Allocation, Record};
use crate::store::StoreError;
use crate::store::disk::error::failed;
use crate::store::disk::{Content, Disk, Inode};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// One entry of the index, as read.
pub(super) struct Entry {
    pub(super) number: u32,
    pub(super) inode: Inode,
    pub(super) state: State,
}

/// The result of comparing an entry with the record at its name.
pub(super) enum State {
    /// The record exists, as given here.
    Live(Box<Allocation>),
    /// The record is missing or belongs to another holder; `None` if it was never completely
    /// written.
    DanglingEntry(Option<Box<Allocation>>),
    /// The entry or its record cannot be read.
    Damaged(StoreError),
}

/// Returns all entries of a stem, in ascending order.
pub(super) fn entries(disk: &dyn Disk, stem: &Stem) -> Result<Vec<Entry>, StoreError> {
    let mut found = Vec::new();
    for number in 0.. {
        let path = stem.entry(number);
        let Some(content) = super::read(disk, &path)? else {
            break;
        };
        let state = classify(disk, &path, &content)?;
        found.push(Entry { number, inode: content.inode, state });
    }
    Ok(found)
}

/// Returns whether a lookup stops before it reaches this number.
pub(super) fn is_beyond_gap(disk: &dyn Disk, stem: &Stem, number: u32) -> bool {
    (0..number).any(|below| disk.inode(&stem.entry(below)).is_err())
}

/// Compares an entry with the record at its name. Normally they are one inode. If they are not, as
/// in a copied tree, the content at the name decides.
pub(super) fn classify(
    disk: &dyn Disk,
    path: &Path,
    content: &Content,
) -> Result<State, StoreError> {
    let entry = match record::read(content) {
        Ok(entry) => entry,
        // A file with a single link never got its name: its writer was interrupted.
        Err(Unreadable::Damaged(_)) if content.links == 1 => return Ok(State::DanglingEntry(None)),
        Err(unreadable) => return Ok(State::Damaged(unreadable.at(disk.root().join(path)))),
    };
    let orphan = |entry| Ok(State::DanglingEntry(Some(Box::new(entry))));
    let name = layout::record(&entry.scope, entry.address);
    match disk.inode(&name) {
        Ok(at_name) if at_name == content.inode => return Ok(State::Live(Box::new(entry))),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return orphan(entry),
        Err(error) => return Err(failed(disk, "look at", &name, error)),
    }
    let content = match disk.read(&name) {
        Ok(content) => content,
        // The record is another holder's: no other call removes ours while we hold this node's
        // lock.
        Err(error) if is_gone(&error) => return orphan(entry),
        Err(error) => return Err(failed(disk, "read", &name, error)),
    };
    match record::read(&content) {
        Ok(record) if is_same_holder(&record, &entry) => Ok(State::Live(Box::new(record))),
        Ok(_) => orphan(entry),
        Err(unreadable) => Ok(State::Damaged(unreadable.at(disk.root().join(&name)))),
    }
}

/// Returns whether both have the same attachment and pod. An entry by pod does not belong to a
/// record that names another pod.
fn is_same_holder(one: &Allocation, other: &Allocation) -> bool {
    one.record.attachment == other.record.attachment && one.record.pod == other.record.pod
}

/// The number above all entries of a stem, as far as a session knows it. Without it, each new
/// address of an ADD would read all entries that the ADD already has.
#[derive(Default)]
pub(super) struct Next(RefCell<HashMap<Stem, u32>>);

impl Next {
    /// Remembers that all entries of the stem are live, and their number.
    pub(super) fn know(&self, stem: &Stem, number: u32) {
        self.0.borrow_mut().insert(stem.clone(), number);
    }

    /// Returns the number for a new entry that leaves no gap below it.
    fn find(&self, disk: &dyn Disk, stem: &Stem) -> u32 {
        let known = self.0.borrow().get(stem).copied().unwrap_or(0);
        let below = known.checked_sub(1).map(|below| stem.entry(below));
        below.filter(|below| disk.inode(below).is_ok()).map_or(0, |_| known)
    }

    /// Writes a record as the first free entry. Does not sync it.
    pub(super) fn create(
        &self,
        disk: &dyn Disk,
        stem: &Stem,
        bytes: &[u8],
    ) -> Result<(PathBuf, Inode), StoreError> {
        self.first_free(disk, stem, "write", |path| disk.create(path, bytes))
    }

    /// Does the same directly above an entry whose record has no name yet, which a cleanup would
    /// take for a dangling one. Returns `None` if the number is taken.
    pub(super) fn create_above(
        &self,
        disk: &dyn Disk,
        below: &Path,
        bytes: &[u8],
    ) -> Result<Option<(PathBuf, Inode)>, StoreError> {
        let Some((stem, number)) = layout::parse_entry(below) else {
            return Ok(None);
        };
        let path = stem.entry(number + 1);
        match disk.create(&path, bytes) {
            Ok(inode) => {
                self.know(&stem, number + 2);
                Ok(Some((path, inode)))
            }
            Err(error) if is_taken(disk, &error, &path) => Ok(None),
            Err(error) => Err(failed(disk, "write", &path, error)),
        }
    }

    /// Links a record as the first free entry.
    pub(super) fn link(&self, disk: &dyn Disk, stem: &Stem, from: &Path) -> Result<(), StoreError> {
        self.first_free(disk, stem, "link", |path| disk.link(from, path)).map(|_| ())
    }

    fn first_free<T>(
        &self,
        disk: &dyn Disk,
        stem: &Stem,
        action: &'static str,
        make: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<(PathBuf, T), StoreError> {
        let (number, made) = first_free(disk, stem, self.find(disk, stem), action, make)?;
        self.know(stem, number + 1);
        Ok((stem.entry(number), made))
    }
}

/// Links a record as the first free entry.
pub(super) fn link(disk: &dyn Disk, stem: &Stem, from: &Path) -> Result<(), StoreError> {
    first_free(disk, stem, 0, "link", |path| disk.link(from, path)).map(|_| ())
}

/// Tries ascending numbers until `make` finds a free one. On the way it removes dangling entries
/// that have no live entry above them. It does not reuse the number of any other dangling entry: a
/// crash between the removal of that entry and the creation of the new one would leave a gap.
fn first_free<T>(
    disk: &dyn Disk,
    stem: &Stem,
    first: u32,
    action: &'static str,
    make: impl Fn(&Path) -> io::Result<T>,
) -> Result<(u32, T), StoreError> {
    let (mut number, mut cleaned) = (first, false);
    loop {
        let path = stem.entry(number);
        match make(&path) {
            Ok(made) => return Ok((number, made)),
            Err(error) if is_taken(disk, &error, &path) => {}
            Err(error) => return Err(failed(disk, action, &path, error)),
        }
        // Another ADD of the pod may link its entry at the same time.
        number = if cleaned { number + 1 } else { clean_up(disk, stem)? };
        cleaned = true;
    }
}

/// Syncs the directory of the record's name, and then removes the dangling entry. Without the sync,
/// the record could reappear after a power loss, and no lookup would find it.
fn drop_dangling(
    disk: &dyn Disk,
    path: &Path,
    allocation: Option<&Allocation>,
) -> Result<(), StoreError> {
    let Some(allocation) = allocation else {
        return super::remove(disk, path);
    };
    let directory = layout::record(&allocation.scope, allocation.address);
    let directory = directory.parent().unwrap_or(Path::new(layout::SCOPES));
    super::durable::sync_removed_name(disk, directory, path)
        .map_err(|error| failed(disk, "sync", directory, error))?;
    super::remove(disk, path)
}

/// Removes the entries of records whose names are durably removed, and the dangling entries below
/// them.
pub(super) fn remove(disk: &dyn Disk, stem: &Stem, freed: &[Inode]) -> Result<(), StoreError> {
    remove_down(disk, stem, freed).map(|_| ())
}

/// Removes the dangling entries above all live ones. Returns the first free number.
pub(super) fn clean_up(disk: &dyn Disk, stem: &Stem) -> Result<u32, StoreError> {
    remove_down(disk, stem, &[])
}

fn remove_down(disk: &dyn Disk, stem: &Stem, freed: &[Inode]) -> Result<u32, StoreError> {
    for entry in entries(disk, stem)?.into_iter().rev() {
        let path = stem.entry(entry.number);
        if freed.contains(&entry.inode) {
            super::remove(disk, &path)?;
            continue;
        }
        match entry.state {
            State::DanglingEntry(allocation) => drop_dangling(disk, &path, allocation.as_deref())?,
            State::Live(_) | State::Damaged(_) => return Ok(entry.number + 1),
        }
    }
    Ok(0)
}

/// Removes one entry, even if there are entries above it. The highest entry moves to its number, so
/// that there is never a gap.
pub(super) fn remove_entry(
    disk: &dyn Disk,
    entry: &Path,
    replace: impl Fn(&Path, &Path) -> io::Result<()>,
) -> Result<(), StoreError> {
    let Some((stem, number)) = layout::parse_entry(entry) else {
        return super::remove(disk, entry);
    };
    let above = (number + 1..)
        .map(|number| stem.entry(number))
        .take_while(|path| disk.inode(path).is_ok())
        .last();
    let Some(highest) = above else {
        return super::remove(disk, entry);
    };
    replace(&highest, entry).map_err(|error| failed(disk, "rename to", entry, error))?;
    super::remove(disk, &highest)
}

/// Returns the stem that leads from a pod to its record; `None` unless the pod's name is complete.
pub(super) fn by_pod(held: &Record) -> Option<Stem> {
    let pod = held.pod.as_ref().filter(|pod| pod.is_whole())?;
    Some(layout::pod(&held.attachment.node, &held.attachment.network, pod, &held.attachment.ifname))
}
