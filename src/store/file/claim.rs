//! Taking an address: which one, and the order in which it becomes ours.

use super::gateways::Gateways;
use super::hint::{FullShards, Word};
use super::links::{Standing, standing};
use super::session::{FileSession, by_pod};
use super::{failed_link, hint, index, is_gone, layout, record, remove, sync_name};
use crate::addr::{AddrSet, Mask, Range, Shard, add_bit, lowest_free};
use crate::ipam::{Allocation, Attachment, Draft, Scope};
use crate::retry;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Inode};
use crate::store::{Claim, StoreError};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// So many directories are listed under the lock; for more it is let go.
const FEW_SHARDS: usize = 16;

/// What a look for a free address found.
pub(super) struct Look {
    /// The lowest free candidate.
    pub(super) free: Option<IpAddr>,
    /// Shards that turned out to be full, with what they hold.
    pub(super) full: Vec<(Shard, Mask)>,
    /// Shards that were passed over on the hint's word.
    passed_over: usize,
}

/// Whether a free address is not to be given all the same.
pub(super) type Bars<'a> = &'a dyn Fn(IpAddr) -> Result<bool, StoreError>;

/// Finds the lowest free candidate by listing the lowest shard that is not
/// said to be full, then the next. Exact where the hint is.
///
/// What `bars` says of a free one is passed over. A shard with such a one is
/// never noted as full: it is not held.
pub(super) fn find_free(
    disk: &dyn Disk,
    scope: &Scope,
    candidates: &AddrSet,
    hint: &FullShards,
    bars: Bars<'_>,
) -> Result<Look, StoreError> {
    let mut look = Look { free: None, full: Vec::new(), passed_over: 0 };
    let mut at = candidates.shard_from(None);
    while let Some(shard) = at {
        let wanted = candidates.mask(shard);
        let last = match hint.say(shard, &wanted) {
            Word::FullUpTo(last) => last,
            Word::Full => shard,
            Word::Unknown => {
                let held = held_in(disk, &layout::scope(scope), shard)?;
                let mut taken = held;
                while let Some(low) = lowest_free(&wanted, &taken) {
                    if !bars(shard.member(low))? {
                        look.free = Some(shard.member(low));
                        return Ok(look);
                    }
                    add_bit(&mut taken, low);
                }
                if taken == held {
                    look.full.push((shard, held));
                }
                at = shard.next().and_then(|next| candidates.shard_from(Some(next)));
                continue;
            }
        };
        look.passed_over += 1;
        at = last.next().and_then(|next| candidates.shard_from(Some(next)));
    }
    Ok(look)
}

/// Which addresses of a shard have a record. A damaged one counts.
pub(super) fn held_in(disk: &dyn Disk, scope: &Path, shard: Shard) -> Result<Mask, StoreError> {
    let directory = layout::shard_in(scope, shard);
    let names = match disk.names(&directory) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(disk, "list", &directory, error)),
    };
    let mut held = [0; 4];
    for name in names {
        let address = name.to_str().and_then(|name| name.parse().ok());
        if let Some(low) = address.and_then(|address| shard.position(address)) {
            add_bit(&mut held, low);
        }
    }
    Ok(held)
}

/// Whether names of this claim might be another's but for capital letters: of two
/// such names one has some.
pub(super) fn has_capitals(scope: &Scope, draft: &Draft) -> bool {
    let Attachment { node, network, container, ifname } = &draft.attachment;
    let names = [scope.name().unwrap_or_default(), node.as_str(), network.as_str(), container.as_str(), ifname.as_str()];
    names.iter().any(|name| name.chars().any(|letter| !letter.is_ascii() || letter.is_ascii_uppercase()))
}

/// How a try at one name ended.
#[derive(PartialEq, Eq)]
pub(super) enum Link {
    Made,
    Taken,
    /// Its directory was removed, empty, since it was seen.
    Gone,
}

