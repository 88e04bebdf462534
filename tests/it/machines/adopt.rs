//! `pool adopt --dry-run`, and that the controller then does the same.

use super::{Controller, Machines, own};
use crate::support::cluster::Cluster;
use crate::support::nodes::Node;
use crate::support::sandbox::{Ended, Sandbox, configuration};
use crate::support::transcript::assert_file;
use serde_json::{Value, json};

fn adopt(cluster: &Cluster, options: &[&str]) -> Ended {
    let kubeconfig = cluster.kubeconfig();
    let all = ["pool", "adopt", "--dry-run", "--kubeconfig", kubeconfig.to_str().unwrap()];
    Sandbox::new().command(&[&all, options].concat())
}

/// Returns what becomes of each IPAddress, with what is in conflict with it.
fn states(cluster: &Cluster) -> Vec<(String, String, String)> {
    let found: Value = serde_json::from_str(&adopt(cluster, &["-o", "json"]).stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pools = found["pools"].as_array().unwrap().iter();
    let mut states: Vec<(String, String, String)> = pools
        .flat_map(|pool| pool["addresses"].as_array().unwrap())
        .map(|one| (text(&one["name"]), text(&one["state"]), text(&one["conflict"])))
        .collect();
    states.sort();
    states
}

/// Writes a pool of the whole cluster that draws from the scope `wire`.
fn write_wire(machines: &Machines<'_>) {
    let wire = json!({
        "apiVersion": "ipam.cluster.x-k8s.io/v1alpha2", "kind": "GlobalInClusterIPPool",
        "metadata": {"name": "wire", "annotations": {
            "hereabouts.dev/scope": "wire", "hereabouts.dev/scope-in-use": "wire",
        }},
        "spec": {"prefix": 24, "addresses": ["10.9.0.1-10.9.0.9"]},
    });
    machines.cluster.apply(&wire.to_string());
}

fn write_answer(machines: &Machines<'_>, name: &str, pool: [&str; 2], address: &str) {
    let answer = json!({
        "apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddress",
        "metadata": {"name": name, "namespace": machines.namespace},
        "spec": {
            "address": address, "prefix": 24, "claimRef": {"name": name},
            "poolRef": {"apiGroup": "ipam.cluster.x-k8s.io", "kind": pool[0], "name": pool[1]},
        },
    });
    machines.cluster.apply(&answer.to_string());
}

#[test]
fn what_the_controller_would_adopt_is_shown_and_it_adopts_just_that() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    write_wire(&machines);
    assert_eq!(adopt(&cluster, &[]).succeeded().stdout.matches("no conflicts").count(), 1);
    let node = Node::new("n1", "", &cluster.kubeconfig());
    let mut add = node.call("ADD", "web-0");
    add.stdin(configuration(r#""range":"10.9.0.0/24","network_name":"wire""#));
    assert_eq!(add.run().addresses(), ["10.9.0.1"]);
    let wire = ["GlobalInClusterIPPool", "wire"];
    for (name, pool, address) in [
        ("m0", ["InClusterIPPool", "pool"], "10.0.0.1"),
        ("twice-a", ["InClusterIPPool", "pool"], "10.0.0.2"),
        ("twice-b", ["InClusterIPPool", "pool"], "10.0.0.2"),
        ("typo", ["InClusterIPPool", "pool"], "10.0.0.300"),
        ("w0", wire, "10.9.0.1"),
        ("w1", wire, "10.9.0.5"),
        ("lost", ["InClusterIPPool", "gone"], "10.0.0.1"),
        ("other", ["VendorPool", "pool"], "10.0.0.1"),
    ] {
        write_answer(&machines, name, pool, address);
    }
    let namespace = &machines.namespace;
    let shown = |ended: &Ended| {
        let text = format!("exit {:?}\n{}--\n{}", ended.status, ended.stdout, ended.stderr);
        text.replace(namespace.as_str(), "NAMESPACE")
    };
    let mut said = shown(&adopt(&cluster, &[]));
    said += &shown(&adopt(&cluster, &["wire", "-o", "json"]));
    said += &shown(&adopt(&cluster, &["wire", "blue"]));
    // The columns are as wide as the name of the namespace.
    let cells = |line: &str| -> String {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.collect::<Vec<_>>().join(" | ")
    };
    let is_json = |line: &str| line.starts_with([' ', '{', '}']);
    let said: Vec<String> = said
        .lines()
        .map(|line| if is_json(line) { line.to_owned() } else { cells(line) })
        .collect();
    assert_file("outputs/pool-adopt.txt", &format!("{}\n", said.join("\n")));
    assert_eq!(machines.held().len(), 0, "it changes nothing");

    let controller = Controller::start(&cluster);
    machines.until(&3, |machines| machines.held().len());
    let is_said = |text: &str| {
        let log = std::fs::read_to_string(cluster.directory().join("controller.log")).unwrap();
        log.contains(text)
    };
    let pod = format!("IPAddress {namespace}/w0 has 10.9.0.1, which is held by pod default/web-0");
    machines.until(&true, |_| is_said(&pod));
    let found = states(&cluster);
    let of = |name: &str| {
        let one = found.iter().find(|(found, ..)| found == name).unwrap();
        [one.1.as_str(), one.2.as_str()]
    };
    assert_eq!(of("m0"), ["held", ""]);
    assert_eq!(of("w0"), ["conflict", "held by pod default/web-0"]);
    assert_eq!(of("w1"), ["held", ""]);
    let twice =
        if of("twice-a")[0] == "held" { ["twice-a", "twice-b"] } else { ["twice-b", "twice-a"] };
    assert_eq!(of(twice[0]), ["held", ""]);
    assert_eq!(of(twice[1])[1], format!("held by IPAddress {namespace}/{}", twice[0]));
    assert_eq!(of("typo")[0], "conflict");
    let second = format!("IPAddress {namespace}/{} has 10.0.0.2, which is held by", twice[1]);
    machines.until(&true, |_| is_said(&second));
    controller.kill();
}

#[test]
fn without_a_dry_run_it_says_who_adopts_and_when() {
    let ended = Sandbox::new().command(&["pool", "adopt"]);
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("--dry-run") && ended.stderr.contains("before it answers a claim")
    );
    let ended = Sandbox::new().command(&["pool", "adopt", "--dry-run"]);
    assert!(ended.status == Some(2) && ended.stderr.contains("--kubeconfig"), "{ended:?}");
}
