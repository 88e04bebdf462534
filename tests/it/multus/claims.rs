//! IPAMClaims through the real Multus: it hands on `cni-args`, and nothing of `ipam-claim-reference`,
//! which the plugin reads in the pod.

use super::rig::{Pod, Rig};
use super::{rig, row, status_of};
use serde_json::json;

fn install(rig: &Rig) {
    let resource = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/share/ipamclaims");
    rig.cluster.text(&["apply", "--server-side", "-f", resource]);
    let crd = "crd/ipamclaims.k8s.cni.cncf.io";
    rig.cluster.text(&["wait", "--for=condition=Established", crd, "--timeout=60s"]);
}

fn claim(rig: &Rig, name: &str, network: &str) {
    let claim = json!({
        "apiVersion": "k8s.cni.cncf.io/v1alpha1", "kind": "IPAMClaim",
        "metadata": {"name": name, "namespace": "default"}, "spec": {"network": network, "interface": ""},
    });
    rig.cluster.apply(&claim.to_string());
}

/// Makes a pod one of a virtual machine.
fn of_machine(rig: &Rig, pod: &Pod, machine: &str) {
    let owner = json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": machine, "uid": "u"}]);
    let change =
        json!({"metadata": {"labels": {"vm.kubevirt.io/name": machine}, "ownerReferences": owner}});
    rig.cluster.text(&["patch", "pod", &pod.name, "--type=merge", "-p", &change.to_string()]);
}

#[test]
fn multus_hands_on_the_claim_in_cni_args() {
    let Some(rig) = rig() else { return };
    install(rig);
    rig.network("claimed", r#""ipam": {"type": "hereabouts", "range": "192.168.61.0/24"}"#);
    claim(rig, "router", "claimed");
    let (one, two) = (rig.node("claimed-1"), rig.node("claimed-2"));
    let networks = r#"[{"name": "claimed", "cni-args": {"ipamClaim": "router"}}]"#;
    let (first, plain) = (rig.pod("claimed-a", networks), rig.pod("claimed-b", "claimed"));
    one.start(&first);
    two.start(&plain);
    assert_eq!(one.on_interface(&first, "net1"), ["192.168.61.1"]);
    let other = two.on_interface(&plain, "net1");
    assert_ne!(other, ["192.168.61.1"]);
    one.check(&first).succeeded();
    one.stop(&first).succeeded();
    // A pod of another node gets the address, and reaches others with it.
    let next = rig.pod("claimed-c", networks);
    two.start(&next);
    assert_eq!(two.on_interface(&next, "net1"), ["192.168.61.1"]);
    one.start(&rig.pod("claimed-d", "claimed"));
    two.pings(&plain, "net1", "192.168.61.1");
    two.stop(&next).succeeded();
}

#[test]
fn the_reference_of_kubevirt_is_read_in_the_pod() {
    let Some(rig) = rig() else { return };
    install(rig);
    let keys =
        r#""allowPersistentIPs": true, "ipam": {"type": "hereabouts", "range": "192.168.62.0/24"}"#;
    rig.network("persistent", keys);
    claim(rig, "vm.persistent", "persistent");
    let (one, two) = (rig.node("persistent-1"), rig.node("persistent-2"));
    let networks = r#"[{"name": "persistent", "interface": "pod37a8eec1ce1",
        "ipam-claim-reference": "vm.persistent"}]"#;
    let pods = ["persistent-a", "persistent-b"].map(|name| rig.pod(name, networks));
    pods.iter().for_each(|pod| of_machine(rig, pod, "vm"));
    let [source, target] = &pods;
    one.start(source);
    // The machine moves: both pods have its address.
    two.start(target);
    for (node, pod) in [(&one, source), (&two, target)] {
        assert_eq!(node.on_interface(pod, "pod37a8eec1ce1"), ["192.168.62.1"]);
        let [(_, interface, addresses)] = &status_of(rig, pod)[..] else { panic!("{}", pod.name) };
        assert_eq!(
            (&**interface, &addresses[..]),
            ("pod37a8eec1ce1", &["192.168.62.1".to_owned()][..])
        );
    }
    one.stop(source).succeeded();
    let users = rig.held("persistent");
    assert_eq!(users, [row("192.168.62.1", "persistent-b", "pod37a8eec1ce1", "persistent-2")]);
    two.stop(target).succeeded();
    assert_eq!(rig.held("persistent"), [[""; 4]; 0]);
    // The claim still has it.
    let plain = rig.pod("persistent-c", "persistent");
    one.start(&plain);
    assert_ne!(one.on_interface(&plain, "net1"), ["192.168.62.1"]);
    one.stop(&plain).succeeded();
}
