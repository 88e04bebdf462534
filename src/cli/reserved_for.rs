//! For whom the networks of a file reserve an address, for `show`.

use super::networks::{self, Named};
use super::output;
use crate::environment::Environment;
use crate::ipam::Scope;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;

/// One network that reserves an address.
pub(super) struct ReservedFor {
    network: String,
    pool: Option<String>,
    scope: Scope,
    /// The pods, or `None` if every caller that asks for the address gets it.
    owner: Option<String>,
}

impl ReservedFor {
    /// Returns who gets the address, in words.
    pub(super) fn text(&self) -> String {
        let owner = self.owner.as_deref().unwrap_or("callers that ask for it");
        match &self.pool {
            Some(pool) => format!("{owner}, by pool {pool} of network {}", self.network),
            None => format!("{owner}, by network {}", self.network),
        }
    }

    /// Returns it as JSON. The keys are documented and stable.
    pub(super) fn document(&self) -> Value {
        json!({"network": self.network, "pool": self.pool, "scope": self.scope.name(), "owner": self.owner})
    }

    /// Returns whether the reservation is for addresses of a scope.
    pub(super) fn is_in(&self, scope: &Scope) -> bool {
        self.scope == *scope
    }
}

/// Returns the networks of a file that reserve an address.
///
/// # Errors
/// See [`networks::read`].
pub(super) fn find(
    environment: &Environment,
    file: &Path,
    address: IpAddr,
) -> anyhow::Result<Vec<ReservedFor>> {
    let mut found = Vec::new();
    for Named { name, pool, network } in networks::read(environment, file)? {
        let owner = network.reservations.owner_of(address);
        if owner.is_some() || network.reservations.on_request.contains(address) {
            found.push(ReservedFor {
                network: output::printable(name.as_deref().unwrap_or("-")),
                owner: owner.map(|owner| output::printable(&owner.to_string())),
                scope: network.scope,
                pool,
            });
        }
    }
    Ok(found)
}
