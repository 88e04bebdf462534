//! Creates what must exist before a record can: the format file, the directories, and the note that
//! says which machine uses a node name. Each is created once and is durable.

use super::{
    Acting, FileStore, failed_link, is_taken, layout, read, record, remove, sync, sync_name, unique,
};
use crate::digest::hex;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use crate::store::{Access, StoreError};
use std::io;
use std::path::{Path, PathBuf};

/// The names that may be in the data directory: the store's own, the node state of the Kubernetes
/// store, the notes about which store a node uses, and the pools.
const OURS: &[&str] = &[
    layout::LOCK,
    layout::SCOPES,
    layout::NODES,
    layout::FORMAT,
    layout::POOLS,
    "kubernetes",
    "stores",
];

/// Returns whether a name in the data directory is harmless: one of ours, or one that the
/// filesystem creates by itself.
pub(super) fn is_known_name(name: &str) -> bool {
    OURS.contains(&name) || layout::is_of_filesystem(name)
}

/// The content of the file `format`.
pub(super) struct Format {
    pub(super) number: u64,
    /// The random id of this store.
    pub(super) id: String,
    /// Whether the store was created by an explicit act, not by an ADD.
    pub(super) explicit: bool,
}

impl<D: Disk> FileStore<D> {
    /// Reads the store's format; returns `None` if there is none yet.
    pub(super) fn read_format(&self) -> Result<Option<Format>, StoreError> {
        let path = Path::new(layout::FORMAT);
        let Some(content) = read(&self.disk, path)? else {
            return Ok(None);
        };
        let damaged = |reason: &str| StoreError::BadFormat {
            path: self.disk.root().join(path),
            reason: reason.to_owned(),
        };
        let json = crate::json::Json::parse(&content.bytes)
            .map_err(|error| damaged(&error.to_string()))?;
        let number = match json.find("format") {
            Some(crate::json::Json::Number(number)) => number.as_u64(),
            _ => None,
        };
        let found = number.ok_or_else(|| damaged("expected a format number, found none"))?;
        if record::FORMAT < found {
            return Err(StoreError::Newer {
                path: self.disk.root().to_owned(),
                found,
                known: record::FORMAT,
            });
        }
        let id = json
            .find("id")
            .and_then(|id| id.as_str())
            .ok_or_else(|| damaged("expected an id, found none"))?;
        let explicit = matches!(json.find("explicit"), Some(crate::json::Json::Bool(true)));
        Ok(Some(Format { number: found, id: id.to_owned(), explicit }))
    }

    /// Refuses a directory that contains anything that is not ours, such as the files of
    /// host-local, or a path that was intended for something else.
    pub(super) fn check_not_foreign(&self) -> Result<(), StoreError> {
        let root = Path::new("");
        let names =
            self.disk.names(root).map_err(|error| failed(&self.disk, "list", root, error))?;
        let foreign =
            names.iter().map(|name| name.to_string_lossy()).find(|name| !is_known_name(name));
        let Some(name) = foreign else {
            return Ok(());
        };
        let host_local = self.disk.names(Path::new(&*name)).is_ok_and(|names| {
            names.iter().any(|name| name.to_string_lossy().starts_with("last_reserved_ip"))
        });
        let what = if host_local { "files of host-local in" } else { "found" };
        Err(StoreError::Foreign {
            path: self.disk.root().to_owned(),
            found: format!("{what} {}", crate::json::excerpt(&name)),
        })
    }

    /// Writes `format`, once, under the lock. Returns the store's id.
    pub(super) fn write_format(&self) -> Result<String, StoreError> {
        let path = Path::new(layout::FORMAT);
        let random = self
            .disk
            .random()
            .map_err(|error| failed(&self.disk, "read random bytes for", path, error))?;
        let id = hex(&random);
        self.place(
            path,
            format!("{{\"format\":{},\"id\":\"{id}\"}}\n", record::FORMAT).as_bytes(),
        )?;
        self.check_case().inspect_err(|_| drop(self.disk.unlink(path)))?;
        // If locks do not work, another call may have been first: its file counts.
        Ok(self.read_format()?.map_or(id, |format| format.id))
    }

    /// Does the same as an explicit act, which belongs to no node. `known` is the id of a store
    /// that has lost its format.
    pub(super) fn write_explicit_format(
        &self,
        known: Option<String>,
    ) -> Result<String, StoreError> {
        let path = Path::new(layout::FORMAT);
        let random = self
            .disk
            .random()
            .map_err(|error| failed(&self.disk, "read random bytes for", path, error))?;
        let random = hex(&random);
        let temporary = PathBuf::from(format!("{}new-{random}", layout::ASIDE));
        let id = known.unwrap_or(random);
        let text = format!("{{\"format\":{},\"id\":\"{id}\",\"explicit\":true}}\n", record::FORMAT);
        self.place_by(&temporary, path, text.as_bytes())?;
        self.check_case().inspect_err(|_| drop(self.disk.unlink(path)))?;
        Ok(self.read_format()?.map_or(id, |format| format.id))
    }

