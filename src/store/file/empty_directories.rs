//! Removes empty directories: of networks, shards and scopes that are no longer used. Each new name
//! leaves some behind, and the number of inodes is limited.
//!
//! A directory is removed only when the removal of its names is durable: after a power loss it is
//! there and empty, or not there. rmdir(2) removes no directory that contains a name, whatever the
//! locks do. If an ADD finds that a directory it has just seen is gone, it creates the directory
//! again.

use super::{FileStore, is_gone, layout, remove};
use crate::retry::Deadline;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use crate::store::{Access, StoreError};
use std::io;
use std::path::{Path, PathBuf};

/// The number of directories that are removed while the locks are held once.
const REMOVALS: usize = 64;

impl<D: Disk> FileStore<D> {
    /// Removes the empty directories and returns their number. Stops at the deadline without an
    /// error; the next call continues.
    pub(super) fn remove_empty_directories(&self, deadline: Deadline) -> Result<usize, StoreError> {
        if !self.exists()? || self.read_format()?.is_none() {
            return Ok(0);
        }
        let mut removed = self.remove_networks(&deadline)?;
        if self.is_its_turn()? {
            removed += self.remove_scopes(&deadline)?;
        }
        Ok(removed)
    }

    /// Returns whether this call cleans up the scopes. On a shared filesystem all nodes use the
    /// scopes. So one of N calls examines all of them, drawn at random, where N is the number of
    /// nodes; otherwise the server would list them for each node.
    fn is_its_turn(&self) -> Result<bool, StoreError> {
        if self.is_local()? {
            return Ok(true);
        }
        let nodes = self.names_in(Path::new(layout::NODES))?.len().max(1);
        let drawn = self
            .disk
            .random()
            .map_err(|error| failed(&self.disk, "read random bytes for", Path::new(""), error))?;
        Ok(drawn.iter().take(7).fold(0, |number, byte| number << 8 | usize::from(*byte)) % nodes
            == 0)
    }

    /// Removes this node's empty index directories. The directory by pod is removed after the one
    /// by attachment: while the latter has an entry, an ADD may be creating the former.
    fn remove_networks(&self, deadline: &Deadline) -> Result<usize, StoreError> {
        let node = layout::node(&self.host.node);
        let by_pod = node.join(layout::PODS);
        let mut networks = self.names_in(&node)?;
        networks.retain(|name| !name.to_string_lossy().starts_with('@'));
        networks.extend(self.names_in(&by_pod)?);
        networks.sort();
        networks.dedup();
        let pairs = networks.iter().map(|name| vec![node.join(name), by_pod.join(name)]).collect();
        self.remove_in_turn(pairs, deadline)
    }

    /// Removes empty shards, and scopes without shards.
    fn remove_scopes(&self, deadline: &Deadline) -> Result<usize, StoreError> {
        let mut removed = 0;
        for scope in self.names_in(Path::new(layout::SCOPES))? {
            let scope = Path::new(layout::SCOPES).join(scope);
            let shards = self.names_in(&scope)?.into_iter().filter(|name| {
                name.to_str().is_some_and(|name| layout::parse_shard(name).is_some())
            });
            removed +=
                self.remove_in_turn(shards.map(|name| vec![scope.join(name)]).collect(), deadline)?;
            removed += self.remove_in_turn(vec![vec![scope]], deadline)?;
        }
        Ok(removed)
    }

    /// Removes the first directory of each list if it is empty, and then the next one if the first
    /// is gone. Skips lists whose first directory is not empty before it takes the locks.
    fn remove_in_turn(
        &self,
        mut lists: Vec<Vec<PathBuf>>,
        deadline: &Deadline,
    ) -> Result<usize, StoreError> {
        let mut removed = 0;
        lists.retain(|list| list.first().is_some_and(|first| self.is_unused(first)));
        for some in lists.chunks(REMOVALS) {
            if deadline.left().is_zero() {
                break;
            }
            let mut session = self.open_session(Access::Release, *deadline)?;
            session.lock_store()?;
            for list in some {
                for directory in list {
                    match self.remove_unused(directory)? {
                        Removal::Done => removed += 1,
                        Removal::Gone => {}
                        Removal::InUse => break,
                    }
                }
            }
        }
        Ok(removed)
    }

    /// Returns whether a directory contains nothing, or only bookkeeping that serves its records.
    fn is_unused(&self, directory: &Path) -> bool {
        match self.disk.names(directory) {
            Ok(names) => names.iter().all(|name| is_scope(directory) && is_bookkeeping(name)),
            Err(error) => is_gone(&error),
        }
    }

    fn remove_unused(&self, directory: &Path) -> Result<Removal, StoreError> {
        if !self.is_unused(directory) {
            return Ok(Removal::InUse);
        }
        if is_scope(directory) {
            for name in self.names_in(directory)?.iter().filter(|name| is_bookkeeping(name)) {
                remove(&self.disk, &directory.join(name))?;
            }
        }
        // A killed DEL may have removed a name without making that durable.
        match self.disk.sync(directory).and_then(|()| self.disk.remove_directory(directory)) {
            Ok(()) => Ok(Removal::Done),
            Err(error) if is_gone(&error) => Ok(Removal::Gone),
            Err(error) if is_in_use(&error) => Ok(Removal::InUse),
            Err(error) => Err(failed(&self.disk, "remove directory", directory, error)),
        }
    }

    fn names_in(&self, directory: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
        match self.disk.names(directory) {
            Ok(names) => Ok(names),
            // Not a directory of hereabouts; `verify` reports it.
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::NotADirectory => {
                Ok(Vec::new())
            }
            Err(error) => Err(failed(&self.disk, "list", directory, error)),
        }
    }
}

enum Removal {
    Done,
    /// The directory did not exist.
    Gone,
    /// The directory contains a name, which was just created or which stays.
    InUse,
}

fn is_scope(directory: &Path) -> bool {
    directory.parent() == Some(Path::new(layout::SCOPES))
}

fn is_bookkeeping(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(layout::is_bookkeeping)
}

/// Returns whether a filesystem is mounted there, or the directory contains a name.
fn is_in_use(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory, ResourceBusy};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | NotADirectory | ResourceBusy)
}
