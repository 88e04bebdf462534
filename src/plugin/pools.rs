//! The pools that a network names: finds them, and chooses those that are for this node and pod.
//!
//! In the Kubernetes store, a pool is an IPPool object. For the file store, it is a file
//! `pools/NAME.yaml`: beside the node's flat file if the store is on a local path, and in the data
//! directory if machines share the store. Two nodes with different files for one pool could give one
//! address in two scopes.

use super::failure::Failure;
use crate::config::{CniArgs, ConfigError, FlatFile, Network, Pool, Problem, Settings, StoreKind};
use crate::ipam::names_network;
use crate::retry::Deadline;
use crate::small_file::{error_text, read_small};
use crate::store::Store;
use crate::store::file::POOLS;
use crate::store::pools::Read;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where the pools are, and how current they have to be.
pub(crate) struct Pools<'a> {
    pub(crate) flat: Option<&'a FlatFile>,
    pub(crate) settings: &'a Settings,
    pub(crate) store: &'a dyn Store,
    pub(crate) read: Read,
    pub(crate) deadline: Deadline,
}

/// A network as its pools serve it.
#[derive(Default)]
pub(crate) struct Served {
    /// The network with each pool that is for the node and the pod, in order of preference.
    networks: Vec<Network>,
    /// Why the other pools are not for the node and the pod.
    passed_over: Vec<String>,
    /// The first mistake among these.
    mistake: Option<ConfigError>,
    /// Whether one of the pools is a copy, so that the present pool may have more room.
    pub(crate) copied: bool,
}

/// Why a pool does not serve a network.
enum PassedOver {
    /// It is not for the node or the pod, in words.
    Words(String),
    /// It cannot be read or used.
    Failure(Failure),
}

impl From<Failure> for PassedOver {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Served {
    /// Returns the networks.
    ///
    /// # Errors
    /// No pool is for the node and the pod.
    pub(super) fn networks(mut self) -> Result<Vec<Network>, Failure> {
        if self.networks.is_empty() {
            if let Some(mistake) = self.mistake.filter(|_| self.passed_over.len() == 1) {
                return Err(mistake.into());
            }
            let reason =
                format!("expected a pool for this pod, but {}", self.passed_over.join(", and "));
            return Err(ConfigError::meaning("ipam.pool", reason).into());
        }
        if self.networks.iter().any(may_allocate) {
            self.networks.retain(may_allocate);
        }
        Ok(self.networks)
    }
}

impl Pools<'_> {
    /// Returns the network as each pool serves it that it names and that is for this node and pod.
    ///
    /// # Errors
    /// A pool cannot be read, or cannot serve the network.
    pub(crate) fn serve(&self, network: &Network, args: &CniArgs) -> Result<Served, Failure> {
        let mut served = Served::default();
        let labels = OnceCell::new();
        for name in &network.pools {
            match self.serve_by(name, network, args, &labels, &mut served) {
                Ok(network) => served.networks.push(network),
                Err(PassedOver::Words(words)) => served.passed_over.push(words),
                // A pool with a mistake must not stop the others.
                Err(PassedOver::Failure(Failure::Config(mistake))) => {
                    served.copied |= self.read == Read::Copies;
                    served.passed_over.push(mistake.to_string());
                    served.mistake.get_or_insert(mistake);
                }
                Err(PassedOver::Failure(failure)) => return Err(failure),
            }
        }
        Ok(served)
    }

    fn serve_by(
        &self,
        name: &str,
        network: &Network,
        args: &CniArgs,
        labels: &OnceCell<BTreeMap<String, String>>,
        served: &mut Served,
    ) -> Result<Network, PassedOver> {
        let (pool, is_copy) = self.read(name)?;
        served.copied |= is_copy;
        let namespace = args.pod.as_ref().map(|pod| pod.namespace.as_str());
        if pool.is_ending {
            return Err(PassedOver::Words(format!("{name} is being deleted")));
        }
        if !pool.is_for(namespace) {
            let namespace = namespace.map_or_else(
                || "a call without a pod".to_owned(),
                |namespace| format!("the namespace {namespace}"),
            );
            return Err(PassedOver::Words(format!("{name} is not for {namespace}")));
        }
        if let Some((key, value)) = self.unmet_label(&pool, labels)? {
            let words = format!("{name} is for nodes with the label {key}={value}");
            return Err(PassedOver::Words(words));
        }
        Ok(network.served_by(&pool, args).map_err(Failure::from)?)
    }

