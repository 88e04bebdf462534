//! Repairs the problems that [`super::verify`] has found, one finding at a time: under the locks,
//! after another check, in steps that each leave the store as good as before. Repairs only what
//! belongs to this node, and hints, which belong to no node.

use super::finding::{FileFinding, Problem, is_still_so, split_from};
use crate::ipam::NodeName;
use crate::retry::Deadline;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Inode};
use crate::store::file::session::FileSession;
use crate::store::file::{FileStore, index, layout, record, remove, sync_name};
use crate::store::percent;
pub use crate::store::upkeep::Repaired;
use crate::store::{Access, StoreError};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

impl<D: Disk> FileStore<D> {
    /// Returns whether this node may repair the finding.
    pub fn is_ours(&self, finding: &FileFinding) -> bool {
        finding.node().is_none_or(|node| self.is_own(node))
    }

    fn is_own(&self, node: &OsStr) -> bool {
        let is_of = |name: &NodeName| node == &*percent::escape(name.as_str());
        is_of(&self.host.node)
            || self.earlier_names().is_ok_and(|earlier| earlier.iter().any(is_of))
    }

    /// Repairs one finding.
    ///
    /// # Errors
    /// The problem still exists. The call may be repeated.
    pub fn repair(
        &self,
        finding: &FileFinding,
        deadline: Deadline,
    ) -> Result<Repaired, StoreError> {
        if !finding.problem.is_repairable() {
            return Ok(Repaired::ByHand);
        }
        if !self.is_ours(finding) {
            return Ok(Repaired::NotYours);
        }
        let _session = self.exclusive(deadline)?;
        if !is_still_so(&self.disk, finding)? {
            return Ok(Repaired::Gone);
        }
        match finding.problem {
            Problem::Unindexed => self.link_entry(&finding.path)?,
            Problem::Split => self.link_again(&finding.path)?,
            Problem::DanglingEntry | Problem::DanglingPodEntry => {
                self.remove_entry(&finding.path)?
            }
            _ => remove(&self.disk, &finding.path)?,
        }
        Ok(Repaired::Done)
    }

    /// Opens a session that excludes what the store's locks exclude, and all calls of this node.
    fn exclusive(&self, deadline: Deadline) -> Result<FileSession<'_, D>, StoreError> {
        if self.known()?.format.is_none() {
            return Err(self.absent());
        }
        let mut session = self.open_session(Access::Release, deadline)?;
        session.lock_store()?;
        Ok(session)
    }

    /// Gives a record an index entry where its holder looks.
    fn link_entry(&self, name: &Path) -> Result<(), StoreError> {
        let disk = &self.disk;
        let content = disk.read(name).map_err(|error| failed(disk, "read", name, error))?;
        let Ok(allocation) = record::decode(&content.bytes) else {
            return Ok(());
        };
        let stem = layout::attachment(&allocation.record.attachment);
        self.ensure(&stem.directory)?;
        index::link(disk, &stem, name)?;
        sync_name(disk, &stem.directory, name)
            .map_err(|error| failed(disk, "sync", &stem.directory, error))
    }

    /// Replaces the copy of a record by a link to it, with a rename, so that the entry always
    /// exists.
    fn link_again(&self, entry: &Path) -> Result<(), StoreError> {
        let disk = &self.disk;
        let Some(name) = split_from(disk, entry)? else {
            return Ok(());
        };
        self.ensure(&layout::temporary(&self.host.node))?;
        self.replace(&name, entry).map_err(|error| failed(disk, "link", entry, error))?;
        sync_name(disk, entry.parent().unwrap_or(Path::new(layout::NODES)), &name)
            .map_err(|error| failed(disk, "sync", entry, error))
    }

    fn remove_entry(&self, entry: &Path) -> Result<(), StoreError> {
        if let Some((stem, _)) = layout::parse_entry(entry) {
            index::clean_up(&self.disk, &stem)?;
        }
        // The entry is damaged or beyond a gap, where no lookup reaches it.
        remove(&self.disk, entry)
    }

    /// Returns all entries that are this file, from the highest number down.
    fn links_in_index(&self, inode: Inode) -> Result<Vec<PathBuf>, StoreError> {
        let mut found = Vec::new();
        let mut directories = vec![PathBuf::from(layout::NODES)];
        while let Some(directory) = directories.pop() {
            // nodes/<node>/<network>, and nodes/<node>/@pods/<network>.
            let depth = directory.iter().count();
            let is_pods = directory.iter().nth(2).is_some_and(|name| name == layout::PODS);
            let has_entries = depth == if is_pods { 4 } else { 3 };
            let shown = self.disk.visit(&directory, &mut |name, number| match has_entries {
                true if number == inode.number => found.push(directory.join(name)),
                true => {}
                false => directories.push(directory.join(name)),
            });
            match shown {
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    return Err(failed(&self.disk, "list", &directory, error));
                }
                _ => {}
            }
        }
        found.retain(|path| self.disk.inode(path).is_ok_and(|known| known == inode));
        found.sort_by_key(|path| {
            std::cmp::Reverse(layout::parse_entry(path).map_or(0, |(_, number)| number))
        });
        Ok(found)
    }

    /// Frees the address of a record that cannot be read. Removes the name first. Returns whether
    /// the record still existed and was damaged.
    ///
    /// # Errors
    /// The record may still exist. The call may be repeated. [`StoreError::NotOurs`] if the index
    /// says that another node holds the address.
    pub fn release_damaged(&self, name: &Path, deadline: Deadline) -> Result<bool, StoreError> {
        let disk = &self.disk;
        let _session = self.exclusive(deadline)?;
        if !is_still_so(disk, &FileFinding::new(Problem::Damaged, name.to_owned()))? {
            return Ok(false);
        }
        let entries = match disk.inode(name) {
            Ok(inode) => self.links_in_index(inode)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(disk, "look at", name, error)),
        };
        if let Some(node) = entries
            .iter()
            .filter_map(|entry| layout::node_of(entry))
            .find(|node| !self.is_own(node))
        {
            return Err(StoreError::NotOurs {
                path: disk.root().join(name),
                node: node.to_string_lossy().into_owned(),
            });
        }
        let shard = name.parent().unwrap_or(Path::new(layout::SCOPES));
        for hint in layout::HINTS_OF_FULL {
            remove(disk, &shard.parent().unwrap_or(shard).join(hint))?;
        }
        self.ensure(&layout::temporary(&self.host.node))?;
        let kept = self.keep_name(name, entries.first().cloned())?;
        remove(disk, name)?;
        self.sync_removals(&[(name.to_owned(), kept)])?;
        for entry in entries {
            index::remove_entry(disk, &entry, |from, to| self.replace(from, to))?;
        }
        Ok(true)
    }
}
