//! The gateways that records of a scope name, as far as this node has made those records. Without
//! them, another network of the scope, whose configuration does not name the router, would give the
//! router's address to a pod.
//!
//! The node state has one small file per scope, which costs no request. It contains each gateway
//! with one object that names it. An entry is as good as that object, so a gateway is forgotten
//! with the last object that names it.

use crate::addr::{AddrSet, Range};
use crate::digest;
use crate::ipam::Scope;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::objects::ip_allocation::IpAllocation;
use crate::store::kube::objects::names;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// At this number of gateways, those whose object is gone are dropped before one is added.
const MANY: usize = 64;

/// An object that names a gateway.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Witness {
    attachment: String,
    object: String,
}

type Known = BTreeMap<IpAddr, Witness>;

impl KubeStore {
    /// Notes the gateway that an object names. A failure fails no verb.
    pub(crate) fn note_gateway(&self, hash: &str, object: &IpAllocation, deadline: &Deadline) {
        let scope = Scope::parse(object.spec.scope.as_deref().unwrap_or_default());
        let (Some(gateway), Ok(scope)) = (object.spec.gateway, scope) else {
            return;
        };
        if self
            .known(&scope)
            .get(&gateway)
            .is_some_and(|witness| self.names(&witness.attachment, &scope, gateway).is_some())
        {
            return;
        }
        let witness = Witness { attachment: hash.to_owned(), object: object.metadata.name.clone() };
        self.change(&scope, deadline, |known| {
            if MANY <= known.len() {
                known.retain(|gateway, witness| {
                    self.names(&witness.attachment, &scope, *gateway).is_some()
                });
            }
            known.insert(gateway, witness);
        });
    }

    /// Returns the candidates without the gateways of the scope.
    pub(crate) fn without_gateways(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        deadline: &Deadline,
    ) -> Result<AddrSet, StoreError> {
        let mut left = candidates.clone();
        for (gateway, witness) in self.known(scope) {
            if candidates.contains(gateway)
                && self.is_confirmed(scope, gateway, &witness, deadline)?
            {
                left.remove(&Range::single(gateway));
            }
        }
        Ok(left)
    }

    /// Returns whether an object that this node made names the gateway: the one that is noted, or
    /// any other.
    fn is_confirmed(
        &self,
        scope: &Scope,
        gateway: IpAddr,
        witness: &Witness,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        if self.names(&witness.attachment, scope, gateway).is_some() {
            return Ok(true);
        }
        let other = self.state.hashes()?.into_iter().find_map(|hash| {
            self.names(&hash, scope, gateway).map(|object| Witness { attachment: hash, object })
        });
        let found = other.is_some();
        self.change(scope, deadline, |known| {
            // Another call may have noted an object that was made in the meantime.
            if known.get(&gateway) == Some(witness) {
                known.remove(&gateway);
                known.extend(other.map(|other| (gateway, other)));
            }
        });
        Ok(found)
    }

    /// Returns the name of the object of an attachment that names the gateway. Unreadable state
    /// names none.
    fn names(&self, hash: &str, scope: &Scope, gateway: IpAddr) -> Option<String> {
        let objects = if digest::is_short(hash) {
            self.state.objects(hash).unwrap_or_default()
        } else {
            Vec::new()
        };
        let named = objects.into_iter().find(|object| {
            object.spec.scope.as_deref() == scope.name() && object.spec.gateway == Some(gateway)
        });
        named.map(|object| object.metadata.name)
    }

    fn known(&self, scope: &Scope) -> Known {
        let bytes = self.state.read(&file(scope)).ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn change(&self, scope: &Scope, deadline: &Deadline, change: impl FnOnce(&mut Known)) {
        let changed = self.state.lock_briefly(deadline).and_then(|_lock| {
            let mut known = self.known(scope);
            change(&mut known);
            if known.is_empty() {
                self.state.remove(&file(scope))
            } else {
                self.state.write(&file(scope), &known)
            }
        });
        if let Err(error) = changed {
            tracing::debug!(%error, "the gateways of a scope could not be noted");
        }
    }
}

fn file(scope: &Scope) -> PathBuf {
    format!("gateways-{}", names::of_scope(scope)).into()
}
