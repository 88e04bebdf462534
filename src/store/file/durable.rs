//! What makes a name durable: that it was made, is another file's now, or is
//! gone.
//!
//! On a local filesystem the flush of its directory does that. Others answer it
//! and do nothing: a brick of GlusterFS, and most of FUSE, where the kernel
//! answers for a server that has no such call. The flush of a file reaches the
//! disk on all of them, and takes along what has happened to the names of that
//! file and to the directories above them. So there the record's file is flushed
//! as well, by a name that it has still.

use super::disk::Disk;
use super::{FileStore, failed, is_gone, layout, remove, unique};
use crate::store::StoreError;
use std::io;
use std::path::{Path, PathBuf};

/// Flushes what has happened to a name in a directory; `file` is a name of the
/// file that it concerns.
pub(super) fn sync_name(disk: &dyn Disk, directory: &Path, file: &Path) -> io::Result<()> {
    disk.sync(directory)?;
    if disk.is_local()? { Ok(()) } else { disk.sync(file) }
}

/// The same for a name that was removed, perhaps with its directory: nobody removes
/// one whose names are not durably gone.
pub(super) fn sync_removed_name(disk: &dyn Disk, directory: &Path, file: &Path) -> io::Result<()> {
    match disk.sync(directory) {
        Err(error) if !is_gone(&error) => Err(error),
        _ if disk.is_local()? => Ok(()),
        _ => disk.sync(file),
    }
}

/// A name by which a file can be flushed when it has lost another one.
pub(super) struct Kept {
    path: PathBuf,
    /// Made for that alone.
    spare: bool,
}

impl<D: Disk> FileStore<D> {
    /// Finds such a name for what stands at `name`, or makes one. `None` where
    /// the flush of the directory is enough.
    pub(super) fn keep_name(&self, name: &Path, entry: Option<PathBuf>) -> Result<Option<Kept>, StoreError> {
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

    /// Makes the removal of a name durable.
    pub(super) fn sync_removal(&self, name: &Path, kept: Option<Kept>) -> Result<(), StoreError> {
        let directory = name.parent().unwrap_or(Path::new(layout::SCOPES));
        let wrong = |error| failed(&self.disk, "sync", directory, error);
        let Some(kept) = kept else {
            return self.disk.sync(directory).map_err(wrong);
        };
        let synced = sync_removed_name(&self.disk, directory, &kept.path).map_err(wrong);
        if kept.spare {
            remove(&self.disk, &kept.path)?;
        }
        synced
    }
}
