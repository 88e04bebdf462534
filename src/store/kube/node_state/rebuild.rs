//! Completes the node state: after a boot, for a new way to the cluster, in another cluster, or
//! when the state was lost. It also contains the readiness check, whose result is remembered in the
//! state.

use super::cluster_identity::NodeStateIdentity;
use super::clusters::Known;
use crate::ipam::{
    Allocation, Attachment, ContainerId, IfName, NetworkName, Part, Record, Scope, Source,
};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::disk::error::failed;
use crate::store::kube::api::paging::Place;
use crate::store::kube::objects::ip_allocation::{IpAllocation, PLURAL};
use crate::store::kube::objects::names;
use crate::store::kube::objects::unreadable::Unreadable;
use crate::store::kube::{KubeStore, PATIENCE};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

const READY: &str = "ready";
/// How long a successful readiness check holds. Runtimes poll STATUS every few seconds, on every
/// node: the API server is asked once in this time.
const READY_HOLDS: Duration = Duration::from_secs(60);

/// The rights that an ADD and a DEL need.
const VERBS: &[&str] = &["create", "get", "delete", "patch"];

#[derive(Serialize, Deserialize)]
struct Ready {
    cluster: String,
    /// Milliseconds since 1970.
    at: u64,
}

impl KubeStore {
    /// Makes the state complete for this node, cluster and boot.
    pub(crate) fn make_complete(&self, deadline: &Deadline) -> Result<(), StoreError> {
        if self.find_cluster()? == Known::Complete {
            return Ok(());
        }
        self.state.prepare()?;
        let _lock = self.state.lock_rebuild(deadline)?;
        let known = self.find_cluster()?;
        if known == Known::Complete {
            return Ok(());
        }
        // The list comes first: a kubeconfig that may not list must not cost the node anything that
        // it knows.
        let found = self.list_own(deadline)?;
        if known == Known::Unknown {
            self.choose_cluster(&found, deadline)?;
            self.state.prepare()?;
        }
        self.compare(&found, deadline)
    }

    /// Compares the state with the node's objects. Listed objects replace what the state knows.
    /// Other entries are dropped only if nothing needs them.
    fn compare(
        &self,
        found: &[(IpAllocation, Allocation)],
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let ours = self.identity();
        let identity = self.state.identity()?;
        // If the state is not old, calls that came here by another way may be running.
        let is_old = !identity.as_ref().is_some_and(|identity| identity.is_of(&ours));
        tracing::info!(node = %self.host.node, is_old, "the node state is compared with the node's objects");
        let mut held: BTreeMap<Scope, Vec<IpAddr>> = BTreeMap::new();
        if is_old {
            self.state.tidy();
            self.state.carry_set_back_over();
            self.drop_useless(&mut held, deadline)?;
        }
        for (object, allocation) in found {
            let hash = names::of_attachment(&allocation.record.attachment);
            if is_old {
                self.note_listed(&hash, object, allocation, deadline)?;
            } else if let Some(_lock) =
                self.state.try_lock_attachment(&hash).filter(|_| !self.is_noted(&hash, object))
            {
                // The listed object may be gone in the meantime.
                let current = self.api.get_of_attachment(&object.metadata.name, deadline)?;
                if current.is_some_and(|current| current.metadata.uid == object.metadata.uid) {
                    self.note_listed(&hash, object, allocation, deadline)?;
                }
            }
            held.entry(allocation.scope.clone()).or_default().push(allocation.address);
        }
        // Otherwise the first ADD would ask for one of them and take the refusal for an address of
        // another node.
        for (scope, addresses) in held {
            self.state.change_occupancy(&scope, deadline, |believed| {
                addresses.iter().for_each(|address| believed.take(*address))
            })?;
        }
        let mut identity = NodeStateIdentity {
            ways: identity.map(|identity| identity.ways).unwrap_or_default(),
            ..ours
        };
        identity.learn(self.api.server.way());
        self.state.complete(&identity)
    }

