//! Slices in the Kubernetes API: how a node gets one, shows that it still owns it after a reboot, and
//! gives it back. Addresses inside a slice are given by the file store (`store/sliced`).
//!
//! ```text
//! claim    write the note ASKED . POST the IPSlice (commit) . note OWNED
//! confirm  PATCH the boot with uid and resourceVersion (commit) . note the answer
//! return   note CLOSING . look whether it is empty . DELETE with uid and resourceVersion (commit) .
//!          forget it
//! ```
//!
//! A kill at any point leaves a note whose request the next call of the node sends again, or a slice
//! that is ours and empty. A slice whose object names another boot is empty: no address is given
//! from it before the object names this one.

mod confirm;
mod cut;
mod give_back;
mod review;

use crate::digest;
use crate::ipam::{Block, Scope, Slicing};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::other_kinds::Created;
use crate::store::kube::node_state::slices::{NotedSlice, SliceState};
use crate::store::kube::objects::ip_slice::{self, IpSlice, Owner};
use crate::store::kube::objects::names;
use crate::store::kube::objects::slice_geometry;
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

/// After this many misses, the slices of the pool are listed. A miss is a block that another node
/// owns.
const MISSES_BEFORE_LIST: u32 = 4;

/// For how long no slice is claimed after the cluster was restored to an older state.
const QUIET: Duration = Duration::from_secs(300);

/// The result of an attempt to get a slice from which addresses may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum More {
    /// There is one more.
    Slice,
    /// The node owns as many slices as the pool allows.
    Most,
    /// No block is free.
    None,
    /// The wanted address is in a slice of this node, with this name.
    Elsewhere(String),
}

/// What a node may do with an address that its files say is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The node owns its slice in this boot.
    Owned,
    /// Another node owns the slice now.
    Lost,
    /// The node has given the slice back, or never got it. A call was killed before it printed the
    /// address.
    GivenBack,
}

impl KubeStore {
    /// Returns the blocks of a pool from which this node may give addresses now. Asks nobody. The
    /// files of this cluster are selected already.
    pub(crate) fn usable_blocks(&self, pool: &str) -> Result<Vec<Block>, StoreError> {
        self.state.usable_blocks(pool, &self.host.boot_id)
    }

    /// Binds the notes about slices to the file store with their addresses, see
    /// [`crate::store::kube::node_state::State::bind_files`]. Asks nobody.
    pub(crate) fn bind_files(&self, files: &str, deadline: &Deadline) -> Result<(), StoreError> {
        if self.for_dead_node {
            return Ok(());
        }
        self.find_cluster()?;
        self.state.bind_files(files, &self.host.boot_id, deadline)
    }

    /// Returns what the node knows about the slices of all pools. Asks nobody.
    pub(crate) fn noted_slices(&self) -> Result<Vec<NotedSlice>, StoreError> {
        if self.for_dead_node {
            return Ok(Vec::new());
        }
        self.find_cluster()?;
        Ok(self.state.slices()?.slices)
    }

