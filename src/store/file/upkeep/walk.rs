//! Walks through the whole store without a lock and notes suspected problems.
//!
//! The walk has two passes. The first reads all records and keeps a few bytes of each. The second
//! reads the index, and recognizes entries by their inode numbers, so that it opens only entries
//! that do not match. [`super::verify`] checks the suspects again.

use super::finding::{FileFinding, Problem, belongs_at};
use crate::addr::{Mask, Shard, add_bit};
use crate::ipam::Allocation;
use crate::store::disk::Disk;
use crate::store::disk::error::reason;
use crate::store::file::record::{self, Unreadable};
use crate::store::file::{hint, index, layout};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::hash::Hasher;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
/// The data that is kept of a record.
struct Row {
    inode: u64,
    /// A hash of the place where its holder looks for it.
    stem: u64,
    /// The index of its shard in the list of shards.
    shard: u32,
    part: u16,
    low: u8,
    indexed: bool,
}

/// One shard that was read.
struct ShardRow {
    scope: u32,
    shard: Shard,
    held: Mask,
}

/// The state of a walk.
pub(crate) struct Walk<'d> {
    disk: &'d dyn Disk,
    scopes: Vec<PathBuf>,
    shards: Vec<ShardRow>,
    rows: Vec<Row>,
    /// Damaged records by inode, each with the index of its suspect.
    damaged: HashMap<u64, usize>,
    /// The number of entries in the index.
    pub(crate) entries: usize,
    /// The suspected problems.
    pub(crate) suspects: Vec<FileFinding>,
}

impl<'d> Walk<'d> {
    pub(crate) fn new(disk: &'d dyn Disk) -> Self {
        Self {
            disk,
            scopes: Vec::new(),
            shards: Vec::new(),
            rows: Vec::new(),
            damaged: HashMap::new(),
            entries: 0,
            suspects: Vec::new(),
        }
    }

    pub(crate) fn suspect(&mut self, problem: Problem, path: &Path, reason: &str) {
        self.suspects
            .push(FileFinding::new(problem, path.to_owned()).with_reason(reason.to_owned()));
    }

    /// Returns the names in a directory, in order. A path that cannot be listed becomes a foreign
    /// file.
    fn names(&mut self, directory: &Path) -> Vec<std::ffi::OsString> {
        match self.disk.names(directory) {
            Ok(mut names) => {
                names.retain(|name| !name.to_str().is_some_and(layout::is_of_filesystem));
                names.sort();
                names
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.suspect(Problem::Foreign, directory, &reason(&error));
                Vec::new()
            }
        }
    }

    /// Checks the names in the data directory.
    pub(crate) fn root(&mut self) {
        for name in self.names(Path::new("")) {
            if !name.to_str().is_some_and(crate::store::file::prepare::is_known_name) {
                self.suspect(Problem::Foreign, Path::new(&name), "");
            }
        }
    }

    /// Makes the first pass. `each` gets every readable record.
    pub(crate) fn records(&mut self, each: &mut dyn FnMut(Allocation)) {
        for scope in self.names(Path::new(layout::SCOPES)) {
            let scope = Path::new(layout::SCOPES).join(scope);
            for name in self.names(&scope) {
                match name.to_str().and_then(layout::parse_shard) {
                    Some(shard) => self.shard(&scope, shard, each),
                    None if name.to_str().is_some_and(|name| {
                        layout::is_bookkeeping(name) || layout::parse_sticky(name).is_some()
                    }) => {}
                    None => self.suspect(Problem::Foreign, &scope.join(name), ""),
                }
            }
            self.hint(&scope);
            self.scopes.push(scope);
        }
        self.rows.sort_unstable_by_key(|row| row.inode);
    }

