//! Which address of a scope is free: reads the names of its shards.

use super::hint::{FullShards, Word};
use super::layout;
use crate::addr::{AddrSet, Mask, Shard, add_bit, lowest_free};
use crate::ipam::Scope;
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// So many directories are listed under the lock; for more it is let go.
pub(super) const FEW_SHARDS: usize = 16;

/// What a look for a free address found.
pub(super) struct Look {
    /// The lowest free candidate.
    pub(super) free: Option<IpAddr>,
    /// Shards that turned out to be full, with what they hold.
    pub(super) full: Vec<(Shard, Mask)>,
    /// Shards that were passed over on the hint's word.
    pub(super) passed_over: usize,
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