    /// Returns what this node may do with a slice, in the words of
    /// [`crate::store::slices::OwnSlice`].
    pub(crate) fn state_of_slice(&self, noted: &NotedSlice) -> &'static str {
        match noted.state {
            SliceState::Asked => "asked",
            SliceState::Owned if noted.is_usable(&self.host.boot_id) => "owned",
            SliceState::Owned => "unconfirmed",
            SliceState::Closing => "closing",
            SliceState::Lost => "lost",
        }
    }

    /// Gets one more slice, of which the caller does not know yet: `known` are the blocks that it
    /// has tried. With `wanted`, only the slice that contains this address counts.
    pub(crate) fn get_slice(
        &self,
        slicing: &Slicing,
        known: &[Block],
        wanted: Option<IpAddr>,
        deadline: &Deadline,
    ) -> Result<More, StoreError> {
        let _lock = self.state.lock_slices(deadline)?;
        let is_new = |blocks: &[Block]| blocks.iter().any(|block| !known.contains(block));
        if is_new(&self.usable_blocks(&slicing.pool)?) {
            return Ok(More::Slice);
        }
        self.take_up_own_slices(deadline)?;
        self.settle_noted(&slicing.pool, deadline)?;
        if is_new(&self.usable_blocks(&slicing.pool)?) {
            return Ok(More::Slice);
        }
        let noted = self.state.slices()?.slices;
        let own: Vec<&NotedSlice> =
            noted.iter().filter(|slice| slice.is_of(&slicing.pool)).collect();
        if slicing.most_per_node <= u32::try_from(own.len()).unwrap_or(u32::MAX) {
            return Ok(More::Most);
        }
        self.refuse_after_set_back()?;
        let geometry = self.geometry(slicing, deadline)?;
        match wanted {
            Some(wanted) => self.claim_slice_of(slicing, &geometry, &own, wanted, deadline),
            None => self.claim_any_slice(slicing, &geometry, &own, deadline),
        }
    }

    /// Returns what this node may do with an address in the scope of a pool that its files say is
    /// held.
    pub(crate) fn ownership_of(
        &self,
        pool: &str,
        address: IpAddr,
        deadline: &Deadline,
    ) -> Result<Ownership, StoreError> {
        let is_in = |blocks: &[Block]| blocks.iter().any(|block| block.contains(address));
        if is_in(&self.usable_blocks(pool)?) {
            return Ok(Ownership::Owned);
        }
        let _lock = self.state.lock_slices(deadline)?;
        self.settle_noted(pool, deadline)?;
        if is_in(&self.usable_blocks(pool)?) {
            return Ok(Ownership::Owned);
        }
        let noted = self.state.slices()?.slices;
        let is_noted =
            noted.iter().any(|slice| slice.is_of(pool) && slice.object.block().contains(address));
        Ok(if is_noted { Ownership::Lost } else { Ownership::GivenBack })
    }

    /// Returns the block that the node would claim next, or `None` if it may own no more or none is
    /// free. Claims nothing.
    pub(crate) fn next_free_block(
        &self,
        slicing: &Slicing,
        deadline: &Deadline,
    ) -> Result<Option<Block>, StoreError> {
        let own = self.noted_slices()?;
        let own = own.iter().filter(|slice| slice.is_of(&slicing.pool)).count();
        if slicing.most_per_node <= u32::try_from(own).unwrap_or(u32::MAX) {
            return Ok(None);
        }
        let taken = self.taken_blocks(&slicing.pool, deadline)?;
        Ok(self.blocks_in_turn(slicing).find(|block| !taken.contains(block)))
    }

    /// Returns all blocks of a pool, in the order in which this node tries to claim them.
    fn blocks_in_turn<'s>(&self, slicing: &'s Slicing) -> impl Iterator<Item = Block> + use<'s> {
        let count = slicing.geometry.count();
        let start = start(self.host.node.as_str(), count);
        (start..count).chain(0..start).filter_map(|number| slicing.geometry.slice(number))
    }

    /// Claims the slice that contains an address.
    fn claim_slice_of(
        &self,
        slicing: &Slicing,
        geometry: &str,
        own: &[&NotedSlice],
        wanted: IpAddr,
        deadline: &Deadline,
    ) -> Result<More, StoreError> {
        let Some(block) = slicing.geometry.slice_of(wanted) else { return Ok(More::None) };
        if own.iter().any(|slice| slice.object.block() == block) {
            return Ok(More::None);
        }
        let foreign = self.held_in_other_scopes(&slicing.pool, deadline)?;
        if let Some(address) = foreign.iter().find(|address| block.contains(**address)) {
            return Err(self.slice_in_use(slicing, &block, *address));
        }
        if self.claim_slice(slicing, geometry, &block, deadline)? {
            return Ok(More::Slice);
        }
        let name = block.first().map(|first| names::object(&scope(&slicing.pool), first));
        let name = name.unwrap_or_default();
        let found: Option<IpSlice> = self.api.get_object(ip_slice::PLURAL, &name, deadline)?;
        Ok(found.map_or(More::None, |found| More::Elsewhere(found.spec.node)))
    }

    /// Claims the first block that nobody owns. Each node begins at another one.
    fn claim_any_slice(
        &self,
        slicing: &Slicing,
        geometry: &str,
        own: &[&NotedSlice],
        deadline: &Deadline,
    ) -> Result<More, StoreError> {
        let own: HashSet<Block> = own.iter().map(|slice| slice.object.block()).collect();
        let foreign = self.held_in_other_scopes(&slicing.pool, deadline)?;
        let (mut misses, mut taken) = (0, None);
        let mut barred = None;
        for block in self.blocks_in_turn(slicing) {
            if own.contains(&block) {
                continue;
            }
            if misses == MISSES_BEFORE_LIST && taken.is_none() {
                taken = Some(self.taken_blocks(&slicing.pool, deadline)?);
            }
            if taken.as_ref().is_some_and(|taken: &HashSet<Block>| taken.contains(&block)) {
                continue;
            }
            if let Some(address) = foreign.iter().find(|address| block.contains(**address)) {
                barred = Some((block, *address));
                continue;
            }
            if self.claim_slice(slicing, geometry, &block, deadline)? {
                return Ok(More::Slice);
            }
            misses += 1;
            if deadline.left().is_zero() {
                let reason = format!(
                    "other nodes took every slice of the pool {} that was tried ({misses}); the last was {block}",
                    slicing.pool
                );
                return Err(self.api.contended("create", ip_slice::PLURAL, &reason, deadline));
            }
        }
        match barred {
            Some((block, address)) => Err(self.slice_in_use(slicing, &block, address)),
            None => Ok(More::None),
        }
    }

    /// Returns the error for a block in which somebody holds an address in another scope.
    fn slice_in_use(&self, slicing: &Slicing, block: &Block, address: IpAddr) -> StoreError {
        StoreError::SliceInUse { pool: slicing.pool.clone(), block: block.to_string(), address }
    }

    /// Claims one block. Returns whether this node owns it now.
    fn claim_slice(
        &self,
        slicing: &Slicing,
        geometry: &str,
        block: &Block,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let owner = self.owner();
        let object = IpSlice::new(&slicing.pool, geometry, block, &owner, self.now());
        let Some(object) = object else { return Ok(false) };
        let asked = NotedSlice::new(object, SliceState::Asked);
        self.state.note_slice(&asked, deadline)?;
        self.create_asked(&asked, deadline)
    }

    /// Creates the object of a note. Returns whether the node owns the slice now. An attempt whose
    /// answer was lost leaves the note, and the next call of the node sends the same object again.
    fn create_asked(&self, asked: &NotedSlice, deadline: &Deadline) -> Result<bool, StoreError> {
        let name = asked.name().to_owned();
        let made = match self.api.create_object(ip_slice::PLURAL, &name, &asked.object, deadline) {
            Ok(Created::Made(made)) => Some(made),
            Ok(Created::Taken) => {
                let found: Option<IpSlice> =
                    self.api.get_object(ip_slice::PLURAL, &name, deadline)?;
                // Only an object with exactly this content is what the note asked for.
                found.filter(|found| found.spec == asked.object.spec)
            }
            Err(failed) if failed.outcome_unknown || asked.again => return Err(failed.error),
            Err(failed) => {
                self.state.forget_slice(&name, deadline)?;
                return Err(failed.error);
            }
        };
        match made {
            Some(made) => {
                self.state.note_slice(&NotedSlice::new(made, SliceState::Owned), deadline)?;
                Ok(true)
            }
            None if asked.again => self.lose(asked.clone(), deadline).map(|()| false),
            None => self.state.forget_slice(&name, deadline).map(|()| false),
        }
    }

    /// Returns the blocks of a pool that have an owner.
    fn taken_blocks(&self, pool: &str, deadline: &Deadline) -> Result<HashSet<Block>, StoreError> {
        let selector = format!("{}={}", names::SCOPE, names::of_scope(&scope(pool)));
        let found: Vec<IpSlice> = self.api.list_objects(ip_slice::PLURAL, &selector, deadline)?;
        Ok(found.iter().map(IpSlice::block).collect())
    }

    /// Returns the addresses that IPAllocations hold in any scope but that of the pool. A slice is
    /// claimed only where there are none: a network that named its range before may still have pods
    /// there.
    ///
    /// # Errors
    /// Also that the cluster was restored lately.
    fn held_in_other_scopes(
        &self,
        pool: &str,
        deadline: &Deadline,
    ) -> Result<Vec<IpAddr>, StoreError> {
        let own = format!("{}.", slice_geometry::name(pool));
        let mut held = Vec::new();
        self.api.names("", deadline, &mut |name| {
            if !name.starts_with(&own)
                && let Some(address) = names::parse(name)
            {
                held.push(address);
            }
        })?;
        // The list may be the first answer that shows it.
        self.refuse_after_set_back()?;
        held.sort_unstable();
        held.dedup();
        Ok(held)
    }

    /// Refuses to claim a slice for some minutes after the cluster was restored to an older state:
    /// the owners of slices whose objects are gone come first.
    fn refuse_after_set_back(&self) -> Result<(), StoreError> {
        match self.state.since_set_back() {
            Some(since) if since < QUIET => Err(StoreError::RestoredLately {
                left: humantime::format_duration(whole_seconds(QUIET - since)).to_string(),
            }),
            _ => Ok(()),
        }
    }

    fn owner(&self) -> Owner<'_> {
        Owner {
            node: &self.host.node,
            machine: self.machine.as_deref(),
            node_uid: self.node_uid.as_deref(),
            boot_id: &self.host.boot_id,
        }
    }
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().max(1))
}

fn scope(pool: &str) -> Scope {
    Scope::of_slices(pool)
}

/// Returns the number of the slice at which a node begins to look.
fn start(node: &str, count: u32) -> u32 {
    let hash = digest::of_parts(&["slice", node]);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % count.max(1)
}
