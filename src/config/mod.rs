//! The network configuration: parses bytes into a [`Network`].
//!
//! It reads no environment variables and no files. The caller passes the bytes of the flat file.
//! The spellings are those of Whereabouts and host-local. Keys that they ignore silently are errors
//! here, because an ignored key can mean an address that should not be given out.
//!
//! - `error`: the mistakes of a configuration, with the JSON path
//! - `families`: which address families an ADD gives, and in which order
//! - `field`: values with their path
//! - `gateway`: gateways, and whether a route can use them
//! - `ipam_claim`: how a pod names its claim of addresses that outlive it
//! - `keys`: every known key, and the check for mistyped keys
//! - `ignored`: the keys that nothing reads
//! - `limits`: how much one ADD may ask for
//! - `main_plugin`: the main plugins that treat gateways specially
//! - `merge`: the flat file below the network configuration
//! - `address_list`: lists of addresses, subnets and `first-last`
//! - `args`: `CNI_ARGS`
//! - `deadlines`: the time limit of each verb
//! - `duration`: durations with units
//! - `elsewhere`: what to do about addresses that this node or another host has
//! - `served_by`: a network as a pool serves it
//! - `settings`: store, node, paths, deadlines and log, which is all that DEL needs
//! - `network_pools`: the pools of a network
//! - `pool`: named sets of addresses that several networks share
//! - `pool_kind`: how the object of a pool says what it is
//! - `ranges`: ranges, gateways and excludes
//! - `reservations`: addresses for certain pods, or only on request
//! - `routes`: the routes of the result
//! - `validate`: the whole configuration, for ADD, CHECK and STATUS
//! - `documents`: the networks in what operators write

mod address_list;
mod args;
mod deadlines;
mod dns;
mod documents;
mod duration;
mod elsewhere;
mod error;
mod families;
mod field;
mod gateway;
mod ignored;
mod ipam_claim;
mod keys;
mod limits;
mod log_settings;
mod main_plugin;
mod merge;
mod network_pools;
mod node_slices;
mod paths;
mod pool;
pub(crate) mod pool_kind;
mod ranges;
mod reservations;
mod routes;
mod served_by;
mod settings;
mod validate;

pub use args::CniArgs;
pub(crate) use args::parse_requested;
pub use deadlines::Deadlines;
pub use dns::{Dns, ResolvConf};
pub use documents::{
    Chain, Content, Found, IpamPlugin, Origin, each_document, networks, no_network,
    plugin_configurations,
};
pub use duration::parse_duration;
pub use elsewhere::Probe;
pub use error::{ConfigError, Mistakes, Problem};
pub use families::Families;
pub(crate) use field::Field;
pub use gateway::fits as gateway_fits;
pub use ignored::{Ignored, ignored};
pub use ipam_claim::ClaimName;
pub use keys::{KEYS, Key};
pub use limits::Limits;
pub use log_settings::{LogLevel, LogSettings};
pub use main_plugin::MainPlugin;
pub use merge::{ADDRESS_KEYS, Chosen, FlatFile, Merged, chosen_places, flat_file_places};
pub use pool::{Exclusion, Pool, PoolSlices, PoolSubnet};
pub use routes::Route;
pub use settings::{DATA_DIR, Settings, StoreKind, StoreSettings, WhenFull, parse_store_id};
pub use validate::{Network, declares_ips};
