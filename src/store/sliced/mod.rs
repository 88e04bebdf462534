//! The Kubernetes store together with slices: blocks of a pool that this node owns.
//!
//! Which node owns a block is decided by the API server (`store/kube/slices`). Who holds an address
//! inside a block is decided by a file store on the node's own disk: an ADD there asks nobody.
//! Everything that ends or shows what an attachment holds asks both halves, whatever the network
//! says today.
//!
//! An address is claimed in a file first, and then the notes about slices are read again: a slice
//! that is being given back is marked first, and then the files are looked at. So one of the two
//! sees the other.

mod session;
mod upkeep;

use super::disk::{Disk, Held};
use super::file::FileStore;
use super::ipam_claims::IpamClaims;
use super::kube::KubeStore;
use super::pools::{Read, StoredPool};
use super::{Access, Filter, HeldListing, Listing, Session, Store, StoreError};
use crate::addr::{AddrSet, Blocks, Subnet};
use crate::ipam::{Allocation, Attachment, Block, HeldAddress, Scope, Slicing, Source, Sticky};
use crate::retry::Deadline;
use session::SlicedSession;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// The directory of the addresses in slices, below the directory of the node state.
pub const DIRECTORY: &str = "slices";

/// How long STATUS and `explain` wait for the API server.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub struct SlicedStore<D: Disk> {
    kube: KubeStore,
    files: FileStore<D>,
    /// Whether the files are those of the node for which the store acts.
    are_files_known: bool,
    slicing: RefCell<Option<Rc<Slicing>>>,
    /// Why the last claim got no further slice.
    why_full: RefCell<Option<String>>,
}

/// Returns the block that the node would claim next.
type Next<'n> = &'n dyn Fn(&Slicing, &Deadline) -> Result<Option<Block>, StoreError>;

/// The locks of an attachment in both halves.
struct Both {
    _kube: Box<dyn Held>,
    _files: Option<Box<dyn Held>>,
}

impl Held for Both {}

impl<D: Disk> SlicedStore<D> {
    /// Returns the store of both halves. `files` is on a disk that only this machine uses.
    pub const fn new(kube: KubeStore, files: FileStore<D>) -> Self {
        Self {
            kube,
            files,
            are_files_known: true,
            slicing: RefCell::new(None),
            why_full: RefCell::new(None),
        }
    }

    /// Leaves the files out: the caller names another cluster, or a node that is off, and the files
    /// on this machine are not about either.
    #[must_use]
    pub const fn without_files(mut self) -> Self {
        self.are_files_known = false;
        self
    }

    /// Lets the notes about slices be about these files, and no others.
    fn bind_files(&self, deadline: &Deadline) -> Result<(), StoreError> {
        self.files.id()?.map_or(Ok(()), |files| self.kube.bind_files(&files, deadline))
    }

    /// Returns the access to the files: only an ADD that draws from slices creates them.
    fn to_files(&self, access: Access) -> Access {
        match access {
            Access::Allocate if self.slicing.borrow().is_none() => Access::Release,
            access => access,
        }
    }

    /// Returns whether there are files.
    fn has_files(&self) -> Result<bool, StoreError> {
        Ok(self.are_files_known && self.files.is_there()?)
    }

    /// Returns the slices from which addresses of the scope are given.
    fn slicing(&self, scope: &Scope) -> Option<Rc<Slicing>> {
        let slicing = self.slicing.borrow();
        slicing.as_ref().filter(|slicing| Scope::of_slices(&slicing.pool) == *scope).cloned()
    }

    /// Returns the lowest free address in the node's slices, or in the next one.
    fn free(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        source: Source,
        next: Next<'_>,
    ) -> Result<Option<IpAddr>, StoreError> {
        let Some(slicing) = self.slicing(scope) else { return Ok(None) };
        self.kube.find_cluster()?;
        let own = within(candidates, &self.kube.usable_blocks(&slicing.pool)?);
        if !own.is_empty()
            && let Some(free) = self.files.lowest_free(scope, &own, source)?
        {
            return Ok(Some(free));
        }
        let deadline = Deadline::after(PATIENCE);
        let next = next(&slicing, &deadline)?;
        Ok(next.and_then(|block| within(candidates, &[block]).nth(0)))
    }
}

/// Returns the candidates that are in one of the blocks.
fn within(candidates: &AddrSet, blocks: &[Block]) -> AddrSet {
    let subnets = blocks.iter().filter_map(|block| block.of(candidates.family()));
    let owned: Blocks = subnets.map(|subnet| subnet.whole()).collect();
    candidates.within(&owned)
}

/// Returns whether a candidate is in the block.
fn has_any(candidates: &AddrSet, block: &Block) -> bool {
    let subnet = block.of(candidates.family());
    subnet.is_some_and(|subnet| candidates.has_any_of(&subnet.whole()))
}