    /// Returns the network as each of its pools serves it, for whatever node and pod. A pool with a
    /// mistake is left out while another one can be used.
    ///
    /// # Errors
    /// No pool can be used, or the store cannot be read.
    pub(crate) fn all(&self, network: &Network) -> Result<Vec<Network>, Failure> {
        let (mut usable, mut mistake) = (Vec::new(), None);
        for name in &network.pools {
            let served = self.read(name).and_then(|(pool, _)| {
                network.served_by(&pool, &CniArgs::default()).map_err(Failure::from)
            });
            match served {
                Ok(network) => usable.push(network),
                Err(failure @ Failure::Config(_)) => {
                    mistake.get_or_insert(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        match mistake.filter(|_| usable.is_empty()) {
            Some(mistake) => Err(mistake),
            None => Ok(usable),
        }
    }

    /// Returns whether a pool is there and for this node, as far as is known.
    #[cfg(feature = "kube")]
    pub(crate) fn is_for_this_node(&self, name: &str) -> bool {
        if names_network(name) {
            return true;
        }
        let known = self.store.pool(name, self.read, self.deadline);
        if !matches!(known, Ok(Some(_))) {
            return known.is_err();
        }
        // What cannot be read now says nothing.
        self.read(name).map_or(true, |(pool, _)| {
            let labels = OnceCell::new();
            let unmet = self.unmet_label(&pool, &labels);
            !pool.is_ending && unmet.map_or(true, |unmet| unmet.is_none())
        })
    }

    /// Returns a label that this node needs for the pool and does not have. The labels of the flat
    /// file come before those of the Node object.
    fn unmet_label<'p>(
        &self,
        pool: &'p Pool,
        labels: &OnceCell<BTreeMap<String, String>>,
    ) -> Result<Option<(&'p str, &'p str)>, Failure> {
        if pool.node_labels.is_empty() {
            return Ok(None);
        }
        if !self.settings.node_labels.is_empty() {
            return Ok(pool.unmet_label(&self.settings.node_labels));
        }
        let labels = match labels.get() {
            Some(labels) => labels,
            None => {
                let read = self.store.node_labels(self.read, self.deadline)?;
                labels.get_or_init(|| read)
            }
        };
        Ok(pool.unmet_label(labels))
    }

    /// Reads a pool. Returns also whether it is a copy.
    fn read(&self, name: &str) -> Result<(Pool, bool), Failure> {
        if self.settings.store.kind == StoreKind::File {
            return Ok((read_file(name, self.flat, self.settings)?, false));
        }
        read_object(name, self.store, self.read, self.deadline)
    }
}

/// Tells the store from whose slices a network takes its addresses, if its pool has slices.
///
/// # Errors
/// The store has no slices, or this node cannot keep their addresses.
pub(super) fn draw_from_slices(store: &dyn Store, network: &Network) -> Result<(), Failure> {
    let Some(slicing) = &network.slicing else { return Ok(()) };
    if store.draw_from(slicing)? {
        return Ok(());
    }
    let mistake = if names_network(&slicing.pool) {
        let reason = "not supported by the file store, which has no slices".to_owned();
        let hint = "leave it out: each node finds free addresses without slices";
        ConfigError::unsupported("ipam.node_slice_size".to_owned(), reason).with_hint(hint)
    } else {
        let reason = format!("the pool {} has slices, and the file store has none", slicing.pool);
        let hint = "use the Kubernetes store, or a pool with subnets in place of ranges";
        ConfigError::meaning("ipam.pool", reason).with_hint(hint)
    };
    Err(mistake.into())
}

/// Reads a pool of the Kubernetes store. Returns also whether it is a copy.
///
/// # Errors
/// There is no such pool, or it cannot be used.
pub(crate) fn read_object(
    name: &str,
    store: &dyn Store,
    read: Read,
    deadline: Deadline,
) -> Result<(Pool, bool), Failure> {
    let Some(stored) = store.pool(name, read, deadline)? else {
        let reason = format!("no pool has the name {name}");
        let hint = "\"kubectl get ippools.hereabouts.dev\" shows those that exist";
        return Err(ConfigError::meaning("ipam.pool", reason).with_hint(hint).into());
    };
    Ok((Pool::read(name, &format!("pool {name}"), &stored.document)?, stored.is_copy))
}

/// Reads the file of a pool.
///
/// # Errors
/// There is no such file, or it cannot be used.
pub(crate) fn read_file(
    name: &str,
    flat: Option<&FlatFile>,
    settings: &Settings,
) -> Result<Pool, Failure> {
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
    let is_shared =
        || !settings.store.single_node && super::machine::is_shared(&settings.store.data_dir);
    match found.as_slice() {
        [(path, _)] if is_beside(path) && is_shared() => {
            let reason = format!(
                "expected the file of the pool {name} in the data directory, because machines share the store"
            );
            let hint = format!("move it to {}", settings.store.data_dir.join(POOLS).display());
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

/// Returns whether the pool has the families that the network needs. If no pool has, an attachment
/// still gets what it holds, and a new allocation fails with the mistake.
fn may_allocate(network: &Network) -> bool {
    network.beyond.is_empty()
}

/// Returns where the file of a pool may be.
pub(crate) fn places(name: &str, flat: Option<&FlatFile>, settings: &Settings) -> Vec<PathBuf> {
    let beside = flat.and_then(FlatFile::own).and_then(|own| own.path().parent());
    let roots = [beside, Some(settings.store.data_dir.as_path())];
    let file = format!("{name}.yaml");
    roots.into_iter().flatten().map(|root| root.join(POOLS).join(&file)).collect()
}

fn unreadable(path: &Path, reason: String, hint: Option<&str>) -> ConfigError {
    ConfigError {
        problem: Problem::Read,
        place: path.display().to_string(),
        reason,
        hint: hint.map(str::to_owned),
    }
}
