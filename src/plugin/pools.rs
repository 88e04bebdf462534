//! The pools that a network names: finds them, and chooses those that are for this node and pod.
//!
//! For the file store, a pool is a file `pools/NAME.yaml`: beside the node's flat file if the store
//! is on a local path, and in the data directory if machines share the store. Two nodes with
//! different files for one pool could give one address in two scopes.

use super::failure::Failure;
use crate::config::{ConfigError, FlatFile, Network, Pool, Problem, Settings, StoreKind};
use crate::ipam::PodRef;
use crate::small_file::{error_text, read_small};
use std::io;
use std::path::{Path, PathBuf};

/// The name of the directory of pools.
const DIRECTORY: &str = "pools";

/// Returns the network as each pool serves it that it names and that is for this node and pod, in
/// order of preference.
///
/// # Errors
/// A pool cannot be read, or none is for this node and pod.
pub(crate) fn serve(
    network: &Network,
    pod: Option<&PodRef>,
    flat: Option<&FlatFile>,
    settings: &Settings,
) -> Result<Vec<Network>, Failure> {
    let (mut served, mut passed_over) = (Vec::new(), Vec::new());
    for name in &network.pools {
        let pool = read(name, flat, settings)?;
        let namespace = pod.map(|pod| pod.namespace.as_str());
        if !pool.is_for(namespace) {
            let namespace = namespace.map_or_else(
                || "a call without a pod".to_owned(),
                |namespace| format!("the namespace {namespace}"),
            );
            passed_over.push(format!("{name} is not for {namespace}"));
        } else if let Some((key, value)) = pool.unmet_label(&settings.node_labels) {
            passed_over.push(format!("{name} is for nodes with the label {key}={value}"));
        } else {
            served.push(network.served_by(&pool, pod)?);
        }
    }
    if served.is_empty() {
        let reason = format!("expected a pool for this pod, but {}", passed_over.join(", and "));
        return Err(ConfigError::meaning("ipam.pool", reason).into());
    }
    Ok(served)
}

/// Returns the network as each of its pools serves it, for whatever node and pod.
///
/// # Errors
/// A pool cannot be read.
pub(crate) fn all(
    network: &Network,
    flat: Option<&FlatFile>,
    settings: &Settings,
) -> Result<Vec<Network>, Failure> {
    let serve = |name: &String| Ok(network.served_by(&read(name, flat, settings)?, None)?);
    network.pools.iter().map(serve).collect()
}

/// Reads a pool.
fn read(name: &str, flat: Option<&FlatFile>, settings: &Settings) -> Result<Pool, Failure> {
    if settings.store.kind != StoreKind::File {
        let reason = "pools of the Kubernetes store are not supported";
        return Err(ConfigError::unsupported("ipam.pool", reason).into());
    }
    let places = places(name, flat, settings);
    let mut found: Vec<(&Path, Vec<u8>)> = Vec::new();
    for path in &places {
        match read_small(path) {
            Ok(bytes) => found.push((path, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let reason = format!("cannot read the pool: {}", error_text(&error));
                return Err(unreadable(path, reason, None).into());
            }
        }
    }
    let is_beside = |path: &Path| !path.starts_with(&settings.store.data_dir);
    let is_shared = settings.store.id.is_some() && !settings.store.single_node;
    match found.as_slice() {
        [(path, _)] if is_shared && is_beside(path) => {
            let reason = format!(
                "expected the file of the pool {name} in the data directory, because machines share the store"
            );
            let hint = format!("move it to {}", settings.store.data_dir.join(DIRECTORY).display());
            Err(unreadable(path, reason, Some(&hint)).into())
        }
        [(path, bytes)] => Ok(Pool::read(name, &path.display().to_string(), bytes)?),
        [] => {
            let shown: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
            let reason = format!("no pool has the name {name}: looked for {}", shown.join(" and "));
            Err(ConfigError::meaning("ipam.pool", reason).into())
        }
        [(path, _), (other, _), ..] => {
            let reason =
                format!("expected one file for the pool {name}, found also {}", other.display());
            let hint = "on a store that machines share, keep the file in the data directory";
            Err(unreadable(path, reason, Some(hint)).into())
        }
    }
}

/// Returns where the file of a pool may be.
fn places(name: &str, flat: Option<&FlatFile>, settings: &Settings) -> Vec<PathBuf> {
    let beside = flat.and_then(FlatFile::own).and_then(|own| own.path().parent());
    let roots = [beside, Some(settings.store.data_dir.as_path())];
    let file = format!("{name}.yaml");
    roots.into_iter().flatten().map(|root| root.join(DIRECTORY).join(&file)).collect()
}

fn unreadable(path: &Path, reason: String, hint: Option<&str>) -> ConfigError {
    ConfigError {
        problem: Problem::Read,
        place: path.display().to_string(),
        reason,
        hint: hint.map(str::to_owned),
    }
}
