//! Whether the directory holds the store that it should, and whether an ADD may
//! make one there. A filesystem that is not mounted leaves an empty directory on
//! the local disk: a store that was made in it would give addresses that another
//! node's pods hold.

use super::prepare::Format;
use super::store_notes::{Note, Notes};
use super::{Acting, FileStore, layout};
use crate::store::disk::{Disk, Kind};
use crate::store::{Access, StoreError};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A node that has had more names has forgotten the first ones.
const MOST_NAMES: usize = 16;

/// Who names the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Nobody: it is the default.
    ByDefault,
    /// A network configuration alone.
    ByNetwork,
    /// The node's flat file.
    ByFlatFile,
}

/// What is asked of a data directory before it is used.
pub struct Terms {
    /// Who names it.
    pub named: Named,
    /// Which store has to be there, where the flat file says so.
    pub id: Option<String>,
    /// What this node has noted of the stores that it uses.
    pub notes: Notes,
    /// The data directories of this node: the default, and that of the flat file.
    pub own: Vec<PathBuf>,
    /// The flat file says that no other machine uses it.
    pub alone: bool,
    /// Called before a system call on a filesystem that machines share: its server may
    /// never answer. More than once.
    pub before_shared: Rc<dyn Fn()>,
}

/// What stands in the directory; `noted` where this node knows it already.
pub(super) struct Known {
    pub(super) format: Option<Format>,
    noted: bool,
}

