//! For whom networks and pools reserve an address, for `show`.

use super::networks::Named;
use super::output;
use crate::ipam::Scope;
use serde_json::{Value, json};
use std::net::IpAddr;

/// One network that reserves an address.
pub(super) struct ReservedFor {
    /// The network, or `None` for a pool without a network.
    network: Option<String>,
    pool: Option<String>,
    scope: Scope,
    /// The pods, or `None` if every caller that asks for the address gets it.
    owner: Option<String>,
}

impl ReservedFor {
    /// Returns who gets the address, in words.
    pub(super) fn text(&self) -> String {
        let owner = self.owner.as_deref().unwrap_or("callers that ask for it");
        let network = self.network.as_deref().unwrap_or("-");
        match &self.pool {
            Some(pool) if self.network.is_none() => format!("{owner}, by pool {pool}"),
            Some(pool) => format!("{owner}, by pool {pool} of network {network}"),
            None => format!("{owner}, by network {network}"),
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

/// Returns the networks that reserve an address.
pub(super) fn find(networks: &[Named], address: IpAddr) -> Vec<ReservedFor> {
    let mut found = Vec::new();
    for Named { name, pool, network } in networks {
        let owner = network.reservations.owner_of(address);
        if owner.is_some() || network.reservations.on_request.contains(address) {
            found.push(ReservedFor {
                network: name.as_deref().map(output::printable),
                owner: owner.map(|owner| output::printable(&owner.to_string())),
                scope: network.scope.clone(),
                pool: pool.clone(),
            });
        }
    }
    found
}
