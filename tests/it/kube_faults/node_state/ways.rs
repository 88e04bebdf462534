//! Several ways to one cluster, and ways to several clusters: nothing that a living pod holds is
//! forgotten, `repair` recreates it, and no call makes an extra list.

use super::super::rig::{Rig, install, shared};
use crate::support::cluster::{Cluster, Options};
use crate::support::nodes::{Node, holders, objects};
use crate::support::proxy::{Act, Proxy, Reply};
use crate::support::sandbox::{Ended, configuration, files_below};
use serde_json::{Value, json};
use std::path::Path;

/// Returns a call for a sandbox that lives as long as this test, in a network that names its
/// kubeconfig.
fn of_living(node: &Node, verb: &str, container: &str, kubeconfig: Option<&Path>) -> Ended {
    let netns = node.sandbox.path(container);
    if !netns.is_symlink() {
        std::os::unix::fs::symlink(format!("/proc/{}/ns/net", std::process::id()), &netns).unwrap();
    }
    let mut call = node.call(verb, container);
    if let Some(path) = kubeconfig {
        let named = format!(r#""kubernetes":{{"kubeconfig":"{}"}}"#, path.display());
        call.stdin(configuration(&format!(
            r#""range":"10.9.0.0/24","network_name":"{}",{named}"#,
            node.scope
        )));
    }
    call.set("CNI_NETNS", netns).set("CNI_NETNS_OVERRIDE", "true").run()
}

/// Allows networks to name the kubeconfigs below a directory.
fn allow(node: &Node) {
    let path = node.sandbox.path("flat.conf");
    let mut flat: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    flat["allowed_paths"] = json!([node.sandbox.root]);
    std::fs::write(path, flat.to_string()).unwrap();
}

fn repair(node: &Node) -> Ended {
    let ended =
        node.sandbox.command_call(&["repair", "--yes"]).set("CNI_NETNS_OVERRIDE", "true").run();
    ended.succeeded();
    ended
}

fn lose(cluster: &Cluster, node: &Node, address: &str) {
    cluster.text(&["delete", "ipallocation", &format!("{}.{address}", node.scope)]);
}

/// Changes the file `complete`, as if the state had been made by another way.
fn came_by(node: &Node, change: impl Fn(&mut Value)) {
    let complete = node.state().join("complete");
    let mut origin: Value = serde_json::from_slice(&std::fs::read(&complete).unwrap()).unwrap();
    origin["cluster"] = json!("another");
    for way in origin["ways"].as_array_mut().unwrap() {
        change(way);
    }
    std::fs::write(&complete, origin.to_string()).unwrap();
}

/// Changes the authorities, the URL, or both in a way's id.
fn another(way: &mut Value, authorities: bool, server: bool) {
    let id = way["id"].as_str().unwrap().to_owned();
    let (ours, our_server) = id.split_once('-').unwrap();
    let changed = |ours: &str, is_another: bool| {
        if is_another { "another".to_owned() } else { ours.to_owned() }
    };
    way["id"] = json!(format!("{}-{}", changed(ours, authorities), changed(our_server, server)));
}

type ChangeOfWay = fn(&mut Value);

/// Cause: a state belonged to an authority and a URL, and was wiped before anything was listed.
/// Effect: after a cluster was restored with another URL, the records of living pods were
/// forgotten, and `repair` could not recreate them.
#[test]
fn a_new_url_new_authorities_or_both_forget_nothing_and_repair_brings_it_back() {
    let Some(cluster) = shared() else { return };
    let ways: [(&str, ChangeOfWay); 5] = [
        ("another URL", |way| {
            another(way, false, true);
            way["file"] = json!("/another");
        }),
        ("other authorities", |way| {
            another(way, true, false);
            way["file"] = json!("/another");
        }),
        ("both, in the node's own kubeconfig", |way| another(way, true, true)),
        ("noted by the first version", |way| {
            way.as_object_mut().unwrap().clear();
            way["id"] = json!("another");
        }),
        ("both, in another file; the objects tell", |way| {
            another(way, true, true);
            way["file"] = json!("/another");
        }),
    ];
    for (when, change) in ways {
        for before in ["repair", "a DEL"] {
            let rig = Rig::new(cluster);
            let node = &rig.node;
            of_living(node, "ADD", "lost", None).succeeded();
            of_living(node, "ADD", "kept", None).succeeded();
            lose(cluster, node, "10.9.0.1");
            came_by(node, change);
            rig.proxy.script(|_| Act::Answer(Reply::status(403)));
            assert_ne!(node.del("other").code(), 0, "it may not list");
            rig.proxy.pass();
            if before == "a DEL" {
                node.del("other").succeeded();
            }
            let said = repair(node).stdout;
            assert!(said.contains("10.9.0.1"), "{when}, {before} first: {said}");
            assert_eq!(
                rig.holders().get("10.9.0.1").map(String::as_str),
                Some("lost"),
                "{when}, {before} first"
            );
            rig.proxy.seen();
            node.del("other").succeeded();
            assert_eq!(rig.proxy.methods(), [""; 0], "{when}: the new way is known by now");
            for container in ["lost", "kept"] {
                node.del(container).succeeded();
            }
            rig.assert_empty(when);
        }
    }
}

/// Cause: the state was rebuilt whenever the kubeconfig changed. Effect: two networks with two
/// kubeconfigs for one cluster listed on every call, and a kubeconfig without the right to list
/// wiped what the other one knew.
#[test]
fn two_kubeconfigs_for_one_cluster_share_what_the_node_knows() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    let node = &rig.node;
    allow(node);
    let second = Proxy::new(cluster);
    let directory = node.sandbox.path("second");
    std::fs::create_dir(&directory).unwrap();
    let other = second.kubeconfig(&directory);
    let none = node.sandbox.path("none");
    std::fs::create_dir(&none).unwrap();
    let powerless =
        second.kubeconfig_with(&none, second.authority.pem(), &json!({"token": "nobody's"}));
    of_living(node, "ADD", "kept", None).succeeded();
    of_living(node, "ADD", "e1", Some(&other)).succeeded();
    lose(cluster, node, "10.9.0.1");
    rig.proxy.seen();
    second.seen();
    for n in 0..3 {
        of_living(node, "ADD", &format!("a{n}"), None).succeeded();
        of_living(node, "ADD", &format!("b{n}"), Some(&other)).succeeded();
        assert_ne!(of_living(node, "ADD", "x", Some(&powerless)).code(), 0);
    }
    let lists = [rig.proxy.seen(), second.seen()]
        .concat()
        .into_iter()
        .filter(|seen| seen.path.contains("labelSelector"))
        .count();
    assert_eq!(lists, 0, "each way is known, and none makes the state again");
    assert!(repair(node).stdout.contains("10.9.0.1"));
    // Each knows the records that came by the other.
    of_living(node, "DEL", "a0", Some(&other)).succeeded();
    of_living(node, "DEL", "b0", None).succeeded();
    let left: Vec<String> = rig.holders().into_values().collect();
    assert!(!left.contains(&"a0".to_owned()) && !left.contains(&"b0".to_owned()), "{left:?}");
    assert!(left.contains(&"kept".to_owned()), "{left:?}");
}

