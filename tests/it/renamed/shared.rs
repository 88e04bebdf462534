//! The same on a filesystem that machines share, where another node's name may belong to a clone.

use crate::support::overlay::Overlay;

const RANGE: &str = r#""range":"10.1.2.0/24""#;

#[test]
fn a_del_under_a_changed_name_is_refused_names_both_and_frees_nothing() {
    let Some(overlay) = Overlay::new() else {
        return skipped!("this machine mounts no overlay");
    };
    let sandbox = &overlay.sandbox;
    overlay.init();
    overlay.run(&overlay.verb("ADD", "c1", RANGE)).succeeded();
    sandbox.write("flat.conf", &sandbox.flat("n1.example.com"));
    overlay.run(&overlay.verb("ADD", "c2", RANGE)).succeeded();
    let refused = overlay.run(&overlay.verb("DEL", "c1", RANGE));
    assert_eq!(refused.code(), 7, "{refused:?}");
    for words in ["node name n1,", "n1.example.com", "hereabouts release --node n1\""] {
        assert!(refused.details().contains(words), "{words}: {refused:?}");
    }
    overlay.command(&["sweep", "--yes"]).succeeded();
    let listed = overlay.command(&["list"]);
    assert!(listed.succeeded().stdout.contains(" n1 "), "nothing was freed: {listed:?}");
    overlay.run(&overlay.verb("DEL", "c2", RANGE)).succeeded();
    overlay.run(&overlay.verb("DEL", "never-added", RANGE)).succeeded();
    // The sandbox is seen alive here, so --force is needed.
    overlay.command(&["release", "--node", "n1", "--yes", "--force"]).succeeded();
    overlay.run(&overlay.verb("DEL", "c1", RANGE)).succeeded();
    assert!(overlay.command(&["list"]).stderr.contains("no address is held"));
}

/// A clone has the machine id, and does not have this node's note.
#[test]
fn a_record_of_another_node_with_this_machines_id_is_left_alone() {
    let Some(overlay) = Overlay::new() else {
        return skipped!("this machine mounts no overlay");
    };
    overlay.init();
    overlay.run(&overlay.verb("ADD", "c1", RANGE)).succeeded();
    for entry in std::fs::read_dir("/var/lib/cni/hereabouts/stores").unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if text.contains(overlay.sandbox.store().to_str().unwrap()) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    overlay.sandbox.write("flat.conf", &overlay.sandbox.flat("clone"));
    overlay.run(&overlay.verb("DEL", "c1", RANGE)).succeeded();
    overlay.command(&["sweep", "--yes"]).succeeded();
    let listed = overlay.command(&["list"]);
    assert!(listed.stdout.contains(" n1 "), "{listed:?}");
}

/// The filesystem is mounted at another place now, and the store is the same.
#[test]
fn a_changed_name_is_told_where_the_place_has_changed_too() {
    let Some(overlay) = Overlay::new() else {
        return skipped!("this machine mounts no overlay");
    };
    let sandbox = &overlay.sandbox;
    overlay.init();
    overlay.run(&overlay.verb("ADD", "c1", RANGE)).succeeded();
    let moved = sandbox.path("moved");
    std::fs::create_dir(&moved).unwrap();
    let [enter, namespace] = overlay.inside();
    let mounted = std::process::Command::new(enter)
        .arg(namespace)
        .args(["mount", "--bind"])
        .arg(sandbox.store())
        .arg(&moved)
        .status();
    assert!(mounted.unwrap().success());
    let flat = |node: &str| {
        sandbox.flat(node).replace(sandbox.store().to_str().unwrap(), moved.to_str().unwrap())
    };
    sandbox.write("flat.conf", &flat("renamed"));
    let refused = overlay.run(&overlay.verb("DEL", "c1", RANGE));
    assert_eq!(refused.code(), 7, "{refused:?}");
    assert!(refused.details().contains("hereabouts release --node n1\""), "{refused:?}");
    // Under the earlier name, the new place works as well.
    sandbox.write("flat.conf", &flat("n1"));
    overlay.run(&overlay.verb("DEL", "c1", RANGE)).succeeded();
    assert!(overlay.command(&["list"]).stderr.contains("no address is held"));
}
