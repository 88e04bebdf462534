//! Each way in which objects and node state can disagree, on a real API server: `verify` names it
//! and changes nothing, `repair` repairs what belongs to this node and frees no address of a living
//! sandbox.

use super::{RANGE, Scene, THREE, forget_version};
use crate::support::stopped::{Moment, Stopped, has_strace};
use hereabouts::retry::Deadline;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

struct Damage {
    done: fn(&Scene),
    found: &'static [(&'static str, &'static str)],
    /// Whether `repair` repairs it.
    mended: bool,
    /// The addresses that are held in the end.
    held: &'static [&'static str],
}

const DAMAGES: &[Damage] = &[
    Damage { done: |_| {}, found: &[], mended: true, held: THREE },
    Damage {
        done: |scene| scene.delete("10.1.2.1"),
        found: &[("lost-record", "ipallocations/10.1.2.1")],
        mended: true,
        held: THREE,
    },
    Damage {
        done: |scene| scene.delete("10.1.2.2"),
        found: &[("dangling-entry", "attachments/HASH")],
        mended: true,
        held: &["10.1.2.1", "10.1.2.9"],
    },
    Damage {
        done: |scene| {
            scene.delete("10.1.2.1");
            scene.on_n2("c4", "10.1.2.1").succeeded();
        },
        found: &[("given-away", "ipallocations/10.1.2.1")],
        mended: false,
        held: THREE,
    },
    // A recreation that was killed half way, or an ADD.
    Damage {
        done: |scene| {
            scene.delete("10.1.2.1");
            scene.change_entry("10.1.2.1", forget_version);
        },
        found: &[("unconfirmed", "ipallocations/10.1.2.1")],
        mended: true,
        held: THREE,
    },
    Damage {
        done: |scene| scene.change_entry("10.1.2.1", forget_version),
        found: &[("unconfirmed", "ipallocations/10.1.2.1")],
        mended: true,
        held: THREE,
    },
    Damage {
        done: |scene| fs::remove_file(scene.entry("10.1.2.1")).unwrap(),
        found: &[("not-in-index", "ipallocations/10.1.2.1")],
        mended: true,
        held: THREE,
    },
    Damage {
        done: |scene| fs::write(scene.entry("10.1.2.2"), "[{").unwrap(),
        found: &[("damaged-state", "attachments/HASH")],
        mended: true,
        held: THREE,
    },
    Damage {
        done: |scene| fs::write(scene.state().join("@tmp/7.7"), "[{").unwrap(),
        found: &[("temporary-file", "@tmp/7.7")],
        mended: true,
        held: THREE,
    },
    // The labels of an object of this node, and of an object of another node.
    Damage {
        done: |scene| {
            scene.patch(
                "10.1.2.1",
                &json!({"metadata": {"labels": {"hereabouts.dev/node": "x", "mine": "stays"}}}),
            )
        },
        found: &[("wrong-labels", "ipallocations/10.1.2.1")],
        mended: true,
        held: THREE,
    },
    Damage {
        done: |scene| {
            scene.patch("10.1.2.9", &json!({"metadata": {"labels": {"hereabouts.dev/pod": null}}}))
        },
        found: &[("wrong-labels", "ipallocations/10.1.2.9")],
        mended: true,
        held: THREE,
    },
    Damage {
        done: |scene| scene.patch("10.1.2.2", &json!({"spec": {"machine": "another"}})),
        found: &[("second-machine", "ipallocations/10.1.2.2")],
        mended: false,
        held: THREE,
    },
    // A DEL found nothing, and then the creation came.
    Damage {
        done: |scene| scene.make_late("10.1.2.2"),
        found: &[("late-record", "ipallocations/10.1.2.2")],
        mended: true,
        held: &["10.1.2.1", "10.1.2.9"],
    },
];