impl<D: Disk> FileStore<D> {
    /// The format of the store that stands there.
    ///
    /// # Errors
    /// [`StoreError::NotMounted`] where it has to be another.
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
        // The note is on this machine's own disk: what it says of the filesystem is
        // known before that is asked.
        let note = if self.agreed.get().is_none() { self.read_note()? } else { None };
        let found = look();
        // A link that leads nowhere, a server that does not answer: no store either.
        let (format, wrong) = match found {
            Ok(format) => (format, None),
            Err(error @ StoreError::Io { .. }) => (None, Some(error)),
            Err(error) => return Err(error),
        };
        // The data directory is opened once: it stays what it was.
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
                None => wrong.as_ref().map_or_else(|| "no store".to_owned(), |wrong| format!("no store ({wrong})")),
            };
            let hint = format!("mount the filesystem of the store{otherwise}");
            return Err(self.not_mounted(format!("expected {id} ({why}), found {found}"), hint));
        }
        let noted = note.is_some_and(|note| note.nodes.iter().any(|node| node == self.host.node.as_str()));
        wrong.map_or_else(|| Ok(Known { format, noted }), Err)
    }

    /// What this node has noted of the directory; tells of a filesystem that machines
    /// share, or may, before anything is asked of it.
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

    /// Whether the filesystem is local; tells of one that is not.
    pub(super) fn is_local_or_tell(&self) -> Result<bool, StoreError> {
        let local = self.is_local()?;
        if let (false, Some(terms)) = (local, &self.terms) {
            (terms.before_shared)();
        }
        Ok(local)
    }

    /// [`Self::known`], where a store that is damaged is looked at all the same.
    pub(super) fn refuse_another(&self) -> Result<(), StoreError> {
        match self.known() {
            Err(error @ StoreError::NotMounted { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether machines share the filesystem of the store.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn is_shared(&self) -> Result<bool, StoreError> {
        Ok(!self.is_local()?)
    }

    fn not_mounted(&self, reason: String, hint: String) -> StoreError {
        StoreError::NotMounted { path: self.disk.root().to_owned(), reason, hint }
    }

    /// Whether an ADD may make a store where none is.
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
        // A store that has lost its format is no new one.
        if local && self.disk.inode(Path::new(layout::SCOPES)).is_ok() {
            return Ok(());
        }
        let why = match terms.named {
            Named::ByFlatFile => "ADD creates none where the flat file names one",
            _ if !local => "ADD creates none on a filesystem that machines share",
            _ => return Ok(()),
        };
        let make = format!("mount the filesystem of the store, or create one with \"hereabouts store init {}\"", root.display());
        Err(self.not_mounted(format!("found no store, and {why}"), make))
    }

    /// No store is there; who may make one.
    pub(super) fn absent(&self) -> StoreError {
        StoreError::Absent { path: self.disk.root().to_owned(), by_add: self.check_may_make().is_ok() }
    }

    /// Whether every mount point above is mounted that the machine's tables list.
    pub(super) fn check_mounted(&self) -> Result<(), StoreError> {
        let unmounted = self
            .disk
            .unmounted()
            .map_err(|error| crate::store::disk::error::failed(&self.disk, "look at the mounts above", Path::new(""), error))?;
        unmounted.map_or(Ok(()), |listed| Err(self.not_mounted(format!("nothing is mounted at {listed}"), "mount it".to_owned())))
    }

    /// A network configuration is the same on all nodes, and no node could tell by
    /// it alone that the filesystem is missing.
    pub(super) fn check_named(&self, access: Access, local: bool) -> Result<(), StoreError> {
        let by_network = self.terms.as_ref().is_some_and(|terms| terms.named == Named::ByNetwork);
        if local || !by_network || access != Access::Allocate {
            return Ok(());
        }
        Err(StoreError::Unnamed { path: self.disk.root().to_owned() })
    }

    /// Refuses to allocate on a filesystem that is known to fail machines which share
    /// it. A store of one machine is as safe there as that machine's own mount.
    pub(super) fn check_fit(&self, access: Access, local: bool) -> Result<(), StoreError> {
        let is_shared = !local && self.terms.as_ref().is_some_and(|terms| !terms.alone);
        if access != Access::Allocate || !is_shared {
            return Ok(());
        }
        match self.kind()? {
            Kind::Unfit(reason) => Err(StoreError::Unfit { path: self.disk.root().to_owned(), reason }),
            Kind::Unknown | Kind::Needs(_) => Ok(()),
        }
    }

    /// What is known of the filesystem of the store by its type.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn kind(&self) -> Result<Kind, StoreError> {
        self.disk.kind().map_err(|error| crate::store::disk::error::failed(&self.disk, "look at the filesystem of", Path::new(""), error))
    }

    /// Whether names below `nodes` and below `scopes` can be of one file: a subvolume
    /// or another filesystem in the place of one of them makes every claim fail.
    pub(super) fn check_is_one(&self) -> Result<(), StoreError> {
        let device = |name: &str| self.disk.inode(Path::new(name)).ok().map(|found| found.device);
        match (device(layout::NODES), device(layout::SCOPES)) {
            (Some(nodes), Some(scopes)) if nodes != scopes => {
                let error = std::io::Error::from_raw_os_error(nix::libc::EXDEV);
                Err(crate::store::disk::error::failed(&self.disk, "link between nodes and scopes in", Path::new(""), error))
            }
            _ => Ok(()),
        }
    }

    /// Notes, once and durably, that this node uses a store which may be missing
    /// one day. Where nothing can be noted, the flat file has to name the id.
    pub(super) fn note(&self, known: &Known, access: Access, local: bool) {
        let (Some(terms), Some(format)) = (&self.terms, &known.format) else {
            return;
        };
        if known.noted || access == Access::Read || self.acting != Acting::Here || (local && !format.explicit) {
            return;
        }
        let root = self.disk.root();
        let mut nodes = terms.notes.read(root).ok().flatten().map(|note| note.nodes).unwrap_or_default();
        nodes.retain(|node| node != self.host.node.as_str());
        nodes.push(self.host.node.to_string());
        nodes.drain(..nodes.len().saturating_sub(MOST_NAMES));
        let note = Note { data_dir: root.to_owned(), id: format.id.clone(), shared: !local, nodes };
        if let Err(error) = terms.notes.write(&note) {
            tracing::warn!(%error, "that this node uses the store could not be noted, name store_id in the flat file");
        }
    }

    /// Makes a store by an explicit act, under an id where one is given; its id, and
    /// whether it was made just now. `again`: on a local filesystem also where this
    /// node has used another.
    ///
    /// # Errors
    /// The directory is something else, or this node has used another store
    /// there, which is missing.
    pub fn init(&self, id: Option<&str>, again: bool) -> Result<(String, bool), StoreError> {
        let exists = self.exists()?;
        let format = if exists { self.read_format()? } else { None };
        let lost_format = exists && format.is_none() && self.disk.inode(Path::new(layout::SCOPES)).is_ok();
        let note = self.terms.as_ref().map_or(Ok(None), |terms| terms.notes.read(self.disk.root()))?;
        let found = format.as_ref().map(|format| &*format.id);
        if let (Some(id), Some(found)) = (id, found)
            && id != found
        {
            return Err(self
                .not_mounted(format!("expected {id}, found {found}"), "mount the filesystem of the store, or leave --id out".to_owned()));
        }
        // One that is lost is made again under its id.
        let other = note.as_ref().filter(|note| found.or(id) != Some(&note.id));
        if let (Some(other), Some(terms), false) = (other, &self.terms, lost_format) {
            // On a local disk it was removed, and is made again by hand; a shared
            // one is elsewhere.
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
            self.disk.make_root().map_err(|error| crate::store::disk::error::failed(&self.disk, "make directory", Path::new(""), error))?;
        }
        let known = id.map(str::to_owned).or_else(|| note.filter(|_| lost_format).map(|note| note.id));
        let id = self.write_explicit_format(known)?;
        self.ensure(Path::new(layout::SCOPES))?;
        self.ensure(Path::new(layout::NODES))?;
        Ok((id, true))
    }
}

fn forget(root: &Path) -> String {
    format!("; if this node is to use another store there, run \"hereabouts store forget {}\"", root.display())
}