/// Whether a step failed because a directory is no longer there that was seen to
/// be: [`super::empty_directories`] removes those that are empty.
pub(super) fn has_gone<T>(done: &Result<T, StoreError>) -> bool {
    matches!(done, Err(StoreError::Io { source, .. }) if is_gone(source))
}

impl<D: Disk> FileSession<'_, D> {
    /// See [`crate::store::Session::claim`].
    pub(super) fn claim_lowest(&mut self, scope: &Scope, candidates: &AddrSet, draft: &Draft) -> Result<Claim, StoreError> {
        if candidates.is_empty() || hint::is_exhausted(&self.store.disk, scope, candidates) {
            return Ok(Claim::Full);
        }
        if has_capitals(scope, draft) {
            self.store.check_case()?;
        }
        self.store.ensure(&layout::scope(scope))?;
        let deadline = self.deadline;
        let claimed = retry::until(&deadline, || self.claim_once(scope, candidates, draft))?;
        claimed.ok_or_else(|| StoreError::OldView {
            path: self.store.disk.root().join(layout::scope(scope)),
            waited: humantime::format_duration(deadline.limit()).to_string(),
        })
    }

    /// Tries each candidate that is listed as free. A client of a shared
    /// filesystem may hold a name that another node has removed for as long as
    /// it caches names (GlusterFS: a second, or what the mount says), and
    /// refuse the link by itself: such a candidate is passed over. `None` when
    /// there is no other.
    fn claim_once(&mut self, scope: &Scope, candidates: &AddrSet, draft: &Draft) -> Result<Option<Claim>, StoreError> {
        let mut untried = candidates.clone();
        let mut is_believed = true;
        let gateways = Gateways::new(self.store, scope, draft.source);
        loop {
            self.lock_store()?;
            let mut full = if is_believed { FullShards::read(&self.store.disk, scope) } else { FullShards::default() };
            let look = find_free(&self.store.disk, scope, &untried, &full, &|address| gateways.bars(address))?;
            if self.settle_gateway(&gateways)? {
                continue;
            }
            let news = !look.full.is_empty();
            for (shard, held) in &look.full {
                full.insert(*shard, *held);
            }
            let refused = untried != *candidates;
            if refused && self.deadline.left().is_zero() {
                self.unlock_shared();
                return Ok(None);
            }
            let Some(address) = look.free else {
                if refused {
                    self.unlock_shared();
                    return Ok(None);
                }
                if self.sweep_earlier_boots(draft)? {
                    continue;
                }
                let full = self.is_really_full(scope, candidates, draft, look.passed_over, &gateways)?;
                if self.settle_gateway(&gateways)? || !full {
                    // Where the hint cannot be put right it would say the same again.
                    is_believed = false;
                    continue;
                }
                hint::say_exhausted(self.store, scope, candidates);
                return Ok(Some(Claim::Full));
            };
            // One old name may be followed by more: a look is cheaper than a
            // record that is written and synced in vain.
            if refused && self.store.disk.inode(&layout::record(scope, address)).is_ok() {
                untried.remove(&Range::single(address));
                continue;
            }
            let written = self.write_record(scope, address, draft);
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
            // Said by the first that finds a shard full, not by the one that
            // fills it: at the edge, where one address comes and goes, nothing
            // is written.
            if news && is_believed {
                full.write(self.store, scope);
            }
            self.unlock_store();
            self.seal(&written)?;
            return Ok(Some(Claim::Claimed(self.at_name(&written))));
        }
    }

    /// Takes an address again, as it was noted. Whether it was free: link(2)
    /// decides.
    pub(super) fn claim_again(&mut self, noted: &Allocation) -> Result<bool, StoreError> {
        self.lock_store()?;
        let written = self.write_record(&noted.scope, noted.address, &noted.held)?;
        let is_made = self.link_name(&written)? == Link::Made;
        if !is_made {
            remove(&self.store.disk, &written.entry)?;
        }
        self.unlock_shared();
        if is_made {
            self.seal(&written)?;
        }
        Ok(is_made)
    }

    /// Before "exhausted" is said, what the hint passed over is listed: a few
    /// shards under the lock; many without it, by one process at a time, and
    /// what seems free is looked at again under it.
    fn is_really_full(
        &mut self,
        scope: &Scope,
        candidates: &AddrSet,
        draft: &Draft,
        passed_over: usize,
        gateways: &Gateways<'_, D>,
    ) -> Result<bool, StoreError> {
        if passed_over == 0 {
            return Ok(true);
        }
        let nothing = FullShards::default();
        let bars = |address| gateways.bars(address);
        if candidates.count() <= (FEW_SHARDS as u128) << 8 {
            let look = find_free(&self.store.disk, scope, candidates, &nothing, &bars)?;
            return Ok(self.trust_listing(scope, &look));
        }
        let before = self.attachment_addresses(draft)?;
        self.unlock();
        let path = layout::looking(scope);
        let local = self.is_local();
        let _looking = self.store.wait(&path, local, &self.deadline, &|path, patience| self.store.disk.lock(path, patience))?;
        let found = if hint::is_exhausted(&self.store.disk, scope, candidates) {
            None
        } else {
            Some(find_free(&self.store.disk, scope, candidates, &nothing, &bars)?)
        };
        self.relock()?;
        if self.attachment_addresses(draft)? != before {
            return Err(StoreError::Changed);
        }
        Ok(found.is_none_or(|look| self.trust_listing(scope, &look)))
    }

    /// Puts the hint right by what a whole listing showed. Whether it was full.
    fn trust_listing(&self, scope: &Scope, look: &Look) -> bool {
        let Some(address) = look.free else {
            return true;
        };
        let mut full = FullShards::read(&self.store.disk, scope);
        full.remove(Shard::of(address));
        full.write(self.store, scope);
        false
    }

    /// Writes the record as an entry of the index, durable; it has no name yet
    /// and holds nothing.
    pub(super) fn write_record(&self, scope: &Scope, address: IpAddr, draft: &Draft) -> Result<Written, StoreError> {
        let written = self.write_records(scope, &[(address, draft)])?;
        written.into_iter().next().ok_or(StoreError::Changed)
    }

    /// The same of several of one attachment, of which the index has one
    /// directory.
    pub(super) fn write_records(&self, scope: &Scope, chosen: &[(IpAddr, &Draft)]) -> Result<Vec<Written>, StoreError> {
        let disk = &self.store.disk;
        let mut written: Vec<Written> = Vec::with_capacity(chosen.len());
        for (address, draft) in chosen {
            match self.write_entry(scope, *address, draft, written.last()) {
                Ok(Some(one)) => written.push(one),
                // The others are taken one by one.
                Ok(None) => break,
                Err(error) => {
                    self.drop_entries(&written);
                    return Err(error);
                }
            }
        }
        if 1 < written.len() {
            written.iter().for_each(|one| disk.begin_sync(&one.entry));
        }
        let directory = chosen.first().map(|(_, draft)| layout::attachment(&draft.attachment).directory);
        // On a journaling filesystem the first of these commits all.
        let paths = written.iter().map(|one| &one.entry).chain(&directory);
        for path in paths {
            if let Err(error) = disk.sync(path) {
                let error = failed(disk, "sync", path, error);
                // What a failed sync leaves is never trusted later.
                self.drop_entries(&written);
                return Err(error);
            }
        }
        Ok(written)
    }

    /// Writes one, not yet durable; above the one before it, or `None`.
    fn write_entry(&self, scope: &Scope, address: IpAddr, draft: &Draft, below: Option<&Written>) -> Result<Option<Written>, StoreError> {
        let disk = &self.store.disk;
        let mut allocation = Allocation { scope: scope.clone(), address, held: draft.clone(), version: None };
        let name = layout::record(scope, address);
        let stem = layout::attachment(&draft.attachment);
        self.store.ensure(name.parent().unwrap_or(Path::new(layout::SCOPES)))?;
        self.store.ensure(&stem.directory)?;
        let bytes = record::encode(&allocation).map_err(|error| failed(disk, "encode", &name, error.into()))?;
        self.store.note_gateway(&allocation);
        let created = match below {
            None => Some(self.next.create(disk, &stem, &bytes)?),
            Some(below) => self.next.create_above(disk, &below.entry, &bytes)?,
        };
        Ok(created.map(|(entry, inode)| {
            allocation.version = Some(record::version(inode));
            Written { allocation, name, entry, inode }
        }))
    }

    /// The commit: the name is ours, or taken.
    pub(super) fn link_name(&self, written: &Written) -> Result<Link, StoreError> {
        let disk = &self.store.disk;
        match disk.link(&written.entry, &written.name) {
            Ok(()) => Ok(Link::Made),
            Err(error) if disk.inode(&written.name).ok() == Some(written.inode) => {
                tracing::debug!(%error, "the link was made and its answer lost");
                Ok(Link::Made)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Link::Taken),
            Err(error) if is_gone(&error) && disk.inode(&written.entry).ok() == Some(written.inode) => Ok(Link::Gone),
            Err(error) => match standing(disk, &written.entry, &written.name) {
                Standing::Ours => Ok(Link::Made),
                Standing::Anothers => Ok(Link::Taken),
                // Whether the name was made is not known: the entry stays, so that
                // DEL finds it.
                Standing::Nothing => Err(failed_link(disk, "link", &written.name, error)),
            },
        }
    }

    /// What was made, as a look at its name shows it: an undo takes back that very
    /// record. Some filesystems that machines share show an inode for each name.
    pub(super) fn at_name(&self, written: &Written) -> Allocation {
        let mut allocation = written.allocation.clone();
        if !self.is_local()
            && let Ok(inode) = self.store.disk.inode(&written.name)
        {
            allocation.version = Some(record::version(inode));
        }
        allocation
    }

    /// Makes the name durable, or takes it back.
    fn seal(&mut self, written: &Written) -> Result<(), StoreError> {
        let directory = written.name.parent().unwrap_or(Path::new(layout::SCOPES));
        if let Err(error) = sync_name(&self.store.disk, directory, &written.entry) {
            let error = failed(&self.store.disk, "sync", directory, error);
            self.lock_store()?;
            self.take_back(written, directory);
            return Err(error);
        }
        self.link_pod(written);
        Ok(())
    }

    /// Removes a name that could not be made durable, if it is still ours. The
    /// entry goes only when that removal is durable.
    fn take_back(&self, written: &Written, directory: &Path) {
        let disk = &self.store.disk;
        if disk.inode(&written.name).ok() != Some(written.inode) {
            return;
        }
        let undone =
            disk.unlink(&written.name).and_then(|()| sync_name(disk, directory, &written.entry)).and_then(|()| disk.unlink(&written.entry));
        tracing::debug!(?undone, name = %written.name.display(), "a name that could not be synced was taken back");
    }

    /// The entry by pod: its loss costs a re-homing, no more.
    pub(super) fn link_pod(&self, written: &Written) {
        let Some(stem) = by_pod(&written.allocation.held) else {
            return;
        };
        let link = || self.store.ensure(&stem.directory).and_then(|()| self.next.link(&self.store.disk, &stem, &written.entry));
        let linked = link();
        if let Err(error) = if has_gone(&linked) { link() } else { linked } {
            tracing::debug!(%error, "the entry by pod could not be made");
        }
    }

    fn attachment_addresses(&self, draft: &Draft) -> Result<Vec<IpAddr>, StoreError> {
        let found = index::entries(&self.store.disk, &layout::attachment(&draft.attachment))?;
        Ok(found
            .into_iter()
            .filter_map(|entry| match entry.state {
                index::State::Stands(allocation) => Some(allocation.address),
                index::State::LeftOver(_) | index::State::Damaged(_) => None,
            })
            .collect())
    }
}

/// A record that is written, and whose name may be given.
pub(super) struct Written {
    pub(super) allocation: Allocation,
    pub(super) name: PathBuf,
    pub(super) entry: PathBuf,
    pub(super) inode: Inode,
}
