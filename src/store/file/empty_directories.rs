//! Removes directories that hold nothing: of networks, shards and scopes that
//! nobody uses any more. Each new name leaves some, and inodes end.
//!
//! Only a directory whose names are durably gone is removed: after a power loss it
//! is there and empty, or not there. rmdir(2) takes none that has a name in it,
//! whatever locks do, and an ADD that finds a directory gone that it has just seen
//! makes it again.

use super::{FileStore, is_gone, layout, remove};
use crate::retry::Deadline;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use crate::store::{Access, StoreError};
use std::io;
use std::path::{Path, PathBuf};

/// Directories that are removed while the locks are held once.
const REMOVALS: usize = 64;

impl<D: Disk> FileStore<D> {
    /// Removes them; how many. Ends at the deadline without an error: the next one
    /// goes on.
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

    /// On a shared filesystem scopes are everybody's: one node in turn looks at
    /// all of them, or the server would list them for each node.
    fn is_its_turn(&self) -> Result<bool, StoreError> {
        if self.is_local()? {
            return Ok(true);
        }
        let nodes = self.names_in(Path::new(layout::NODES))?.len().max(1);
        let drawn = self.disk.random().map_err(|error| failed(&self.disk, "read random bytes for", Path::new(""), error))?;
        Ok(drawn.iter().take(7).fold(0, |number, byte| number << 8 | usize::from(*byte)) % nodes == 0)
    }

    /// This node's part of the index. That by pod goes after that by attachment:
    /// while this one has an entry an ADD may be making that one.
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

    /// Shards, and scopes without any.
    fn remove_scopes(&self, deadline: &Deadline) -> Result<usize, StoreError> {
        let mut removed = 0;
        for scope in self.names_in(Path::new(layout::SCOPES))? {
            let scope = Path::new(layout::SCOPES).join(scope);
            let shards =
                self.names_in(&scope)?.into_iter().filter(|name| name.to_str().is_some_and(|name| layout::parse_shard(name).is_some()));
            removed += self.remove_in_turn(shards.map(|name| vec![scope.join(name)]).collect(), deadline)?;
            removed += self.remove_in_turn(vec![vec![scope]], deadline)?;
        }
        Ok(removed)
    }

    /// Removes each that is empty, and the next one of its list if that one has
    /// gone. What is not empty is left without the locks.
    fn remove_in_turn(&self, mut lists: Vec<Vec<PathBuf>>, deadline: &Deadline) -> Result<usize, StoreError> {
        let mut removed = 0;
        lists.retain(|list| list.first().is_some_and(|first| self.is_vain(first)));
        for some in lists.chunks(REMOVALS) {
            if deadline.left().is_zero() {
                break;
            }
            let mut session = self.open_session(Access::Release, *deadline)?;
            session.lock_store()?;
            for list in some {
                for directory in list {
                    match self.remove_vain(directory)? {
                        Removal::Done => removed += 1,
                        Removal::Gone => {}
                        Removal::InUse => break,
                    }
                }
            }
        }
        Ok(removed)
    }

    /// Whether nothing is in a directory but what is of use to records alone.
    fn is_vain(&self, directory: &Path) -> bool {
        match self.disk.names(directory) {
            Ok(names) => names.iter().all(|name| is_scope(directory) && is_bookkeeping(name)),
            Err(error) => is_gone(&error),
        }
    }

    fn remove_vain(&self, directory: &Path) -> Result<Removal, StoreError> {
        if !self.is_vain(directory) {
            return Ok(Removal::InUse);
        }
        if is_scope(directory) {
            for name in self.names_in(directory)?.iter().filter(|name| is_bookkeeping(name)) {
                remove(&self.disk, &directory.join(name))?;
            }
        }
        // A DEL that was killed may have removed a name, and not durably.
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
            // Nothing that hereabouts puts there, as `verify` says.
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
            Err(error) => Err(failed(&self.disk, "list", directory, error)),
        }
    }
}

enum Removal {
    Done,
    /// It was not there.
    Gone,
    /// A name is in it, by now or for good.
    InUse,
}

fn is_scope(directory: &Path) -> bool {
    directory.parent() == Some(Path::new(layout::SCOPES))
}

fn is_bookkeeping(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(layout::is_bookkeeping)
}

/// A filesystem is mounted there, or a name is in it.
fn is_in_use(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory, ResourceBusy};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | NotADirectory | ResourceBusy)
}
