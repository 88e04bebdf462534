//! The file store: one file per address, below one directory, for one machine or on a filesystem
//! that several machines share.
//!
//! link(2) decides who holds an address: it is exclusive, whatever the locks do. The lock keeps
//! apart two calls of one attachment, and two searches that see the same candidate. `docs/store.md`
//! describes the format, the orders and the assumptions.
//!
//! ```text
//! claim    write INDEX ENTRY . sync it . sync its directory .
//!          link NAME to it (commit) . sync its directory . link @pods
//! release  unlink NAME (commit) . sync its directory . unlink @pods . unlink entry
//! ```
//!
//! A kill at any step leaves at most an index entry without a name. Readers ignore it, and later
//! calls remove it.

mod claim;
mod claim_several;
mod durable;
mod earlier_names;
mod empty_directories;
mod expected_store;
mod free_address;
mod gateways;
mod given_notes;
mod hint;
mod index;
mod layout;
mod links;
mod listing;
mod lock_waits;
mod nested;
mod prepare;
pub mod probe;
mod record;
mod record_writer;
mod rehome;
mod session;
mod sticky;
mod store_notes;
pub mod upkeep;

pub(crate) use self::record::{record_from_json, record_to_json};
use super::disk::error::{below, failed, is_gone, reason};
use super::disk::{Content, Disk, Held, RealDisk};
use super::node_identity::NodeIdentity;
use super::{Access, Filter, Listing, Session, Store, StoreError};
use crate::addr::AddrSet;
use crate::ipam::{Allocation, Attachment, Life, NodeName, Record, Scope, Source, Sticky};
use crate::retry::Deadline;
use durable::sync_name;
pub use expected_store::{Named, Terms};
pub(crate) use layout::POOLS;
use links::{failed_link, is_taken};
use lock_waits::refused_lock;
use session::FileSession;
use std::cell::OnceCell;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use store_notes::Notes;

/// The node for which the store acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acting {
    /// This node.
    Here,
    /// Another node. Which machine it is does not matter.
    Elsewhere,
    /// A node that is permanently off. The note of its machine is removed.
    Off,
}

/// The file store.
pub struct FileStore<D: Disk> {
    disk: D,
    host: NodeIdentity,
    acting: Acting,
    life: Option<fn(&Record) -> Life>,
    /// The conditions for the directory; `None` if any directory is accepted.
    terms: Option<Terms>,
    /// The id of the store, after the check that it is the expected one.
    agreed: OnceCell<String>,
    /// The result of the search for earlier names, once it was made: see `earlier_names`.
    earlier: OnceCell<Vec<NodeName>>,
}

impl FileStore<RealDisk> {
    /// Returns the store in a directory, which need not exist yet.
    #[must_use]
    pub fn new(data_dir: PathBuf, host: NodeIdentity) -> Self {
        Self::on(RealDisk::new(data_dir), host)
    }
}

impl<D: Disk> FileStore<D> {
    /// Returns the store on any disk; tests pass their own.
    pub const fn on(disk: D, host: NodeIdentity) -> Self {
        Self {
            disk,
            host,
            acting: Acting::Here,
            life: None,
            terms: None,
            agreed: OnceCell::new(),
            earlier: OnceCell::new(),
        }
    }

    /// Acts for a node that is off and cannot act for itself. The next session removes the note of
    /// its machine.
    #[must_use]
    pub fn for_dead_node(mut self) -> Self {
        self.acting = Acting::Off;
        self
    }

    /// Acts for another node that may come back under its name.
    #[must_use]
    pub fn for_another_node(mut self) -> Self {
        self.acting = Acting::Elsewhere;
        self
    }

    /// Sets the function that decides whether the sandbox of a record of another boot still exists.
    /// Without it, every such sandbox counts as gone.
    #[must_use]
    pub fn classifying_with(mut self, life: fn(&Record) -> Life) -> Self {
        self.life = Some(life);
        self
    }

    /// Uses the directory only under these conditions.
    #[must_use]
    pub fn under(mut self, terms: Terms) -> Self {
        self.terms = Some(terms);
        self
    }

    /// Returns the disk, so that tests can inspect it.
    pub const fn disk(&self) -> &D {
        &self.disk
    }

    /// Returns whether there is a store in the directory.
    ///
    /// # Errors
    /// The directory cannot be read.
    #[cfg(feature = "kube")]
    pub(in crate::store) fn is_there(&self) -> Result<bool, StoreError> {
        Ok(self.known()?.format.is_some())
    }

    /// Returns the id of the store in the directory.
    #[cfg(feature = "kube")]
    pub(in crate::store) fn id(&self) -> Result<Option<String>, StoreError> {
        Ok(self.known()?.format.map(|format| format.id))
    }

    /// Returns the store's id; `None` if there is no store and none is to be created.
    fn find_or_make(
        &self,
        access: Access,
        deadline: &Deadline,
    ) -> Result<Option<String>, StoreError> {
        let known = self.known()?;
        if let Some(format) = &known.format {
            let local = self.is_local_or_tell()?;
            self.check_named(access, local)?;
            self.check_fit(access, local)?;
            self.note_store(&known, access, local);
            let _ = self.agreed.set(format.id.clone());
            return Ok(Some(format.id.clone()));
        }
        if !self.make_place(access)? {
            return Ok(None);
        }
        // Things that are created once are created under the store's lock.
        let _lock = self.wait_store(self.is_local()?, deadline)?;
        match self.read_format()? {
            Some(format) => Ok(Some(format.id)),
            None => self.write_format().map(Some),
        }
    }