/// Cause: there was one state for the cluster of the last call. Effect: a pod whose network names
/// another cluster's kubeconfig wiped what the node knew of its own cluster.
#[test]
fn another_cluster_has_files_of_its_own() {
    let Some(cluster) = shared() else { return };
    let another = match Cluster::own(Options::default()) {
        Ok(another) => another,
        Err(reason) => return skipped!("{reason}"),
    };
    install(&another);
    let rig = Rig::new(cluster);
    let node = &rig.node;
    allow(node);
    let proxy = Proxy::new(&another);
    let directory = node.sandbox.path("another");
    std::fs::create_dir(&directory).unwrap();
    let there = proxy.kubeconfig(&directory);
    let kept = of_living(node, "ADD", "kept", None);
    of_living(node, "ADD", "same", None).succeeded();
    lose(cluster, node, "10.9.0.1");
    rig.proxy.seen();
    // The same addresses, because it is another cluster.
    for container in ["e1", "same"] {
        of_living(node, "ADD", container, Some(&there)).succeeded();
    }
    lose(&another, node, "10.9.0.1");
    assert_eq!(holders(&another, &node.scope).into_values().collect::<Vec<_>>(), ["same"]);
    // Nothing of one cluster is taken for something of the other.
    of_living(node, "DEL", "same", None).succeeded();
    assert_eq!(holders(&another, &node.scope).into_values().collect::<Vec<_>>(), ["same"]);
    // Its own objects, and the scope.
    assert!(proxy.seen().iter().filter(|seen| seen.path.contains("labelSelector")).count() <= 2);
    assert_eq!(rig.proxy.methods(), ["DELETE"], "its own cluster was not listed again");
    assert!(repair(node).stdout.contains("10.9.0.1"));
    node.check("kept", &kept).succeeded();
    // Like the first one: it remembers as well.
    let path = node.sandbox.path("flat.conf");
    let mut flat: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    flat["kubernetes"]["kubeconfig"] = json!(there);
    std::fs::write(&path, flat.to_string()).unwrap();
    assert!(repair(node).stdout.contains("10.9.0.1"));
    for container in ["e1", "same"] {
        of_living(node, "DEL", container, Some(&there)).succeeded();
    }
    assert_eq!(objects(&another).len(), 0);
    assert_eq!(rig.holders().into_values().collect::<Vec<_>>(), ["kept"]);
    of_living(node, "DEL", "kept", Some(&rig.proxy.kubeconfig(&node.sandbox.root))).succeeded();
    assert!(files_below(&node.state()).iter().all(|file| !file.contains("attachments/")));
}

/// Cause: known records were dropped before the objects had been listed.
#[test]
fn a_state_that_does_not_say_what_it_is_of_still_remembers() {
    let Some(cluster) = shared() else { return };
    for complete in [None, Some("{"), Some("another node's boot")] {
        let rig = Rig::new(cluster);
        let node = &rig.node;
        of_living(node, "ADD", "lost", None).succeeded();
        of_living(node, "ADD", "dead", None).succeeded();
        lose(cluster, node, "10.9.0.1");
        lose(cluster, node, "10.9.0.2");
        std::fs::remove_file(node.sandbox.path("dead")).unwrap();
        let path = node.state().join("complete");
        match complete {
            None => std::fs::remove_file(&path).unwrap(),
            Some("{") => std::fs::write(&path, "{").unwrap(),
            Some(_) => {
                let mut origin: Value =
                    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                origin["boot"] = json!("another");
                std::fs::write(&path, origin.to_string()).unwrap();
            }
        }
        let said = repair(node).stdout;
        assert!(
            said.contains("10.9.0.1") && !said.contains("ipallocations/10.9.0.2"),
            "{complete:?}: {said}"
        );
        assert_eq!(rig.holders().into_values().collect::<Vec<_>>(), ["lost"], "{complete:?}");
        node.del("lost").succeeded();
        rig.assert_empty("after the DEL");
    }
}
