//! A cluster of Whereabouts: its resources and rights, networks, nodes, and pods with entries in its
//! pools.

use crate::leaks::make_node;
use crate::support::cluster::Cluster;
use crate::support::sandbox::{Ended, Sandbox};
use crate::support::transcript::sandbox;
use serde_json::{Value, json};

pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) sandbox: Sandbox,
}

const GROUP: &str = "whereabouts.cni.cncf.io";

impl World {
    pub(super) fn new() -> Option<Self> {
        let cluster = super::cluster()?;
        cluster.apply(include_str!("../../../benches/cluster/whereabouts.yaml"));
        cluster.apply(include_str!("../../data/peers/node-slices.yaml"));
        cluster.apply(include_str!("../../data/kubernetes/network-attachment-definition.yaml"));
        let crds = ["wait", "--for=condition=established", "crd", "--all", "--timeout=60s"];
        cluster.text(&crds);
        cluster.text(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"]);
        for (node, boot) in [("n1", "boot-1"), ("n2", "boot-2")] {
            make_node(&cluster, node, boot);
        }
        Some(Self { cluster, sandbox: sandbox() })
    }

    /// Creates a network with an `ipam` of Whereabouts.
    pub(super) fn network(&self, name: &str, ipam: &Value) {
        let mut ipam = ipam.clone();
        ipam["type"] = json!("whereabouts");
        let config = json!({"cniVersion": "1.0.0", "name": name, "type": "macvlan", "ipam": ipam});
        self.network_as(name, &config.to_string());
    }

    pub(super) fn network_as(&self, name: &str, config: &str) {
        let object = json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"config": config},
        });
        self.cluster.apply(&object.to_string());
    }

    /// Creates a pool with the entries of these pods, on interface net1.
    pub(super) fn pool(&self, name: &str, range: &str, entries: &[(&str, &str)]) {
        let entries = entries.iter().map(|(key, pod)| ((*key).to_owned(), entry(pod)));
        let entries: serde_json::Map<String, Value> = entries.collect();
        self.write("IPPool", name, &json!({"range": range, "allocations": entries}));
    }

    pub(super) fn write(&self, kind: &str, name: &str, spec: &Value) {
        let object = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind,
            "metadata": {"name": name, "namespace": "kube-system"}, "spec": spec,
        });
        self.cluster.apply(&object.to_string());
    }

    pub(super) fn reservation(&self, name: &str, pod: &str) {
        let spec = json!({"podref": format!("default/{pod}"), "ifname": "net1"});
        self.write("OverlappingRangeIPReservation", name, &spec);
    }

    /// Returns the entries of a pool.
    pub(super) fn entries(&self, pool: &str) -> Value {
        let pool = format!("ippools.{GROUP}/{pool}");
        let words = ["get", "-n", "kube-system", &pool, "-o", "json"];
        let object: Value = serde_json::from_str(&self.cluster.text(&words)).unwrap();
        object["spec"]["allocations"].clone()
    }

    /// Returns the names of all objects of a kind, sorted.
    pub(super) fn names(&self, kind: &str) -> Vec<String> {
        let text = self.cluster.text(&["get", kind, "-A", "-o", "json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        let names = list["items"].as_array().unwrap().iter();
        let mut names: Vec<String> =
            names.map(|one| one["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// Creates a pod that runs, with one address on net1.
    pub(super) fn pod(&self, name: &str, node: &str, network: &str, address: &str) {
        let status = json!([
            {"name": format!("default/{network}"), "interface": "net1", "ips": [address], "dns": {}},
        ]);
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "annotations": {
                "k8s.v1.cni.cncf.io/network-status": status.to_string(),
            }},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}]},
        });
        self.cluster.apply(&object.to_string());
        let phase = json!({"status": {"phase": "Running"}}).to_string();
        let words = ["patch", "pod", name, "--subresource=status", "--type=merge", "-p", &phase];
        self.cluster.text(&words);
    }

    /// Creates the pod of a DaemonSet of hereabouts.
    pub(super) fn daemon(&self, node: &str) {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("hereabouts-{node}"), "namespace": "default", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "hereabouts", "uid": "0"},
            ]},
            "spec": {"nodeName": node, "containers": [
                {"name": "c", "image": "none", "command": ["/hereabouts", "install", "--watch"]},
            ]},
        });
        self.cluster.apply(&object.to_string());
    }

    /// Runs a command of the operator.
    pub(super) fn run(&self, args: &[&str]) -> Ended {
        let kubeconfig = self.cluster.kubeconfig().display().to_string();
        self.sandbox.command(&[args, &["--kubeconfig", &kubeconfig]].concat())
    }

    /// Makes the present state begin a while ago, so that no test waits for minutes.
    pub(super) fn let_time_pass(&self) {
        let since = json!({"spec": {"since": "2026-01-01T00:00:00Z"}}).to_string();
        self.cluster.text(&["patch", "move", "whereabouts", "--type=merge", "-p", &since]);
    }

    /// Writes the answer of a node, as its DaemonSet does.
    pub(super) fn answer(&self, node: &str, generation: u64, executable: &str) {
        let answer = json!({"generation": generation, "executable": executable, "at": "2026-11-30T10:00:00Z"});
        let status = json!({"status": {"nodes": {node: answer}}}).to_string();
        let words = ["patch", "move", "whereabouts", "--subresource=status", "--type=merge", "-p"];
        self.cluster.text(&[&words[..], &[&status]].concat());
    }

    /// Completes the records of a node, as its DaemonSet does.
    pub(super) fn complete(&self, node: &str) {
        for object in crate::support::nodes::objects(&self.cluster) {
            if object["spec"]["node"] == node {
                let name = object["metadata"]["name"].as_str().unwrap();
                let netns = json!({"spec": {"netns": {"path": "/run/netns/x", "device": 4, "inode": 4026531}}}).to_string();
                self.cluster.text(&["patch", "ipa", name, "--type=merge", "-p", &netns]);
            }
        }
    }
}

/// Returns the entry that Whereabouts writes for a pod on interface net1.
pub(super) fn entry(pod: &str) -> Value {
    json!({"id": format!("sandbox-of-{pod}"), "podref": format!("default/{pod}"), "ifname": "net1"})
}
