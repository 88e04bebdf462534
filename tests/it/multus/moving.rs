//! From the real Whereabouts, with pods that run.

use super::rig::{Node, Pod, Rig, status_of};
use crate::peers::whereabouts_built;
use hereabouts::retry::{Deadline, pause};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CRDS: &str = include_str!("../../../benches/cluster/whereabouts.yaml");

/// The ServiceAccount of Whereabouts, and the binding of its rights.
const BINDING: &str = "mv-whereabouts";

/// Each node in turn, and back.
mod node_by_node;

/// Lets Whereabouts act as a ServiceAccount of its own. Returns its kubeconfig.
fn rights_of_whereabouts(rig: &Rig) -> PathBuf {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": BINDING, "namespace": "kube-system"}});
    rig.cluster.apply(&account.to_string());
    let words = ["--clusterrole=cluster-admin", "--serviceaccount=kube-system:mv-whereabouts"];
    rig.cluster.text(&[&["create", "clusterrolebinding", BINDING], &words[..]].concat());
    let token = rig.cluster.text(&["create", "token", BINDING, "--namespace", "kube-system"]);
    let path = rig.cluster.directory().join("mv-whereabouts.kubeconfig");
    std::fs::write(&path, rig.cluster.kubeconfig_with(token.trim())).unwrap();
    path
}

/// Returns a node that Whereabouts serves, as its DaemonSet would have left it.
fn node_of_whereabouts<'rig>(rig: &'rig Rig, name: &str, kubeconfig: &Path) -> Option<Node<'rig>> {
    let tools = whereabouts_built().map_err(|reason| skipped!("{reason}")).ok()?;
    let mut node = rig.bare_node(name);
    node.bin = rig.plugins_with("whereabouts", &tools.join("whereabouts"));
    let directory = node.disk.join("etc-cni/net.d/whereabouts.d");
    std::fs::create_dir_all(&directory).unwrap();
    let flat = json!({
        "datastore": "kubernetes", "kubernetes": {"kubeconfig": kubeconfig},
        "log_level": "error",
        // With its usual durations (about a second), a call on a busy machine loses its Lease.
        "leader_lease_duration": 15_000, "leader_renew_deadline": 10_000, "leader_retry_period": 100,
    });
    std::fs::write(directory.join("whereabouts.conf"), flat.to_string()).unwrap();
    std::fs::write(directory.join("nodename"), name).unwrap();
    let boot = std::fs::read_to_string(node.disk.join("boot_id")).unwrap();
    let status = json!({"status": {"nodeInfo": {
        "bootID": boot.trim(), "machineID": "", "systemUUID": "", "kernelVersion": "", "osImage": "",
        "containerRuntimeVersion": "", "kubeletVersion": "", "kubeProxyVersion": "",
        "operatingSystem": "", "architecture": "",
    }}});
    let status = status.to_string();
    rig.cluster.text(&[
        "patch",
        "node",
        name,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ]);
    Some(node)
}