    /// See [`Store::open`].
    fn open_session(
        &self,
        access: Access,
        deadline: Deadline,
    ) -> Result<FileSession<'_, D>, StoreError> {
        let Some(id) = self.find_or_make(access, &deadline)? else {
            return Ok(FileSession::absent(self, deadline));
        };
        if access == Access::Allocate
            && let Err(error) = self.begin_given()
        {
            tracing::warn!(%error, "cannot note the addresses that this node already holds");
        }
        if self.is_local()? {
            let store_lock = self.wait_store(true, &deadline)?;
            self.check_machine(access)?;
            return Ok(FileSession::local(self, access, deadline, store_lock));
        }
        let machine_lock = self.wait_machine(&id, &deadline)?;
        self.check_machine(access)?;
        Ok(FileSession::shared(self, access, deadline, machine_lock))
    }

    /// Prepares the directory for a new store. Returns whether a store may be created.
    fn make_place(&self, access: Access) -> Result<bool, StoreError> {
        let exists = self.exists()?;
        if exists {
            self.check_not_foreign()?;
        }
        if access != Access::Allocate {
            return Ok(false);
        }
        self.check_fit(access, self.is_local_or_tell()?)?;
        self.check_may_make()?;
        if !exists {
            self.disk
                .make_root()
                .map_err(|error| failed(&self.disk, "make directory", Path::new(""), error))?;
        }
        Ok(true)
    }

    fn exists(&self) -> Result<bool, StoreError> {
        self.disk
            .exists()
            .map_err(|error| failed(&self.disk, "open directory", Path::new(""), error))
    }
}

impl<D: Disk> Store for FileStore<D> {
    fn lock_attachment(
        &self,
        attachment: &Attachment,
        access: Access,
        deadline: Deadline,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        if self.find_or_make(access, &deadline)?.is_none() {
            return Ok(None);
        }
        if access == Access::Release {
            self.check_not_renamed(attachment)?;
        }
        self.wait_each_name(attachment, &deadline).map(Some)
    }

    fn try_lock_attachment(
        &self,
        attachment: &Attachment,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        if self.find_or_make(Access::Release, &Deadline::after(Duration::ZERO))?.is_none() {
            return Ok(None);
        }
        self.try_attachment(attachment)
    }

    fn noted(&self, attachment: &Attachment) -> Option<Vec<Allocation>> {
        self.find_or_make(Access::Read, &Deadline::after(Duration::ZERO)).ok()??;
        let mut held = Vec::new();
        for entry in index::entries(&self.disk, &layout::attachment(attachment)).ok()? {
            match entry.state {
                index::State::Live(allocation) if allocation.record.attachment == *attachment => {
                    held.push(*allocation)
                }
                index::State::Live(_) | index::State::DanglingEntry(_) => {}
                index::State::Damaged(_) => return None,
            }
        }
        Some(held)
    }

    fn open(
        &self,
        access: Access,
        deadline: Deadline,
    ) -> Result<Box<dyn Session + '_>, StoreError> {
        Ok(Box::new(self.open_session(access, deadline)?))
    }

    fn list(&self, filter: &Filter) -> Result<Listing<'_>, StoreError> {
        if self.known()?.format.is_none() {
            return Err(self.absent());
        }
        let mut all = listing::list(&self.disk, filter.clone())?;
        if filter.earlier_names && filter.node.as_ref() == Some(&self.host.node) {
            for node in self.earlier_names()? {
                all = Box::new(all.chain(listing::list(
                    &self.disk,
                    Filter { node: Some(node.clone()), ..filter.clone() },
                )?));
            }
        }
        Ok(all)
    }

    fn ready(&self) -> Result<(), StoreError> {
        self.read_note()?;
        self.check_fit(Access::Allocate, self.is_local_or_tell()?)?;
        self.disk
            .check_writable()
            .map_err(|error| failed(&self.disk, "write to", Path::new(""), error))?;
        if self.known()?.format.is_none() {
            if self.exists()? {
                self.check_not_foreign()?;
            }
            self.check_may_make()?;
        }
        self.check_is_one()?;
        self.check_case()?;
        self.check_named(Access::Allocate, self.is_local()?)
    }

    fn has_room(&self, scope: &Scope, candidates: &AddrSet) -> Result<bool, StoreError> {
        Ok(self.lowest_free(scope, candidates, Source::Dynamic)?.is_some())
    }

    fn lowest_free(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        source: Source,
    ) -> Result<Option<IpAddr>, StoreError> {
        if !self.exists()? {
            return Ok(candidates.nth(0));
        }
        let gateways = gateways::Gateways::new(self, scope, source);
        for hint in [hint::FullShards::read(&self.disk, scope), hint::FullShards::default()] {
            let bars = |address| gateways.bars(address);
            let search = free_address::find_free(&self.disk, scope, candidates, &hint, &bars)?;
            if search.free.is_some() {
                return Ok(search.free);
            }
        }
        Ok(None)
    }

    fn sticky(&self, scope: &Scope, _: Deadline) -> Result<Vec<Sticky>, StoreError> {
        self.read_sticky(scope)
    }

    fn remember(&self, scope: &Scope, sticky: &Sticky, _: Deadline) -> Result<(), StoreError> {
        self.write_sticky(scope, sticky)
    }
}

/// Returns a name in the node's @tmp that no other process uses.
fn unique(disk: &dyn Disk, node: &NodeName) -> PathBuf {
    let nanos =
        disk.now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    layout::temporary(node).join(format!("{}.{nanos:x}", std::process::id()))
}

/// Reads a file; returns `None` if it does not exist.
fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Content>, StoreError> {
    match disk.read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(disk, "read", path, error)),
    }
}

/// Flushes a file, or the names in a directory.
fn sync(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    disk.sync(path).map_err(|error| failed(disk, "sync", path, error))
}

/// Removes a name. Succeeds if the name is already gone.
fn remove(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    match disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(disk, "remove", path, error))
        }
        _ => Ok(()),
    }
}
