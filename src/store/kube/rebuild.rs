//! Making the node state what it has to be: anew after a boot, in another
//! cluster, or when it was lost; and the readiness that is remembered in it.

use super::answer::damaged;
use super::crd::{IpAllocation, PLURAL};
use super::names;
use super::place::Place;
use super::{KubeStore, PATIENCE};
use crate::ipam::{Allocation, Scope};
use crate::store::StoreError;
use crate::store::retry::Deadline;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

const READY: &str = "ready";
/// Runtimes poll STATUS every few seconds, on every node: the API server is
/// asked once in this time.
const READY_HOLDS: Duration = Duration::from_secs(60);

/// What an ADD and a DEL need to be allowed.
const VERBS: &[&str] = &["create", "get", "delete", "patch"];

#[derive(Serialize, Deserialize)]
struct Ready {
    cluster: String,
    /// Milliseconds since 1970.
    at: u64,
}

impl KubeStore {
    /// Sees to it that the state is all there is of this node, cluster and boot.
    pub(super) fn make_complete(&self, deadline: &Deadline) -> Result<(), StoreError> {
        let origin = self.origin();
        if self.state.is_complete(&origin)? {
            return Ok(());
        }
        self.state.prepare()?;
        let _lock = self.state.lock_rebuild(deadline)?;
        if self.state.is_complete(&origin)? {
            return Ok(());
        }
        self.rebuild(deadline)?;
        self.state.complete(&origin)
    }

    /// Makes the state again from one list of the node's objects. The list comes
    /// first: a kubeconfig that may not list costs the node nothing that it knows.
    fn rebuild(&self, deadline: &Deadline) -> Result<(), StoreError> {
        tracing::info!(node = %self.host.node, "the node state is made again from the node's objects");
        let found = self.list_own(deadline)?;
        // What the cluster has lost, `repair` brings back from here.
        let remembers = self.state.origin().is_none_or(|known| is_same_cluster(&known.cluster, self.api.cluster()));
        let of_this_boot = |object: &IpAllocation| object.spec.node == self.host.node.as_str() && object.spec.boot_id == self.host.boot_id;
        self.state.clear(|object| of_this_boot(object) && (remembers || object.metadata.resource_version.is_none()), deadline)?;
        // Else the first ADD would ask for one of them, and take the refusal for
        // a neighbor's.
        let mut held: BTreeMap<Scope, Vec<IpAddr>> = BTreeMap::new();
        for (object, allocation) in found {
            let attachment = &allocation.held.attachment;
            self.state.put(&names::of_attachment(attachment), &object)?;
            self.state.note_pod(attachment, allocation.held.pod.as_ref(), true, deadline);
            held.entry(allocation.scope).or_default().push(allocation.address);
        }
        for (scope, addresses) in held {
            self.state.change_occupancy(&scope, deadline, |believed| addresses.iter().for_each(|address| believed.take(*address)))?;
        }
        Ok(())
    }

    /// The objects of this node that can be read.
    fn list_own(&self, deadline: &Deadline) -> Result<Vec<(IpAllocation, Allocation)>, StoreError> {
        let selector = self.own_selector();
        let mut found = Vec::new();
        let mut place = Place::default();
        while !place.is_ended() {
            for item in self.api.page(&selector, &mut place, deadline)? {
                let object = match item {
                    Ok(object) if object.spec.node == self.host.node.as_str() => object,
                    Ok(_) => continue,
                    Err(unreadable) => {
                        tracing::error!(%unreadable, "an object of this node is passed over");
                        continue;
                    }
                };
                if let Err(another) = self.check_machine(&object) {
                    tracing::error!(%another, "a record of another machine under this node's name is passed over");
                    continue;
                }
                match object.allocation() {
                    Ok(allocation) => found.push((object, allocation)),
                    Err(reason) => {
                        tracing::error!(error = %damaged(&object.metadata.name, &reason), "an object of this node is passed over")
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns whether another machine made an object under this node's name.
    /// Every call passes over such an object: it is never changed or removed, and
    /// it stops no verb, because one stolen token could put any node out of
    /// service otherwise.
    pub(super) fn is_of_another_machine(&self, object: &IpAllocation) -> bool {
        self.check_machine(object).is_err()
    }

    /// The same as an error that names the object. Who acts for a node that is
    /// off acts for all that has its name.
    pub(super) fn check_machine(&self, object: &IpAllocation) -> Result<(), StoreError> {
        match (object.spec.machine.as_deref(), self.machine.as_deref()) {
            (Some(theirs), Some(ours)) if theirs != ours && !self.for_dead_node && object.spec.node == self.host.node.as_str() => {
                Err(StoreError::SecondMachine {
                    node: self.host.node.to_string(),
                    path: format!("{PLURAL}/{}", object.metadata.name).into(),
                    theirs: format!("{theirs} (hash)"),
                    ours: format!("{ours} (hash)"),
                })
            }
            _ => Ok(()),
        }
    }

    /// See [`crate::store::Store::ready`].
    pub(super) fn check_ready(&self) -> Result<(), StoreError> {
        let disk = self.state.disk();
        disk.check_writable().map_err(|error| crate::store::file::failed(disk, "write to", Path::new(""), error))?;
        let now = self.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let remembered = self.state.read(Path::new(READY)).ok().flatten();
        let remembered = remembered.and_then(|bytes| serde_json::from_slice::<Ready>(&bytes).ok());
        let holds = |ready: &Ready| {
            let at = Duration::from_millis(ready.at);
            ready.cluster == self.api.cluster() && at <= now && now < at + READY_HOLDS
        };
        if remembered.is_some_and(|ready| holds(&ready)) {
            return Ok(());
        }
        let deadline = Deadline::after(PATIENCE);
        self.api.probe(&deadline)?;
        for verb in VERBS {
            if !self.api.may(verb, &deadline)? {
                return Err(self.api.lacks(verb));
            }
        }
        let ready = Ready { cluster: self.api.cluster().to_owned(), at: u64::try_from(now.as_millis()).unwrap_or(0) };
        let remembered = self.state.prepare().and_then(|()| self.state.write(Path::new(READY), &ready));
        if let Err(error) = remembered {
            tracing::debug!(%error, "readiness could not be remembered");
        }
        Ok(())
    }
}

/// Whether two identities may be one cluster's: a cluster keeps its authorities
/// when its URL changes, and its URL when they are renewed. One that names no
/// authorities, or was noted by an earlier version, speaks against nothing.
fn is_same_cluster(known: &str, now: &str) -> bool {
    match (known.split_once('-'), now.split_once('-')) {
        (Some((authorities, server)), Some((authorities_now, server_now))) => {
            server == server_now || authorities == authorities_now && !matches!(authorities, "system" | "anybody")
        }
        _ => true,
    }
}
