//! The fields of IPAllocations, Pods and Nodes by which leak candidates are found (see
//! [`crate::ipam::leak`]), and pools with addresses of nodes.
//!
//! Every field may be absent: an object that lacks one must not stop the reading of all others.

use super::pod_annotations::PodAnnotations;
use crate::ipam::Texts;
use crate::ipam::leak::{Holder, HolderPod, Interface, Node, Pod};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::rc::Rc;

/// The taint with which an operator says that the machine of a node is off. Its effect and value do
/// not matter.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The name and the version of an object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    /// Its namespace. Empty for an object without one.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The state of it.
    pub resource_version: String,
    /// When it was created (RFC 3339).
    pub creation_timestamp: String,
}

/// What the spec of an IPAllocation says about the attachment that holds it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HolderFields {
    /// The address.
    pub address: String,
    /// The scope. Empty for the unnamed one.
    pub scope: String,
    /// The network.
    pub network: String,
    /// The node. Empty if a claim holds the address.
    pub node: String,
    /// The uid of the node's Node object.
    #[serde(rename = "nodeUID")]
    pub node_uid: Option<String>,
    /// The boot ID of the node.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// The interface.
    pub interface: String,
    /// The pod.
    pub pod_ref: Option<PodFields>,
    /// From where the node saw the sandbox.
    pub view: ViewFields,
}

/// Who holds an address.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AllocationSpec {
    /// The format of the record. Absent for the first one.
    pub format: Option<u64>,
    /// The prefix length.
    pub prefix: u8,
    /// The gateway. Empty if there is none.
    pub gateway: String,
    /// The claim. Absent for an address that an attachment holds.
    pub claim: Option<ObjectRef>,
    /// The pool of the claim.
    pub pool: Option<ObjectRef>,
    /// The attachment. Empty for an address that a claim holds.
    #[serde(flatten)]
    pub attachment: HolderFields,
}

/// An object of the API.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// The group of its kind.
    pub api_group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace. Empty for an object without one.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The pod of an attachment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodFields {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Option<String>,
}

/// From where the node saw the sandbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewFields {
    /// Whether the boot ID came from a file that was mounted over the kernel's own.
    #[serde(rename = "bootIDIsMounted")]
    pub boot_id_is_mounted: bool,
}

impl HolderFields {
    /// Returns the attachment that holds the address. `None` if a claim holds it, or if the object
    /// is damaged: `verify` reports that.
    pub fn holder(&self, texts: &mut Texts) -> Option<Holder> {
        if self.node.is_empty() {
            return None;
        }
        Some(self.attachment(crate::addr::parse_address(&self.address).ok()?, texts))
    }

    /// Returns the attachment that holds an address, as far as the object says who it is.
    pub fn attachment(&self, address: IpAddr, texts: &mut Texts) -> Holder {
        let is_known = !self.boot_id.is_empty() && !self.view.boot_id_is_mounted;
        Holder {
            address,
            node: texts.shared(&self.node),
            node_uid: self.node_uid.as_deref().map(|uid| texts.shared(uid)),
            boot_id: is_known.then(|| texts.shared(&self.boot_id)),
            interface: texts.shared(&self.interface),
            pod: self.pod_ref.as_ref().map(|pod| HolderPod {
                namespace: texts.shared(&pod.namespace),
                name: pod.name.as_str().into(),
                uid: pod.uid.as_deref().map(Rc::from),
            }),
        }
    }
}

/// A Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodObject {
    /// Which pod.
    pub metadata: PodIdentity,
    spec: PodSpec,
    status: PodStatus,
}

/// The name of a pod, and the annotations that are needed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The uid of the object.
    pub uid: String,
    /// The state of the object.
    pub resource_version: String,
    annotations: PodAnnotations,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
}

/// An entry of the network-status.
#[derive(Deserialize)]
struct Entry {
    interface: Option<String>,
    ips: Option<Vec<String>>,
}

