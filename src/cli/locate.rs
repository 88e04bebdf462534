//! Finds the store that a command works on, and the name of this node.

use super::{HintedError, StoreArgs, output};
use crate::config::{
    Chosen, ConfigError, FlatFile, Merged, Settings, StoreKind, StoreSettings,
    plugin_configurations,
};
use crate::environment::Environment;
use crate::ipam::{self, Life, NodeName, Record};
use crate::json::Json;
use crate::plugin::debts::{Debts, Place};
use crate::plugin::machine::{self, Machine};
use crate::plugin::recently_freed::Freed;
use crate::plugin::set_aside::SetAside;
use crate::plugin::stores::{self, OnBehalf};
use crate::store::node_identity::NodeIdentity;
use crate::store::upkeep::Upkeep;
use crate::store::{Store, StoreError};
use anyhow::{Context, bail};
use std::path::Path;

/// The largest size of a configuration on stdin, in bytes.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// A store, and what is known about this node.
pub(super) struct Located<'l> {
    settings: Settings,
    /// The flat file, if it is about this store. The pools of the store may be beside it.
    pub(super) flat: Option<FlatFile>,
    environment: &'l Environment,
    /// The name of the store: a directory, or the URL of an API server.
    pub(super) name: String,
    /// The name of this node. It is `None` if it is unknown, or if the command does not act for a
    /// node. A command that only reads does not need it.
    pub(super) node: Option<NodeName>,
    /// Whether `--kubeconfig` selects the store. It names no node.
    by_kubeconfig: bool,
    pub(super) machine: Machine,
}

impl Located<'_> {
    /// Opens the store for this node.
    pub(super) fn store_of(&self, node: &NodeName) -> anyhow::Result<Box<dyn Upkeep>> {
        self.open(node.clone(), OnBehalf::OfThisNode)
    }

    /// Opens the store for a caller that acts for another node. `is_off` states that this node is
    /// permanently off and is to be forgotten.
    pub(super) fn store_of_another(
        &self,
        node: &NodeName,
        is_off: bool,
    ) -> anyhow::Result<Box<dyn Upkeep>> {
        self.open(node.clone(), if is_off { OnBehalf::OfOneThatIsOff } else { self.of_another() })
    }

    /// Opens the store for reading only.
    pub(super) fn store(&self) -> anyhow::Result<Box<dyn Upkeep>> {
        let reader = match &self.node {
            Some(node) => node.clone(),
            None => no_node()?,
        };
        self.open(reader, self.of_another())
    }

    /// Returns for whom a command acts that does not act for this node. `--kubeconfig` may name a
    /// cluster to which this machine does not belong.
    const fn of_another(&self) -> OnBehalf {
        if self.by_kubeconfig { OnBehalf::OfNone } else { OnBehalf::OfAnother }
    }

    /// Opens the Kubernetes store alone for this node, without its slices. Returns `None` if the store
    /// is another one.
    #[cfg(feature = "kube")]
    pub(super) fn kubernetes(&self) -> anyhow::Result<Option<crate::store::kube::KubeStore>> {
        let StoreKind::Kubernetes { kubeconfig } = &self.settings.store.kind else {
            return Ok(None);
        };
        let (host, proxy) = (self.host(self.own_node()?), &self.environment.proxy);
        Ok(Some(stores::kubernetes(&self.settings, kubeconfig, host, proxy)?))
    }

    /// Returns the name of this node, for an action that only this node may do.
    pub(super) fn own_node(&self) -> anyhow::Result<NodeName> {
        let hint = if self.by_kubeconfig {
            "run it on the node itself, without --kubeconfig; for a node that is off, run \"hereabouts release --node NODE --kubeconfig FILE\""
        } else {
            "run it on the node itself; if this is the node, set node_name in its flat file"
        };
        let message = format!("this command acts for one node, and {}", self.why_no_node());
        self.node.clone().ok_or_else(|| HintedError::new(message, hint).into())
    }

    /// Returns why the name of this node is unknown.
    pub(super) const fn why_no_node(&self) -> &'static str {
        if self.by_kubeconfig {
            "--kubeconfig does not name one"
        } else {
            "the name of this node is unknown"
        }
    }

    /// Returns the debts of this node.
    pub(super) fn debts(&self) -> Debts {
        Debts::new(self.settings.debts_dir.clone())
    }

    /// Returns the notes about the addresses that this node's pods have recently given back.
    pub(super) fn freed(&self, node: &NodeName) -> Freed {
        Freed::new(&self.settings.debts_dir, node, self.machine.now)
            .resting(self.settings.reuse_after)
    }

    /// Returns the notes about the addresses that this node passes over, if its name is known.
    pub(super) fn set_aside(&self) -> Option<SetAside> {
        let node = self.node.as_ref()?;
        Some(SetAside::new(&self.settings.debts_dir, node, self.machine.now))
    }

    /// Returns the place of the store, in the form that debts use.
    pub(super) fn place(&self) -> Place {
        Place::of(&self.settings.store)
    }

    /// Returns all settings.
    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the settings of the store.
    pub(super) fn store_settings(&self) -> &StoreSettings {
        &self.settings.store
    }

    /// Opens the store that other settings name, for this node.
    pub(super) fn open_as(
        &self,
        settings: &Settings,
        node: &NodeName,
    ) -> Result<Box<dyn Store>, StoreError> {
        stores::open(settings, self.host(node.clone()), stores::nothing(), &self.environment.proxy)
    }

    /// Returns whether the sandbox of a record of this node still exists.
    pub(super) fn life(&self, held: &Record) -> Life {
        ipam::classify_record(held, &self.machine)
    }

    /// Returns whether a record with another machine ID was left behind.
    #[cfg(feature = "kube")]
    pub(super) fn is_left_behind(&self, held: &Record, relation: ipam::NodeRelation) -> bool {
        ipam::is_left_behind(held, &self.machine, relation)
    }

    fn open(&self, node: NodeName, on_behalf: OnBehalf) -> anyhow::Result<Box<dyn Upkeep>> {
        Ok(stores::open_to_keep(
            &self.settings,
            self.host(node),
            on_behalf,
            &self.environment.proxy,
        )?)
    }

    fn host(&self, node: NodeName) -> NodeIdentity {
        NodeIdentity {
            node,
            machine_id: self.machine.machine_id.clone(),
            boot_id: self.machine.boot_id.clone(),
        }
    }
}

