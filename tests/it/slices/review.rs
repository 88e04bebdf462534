//! What the DaemonSet does each minute, and what operators do with slices of nodes that are off.

use super::{Slices, seen};
use crate::support::nodes::Node;
use crate::support::sandbox::Ended;
use serde_json::json;
use std::time::{Duration, SystemTime};

pub(super) fn sync(node: &Node) -> Ended {
    node.sandbox.command(&["slices", "sync"])
}

pub(super) fn name(slices: &Slices) -> String {
    slices.objects()[0]["metadata"]["name"].as_str().unwrap().to_owned()
}

pub(super) fn change(slices: &Slices, spec: &serde_json::Value) {
    let patch = json!({"spec": spec}).to_string();
    slices.cluster.text(&["patch", "ipslices", &name(slices), "--type=merge", "-p", &patch]);
}

/// Writes the Lease of a node, as its kubelet renewed it some time ago.
#[allow(clippy::disallowed_methods, reason = "the kubelet uses this clock")]
fn renew(slices: &Slices, node: &Node, ago: Duration) {
    let at = humantime::format_rfc3339_micros(SystemTime::now() - ago).to_string();
    let space =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-node-lease"}});
    slices.cluster.apply(&space.to_string());
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": node.name, "namespace": "kube-node-lease"}, "spec": {"renewTime": at},
    });
    slices.cluster.apply(&lease.to_string());
}

pub(super) fn as_operator(slices: &Slices, node: &Node, args: &[&str]) -> Ended {
    let kubeconfig = slices.cluster.kubeconfig();
    let args = [args, &["--kubeconfig", kubeconfig.to_str().unwrap()]].concat();
    node.sandbox.command(&args)
}

#[test]
fn a_slice_that_the_cluster_has_lost_is_created_again_within_a_minute() {
    let Some(slices) = Slices::new("10.63.0.0/24") else { return };
    let node = slices.node("one");
    let proxy = super::proxy(&slices, &node);
    slices.add(&node, "a_0").succeeded();
    let owners = slices.owners();
    slices.cluster.text(&["delete", "ipslices", &name(&slices)]);
    let said = sync(&node).succeeded().stderr.clone();
    assert!(said.contains("which the cluster had lost"), "{said}");
    assert_eq!(slices.owners(), owners);
    seen(&proxy);
    slices.add(&node, "b_0").succeeded();
    assert!(seen(&proxy).iter().all(|asked| !asked.contains("ipslices")));
}

#[test]
fn a_slice_that_another_node_got_meanwhile_gives_nothing_any_more() {
    let Some(slices) = Slices::new("10.63.1.0/24") else { return };
    let node = slices.node("one");
    let first = slices.add(&node, "a_0").addresses();
    let mut object = slices.objects().remove(0);
    slices.cluster.text(&["delete", "ipslices", &name(&slices)]);
    let metadata = &object["metadata"];
    object["metadata"] = json!({"name": metadata["name"], "labels": metadata["labels"]});
    object["spec"]["node"] = json!("another");
    slices.cluster.apply(&object.to_string());
    let said = sync(&node).succeeded().stderr.clone();
    assert!(said.contains("may have two holders"), "{said}");
    let second = slices.add(&node, "b_0").addresses();
    assert_ne!(
        first[0].rsplit('.').next().unwrap().parse::<u8>().unwrap() / 16,
        second[0].rsplit('.').next().unwrap().parse::<u8>().unwrap() / 16
    );
    slices.del(&node, "a_0");
    let said = sync(&node).succeeded().stderr.clone();
    assert!(!said.contains("error"), "{said}");
    assert_eq!(slices.owners().len(), 2);
}

