//! `leaks`: addresses whose holders are probably gone, with the pods and nodes of a real API server.

use crate::support::cluster::{Cluster, Options};
use crate::support::transcript::{Transcript, sandbox};
use hereabouts::retry::{Deadline, pause};
use serde_json::{Value, json};
use std::time::Duration;

/// A record: the address, its node with the Node's uid and the boot, and its pod with the uid.
pub(crate) struct Held<'t> {
    pub(crate) address: &'t str,
    pub(crate) node: [&'t str; 3],
    pub(crate) pod: [&'t str; 2],
}

/// Creates the object of a record, as an ADD does.
pub(crate) fn hold(cluster: &Cluster, held: &Held<'_>) {
    let ([node, node_uid, boot_id], [pod, uid]) = (held.node, held.pod);
    let mut object = json!({
        "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPAllocation", "metadata": {"name": held.address},
        "spec": {
            "address": held.address, "prefix": 24, "network": "net1", "interface": "net1", "containerID": "c1",
            "node": node, "bootID": boot_id, "podRef": {"namespace": "default", "name": pod, "uid": uid},
            "since": "2026-11-21T03:53:21Z", "source": "dynamic", "part": 0, "of": 1,
        },
    });
    if !node_uid.is_empty() {
        object["spec"]["nodeUID"] = json!(node_uid);
    }
    cluster.apply(&object.to_string());
}

fn set_status(cluster: &Cluster, kind: &str, name: &str, status: &Value) {
    let patch = json!({"status": status}).to_string();
    cluster.text(&["patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch]);
}

fn uid(cluster: &Cluster, kind: &str, name: &str) -> String {
    cluster.text(&["get", kind, name, "-o", "jsonpath={.metadata.uid}"])
}

/// Creates a node that has reported a boot. Returns its uid.
pub(crate) fn make_node(cluster: &Cluster, name: &str, boot_id: &str) -> String {
    cluster.apply(
        &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}).to_string(),
    );
    let rest = ["machineID", "systemUUID", "kernelVersion", "osImage", "containerRuntimeVersion"];
    let rest = rest.iter().chain(&["kubeletVersion", "kubeProxyVersion", "operatingSystem"]);
    let mut info: serde_json::Map<String, Value> =
        rest.map(|key| ((*key).to_owned(), json!(""))).collect();
    info.insert("architecture".to_owned(), json!(""));
    info.insert("bootID".to_owned(), json!(boot_id));
    set_status(cluster, "node", name, &json!({"nodeInfo": info}));
    uid(cluster, "node", name)
}

/// Creates a pod in a phase, with a network-status of one secondary network. Returns its uid.
pub(crate) fn make_pod(
    cluster: &Cluster,
    name: &str,
    node: &str,
    phase: &str,
    address: &str,
) -> String {
    let status = json!([
        {"name": "cbr0", "interface": "eth0", "ips": ["10.244.1.5"], "default": true},
        {"name": "default/net1", "interface": "net1", "ips": [address]},
    ]);
    let annotations = json!({
        "k8s.v1.cni.cncf.io/networks": "net1",
        "k8s.v1.cni.cncf.io/network-status": status.to_string(),
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}]},
    });
    cluster.apply(&pod.to_string());
    set_status(cluster, "pod", name, &json!({"phase": phase}));
    uid(cluster, "pod", name)
}

#[test]
fn each_kind_of_evidence_is_shown_and_living_pods_are_not() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    cluster.text(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"]);
    let (one, two) = (make_node(&cluster, "n1", "boot-1"), make_node(&cluster, "n2", "boot-2"));
    let pod = |name: &str, node: &str, phase: &str, address: &str| {
        make_pod(&cluster, name, node, phase, address)
    };
    let here = ["n1", one.as_str(), "boot-1"];
    let lives = pod("lives", "n1", "Running", "10.0.0.1");
    pod("replaced", "n1", "Running", "10.0.0.9");
    let ended = pod("ended", "n1", "Succeeded", "10.0.0.4");
    let other = pod("other-address", "n1", "Running", "10.0.0.9");
    let starts = pod("starts", "n1", "Pending", "10.0.0.9");
    let booted = pod("booted", "n2", "Running", "10.0.0.6");
    for (address, node, name, uid) in [
        ("10.0.0.1", here, "lives", lives.as_str()),
        ("10.0.0.2", here, "gone", "uid-of-gone"),
        ("10.0.0.3", here, "replaced", "uid-of-earlier"),
        ("10.0.0.4", here, "ended", &ended),
        ("10.0.0.5", here, "other-address", &other),
        ("10.0.0.6", ["n2", &two, "boot-1"], "booted", &booted),
        ("10.0.0.7", ["n3", "uid-of-n3", "boot-1"], "web-7", "uid-of-web-7"),
        ("10.0.0.8", ["n2", "uid-of-earlier", "boot-1"], "web-8", "uid-of-web-8"),
        ("10.0.0.10", here, "starts", &starts),
    ] {
        hold(&cluster, &Held { address, node, pod: [name, uid] });
    }
    let sandbox = sandbox();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let mut seen = Transcript::new(&sandbox);
    seen.replace(cluster.server(), "https://192.0.2.1:6443");
    seen.replace(cluster.directory().display().to_string(), "/cluster");
    for (uid, word) in
        [(&ended, "uid-of-ended"), (&other, "uid-of-other"), (&booted, "uid-of-booted")]
    {
        seen.replace(uid.clone(), word);
    }
    for options in [
        &[][..],
        &["-o", "json"],
        &["--node", "n1", "--wait", "1s"],
        &["--pod", "default/ended", "--wait", "1s", "-o", "json"],
        &["--pod", "lives"],
        &["--network", "net2"],
        &["--pool", "red"],
        &["--wait", "1"],
    ] {
        seen.run(&sandbox, &[&["leaks", "--kubeconfig", &kubeconfig], options].concat());
    }
    // What only the first look has found is left out.
    let options = ["--node", "n3", "--wait", "8s", "--kubeconfig"];
    let call = sandbox.command_call(&[&["leaks"][..], &options, &[&kubeconfig]].concat());
    let looking = std::thread::spawn(move || call.run());
    pause(&Deadline::after(Duration::from_secs(4)), Duration::from_secs(8));
    cluster.text(&["delete", "ipallocations", "10.0.0.7"]);
    let ended = looking.join().unwrap();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    seen.note("the addresses are released");
    cluster.text(&["delete", "ipallocations", "--all"]);
    seen.run(&sandbox, &["leaks", "--kubeconfig", &kubeconfig]);
    seen.assert("leaks");
}

#[test]
fn leaks_needs_a_cluster_and_the_right_to_read_it() {
    let files = sandbox();
    let mut seen = Transcript::new(&files);
    seen.run(&files, &["leaks"]);
    seen.assert("leaks-of-files");
    let cluster = match Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let kubeconfig = files.path("node.kubeconfig");
    std::fs::write(&kubeconfig, cluster.kubeconfig_with(&cluster.node_token("n1"))).unwrap();
    let ended = files.command(&["leaks", "--kubeconfig", kubeconfig.to_str().unwrap()]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("cannot list pods"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("hint: give the kubeconfig's user the right"),
        "{}",
        ended.stderr
    );
}
