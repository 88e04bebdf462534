//! Slices beside ADD and DEL: the node compares what it owns with the cluster each minute, and an
//! operator releases and removes those of a node that is off.

use crate::ipam::NodeName;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::retries::{LEASES, NODES};
use crate::store::kube::api::{Changed, escape};
use crate::store::kube::node_state::slices::{NotedSlice, SliceState};
use crate::store::kube::objects::ip_slice::{self, IpSlice};
use crate::store::kube::objects::names;
use crate::store::slices::{Removal, Slice, Synced};
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, SystemTime};

/// For how long the Lease of a node must not have been renewed before another node may claim its
/// slices.
const SILENCE: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct NodeStatus {
    #[serde(default)]
    node_info: NodeInfo,
}

#[derive(Deserialize, Default)]
struct NodeInfo {
    #[serde(rename = "bootID", default)]
    boot_id: String,
}

#[derive(Deserialize)]
struct Lease {
    spec: LeaseSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaseSpec {
    #[serde(default)]
    renew_time: Option<String>,
}

impl KubeStore {
    /// Implements [`crate::store::slices::Slices::all`].
    pub(crate) fn list_slices(
        &self,
        node: Option<&NodeName>,
        deadline: &Deadline,
    ) -> Result<Vec<Slice>, StoreError> {
        let mut slices: Vec<Slice> =
            self.slice_objects(node, deadline)?.into_iter().map(slice).collect();
        slices.sort_by(|one, two| {
            (&one.pool, one.block.first()).cmp(&(&two.pool, two.block.first()))
        });
        Ok(slices)
    }

    fn slice_objects(
        &self,
        node: Option<&NodeName>,
        deadline: &Deadline,
    ) -> Result<Vec<IpSlice>, StoreError> {
        let selector = node
            .map(|node| format!("{}={}", names::NODE, names::of_node(node)))
            .unwrap_or_default();
        let mut found: Vec<IpSlice> =
            self.api.list_objects(ip_slice::PLURAL, &selector, deadline)?;
        found.retain(|found| node.is_none_or(|node| found.spec.node == node.as_str()));
        Ok(found)
    }

    /// Compares the slices of this boot with the cluster. A node without slices asks nobody.
    pub(crate) fn review_slices(&self, deadline: &Deadline) -> Result<Synced, StoreError> {
        let mut synced = Synced::default();
        if self.for_dead_node {
            return Ok(synced);
        }
        self.make_complete(deadline)?;
        if self.state.slices()?.slices.is_empty() {
            return Ok(synced);
        }
        self.refresh_copies(deadline)?;
        let _lock = self.state.lock_slices(deadline)?;
        let found = self.slice_objects(Some(&self.host.node), deadline)?;
        for noted in self.state.slices()?.slices {
            let name = noted.name().to_owned();
            // A call was killed, or its answer was lost. Of one that the cluster had lost, pods may
            // hold addresses.
            if noted.state == SliceState::Asked {
                let created = match self.settle_asked(&noted, deadline) {
                    Err(StoreError::RestoredLately { .. }) => continue,
                    created => created?,
                };
                match (noted.again, created) {
                    (true, true) => synced.created_again.push(name),
                    (true, false) => synced.lost.push(name),
                    (false, _) => {}
                }
                continue;
            }
            // Whether it was given back is not known.
            if noted.state == SliceState::Owned && noted.object.spec.boot_id.is_empty() {
                self.confirm_slice(noted, deadline)?;
                continue;
            }
            if !noted.is_usable(&self.host.boot_id) {
                continue;
            }
            let object = found.iter().find(|object| object.metadata.name == name);
            let Some(object) = object else {
                let created = self.create_again(&noted, deadline)?;
                let names = if created { &mut synced.created_again } else { &mut synced.lost };
                names.push(name);
                continue;
            };
            let is_own = object.is_of(&self.host.node, self.machine.as_deref())
                && object.metadata.uid == noted.object.metadata.uid
                // Another boot: a copy of this machine runs, too, and uses the slice.
                && object.spec.boot_id == self.host.boot_id;
            if !is_own {
                self.lose(noted, deadline)?;
                synced.lost.push(name);
            }
        }
        Ok(synced)
    }

    /// Creates the object of a slice again, which the cluster has lost. Returns whether this node
    /// owns the slice; otherwise another node was faster.
    pub(super) fn create_again(
        &self,
        noted: &NotedSlice,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let mut again = noted.object.clone();
        again.metadata.uid = None;
        again.metadata.resource_version = None;
        again.spec.boot_id.clone_from(&self.host.boot_id);
        // Until the answer is there, nothing is given from the slice.
        let again = NotedSlice { again: true, ..NotedSlice::new(again, SliceState::Asked) };
        self.state.note_slice(&again, deadline)?;
        self.create_asked(&again, deadline)
    }

