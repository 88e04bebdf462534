//! The networks of a file that the operator names, with this node's flat file merged into them, for
//! `usage` and `show`.

use super::locate;
use crate::config::{CniArgs, ConfigError, FlatFile, Merged, Network, Settings};
use crate::environment::Environment;
use crate::ipam::NodeName;
use crate::plugin::machine;
use crate::plugin::pools::Pools;
use crate::plugin::stores::{self, OnBehalf};
use crate::retry::Deadline;
use crate::store::node_identity::NodeIdentity;
use crate::store::pools::Read;
use anyhow::bail;
use std::path::Path;

/// One network of the file.
pub(super) struct Named {
    pub(super) name: Option<String>,
    /// The pool that serves it, if it names pools. There is one item for each pool.
    pub(super) pool: Option<String>,
    pub(super) network: Network,
}

/// Reads the networks of a file. `-` is stdin.
///
/// # Errors
/// The file cannot be read, or an ADD of one of its networks would be refused.
pub(super) fn read(environment: &Environment, file: &Path) -> anyhow::Result<Vec<Named>> {
    let configurations = locate::configurations(file)?;
    let flat = machine::flat_file(&environment.node, None)?;
    let mut networks = Vec::new();
    for configuration in configurations {
        let merged = Merged::new(&configuration, flat.as_ref())?;
        let network = Network::parse(&merged, &CniArgs::default()).map_err(ConfigError::from)?;
        if let Some(mistake) = network.beyond.first().first() {
            return Err(mistake.clone().into());
        }
        let name = configuration.find("name").and_then(|name| name.as_str()).map(str::to_owned);
        if network.pools.is_empty() {
            networks.push(Named { name, pool: None, network });
            continue;
        }
        let settings = Settings::parse(&merged, false)?;
        let served = served(environment, &network, flat.as_ref(), &settings)?;
        for (pool, network) in network.pools.into_iter().zip(served) {
            networks.push(Named { name: name.clone(), pool: Some(pool), network });
        }
    }
    Ok(networks)
}

/// Returns a network as each of its pools serves it. Acts for no node.
fn served(
    environment: &Environment,
    network: &Network,
    flat: Option<&FlatFile>,
    settings: &Settings,
) -> anyhow::Result<Vec<Network>> {
    let node = NodeName::parse("unnamed").or_else(|_| bail!("no node name"))?;
    let host = NodeIdentity { node, machine_id: None, boot_id: String::new() };
    let store = stores::open_to_keep(settings, host, OnBehalf::OfAnother, &environment.proxy)?;
    let pools = Pools {
        flat,
        settings,
        store: store.as_ref(),
        read: Read::Present,
        deadline: Deadline::after(settings.deadlines.add),
    };
    Ok(pools.all(network)?)
}