    fn shard(&mut self, scope: &Path, shard: Shard, each: &mut dyn FnMut(Allocation)) {
        let directory = layout::shard_in(scope, shard);
        let mut held = [0; 4];
        for name in self.names(&directory) {
            let path = directory.join(&name);
            let address = name.to_str().and_then(|name| name.parse().ok());
            let Some((address, low)) =
                address.and_then(|address| Some((address, shard.position(address)?)))
            else {
                self.suspect(Problem::Foreign, &path, "");
                continue;
            };
            add_bit(&mut held, low);
            let content = match self.disk.read(&path) {
                Ok(content) => content,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.suspect(Problem::Damaged, &path, &reason(&error));
                    continue;
                }
            };
            match record::decode(&content.bytes) {
                Ok(found)
                    if found.address == address
                        && belongs_at(self.disk, &found, &path, content.inode) =>
                {
                    let stem = layout::attachment(&found.record.attachment);
                    self.rows.push(Row {
                        inode: content.inode.number,
                        stem: hash(&stem.directory, &stem.name),
                        shard: u32::try_from(self.shards.len()).unwrap_or(u32::MAX),
                        part: found.record.part.index,
                        low,
                        indexed: false,
                    });
                    each(found);
                    continue;
                }
                Ok(other) => {
                    self.suspect(Problem::Damaged, &path, &record::of_another_name(&other))
                }
                Err(unreadable @ Unreadable::Newer(_)) => {
                    self.suspect(Problem::Newer, &path, &unreadable.to_string())
                }
                Err(Unreadable::Damaged(reason)) => self.suspect(Problem::Damaged, &path, &reason),
            }
            self.damaged.insert(content.inode.number, self.suspects.len() - 1);
        }
        self.shards.push(ShardRow {
            scope: u32::try_from(self.scopes.len()).unwrap_or(u32::MAX),
            shard,
            held,
        });
    }

    fn hint(&mut self, scope: &Path) {
        let path = scope.join(layout::FULL);
        let Ok(content) = self.disk.read(&path) else {
            return;
        };
        let current = self.scopes.len();
        let read: HashMap<Shard, Mask> = self
            .shards
            .iter()
            .rev()
            .take_while(|row| row.scope as usize == current)
            .map(|row| (row.shard, row.held))
            .collect();
        let held = |shard: Shard| read.get(&shard).copied().unwrap_or_default();
        if !hint::FullShards::decode(&content.bytes).is_some_and(|hint| hint.is_true_of(held)) {
            self.suspect(Problem::WrongHint, &path, "");
        }
    }

    /// Reads the index of all nodes, or of one.
    pub(crate) fn index(&mut self, only: Option<&str>) {
        for node in self.names(Path::new(layout::NODES)) {
            if only.is_some_and(|only| node != only) {
                continue;
            }
            let node = Path::new(layout::NODES).join(node);
            for name in self.names(&node) {
                let path = node.join(&name);
                match name.to_str() {
                    Some(layout::MACHINE_ID) => {}
                    Some(layout::TMP) => {
                        for name in self.names(&path) {
                            self.suspect(Problem::Temporary, &path.join(name), "");
                        }
                    }
                    Some(layout::PODS) => {
                        for network in self.names(&path) {
                            self.network(&path.join(network), Problem::DanglingPodEntry);
                        }
                    }
                    _ => self.network(&path, Problem::DanglingEntry),
                }
            }
        }
    }

    /// Reads the entries of one network; one directory may have a million.
    fn network(&mut self, directory: &Path, problem: Problem) {
        let disk = self.disk;
        match disk.visit(directory, &mut |name, inode| self.entry(directory, name, inode, problem))
        {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.suspect(Problem::Foreign, directory, &reason(&error));
            }
            _ => {}
        }
    }

    fn entry(&mut self, directory: &Path, name: &OsStr, inode: u64, problem: Problem) {
        let path = directory.join(name);
        let Some((stem, number)) = layout::parse_entry(&path) else {
            return self.suspect(Problem::Foreign, &path, "");
        };
        self.entries += 1;
        // Lookups stop at a gap.
        let within_reach = || !index::is_beyond_gap(self.disk, &stem, number);
        if let Ok(at) = self.rows.binary_search_by_key(&inode, |row| row.inode) {
            if problem == Problem::DanglingEntry
                && self.rows[at].stem == hash(&stem.directory, &stem.name)
            {
                self.rows[at].indexed |= within_reach();
            }
            return;
        }
        if let Some(at) = self.damaged.get(&inode) {
            if problem == Problem::DanglingEntry {
                self.suspects[*at].other = Some(path);
            }
            return;
        }
        let content = match self.disk.read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                return self.suspect(Problem::Foreign, &path, &reason(&error));
            }
        };
        match index::classify(self.disk, &path, &content) {
            Err(error) => self.suspect(Problem::Foreign, &path, &error.to_string()),
            Ok(index::State::DanglingEntry(_) | index::State::Damaged(_)) => {
                self.suspect(problem, &path, "")
            }
            Ok(index::State::Live(allocation)) => {
                let name = layout::record(&allocation.scope, allocation.address);
                let Ok(at_name) = self.disk.inode(&name) else {
                    return;
                };
                // If they are equal, the record was created after the first pass.
                if at_name != content.inode {
                    let reach = problem == Problem::DanglingEntry && within_reach();
                    if let Ok(at) = self.rows.binary_search_by_key(&at_name.number, |row| row.inode)
                    {
                        self.rows[at].indexed |= reach;
                    }
                    self.suspect(Problem::Split, &path, "");
                }
            }
        }
    }

    fn path_of(&self, row: &Row) -> PathBuf {
        let shard = &self.shards[row.shard as usize];
        layout::record_in(&self.scopes[shard.scope as usize], shard.shard.member(row.low))
    }

    /// Returns the number of readable records.
    pub(crate) fn count(&self) -> usize {
        self.rows.len()
    }

    /// Adds the records that no entry leads to. Must run after the index pass.
    pub(crate) fn unindexed(&mut self) {
        let missed: Vec<PathBuf> =
            self.rows.iter().filter(|row| !row.indexed).map(|row| self.path_of(row)).collect();
        for path in missed {
            let stem =
                self.disk.read(&path).ok().and_then(|content| record::decode(&content.bytes).ok());
            if let Some(allocation) = stem {
                let entry = layout::attachment(&allocation.record.attachment).entry(0);
                self.suspects.push(FileFinding::new(Problem::Unindexed, path).with_other(entry));
            }
        }
    }

    /// Adds the records of one part of one ADD. Must run last, since it sorts the rows.
    pub(crate) fn doubles(&mut self) {
        self.rows.sort_unstable_by_key(|row| (row.stem, row.part));
        let doubles: Vec<_> = self
            .rows
            .windows(2)
            .filter(|pair| (pair[0].stem, pair[0].part) == (pair[1].stem, pair[1].part))
            .map(|pair| (self.path_of(&pair[0]), self.path_of(&pair[1])))
            .collect();
        for (one, other) in doubles {
            let (first, second) = if one < other { (one, other) } else { (other, one) };
            self.suspects.push(FileFinding::new(Problem::TwoRecords, second).with_other(first));
        }
    }
}

/// Returns a hash of an index entry's place, without its number.
fn hash(directory: &Path, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(directory.as_os_str().as_bytes());
    hasher.write(b"/");
    hasher.write(name.as_bytes());
    hasher.finish()
}