#[test]
fn a_slice_that_names_another_boot_than_the_running_one_gives_nothing_any_more() {
    let Some(slices) = Slices::new("10.63.2.0/24") else { return };
    let node = slices.node("one");
    slices.add(&node, "a_0").succeeded();
    // A copy of this machine has started, and uses the slice.
    change(&slices, &json!({"bootID": super::BOOTS[2]}));
    assert!(sync(&node).succeeded().stderr.contains("may have two holders"));
    let status = &slices.objects()[0]["status"];
    assert_eq!(*status, json!(null), "the copy publishes what it gives");
    slices.add(&node, "b_0").succeeded();
    assert_eq!(slices.owners().len(), 2);
}

#[test]
fn the_slices_of_a_node_that_is_off_are_released_and_removed_after_ten_minutes() {
    let Some(slices) = Slices::new("10.63.3.0/28") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    slices.add(&one, "a_0").succeeded();
    let slice = name(&slices);
    let kept = as_operator(&slices, &two, &["slices", "remove", &slice]);
    assert_eq!(kept.status, Some(1));
    assert!(kept.stderr.contains("its node gives addresses from it"), "{kept:?}");
    renew(&slices, &one, Duration::from_secs(30));
    let released = as_operator(&slices, &two, &["release", "--node", &one.name, "--yes"]);
    assert!(released.succeeded().stdout.contains("released slice 10.63.3.0/28"), "{released:?}");
    assert_eq!(slices.add(&two, "b_0").code(), 100, "it is still the node's");
    let kept = as_operator(&slices, &two, &["slices", "remove", &slice]);
    assert_eq!(kept.status, Some(1));
    assert!(kept.stderr.contains("may not have seen it"), "{kept:?}");
    change(&slices, &json!({"released": "2026-11-01T00:00:00Z"}));
    let kept = as_operator(&slices, &two, &["slices", "remove", &slice]);
    assert_eq!(kept.status, Some(1));
    assert!(kept.stderr.contains("has renewed its Lease 3"), "{kept:?}");
    // The node was only cut off.
    assert!(sync(&one).succeeded().stderr.contains("is not this node's slice any more"));
    assert_eq!(slices.add(&one, "c_0").code(), 100);
    renew(&slices, &one, Duration::from_secs(601));
    let removed = as_operator(&slices, &two, &["slices", "remove", &slice]);
    removed.succeeded();
    slices.add(&two, "b_0").succeeded();
    let absent = as_operator(&slices, &two, &["slices", "remove", "nothing"]);
    assert!(absent.stderr.contains("no slice has this name"), "{absent:?}");
}

#[test]
fn the_list_shows_owners_and_what_the_node_itself_knows() {
    let Some(slices) = Slices::new("10.63.4.0/24") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    slices.add(&one, "a_0").succeeded();
    let second = slices.add(&two, "b_0").addresses();
    let list = |args: &[&str]| {
        let pool = ["--pool", slices.pool.as_str()];
        let args = [&["slices", "list"], &pool[..], args].concat();
        one.sandbox.command(&args).succeeded().stdout.clone()
    };
    let text = list(&[]);
    let held = |node: &Node| {
        let line = text.lines().find(|line| line.contains(&node.name)).unwrap();
        line.split_whitespace().nth(5).unwrap().to_owned()
    };
    assert_eq!([held(&one), held(&two)], ["1", "-"], "{text}");
    let of_address = list(&[&second[0]]);
    assert_eq!(of_address.lines().count(), 2, "{of_address}");
    assert!(of_address.contains(&two.name), "{of_address}");
    let document: serde_json::Value =
        serde_json::from_str(&list(&["-o", "json", "--node", &one.name])).unwrap();
    assert_eq!(document[0]["state"], json!("owned"));
    assert_eq!(document[0]["held"], json!(1));
    let usage = one.sandbox.command(&["usage", "--pool", &slices.pool]);
    let said = "16 slices, 2 owned, 0 released, 14 free";
    assert!(usage.succeeded().stderr.contains(said), "{usage:?}");
    let usage = one.sandbox.command(&["usage", "--pool", &slices.pool, "-o", "json"]).document();
    let slices = json!({
        "total": 16, "owned": 2, "released": 0, "returned": 0, "unknown": 0, "free": 14, "unpublished": 1, "oldestAgeSeconds": null,
    });
    assert_eq!(usage[0]["slices"], slices);
    assert_eq!(usage[0]["held"], json!(1));
}

