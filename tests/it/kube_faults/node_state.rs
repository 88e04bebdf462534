//! Node state that is gone, damaged, or of another cluster or node. It decides nothing: every
//! record still exists, is found and is freed.

mod single_files;
mod ways;

use super::rig::{Rig, each, shared};
use crate::support::nodes::{DEADLINES, Node};
use crate::support::proxy::Act;
use crate::support::sandbox::files_below;
use serde_json::Value;
use std::path::Path;

/// Sets the clocks of the tombstones forward, as if the node had waited this long.
pub(super) fn seconds_later(node: &Node, seconds: u64) {
    let path = node.state().join("tombstones");
    let Ok(bytes) = std::fs::read(&path) else { return };
    let mut tombstones: Value = serde_json::from_slice(&bytes).unwrap();
    for tombstone in tombstones.as_array_mut().unwrap() {
        for key in ["since", "looked"] {
            tombstone[key] = (tombstone[key].as_u64().unwrap() - seconds * 1000).into();
        }
    }
    std::fs::write(path, tombstones.to_string()).unwrap();
}

/// Creates a node with something in every file of its state: two pods, one of them in its second
/// sandbox; beliefs about a scope; an intent and a tombstone.
pub(super) fn lived_in(rig: &Rig<'_>) {
    let node = &rig.node;
    node.add("kept").succeeded();
    node.add("web_1").succeeded();
    node.status().succeeded();
    rig.proxy.script(|asked| if asked.method == "POST" { Act::Reset } else { Act::Pass });
    // On a busy machine, an ADD may have no time left to ask.
    let attachments = || files_below(&node.state().join("attachments")).len();
    let known = attachments();
    for add in ["400ms", "4s", "40s"] {
        rig.deadlines(&format!(r#"{{"add":"{add}"}}"#));
        assert_eq!([node.add("gone"), node.add("open")].map(|ended| ended.code()), [11, 11]);
        if attachments() == known + 2 {
            break;
        }
    }
    rig.deadlines(DEADLINES);
    node.del("gone").succeeded();
    rig.proxy.pass();
    assert!(node.state().join("tombstones").exists());
}

/// Makes every call, and checks that each works as usual.
fn assert_nothing_is_lost(rig: &Rig<'_>, when: &str) {
    let node = &rig.node;
    let kept = node.add("kept");
    assert_eq!(kept.addresses(), ["10.9.0.1"], "{when}");
    node.check("kept", &kept).succeeded();
    let web = node.add("web_2").addresses();
    let new = node.add("new").addresses();
    let open = node.add("open").addresses();
    let holders = rig.holders();
    for (container, given) in
        [("kept", "10.9.0.1"), ("web_2", &*web[0]), ("new", &*new[0]), ("open", &*open[0])]
    {
        assert_eq!(holders.get(given).map(String::as_str), Some(container), "{when}: {holders:?}");
    }
    for container in ["kept", "web_1", "web_2", "new", "open", "gone"] {
        node.del(container).succeeded();
    }
    rig.assert_empty(when);
}

#[test]
fn state_that_is_gone_is_rebuilt() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    lived_in(&rig);
    std::fs::remove_dir_all(rig.node.sandbox.store()).unwrap();
    assert_nothing_is_lost(&rig, "all of it gone");
    let rig = Rig::new(cluster);
    rig.node.add("c").succeeded();
    std::fs::remove_dir_all(rig.node.sandbox.store()).unwrap();
    rig.node.del("c").succeeded();
    rig.assert_empty("the DEL comes first");
}

type Damage = (&'static str, fn(&Path));

const DAMAGES: &[Damage] = &[
    ("removed", |path| std::fs::remove_file(path).unwrap()),
    ("empty", |path| std::fs::write(path, "").unwrap()),
    ("half", |path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("zeroes", |path| std::fs::write(path, vec![0; std::fs::read(path).unwrap().len()]).unwrap()),
    ("of another shape", |path| std::fs::write(path, r#"{"a":[1,2,{"b":null}]}"#).unwrap()),
    ("no UTF-8", |path| std::fs::write(path, [0xff, 0xfe, b'\n', 0xc3]).unwrap()),
];

/// Returns the kind of a file whose name is a hash or an address.
fn file_kind(path: &str) -> &str {
    path.split('/').next().unwrap()
}

#[test]
fn every_file_of_the_state_may_be_damaged() {
    let Some(cluster) = shared() else { return };
    let template = Rig::new(cluster);
    lived_in(&template);
    let mut kinds: Vec<String> =
        files_below(&template.node.state()).iter().map(|path| file_kind(path).to_owned()).collect();
    kinds.dedup();
    for known in ["attachments", "complete", "pods", "ready", "scopes", "tombstones"] {
        assert!(kinds.iter().any(|kind| kind == known), "{known} is missing: {kinds:?}");
    }
    // Every file of a kind at once: one node for each kind and damage.
    each(DAMAGES.to_vec(), |name, damage| {
        for kind in &kinds {
            let rig = Rig::new(cluster);
            lived_in(&rig);
            let state = rig.node.state();
            if (name, kind.as_str()) == ("removed", "attachments") {
                // The next test covers the case that the state claims to be complete.
                continue;
            }
            let meant = files_below(&state).into_iter().filter(|path| file_kind(path) == kind);
            meant.for_each(|path| damage(&state.join(path)));
            assert_nothing_is_lost(&rig, &format!("{kind} {name}"));
        }
    });
}

/// No call can notice that a file is gone that may never have existed: GC frees what it stood for.
#[test]
fn what_single_removed_files_stood_for_is_collected() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    rig.node.add("kept").succeeded();
    std::fs::remove_dir_all(rig.node.state().join("attachments")).unwrap();
    std::fs::create_dir(rig.node.state().join("attachments")).unwrap();
    // All records still exist.
    assert_ne!(rig.node.add("other").addresses(), ["10.9.0.1"]);
    rig.node.gc_call(&["other"]).run().succeeded();
    assert_eq!(rig.holders().into_values().collect::<Vec<_>>(), ["other"]);
    rig.node.del("other").succeeded();
    rig.assert_empty("after GC and DEL");
}

#[test]
fn state_of_another_node_frees_nothing_of_it() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    rig.node.add("c").succeeded();
    let other =
        Node::new(&format!("{}-other", rig.node.name), &rig.node.scope, &cluster.kubeconfig());
    std::fs::create_dir_all(other.state().parent().unwrap()).unwrap();
    let copied =
        std::process::Command::new("cp").arg("-a").args([rig.node.state(), other.state()]).status();
    assert!(copied.unwrap().success());
    other.del("c").succeeded();
    assert_eq!(rig.holders()["10.9.0.1"], "c");
    // The same container id on another node is another attachment.
    assert_ne!(other.add("c").addresses(), ["10.9.0.1"]);
    other.del("c").succeeded();
    rig.node.del("c").succeeded();
    rig.assert_empty("after both DELs");
}

/// A node that comes back with a hundred pods lists its objects once.
#[test]
fn many_calls_at_once_rebuild_the_state_once() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::cold(cluster);
    let node = &rig.node;
    std::thread::scope(|scope| {
        for n in 0..8 {
            scope.spawn(move || node.add(&format!("c{n}")).succeeded().clone());
        }
    });
    let lists = rig.proxy.seen().into_iter().filter(|seen| seen.path.contains("node%3D")).count();
    assert_eq!(lists, 1);
    assert_eq!(rig.holders().len(), 8);
}
