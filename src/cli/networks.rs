//! The networks of a file that the operator names, with this node's flat file merged into them, and
//! the pools that the operator names, for `usage` and `show`.

use super::locate::{self, Located};
use super::pools;
use crate::config::{CniArgs, ConfigError, Merged, Network, Pool, Settings};
use crate::environment::Environment;
use crate::plugin::failure::Failure;
use crate::plugin::machine;
use std::path::Path;

/// One network of the file.
pub(super) struct Named {
    /// The name of the network. A pool without a network has none.
    pub(super) name: Option<String>,
    /// The pool that serves it, if it names pools. There is one item for each pool.
    pub(super) pool: Option<String>,
    pub(super) network: Network,
}

/// Returns the networks that have nothing but one of these pools.
///
/// # Errors
/// A pool does not exist, or cannot be used.
pub(super) fn of_pools(located: &Located<'_>, names: &[String]) -> anyhow::Result<Vec<Named>> {
    let of_pool = |pool: Pool| {
        let network = pools::network_of(&pool, located.flat.as_ref())?;
        Ok(Named { name: None, pool: Some(pool.name), network })
    };
    pools::named(located, names)?.into_iter().map(of_pool).collect()
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
        for pool in &network.pools {
            let pool = pools::any(pool, flat.as_ref(), &settings, environment)?;
            let network = network.served_by(&pool, &CniArgs::default()).map_err(Failure::from)?;
            networks.push(Named { name: name.clone(), pool: Some(pool.name), network });
        }
    }
    Ok(networks)
}
