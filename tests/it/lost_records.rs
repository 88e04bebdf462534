//! Records that a shared store has lost: a snapshot, a split brain, or an `rm`. The node's own
//! notes restore those of living sandboxes.

use crate::support::living::Living;
use crate::support::overlay::Overlay;
use crate::support::sandbox::Ended;
use std::path::{Path, PathBuf};

const RANGE: &str = r#""range":"10.9.0.0/24""#;

/// Returns a node `n1` on a shared store, or skips the test.
fn node() -> Option<(Overlay, String)> {
    let Some(overlay) = Overlay::new() else {
        skipped!("no overlay can be mounted");
        return None;
    };
    let id = overlay.init();
    Some((overlay, id))
}

fn add(overlay: &Overlay, container: &str) -> Ended {
    overlay.run(&overlay.verb("ADD", container, RANGE))
}

/// Makes an ADD of another node on the same store.
fn add_of_another_node(overlay: &Overlay, container: &str) -> Ended {
    let flat = overlay.sandbox.write("n2.conf", &overlay.sandbox.flat("n2"));
    overlay.run(overlay.verb("ADD", container, RANGE).set("HEREABOUTS_CONFIG", flat))
}

/// Removes a record and its entries, as an older snapshot would.
fn lose(overlay: &Overlay, address: &str, container: &str) {
    std::fs::remove_file(overlay.path("scopes/@/10.9.0.0_24").join(address)).unwrap();
    std::fs::remove_file(overlay.path("nodes/n1/net1").join(format!("{container}@net1.0")))
        .unwrap();
    let _ = std::fs::remove_file(
        overlay.path("nodes/n1/@pods/net1").join(format!("default%2F{container}@net1.0")),
    );
}

fn held(overlay: &Overlay) -> Vec<String> {
    let ended = overlay.command(&["list", "-o", "json"]);
    let records: Vec<serde_json::Value> = serde_json::from_str(&ended.succeeded().stdout).unwrap();
    let text = |record: &serde_json::Value, key: &str| record[key].as_str().unwrap().to_owned();
    records
        .iter()
        .map(|record| format!("{} {}", text(record, "address"), text(record, "container")))
        .collect()
}

fn problems(overlay: &Overlay) -> Vec<String> {
    let ended = overlay.command(&["verify", "-o", "json"]);
    let found: serde_json::Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let findings = found["findings"].as_array().cloned().unwrap_or_default();
    findings.iter().map(|finding| finding["problem"].as_str().unwrap().to_owned()).collect()
}

/// Returns where the node keeps its notes about the store.
fn notes(id: &str) -> PathBuf {
    Path::new("/var/lib/cni/hereabouts/stores").join(id).join("n1")
}

#[test]
fn repair_brings_back_what_living_pods_hold() {
    let Some((overlay, _)) = node() else { return };
    add(&overlay, "c1").succeeded();
    add(&overlay, "c2").succeeded();
    assert_eq!(problems(&overlay), Vec::<String>::new());
    std::fs::remove_dir_all(overlay.path("scopes/@")).unwrap();
    std::fs::remove_dir_all(overlay.path("nodes/n1")).unwrap();
    assert_eq!(problems(&overlay), ["lost-record", "lost-record"]);
    overlay.command(&["repair", "--yes"]).succeeded();
    assert_eq!(held(&overlay), ["10.9.0.1 c1", "10.9.0.2 c2"]);
    assert_eq!(problems(&overlay), Vec::<String>::new());
    assert_eq!(add(&overlay, "c1").addresses(), ["10.9.0.1"], "its holder finds it again");
    assert_eq!(add_of_another_node(&overlay, "c3").addresses(), ["10.9.0.3"]);
    for container in ["c1", "c2"] {
        overlay.run(&overlay.verb("DEL", container, RANGE)).succeeded();
    }
    assert_eq!(held(&overlay), ["10.9.0.3 c3"]);
    assert_eq!(problems(&overlay), Vec::<String>::new());
}

