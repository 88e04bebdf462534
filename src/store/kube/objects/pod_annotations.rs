//! The annotations of a Pod that are read.
//!
//! Each may be absent, and anybody who may write pods can write any text there.

use serde::Deserialize;

/// The annotations.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodAnnotations {
    /// The networks that the pod asks Multus for.
    #[serde(rename = "k8s.v1.cni.cncf.io/networks")]
    pub(crate) networks: Option<String>,
    /// The interfaces that Multus has made.
    #[serde(rename = "k8s.v1.cni.cncf.io/network-status")]
    pub(crate) network_status: Option<String>,
    /// The uid that the kubelet gave to a static pod.
    #[serde(rename = "kubernetes.io/config.hash")]
    static_uid: Option<String>,
}

impl PodAnnotations {
    /// Returns the uid by which the kubelet knows the pod. That of a static pod is not the uid of its
    /// object: the object in the API is a copy of the pod. `own` is the uid of the object.
    pub(crate) fn uid<'u>(&'u self, own: &'u str) -> &'u str {
        self.static_uid.as_deref().filter(|uid| !uid.is_empty()).unwrap_or(own)
    }
}