impl<D: Disk> Store for SlicedStore<D> {
    fn lock_attachment(
        &self,
        attachment: &Attachment,
        access: Access,
        deadline: Deadline,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        let Some(kube) = self.kube.lock_attachment(attachment, access, deadline)? else {
            return Ok(None);
        };
        let files = match self.are_files_known {
            true => self.files.lock_attachment(attachment, self.to_files(access), deadline)?,
            false => None,
        };
        Ok(Some(Box::new(Both { _kube: kube, _files: files })))
    }

    fn try_lock_attachment(
        &self,
        attachment: &Attachment,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        let Some(kube) = self.kube.try_lock_attachment(attachment)? else { return Ok(None) };
        if !self.has_files()? {
            return Ok(Some(Box::new(Both { _kube: kube, _files: None })));
        }
        let files = self.files.try_lock_attachment(attachment)?;
        Ok(files.map(|files| Box::new(Both { _kube: kube, _files: Some(files) }) as _))
    }

    fn noted(&self, attachment: &Attachment) -> Option<Vec<Allocation>> {
        let mut noted = self.kube.noted(attachment)?;
        if self.has_files().ok()? {
            noted.extend(self.files.noted(attachment)?);
        }
        Some(noted)
    }

    fn open(
        &self,
        access: Access,
        deadline: Deadline,
    ) -> Result<Box<dyn Session + '_>, StoreError> {
        let kube = self.kube.open(access, deadline)?;
        Ok(Box::new(SlicedSession::new(self, kube, access, deadline)))
    }

    fn list(&self, filter: &Filter) -> Result<Listing<'_>, StoreError> {
        let kube = self.kube.list(filter)?;
        match self.has_files()? {
            true => Ok(Box::new(self.files.list(filter)?.chain(kube))),
            false => Ok(kube),
        }
    }

    fn list_held(&self, filter: &Filter) -> Result<HeldListing<'_>, StoreError> {
        let kube = self.kube.list_held(filter)?;
        if !self.has_files()? {
            return Ok(kube);
        }
        let files = self.files.list(filter)?.map(|item| item.map(HeldAddress::from));
        // The files first: they can be read while the API server is away.
        Ok(Box::new(files.chain(kube)))
    }

    fn ready(&self) -> Result<(), StoreError> {
        self.kube.ready()
    }

    fn has_room(&self, scope: &Scope, candidates: &AddrSet) -> Result<bool, StoreError> {
        if !scope.is_of_slices() {
            return self.kube.has_room(scope, candidates);
        }
        let has_candidates = |block: &Block| has_any(candidates, block);
        let next = |slicing: &Slicing, deadline: &Deadline| {
            self.kube.next_free_block(slicing, &has_candidates, deadline)
        };
        Ok(self.free(scope, candidates, Source::Dynamic, &next)?.is_some())
    }

    fn lowest_free(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        source: Source,
    ) -> Result<Option<IpAddr>, StoreError> {
        if !scope.is_of_slices() {
            return self.kube.lowest_free(scope, candidates, source);
        }
        let has_candidates = |block: &Block| has_any(candidates, block);
        self.free(scope, candidates, source, &|slicing, deadline| {
            self.kube.next_block_to_claim(slicing, &has_candidates, deadline)
        })
    }

    fn pool(
        &self,
        name: &str,
        read: Read,
        deadline: Deadline,
    ) -> Result<Option<StoredPool>, StoreError> {
        self.kube.pool(name, read, deadline)
    }

    fn ipam_claims(&self) -> Option<&dyn IpamClaims> {
        self.kube.ipam_claims()
    }

    fn why_full(&self, scope: &Scope) -> Option<String> {
        self.why_full.borrow().clone().filter(|_| scope.is_of_slices())
    }

    fn draw_from(&self, slicing: &Rc<Slicing>) -> Result<bool, StoreError> {
        let disk = self.files.disk();
        let is_local = disk.is_local().map_err(|error| {
            super::disk::error::failed(disk, "open directory", std::path::Path::new(""), error)
        })?;
        if !is_local {
            return Err(StoreError::Unfit {
                path: disk.root().to_owned(),
                reason: "the addresses of a node's slices belong on its own disk".to_owned(),
            });
        }
        *self.slicing.borrow_mut() = Some(Rc::clone(slicing));
        Ok(true)
    }

    fn node_labels(
        &self,
        read: Read,
        deadline: Deadline,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        self.kube.node_labels(read, deadline)
    }

    fn expect_ranges(&self, ranges: &[Subnet]) {
        self.kube.expect_ranges(ranges);
    }

    fn forget_shown(
        &self,
        attachment: &Attachment,
        ranges: &dyn Fn() -> Option<(Scope, Vec<Subnet>)>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.kube.forget_shown(attachment, ranges, deadline)
    }

    fn sticky(&self, scope: &Scope, deadline: Deadline) -> Result<Vec<Sticky>, StoreError> {
        self.kube.sticky(scope, deadline)
    }

    fn remember(
        &self,
        scope: &Scope,
        sticky: &Sticky,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.kube.remember(scope, sticky, deadline)
    }
}
