//! One session of both halves. The records in the scope of a pool with slices are those of the file
//! half, and there are no others.

use super::{SlicedStore, has_any, within};
use crate::addr::AddrSet;
use crate::ipam::{
    Allocation, Attachment, Block, IfName, NetworkName, PodRef, Record, Scope, Slicing, Source,
};
use crate::retry::Deadline;
use crate::store::disk::Disk;
use crate::store::kube::slices::{More, Need, Ownership};
use crate::store::{Access, Claim, Holdings, Rehome, Release, Session, Store, StoreError, Wanted};
use std::net::IpAddr;

/// See the module.
pub(super) struct SlicedSession<'s, D: Disk> {
    store: &'s SlicedStore<D>,
    kube: Box<dyn Session + 's>,
    access: Access,
    deadline: Deadline,
}

impl<'s, D: Disk> SlicedSession<'s, D> {
    pub(super) fn new(
        store: &'s SlicedStore<D>,
        kube: Box<dyn Session + 's>,
        access: Access,
        deadline: Deadline,
    ) -> Self {
        Self { store, kube, access, deadline }
    }

    /// Opens the file half. Its session has the lock of all addresses on this node, so it is open
    /// only for one step, and for no request.
    fn files(&self) -> Result<Box<dyn Session + 's>, StoreError> {
        self.store.files.open(self.store.to_files(self.access), self.deadline)
    }

    /// Adds a record of the files to what an attachment holds. An ADD answers only from a slice that
    /// the node owns now.
    fn add_if_owned(&self, held: Allocation, holdings: &mut Holdings) -> Result<(), StoreError> {
        let pool = held.scope.sliced_pool().filter(|_| self.access == Access::Allocate);
        let Some(pool) = pool else {
            holdings.held.push(held);
            return Ok(());
        };
        match self.store.kube.ownership_of(pool, held.address, &self.deadline)? {
            Ownership::Owned => holdings.held.push(held),
            Ownership::Lost => {
                let lost = StoreError::SliceLost { address: held.address, pool: pool.to_owned() };
                holdings.damaged.push(lost);
            }
            Ownership::GivenBack => {
                self.files()?.release_unchanged(&held)?;
            }
        }
        Ok(())
    }

    /// Claims an address from the node's slices. While none is free there, gets one more slice.
    fn claim_sliced(
        &self,
        slicing: &Slicing,
        scope: &Scope,
        wanted: &Wanted<'_>,
    ) -> Result<Claim, StoreError> {
        let kube = &self.store.kube;
        kube.refuse_unshown_slice(&self.deadline)?;
        self.store.bind_files(&self.deadline)?;
        let mut blocks = kube.blocks_for_add(&slicing.pool, &self.deadline)?;
        loop {
            if let Some(claimed) = self.claim_within(slicing, scope, wanted, &blocks)? {
                return Ok(Claim::Claimed(claimed));
            }
            let asked = asked_address(wanted);
            let has_candidates =
                |block: &Block| wanted.candidates.iter().any(|(of, _)| has_any(of, block));
            let need = Need { known: &blocks, wanted: asked, has_candidates: &has_candidates };
            match kube.get_slice(slicing, &need, &self.deadline)? {
                More::Slice => blocks = kube.usable_blocks(&slicing.pool)?,
                More::Elsewhere(node) => {
                    return Err(match asked {
                        Some(address) => StoreError::SliceOfAnother { address, node },
                        None => StoreError::Changed,
                    });
                }
                none @ (More::Most | More::None) => {
                    let reason = match none {
                        More::Most => format!(
                            "it owns {}, the most that the pool {} allows",
                            slices(slicing.most_per_node),
                            slicing.pool
                        ),
                        _ => format!(
                            "each slice of the pool {} that has addresses to give has an owner",
                            slicing.pool
                        ),
                    };
                    *self.store.why_full.borrow_mut() = Some(reason);
                    return Ok(Claim::Full);
                }
            }
        }
    }

    /// Claims an address in these blocks. Returns `None` if none is free.
    fn claim_within(
        &self,
        slicing: &Slicing,
        scope: &Scope,
        wanted: &Wanted<'_>,
        blocks: &[Block],
    ) -> Result<Option<Allocation>, StoreError> {
        for (candidates, record) in &wanted.candidates {
            let own = within(candidates, blocks);
            if own.is_empty() {
                continue;
            }
            let mut files = self.files()?;
            let Claim::Claimed(claimed) = files.claim(scope, &own, record)? else { continue };
            // A slice that is being given back is marked before its files are looked at.
            let usable = self.store.kube.usable_blocks(&slicing.pool)?;
            if usable.iter().any(|block| block.contains(claimed.address)) {
                return Ok(Some(claimed));
            }
            files.release_unchanged(&claimed)?;
            return Ok(None);
        }
        Ok(None)
    }
}

