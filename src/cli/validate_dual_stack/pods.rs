//! Pods: each running pod has addresses of both families, and so has each of its interfaces in a
//! network that wants both.

use super::networks::DualNetworks;
use super::nodes::Nodes;
use super::printer::Printer;
use super::row::{ByFamily, Row, Verdict};
use crate::cli::cluster_lists::{Cluster, List};
use serde::Deserialize;
use std::collections::HashMap;

/// The annotation in which Multus writes the interfaces of a pod.
const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

const PODS: List = List {
    what: "pods",
    right: "pods in all namespaces",
    absent: "check that the kubeconfig names a Kubernetes API server",
    path: "/api/v1/pods",
    // With 100 KB per object, which is much, a page still fits into an answer.
    query: "?limit=100&fieldSelector=status.phase%3DRunning",
    accept: "application/json",
};

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    annotations: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    #[serde(default)]
    host_network: bool,
}

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: Option<String>,
}

/// An interface of a pod, as Multus writes it.
#[derive(Deserialize)]
struct Interface {
    /// `namespace/name` of the NetworkAttachmentDefinition. The default network has another name.
    name: Option<String>,
    interface: Option<String>,
    ips: Option<Vec<String>>,
}

/// Checks all running pods. Returns their number.
pub(super) fn check(
    cluster: &Cluster,
    nodes: &Nodes,
    networks: &DualNetworks,
    printer: &mut Printer,
) -> anyhow::Result<usize> {
    let mut count = 0;
    cluster.list(&PODS, &mut |item| {
        count += 1;
        let pod: Pod = PODS.parse(item)?;
        rows(&pod, nodes, networks).iter().try_for_each(|row| printer.add(row))
    })?;
    Ok(count)
}

/// Returns the rows of a pod: its own addresses, and its interfaces in networks that want both
/// families.
fn rows(pod: &Pod, nodes: &Nodes, networks: &DualNetworks) -> Vec<Row> {
    let row = |what: String, verdict: Verdict, found: ByFamily| Row {
        kind: "Pod",
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        what,
        found,
        verdict,
    };
    let addresses = pod.status.as_ref().and_then(|status| status.pod_ips.as_deref());
    let addresses = addresses.unwrap_or_default().iter().filter_map(|entry| entry.ip.as_deref());
    let found = ByFamily::of(addresses);
    let what = if pod.spec.host_network { "addresses of the node" } else { "addresses" };
    let mut rows = vec![row(what.to_owned(), verdict(pod, nodes, &found), found)];
    let Some(status) = pod.metadata.annotations.as_ref().and_then(|all| all.get(NETWORK_STATUS))
    else {
        return rows;
    };
    let Ok(interfaces) = serde_json::from_str::<Vec<Interface>>(status) else {
        let reason = "the annotation is not a list of interfaces".to_owned();
        rows.push(row(
            "network-status".to_owned(),
            Verdict::NotChecked(reason),
            ByFamily::default(),
        ));
        return rows;
    };
    for interface in interfaces {
        let Some(network) = interface.name.filter(|name| networks.has(name)) else {
            continue;
        };
        let addresses = interface.ips.unwrap_or_default();
        let found = ByFamily::of(addresses.iter().map(String::as_str));
        let name = interface.interface.unwrap_or_default();
        rows.push(row(format!("{name} in {network}"), found.verdict("address"), found));
    }
    rows
}

/// Returns the verdict on the addresses of a pod. A pod in the network of its node has what the node has.
fn verdict(pod: &Pod, nodes: &Nodes, found: &ByFamily) -> Verdict {
    let verdict = found.verdict("address");
    let node = pod.spec.node_name.as_deref().filter(|_| pod.spec.host_network);
    match node.filter(|node| nodes.get(*node) == Some(&false)) {
        Some(node) if verdict != Verdict::Good => Verdict::LikeNode(node.to_owned()),
        _ => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_in_the_network_of_its_node_counts_like_the_node() {
        let nodes = Nodes::from([("dual".to_owned(), true), ("single".to_owned(), false)]);
        for (node, is_host, verdict) in [
            ("single", true, "like node single"),
            ("dual", true, "gap: no IPv6 address"),
            ("unknown", true, "gap: no IPv6 address"),
            ("single", false, "gap: no IPv6 address"),
        ] {
            let text = format!(
                r#"{{"metadata":{{"name":"a"}},"spec":{{"nodeName":"{node}","hostNetwork":{is_host}}},"status":{{"podIPs":[{{"ip":"10.0.0.1"}}]}}}}"#
            );
            let rows = rows(&serde_json::from_str(&text).unwrap(), &nodes, &Default::default());
            assert_eq!((rows.len(), &*rows[0].cells()[5]), (1, verdict), "{text}");
        }
    }
}
