//! Decides whether the data directory holds the expected store, and whether an ADD may create one
//! there. An unmounted filesystem leaves an empty directory on the local disk. A store created in
//! it would give out addresses that pods of other nodes hold.

use super::prepare::Format;
use super::store_notes::{Note, Notes};
use super::{Acting, FileStore, layout};
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Kind};
use crate::store::{Access, StoreError};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A node that has had more names than this forgets the oldest ones.
const MOST_NAMES: usize = 16;

/// The source that names the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Nothing names it: it is the default directory.
    ByDefault,
    /// Only a network configuration.
    ByNetwork,
    /// The node's flat file.
    ByFlatFile,
}

/// The conditions that a data directory must meet before it is used.
pub struct Terms {
    /// The source that names the directory.
    pub named: Named,
    /// The id of the store that must be there, if the flat file sets one.
    pub id: Option<String>,
    /// This node's notes about the stores that it uses.
    pub notes: Notes,
    /// The data directories of this node: the default one and the one in the flat file.
    pub own: Vec<PathBuf>,
    /// Whether the flat file says that no other machine uses the directory.
    pub alone: bool,
    /// Called before a system call on a filesystem that machines share, because its server may
    /// never answer. May be called more than once.
    pub before_shared: Rc<dyn Fn()>,
}

/// The store found in the directory. `noted` says whether this node already has a note of it.
pub(super) struct Known {
    pub(super) format: Option<Format>,
    noted: bool,
}

impl<D: Disk> FileStore<D> {
    /// Returns the format of the store in the directory.
    ///
    /// # Errors
    /// [`StoreError::NotMounted`] if a different store is expected there.
    pub(super) fn known(&self) -> Result<Known, StoreError> {
        let look = || {
            if !self.exists()? {
                return Ok(None);
            }
            self.is_local_or_tell()?;
            self.read_format()
        };
        let Some(terms) = &self.terms else {
            return Ok(Known { format: look()?, noted: false });
        };
        // The note is on this machine's own disk. So the call knows what the note says about the
        // filesystem before it asks the filesystem.
        let note = if self.agreed.get().is_none() { self.read_note()? } else { None };
        let found = look();
        // A broken link or a server that does not answer also counts as no store.
        let (format, wrong) = match found {
            Ok(format) => (format, None),
            Err(error @ StoreError::Io { .. }) => (None, Some(error)),
            Err(error) => return Err(error),
        };
        // The data directory is opened once and stays the same directory.
        if format.as_ref().is_some_and(|format| self.agreed.get() == Some(&format.id)) {
            return Ok(Known { format, noted: true });
        }
        let root = self.disk.root();
        let note = if self.agreed.get().is_some() { terms.notes.read(root)? } else { note };
        let named = terms.id.as_deref().map(|id| (id, "store_id of the flat file", String::new()));
        let used = note.as_ref().map(|note| (&*note.id, "used by this node before", forget(root)));
        for (id, why, otherwise) in named.into_iter().chain(used) {
            let found = match &format {
                Some(format) if format.id == id => continue,
                Some(format) => format.id.clone(),
                None => wrong
                    .as_ref()
                    .map_or_else(|| "no store".to_owned(), |wrong| format!("no store ({wrong})")),
            };
            let hint = format!("mount the filesystem of the store{otherwise}");
            return Err(self.not_mounted(format!("expected {id} ({why}), found {found}"), hint));
        }
        let noted =
            note.is_some_and(|note| note.nodes.iter().any(|node| node == self.host.node.as_str()));
        wrong.map_or_else(|| Ok(Known { format, noted }), Err)
    }

    /// Reads this node's note about the directory. Calls `before_shared` before anything is asked
    /// of a filesystem that machines share or may share.
    pub(super) fn read_note(&self) -> Result<Option<Note>, StoreError> {
        let Some(terms) = &self.terms else {
            return Ok(None);
        };
        let note = terms.notes.read(self.disk.root())?;
        if note.as_ref().map_or(terms.id.is_some(), |note| note.shared) {
            (terms.before_shared)();
        }
        Ok(note)
    }

    /// Returns whether the filesystem is local; calls `before_shared` if it is not.
    pub(super) fn is_local_or_tell(&self) -> Result<bool, StoreError> {
        let local = self.is_local()?;
        if let (false, Some(terms)) = (local, &self.terms) {
            (terms.before_shared)();
        }
        Ok(local)
    }

