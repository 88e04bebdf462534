//! Slices beside ADD and DEL: the node compares what it owns with the cluster each minute, and an
//! operator releases and removes those of a node that is off.

use super::Asked;
use crate::ipam::NodeName;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::retries::{LEASES, NODES};
use crate::store::kube::api::{Changed, escape};
use crate::store::kube::node_state::slices::{NotedSlice, SliceState};
use crate::store::kube::objects::ip_slice::{self, IpSlice};
use crate::store::kube::objects::ip_slice_status::Status;
use crate::store::kube::objects::{names, slice_geometry};
use crate::store::slices::{Removal, Slice, Synced};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use std::time::{Duration, SystemTime};

/// For how long the Lease of a node must not have been renewed before another node may claim its
/// slices.
const SILENCE: Duration = Duration::from_secs(600);

/// Up to this number of slices, a node reads each of them and does not list them.
const FEW: usize = 8;

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

    pub(super) fn slice_objects(
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

    /// Returns the objects of the slices from which this node gives addresses or gave some in this
    /// boot, and others that name it if the cluster was restored lately. A list by a label reads the slices of all nodes in the
    /// server, so that the looks of all nodes would cost it the square of their number. Therefore a
    /// node with few slices reads each of them. The list of the geometries is short, and shows
    /// whether the cluster was restored.
    fn own_objects(&self, deadline: &Deadline) -> Result<Vec<IpSlice>, StoreError> {
        let noted = self.state.slices()?.slices;
        let is_of_boot = |slice: &&NotedSlice| {
            slice.state != SliceState::Asked && slice.object.spec.boot_id == self.host.boot_id
        };
        let names: Vec<&str> = noted.iter().filter(is_of_boot).map(NotedSlice::name).collect();
        if FEW < names.len() || self.may_be_named_again()? {
            return self.slice_objects(Some(&self.host.node), deadline);
        }
        self.api.list_objects::<IgnoredAny>(slice_geometry::PLURAL, "", deadline)?;
        if self.may_be_named_again()? {
            return self.slice_objects(Some(&self.host.node), deadline);
        }
        let mut found = Vec::new();
        for name in names {
            let object: Option<IpSlice> = self.api.get_object(ip_slice::PLURAL, name, deadline)?;
            found.extend(object.filter(|object| object.spec.node == self.host.node.as_str()));
        }
        Ok(found)
    }

    /// Compares the slices of this boot with the cluster. Also returns the objects that it has found.
    /// A node without slices asks nobody.
    pub(crate) fn review_slices(
        &self,
        deadline: &Deadline,
    ) -> Result<(Synced, Vec<IpSlice>), StoreError> {
        if self.for_dead_node {
            return Ok(<_>::default());
        }
        self.make_complete(deadline)?;
        if self.state.slices()?.slices.is_empty() && !self.may_be_named_again()? {
            return Ok(<_>::default());
        }
        self.refresh_copies(deadline)?;
        let _lock = self.state.lock_slices(deadline)?;
        self.compare_with_cluster(deadline)
    }

    /// Does what [`Self::review_slices`] does, for a caller that has the lock.
    pub(super) fn compare_with_cluster(
        &self,
        deadline: &Deadline,
    ) -> Result<(Synced, Vec<IpSlice>), StoreError> {
        let mut synced = Synced::default();
        let begun = self.moment();
        let found = self.own_objects(deadline)?;
        let found = self.without_given_back(found, deadline)?;
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
            if noted.state == SliceState::Lost && self.get_back_lost(&noted, deadline)? {
                synced.created_again.push(name);
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
            if !is_own && self.is_older_state(&noted, object)? {
                let uid = object.metadata.uid.as_deref();
                self.state.forget_given_back(uid, deadline)?;
                // What was published is in no note.
                let object = IpSlice { status: None, ..object.clone() };
                self.confirm_slice(NotedSlice { object, ..noted }, deadline)?;
                synced.created_again.push(name);
            } else if !is_own {
                self.lose(noted, deadline)?;
                synced.lost.push(name);
            }
        }
        self.state.change_slices(deadline, |noted| noted.looked = Some(begun))?;
        Ok((synced, found))
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
        Ok(matches!(self.create_asked(&again, deadline)?, Asked::Owned))
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
        if let Some(reason) = self.released_too_lately(slice) {
            return Ok(Some(reason));
        }
        let path = format!(
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/{LEASES}/{}",
            escape(name)
        );
        let lease: Option<Lease> =
            self.api.read(LEASES, name, &path, deadline, |body| serde_json::from_slice(body))?;
        // The Lease goes with the Node object, whether the node is off or not.
        let Some(renewed) = lease.and_then(|lease| lease.spec.renew_time) else { return Ok(None) };
        let Ok(renewed) = humantime::parse_rfc3339(&renewed) else {
            return Ok(Some(format!("the Lease of {name} has no readable time: {renewed}")));
        };
        Ok(silent_too_short(name, renewed, self.now()))
    }
}

impl KubeStore {
    /// Returns why a slice may still be used although its Lease is silent: its node may have been cut
    /// off until now. One that is not cut off sees the mark earlier, see `contact`.
    fn released_too_lately(&self, slice: &IpSlice) -> Option<String> {
        let since = slice.spec.released.as_deref().unwrap_or_default();
        let since = humantime::parse_rfc3339(since).unwrap_or_else(|_| self.now());
        let ago = self.now().duration_since(since).unwrap_or_default();
        (ago < SILENCE).then(|| {
            let ago = humantime::format_duration(Duration::from_secs(ago.as_secs()));
            format!(
                "it was released {ago} ago, and {} may not have seen it: wait for ten minutes",
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

pub(super) fn slice(object: IpSlice) -> Slice {
    Slice {
        block: object.block(),
        published: object.status.as_ref().and_then(Status::number),
        name: object.metadata.name,
        pool: object.spec.pool,
        node: object.spec.node,
        since: object.spec.since,
        released: object.spec.released,
        returned: object.spec.returned,
    }
}