fn network(rig: &Rig, name: &str, ipam: &Value) {
    let mut ipam = ipam.clone();
    ipam["type"] = json!("whereabouts");
    rig.network(name, &format!(r#""ipam": {ipam}"#));
}

/// Runs an import, and returns the state of each address of these pods, by pod and address. The exit
/// status must say whether anything is left, also of the pods of other tests.
fn import(node: &Node<'_>, pods: &str, more: &[&str]) -> BTreeMap<String, String> {
    let ended = node.hereabouts(&[&["import", "whereabouts", "-o", "json"], more].concat());
    let document: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let rows = document["addresses"].as_array().unwrap();
    let is_left = rows.iter().any(|row| row["state"] == "left");
    assert_eq!(ended.status, Some(i32::from(is_left)), "{ended:?}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_pods = |row: &&Value| text(&row["pod"]).starts_with(&format!("default/{pods}"));
    let pair = |row: &Value| {
        (format!("{} {}", text(&row["pod"]), text(&row["address"])), text(&row["state"]))
    };
    rows.iter().filter(of_pods).map(pair).collect()
}

fn all(rows: &[(&str, &str)], state: &str) -> BTreeMap<String, String> {
    rows.iter()
        .map(|(pod, address)| (format!("default/{pod} {address}"), state.to_owned()))
        .collect()
}

/// Returns how many records of a node have no namespace yet.
fn incomplete(rig: &Rig, node: &Node<'_>) -> usize {
    let document: Value =
        serde_json::from_str(&rig.cluster.text(&["get", "ipa", "-o", "json"])).unwrap();
    let is_incomplete = |object: &&Value| {
        object["spec"]["node"] == node.name && object["spec"]["netns"]["inode"] == 0
    };
    document["items"].as_array().unwrap().iter().filter(is_incomplete).count()
}

fn addresses(rig: &Rig, pod: &Pod) -> Vec<String> {
    status_of(rig, pod).into_iter().flat_map(|(_, _, addresses)| addresses).collect()
}

/// Everything is imported from elsewhere, both nodes get hereabouts, and each completes what is its
/// own. The pods answer throughout, and every verb does for them what it does for others.
#[test]
fn pods_of_whereabouts_go_on_under_hereabouts() {
    let Some(rig) = super::rig() else { return };
    rig.cluster.apply(CRDS);
    rig.cluster.text(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    let rights = rights_of_whereabouts(rig);
    let Some(mut one) = node_of_whereabouts(rig, "moving-1", &rights) else { return };
    let Some(mut two) = node_of_whereabouts(rig, "moving-2", &rights) else { return };
    network(rig, "mv-plain", &json!({"range": "10.201.0.0/24", "gateway": "10.201.0.254"}));
    network(rig, "mv-named", &json!({"range": "10.201.0.0/24", "network_name": "blue"}));
    network(
        rig,
        "mv-dual",
        &json!({"ipRanges": [{"range": "10.202.0.0/24"}, {"range": "fd02::/64"}]}),
    );
    let a = rig.pod_on(&one, "mv-a", "mv-plain,mv-named");
    let b = rig.pod_on(&two, "mv-b", "mv-dual");
    let c = rig.pod_on(&two, "mv-c", "mv-plain");
    let d = rig.pod_on(&one, "mv-d", "mv-plain");
    let e = rig.pod_on(&two, "mv-e", "mv-plain");
    for (node, pod) in [(&one, &a), (&two, &b), (&two, &c), (&one, &d), (&two, &e)] {
        node.start(pod);
    }
    assert_eq!(addresses(rig, &a), ["10.201.0.1", "10.201.0.1"]);
    assert_eq!(addresses(rig, &b), ["10.202.0.1", "fd02::1"]);
    assert_eq!([addresses(rig, &c), addresses(rig, &d)].concat(), ["10.201.0.2", "10.201.0.3"]);
    // Its Pod is deleted by force, and no DEL comes.
    rig.cluster.text(&["delete", "pod", "mv-d", "--grace-period=0", "--force"]);

    let kubeconfig = rig.cluster.kubeconfig();
    let elsewhere = ["--kubeconfig", kubeconfig.to_str().unwrap()];
    let living = [
        ("mv-a", "10.201.0.1"),
        ("mv-b", "10.202.0.1"),
        ("mv-b", "fd02::1"),
        ("mv-c", "10.201.0.2"),
        ("mv-e", "10.201.0.4"),
    ];
    let mut expected = all(&living, "new");
    expected.extend(all(&[("mv-d", "10.201.0.3")], "gone"));
    assert_eq!(import(&one, "mv-", &[&elsewhere[..], &["--dry-run"]].concat()), expected);
    assert_eq!(rig.held("mv-plain"), [[""; 4]; 0], "a dry run records nothing");
    // From here on, Whereabouts gives no further address: its ADD fails after two minutes, which no
    // test waits for.
    rig.cluster.text(&["delete", "clusterrolebinding", BINDING]);
    let g = rig.pod_on(&two, "mv-g", "mv-plain");
    assert_eq!(import(&one, "mv-", &elsewhere), expected);
    expected.extend(all(&living, "recorded"));
    assert_eq!(import(&one, "mv-", &elsewhere), expected, "it may be repeated");
    let row = super::row;
    let held = [
        row("10.201.0.1", "mv-a", "net1", "moving-1"),
        row("10.201.0.2", "mv-c", "net1", "moving-2"),
        row("10.201.0.4", "mv-e", "net1", "moving-2"),
    ];
    assert_eq!(rig.held("mv-plain"), held);
    assert_eq!(rig.held("mv-named"), [row("10.201.0.1", "mv-a", "net2", "moving-1")]);

    for node in [&mut one, &mut two] {
        node.install();
        node.use_common_plugins();
    }
    // A pod that ends before its node has completed its record.
    two.stop(&e).succeeded();
    assert_eq!(rig.held("mv-plain"), held[..2]);
    assert_eq!(one.hereabouts(&["sweep", "--dry-run"]).succeeded().stdout, "");
    // One node is completed by hand, the other one by its DaemonSet.
    let of_one = [("mv-a", "10.201.0.1"), ("mv-a", "10.201.0.1")];
    let of_two = [("mv-b", "10.202.0.1"), ("mv-b", "fd02::1"), ("mv-c", "10.201.0.2")];
    let _daemon = two.daemon_that_sweeps("1h");
    let deadline = Deadline::after(Duration::from_secs(60));
    while 0 < incomplete(rig, &two) {
        assert!(!deadline.left().is_zero(), "the DaemonSet completes nothing");
        pause(&deadline, Duration::from_millis(100));
    }
    assert_eq!(incomplete(rig, &one), 2);
    for (node, own, states) in
        [(&one, &of_one[..], &["completed", "recorded"][..]), (&two, &of_two[..], &["recorded"])]
    {
        for state in states {
            // The sandbox of mv-d runs, so its address is held from here on.
            let mut found = import(node, "mv-", &[]);
            found.retain(|pod, _| !pod.contains("mv-d"));
            assert_eq!(found, all(own, state));
        }
        assert_eq!(node.hereabouts(&["sweep", "--dry-run"]).succeeded().stdout, "");
        node.hereabouts(&["verify"]).succeeded();
    }
    assert_eq!(rig.held("mv-plain").len(), 3);

    // The whole record is there: what a repeated ADD would answer.
    let record = one.hereabouts(&["list", "-o", "json", "--pod", "default/mv-a"]).document();
    let scopes: Vec<_> =
        record.as_array().unwrap().iter().map(|one| one["scope"].clone()).collect();
    assert_eq!(scopes, [json!(null), json!("blue")]);
    assert_eq!((&record[0]["prefix"], &record[0]["gateway"]), (&json!(24), &json!("10.201.0.254")));

    let g = two.start_in_the_end(&g);
    let f = rig.pod_on(&one, "mv-f", "mv-plain");
    one.start(&f);
    let given = addresses(rig, &f);
    assert!(!["10.201.0.1", "10.201.0.2", "10.201.0.3"].contains(&&*given[0]), "{given:?}");
    one.pings(&f, "net1", "10.201.0.2");
    two.pings(&c, "net1", "10.201.0.1");
    one.check(&a).succeeded();
    for (node, pod) in [(&one, &a), (&two, &b), (&two, &c), (&one, &d), (&one, &f), (&two, &g)] {
        node.stop(pod).succeeded();
    }
    for network in ["mv-plain", "mv-named", "mv-dual"] {
        assert_eq!(rig.held(network), [[""; 4]; 0], "{network}");
    }
}
