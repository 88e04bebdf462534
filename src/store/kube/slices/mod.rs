//! Slices in the Kubernetes API: how a node gets one, shows that it still owns it after a reboot, and
//! gives it back. Addresses inside a slice are given by the file store (`store/sliced`).
//!
//! ```text
//! claim    write the note ASKED . POST the IPSlice (commit) . look for slices of other pools in the
//!          block . note OWNED
//! confirm  PATCH the boot with uid and resourceVersion (commit) . note the answer
//! return   note CLOSING . look whether it is empty . DELETE with uid and resourceVersion (commit) .
//!          forget it
//! ```
//!
//! `publish` writes into the status of the objects who holds an address. It is for people: nothing
//! else reads the status.
//!
//! A kill at any point leaves a note whose request the next call of the node sends again, or a slice
//! that is ours and empty. A slice whose object names another boot is empty: no address is given
//! from it before the object names this one.

mod confirm;
mod contact;
mod cut;
mod give_back;
mod others;
pub(crate) mod publish;
mod restored;
mod review;

use crate::digest;
use crate::ipam::{Block, Scope, Slicing, names_network};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::other_kinds::Created;
use crate::store::kube::node_state::slices::{NotedSlice, SliceState};
use crate::store::kube::objects::ip_slice::{self, IpSlice, Owner};
use crate::store::kube::objects::names;
use others::{OtherSlice, held_in, overlap};
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

/// What a caller needs from a slice that it does not have yet.
pub(crate) struct Need<'a> {
    /// The blocks that it has tried.
    pub(crate) known: &'a [Block],
    /// The address that the slice must contain.
    pub(crate) wanted: Option<IpAddr>,
    /// Whether a block has addresses that the network gives.
    pub(crate) has_candidates: &'a dyn Fn(&Block) -> bool,
}

/// What became of a slice that was asked for.
enum Asked {
    /// The node owns it.
    Owned,
    /// Another node was faster.
    Taken,
    /// It was given back, because slices of other pools are in its block, perhaps others of these.
    Overlaps(Vec<OtherSlice>),
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