/// Returns the name under which a command reads a store if it acts for no node.
pub(super) fn no_node() -> anyhow::Result<NodeName> {
    NodeName::parse("unnamed").or_else(|_| bail!("no node name"))
}

/// Finds the store: `--data-dir` or `--kubeconfig`, else `--config`, else the flat file, else the
/// default.
pub(super) fn locate<'l>(
    environment: &'l Environment,
    args: &StoreArgs,
) -> anyhow::Result<Located<'l>> {
    let machine = Machine::read()?;
    let nothing = Json::Object(vec![("ipam".to_owned(), Json::Object(Vec::new()))]);
    #[cfg(feature = "kube")]
    if let Some(path) = &args.kubeconfig {
        let mut settings = Settings::parse(&Merged::new(&nothing, None)?, false)?;
        settings.store.kind = StoreKind::Kubernetes { kubeconfig: std::path::absolute(path)? };
        let name = called(&settings, environment)?;
        let (flat, node, by_kubeconfig) = (None, None, true);
        return Ok(Located { settings, flat, environment, name, node, by_kubeconfig, machine });
    }
    let source = match &args.config {
        Some(path) => read_config(environment, path)?,
        None => Source { flat: machine::flat_file(&environment.node, None)?, network: None },
    };
    let merged = Merged::new(source.network.as_ref().unwrap_or(&nothing), source.flat.as_ref())?;
    let parsed = Settings::parse(&merged, false);
    let node_of = |settings: &Settings| {
        machine::node_name(&environment.node, settings, source.flat.as_ref()).ok()
    };
    let Some(directory) = &args.data_dir else {
        let settings = parsed?;
        let name = called(&settings, environment)?;
        if !settings.store.named && !settings.store.data_dir.join("format").exists() {
            say_how_to_name_one();
        }
        let (node, flat, by_kubeconfig) = (node_of(&settings), source.flat, false);
        return Ok(Located { settings, flat, environment, name, node, by_kubeconfig, machine });
    };
    // A mistake in the configuration does not prevent the use of a directory that is given.
    let known = parsed.is_ok();
    let mut settings = parsed.or_else(|_| Settings::parse(&Merged::new(&nothing, None)?, false))?;
    settings.store.kind = StoreKind::File;
    let directory = std::path::absolute(directory)?;
    let is_other = settings.store.data_dir != directory;
    if is_other {
        (settings.store.id, settings.store.by_flat_file) = (None, false);
    }
    settings.store.data_dir = directory;
    "--data-dir".clone_into(&mut settings.store.origin);
    let name = called(&settings, environment)?;
    // A directory that was named for this command and is not a store is a mistake of the operator.
    // The node's own directory may still be empty.
    if !settings.store.data_dir.join("format").exists()
        && !stores::notes().knows(&settings.store.data_dir)
    {
        bail!("there is no store at {name}");
    }
    let node = known.then(|| node_of(&settings)).flatten();
    let flat = source.flat.filter(|_| !is_other);
    Ok(Located { settings, flat, environment, name, node, by_kubeconfig: false, machine })
}

