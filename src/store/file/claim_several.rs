//! Several addresses of one attachment at once, so that they share what makes
//! them durable: the commit of a journal, the flush of a directory.
//!
//! ```text
//! claim    lock . look for all . write all ENTRIES . sync each . sync their directory .
//!          link all NAMES (the commits) . unlock . sync each directory of names once
//! release  lock . unlink all NAMES (the commits) . sync each of their directories once .
//!          unlink all ENTRIES . unlock
//! ```
//!
//! Each address keeps the order that it has alone. The lock is let go between
//! one such group and the next: no other call waits for a large ADD to end.

use super::free_address::find_free;
use super::gateways::Gateways;
use super::hint::FullShards;
use super::session::FileSession;
use super::writer::{Link, Written, has_capitals, has_gone};
use super::{layout, remove};
use crate::addr::Range;
use crate::ipam::{Allocation, Draft, Scope};
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Inode};
use crate::store::{Claim, StoreError, Wanted, claim_one};
use std::net::IpAddr;
use std::path::Path;

/// What a look has shown free.
struct Chosen<'w> {
    addresses: Vec<(IpAddr, &'w Draft)>,
    /// Whether shards turned out to be full.
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

    /// Takes what the first look shows free. So many of the wanted have got theirs;
    /// the others go the way of a single one: where nothing seems free, a gateway
    /// is in doubt, a directory has gone, or a client of a shared filesystem has an
    /// old view.
    fn claim_together(&mut self, scope: &Scope, wanted: &[Wanted<'_>], made: &mut Vec<Allocation>) -> Result<usize, StoreError> {
        if wanted.iter().flat_map(|wanted| &wanted.offers).any(|(_, draft)| has_capitals(scope, draft)) {
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

    /// Gives the names, and drops the entries from the first that cannot have its
    /// own: one left below an entry that stands could not go before that one.
    fn link_names<'w>(&self, written: &'w [Written], made: &mut Vec<Allocation>) -> Result<&'w [Written], StoreError> {
        for (number, one) in written.iter().enumerate() {
            match self.link_name(one) {
                Ok(Link::Made) => made.push(self.at_name(one)),
                Ok(Link::Taken | Link::Gone) => {
                    self.drop_entries(&written[number..]);
                    return Ok(&written[..number]);
                }
                // Whether it has its name is not known.
                Err(error) => {
                    self.drop_entries(&written[number + 1..]);
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    /// The lowest free candidate of each one's first offer, no address twice.
    fn choose_all<'w>(&self, scope: &Scope, wanted: &'w [Wanted<'_>], full: &mut FullShards) -> Result<Option<Chosen<'w>>, StoreError> {
        let mut chosen: Vec<(IpAddr, &Draft)> = Vec::new();
        let mut news = false;
        for wanted in wanted {
            let Some((candidates, draft)) = wanted.offers.first() else {
                return Ok(None);
            };
            let mut candidates = (*candidates).clone();
            chosen.iter().for_each(|(address, _)| candidates.remove(&Range::single(*address)));
            let gateways = Gateways::new(self.store, scope, draft.source);
            let look = find_free(&self.store.disk, scope, &candidates, full, &|address| gateways.bars(address))?;
            let Some(address) = look.free.filter(|_| !gateways.are_in_doubt()) else {
                return Ok(None);
            };
            news |= !look.full.is_empty();
            look.full.into_iter().for_each(|(shard, held)| full.insert(shard, held));
            chosen.push((address, draft));
        }
        Ok(Some(Chosen { addresses: chosen, news }))
    }

    /// Makes names durable. One that cannot be is taken back by the caller, with
    /// all that the ADD has made.
    fn seal_all(&self, linked: &[Written]) -> Result<(), StoreError> {
        let names: Vec<(&Path, &Path)> = linked.iter().map(|one| (one.name.as_path(), one.entry.as_path())).collect();
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
            if self.store.is_own_name(&held.held.attachment.node)? {
                found.extend(self.standing(held)?);
            }
        }
        let removed = self.remove_records(&found);
        self.unlock_store();
        removed
    }

    /// Removes records of one attachment and the entries that lead to them, the
    /// last one first. The lock stays.
    pub(super) fn remove_records(&mut self, found: &[(Allocation, Inode)]) -> Result<(), StoreError> {
        let mut kept = Vec::new();
        for (standing, inode) in found {
            self.forget_full(standing);
            self.store.take_given(standing);
            let name = layout::record(&standing.scope, standing.address);
            let entry = if self.is_local() { None } else { self.entry_of(standing, *inode) };
            let spare = self.store.keep_name(&name, entry)?;
            remove(&self.store.disk, &name)?;
            kept.push((name, spare));
        }
        self.unlock_shared();
        self.store.sync_removals(&kept)?;
        self.unlink_entries(found)
    }

    /// Removes entries that have no name, from the highest down: there is no gap
    /// at any instant. One that cannot be removed is a left-over, and so are those
    /// below it.
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