    /// Refuses a filesystem that treats `Blue` and `blue` as one name. The check uses the one file
    /// that every store has.
    pub(super) fn check_case(&self) -> Result<(), StoreError> {
        let inode = |name: &str| self.disk.inode(Path::new(name)).ok();
        let found = inode(layout::FORMAT);
        if found.is_none() || inode(&layout::FORMAT.to_ascii_uppercase()) != found {
            return Ok(());
        }
        Err(StoreError::FoldsCase { path: self.disk.root().to_owned() })
    }

    /// Creates a small file durably, with all its bytes or not at all.
    pub(super) fn place(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.ensure(&layout::temporary(&self.host.node))?;
        self.place_by(&unique(&self.disk, &self.host.node), path, bytes)
    }

    fn place_by(&self, temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let not_written = |error| failed(&self.disk, "write", path, error);
        let written = self
            .disk
            .create(temporary, bytes)
            .and_then(|_| self.disk.sync(temporary))
            .map_err(not_written);
        let placed = written.and_then(|()| {
            match self.disk.link(temporary, path) {
                Err(error) if !is_taken(&self.disk, &error, path) => {
                    return Err(failed_link(&self.disk, "write", path, error));
                }
                _ => {}
            }
            sync_name(&self.disk, path.parent().unwrap_or(Path::new("")), temporary)
                .map_err(not_written)
        });
        let _ = self.disk.unlink(temporary);
        placed
    }

    /// Replaces the file at a name by a second link of another file, so that the name always
    /// exists. Needs the node's @tmp.
    pub(super) fn replace(&self, from: &Path, name: &Path) -> io::Result<()> {
        let disk = &self.disk;
        let seat = unique(disk, &self.host.node);
        let placed = disk.link(from, &seat).and_then(|()| disk.rename(&seat, name));
        if placed.is_err() {
            let _ = disk.unlink(&seat);
        }
        placed
    }

    /// Creates a directory and its parents, each durable before anything is put into it. The mark
    /// on a directory says that its parent was synced; a call that finds a directory without the
    /// mark syncs the parent first. If the flush of a directory does not reach the disk, the flush
    /// of the first file in it does: see [`sync_name`].
    pub(super) fn ensure(&self, directory: &Path) -> Result<(), StoreError> {
        match self.disk.is_marked(directory) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) =
                    directory.parent().filter(|parent| !parent.as_os_str().is_empty())
                {
                    self.ensure(parent)?;
                }
                match self.disk.make_directory(directory) {
                    Err(error) if !is_taken(&self.disk, &error, directory) => {
                        return Err(failed(&self.disk, "make directory", directory, error));
                    }
                    _ => {}
                }
            }
            Err(error) => return Err(failed(&self.disk, "open directory", directory, error)),
        }
        let parent = directory.parent().unwrap_or(Path::new(""));
        sync(&self.disk, parent)?;
        self.sync_small_file(parent)?;
        self.disk.mark(directory).map_err(|error| failed(&self.disk, "mark", directory, error))
    }

    /// Syncs the file that a killed call may have put into a directory. The file may be visible and
    /// not durable if the flush of the directory does not reach it.
    pub(super) fn sync_small_file(&self, directory: &Path) -> Result<(), StoreError> {
        let name = match directory.components().count() {
            0 => layout::FORMAT,
            2 => layout::MACHINE_ID,
            _ => return Ok(()),
        };
        if self.is_local()? {
            return Ok(());
        }
        let path = directory.join(name);
        match self.disk.sync(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(&self.disk, "sync", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Checks that only one machine uses the node name. A second machine would free the addresses
    /// of the first.
    pub(super) fn check_machine(&self, access: Access) -> Result<(), StoreError> {
        let path = layout::machine_id(&self.host.node);
        match self.acting {
            Acting::Here => {}
            Acting::Elsewhere => return Ok(()),
            Acting::Off => return remove(&self.disk, &path),
        }
        let Some(ours) = &self.host.machine_id else {
            return Ok(());
        };
        let noted = match self.disk.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if access != Access::Allocate {
                    return Ok(());
                }
                self.place(&path, format!("{ours}\n").as_bytes())?;
                match self.disk.read(&path) {
                    // `release --node` has forgotten the machine at this moment. The next ADD notes
                    // it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    // Two machines may have come at the same time: the link decided.
                    noted => noted,
                }
            }
            noted => noted,
        };
        let noted = noted.map_err(|error| failed(&self.disk, "read", &path, error))?;
        let theirs = String::from_utf8_lossy(&noted.bytes);
        if theirs.trim() == ours {
            return Ok(());
        }
        Err(StoreError::SecondMachine {
            node: self.host.node.to_string(),
            path: self.disk.root().join(&path),
            theirs: crate::json::excerpt(theirs.trim()),
            ours: crate::json::excerpt(ours),
        })
    }
}