fn slices(count: u32) -> String {
    if count == 1 { "1 slice".to_owned() } else { format!("{count} slices") }
}

/// Returns the address that a pod requests, if the candidates are that one.
fn asked_address(wanted: &Wanted<'_>) -> Option<IpAddr> {
    let (candidates, record) = wanted.candidates.first()?;
    (record.source == Source::Requested).then(|| candidates.nth(0)).flatten()
}

/// Returns whether a record is one of the file half.
fn is_in_files(held: &Allocation) -> bool {
    held.scope.is_of_slices()
}

impl<D: Disk> Session for SlicedSession<'_, D> {
    fn holdings(&self, attachment: &Attachment) -> Result<Holdings, StoreError> {
        let mut holdings = self.kube.holdings(attachment)?;
        if !self.store.are_files_known {
            return Ok(holdings);
        }
        let files = self.files()?.holdings(attachment)?;
        for held in files.held {
            self.add_if_owned(held, &mut holdings)?;
        }
        holdings.damaged.extend(files.damaged);
        holdings.needs_cleanup |= files.needs_cleanup;
        holdings.held.sort_by_key(|allocation| allocation.record.part.index);
        Ok(holdings)
    }

    fn holdings_of_pod(
        &self,
        network: &NetworkName,
        pod: &PodRef,
        ifname: &IfName,
    ) -> Result<Vec<Allocation>, StoreError> {
        let mut held = self.kube.holdings_of_pod(network, pod, ifname)?;
        if !self.store.are_files_known {
            return Ok(held);
        }
        for old in self.files()?.holdings_of_pod(network, pod, ifname)? {
            // An address of a slice that this node does not own now is not moved to a new sandbox.
            let pool = old.scope.sliced_pool().filter(|_| self.access == Access::Allocate);
            let is_owned = match pool {
                Some(pool) => {
                    let found = self.store.kube.ownership_of(pool, old.address, &self.deadline)?;
                    found == Ownership::Owned
                }
                None => true,
            };
            if is_owned {
                held.push(old);
            }
        }
        Ok(held)
    }

    fn claim(
        &mut self,
        scope: &Scope,
        candidates: &AddrSet,
        record: &Record,
    ) -> Result<Claim, StoreError> {
        let wanted = Wanted { candidates: vec![(candidates, record.clone())] };
        match self.store.slicing(scope) {
            Some(slicing) => self.claim_sliced(&slicing, scope, &wanted),
            // Nobody gives single addresses of a pool with slices.
            None if scope.is_of_slices() => Ok(Claim::Full),
            None => self.kube.claim(scope, candidates, record),
        }
    }

    fn claim_all(
        &mut self,
        scope: &Scope,
        wanted: &[Wanted<'_>],
        made: &mut Vec<Allocation>,
    ) -> Result<Option<usize>, StoreError> {
        let Some(slicing) = self.store.slicing(scope) else {
            return match scope.is_of_slices() {
                true => Ok((!wanted.is_empty()).then_some(0)),
                false => self.kube.claim_all(scope, wanted, made),
            };
        };
        for (number, wanted) in wanted.iter().enumerate() {
            match self.claim_sliced(&slicing, scope, wanted)? {
                Claim::Claimed(claimed) => made.push(claimed),
                Claim::Full => return Ok(Some(number)),
            }
        }
        Ok(None)
    }

    fn release_all(&mut self, held: &[Allocation]) -> Result<(), StoreError> {
        let (files, kube): (Vec<Allocation>, Vec<Allocation>) =
            held.iter().cloned().partition(is_in_files);
        if !files.is_empty() {
            self.files()?.release_all(&files)?;
        }
        if !kube.is_empty() {
            self.kube.release_all(&kube)?;
        }
        Ok(())
    }

    fn confirm(&mut self, held: &Allocation) -> Result<(), StoreError> {
        match is_in_files(held) {
            true => self.files()?.confirm(held),
            false => self.kube.confirm(held),
        }
    }

    fn rehome(&mut self, held: &Allocation, to: &Record) -> Result<Rehome, StoreError> {
        match is_in_files(held) {
            true => self.files()?.rehome(held, to),
            false => self.kube.rehome(held, to),
        }
    }

    fn release(&mut self, held: &Allocation) -> Result<Release, StoreError> {
        match is_in_files(held) {
            true => self.files()?.release(held),
            false => self.kube.release(held),
        }
    }

    fn release_unchanged(&mut self, held: &Allocation) -> Result<Release, StoreError> {
        match is_in_files(held) {
            true => self.files()?.release_unchanged(held),
            false => self.kube.release_unchanged(held),
        }
    }

    fn clean_up(&mut self, attachment: &Attachment) -> Result<(), StoreError> {
        if self.store.are_files_known {
            self.files()?.clean_up(attachment)?;
        }
        self.kube.clean_up(attachment)
    }
}
