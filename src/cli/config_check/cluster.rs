//! The number of pods of a cluster that use each network, which needs the right to list pods, and the
//! podCIDRs of nodes, which needs the right to list nodes.

use crate::addr::{Blocks, Subnet};
use crate::cli::cluster_lists::{Cluster, List, NODES};
use crate::json::Json;
use crate::store::kube::objects::evidence::NodeObject;
use serde::Deserialize;
use std::collections::HashMap;

/// The annotation of a pod that names the networks that Multus attaches.
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// The annotation that names the pod's default network.
const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// Of pods, only the metadata is asked for. Pods that have ended use no network.
const PODS: List = List {
    what: "pods",
    right: "pods in all namespaces",
    absent: "check that the kubeconfig names a Kubernetes API server",
    path: "/api/v1/pods",
    query: "?limit=500&fieldSelector=status.phase!%3DSucceeded,status.phase!%3DFailed",
    accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
};

/// The number of pods that use each network, by `namespace/name`.
#[derive(Default)]
pub(super) struct Users(HashMap<String, usize>);

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: PodMetadata,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodMetadata {
    namespace: String,
    annotations: Option<HashMap<String, String>>,
}

/// Returns the podCIDRs of the nodes of a cluster, by the name of the node.
pub(super) fn pod_ranges(cluster: &Cluster) -> anyhow::Result<Vec<(String, Blocks)>> {
    let mut nodes = Vec::new();
    cluster.list(&NODES, &mut |item| {
        let node: NodeObject = NODES.parse(item)?;
        let subnets = node.pod_cidrs().iter().filter_map(|text| Subnet::parse(text).ok());
        let ranges = subnets.map(|subnet| subnet.whole()).collect();
        nodes.push((node.metadata.name, ranges));
        Ok(())
    })?;
    Ok(nodes)
}

impl Users {
    /// Counts the pods that use each network of a cluster.
    pub(super) fn count(cluster: &Cluster) -> anyhow::Result<Self> {
        let mut users = Self::default();
        cluster.list(&PODS, &mut |item| {
            if let Ok(pod) = serde_json::from_str::<Pod>(item) {
                users.add(&pod.metadata);
            }
            Ok(())
        })?;
        Ok(users)
    }

    /// Returns the number of pods that use a network.
    pub(super) fn of(&self, object: &str) -> usize {
        self.0.get(object).copied().unwrap_or(0)
    }

    fn add(&mut self, pod: &PodMetadata) {
        let annotations = pod.annotations.as_ref();
        let of = |key: &str| annotations.and_then(|annotations| annotations.get(key));
        let mut names: Vec<String> = [of(NETWORKS), of(DEFAULT_NETWORK)]
            .into_iter()
            .flatten()
            .flat_map(|text| selected(text, &pod.namespace))
            .collect();
        // A pod with two interfaces in a network is one pod.
        names.sort();
        names.dedup();
        for name in names {
            *self.0.entry(name).or_default() += 1;
        }
    }
}

/// Returns the networks in an annotation, as `namespace/name`: `[namespace/]name[@interface]`
/// separated by commas, or a JSON list of objects.
fn selected(text: &str, namespace: &str) -> Vec<String> {
    if !text.trim_start().starts_with('[') {
        return text
            .split(',')
            .map(|name| name.trim().split('@').next().unwrap_or_default())
            .filter(|name| !name.is_empty())
            .map(
                |name| {
                    if name.contains('/') { name.to_owned() } else { format!("{namespace}/{name}") }
                },
            )
            .collect();
    }
    let Ok(Json::Array(items)) = Json::parse(text.as_bytes()) else {
        return Vec::new();
    };
    let of = |item: &Json| {
        let name = item.find("name")?.as_str()?;
        let namespace = item.find("namespace").and_then(Json::as_str).unwrap_or(namespace);
        Some(format!("{namespace}/{name}"))
    };
    items.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::selected;

    #[test]
    fn the_annotation_names_networks_in_two_forms() {
        for (text, expected) in [
            ("a", &["d/a"][..]),
            ("a, n/b@net1 ,c@x,", &["d/a", "n/b", "d/c"]),
            (
                r#"[{"name":"a"},{"name":"b","namespace":"n","ips":["10.0.0.1"]},{}]"#,
                &["d/a", "n/b"],
            ),
            ("[", &[]),
            ("", &[]),
        ] {
            assert_eq!(selected(text, "d"), expected, "{text}");
        }
    }
}