#[test]
fn what_another_was_given_meanwhile_is_a_finding_and_never_overwritten() {
    let Some((overlay, _)) = node() else { return };
    add(&overlay, "c1").succeeded();
    lose(&overlay, "10.9.0.1", "c1");
    assert_eq!(add_of_another_node(&overlay, "other").addresses(), ["10.9.0.1"]);
    assert_eq!(problems(&overlay), ["given-away"]);
    let ended = overlay.command(&["repair", "--yes"]);
    for pod in ["pod default/c1, ", "pod default/other, "] {
        assert!(ended.stderr.contains(pod), "{ended:?}");
    }
    assert_eq!(held(&overlay), ["10.9.0.1 other"]);
    // The pod that is named first is removed.
    overlay.run(&overlay.verb("DEL", "c1", RANGE)).succeeded();
    assert_eq!(held(&overlay), ["10.9.0.1 other"]);
    assert_eq!(problems(&overlay), Vec::<String>::new());
}

#[test]
fn what_was_freed_or_has_died_is_not_brought_back() {
    let (Some((overlay, id)), Some(living)) = (node(), Living::new()) else { return };
    add(&overlay, "c1").succeeded();
    overlay.run(overlay.verb("ADD", "dies", RANGE).set("CNI_NETNS", living.path())).succeeded();
    drop(living);
    lose(&overlay, "10.9.0.1", "c1");
    lose(&overlay, "10.9.0.2", "dies");
    // The DEL finds no record, and removes its note all the same.
    overlay.run(&overlay.verb("DEL", "c1", RANGE)).succeeded();
    assert_eq!(problems(&overlay), ["unused-note"]);
    overlay.command(&["sweep", "--yes"]).succeeded();
    assert_eq!(problems(&overlay), Vec::<String>::new());
    overlay.command(&["repair", "--yes"]).succeeded();
    assert_eq!(held(&overlay), Vec::<String>::new());
    let left: Vec<_> =
        std::fs::read_dir(notes(&id)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["begun"]);
}

/// An earlier version kept no notes, and a call may be killed before it writes its own.
#[test]
fn what_was_given_without_a_note_is_noted_later() {
    let Some((overlay, id)) = node() else { return };
    add(&overlay, "c1").succeeded();
    add(&overlay, "c2").succeeded();
    std::fs::remove_dir_all(notes(&id)).unwrap();
    add(&overlay, "c3").succeeded();
    assert_eq!(
        std::fs::read_dir(notes(&id)).unwrap().count(),
        4,
        "three and the word that it is all"
    );
    for entry in std::fs::read_dir(notes(&id)).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("begun") {
            std::fs::remove_file(path).unwrap();
        }
    }
    add(&overlay, "c1").succeeded();
    lose(&overlay, "10.9.0.1", "c1");
    assert_eq!(problems(&overlay), ["lost-record"]);
    overlay.command(&["repair", "--yes"]).succeeded();
    assert_eq!(held(&overlay).first().unwrap(), "10.9.0.1 c1");
}

/// After a loss, a repeated ADD gets another address: that one counts.
#[test]
fn a_repeated_add_that_was_given_another_address_has_that_one_alone() {
    let Some((overlay, _)) = node() else { return };
    add(&overlay, "c1").succeeded();
    lose(&overlay, "10.9.0.1", "c1");
    assert_eq!(add_of_another_node(&overlay, "other").addresses(), ["10.9.0.1"]);
    assert_eq!(add(&overlay, "c1").addresses(), ["10.9.0.2"]);
    assert_eq!(problems(&overlay), Vec::<String>::new());
}

/// The whole store is gone, including its format. The operator creates it again under its id.
#[test]
fn a_store_that_is_gone_is_made_again_under_its_id() {
    let Some((overlay, id)) = node() else { return };
    add(&overlay, "c1").succeeded();
    for name in ["format", "lock"] {
        let _ = std::fs::remove_file(overlay.path(name));
    }
    for name in ["scopes", "nodes"] {
        std::fs::remove_dir_all(overlay.path(name)).unwrap();
    }
    assert_eq!(add(&overlay, "c2").code(), 5);
    let store = overlay.sandbox.store();
    let ended = overlay.command(&["store", "init", store.to_str().unwrap()]);
    assert!(ended.status == Some(1) && ended.stderr.contains("wrong store at"), "{ended:?}");
    let ended = overlay.command(&["store", "init", store.to_str().unwrap(), "--id", &id]);
    assert_eq!(ended.succeeded().stdout.trim(), id);
    overlay.command(&["repair", "--yes"]).succeeded();
    assert_eq!(held(&overlay), ["10.9.0.1 c1"]);
    assert_eq!(add(&overlay, "c2").addresses(), ["10.9.0.2"]);
}
