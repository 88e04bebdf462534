//! Lists the stored allocations without a lock: by scope and shard, or, for one node, by that
//! node's part of the index.

use super::{index, is_gone, layout, record};
use crate::ipam::{Allocation, AttachmentSet};
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use crate::store::{Filter, Listing, StoreError, percent};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// Lists the allocations that match the filter. Keeps one directory at a time in memory.
pub(super) fn list<'d, D: Disk>(disk: &'d D, filter: Filter) -> Result<Listing<'d>, StoreError> {
    if let Some(address) = filter.address {
        let found = scope_directories(disk, &filter)?
            .into_iter()
            .filter_map(move |scope| read_one(disk, &layout::record_in(&scope, address), false));
        return Ok(Box::new(found.filter(move |item| {
            item.as_ref().map_or(true, |allocation| filter.matches(allocation))
        })));
    }
    let directories = match &filter.node {
        None => scopes(disk, &filter)?,
        Some(node) => node_directories(disk, node, &filter)?,
    };
    let by_index = filter.node.is_some();
    let spared = filter.spared.clone().filter(|_| by_index).unwrap_or_default();
    let found = directories.into_iter().flat_map(move |directory| {
        let (names, error) = match names(disk, &directory) {
            Ok(names) => (names, None),
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        let unspared: Vec<_> = names.into_iter().filter(|name| !is_spared(name, &spared)).collect();
        let items = unspared
            .into_iter()
            .filter_map(move |name| read_one(disk, &directory.join(name), by_index));
        once(items, by_index).chain(error)
    });
    Ok(Box::new(
        found.filter(move |item| {
            item.as_ref().map_or(true, |allocation| filter.matches(allocation))
        }),
    ))
}

/// Drops repeated addresses. The index has two entries for a record that was re-homed to its own
/// attachment, and both lead to the live record.
fn once(
    items: impl Iterator<Item = Result<Allocation, StoreError>>,
    by_index: bool,
) -> impl Iterator<Item = Result<Allocation, StoreError>> {
    let mut seen = HashSet::new();
    items.filter(move |item| match item {
        Ok(held) if by_index => seen.insert((held.scope.clone(), held.address)),
        _ => true,
    })
}

/// Returns whether an index entry belongs to a spared attachment, so that it need not be read. A
/// name that was cut does not show its attachment, so its entry is read.
fn is_spared(name: &OsStr, spared: &AttachmentSet) -> bool {
    let stem = name.to_str().and_then(|name| name.rsplit_once('.')).map(|(stem, _)| stem);
    let parts = stem.and_then(|stem| stem.split_once('@')).filter(|_| !spared.is_empty());
    parts
        .and_then(|(container, ifname)| {
            Some((percent::unescape(container)?, percent::unescape(ifname)?))
        })
        .is_some_and(|(container, ifname)| spared.contains(&container, &ifname))
}

/// Returns the directories of all scopes, or of one.
fn scope_directories(disk: &dyn Disk, filter: &Filter) -> Result<Vec<PathBuf>, StoreError> {
    let root = Path::new(layout::SCOPES);
    Ok(match &filter.scope {
        Some(scope) => vec![layout::scope(scope)],
        None => names(disk, root)?.into_iter().map(|name| root.join(name)).collect(),
    })
}

/// Returns all shards of these scopes, in the order of their addresses.
fn scopes(disk: &dyn Disk, filter: &Filter) -> Result<Vec<PathBuf>, StoreError> {
    let mut directories = Vec::new();
    for scope in scope_directories(disk, filter)? {
        let mut shards: Vec<_> = names(disk, &scope)?
            .into_iter()
            .filter_map(|name| {
                layout::parse_shard(name.to_str()?).map(|shard| (shard, scope.join(&name)))
            })
            .collect();
        shards.sort();
        directories.extend(shards.into_iter().map(|(_, path)| path));
    }
    Ok(directories)
}

/// Returns the index directories of one node, for all networks or one.
fn node_directories(
    disk: &dyn Disk,
    node: &crate::ipam::NodeName,
    filter: &Filter,
) -> Result<Vec<PathBuf>, StoreError> {
    let root = layout::node(node);
    let networks = match &filter.network {
        Some(network) => vec![layout::network(node, network)],
        None => names(disk, &root)?
            .into_iter()
            .filter(|name| !name.to_string_lossy().starts_with('@'))
            .map(|name| root.join(name))
            .collect(),
    };
    Ok(networks)
}

fn names(disk: &dyn Disk, directory: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    match disk.names(directory) {
        Ok(mut names) => {
            names.retain(|name| !name.to_str().is_some_and(layout::is_of_filesystem));
            names.sort();
            Ok(names)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(disk, "list", directory, error)),
    }
}

/// Reads the record at a path. Returns `None` if it was removed in the meantime, or if the entry is
/// dangling.
fn read_one(
    disk: &dyn Disk,
    path: &Path,
    by_index: bool,
) -> Option<Result<Allocation, StoreError>> {
    let content = match disk.read(path) {
        Ok(content) => content,
        Err(error) if is_gone(&error) => return None,
        Err(error) => return Some(Err(failed(disk, "read", path, error))),
    };
    if by_index {
        return match index::classify(disk, path, &content) {
            Ok(index::State::Live(allocation)) => Some(Ok(*allocation)),
            Ok(index::State::DanglingEntry(_)) => None,
            Err(StoreError::Io { source, .. }) if is_gone(&source) => None,
            Ok(index::State::Damaged(error)) | Err(error) => Some(Err(error)),
        };
    }
    let allocation = match record::read(&content) {
        Ok(allocation) => allocation,
        Err(unreadable) => return Some(Err(unreadable.at(disk.root().join(path)))),
    };
    if !super::upkeep::finding::belongs_at(disk, &allocation, path, content.inode) {
        let reason = record::of_another_name(&allocation);
        return Some(Err(StoreError::Damaged { path: disk.root().join(path), reason }));
    }
    Some(Ok(allocation))
}
