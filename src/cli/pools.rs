//! The pools of a command's store: those that the operator names with --pool, and those that contain
//! an address.

use super::locate::{self, Located};
use super::{HintedError, output};
use crate::config::{CniArgs, ConfigError, FlatFile, Merged, Network, Pool, Settings, StoreKind};
use crate::environment::Environment;
use crate::ipam::{ConfiguredRange, Scope};
use crate::json::Json;
use crate::plugin::failure::Failure;
use crate::plugin::pools;
use crate::plugin::stores::{self, OnBehalf};
use crate::retry::Deadline;
use crate::store::Store;
use crate::store::node_identity::NodeIdentity;
use crate::store::pools::Read;
use std::net::IpAddr;
use std::path::PathBuf;

/// The maximum number of files of pools that are read.
const MOST: usize = 10_000;

/// Returns the pools of these names.
///
/// # Errors
/// A pool does not exist, or cannot be used. The hint names the pools that exist.
pub(super) fn named(located: &Located<'_>, names: &[String]) -> anyhow::Result<Vec<Pool>> {
    let (flat, settings) = (located.flat.as_ref(), located.settings());
    names.iter().map(|name| read(name, flat, settings, located)).collect()
}

fn read(
    name: &str,
    flat: Option<&FlatFile>,
    settings: &Settings,
    located: &Located<'_>,
) -> anyhow::Result<Pool> {
    if settings.store.kind != StoreKind::File {
        return Ok(of_cluster(name, settings, located.store()?.as_ref())?);
    }
    let places = pools::places(name, flat, settings);
    if places.iter().any(|place| place.symlink_metadata().is_ok()) {
        return Ok(pools::read_file(name, flat, settings)?);
    }
    let names = names(flat, settings);
    let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    let hint = match names.is_empty() {
        true => format!("this store has no pools: looked for {}", looked.join(" and ")),
        false => format!("the pools of this store are: {}", names.join(", ")),
    };
    Err(HintedError::new(format!("no pool has this name: {}", output::printable(name)), hint)
        .into())
}

/// Returns a pool of the store that the settings name.
///
/// # Errors
/// There is no such pool, or it cannot be used.
pub(super) fn any(
    name: &str,
    flat: Option<&FlatFile>,
    settings: &Settings,
    environment: &Environment,
) -> anyhow::Result<Pool> {
    if settings.store.kind == StoreKind::File {
        return Ok(pools::read_file(name, flat, settings)?);
    }
    let node = locate::no_node()?;
    let host = NodeIdentity { node, machine_id: None, boot_id: String::new() };
    let store = stores::open_to_keep(settings, host, OnBehalf::OfAnother, &environment.proxy)?;
    Ok(of_cluster(name, settings, store.as_ref())?)
}

fn of_cluster(name: &str, settings: &Settings, store: &dyn Store) -> Result<Pool, Failure> {
    let deadline = Deadline::after(settings.deadlines.add);
    Ok(pools::read_object(name, store, Read::Present, deadline)?.0)
}

/// Returns all pools of a file store. A pool that cannot be used is reported, and left out.
pub(super) fn of_store(located: &Located<'_>) -> Vec<Pool> {
    let (flat, settings) = (located.flat.as_ref(), located.settings());
    if settings.store.kind != StoreKind::File {
        return Vec::new();
    }
    let usable = |name: &String| {
        let pool = pools::read_file(name, flat, settings);
        pool.inspect_err(|error| output::say(&format!("warning: {error}"))).ok()
    };
    names(flat, settings).iter().filter_map(usable).collect()
}

/// Returns the names of the files of pools, in order.
fn names(flat: Option<&FlatFile>, settings: &Settings) -> Vec<String> {
    let places = pools::places("x", flat, settings);
    let directories = places.iter().filter_map(|place| place.parent());
    let entries = directories.filter_map(|directory| std::fs::read_dir(directory).ok()).flatten();
    let paths = entries.take(MOST).filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let of_pool = |path: PathBuf| {
        let is_of_pool = path.extension().is_some_and(|end| end == "yaml");
        path.file_stem()?.to_str().filter(|_| is_of_pool).map(output::printable)
    };
    let mut names: Vec<String> = paths.filter_map(of_pool).collect();
    names.sort();
    names.dedup();
    names
}

/// Returns the configuration of a network that has nothing but a pool.
pub(super) fn configuration_of(pool: &Pool) -> Json {
    let name = Json::String(pool.name.clone());
    let ipam = Json::Object(vec![("pool".to_owned(), name)]);
    Json::Object(vec![("ipam".to_owned(), ipam)])
}

/// Returns the network that has nothing but a pool, on this node.
///
/// # Errors
/// The pool or the flat file has a mistake.
pub(super) fn network_of(pool: &Pool, flat: Option<&FlatFile>) -> anyhow::Result<Network> {
    let configuration = configuration_of(pool);
    let merged = Merged::new(&configuration, flat)?;
    let network = Network::parse(&merged, &CniArgs::default()).map_err(ConfigError::from)?;
    Ok(network.served_by(pool, &CniArgs::default()).map_err(Failure::from)?)
}

/// Returns whether an address of a scope is of a pool: it is one of the pool's, excluded or not, in
/// the scope of the pool.
pub(super) fn has(pool: &Pool, scope: &Scope, address: IpAddr) -> bool {
    pool.scope == *scope && contains(pool, address)
}

/// Returns whether an address is one of a pool's, excluded or not.
pub(super) fn contains(pool: &Pool, address: IpAddr) -> bool {
    pool.subnets.iter().any(|entry| entry.addresses.contains(address))
}

/// Returns why a pool does not give an address of its own: the words of its author.
pub(super) fn excluded(pool: &Pool, address: IpAddr) -> Option<&str> {
    let mut all = pool.subnets.iter().flat_map(|entry| &entry.excluded);
    let found = all.find(|exclusion| exclusion.range.contains(address))?;
    Some(found.reason.as_deref().unwrap_or("no reason given"))
}

/// Returns whether a network may give an address of a scope, to any pod or to a certain one.
pub(super) fn may_give(network: &Network, scope: &Scope, address: IpAddr) -> bool {
    let in_range = |range: &ConfiguredRange| {
        range.candidates().contains(address) || range.reserved_candidates().contains(address)
    };
    network.scope == *scope
        && (network.ranges().any(in_range)
            || network.reservations.blocks().contains(address)
            || network.statics.iter().any(|fixed| fixed.address == address))
}
