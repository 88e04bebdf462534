//! Records in doubt in the Kubernetes store: freed from any machine, and not recreated by the node
//! that remembers them. Records of living sandboxes are recreated.

use super::super::doubt::{add_in_doubt, words};
use super::{Scene, from_workstation};
use std::fs;

/// A sandbox that the node remembers and cannot see. An operator has freed its address.
#[test]
fn what_is_in_doubt_is_freed_from_a_workstation_and_not_made_again() {
    let Some(scene) = Scene::new() else { return };
    add_in_doubt(&scene.sandbox, &scene.living, "c7");
    assert_eq!(scene.sandbox.held(), ["10.1.2.1", "10.1.2.2", "10.1.2.3", "10.1.2.9"]);
    let document = scene.sandbox.command(&["verify", "-o", "json"]).document();
    let doubted = document["doubted"].as_array().unwrap();
    assert_eq!(
        (doubted.len(), doubted[0]["address"].as_str()),
        (1, Some("10.1.2.3")),
        "{document}"
    );
    let nodes: Vec<_> = document["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["node"].as_str().unwrap())
        .collect();
    assert_eq!(nodes.len(), 2, "{document}");

    let words = words(&doubted[0]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(from_workstation(&scene, &words).succeeded().stdout, "released 10.1.2.3\n");
    let entry = scene.entry("10.1.2.3");
    let repaired = scene.sandbox.command(&["repair", "--yes"]);
    assert!(!repaired.succeeded().stdout.contains("ipallocations/10.1.2.3"), "{repaired:?}");
    assert_eq!(scene.sandbox.held(), super::THREE);
    assert!(!fs::exists(entry).unwrap(), "the node has forgotten it");
    assert_eq!(scene.findings(), []);
}

/// The same with kubectl. A named address needs no node from there.
#[test]
fn an_object_removed_with_kubectl_is_made_again_for_the_living_alone() {
    let Some(scene) = Scene::new() else { return };
    add_in_doubt(&scene.sandbox, &scene.living, "c7");
    for address in ["10.1.2.1", "10.1.2.2", "10.1.2.3"] {
        scene.delete(address);
    }
    let repaired = scene.sandbox.command(&["repair", "--yes"]);
    assert!(
        repaired.succeeded().stdout.contains("recreated ipallocations/10.1.2.1\n"),
        "{repaired:?}"
    );
    assert_eq!(scene.sandbox.held(), ["10.1.2.1", "10.1.2.9"]);
    assert_eq!(
        from_workstation(&scene, &["release", "10.1.2.9", "--yes"]).succeeded().stdout,
        "released 10.1.2.9\n"
    );
}
