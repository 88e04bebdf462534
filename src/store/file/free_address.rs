//! Finds a free address of a scope: reads the names in the directories of its shards.

use super::hint::{FullShards, ShardState};
use super::layout;
use crate::addr::{AddrSet, Mask, Shard, add_bit, lowest_free};
use crate::ipam::Scope;
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// At most this many directories are listed under the lock; for more, the lock is released.
pub(super) const FEW_SHARDS: usize = 16;

/// The result of a search for a free address.
pub(super) struct FreeSearch {
    /// The lowest free candidate.
    pub(super) free: Option<IpAddr>,
    /// Shards that are full, with the addresses held in them.
    pub(super) full: Vec<(Shard, Mask)>,
    /// The number of shards that were skipped because the hint calls them full.
    pub(super) passed_over: usize,
}

/// Returns whether an address must not be given although it is free.
pub(super) type Bars<'a> = &'a dyn Fn(IpAddr) -> Result<bool, StoreError>;

/// Finds the lowest free candidate. Lists the lowest shard that the hint does not call full, then
/// the next. The result is exact if the hint is.
///
/// Free addresses that `bars` rejects are skipped. A shard with such an address is never noted as
/// full, because the address is not held.
pub(super) fn find_free(
    disk: &dyn Disk,
    scope: &Scope,
    candidates: &AddrSet,
    hint: &FullShards,
    bars: Bars<'_>,
) -> Result<FreeSearch, StoreError> {
    let mut search = FreeSearch { free: None, full: Vec::new(), passed_over: 0 };
    let mut at = candidates.shard_from(None);
    while let Some(shard) = at {
        let wanted = candidates.mask(shard);
        let last = match hint.state_of(shard, &wanted) {
            ShardState::FullUpTo(last) => last,
            ShardState::Full => shard,
            ShardState::Unknown => {
                let held = held_in(disk, &layout::scope(scope), shard)?;
                let mut taken = held;
                while let Some(low) = lowest_free(&wanted, &taken) {
                    if !bars(shard.member(low))? {
                        search.free = Some(shard.member(low));
                        return Ok(search);
                    }
                    add_bit(&mut taken, low);
                }
                if taken == held {
                    search.full.push((shard, held));
                }
                at = shard.next().and_then(|next| candidates.shard_from(Some(next)));
                continue;
            }
        };
        search.passed_over += 1;
        at = last.next().and_then(|next| candidates.shard_from(Some(next)));
    }
    Ok(search)
}

/// Returns the addresses of a shard that have a record. A damaged record counts.
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
