//! A turn under Whereabouts' Lease. Whereabouts does its work one process at a time. While it reads a
//! pool and writes it, nobody else should: its patch then fails, and it begins again, up to a hundred
//! times.
//!
//! No promise depends on the Lease: each change has its own conditions. So a call that does not get it
//! in time goes on without.

use super::calls::{Lease, LeaseSpec};
use crate::retry::{self, Attempt, Deadline, Pace, Stopwatch};
use crate::store::StoreError;
use crate::store::disk::Held;
use crate::store::kube::KubeStore;
use crate::whereabouts::objects::ObjectName;
use serde_json::json;
use std::time::Duration;

/// The name of the Lease.
const NAME: &str = "whereabouts";
/// How long the Lease is ours after a kill, in seconds. A turn takes one or two requests.
const SECONDS: u64 = 3;
/// The time of the request that frees the Lease.
const FREEING: Duration = Duration::from_secs(1);

/// A turn. It ends when this is dropped.
pub(super) struct Turn<'s> {
    store: &'s KubeStore,
    namespace: String,
    lease: ObjectName,
    _lock: Option<Box<dyn Held>>,
}

impl KubeStore {
    /// Waits for a turn. Returns `None` if none came in time.
    pub(super) fn turn(&self, namespace: &str, patience: &Deadline) -> Option<Turn<'_>> {
        let taken = self.wait_for_turn(namespace, patience);
        match &taken {
            Ok(Some(_)) => {}
            Ok(None) => {
                tracing::info!(waited = ?patience.limit(), "Whereabouts' Lease was not free in time; the call goes on without it");
            }
            Err(error) => {
                tracing::info!(%error, "Whereabouts' Lease could not be taken; the call goes on without it");
            }
        }
        taken.ok().flatten()
    }

    fn wait_for_turn(
        &self,
        namespace: &str,
        patience: &Deadline,
    ) -> Result<Option<Turn<'_>>, StoreError> {
        let lock = match self.for_dead_node {
            true => None,
            false => Some(self.state.lock_turn(patience)?),
        };
        let identity = self.identity_of_turn();
        let mut seen: Option<(LeaseSpec, Stopwatch)> = None;
        let taken = retry::until_paced(patience, Pace::LEASE, || {
            let Some(lease) = self.api.lease(namespace, NAME, patience)? else {
                let spec = spec_of(&identity, 0, self.now());
                let made = self.api.make_lease(namespace, NAME, &spec, patience)?;
                return Ok(made.map_or(Attempt::Again(Duration::ZERO), Attempt::Done));
            };
            let Lease { metadata, spec } = lease;
            let holder = spec.holder_identity.as_deref().unwrap_or_default();
            // The lock says that no other process of this node is at work.
            let is_free = holder.is_empty() || (lock.is_some() && holder == identity);
            if !is_free && !has_expired(&mut seen, spec.clone()) {
                return Ok(Attempt::Again(Duration::ZERO));
            }
            let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(1);
            let spec = spec_of(&identity, transitions, self.now());
            let changed = self.api.change_lease(namespace, &metadata, &spec, patience)?;
            Ok::<_, StoreError>(changed.map_or(Attempt::Again(Duration::ZERO), Attempt::Done))
        })?;
        Ok(taken.map(|lease| Turn {
            store: self,
            namespace: namespace.to_owned(),
            lease: lease.metadata,
            _lock: lock,
        }))
    }

    /// Returns the name under which this node takes the Lease. Whereabouts' names are pods, with one
    /// slash. A command that acts for another node has a name for itself, because it has no lock.
    fn identity_of_turn(&self) -> String {
        if !self.for_dead_node {
            return format!("hereabouts/node/{}", self.host.node);
        }
        let unique = self.state.disk().random().map_or(0, u128::from_be_bytes);
        format!("hereabouts/command/{}-{unique:x}", std::process::id())
    }
}

/// Returns whether a Lease was not renewed for as long as it says, as far as this process has seen.
fn has_expired(seen: &mut Option<(LeaseSpec, Stopwatch)>, now: LeaseSpec) -> bool {
    let lasts = Duration::from_secs(now.lease_duration_seconds.unwrap_or(SECONDS));
    match seen {
        Some((then, since)) if *then == now => lasts <= since.elapsed(),
        _ => {
            *seen = Some((now, Stopwatch::default()));
            false
        }
    }
}

fn spec_of(identity: &str, transitions: u64, now: std::time::SystemTime) -> serde_json::Value {
    let now = humantime::format_rfc3339_micros(now).to_string();
    json!({
        "holderIdentity": identity, "leaseDurationSeconds": SECONDS, "acquireTime": now,
        "renewTime": now, "leaseTransitions": transitions,
    })
}

impl Drop for Turn<'_> {
    /// Frees the Lease, as client-go does.
    fn drop(&mut self) {
        let free = json!({"holderIdentity": null, "leaseDurationSeconds": 1});
        let deadline = Deadline::after(FREEING);
        let freed = self.store.api.change_lease(&self.namespace, &self.lease, &free, &deadline);
        if let Err(error) = freed {
            tracing::info!(%error, "Whereabouts' Lease could not be freed; it ends by itself");
        }
    }
}
