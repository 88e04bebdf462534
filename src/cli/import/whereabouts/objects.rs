//! The lists that an import reads, and the shapes of what `crate::whereabouts` does not have: the
//! Pods that use the addresses, and the records that are there. Unknown fields are passed over.
//!
//! Each field may be absent, because an object that lacks one must not stop the reading of all
//! others.

use crate::cli::cluster_lists::List;
use crate::store::kube::objects::evidence::Identity;
use crate::store::kube::objects::ip_allocation::Namespace;
use crate::store::kube::objects::pod_annotations::PodAnnotations;
use serde::Deserialize;

const ABSENT: &str = "check that the kubeconfig names the cluster of Whereabouts: the cluster does not have this resource";

/// All IPPools of Whereabouts.
pub(super) const POOLS: List = List {
    what: "ippools.whereabouts.cni.cncf.io",
    right: "ippools.whereabouts.cni.cncf.io in all namespaces",
    absent: ABSENT,
    path: "/apis/whereabouts.cni.cncf.io/v1alpha1/ippools",
    // etcd holds at most 1.5 MB of each, and the client reads at most 16 MB.
    query: "?limit=5",
    accept: "application/json",
};

/// All reservations, which Whereabouts needs where ranges overlap.
pub(super) const RESERVATIONS: List = List {
    what: "overlappingrangeipreservations.whereabouts.cni.cncf.io",
    right: "overlappingrangeipreservations.whereabouts.cni.cncf.io in all namespaces",
    absent: ABSENT,
    path: "/apis/whereabouts.cni.cncf.io/v1alpha1/overlappingrangeipreservations",
    query: "?limit=500",
    accept: "application/json",
};

/// All NodeSlicePools.
pub(super) const SLICES: List = List {
    what: "nodeslicepools.whereabouts.cni.cncf.io",
    right: "nodeslicepools.whereabouts.cni.cncf.io in all namespaces",
    absent: ABSENT,
    path: "/apis/whereabouts.cni.cncf.io/v1alpha1/nodeslicepools",
    query: "?limit=5",
    accept: "application/json",
};

/// A NodeSlicePool: the slices of a network, and their nodes.
#[derive(Deserialize)]
pub(super) struct SlicesObject {
    pub(super) metadata: Identity,
    #[serde(default)]
    pub(super) spec: SlicesSpec,
    #[serde(default)]
    pub(super) status: SlicesStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct SlicesSpec {
    pub(super) range: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct SlicesStatus {
    pub(super) allocations: Option<Vec<SliceObject>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SliceObject {
    /// Empty for a slice without a node.
    pub(super) node_name: Option<String>,
    pub(super) slice_range: Option<String>,
}

/// A Pod.
#[derive(Deserialize)]
pub(super) struct PodObject {
    pub(super) metadata: PodMetadata,
    #[serde(default)]
    pub(super) spec: PodSpec,
    #[serde(default)]
    pub(super) status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodMetadata {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) annotations: PodAnnotations,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub(super) node_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct PodStatus {
    pub(super) phase: String,
}

/// An interface of a pod, as Multus writes it into the annotation network-status.
#[derive(Deserialize)]
pub(super) struct StatusEntry {
    /// `namespace/name` of the NetworkAttachmentDefinition, or the name of the default network.
    pub(super) name: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) ips: Option<Vec<String>>,
    #[serde(default)]
    pub(super) default: Option<bool>,
}

/// What an IPAllocation says about the holder of its address.
#[derive(Deserialize)]
pub(super) struct AllocatedObject {
    #[serde(default)]
    pub(super) metadata: AllocatedMetadata,
    #[serde(default)]
    pub(super) spec: AllocatedSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AllocatedMetadata {
    pub(super) uid: String,
    pub(super) resource_version: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AllocatedSpec {
    pub(super) address: String,
    pub(super) scope: Option<String>,
    #[serde(rename = "containerID")]
    pub(super) container_id: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) pod_ref: Option<AllocatedPod>,
    pub(super) node: String,
    pub(super) netns: Option<Namespace>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AllocatedPod {
    pub(super) namespace: String,
    pub(super) name: String,
}
