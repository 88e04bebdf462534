//! The fields of an IPAMClaim and of a Pod that an ADD needs: see [`crate::ipam::IpamClaim`].
//!
//! Every field may be absent.

use super::pod_annotations::PodAnnotations;
use crate::ipam::{ClaimPod, IpamClaim, Machine};
use serde::Deserialize;

/// The version of the resource.
pub(crate) const VERSION: &str = "v1alpha1";

/// An IPAMClaim.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimFields {
    metadata: Metadata,
    spec: ClaimSpec,
    status: ClaimStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
    deletion_timestamp: Option<String>,
    owner_references: Vec<OwnerReference>,
    labels: Labels,
    annotations: PodAnnotations,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OwnerReference {
    api_version: String,
    kind: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSpec {
    network: String,
    ip_requests: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClaimStatus {
    ips: Vec<String>,
}

/// A Pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodFields {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "vm.kubevirt.io/name")]
    machine: String,
}

/// An entry of the networks.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Selection {
    interface: String,
    #[serde(rename = "ipam-claim-reference")]
    claim: String,
}

impl Metadata {
    /// Returns the name of an owner of KubeVirt that has one of these kinds.
    fn owner(&self, kinds: &[&str]) -> Option<&str> {
        let is_of = |owner: &&OwnerReference| {
            owner.api_version.starts_with("kubevirt.io/") && kinds.contains(&owner.kind.as_str())
        };
        self.owner_references.iter().find(is_of).map(|owner| owner.name.as_str())
    }
}

impl ClaimFields {
    pub(crate) fn claim(self) -> IpamClaim {
        let machine = self.metadata.owner(&["VirtualMachine", "VirtualMachineInstance"]);
        IpamClaim {
            machine: machine.map(str::to_owned),
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            uid: self.metadata.uid,
            is_ending: self.metadata.deletion_timestamp.is_some(),
            network: self.spec.network,
            wanted: self.spec.ip_requests,
            told: self.status.ips,
        }
    }
}

impl PodFields {
    pub(crate) fn pod(self) -> ClaimPod {
        let Metadata { uid, labels, annotations, .. } = &self.metadata;
        let owner = self.metadata.owner(&["VirtualMachineInstance"]);
        let is_of_machine = |owner: &&str| !labels.machine.is_empty() && !owner.is_empty();
        ClaimPod {
            machine: owner
                .filter(is_of_machine)
                .map(|owner| Machine { label: labels.machine.clone(), owner: owner.to_owned() }),
            references: references(annotations.networks.as_deref().unwrap_or_default()),
            uid: annotations.uid(uid).to_owned(),
        }
    }
}

/// Returns the claims that the annotation of a pod names, each with its interface. Multus names the
/// interfaces of entries that name none by their position, from net1 on. Only the form in JSON can
/// name a claim.
fn references(networks: &str) -> Vec<(String, String)> {
    let entries: Vec<Selection> = serde_json::from_str(networks).unwrap_or_default();
    let entries = (1..).zip(entries).filter(|(_, entry)| !entry.claim.is_empty());
    entries
        .map(|(number, entry)| match entry.interface.is_empty() {
            true => (format!("net{number}"), entry.claim),
            false => (entry.interface, entry.claim),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(metadata: &Value) -> ClaimPod {
        serde_json::from_value::<PodFields>(json!({"metadata": metadata})).unwrap().pod()
    }

    #[test]
    fn a_pod_names_its_claims_by_interface() {
        let networks = json!([
            {"name": "a", "ipam-claim-reference": "vm.a"}, {"name": "b"},
            {"name": "c", "interface": "pod1", "ipam-claim-reference": "vm.c"},
            {"name": "d", "ipam-claim-reference": "vm.d"},
        ]);
        let of = |text: &str| {
            pod(&json!({"annotations": {"k8s.v1.cni.cncf.io/networks": text}})).references
        };
        let pair = |interface: &str, claim: &str| (interface.to_owned(), claim.to_owned());
        assert_eq!(
            of(&networks.to_string()),
            [pair("net1", "vm.a"), pair("pod1", "vm.c"), pair("net4", "vm.d")]
        );
        for text in ["", "a,b", "[", "{}", "[1]"] {
            assert_eq!(of(text), [], "{text}");
        }
    }

    #[test]
    fn only_kubevirt_makes_a_pod_that_of_a_virtual_machine() {
        let owned = |version: &str, kind: &str, label: &str| {
            let owner = json!([{"apiVersion": version, "kind": kind, "name": "vm"}]);
            pod(&json!({"ownerReferences": owner, "labels": {"vm.kubevirt.io/name": label}}))
                .machine
        };
        let found = owned("kubevirt.io/v1", "VirtualMachineInstance", "vm-label").unwrap();
        assert!(found.is_named("vm") && found.is_named("vm-label") && !found.is_named(""));
        assert_eq!(owned("apps/v1", "VirtualMachineInstance", "vm"), None);
        assert_eq!(owned("kubevirt.io/v1", "ReplicaSet", "vm"), None);
        assert_eq!(owned("kubevirt.io/v1", "VirtualMachineInstance", ""), None);
    }

    #[test]
    fn a_claim_is_read_whatever_it_lacks() {
        let claim = serde_json::from_str::<ClaimFields>(r#"{"metadata": {"uid": "u"}}"#).unwrap();
        assert_eq!(claim.claim(), IpamClaim { uid: "u".to_owned(), ..IpamClaim::default() });
    }
}