impl PodObject {
    /// Returns what the object says about its pod.
    #[must_use]
    pub fn pod(&self) -> Pod {
        let annotations = &self.metadata.annotations;
        let is_running = self.status.phase == "Running";
        Pod {
            uid: annotations.uid(&self.metadata.uid).into(),
            node: self.spec.node_name.as_deref().map(Rc::from),
            has_ended: ["Succeeded", "Failed"].contains(&self.status.phase.as_str()),
            interfaces: annotations
                .network_status
                .as_deref()
                .filter(|_| is_running)
                .and_then(|status| interfaces(status, annotations.networks.as_deref())),
        }
    }
}

/// Returns the interfaces in a network-status. `None` if it does not name the default network and
/// each network that the pod asks for, each with its interface.
fn interfaces(status: &str, networks: Option<&str>) -> Option<Box<[Interface]>> {
    let entries: Vec<Entry> = serde_json::from_str(status).ok()?;
    if entries.len() < count(networks.unwrap_or_default())? + 1 {
        return None;
    }
    let interfaces = entries.into_iter().map(|entry| {
        let addresses = entry.ips.unwrap_or_default();
        let parsed = addresses.iter().map(|text| {
            let address = text.split_once('/').map_or(text.as_str(), |(address, _)| address);
            address.parse::<IpAddr>().ok()
        });
        Some(Interface {
            name: entry.interface.filter(|name| !name.is_empty())?.into(),
            addresses: parsed.collect::<Option<_>>()?,
        })
    });
    interfaces.collect()
}

/// Returns the number of networks in the annotation of a pod: a list in JSON, or names with commas.
fn count(networks: &str) -> Option<usize> {
    if networks.trim_start().starts_with('[') {
        return serde_json::from_str::<Vec<serde::de::IgnoredAny>>(networks)
            .ok()
            .map(|all| all.len());
    }
    Some(networks.split(',').filter(|name| !name.trim().is_empty()).count())
}