/// Returns the name of the store, and prints it.
#[cfg_attr(
    not(feature = "kube"),
    allow(unused_variables, reason = "only the Kubernetes store needs them")
)]
fn called(settings: &Settings, environment: &Environment) -> anyhow::Result<String> {
    let (name, origin) = match &settings.store.kind {
        StoreKind::File => {
            (settings.store.data_dir.display().to_string(), settings.store.origin.clone())
        }
        #[cfg(feature = "kube")]
        StoreKind::Kubernetes { kubeconfig } => {
            (stores::server(kubeconfig, &environment.proxy)?, kubeconfig.display().to_string())
        }
    };
    output::say(&format!("store: {name} ({origin})"));
    Ok(name)
}

/// Prints how to name a store. Otherwise an empty answer on a machine without a store would be
/// mistaken for that of the cluster.
fn say_how_to_name_one() {
    let cluster = if cfg!(feature = "kube") { "--kubeconfig FILE for a cluster or " } else { "" };
    output::say(&format!(
        "no store is configured on this machine\nhint: use {cluster}--data-dir DIR for a directory"
    ));
}

struct Source {
    flat: Option<FlatFile>,
    network: Option<Json>,
}

/// Reads the file of `--config`, which may be a flat file or a network configuration.
fn read_config(environment: &Environment, path: &Path) -> anyhow::Result<Source> {
    let bytes = read(path)?;
    if let Ok(found) = plugin_configurations(&bytes) {
        let network = found.into_iter().next();
        return Ok(Source { flat: machine::flat_file(&environment.node, None)?, network });
    }
    Ok(Source {
        flat: Some(FlatFile::parse(path.to_owned(), &bytes, Chosen::ByNode)?),
        network: None,
    })
}

/// Returns the plugin configurations in a file that the operator named.
pub(super) fn configurations(path: &Path) -> anyhow::Result<Vec<Json>> {
    let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    Ok(plugin_configurations(&read(path)?).map_err(|error| {
        let place = if error.place == "file" { name } else { format!("{name}: {}", error.place) };
        ConfigError { place, ..error }
    })?)
}

/// Reads a file that the operator named. `-` is stdin.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        return read_stdin(MOST_BYTES);
    }
    machine::read_small(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads standard input: at most `most` bytes, a number of whole MiB.
pub(super) fn read_stdin(most: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let stdin = std::io::stdin().lock();
    std::io::Read::read_to_end(&mut std::io::Read::take(stdin, most + 1), &mut bytes)
        .context("cannot read stdin")?;
    if most < bytes.len() as u64 {
        bail!("cannot read stdin: it is larger than {} MiB", most >> 20);
    }
    Ok(bytes)
}
