//! Which store a command works on, and who this node is.

use super::{Lookup, StoreArgs, output};
use crate::config::{FlatFile, Merged, Settings, data_dir_of, plugin_configurations};
use crate::ipam::NodeName;
use crate::json::Json;
use crate::plugin::host::{self, Machine};
use crate::store::file::disk::RealDisk;
use crate::store::file::{FileStore, Host};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// A store, and what is known of this node.
pub(super) struct Located {
    pub(super) data_dir: PathBuf,
    /// `None` when the name cannot be told; reading needs none.
    pub(super) node: Option<NodeName>,
    pub(super) machine: Machine,
}

impl Located {
    /// The store as a node sees it.
    pub(super) fn store_of(&self, node: &NodeName) -> FileStore<RealDisk> {
        let host = Host { node: node.clone(), machine_id: self.machine.machine_id.clone(), boot_id: self.machine.boot_id.clone() };
        FileStore::new(self.data_dir.clone(), host)
    }

    /// This node, for what only it may do.
    pub(super) fn own_node(&self) -> anyhow::Result<NodeName> {
        self.node.clone().context("this node's name cannot be told, set node_name in the flat file")
    }

    /// The store for reading alone.
    pub(super) fn store(&self) -> anyhow::Result<FileStore<RealDisk>> {
        let reader = match &self.node {
            Some(node) => node.clone(),
            None => NodeName::parse("unnamed").or_else(|_| bail!("no node name"))?,
        };
        Ok(self.store_of(&reader))
    }
}

/// `--data-dir`, else `--config`, else the flat file, else the default.
pub(super) fn locate(lookup: Lookup<'_>, args: &StoreArgs) -> anyhow::Result<Located> {
    let flat = match &args.config {
        Some(path) => read_config(lookup, path)?,
        None => Source { flat: host::flat_file(lookup, None)?, network: None },
    };
    let empty = Json::Object(vec![("ipam".to_owned(), Json::Object(Vec::new()))]);
    let whole = flat.network.as_ref().unwrap_or(&empty);
    let merged = Merged::new(whole, flat.flat.as_ref())?;
    let (data_dir, origin) = match &args.data_dir {
        Some(path) => (std::path::absolute(path)?, "--data-dir".to_owned()),
        None => {
            let store = data_dir_of(&merged)?;
            (store.data_dir, store.origin)
        }
    };
    output::say(&format!("store: {} ({origin})", data_dir.display()));
    // A directory that was named for this command and is no store is a slip of
    // the hand; the node's own may be empty still.
    if args.data_dir.is_some() && !data_dir.join("format").exists() {
        bail!("there is no store at {}", data_dir.display());
    }
    let settings = Settings::parse(&merged, false).ok();
    let node = settings.and_then(|mut settings| {
        settings.store.data_dir.clone_from(&data_dir);
        host::node_name(lookup, &settings, flat.flat.as_ref()).ok()
    });
    Ok(Located { data_dir, node, machine: Machine::look()? })
}

struct Source {
    flat: Option<FlatFile>,
    network: Option<Json>,
}

/// `--config` may be a flat file or a network configuration.
fn read_config(lookup: Lookup<'_>, path: &Path) -> anyhow::Result<Source> {
    let bytes = read(path)?;
    if let Ok(found) = plugin_configurations(&bytes) {
        let network = found.into_iter().next().map(|found| found.configuration);
        return Ok(Source { flat: host::flat_file(lookup, None)?, network });
    }
    Ok(Source { flat: Some(FlatFile::parse(path.to_owned(), &bytes, true)?), network: None })
}

/// Reads a file that the operator named; `-` is stdin.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).context("cannot read stdin")?;
        return Ok(bytes);
    }
    host::read_small(path).with_context(|| format!("cannot read {}", path.display()))
}
