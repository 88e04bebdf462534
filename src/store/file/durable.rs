//! Makes changes to names durable: that a name was created, that it now belongs to another file, or
//! that it was removed.
//!
//! On a local filesystem the flush of the directory is enough. Other filesystems answer it and do
//! nothing: a brick of GlusterFS, and most FUSE filesystems, where the kernel answers for a server
//! that has no such call. The flush of a file reaches the disk on all of them, and includes the
//! changes to the names of that file and to the directories above them. So on those filesystems the
//! record's file is flushed too, through a name that it still has.

use super::{FileStore, is_gone, layout, remove, sync, unique};
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Flushes a change to a name in a directory. `file` is a name of the file that the change
/// concerns.
pub(super) fn sync_name(disk: &dyn Disk, directory: &Path, file: &Path) -> io::Result<()> {
    disk.sync(directory)?;
    if disk.is_local()? { Ok(()) } else { disk.sync(file) }
}

/// Does the same for a removed name. The directory of the name may be gone too: a directory is
/// removed only when the removal of its names is durable.
pub(super) fn sync_removed_name(disk: &dyn Disk, directory: &Path, file: &Path) -> io::Result<()> {
    match disk.sync(directory) {
        Err(error) if !is_gone(&error) => Err(error),
        _ if disk.is_local()? => Ok(()),
        _ => disk.sync(file),
    }
}

/// A name through which a file can be flushed after it has lost another name.
pub(super) struct Kept {
    path: PathBuf,
    /// Whether the name was created only for that.
    spare: bool,
}

impl<D: Disk> FileStore<D> {
    /// Finds such a name for the file at `name`, or creates one. Returns `None` if the flush of the
    /// directory is enough.
    pub(super) fn keep_name(
        &self,
        name: &Path,
        entry: Option<PathBuf>,
    ) -> Result<Option<Kept>, StoreError> {
        if self.is_local()? {
            return Ok(None);
        }
        if let Some(path) = entry {
            return Ok(Some(Kept { path, spare: false }));
        }
        // A record without an entry: its index was lost.
        self.ensure(&layout::temporary(&self.host.node))?;
        let path = unique(&self.disk, &self.host.node);
        match self.disk.link(name, &path) {
            Ok(()) => Ok(Some(Kept { path, spare: true })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&self.disk, "link", &path, error)),
        }
    }

    /// Flushes changes to names, each given with another name of its file. Flushes each directory
    /// once.
    pub(super) fn sync_names(&self, names: &[(&Path, &Path)]) -> Result<(), StoreError> {
        let directory =
            |name: &'_ Path| name.parent().unwrap_or(Path::new(layout::SCOPES)).to_owned();
        let directories: BTreeSet<PathBuf> =
            names.iter().map(|(name, _)| directory(name)).collect();
        directories.iter().try_for_each(|directory| sync(&self.disk, directory))?;
        if self.is_local()? {
            Ok(())
        } else {
            names.iter().try_for_each(|(_, file)| sync(&self.disk, file))
        }
    }

    /// Makes the removal of names durable. On a shared filesystem another machine may have removed
    /// a directory in the meantime: see [`sync_removed_name`].
    pub(super) fn sync_removals(
        &self,
        removed: &[(PathBuf, Option<Kept>)],
    ) -> Result<(), StoreError> {
        let is_local = self.is_local()?;
        let sync_directory = |directory: &Path| match self.disk.sync(directory) {
            Err(error) if is_local || !is_gone(&error) => {
                Err(failed(&self.disk, "sync", directory, error))
            }
            _ => Ok(()),
        };
        let directories: BTreeSet<&Path> =
            removed.iter().filter_map(|(name, _)| name.parent()).collect();
        let kept = || removed.iter().filter_map(|(_, kept)| kept.as_ref());
        let synced = directories
            .into_iter()
            .try_for_each(sync_directory)
            .and_then(|()| kept().try_for_each(|kept| sync(&self.disk, &kept.path)));
        for spare in kept().filter(|kept| kept.spare) {
            remove(&self.disk, &spare.path)?;
        }
        synced
    }
}
