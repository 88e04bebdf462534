//! Claims or releases several addresses of one attachment together, so that they share the steps
//! that make them durable: the commit of a journal, the flush of a directory.
//!
//! ```text
//! claim    lock . search for all . write all ENTRIES . sync each . sync their directory .
//!          link all NAMES (the commits) . unlock . sync each directory of names once
//! release  lock . unlink all NAMES (the commits) . sync each of their directories once .
//!          unlink all ENTRIES . unlock
//! ```
//!
//! Each address keeps the order of steps that it has alone. The lock is released between one such
//! group and the next, so that no other call waits for a large ADD to end.

use super::free_address::find_free;
use super::gateways::Gateways;
use super::hint::FullShards;
use super::record_writer::{Link, Written, has_capitals, has_gone};
use super::session::FileSession;
use super::{layout, remove};
use crate::addr::Range;
use crate::ipam::{Allocation, Record, Scope};
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Inode};
use crate::store::{Claim, StoreError, Wanted, claim_one};
use std::net::IpAddr;
use std::path::Path;

/// The free addresses that a search found.
struct Chosen<'w> {
    addresses: Vec<(IpAddr, &'w Record)>,
    /// Whether the search found shards that are full.
    news: bool,
}

impl<D: Disk> FileSession<'_, D> {
    /// See [`crate::store::Session::claim_all`].
    pub(super) fn claim_several(
        &mut self,
        scope: &Scope,
        wanted: &[Wanted<'_>],
        made: &mut Vec<Allocation>,
    ) -> Result<Option<usize>, StoreError> {
        let taken = if 1 < wanted.len() { self.claim_together(scope, wanted, made)? } else { 0 };
        for (number, wanted) in wanted.iter().enumerate().skip(taken) {
            match claim_one(self, scope, wanted)? {
                Claim::Claimed(allocation) => made.push(allocation),
                Claim::Full => return Ok(Some(number)),
            }
        }
        Ok(None)
    }

    /// Claims what the first search shows as free. Returns how many of the wanted addresses it
    /// claimed. The caller claims the remaining ones one by one. Some remain if nothing seems free,
    /// a gateway is in doubt, a directory is gone, or a client of a shared filesystem has an old
    /// view.
    fn claim_together(
        &mut self,
        scope: &Scope,
        wanted: &[Wanted<'_>],
        made: &mut Vec<Allocation>,
    ) -> Result<usize, StoreError> {
        if wanted
            .iter()
            .flat_map(|wanted| &wanted.candidates)
            .any(|(_, record)| has_capitals(scope, record))
        {
            self.store.check_case()?;
        }
        self.store.ensure(&layout::scope(scope))?;
        self.lock_store()?;
        let mut full = FullShards::read(&self.store.disk, scope);
        let Some(chosen) = self.choose_all(scope, wanted, &mut full)? else {
            return Ok(0);
        };
        let written = self.write_records(scope, &chosen.addresses);
        if has_gone(&written) {
            return Ok(0);
        }
        let written = written?;
        let linked = self.link_names(&written, made)?;
        if chosen.news && !linked.is_empty() {
            full.write(self.store, scope);
        }
        self.unlock_store();
        self.seal_all(linked)?;
        Ok(linked.len())
    }

    /// Creates the names. If a name cannot be created, drops its entry and all later ones: an entry
    /// that stays below a live entry could not be removed before that one.
    fn link_names<'w>(
        &self,
        written: &'w [Written],
        made: &mut Vec<Allocation>,
    ) -> Result<&'w [Written], StoreError> {
        for (number, one) in written.iter().enumerate() {
            match self.link_name(one) {
                Ok(Link::Made) => made.push(self.at_name(one)),
                Ok(Link::Taken | Link::Gone) => {
                    self.drop_entries(&written[number..]);
                    return Ok(&written[..number]);
                }
                // It is unknown whether this name was created.
                Err(error) => {
                    self.drop_entries(&written[number + 1..]);
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    /// Returns the lowest free one of the first candidates of each item, no address twice.
    fn choose_all<'w>(
        &self,
        scope: &Scope,
        wanted: &'w [Wanted<'_>],
        full: &mut FullShards,
    ) -> Result<Option<Chosen<'w>>, StoreError> {
        let mut chosen: Vec<(IpAddr, &Record)> = Vec::new();
        let mut news = false;
        for wanted in wanted {
            let Some((candidates, record)) = wanted.candidates.first() else {
                return Ok(None);
            };
            let mut candidates = (*candidates).clone();
            chosen.iter().for_each(|(address, _)| candidates.remove(&Range::single(*address)));
            let gateways = Gateways::new(self.store, scope, record.source);
            let search = find_free(&self.store.disk, scope, &candidates, full, &|address| {
                gateways.bars(address)
            })?;
            let Some(address) = search.free.filter(|_| !gateways.are_in_doubt()) else {
                return Ok(None);
            };
            news |= !search.full.is_empty();
            search.full.into_iter().for_each(|(shard, held)| full.insert(shard, held));
            chosen.push((address, record));
        }
        Ok(Some(Chosen { addresses: chosen, news }))
    }

    /// Makes names durable. If one cannot be made durable, the caller removes it together with
    /// everything that the ADD has created.
    fn seal_all(&self, linked: &[Written]) -> Result<(), StoreError> {
        let names: Vec<(&Path, &Path)> =
            linked.iter().map(|one| (one.name.as_path(), one.entry.as_path())).collect();
        self.store.sync_names(&names)?;
        for one in linked {
            self.link_pod(one);
            self.store.note_given(&one.allocation);
        }
        Ok(())
    }

    /// See [`crate::store::Session::release_all`].
    pub(super) fn release_several(&mut self, held: &[Allocation]) -> Result<(), StoreError> {
        if self.is_absent() {
            return Ok(());
        }
        self.lock_store()?;
        let mut found = Vec::new();
        for held in held.iter().rev() {
            if self.store.is_own_name(&held.record.attachment.node)? {
                found.extend(self.current(held)?);
            }
        }
        let removed = self.remove_records(&found);
        self.unlock_store();
        removed
    }

    /// Removes records of one attachment and the entries that lead to them, the last one first.
    /// Keeps the lock.
    pub(super) fn remove_records(
        &mut self,
        found: &[(Allocation, Inode)],
    ) -> Result<(), StoreError> {
        let mut kept = Vec::new();
        for (current, inode) in found {
            self.forget_full(current);
            self.store.take_given(current);
            let name = layout::record(&current.scope, current.address);
            let entry = if self.is_local() { None } else { self.entry_of(current, *inode) };
            let spare = self.store.keep_name(&name, entry)?;
            remove(&self.store.disk, &name)?;
            kept.push((name, spare));
        }
        self.unlock_shared();
        self.store.sync_removals(&kept)?;
        self.unlink_entries(found)
    }

    /// Removes entries that have no name, from the highest number down, so that there is never a
    /// gap. If one cannot be removed, it and those below it become dangling entries.
    pub(super) fn drop_entries(&self, written: &[Written]) {
        for one in written.iter().rev() {
            if let Err(error) = self.store.disk.unlink(&one.entry) {
                let error = failed(&self.store.disk, "remove", &one.entry, error);
                tracing::debug!(%error, "an entry without a name stays until the attachment's next call");
                return;
            }
        }
    }
}
