//! The network configuration: bytes in, a [`Network`] out.
//!
//! Reads no environment and no files: the flat file's bytes are handed in.
//! Spellings are Whereabouts' and host-local's; what they ignore silently is
//! an error here, because an ignored key is an address given out that should
//! not be.
//!
//! - `error`: what can be wrong, with the JSON path
//! - `wire`: values with the path they stand at
//! - `keys`: every known key, and near misses of them
//! - `limits`: how much one ADD may ask for
//! - `merge`: the flat file below the network configuration
//! - `args`: `CNI_ARGS`
//! - `duration`: durations as people write them
//! - `settings`: store, node, paths, deadlines, log: all that DEL needs
//! - `ranges`: ranges, gateways, exclusions
//! - `validate`: the whole, for ADD, CHECK and STATUS
//! - `nad`: the plugin configurations inside a NetworkAttachmentDefinition or
//!   a list

mod args;
mod deadlines;
mod duration;
mod error;
mod field;
mod keys;
mod limits;
mod merge;
mod nad;
mod ranges;
mod settings;
mod validate;

pub use args::CniArgs;
pub use deadlines::Deadlines;
pub use duration::parse_duration;
pub use error::{ConfigError, Mistakes, Problem};
pub use keys::{KEYS, Key};
pub use limits::Limits;
pub use merge::{Chosen, FlatFile, Merged, chosen_places, flat_file_places};
pub use nad::{Found, plugin_configurations};
pub use settings::{DATA_DIR, LogLevel, LogSettings, Settings, StoreKind, StoreSettings, WhenFull, parse_store_id};
pub use validate::{Dns, Network, ResolvConf, Route};
