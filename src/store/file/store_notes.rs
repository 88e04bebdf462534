//! This node's notes, on its own disk, about the file stores that it uses: they say which store is
//! at a data directory. There are notes only for stores that can be missing: those on a filesystem
//! that is not local, and those created by `hereabouts store init`.
//!
//! ```text
//! <hash of the data directory>.store     {"data_dir":..., "id":..., "shared":..., "nodes":[...]}
//! <store's id>/                          what the node got from the store: see `given_notes`
//! ```

use crate::digest::hex;
use crate::store::StoreError;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, RealDisk};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A note that this node uses a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) data_dir: PathBuf,
    pub(super) id: String,
    /// Whether the store was on a filesystem that is not local.
    pub(super) shared: bool,
    /// The names under which this node has used the store, the current one last.
    #[serde(default)]
    pub(super) nodes: Vec<String>,
}

/// All notes of this node.
pub struct Notes {
    disk: Box<dyn Disk>,
}

impl Notes {
    /// Returns the notes in a directory of this machine, which need not exist yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { disk: Box::new(RealDisk::new(root)) }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    pub(super) fn root(&self) -> &Path {
        self.disk.root()
    }

    fn path(data_dir: &Path) -> PathBuf {
        let plain: PathBuf = data_dir.components().collect();
        format!("{}.store", hex(&Sha256::digest(plain.as_os_str().as_bytes())[..16])).into()
    }

    /// Reads the note about a data directory.
    ///
    /// # Errors
    /// The note cannot be read.
    pub(super) fn read(&self, data_dir: &Path) -> Result<Option<Note>, StoreError> {
        // Most nodes have no notes, and no path is needed to find that out.
        if matches!(self.disk.exists(), Ok(false)) {
            return Ok(None);
        }
        let path = Self::path(data_dir);
        let content = match self.disk.read(&path) {
            Ok(content) => content,
            // A process without permission to read counts as one without notes.
            Err(error) if is_nothing(&error) => return Ok(None),
            Err(error) => return Err(failed(self.disk.as_ref(), "read", &path, error)),
        };
        serde_json::from_slice(&content.bytes).map(Some).map_err(|error| StoreError::NotMounted {
            path: data_dir.to_owned(),
            reason: format!(
                "this node's note about it is damaged: {}: {error}",
                self.disk.root().join(&path).display()
            ),
            hint: format!("\"hereabouts store forget {}\" removes the note", data_dir.display()),
        })
    }

    /// Returns the names under which this node has used a store, at this data directory or another.
    /// An unreadable note about another directory is ignored.
    ///
    /// # Errors
    /// The note about this directory cannot be read.
    pub(super) fn names_in(&self, id: &str, data_dir: &Path) -> Result<Vec<String>, StoreError> {
        let mut nodes = self.read(data_dir)?.map(|note| note.nodes).unwrap_or_default();
        for name in self.disk.names(Path::new("")).unwrap_or_default() {
            let path = PathBuf::from(name);
            if path.extension().is_none_or(|kind| kind != "store") {
                continue;
            }
            let note = self
                .disk
                .read(&path)
                .ok()
                .and_then(|content| serde_json::from_slice::<Note>(&content.bytes).ok());
            nodes.extend(note.filter(|note| note.id == id).into_iter().flat_map(|note| note.nodes));
        }
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// Returns whether there is a note about a data directory.
    #[must_use]
    pub fn knows(&self, data_dir: &Path) -> bool {
        !matches!(self.read(data_dir), Ok(None))
    }

    /// Writes a note durably: it is needed after a boot.
    pub(super) fn write(&self, note: &Note) -> io::Result<()> {
        let disk = self.disk.as_ref();
        disk.make_root()?;
        let bytes = serde_json::to_vec(note)?;
        let nanos =
            disk.now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let temporary = PathBuf::from(format!("{}.{nanos:x}.new", std::process::id()));
        let placed = disk.create(&temporary, &bytes).and_then(|_| disk.sync(&temporary));
        let placed = placed.and_then(|()| disk.rename(&temporary, &Self::path(&note.data_dir)));
        if placed.is_err() {
            let _ = disk.unlink(&temporary);
        }
        placed.and_then(|()| disk.sync(Path::new("")))
    }

    /// Removes the note. Returns whether there was one.
    ///
    /// # Errors
    /// The note still exists.
    pub fn forget(&self, data_dir: &Path) -> Result<bool, StoreError> {
        let path = Self::path(data_dir);
        match self.disk.unlink(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(self.disk.as_ref(), "remove", &path, error)),
        }
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
    )
}
