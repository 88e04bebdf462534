//! The index: for each attachment (and, as a hint, for each pod) further hard
//! links to its records, numbered from 0.
//!
//! An entry is made before the record has its name and removed after the
//! record has lost it, so that at every instant a record can be found by its
//! holder. A left-over is an entry whose record is not there or is another's.
//! Entries are made upwards and removed from the highest down: a look-up may
//! stop at the first number that is missing. One freed below a higher one
//! stays as a left-over until that one goes.

use super::disk::{Disk, Inode};
use super::layout::{self, Stem};
use super::{failed, record};
use crate::ipam::Allocation;
use crate::store::StoreError;
use std::io;

/// One entry of the index, read.
pub(super) struct Entry {
    pub(super) number: u32,
    pub(super) inode: Inode,
    pub(super) state: State,
}

/// What an entry says, compared with the record at the name.
pub(super) enum State {
    /// The record stands, as given here.
    Stands(Box<Allocation>),
    /// The record is gone or another's.
    LeftOver(Box<Allocation>),
    /// It cannot be read.
    Damaged(StoreError),
}

/// All entries of a stem, upwards.
pub(super) fn entries(disk: &dyn Disk, stem: &Stem) -> Result<Vec<Entry>, StoreError> {
    let mut found = Vec::new();
    for number in 0.. {
        let path = stem.entry(number);
        let content = match disk.read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(failed(disk, "read", &path, error)),
        };
        let state = match record::decode(&content.bytes) {
            Ok(allocation) => compare(disk, content.inode, allocation)?,
            Err(reason) => State::Damaged(StoreError::Damaged { path: disk.root().join(&path), reason }),
        };
        found.push(Entry { number, inode: content.inode, state });
    }
    Ok(found)
}

/// Index and record are one inode; when they are not, as in a copied tree, the
/// content of the record at the name decides.
pub(super) fn compare(disk: &dyn Disk, inode: Inode, entry: Allocation) -> Result<State, StoreError> {
    let name = layout::record(&entry.scope, entry.address);
    match disk.inode(&name) {
        Ok(at_name) if at_name == inode => return Ok(State::Stands(Box::new(entry))),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::LeftOver(Box::new(entry))),
        Err(error) => return Err(failed(disk, "look at", &name, error)),
    }
    let content = match disk.read(&name) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::LeftOver(Box::new(entry))),
        Err(error) => return Err(failed(disk, "read", &name, error)),
    };
    Ok(match record::decode(&content.bytes) {
        Ok(standing) if standing.held.attachment == entry.held.attachment => State::Stands(Box::new(standing)),
        Ok(_) => State::LeftOver(Box::new(entry)),
        Err(reason) => State::Damaged(StoreError::Damaged { path: disk.root().join(&name), reason }),
    })
}

/// Links `from` under the first number that is free, or whose entry is a
/// left-over, which is mended on the way. Gives the number.
pub(super) fn add(disk: &dyn Disk, stem: &Stem, from: &std::path::Path) -> Result<u32, StoreError> {
    let mut number = 0;
    loop {
        let path = stem.entry(number);
        match disk.link(from, &path) {
            Ok(()) => return Ok(number),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(disk, "link", &path, error)),
        }
        if is_ours(disk, from, &path) {
            // The link was made and its answer lost.
            return Ok(number);
        }
        let standing = entries(disk, stem)?.into_iter().find(|entry| entry.number == number);
        match standing.map(|entry| entry.state) {
            // Mended: the same number once more.
            Some(State::LeftOver(allocation)) => drop_left_over(disk, &path, &allocation)?,
            Some(State::Stands(_) | State::Damaged(_)) | None => number += 1,
        }
    }
}

fn is_ours(disk: &dyn Disk, from: &std::path::Path, path: &std::path::Path) -> bool {
    disk.inode(from).ok().is_some_and(|inode| disk.inode(path).ok() == Some(inode))
}

/// No entry goes before the directory of its name was synced without the
/// record: after a power loss the record could stand again, found by nobody.
fn drop_left_over(disk: &dyn Disk, path: &std::path::Path, allocation: &Allocation) -> Result<(), StoreError> {
    let directory = layout::record(&allocation.scope, allocation.address);
    let directory = directory.parent().unwrap_or(std::path::Path::new(layout::SCOPES));
    match disk.sync(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(disk, "sync", directory, error)),
    }
    super::remove(disk, path)
}

/// Removes the entries of a record that has lost its name, that loss being
/// synced, and the left-overs below it.
pub(super) fn remove(disk: &dyn Disk, stem: &Stem, freed: Inode) -> Result<(), StoreError> {
    for entry in entries(disk, stem)?.into_iter().rev() {
        let path = stem.entry(entry.number);
        if entry.inode == freed {
            super::remove(disk, &path)?;
            continue;
        }
        match entry.state {
            State::LeftOver(allocation) => drop_left_over(disk, &path, &allocation)?,
            State::Stands(_) | State::Damaged(_) => break,
        }
    }
    Ok(())
}