    /// Drops what is known of sandboxes of earlier boots that are gone, and what belongs to another
    /// node. The rest stays: `repair` uses it to recreate what the cluster has lost, and no list
    /// shows a creation that is still under way.
    fn drop_useless(
        &self,
        held: &mut BTreeMap<Scope, Vec<IpAddr>>,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let ours = |object: &IpAllocation| {
            object.spec.node == self.host.node.as_str() && !self.is_of_another_machine(object)
        };
        let of_this_boot =
            |object: &IpAllocation| ours(object) && object.spec.boot_id == self.host.boot_id;
        self.state.change_tombstones(deadline, |tombstones| {
            tombstones.retain(|tombstone| of_this_boot(&tombstone.object))
        })?;
        for hash in self.state.hashes()? {
            let known = match self.state.objects(&hash) {
                Ok(known) => known,
                // The list contains its objects.
                Err(StoreError::Damaged { .. }) => {
                    self.state.replace_objects(&hash, &[])?;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "the node state of an attachment stays as it is");
                    continue;
                }
            };
            let is_dead = |held: &Record| self.life.is_none_or(|life| life(held).is_dead());
            let of_use = |object: &IpAllocation| {
                let is_needed = || match object.allocation() {
                    Ok(known) => !is_dead(&known.record),
                    Err(unreadable) => matches!(unreadable, Unreadable::Newer(_)),
                };
                of_this_boot(object) || ours(object) && is_needed()
            };
            let kept: Vec<IpAllocation> =
                known.iter().filter(|object| of_use(object)).cloned().collect();
            if kept.len() < known.len() {
                self.state.replace_objects(&hash, &kept)?;
            }
            for allocation in kept.iter().filter_map(|object| object.allocation().ok()) {
                self.state.note_pod(
                    &allocation.record.attachment,
                    allocation.record.pod.as_ref(),
                    true,
                    deadline,
                );
                held.entry(allocation.scope).or_default().push(allocation.address);
            }
        }
        Ok(())
    }

    /// Writes an object of the list into the state.
    fn note_listed(
        &self,
        hash: &str,
        object: &IpAllocation,
        allocation: &Allocation,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        match self.state.put(hash, object) {
            // The file stays as it is, and is an error for the calls of this attachment.
            Err(error) if self.state.objects(hash).is_err() => {
                tracing::warn!(%error, "cannot note an object of this node")
            }
            put => drop(put?),
        }
        self.note_gateway(hash, object, deadline);
        self.state.note_pod(
            &allocation.record.attachment,
            allocation.record.pod.as_ref(),
            true,
            deadline,
        );
        Ok(())
    }

    fn is_noted(&self, hash: &str, object: &IpAllocation) -> bool {
        self.state.objects(hash).is_ok_and(|known| {
            known.iter().any(|known| known.metadata.name == object.metadata.name)
        })
    }

    /// Returns the objects of this node that can be read.
    fn list_own(&self, deadline: &Deadline) -> Result<Vec<(IpAllocation, Allocation)>, StoreError> {
        let selector = self.own_selector();
        let mut found = Vec::new();
        let mut place = Place::default();
        while !place.is_ended() {
            for item in self.api.page_of_attachments(&selector, &mut place, deadline)? {
                let object = match item {
                    Ok(object) if object.spec.node == self.host.node.as_str() => object,
                    Ok(_) => continue,
                    Err(unreadable) => {
                        tracing::error!(%unreadable, "an object of this node is skipped");
                        continue;
                    }
                };
                if let Err(another) = self.check_machine(&object) {
                    tracing::error!(%another, "a record of another machine under this node's name is skipped");
                    continue;
                }
                match object.allocation() {
                    Ok(allocation) => found.push((object, allocation)),
                    Err(unreadable) => {
                        tracing::error!(error = %unreadable.of(&object.metadata.name), "an object of this node is skipped")
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns whether another machine made an object under this node's name. Every call skips such
    /// an object: it is never changed or removed, and it stops no verb, because otherwise one
    /// stolen token could put any node out of service.
    pub(crate) fn is_of_another_machine(&self, object: &IpAllocation) -> bool {
        self.check_machine(object).is_err()
    }

    /// Returns the same as an error that names the object. A call that acts for a node that is off
    /// acts for everything under its name.
    pub(crate) fn check_machine(&self, object: &IpAllocation) -> Result<(), StoreError> {
        match (object.spec.machine.as_deref(), self.machine.as_deref()) {
            (Some(theirs), Some(ours))
                if theirs != ours
                    && !self.for_dead_node
                    && object.spec.node == self.host.node.as_str() =>
            {
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

    /// Returns an object that this node could create. Its address belongs to no network (RFC 5737).
    fn rehearsed(&self) -> Option<IpAllocation> {
        let attachment = Attachment {
            node: self.host.node.clone(),
            network: NetworkName::parse("hereabouts").ok()?,
            container: ContainerId::parse("status").ok()?,
            ifname: IfName::parse("status").ok()?,
        };
        let record = Record {
            attachment,
            pod: None,
            netns: None,
            view: None,
            boot_id: self.host.boot_id.clone(),
            since: self.now(),
            source: Source::Dynamic,
            part: Part { index: 0, of: 1 },
            prefix: 24,
            gateway: None,
        };
        let scope = Scope::parse("hereabouts-status").ok()?;
        Some(IpAllocation::new(&scope, [192, 0, 2, 1].into(), &record, self.machine.as_deref()))
    }

    /// Implements [`crate::store::Store::ready`].
    pub(crate) fn check_ready(&self) -> Result<(), StoreError> {
        let disk = self.state.disk();
        disk.check_writable().map_err(|error| failed(disk, "write to", Path::new(""), error))?;
        let known = self.find_cluster()?;
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
        if let Some(object) = self.rehearsed() {
            self.api.rehearse(&object, &deadline)?;
        }
        let ready = Ready {
            cluster: self.api.cluster().to_owned(),
            at: u64::try_from(now.as_millis()).unwrap_or(0),
        };
        // A cluster that no call has used has no directory of its own yet.
        if known == Known::Unknown {
            return Ok(());
        }
        let remembered =
            self.state.prepare().and_then(|()| self.state.write(Path::new(READY), &ready));
        if let Err(error) = remembered {
            tracing::debug!(%error, "readiness could not be remembered");
        }
        Ok(())
    }
}