/// A Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeObject {
    /// Which node.
    pub metadata: Identity,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    taints: Vec<Taint>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Taint {
    key: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatus {
    node_info: NodeInfo,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeInfo {
    #[serde(rename = "bootID")]
    boot_id: String,
}

impl NodeObject {
    /// Returns the subnets from which the network of the cluster gives addresses to the pods of the
    /// node, as texts. Some networks ignore them.
    #[must_use]
    pub fn pod_cidrs(&self) -> &[String] {
        self.spec.pod_cidrs.as_deref().unwrap_or_default()
    }

    /// Returns what the object says about its node.
    #[must_use]
    pub fn node(&self) -> Node {
        let boot_id = Some(self.status.node_info.boot_id.as_str());
        Node {
            uid: self.metadata.uid.as_str().into(),
            boot_id: boot_id.filter(|id| !id.is_empty()).map(Rc::from),
            created: second(&self.metadata.creation_timestamp),
            is_out_of_service: self.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE),
        }
    }
}

/// Returns the second of a time in an object's metadata, since 1970.
fn second(time: &str) -> Option<u64> {
    let time = humantime::parse_rfc3339(time).ok()?;
    Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_pod(annotations: &serde_json::Value, phase: &str) -> Pod {
        let object = json!({
            "metadata": {"name": "web-0", "namespace": "default", "uid": "u", "annotations": annotations},
            "spec": {"nodeName": "n1"}, "status": {"phase": phase},
        });
        serde_json::from_value::<PodObject>(object).unwrap().pod()
    }

    #[test]
    fn a_network_status_counts_only_if_it_is_complete() {
        let status = r#"[{"name":"cbr0","interface":"eth0","ips":["10.244.0.5"],"default":true},
            {"name":"default/a","interface":"net1","ips":["10.0.0.5","fd00::5"]}]"#;
        let (networks, key) = ("k8s.v1.cni.cncf.io/networks", "k8s.v1.cni.cncf.io/network-status");
        let count = |networks_value: &str, status: &str, phase: &str| {
            let pod = read_pod(&json!({networks: networks_value, key: status}), phase);
            pod.interfaces.map(|all| all.iter().map(|one| one.addresses.len()).sum::<usize>())
        };
        assert_eq!(count("a", status, "Running"), Some(3));
        assert_eq!(count(r#"[{"name":"a"}]"#, status, "Running"), Some(3));
        assert_eq!(count("", status, "Running"), Some(3));
        for (networks_value, status, phase) in [
            ("a, b", status, "Running"),
            (r#"[{"name":"a"},{"name":"b"}]"#, status, "Running"),
            ("[", status, "Running"),
            ("a", status, "Pending"),
            ("a", "", "Running"),
            ("a", "[]", "Running"),
            ("", "[]", "Running"),
            ("", r#"[{"name":"cbr0","ips":["10.244.0.5"]}]"#, "Running"),
            ("", r#"[{"name":"cbr0","interface":"","ips":["10.244.0.5"]}]"#, "Running"),
            ("", r#"[{"name":"cbr0","interface":"eth0","ips":["10.244.0"]}]"#, "Running"),
        ] {
            assert_eq!(count(networks_value, status, phase), None, "{networks_value} {status}");
        }
        assert!(read_pod(&json!({}), "Running").interfaces.is_none());
    }

    #[test]
    fn the_uid_of_a_static_pod_is_that_of_the_kubelet() {
        assert_eq!(&*read_pod(&json!({}), "Running").uid, "u");
        assert_eq!(&*read_pod(&json!({"kubernetes.io/config.hash": "h"}), "Running").uid, "h");
    }

    #[test]
    fn only_an_attachment_is_a_holder() {
        let holder = |text: &str| {
            serde_json::from_str::<HolderFields>(text).unwrap().holder(&mut Texts::default())
        };
        let of = |view: &str| {
            holder(&format!(
                r#"{{"address":"10.0.0.5","node":"n1","bootID":"b","interface":"net1","view":{view},"since":"x"}}"#
            ))
        };
        assert_eq!(of("{}").unwrap().boot_id.as_deref(), Some("b"));
        assert_eq!(of(r#"{"bootIDIsMounted":true}"#).unwrap().boot_id, None);
        assert_eq!(holder(r#"{"address":"10.0.0.5","claim":{}}"#), None);
        assert_eq!(holder(r#"{"address":"x","node":"n1"}"#), None);
    }

    #[test]
    fn a_node_reports_its_boot() {
        let node = |text: &str| serde_json::from_str::<NodeObject>(text).unwrap().node();
        let boot = node(r#"{"metadata":{"uid":"u"},"status":{"nodeInfo":{"bootID":"b"}}}"#);
        assert_eq!((&*boot.uid, boot.boot_id.as_deref()), ("u", Some("b")));
        assert_eq!(node(r#"{"metadata":{},"status":{}}"#), Node::default());
        let time = r#"{"metadata":{"creationTimestamp":"1970-01-01T00:01:07Z"}}"#;
        assert_eq!(node(time).created, Some(67));
        let tainted = |key: &str| {
            node(&format!(r#"{{"spec":{{"taints":[{{"key":"a"}},{{"key":"{key}"}}]}}}}"#))
        };
        assert!(tainted("node.kubernetes.io/out-of-service").is_out_of_service);
        assert!(!tainted("node.kubernetes.io/unreachable").is_out_of_service);
    }

    #[test]
    fn a_node_has_the_subnets_of_its_pods() {
        let node = |text: &str| serde_json::from_str::<NodeObject>(text).unwrap();
        let found =
            node(r#"{"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24","fd00::/64"]}}"#);
        assert_eq!(found.pod_cidrs(), ["10.1.0.0/24", "fd00::/64"]);
        for text in ["{}", r#"{"spec":{}}"#, r#"{"spec":{"podCIDRs":null}}"#] {
            assert!(node(text).pod_cidrs().is_empty(), "{text}");
        }
    }
}