#[test]
fn usage_counts_apart_what_is_no_slice_of_the_pool_and_what_was_returned() {
    let Some(slices) = Slices::new("10.63.12.0/26") else { return };
    let one = slices.node("one");
    slices.add(&one, "a_0").succeeded();
    let mut object = slices.objects().remove(0);
    let own = object["spec"]["ipv4"].as_str().unwrap().to_owned();
    let (first, _) = own.split_once('/').unwrap();
    let prefix =
        object["metadata"]["name"].as_str().unwrap().strip_suffix(first).unwrap().to_owned();
    let others = ["10.63.12.0", "10.63.12.16", "10.63.12.32"];
    let mut others = others.into_iter().filter(|other| *other != first);
    for length in ["29", "28"] {
        let other = others.next().unwrap();
        let labels = object["metadata"]["labels"].clone();
        object["metadata"] = json!({"name": format!("{prefix}{other}"), "labels": labels});
        object["spec"]["ipv4"] = json!(format!("{other}/{length}"));
        if length == "28" {
            object["spec"]["returned"] = json!("2026-12-01T00:00:00Z");
        }
        slices.cluster.apply(&object.to_string());
    }
    let usage = one.sandbox.command(&["usage", "--pool", &slices.pool]);
    let said = "4 slices, 1 owned, 0 released, 1 returned, 1 of another cut, 2 free";
    assert!(usage.succeeded().stderr.contains(said), "{usage:?}");
}

#[test]
fn a_node_without_a_lease_keeps_its_released_slices_for_ten_minutes() {
    let Some(slices) = Slices::new("10.63.5.0/28") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    slices.add(&one, "a_0").succeeded();
    let slice = name(&slices);
    as_operator(&slices, &two, &["release", "--node", &one.name, "--yes"]).succeeded();
    // The Lease goes with the Node object, which says nothing about the machine.
    let kept = as_operator(&slices, &two, &["slices", "remove", &slice]);
    assert_eq!(kept.status, Some(1));
    assert!(kept.stderr.contains("may not have seen it"), "{kept:?}");
    change(&slices, &json!({"released": "2026-11-01T00:00:00Z"}));
    as_operator(&slices, &two, &["slices", "remove", &slice]).succeeded();
}

#[test]
fn a_command_for_another_cluster_sees_and_frees_nothing_in_the_files_of_this_machine() {
    let Some(slices) = Slices::new("10.63.6.0/24") else { return };
    let node = slices.node("one");
    let given = slices.add(&node, "a_0").addresses();
    // This machine is a node of the same name in another cluster, with the default directory.
    let lib = node.sandbox.path("lib");
    std::fs::create_dir_all(lib.join("cni")).unwrap();
    std::os::unix::fs::symlink(node.sandbox.store(), lib.join("cni/hereabouts")).unwrap();
    let kubeconfig = slices.cluster.kubeconfig();
    let run = |args: &[&str]| {
        let args = [args, &["--kubeconfig", kubeconfig.to_str().unwrap()]].concat();
        node.sandbox.command_call(&args).seeing("/var/lib", &lib).run()
    };
    let listed = run(&["list"]).succeeded().stdout.clone();
    assert!(!listed.contains(&given[0]), "{listed}");
    let released = run(&["release", "--node", &node.name, "--yes"]).succeeded().stdout.clone();
    assert!(!released.contains(&format!("released {}\n", given[0])), "{released}");
    let here = node.sandbox.command(&["list"]).succeeded().stdout.clone();
    assert!(here.contains(&given[0]), "{here}");
}
