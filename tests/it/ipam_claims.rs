//! IPAMClaims: a pod gets the addresses of its claim, and the claim keeps them when the pod is gone.
//! With a real API server and the real custom resource.

use crate::support::cluster::{Cluster, Options};
use crate::support::nodes::{Node, own_name};
use crate::support::sandbox::{Call, Ended};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::LazyLock;

/// Claims that ask for addresses, or are refused.
mod asking;
/// The end of a claim, and its status.
#[cfg(feature = "controller")]
mod freeing;
/// Somebody else acts before each request of an ADD.
#[cfg(feature = "controller")]
mod interleaved;
/// Which addresses a claim gets, and that it keeps them.
mod keeping;
/// Records of claims that the cluster has lost.
mod lost;
/// What the plugin's token can do.
mod rights;
/// Who may use a claim beside whom.
mod sharing;

/// A namespace and two nodes of a cluster that has the resource.
struct Claims {
    cluster: &'static Cluster,
    namespace: String,
    nodes: [Node; 2],
}

/// The network of these tests. Its addresses are unique in a scope that is named as the namespace.
const NETWORK: &str = "net1";

fn own_cluster() -> Result<Cluster, String> {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/tools");
    let built = Command::new(tools).arg("multus").output().map_err(|error| error.to_string())?;
    if !built.status.success() {
        return Err(String::from_utf8_lossy(&built.stderr).trim().replace('\n', "; "));
    }
    let cluster = Cluster::own(Options::default())?;
    let resource = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/share/ipamclaims");
    cluster.text(&["apply", "--server-side", "-f", resource]);
    cluster.apply(include_str!("../data/kubernetes/network-attachment-definition.yaml"));
    cluster.text(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    Ok(cluster)
}

fn shared() -> Option<Claims> {
    static SHARED: LazyLock<Result<Cluster, String>> = LazyLock::new(own_cluster);
    let cluster = SHARED.as_ref().map_err(|reason| skipped!("{reason}")).ok()?;
    Some(Claims::of(cluster))
}

impl Claims {
    fn of(cluster: &'static Cluster) -> Self {
        let namespace = own_name("claims");
        let space =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace}});
        cluster.apply(&space.to_string());
        cluster.apply(&account.to_string());
        let node =
            |number| Node::new(&format!("{namespace}-{number}"), &namespace, &cluster.kubeconfig());
        let nodes = [node(1), node(2)];
        Self { cluster, namespace, nodes }
    }

    /// Writes a claim. Its owner is this virtual machine.
    fn claim(&self, name: &str, machine: Option<&str>) {
        self.claim_with(name, machine, &json!({"network": NETWORK, "interface": ""}));
    }

    fn claim_with(&self, name: &str, machine: Option<&str>, spec: &Value) {
        let owner = |name| json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name, "uid": "u"}]);
        let claim = json!({
            "apiVersion": "k8s.cni.cncf.io/v1alpha1", "kind": "IPAMClaim", "spec": spec,
            "metadata": {"name": name, "namespace": self.namespace, "ownerReferences": machine.map(owner)},
        });
        self.cluster.apply(&claim.to_string());
    }

    /// Writes a pod, that of this virtual machine, and returns its uid. `networks` is its annotation.
    fn pod(&self, name: &str, machine: Option<&str>, networks: &str) -> String {
        let owner = |name| json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": name, "uid": "u"}]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": self.namespace,
                "labels": {"vm.kubevirt.io/name": machine.unwrap_or_default()},
                "annotations": {"k8s.v1.cni.cncf.io/networks": networks},
                "ownerReferences": machine.map(owner),
            },
            "spec": {"containers": [{"name": "c", "image": "x"}]},
        });
        self.cluster.apply(&pod.to_string());
        self.kubectl(&["get", "pod", name, "-o", "jsonpath={.metadata.uid}"])
    }

    /// Returns a call for the pod whose name is that of the container up to the first `_`. The pod
    /// names its claim by `cni-args`, which Multus hands on.
    fn call(&self, verb: &str, node: usize, container: &str, claim: &str, ipam: &str) -> Call {
        let mut stdin = self.network(ipam);
        stdin["args"] = json!({"cni": {"ipamClaim": claim}});
        self.call_with(verb, node, container, &stdin)
    }

    fn network(&self, ipam: &str) -> Value {
        let mut ipam: Value = serde_json::from_str(&format!("{{{ipam}}}")).unwrap();
        (ipam["type"], ipam["network_name"]) = (json!("hereabouts"), json!(self.namespace));
        json!({"cniVersion": "1.1.0", "name": NETWORK, "type": "macvlan", "ipam": ipam})
    }

    fn call_with(&self, verb: &str, node: usize, container: &str, stdin: &Value) -> Call {
        let mut call = self.nodes[node - 1].call(verb, container);
        let pod = container.split('_').next().unwrap();
        let known = self.cluster.kubectl(&[
            "get",
            "pod",
            pod,
            "--namespace",
            &self.namespace,
            "-o",
            "jsonpath={.metadata.uid}",
        ]);
        let uid = String::from_utf8(known.stdout).unwrap();
        let uid = if uid.is_empty() { format!("uid-of-{pod}") } else { uid };
        let pod = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={pod};K8S_POD_UID={uid}",
            self.namespace
        );
        call.set("CNI_ARGS", pod).stdin(stdin.to_string());
        call
    }

    /// Writes into the status of a claim, as somebody else may.
    fn write_status(&self, claim: &str, status: &Value) {
        let status = json!({"status": status}).to_string();
        let words = ["patch", "ipamclaim", claim, "--subresource=status", "--type=merge", "-p"];
        self.kubectl(&[&words[..], &[&status]].concat());
    }

    fn add(&self, node: usize, container: &str, claim: &str) -> Ended {
        self.call("ADD", node, container, claim, r#""range":"10.9.0.0/24""#).run()
    }

    fn del(&self, node: usize, container: &str, claim: &str) {
        self.call("DEL", node, container, claim, r#""range":"10.9.0.0/24""#).run().succeeded();
    }

    fn kubectl(&self, args: &[&str]) -> String {
        self.cluster.text(&[args, &["--namespace", &self.namespace]].concat())
    }

    /// Returns the IPAllocations of the claim in this network: address, kind of holder and its name,
    /// and the finalizers.
    fn held(&self) -> Vec<String> {
        let list = self.cluster.text(&["get", "ipallocations.hereabouts.dev", "-o", "json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let of_network = |object: &&Value| object["spec"]["scope"] == json!(self.namespace);
        let objects = list["items"].as_array().unwrap().iter().filter(of_network);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut held: Vec<String> = objects
            .map(|object| {
                let spec = &object["spec"];
                match spec.get("claim") {
                    Some(claim) => format!(
                        "{} {} {} {}",
                        text(&spec["address"]),
                        text(&claim["kind"]),
                        text(&claim["name"]),
                        object["metadata"]["finalizers"]
                    ),
                    None => format!("{} {}", text(&spec["address"]), text(&spec["containerID"])),
                }
            })
            .collect();
        held.sort();
        held
    }

    /// Returns the sandboxes that use claims: container and address.
    fn users(&self) -> Vec<String> {
        let nodes: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        let list = self.cluster.text(&["get", "ipallocations.hereabouts.dev", "-o", "json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let mut users: Vec<String> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|object| &object["spec"])
            .filter(|spec| {
                let node = spec["node"].as_str().unwrap_or_default();
                let scope = spec["scope"].as_str().unwrap_or_default();
                nodes.contains(&node) && scope.starts_with("ipamclaim:")
            })
            .map(|spec| {
                let text = |key: &str| spec[key].as_str().unwrap_or_default();
                format!("{} {}", text("containerID"), text("address"))
            })
            .collect();
        users.sort();
        users
    }
}
