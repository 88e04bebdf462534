//! One file of the node state that is damaged, large, or not a file: it affects only its own
//! attachment.

use super::super::rig::{Rig, each, shared};
use super::{assert_nothing_is_lost, lived_in};
use crate::support::proxy::Act;
use crate::support::sandbox::files_below;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Returns the file of an attachment, by its container.
fn file_of(rig: &Rig<'_>, container: &str) -> PathBuf {
    let attachments = rig.node.state().join("attachments");
    let paths = files_below(&attachments).into_iter().map(|name| attachments.join(name));
    let named = format!("\"containerID\":\"{container}\"");
    let mut of_it = paths.filter(|path| std::fs::read_to_string(path).unwrap().contains(&named));
    of_it.next().unwrap_or_else(|| panic!("nothing is known of {container}"))
}

fn lists(rig: &Rig<'_>) -> Vec<String> {
    let seen = rig.proxy.seen();
    seen.into_iter()
        .filter(|seen| seen.method == "GET" && seen.path.contains("labelSelector"))
        .map(|seen| seen.path)
        .collect()
}

/// Cause: a file that could not be read caused a rebuild of the whole state. Effect: records of
/// living pods that the cluster had lost were forgotten. Fix: only the objects of that attachment
/// are listed.
#[test]
fn one_damaged_attachment_costs_the_others_nothing() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    let node = &rig.node;
    let first = node.add("first");
    for container in ["lost", "again"] {
        node.add(container).succeeded();
    }
    // The cluster has lost one object, and a call must not find it.
    cluster.text(&["delete", "ipallocation", &format!("{}.10.9.0.2", node.scope)]);
    let remembered = std::fs::read(file_of(&rig, "lost")).unwrap();
    let complete = std::fs::metadata(node.state().join("complete")).unwrap();
    for container in ["first", "again"] {
        std::fs::write(file_of(&rig, container), format!("[{{\"containerID\":\"{container}\""))
            .unwrap();
    }
    rig.proxy.seen();
    node.check("first", &first).succeeded();
    assert!(
        matches!(&lists(&rig)[..], [one] if one.contains("attachment%3D")),
        "one list, of one attachment"
    );
    // A call that does not need it does not see it.
    assert_ne!(node.add("second").addresses(), ["10.9.0.1"]);
    assert!(lists(&rig).is_empty());
    node.del("again").succeeded();
    assert_eq!(node.add("first").addresses(), ["10.9.0.1"]);
    assert_eq!(std::fs::read(file_of(&rig, "lost")).unwrap(), remembered);
    let modified = std::fs::metadata(node.state().join("complete")).unwrap().modified().unwrap();
    assert_eq!(modified, complete.modified().unwrap(), "the state was made again");
    for container in ["first", "second", "lost"] {
        node.del(container).succeeded();
    }
    rig.assert_empty("two files damaged");
}

/// Cause: a file of more than 1 MiB was read in part. Effect: an ADD of many addresses could not be
/// undone or repeated, and many tombstones were lost.
#[test]
fn a_large_file_is_read_whole() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    let node = &rig.node;
    lived_in(&rig);
    let kept = file_of(&rig, "kept");
    let mut objects: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    objects[0]["metadata"]["labels"]["large"] = json!("x".repeat(2 << 20));
    std::fs::write(&kept, objects.to_string()).unwrap();
    let tombstones = node.state().join("tombstones");
    let one: Value = serde_json::from_slice(&std::fs::read(&tombstones).unwrap()).unwrap();
    let many: Vec<Value> = (0..2000).map(|_| one[0].clone()).collect();
    std::fs::write(&tombstones, json!(many).to_string()).unwrap();
    assert!((1 << 20) < std::fs::metadata(&tombstones).unwrap().len());
    // One tombstone more.
    rig.proxy.script(|asked| if asked.method == "POST" { Act::Reset } else { Act::Pass });
    assert_eq!(node.add("late").code(), 11);
    node.del("late").succeeded();
    rig.proxy.pass();
    let left: Value = serde_json::from_slice(&std::fs::read(&tombstones).unwrap()).unwrap();
    assert_eq!(left.as_array().unwrap().len(), 2001);
    std::fs::write(&tombstones, json!(one).to_string()).unwrap();
    lists(&rig);
    node.del("kept").succeeded();
    assert!(lists(&rig).is_empty(), "it was not taken for damaged");
    assert!(!kept.exists());
    for container in ["web_1", "open"] {
        node.del(container).succeeded();
    }
    rig.assert_empty("after the DELs");
}

/// The files of the state, or the starts of their names.
const FILES: &[&str] = &[
    "attachments",
    "calls",
    "complete",
    "listing",
    "lock",
    "move",
    "pods",
    "ready",
    "rebuild",
    "revision",
    "scopes",
    "tombstones",
];

/// A directory that somebody has created in the node state stops no verb, whatever its name and
/// content.
#[test]
fn a_directory_in_the_place_of_any_file_stops_no_verb() {
    let Some(cluster) = shared() else { return };
    let of_kind = |path: &str, kind: &str| path.split(['/', '-']).next() == Some(kind);
    {
        let template = Rig::new(cluster);
        lived_in(&template);
        let files = files_below(&template.node.state());
        let unknown: Vec<_> =
            files.iter().filter(|file| !FILES.iter().any(|kind| of_kind(file, kind))).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    let kinds = FILES.iter().flat_map(|kind| [(*kind, false), (*kind, true)]).collect();
    each(kinds, |kind, anew| {
        let rig = Rig::new(cluster);
        lived_in(&rig);
        let state = rig.node.state();
        for path in files_below(&state).into_iter().filter(|path| of_kind(path, kind)) {
            std::fs::remove_file(state.join(&path)).unwrap();
            std::fs::create_dir_all(state.join(&path).join("nodes/n1")).unwrap();
        }
        for directory in ["@tmp", "pods", "scopes"] {
            std::fs::create_dir_all(state.join(directory).join("nodes/n1")).unwrap();
        }
        if anew && kind != "complete" {
            std::fs::remove_file(state.join("complete")).unwrap();
        }
        let when = format!("directories in the place of {kind}, the state made again: {anew}");
        rig.node.status().succeeded();
        assert_nothing_is_lost(&rig, &when);
        rig.node.add("dead").succeeded();
        for command in ["repair", "sweep"] {
            rig.node.sandbox.command(&[command, "--yes"]).succeeded();
        }
        let verified = rig.node.sandbox.command(&["verify"]);
        assert!(!verified.stderr.contains("cannot"), "{when}: {verified:?}");
        rig.node.add("dead").succeeded();
        rig.node.gc_call(&[]).run().succeeded();
        rig.assert_empty(&when);
    });
}