#[test]
fn each_damage_is_named_and_what_is_this_nodes_is_repaired() {
    for (number, damage) in DAMAGES.iter().enumerate() {
        let Some(scene) = Scene::new() else { return };
        (damage.done)(&scene);
        let before = scene.all();
        let expected: Vec<_> = damage
            .found
            .iter()
            .map(|(problem, path)| ((*problem).to_owned(), (*path).to_owned()))
            .collect();
        assert_eq!(scene.findings(), expected, "{number}");
        assert_eq!(scene.all(), before, "{number}: verify changes nothing");
        let mut repaired = scene.sandbox.command(&["repair", "--yes"]);
        // Every node repairs its own records, so that no node reads the records of all others.
        if damage.found == [("wrong-labels", "ipallocations/10.1.2.9")] {
            assert_eq!(scene.findings(), expected, "{number}: {repaired:?}");
            repaired = scene.sandbox.command(&["repair", "--all", "--yes"]);
        }
        repaired.succeeded();
        assert_eq!(
            scene.findings(),
            if damage.mended { Vec::new() } else { expected },
            "{number}: {repaired:?}"
        );
        assert_eq!(scene.sandbox.held(), damage.held, "{number}");
        if damage.mended {
            // Its holder finds the repaired record, and so does the sweep of its node.
            scene.sandbox.command(&["sweep", "--yes"]).succeeded();
            scene.sandbox.del("c1", RANGE).succeeded();
            assert_eq!(scene.sandbox.held(), ["10.1.2.9"], "{number}");
            assert_eq!(scene.findings(), [], "{number}");
        }
    }
}

/// Objects that an older definition accepted.
#[test]
fn objects_that_nobody_of_ours_made_are_for_kubectl() {
    let Some(scene) = Scene::new() else { return };
    let anything = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]);
    let crd = "crd/ipallocations.hereabouts.dev";
    scene.cluster.text(&["patch", crd, "--type=json", "-p", &anything.to_string()]);
    let mut object: Value =
        serde_json::from_str(&scene.cluster.text(&["get", "ipa", "10.1.2.9", "-o", "json"]))
            .unwrap();
    object["metadata"] = json!({"name": "10.1.2.10", "labels": object["metadata"]["labels"]});
    let misnamed = scene.sandbox.write("misnamed.json", &object.to_string());
    object["metadata"] = json!({"name": "10.1.2.11"});
    object["spec"]["address"] = json!(7);
    let damaged = scene.sandbox.write("damaged.json", &object.to_string());
    // A new definition takes effect some moments later.
    let deadline = Deadline::after(Duration::from_secs(60));
    for file in [&misnamed, &damaged] {
        while !scene.cluster.kubectl(&["create", "-f", file.to_str().unwrap()]).status.success() {
            assert!(!deadline.left().is_zero());
        }
    }
    let found = [
        ("damaged-record", "ipallocations/10.1.2.11"),
        ("misnamed-record", "ipallocations/10.1.2.10"),
    ];
    assert_eq!(
        scene.findings(),
        found.map(|(problem, path)| (problem.to_owned(), path.to_owned()))
    );
    for args in [&["list"][..], &["list", "-o", "json"]] {
        let listed = scene.sandbox.command(args);
        assert!(
            listed.status == Some(1)
                && listed.stderr.contains("\"kubectl delete ipallocations/10.1.2.10\" releases"),
            "{listed:?}"
        );
        assert!(THREE.iter().all(|address| listed.stdout.contains(address)), "{listed:?}");
    }
    let repaired = scene.sandbox.command(&["repair", "--all", "--yes"]);
    assert!(
        repaired.stderr.contains("cannot be repaired here")
            && repaired.stderr.contains("nothing to repair"),
        "{repaired:?}"
    );
    for address in ["10.1.2.10", "10.1.2.11"] {
        scene.delete(address);
    }
    scene.cluster.text(&["apply", "-k", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crd")]);
    assert_eq!(scene.findings(), []);
}

/// An intent without an object: a call that is still running and has the lock of its attachment.
#[test]
fn an_add_in_flight_is_nothing_wrong() {
    if !has_strace() {
        return skipped!("no strace");
    }
    for (command, ends) in [
        (&["verify"][..], ""),
        (&["repair", "--yes"], "nothing to repair"),
        (&["sweep", "--yes"], "nothing to sweep"),
    ] {
        let Some(scene) = Scene::new() else { return };
        scene.sandbox.del("c2", RANGE).succeeded();
        // A file of this name is about to be written.
        scene.alive("c4").run().succeeded();
        let entry = scene.entry("10.1.2.2");
        scene.sandbox.del("c4", RANGE).succeeded();
        let add = Stopped::after(
            &scene.alive("c4"),
            &Moment::new("renameat", entry.file_name().unwrap().to_str().unwrap()),
        );
        assert!(
            fs::read_to_string(&entry).unwrap().contains("10.1.2.2")
                && scene.sandbox.held() == ["10.1.2.1", "10.1.2.9"]
        );
        // The attachment is busy, so nothing is reported about it.
        let ended = scene.sandbox.command_call(command).run();
        assert_eq!(add.go_on().addresses(), ["10.1.2.2"]);
        assert!(ended.status == Some(0) && ended.stderr.contains(ends), "{command:?} {ended:?}");
        assert_eq!(scene.sandbox.held(), THREE);
    }
}