    /// Returns the same for an ADD: after a look at the cluster, if there are some and the last look
    /// was long ago, see `contact`.
    pub(crate) fn blocks_for_add(
        &self,
        pool: &str,
        deadline: &Deadline,
    ) -> Result<Vec<Block>, StoreError> {
        let noted = self.state.slices()?;
        let blocks = noted.usable_blocks(pool, &self.host.boot_id);
        if blocks.is_empty() || !self.is_long_ago(&noted) {
            return Ok(blocks);
        }
        self.look(deadline);
        self.usable_blocks(pool)
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

    /// Gets one more slice, of which the caller does not know yet.
    pub(crate) fn get_slice(
        &self,
        slicing: &Slicing,
        need: &Need<'_>,
        deadline: &Deadline,
    ) -> Result<More, StoreError> {
        let _lock = self.state.lock_slices(deadline)?;
        let is_new = |blocks: &[Block]| blocks.iter().any(|block| !need.known.contains(block));
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
        match need.wanted {
            Some(wanted) => self.claim_slice_of(slicing, &geometry, &own, wanted, deadline),
            None => self.claim_any_slice(slicing, &geometry, &own, need, deadline),
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
    /// free. Claims nothing, and does not look at other scopes and pools.
    pub(crate) fn next_free_block(
        &self,
        slicing: &Slicing,
        has_candidates: &dyn Fn(&Block) -> bool,
        deadline: &Deadline,
    ) -> Result<Option<Block>, StoreError> {
        Ok(self.free_blocks(slicing, has_candidates, deadline)?.next())
    }

    /// Returns the blocks that the node may claim, in its order: none if it may own no more.
    fn free_blocks<'s>(
        &self,
        slicing: &'s Slicing,
        has_candidates: &'s dyn Fn(&Block) -> bool,
        deadline: &Deadline,
    ) -> Result<impl Iterator<Item = Block> + use<'s>, StoreError> {
        let own = self.noted_slices()?;
        let own = own.iter().filter(|slice| slice.is_of(&slicing.pool)).count();
        let may_own_more = u32::try_from(own).is_ok_and(|own| own < slicing.most_per_node);
        let taken = match may_own_more {
            true => Some(self.taken_names(&slicing.pool, deadline)?),
            false => None,
        };
        Ok(self.blocks_in_turn(slicing).filter(move |block| {
            has_candidates(block)
                && taken.as_ref().is_some_and(|taken| !is_taken(slicing, block, taken))
        }))
    }

    /// Returns the same after a look at other scopes and pools.
    ///
    /// # Errors
    /// Also what bars the last block.
    pub(crate) fn next_block_to_claim(
        &self,
        slicing: &Slicing,
        has_candidates: &dyn Fn(&Block) -> bool,
        deadline: &Deadline,
    ) -> Result<Option<Block>, StoreError> {
        let mut free = self.free_blocks(slicing, has_candidates, deadline)?.peekable();
        if free.peek().is_none() {
            return Ok(None);
        }
        let foreign = self.held_in_other_scopes(slicing, deadline)?;
        let (mut others, mut barred) = (Vec::new(), None);
        for block in free {
            if let Some(held) = held_in(&foreign, &block) {
                barred = Some(self.slice_in_use(slicing, &block, held, deadline));
                continue;
            }
            if overlap(slicing, &block, &others).is_none() {
                let beside = (slicing.pool.as_str(), slicing.may_overlap.as_slice());
                others = self.slices_of_other_pools(beside, &block, None, deadline)?;
            }
            match overlap(slicing, &block, &others) {
                None => return Ok(Some(block)),
                overlaps => barred = overlaps,
            }
        }
        barred.map_or(Ok(None), Err)
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
        let foreign = self.held_in_other_scopes(slicing, deadline)?;
        if let Some(held) = held_in(&foreign, &block) {
            return Err(self.slice_in_use(slicing, &block, held, deadline));
        }
        match self.claim_slice(slicing, geometry, &block, deadline)? {
            Asked::Owned => return Ok(More::Slice),
            Asked::Taken => {}
            Asked::Overlaps(others) => {
                return Err(overlap(slicing, &block, &others).unwrap_or(StoreError::Changed));
            }
        }
        let name = name(&slicing.pool, &block).unwrap_or_default();
        let found: Option<IpSlice> = self.api.get_object(ip_slice::PLURAL, &name, deadline)?;
        Ok(found.map_or(More::None, |found| More::Elsewhere(found.spec.node)))
    }

    /// Claims the first block that nobody owns. Each node begins at another one.
    fn claim_any_slice(
        &self,
        slicing: &Slicing,
        geometry: &str,
        own: &[&NotedSlice],
        need: &Need<'_>,
        deadline: &Deadline,
    ) -> Result<More, StoreError> {
        let own: HashSet<Block> = own.iter().map(|slice| slice.object.block()).collect();
        let foreign = self.held_in_other_scopes(slicing, deadline)?;
        let (mut misses, mut taken) = (0, None);
        let (mut barred, mut in_use) = (None, None);
        let mut others = Vec::new();
        for block in self.blocks_in_turn(slicing) {
            if own.contains(&block) || !(need.has_candidates)(&block) {
                continue;
            }
            if misses == MISSES_BEFORE_LIST && taken.is_none() {
                taken = Some(self.taken_names(&slicing.pool, deadline)?);
            }
            if taken.as_ref().is_some_and(|taken| is_taken(slicing, &block, taken)) {
                continue;
            }
            if let Some(held) = held_in(&foreign, &block) {
                in_use = Some((block, held));
                continue;
            }
            if let Some(error) = overlap(slicing, &block, &others) {
                barred = Some(error);
                continue;
            }
            match self.claim_slice(slicing, geometry, &block, deadline)? {
                Asked::Owned => return Ok(More::Slice),
                Asked::Taken => misses += 1,
                Asked::Overlaps(found) => {
                    barred = overlap(slicing, &block, &found);
                    others = found;
                }
            }
            if deadline.left().is_zero() {
                let reason = format!(
                    "other nodes took every slice of the pool {} that was tried ({misses}); the last was {block}",
                    slicing.pool
                );
                return Err(self.api.contended("create", ip_slice::PLURAL, &reason, deadline));
            }
        }
        match (in_use, barred) {
            (Some((block, held)), _) => Err(self.slice_in_use(slicing, &block, held, deadline)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(More::None),
        }
    }

    /// Claims one block.
    fn claim_slice(
        &self,
        slicing: &Slicing,
        geometry: &str,
        block: &Block,
        deadline: &Deadline,
    ) -> Result<Asked, StoreError> {
        let owner = self.owner();
        let object = IpSlice::new(&slicing.pool, geometry, block, &owner, self.now());
        let Some(object) = object else { return Ok(Asked::Taken) };
        let may_overlap = slicing.may_overlap.clone();
        let asked = NotedSlice { may_overlap, ..NotedSlice::new(object, SliceState::Asked) };
        self.state.note_slice(&asked, deadline)?;
        self.create_asked(&asked, deadline)
    }

    /// Creates the object of a note. An attempt whose answer was lost leaves the note, and the next
    /// call of the node sends the same object again.
    fn create_asked(&self, asked: &NotedSlice, deadline: &Deadline) -> Result<Asked, StoreError> {
        let name = asked.name().to_owned();
        let made = match self.api.create_object(ip_slice::PLURAL, &name, &asked.object, deadline) {
            Ok(Created::Made(made)) => Some(made),
            Ok(Created::Taken) => {
                let found: Option<IpSlice> =
                    self.api.get_object(ip_slice::PLURAL, &name, deadline)?;
                match found {
                    // Only an object with exactly this content is what the note asked for.
                    Some(found) if found.spec == asked.object.spec => Some(found),
                    Some(found) if asked.again => {
                        self.take_over_returned(asked, &found, deadline)?
                    }
                    _ => None,
                }
            }
            Err(failed) if failed.outcome_unknown || asked.again => return Err(failed.error),
            Err(failed) => {
                self.state.forget_slice(&name, deadline)?;
                return Err(failed.error);
            }
        };
        let Some(made) = made else {
            match asked.again {
                true => self.lose(asked.clone(), deadline)?,
                false => self.state.forget_slice(&name, deadline)?,
            }
            return Ok(Asked::Taken);
        };
        // Pods may hold addresses of a slice that the cluster had lost.
        if !asked.again {
            if names_network(&made.spec.pool) && !self.is_cut_so(&made, deadline)? {
                self.withdraw_slice(&made, deadline)?;
                return Err(StoreError::Changed);
            }
            let (pool, may_overlap) = (&made.spec.pool, &asked.may_overlap);
            let block = made.block();
            let others =
                self.slices_of_other_pools((pool, may_overlap), &block, Some(&made), deadline)?;
            if others.iter().any(|other| other.overlaps(&block)) {
                self.withdraw_slice(&made, deadline)?;
                return Ok(Asked::Overlaps(others));
            }
            // An earlier attempt may have been about to withdraw it.
            self.state.forget_given_back(made.metadata.uid.as_deref(), deadline)?;
        }
        self.note_owned(NotedSlice::new(made, SliceState::Owned), deadline)?;
        Ok(Asked::Owned)
    }

    /// Lists the slices of a pool.
    fn slices_of(&self, pool: &str, deadline: &Deadline) -> Result<Vec<IpSlice>, StoreError> {
        self.api.list_objects(ip_slice::PLURAL, &of_pool(pool), deadline)
    }

    /// Returns the names of the slices of a pool that have an owner. The objects have many more
    /// bytes: what their nodes publish.
    fn taken_names(&self, pool: &str, deadline: &Deadline) -> Result<HashSet<String>, StoreError> {
        let mut taken = HashSet::new();
        let selector = of_pool(pool);
        self.api.names(ip_slice::PLURAL, &selector, deadline, &mut |name| {
            taken.insert(name.to_owned());
        })?;
        Ok(taken)
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

/// Returns the label selector of the slices of a pool.
fn of_pool(pool: &str) -> String {
    format!("{}={}", names::SCOPE, names::of_scope(&scope(pool)))
}

/// Returns the name of the object of a block.
fn name(pool: &str, block: &Block) -> Option<String> {
    block.first().map(|first| names::object(&scope(pool), first))
}

/// Returns whether a block has an owner, by the names of the slices of its pool.
fn is_taken(slicing: &Slicing, block: &Block, taken: &HashSet<String>) -> bool {
    name(&slicing.pool, block).is_none_or(|name| taken.contains(&name))
}

/// Returns the number of the slice at which a node begins to look.
fn start(node: &str, count: u32) -> u32 {
    let hash = digest::of_parts(&["slice", node]);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % count.max(1)
}
