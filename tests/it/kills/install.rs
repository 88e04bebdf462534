//! `install`, killed at every system call with which it touches the node: each file is completely
//! the old one or the new one, and the next run completes the install.

use super::scene::memory;
use super::strace;
use crate::install::node::Node;
use std::path::PathBuf;

const EARLIER: &str = "#!/bin/sh\n# the executable of an earlier version\n";

/// Returns a node where an earlier version is installed, with an earlier token.
fn earlier() -> Node {
    let node = Node::below(&memory());
    node.run(&["install", "--settings", r#"{"log_level":"debug"}"#]).succeeded();
    std::fs::write(node.path("bin/hereabouts"), EARLIER).unwrap();
    node.rotate("second");
    node
}

/// Returns another node with the same files.
fn like(old: &[Vec<u8>]) -> Node {
    let node = Node::below(&memory());
    node.rotate("second");
    std::fs::create_dir_all(node.flat().parent().unwrap()).unwrap();
    for (path, content) in places(&node).iter().zip(old) {
        let text = String::from_utf8(content.clone()).unwrap();
        std::fs::write(path, text.replace("/node", node.sandbox.root.to_str().unwrap())).unwrap();
    }
    node
}

fn places(node: &Node) -> [PathBuf; 3] {
    [node.path("bin/hereabouts"), node.flat(), node.kubeconfig()]
}

/// Returns the contents of the three files, without the name of this node's directory.
fn contents(node: &Node) -> Vec<Vec<u8>> {
    let root = node.sandbox.root.to_str().unwrap();
    let small = |bytes: Vec<u8>| {
        String::from_utf8(bytes).map_or_else(
            |other| other.into_bytes(),
            |text| text.replace(root, "/node").into_bytes(),
        )
    };
    places(node).iter().map(|path| small(std::fs::read(path).unwrap())).collect()
}

#[test]
fn an_install_killed_at_any_system_call_leaves_each_file_old_or_new() {
    if let Some(reason) = strace::missing() {
        return skipped!("{reason}");
    }
    let old = contents(&earlier());
    let traced = like(&old);
    let points = strace::points(&traced.sandbox, &traced.call(&["install"]));
    let new = contents(&traced);
    assert!(old.iter().zip(&new).all(|(old, new)| old != new));

    // Earlier system calls touch nothing.
    let first = points.iter().position(|point| point.line.contains("net.d")).unwrap();
    let mut mixed = 0;
    for point in &points[first..] {
        let node = strace::until_met(point, || {
            let node = like(&old);
            strace::killed_at(&node.sandbox, &node.call(&["install"]), point).map(|_| node)
        });
        let found = contents(&node);
        for ((found, old), new) in found.iter().zip(&old).zip(&new) {
            assert!(found == old || found == new, "killed at {}: half a file", point.line);
        }
        mixed += usize::from(found != old && found != new);
        node.run(&["install"]).succeeded();
        assert_eq!(contents(&node), new, "killed at {}", point.line);
        let aside = |path: PathBuf| {
            path.read_dir()
                .unwrap()
                .filter(|entry| {
                    entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')
                })
                .count()
        };
        assert_eq!(
            aside(node.path("bin")) + aside(node.path("net.d/hereabouts.d")),
            0,
            "killed at {}",
            point.line
        );
    }
    println!("{} kills, {mixed} with some files old and some new", points.len() - first);
    assert!(30 < points.len() - first && 0 < mixed);
}