    /// Marks the slices of a node as released.
    pub(crate) fn release_slices(
        &self,
        node: &NodeName,
        deadline: &Deadline,
    ) -> Result<Vec<Slice>, StoreError> {
        let now = humantime::format_rfc3339_seconds(self.now()).to_string();
        let mut released = Vec::new();
        for mut object in self.slice_objects(Some(node), deadline)? {
            while object.spec.released.is_none() {
                let name = object.metadata.name.clone();
                let Some(version) = object.version() else { break };
                let change = json!({"spec": {"released": now}});
                let changed = self.api.patch_object::<IpSlice>(
                    ip_slice::PLURAL,
                    &name,
                    change,
                    &version,
                    deadline,
                )?;
                match changed {
                    Changed::Done(changed) => {
                        released.push(slice(changed));
                        break;
                    }
                    Changed::Absent { .. } => break,
                    Changed::Conflict => {
                        match self.api.get_object(ip_slice::PLURAL, &name, deadline)? {
                            Some(found) => object = found,
                            None => break,
                        }
                        if deadline.left().is_zero() {
                            let reason = format!("{name} changed before each attempt");
                            return Err(self.api.contended(
                                "patch",
                                ip_slice::PLURAL,
                                &reason,
                                deadline,
                            ));
                        }
                    }
                }
            }
        }
        Ok(released)
    }

    /// Removes a slice that was released.
    pub(crate) fn remove_slice(
        &self,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Removal, StoreError> {
        let found: Option<IpSlice> = self.api.get_object(ip_slice::PLURAL, name, deadline)?;
        let Some((found, version)) =
            found.and_then(|found| Some((found.clone(), found.version()?)))
        else {
            return Ok(Removal::Absent);
        };
        if found.spec.released.is_none() {
            return Ok(Removal::NotReleased);
        }
        if let Some(reason) = self.may_be_used(&found, deadline)? {
            return Ok(Removal::NodeMayLive(reason));
        }
        match self.api.delete_object(ip_slice::PLURAL, name, &version, deadline)? {
            Changed::Done(()) => Ok(Removal::Done),
            Changed::Absent { .. } => Ok(Removal::Absent),
            Changed::Conflict => {
                Ok(Removal::NodeMayLive("its object has changed just now".to_owned()))
            }
        }
    }

    /// Returns why the node of a slice may still give addresses from it, if that is possible.
    fn may_be_used(
        &self,
        slice: &IpSlice,
        deadline: &Deadline,
    ) -> Result<Option<String>, StoreError> {
        let name = &slice.spec.node;
        let path = format!("/api/v1/nodes/{}", escape(name));
        let node: Option<Node> =
            self.api.read(NODES, name, &path, deadline, |body| serde_json::from_slice(body))?;
        let boot = node.map(|node| node.status.node_info.boot_id).unwrap_or_default();
        if !boot.is_empty() && boot != slice.spec.boot_id {
            return Ok(None);
        }
        let path = format!(
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/{LEASES}/{}",
            escape(name)
        );
        let lease: Option<Lease> =
            self.api.read(LEASES, name, &path, deadline, |body| serde_json::from_slice(body))?;
        let Some(renewed) = lease.and_then(|lease| lease.spec.renew_time) else {
            return Ok(self.released_too_lately(slice));
        };
        let Ok(renewed) = humantime::parse_rfc3339(&renewed) else {
            return Ok(Some(format!("the Lease of {name} has no readable time: {renewed}")));
        };
        Ok(silent_too_short(name, renewed, self.now()))
    }
}

impl KubeStore {
    /// Returns why a slice whose node has no Lease may still be used. The Lease goes with the Node
    /// object, whether the node is off or not. A node that is not cut off sees within a
    /// minute that the slice was released.
    fn released_too_lately(&self, slice: &IpSlice) -> Option<String> {
        let since = slice.spec.released.as_deref().unwrap_or_default();
        let since = humantime::parse_rfc3339(since).unwrap_or_else(|_| self.now());
        let ago = self.now().duration_since(since).unwrap_or_default();
        (ago < SILENCE).then(|| {
            let ago = humantime::format_duration(Duration::from_secs(ago.as_secs()));
            format!(
                "{} has no Lease that shows how long it has been off, and the slice was released {ago} ago: wait for ten minutes",
                slice.spec.node
            )
        })
    }
}

/// Returns why a node has not been silent for long enough.
fn silent_too_short(node: &str, renewed: SystemTime, now: SystemTime) -> Option<String> {
    // A Lease from the future shows that one of the clocks is wrong.
    let silent = now.duration_since(renewed).unwrap_or_default();
    (silent < SILENCE).then(|| {
        let ago = humantime::format_duration(Duration::from_secs(silent.as_secs()));
        format!(
            "the kubelet of {node} has renewed its Lease {ago} ago, in the boot in which the node used the slice"
        )
    })
}

fn slice(object: IpSlice) -> Slice {
    Slice {
        block: object.block(),
        name: object.metadata.name,
        pool: object.spec.pool,
        node: object.spec.node,
        since: object.spec.since,
        released: object.spec.released,
    }
}
