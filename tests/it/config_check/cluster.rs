//! `config check --kubeconfig`: the networks of a real API server, page by page,
//! and the pods that use them.

use super::check;
use crate::support::cluster::{Cluster, Options};
use crate::support::proxy::Proxy;
use crate::support::sandbox::Sandbox;
use serde_json::{Value, json};

/// The definition of the resource, as Multus installs it.
const RESOURCE: &str = include_str!("../../data/kubernetes/network-attachment-definition.yaml");

fn definition(namespace: &str, name: &str, ipam: &Value) -> Value {
    let config = json!({"cniVersion": "1.0.0", "type": "bridge", "ipam": ipam}).to_string();
    json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": namespace}, "spec": {"config": config}})
}

fn pod(name: &str, networks: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": {"k8s.v1.cni.cncf.io/networks": networks}},
        "spec": {"containers": [{"name": "c", "image": "none"}]}})
}

#[test]
fn all_networks_of_a_cluster_are_checked_with_the_pods_that_use_them() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let sandbox = Sandbox::new();
    let kubeconfig = cluster.kubeconfig();
    let arguments = ["--kubeconfig", kubeconfig.to_str().unwrap()];
    let ended = check(&sandbox, &arguments);
    assert!(ended.status == Some(1) && ended.stderr.contains("hint: install Multus"), "{ended:?}");
    cluster.apply(RESOURCE);
    cluster.text(&[
        "wait",
        "--for=condition=established",
        "crd/network-attachment-definitions.k8s.cni.cncf.io",
    ]);
    let ours = json!({"type": "whereabouts", "range": "10.0.0.0/24"});
    // More than one page.
    let mut objects: Vec<Value> =
        (0..120).map(|n| definition("default", &format!("n{n}"), &ours)).collect();
    objects.push(definition("kube-system", "n0", &ours));
    objects.push(definition("default", "other", &json!({"type": "dhcp"})));
    objects.push(pod("one", "n1, n2@eth5,kube-system/n0"));
    objects.push(pod("two", r#"[{"name":"n1"},{"name":"n1","interface":"x"}]"#));
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
    let ended = check(&sandbox, &[&arguments[..], &["-o", "json"]].concat());
    let networks: Vec<Value> = serde_json::from_str(&ended.succeeded().stdout).unwrap();
    assert_eq!(networks.len(), 122);
    let of = |namespace: &str, name: &str| {
        networks
            .iter()
            .find(|network| network["namespace"] == namespace && network["object"] == name)
            .unwrap()
    };
    let used = |namespace: &str, name: &str| of(namespace, name)["usedBy"].as_u64().unwrap();
    assert_eq!((used("default", "n1"), used("default", "n2"), used("default", "n3")), (2, 1, 0));
    assert_eq!((used("kube-system", "n0"), used("default", "n0")), (1, 0));
    assert_eq!(of("default", "other")["notOurs"], "type dhcp");
    assert_eq!(of("default", "n1")["file"], cluster.server());
    let text = check(&sandbox, &arguments).succeeded().stdout.clone();
    assert!(text.contains("  used by: 2 pods\n"), "{text}");
    assert!(text.contains("network n0 is one network for every plugin"), "{text}");
    // A mistake in one of them.
    let wrong =
        definition("default", "n3", &json!({"type": "whereabouts", "range": "10.0.0.0/33"}));
    cluster.apply(&wrong.to_string());
    assert_eq!(check(&sandbox, &arguments).status, Some(1));
    // Without the right.
    let token = cluster.kubeconfig_with(&cluster.node_token("n1"));
    let poor = sandbox.write("poor.conf", &token);
    let ended = check(&sandbox, &["--kubeconfig", poor.to_str().unwrap()]);
    assert!(
        ended.status == Some(1) && ended.stderr.contains("the right to list ippools"),
        "{ended:?}"
    );
}

#[test]
fn networks_of_a_cluster_are_checked_with_the_pools_of_the_cluster() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    cluster.apply(RESOURCE);
    let names = ["network-attachment-definitions.k8s.cni.cncf.io", "ippools.hereabouts.dev"];
    cluster.apply(include_str!("../../../deploy/crd/ippools.hereabouts.dev.yaml"));
    for name in names {
        cluster.text(&["wait", "--for=condition=established", &format!("crd/{name}")]);
    }
    let pool = |name: &str, subnet: &str| {
        json!({"apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool",
            "metadata": {"name": name}, "spec": {"subnets": [{"subnet": subnet}]}})
    };
    let network = |name: &str, pool: &str| {
        let ipam = json!({"type": "hereabouts", "datastore": "kubernetes", "pool": pool,
            "kubernetes": {"kubeconfig": "/etc/cni/nowhere/kubeconfig"}});
        definition("default", name, &ipam)
    };
    // The node's flat file names the store.
    let plain = |pool: &str| json!({"type": "hereabouts", "pool": pool});
    let objects = [
        pool("blue", "10.1.2.0/24"),
        pool("green", "10.1.2.128/25"),
        network("served", "blue"),
        network("lost", "red"),
        definition("default", "plain", &plain("blue")),
        definition("default", "of-files", &plain("red")),
    ];
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
    let (sandbox, kubeconfig) = (Sandbox::new(), cluster.kubeconfig());
    let ended = check(&sandbox, &["--kubeconfig", kubeconfig.to_str().unwrap(), "-o", "json"]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let proxy = Proxy::new(&cluster);
    let through = proxy.kubeconfig(&sandbox.root);
    assert_eq!(check(&sandbox, &["--kubeconfig", through.to_str().unwrap()]).status, Some(1));
    let lists = proxy.seen();
    let lists = lists.iter().filter(|seen| seen.path.contains("/ippools?"));
    assert_eq!(lists.count(), 1, "pools are read once");
    let all: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    let of = |object: &str| {
        let is_it = |found: &&Value| found["object"] == object || found["name"] == object;
        all.iter().find(is_it).unwrap_or_else(|| panic!("{object}: {all:#?}"))
    };
    let served = of("served");
    assert_eq!(served["pools"][0]["file"], cluster.server(), "{served}");
    assert_eq!(served["pools"][0]["ranges"][0][0]["addresses"], 254, "{served}");
    assert_eq!(of("lost")["mistakes"][0]["reason"], "no pool has the name red", "{}", of("lost"));
    assert_eq!(of("plain")["pools"][0]["file"], cluster.server());
    // The node may have it in a file.
    let note = of("of-files")["notes"][0].as_str().unwrap();
    assert!(note.starts_with("pool red was not checked, because this machine"), "{note}");
    assert_eq!(of("blue")["pool"]["addresses"], 254);
    let overlap = of("green")["notes"].to_string();
    assert!(overlap.contains("blue") && !overlap.contains("podCIDRs"), "{overlap}");
    // A file in place of what the cluster has.
    let smaller = sandbox.write("pool.yaml", &pool("blue", "10.1.2.0/25").to_string());
    let file = smaller.to_str().unwrap();
    let arguments = ["--kubeconfig", kubeconfig.to_str().unwrap(), "-o", "json", file];
    let all: Vec<Value> = serde_json::from_str(&check(&sandbox, &arguments).stdout).unwrap();
    let served = all.iter().find(|found| found["object"] == "served").unwrap();
    assert_eq!(served["pools"][0]["ranges"][0][0]["addresses"], 126, "{served}");
}

#[test]
fn pools_of_a_cluster_are_compared_with_the_pod_cidrs_of_its_nodes() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    cluster.apply(RESOURCE);
    let crd = "crd/network-attachment-definitions.k8s.cni.cncf.io";
    cluster.text(&["wait", "--for=condition=established", crd]);
    let pool = |name: &str, subnet: &str| {
        json!({"apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool",
            "metadata": {"name": name}, "spec": {"subnets": [{"subnet": subnet}]}})
    };
    let node = |number: usize| {
        let subnet = format!("10.9.{number}.0/24");
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{number}")},
            "spec": {"podCIDR": subnet, "podCIDRs": [subnet]}})
    };
    let mut objects: Vec<Value> = (0..9).map(node).collect();
    objects.extend([
        pool("blue", "10.9.2.0/23"),
        pool("green", "10.9.9.0/24"),
        pool("wide", "10.9.0.0/20"),
    ]);
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
    let (sandbox, kubeconfig) = (Sandbox::new(), cluster.kubeconfig());
    let arguments = ["--kubeconfig", kubeconfig.to_str().unwrap()];
    let text = check(&sandbox, &arguments).succeeded().stdout.clone();
    let meaning = "the network of the cluster may give the same address to another pod, unless it takes its addresses from hereabouts; the nodes are";
    for (pool, shared, nodes) in [
        ("blue", "10.9.2.1-10.9.3.254", "n2, n3"),
        ("wide", "10.9.0.1-10.9.8.255", "n0, n1, n2, n3, n4 and 4 more"),
    ] {
        let note = format!(
            "note: pool {pool} and podCIDRs of nodes both have {shared}: {meaning} {nodes}\n"
        );
        assert!(text.contains(&note), "{text}");
    }
    assert!(!text.contains("pool green and podCIDRs"), "{text}");
    let json =
        check(&sandbox, &[&arguments[..], &["-o", "json"]].concat()).succeeded().stdout.clone();
    let all: Vec<Value> = serde_json::from_str(&json).unwrap();
    let has_note = |name: &str| {
        let found = all.iter().find(|found| found["name"] == name).unwrap();
        found["notes"].to_string().contains(meaning)
    };
    assert_eq!(["blue", "green", "wide"].map(has_note), [true, false, true]);
    // Without the right to list nodes, everything else is checked.
    let rights = json!([
        {"apiGroups": ["hereabouts.dev", "k8s.cni.cncf.io", ""],
            "resources": ["ippools", "network-attachment-definitions", "pods"], "verbs": ["list"]},
    ]);
    cluster.apply(
        &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "reader"}, "rules": rights})
        .to_string(),
    );
    cluster.text(&["create", "serviceaccount", "reader"]);
    let words = ["create", "clusterrolebinding", "reader", "--clusterrole=reader"];
    cluster.text(&[&words[..], &["--serviceaccount=default:reader"]].concat());
    let token = cluster.text(&["create", "token", "reader"]);
    let poor = sandbox.write("poor.conf", &cluster.kubeconfig_with(token.trim()));
    let ended = check(&sandbox, &["--kubeconfig", poor.to_str().unwrap()]);
    ended.succeeded();
    assert!(ended.stderr.contains("podCIDRs were not compared: cannot list nodes"), "{ended:?}");
    assert!(ended.stdout.contains("pool blue and pool wide") && !ended.stdout.contains(meaning));
}
