//! A valid network, as the notes about it see it.

use crate::config::{Chain, FlatFile, Network, Origin, Pool};
use crate::json::Json;

/// A valid network, with what surrounds it.
pub(super) struct Case<'c> {
    /// The plugin configuration.
    pub(super) configuration: &'c Json,
    /// The list that contains it.
    pub(super) chain: &'c Chain,
    /// The object that contains it.
    pub(super) origin: &'c Origin,
    /// The flat file of this machine.
    pub(super) flat: Option<&'c FlatFile>,
    /// What the plugin makes of it.
    pub(super) network: &'c Network,
    /// The pool that serves the network, if it names pools.
    pub(super) pool: Option<&'c Pool>,
}
