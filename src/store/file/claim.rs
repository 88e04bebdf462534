//! Claims an address: chooses a candidate, and takes the steps that make it ours.

use super::free_address::{FEW_SHARDS, FreeSearch, find_free};
use super::gateways::Gateways;
use super::hint::{self, FullShards};
use super::record_writer::{Link, has_capitals, has_gone};
use super::session::FileSession;
use super::{layout, remove};
use crate::addr::{AddrSet, Range, Shard};
use crate::ipam::{Allocation, Record, Scope};
use crate::retry;
use crate::store::disk::Disk;
use crate::store::{Claim, StoreError};

impl<D: Disk> FileSession<'_, D> {
    /// See [`crate::store::Session::claim`].
    pub(super) fn claim_lowest(
        &mut self,
        scope: &Scope,
        candidates: &AddrSet,
        record: &Record,
    ) -> Result<Claim, StoreError> {
        if candidates.is_empty() || hint::is_exhausted(&self.store.disk, scope, candidates) {
            return Ok(Claim::Full);
        }
        if has_capitals(scope, record) {
            self.store.check_case()?;
        }
        self.store.ensure(&layout::scope(scope))?;
        let deadline = self.deadline;
        let claimed = retry::until(&deadline, || self.claim_once(scope, candidates, record))?;
        claimed.ok_or_else(|| StoreError::OldView {
            path: self.store.disk.root().join(layout::scope(scope)),
            waited: humantime::format_duration(deadline.limit()).to_string(),
        })
    }

    /// Tries each candidate that is listed as free. A client of a shared filesystem may keep a name
    /// that another node has removed for as long as it caches names (GlusterFS: one second, or the
    /// mount's setting), and refuse the link without asking the server. Such a candidate is
    /// skipped. Returns `None` if there is no other.
    fn claim_once(
        &mut self,
        scope: &Scope,
        candidates: &AddrSet,
        record: &Record,
    ) -> Result<Option<Claim>, StoreError> {
        let mut untried = candidates.clone();
        let mut is_believed = true;
        let gateways = Gateways::new(self.store, scope, record.source);
        loop {
            self.lock_store()?;
            let mut full = if is_believed {
                FullShards::read(&self.store.disk, scope)
            } else {
                FullShards::default()
            };
            let search = find_free(&self.store.disk, scope, &untried, &full, &|address| {
                gateways.bars(address)
            })?;
            if self.recheck_gateway(&gateways)? {
                continue;
            }
            let news = !search.full.is_empty();
            for (shard, held) in &search.full {
                full.insert(*shard, *held);
            }
            let refused = untried != *candidates;
            if refused && self.deadline.left().is_zero() {
                self.unlock_shared();
                return Ok(None);
            }
            let Some(address) = search.free else {
                if refused {
                    self.unlock_shared();
                    return Ok(None);
                }
                if self.sweep_earlier_boots(record)? {
                    continue;
                }
                let full =
                    self.is_really_full(scope, candidates, record, search.passed_over, &gateways)?;
                if self.recheck_gateway(&gateways)? || !full {
                    // If the hint could not be corrected, it would give the same answer again.
                    is_believed = false;
                    continue;
                }
                hint::mark_exhausted(self.store, scope, candidates);
                return Ok(Some(Claim::Full));
            };
            // One outdated name may be followed by others. A check is cheaper than a record that is
            // written and synced in vain.
            if refused && self.store.disk.inode(&layout::record(scope, address)).is_ok() {
                untried.remove(&Range::single(address));
                continue;
            }
            let written = self.write_record(scope, address, record);
            if has_gone(&written) && !self.deadline.left().is_zero() {
                self.unlock_shared();
                return Ok(None);
            }
            let written = written?;
            let link = self.link_name(&written)?;
            if link != Link::Made {
                remove(&self.store.disk, &written.entry)?;
            }
            match link {
                Link::Made => {}
                Link::Taken => {
                    untried.remove(&Range::single(address));
                    continue;
                }
                Link::Gone => {
                    self.unlock_shared();
                    return Ok(None);
                }
            }
            // The first call that finds a shard full writes the hint, not the call that fills the
            // shard. So nothing is written at the edge, where one address comes and goes.
            if news && is_believed {
                full.write(self.store, scope);
            }
            self.unlock_store();
            self.make_durable(&written)?;
            return Ok(Some(Claim::Claimed(self.at_name(&written))));
        }
    }

    /// Claims an address again, as it was noted. Returns whether it was free: link(2) decides.
    pub(super) fn claim_again(&mut self, noted: &Allocation) -> Result<bool, StoreError> {
        self.lock_store()?;
        let written = self.write_record(&noted.scope, noted.address, &noted.record)?;
        let is_made = self.link_name(&written)? == Link::Made;
        if !is_made {
            remove(&self.store.disk, &written.entry)?;
        }
        self.unlock_shared();
        if is_made {
            self.make_durable(&written)?;
        }
        Ok(is_made)
    }

    /// Returns whether all candidates are held. Lists the shards that the hint skipped, before the
    /// call reports "exhausted": a few shards under the lock, and many without it, in one process
    /// at a time. The caller checks again under the lock what seems free.
    fn is_really_full(
        &mut self,
        scope: &Scope,
        candidates: &AddrSet,
        record: &Record,
        passed_over: usize,
        gateways: &Gateways<'_, D>,
    ) -> Result<bool, StoreError> {
        if passed_over == 0 {
            return Ok(true);
        }
        let nothing = FullShards::default();
        let bars = |address| gateways.bars(address);
        if candidates.count() <= (FEW_SHARDS as u128) << 8 {
            let search = find_free(&self.store.disk, scope, candidates, &nothing, &bars)?;
            return Ok(self.trust_listing(scope, &search));
        }
        let before = self.attachment_addresses(record)?;
        self.unlock();
        let path = layout::looking(scope);
        let local = self.is_local();
        let _looking = self.store.wait(&path, local, &self.deadline, &|path, patience| {
            self.store.disk.lock(path, patience)
        })?;
        let found = if hint::is_exhausted(&self.store.disk, scope, candidates) {
            None
        } else {
            Some(find_free(&self.store.disk, scope, candidates, &nothing, &bars)?)
        };
        self.relock()?;
        if self.attachment_addresses(record)? != before {
            return Err(StoreError::Changed);
        }
        Ok(found.is_none_or(|search| self.trust_listing(scope, &search)))
    }

    /// Corrects the hint after a full listing. Returns whether all candidates are held.
    fn trust_listing(&self, scope: &Scope, search: &FreeSearch) -> bool {
        let Some(address) = search.free else {
            return true;
        };
        let mut full = FullShards::read(&self.store.disk, scope);
        full.remove(Shard::of(address));
        full.write(self.store, scope);
        false
    }
}