    /// Does the same as [`Self::known`], but accepts a damaged store.
    pub(super) fn refuse_another(&self) -> Result<(), StoreError> {
        match self.known() {
            Err(error @ StoreError::NotMounted { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns whether machines share the filesystem of the store.
    ///
    /// # Errors
    /// The filesystem cannot be examined.
    pub fn is_shared(&self) -> Result<bool, StoreError> {
        Ok(!self.is_local()?)
    }

    fn not_mounted(&self, reason: String, hint: String) -> StoreError {
        StoreError::NotMounted { path: self.disk.root().to_owned(), reason, hint }
    }

    /// Checks whether an ADD may create a store where none exists.
    pub(super) fn check_may_make(&self) -> Result<(), StoreError> {
        let Some(terms) = &self.terms else {
            return Ok(());
        };
        let root = self.disk.root();
        self.check_mounted()?;
        if root.starts_with(terms.notes.root()) {
            let found = "this node's notes about stores".to_owned();
            return Err(StoreError::Foreign { path: root.to_owned(), found });
        }
        self.check_not_nested()?;
        let local = self.is_local()?;
        // A store that has lost its format is not a new store.
        if local && self.disk.inode(Path::new(layout::SCOPES)).is_ok() {
            return Ok(());
        }
        let why = match terms.named {
            Named::ByFlatFile => "ADD does not create one that the flat file names",
            _ if !local => "ADD does not create one on a filesystem that machines share",
            _ => return Ok(()),
        };
        let make = format!(
            "mount the filesystem of the store, or create one with \"hereabouts store init {}\"",
            root.display()
        );
        Err(self.not_mounted(format!("found no store, and {why}"), make))
    }

    /// Returns the error for a missing store. The error says whether an ADD may create one.
    pub(super) fn absent(&self) -> StoreError {
        StoreError::Absent {
            path: self.disk.root().to_owned(),
            by_add: self.check_may_make().is_ok(),
        }
    }

    /// Checks the mount points above the directory: each one that the machine's tables list must be
    /// mounted.
    pub(super) fn check_mounted(&self) -> Result<(), StoreError> {
        let unmounted = self.disk.unmounted().map_err(|error| {
            failed(&self.disk, "look at the mounts above", Path::new(""), error)
        })?;
        unmounted.map_or(Ok(()), |listed| {
            Err(self.not_mounted(format!("nothing is mounted at {listed}"), "mount it".to_owned()))
        })
    }

    /// Refuses to allocate on a shared filesystem that only a network configuration names. The
    /// configuration is the same on all nodes, so no node could tell from it alone that the
    /// filesystem is missing.
    pub(super) fn check_named(&self, access: Access, local: bool) -> Result<(), StoreError> {
        let by_network = self.terms.as_ref().is_some_and(|terms| terms.named == Named::ByNetwork);
        if local || !by_network || access != Access::Allocate {
            return Ok(());
        }
        Err(StoreError::Unnamed { path: self.disk.root().to_owned() })
    }

    /// Refuses to allocate on a filesystem that is known to fail when machines share it. A store
    /// that one machine uses alone is as safe there as that machine's own mount.
    pub(super) fn check_fit(&self, access: Access, local: bool) -> Result<(), StoreError> {
        let is_shared = !local && self.terms.as_ref().is_some_and(|terms| !terms.alone);
        if access != Access::Allocate || !is_shared {
            return Ok(());
        }
        match self.kind()? {
            Kind::Unfit(reason) => {
                Err(StoreError::Unfit { path: self.disk.root().to_owned(), reason })
            }
            Kind::Unknown | Kind::Needs(_) => Ok(()),
        }
    }

    /// Refuses to give the name of a record to another record where machines share the store and the
    /// name would be free in between.
    pub(super) fn check_replaces(&self) -> Result<(), StoreError> {
        if self.terms.as_ref().is_some_and(|terms| terms.alone) {
            return Ok(());
        }
        let temporary = layout::temporary(&self.host.node);
        let moves = self
            .disk
            .moves_open_files(&temporary)
            .map_err(|error| failed(&self.disk, "replace a file in", &temporary, error))?;
        if !moves {
            return Ok(());
        }
        Err(StoreError::Unfit {
            path: self.disk.root().to_owned(),
            reason: "it moves a file that is open away before another file gets its name, so another machine could take the name in between".to_owned(),
        })
    }

    /// Returns what the type of the store's filesystem says about it.
    ///
    /// # Errors
    /// The filesystem cannot be examined.
    pub fn kind(&self) -> Result<Kind, StoreError> {
        self.disk
            .kind()
            .map_err(|error| failed(&self.disk, "look at the filesystem of", Path::new(""), error))
    }

    /// Checks that one file can have names below both `nodes` and `scopes`. If one of them is a
    /// subvolume or another filesystem, every claim fails.
    pub(super) fn check_is_one(&self) -> Result<(), StoreError> {
        let device = |name: &str| self.disk.inode(Path::new(name)).ok().map(|found| found.device);
        match (device(layout::NODES), device(layout::SCOPES)) {
            (Some(nodes), Some(scopes)) if nodes != scopes => {
                let error = std::io::Error::from_raw_os_error(nix::libc::EXDEV);
                Err(failed(&self.disk, "link between nodes and scopes in", Path::new(""), error))
            }
            _ => Ok(()),
        }
    }

    /// Notes, once and durably, that this node uses a store which may be missing one day. If no
    /// note can be written, the flat file must set the store's id.
    pub(super) fn note_store(&self, known: &Known, access: Access, local: bool) {
        let (Some(terms), Some(format)) = (&self.terms, &known.format) else {
            return;
        };
        if known.noted
            || access == Access::Read
            || self.acting != Acting::Here
            || (local && !format.explicit)
        {
            return;
        }
        let root = self.disk.root();
        let mut nodes =
            terms.notes.read(root).ok().flatten().map(|note| note.nodes).unwrap_or_default();
        nodes.retain(|node| node != self.host.node.as_str());
        nodes.push(self.host.node.to_string());
        nodes.drain(..nodes.len().saturating_sub(MOST_NAMES));
        let note = Note { data_dir: root.to_owned(), id: format.id.clone(), shared: !local, nodes };
        if let Err(error) = terms.notes.write(&note) {
            tracing::warn!(%error, "cannot note that this node uses the store; set store_id in the flat file");
        }
    }

    /// Creates a store by an explicit act, with the given id if there is one. Returns the store's
    /// id, and whether this call created the store. With `again`, a call on a local filesystem also
    /// creates it if this node has used a different store there.
    ///
    /// # Errors
    /// The directory holds something else, or this node has used another store there, which is
    /// missing.
    pub fn init(&self, id: Option<&str>, again: bool) -> Result<(String, bool), StoreError> {
        let exists = self.exists()?;
        let format = if exists { self.read_format()? } else { None };
        let lost_format =
            exists && format.is_none() && self.disk.inode(Path::new(layout::SCOPES)).is_ok();
        let note =
            self.terms.as_ref().map_or(Ok(None), |terms| terms.notes.read(self.disk.root()))?;
        let found = format.as_ref().map(|format| &*format.id);
        if let (Some(id), Some(found)) = (id, found)
            && id != found
        {
            return Err(self.not_mounted(
                format!("expected {id}, found {found}"),
                "mount the filesystem of the store, or leave --id out".to_owned(),
            ));
        }
        // A lost store is created again under its id.
        let other = note.as_ref().filter(|note| found.or(id) != Some(&note.id));
        if let (Some(other), Some(terms), false) = (other, &self.terms, lost_format) {
            // On a local disk, somebody removed the store and now creates it again by hand. A
            // shared store still exists elsewhere.
            if other.shared || !again || !self.is_local()? {
                self.known()?;
            }
            terms.notes.forget(self.disk.root())?;
        }
        if let Some(format) = format {
            self.sync_small_file(Path::new(""))?;
            return Ok((format.id, false));
        }
        if exists {
            self.check_not_foreign()?;
        }
        self.check_mounted()?;
        self.check_not_nested()?;
        if !exists {
            self.disk
                .make_root()
                .map_err(|error| failed(&self.disk, "make directory", Path::new(""), error))?;
        }
        let known =
            id.map(str::to_owned).or_else(|| note.filter(|_| lost_format).map(|note| note.id));
        let id = self.write_explicit_format(known)?;
        self.ensure(Path::new(layout::SCOPES))?;
        self.ensure(Path::new(layout::NODES))?;
        Ok((id, true))
    }
}

fn forget(root: &Path) -> String {
    format!(
        "; if this node is to use another store there, run \"hereabouts store forget {}\"",
        root.display()
    )
}
