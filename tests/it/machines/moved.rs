//! `clusterctl move` to another management cluster: addresses stay what they were.

use super::{Controller, Machines, all, own};
use crate::support::cluster::Cluster;
use serde_json::json;
use std::process::Command;

/// A kind of pool, and the name of the pool.
const POOLS: [(&str, &str); 3] =
    [("InClusterIPPool", "pool"), ("GlobalInClusterIPPool", "global"), ("IPPool", "ours")];

/// Makes an API server look as if `clusterctl init` had installed Cluster API and the provider:
/// labels of the custom resources, and an inventory.
fn initialize(cluster: &Cluster) {
    let inventory = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/share/capi/clusterctl");
    cluster.text(&["apply", "--server-side", "--filename", inventory]);
    cluster.text(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    for (resource, version) in [
        ("clusters.cluster.x-k8s.io", "v1beta2"),
        ("ipaddressclaims.ipam.cluster.x-k8s.io", "v1beta2"),
        ("ipaddresses.ipam.cluster.x-k8s.io", "v1beta2"),
        ("inclusterippools.ipam.cluster.x-k8s.io", "v1alpha2"),
        ("globalinclusterippools.ipam.cluster.x-k8s.io", "v1alpha2"),
    ] {
        let contract = format!("cluster.x-k8s.io/v1beta2={version}");
        let mut words = vec!["label", "--overwrite", "crd", resource, &contract];
        words.extend(["clusterctl.cluster.x-k8s.io=", "cluster.x-k8s.io/provider=cluster-api"]);
        // As the provider's manifests have it.
        if resource.contains("pools") {
            words.push("clusterctl.cluster.x-k8s.io/move-hierarchy=");
        }
        cluster.text(&words);
    }
    let provider = json!({
        "apiVersion": "clusterctl.cluster.x-k8s.io/v1alpha3", "kind": "Provider",
        "metadata": {
            "name": "cluster-api", "namespace": "kube-system",
            "labels": {
                "clusterctl.cluster.x-k8s.io": "", "cluster.x-k8s.io/provider": "cluster-api",
                "clusterctl.cluster.x-k8s.io/core": "inventory",
            },
        },
        "providerName": "cluster-api", "type": "CoreProvider", "version": "v1.11.2",
    });
    cluster.apply(&provider.to_string());
}

/// Writes a Cluster that is ready, and a claim of it for each pool.
fn claim_for_a_cluster(machines: &Machines<'_>) {
    let infrastructure = "infrastructure.cluster.x-k8s.io";
    let object = json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
        "metadata": {"name": "c", "namespace": machines.namespace},
        "spec": {
            "controlPlaneEndpoint": {"host": "10.9.9.9", "port": 6443},
            "infrastructureRef": {"apiGroup": infrastructure, "kind": "Metal", "name": "c"},
        },
    });
    machines.cluster.apply(&object.to_string());
    let ready = json!({"status": {
        "initialization": {"infrastructureProvisioned": true, "controlPlaneInitialized": true},
        "conditions": [{
            "type": "ControlPlaneInitialized", "status": "True", "reason": "Initialized",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }});
    let ready = ready.to_string();
    machines.kubectl(&[
        "patch",
        "cluster",
        "c",
        "--subresource=status",
        "--type=merge",
        "-p",
        &ready,
    ]);
    let uid = machines.get("cluster", "c")["metadata"]["uid"].clone();
    for (number, (kind, pool)) in POOLS.iter().enumerate() {
        let name = format!("m{number}");
        let mut claim = machines.claim_object(kind, pool, &name);
        claim["metadata"]["labels"] = json!({"cluster.x-k8s.io/cluster-name": "c"});
        claim["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": "c", "uid": uid,
        }]);
        claim["spec"]["clusterName"] = json!("c");
        machines.cluster.apply(&claim.to_string());
        machines.until(&true, |machines| machines.condition(&name).starts_with("True"));
    }
}

#[test]
fn clusterctl_move_keeps_every_address_and_what_it_leaves_is_named() {
    let (Some(from), Some(to)) = (own(), own()) else { return };
    [&from, &to].into_iter().for_each(initialize);
    let machines = Machines::of(&from);
    let namespace = &machines.namespace;
    let target = Machines { cluster: &to, namespace: namespace.clone() };
    let _controllers = [Controller::start(&from), Controller::start(&to)];
    let spec = |net: &str| json!({"prefix": 24, "addresses": [format!("{net}.2-{net}.9")]});
    machines.pool(&spec("10.0.0"));
    machines.write("GlobalInClusterIPPool", "global", &spec("10.1.0"));
    let own = json!({"subnets": [{"subnet": "10.2.0.0/24", "addresses": ["10.2.0.2-10.2.0.9"]}]});
    machines.write("IPPool", "ours", &own);
    let label = "clusterctl.cluster.x-k8s.io/move-hierarchy=";
    from.text(&["label", "ippools.hereabouts.dev", "ours", label]);
    // The lowest addresses are free again: an allocation anew would take them.
    for (number, (kind, pool)) in POOLS.iter().enumerate() {
        let name = format!("hole-{number}");
        machines.claim_of(kind, pool, &[&name]);
        machines.until(&true, |machines| machines.condition(&name).starts_with("True"));
    }
    claim_for_a_cluster(&machines);
    machines.kubectl(&["delete", "ipaddressclaim", "hole-0", "hole-1", "hole-2"]);
    let given = all([("m0", "10.0.0.3"), ("m1", "10.1.0.3"), ("m2", "10.2.0.3")]);
    assert_eq!(machines.answers(), given);

    let done = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/clusterctl"))
        .args(["move", "--namespace", namespace, "--kubeconfig"])
        .arg(from.kubeconfig())
        .arg("--to-kubeconfig")
        .arg(to.kubeconfig())
        // It keeps files there, and asks for its newest version.
        .env("HOME", from.directory())
        .env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    target.until(&given, Machines::answers);
    target.until(&given, Machines::held);
    for (name, address) in &given {
        let said = format!("True AddressAllocated: has {address}");
        target.until(&said, |target| target.condition(name));
    }
    // clusterctl does not delete what belongs to a pool without a namespace.
    let left = [("m1", "10.1.0.3"), ("m2", "10.2.0.3")];
    machines.until(&all(left), Machines::held);
    let log = || std::fs::read_to_string(from.directory().join("controller.log")).unwrap();
    let said = |name| format!("IPAddress {namespace}/{name} stands without its claim");
    for (name, address) in left {
        machines.until(&true, |_| log().contains(&said(name)));
        assert!(log().contains(&format!("and {address} stays held")));
    }
    assert!(!log().contains(&said("m0")));
}
