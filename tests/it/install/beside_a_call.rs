//! `uninstall`, and `install` with another store, while a call is in progress: what the call
//! allocates is seen before anything is removed.

use super::node::{Node, Watching};
use crate::support::sandbox::{Call, configuration};
use crate::support::stopped::{Moment, Stopped, has_strace};
use nix::sys::signal::Signal;

/// Returns a call of the installed executable.
fn call(node: &Node, verb: &str) -> Call {
    let mut call = node.sandbox.call(verb);
    call.by(&node.path("bin/hereabouts"))
        .set("HEREABOUTS_CONFIG", node.flat())
        .stdin(configuration(r#""range":"10.1.2.0/24""#));
    call
}

/// Starts an ADD and stops it after it has read the store, before its first write there.
fn begun(node: &Node) -> Stopped {
    Stopped::after(&call(node, "ADD"), &Moment::new("openat", "format"))
}

/// Starts a command that must wait for the ADD. Returns when it waits.
fn waiting(node: &Node, args: &[&str]) -> Watching {
    let mut waiting = Watching::start(&node.call(args), &node.path("said"));
    waiting.until("the executable has been moved", || !node.path("bin/hereabouts").exists());
    waiting
}

fn installed() -> Option<Node> {
    if !has_strace() {
        skipped!("no strace");
        return None;
    }
    let node = Node::new();
    node.install_for_files();
    // The store exists.
    call(&node, "ADD").run().succeeded();
    call(&node, "DEL").run().succeeded();
    Some(node)
}

#[test]
fn what_an_add_under_way_allocates_keeps_the_node_as_it_is() {
    let Some(node) = installed() else { return };
    let files = node.files();
    let elsewhere = node.path("elsewhere");
    for args in [&["uninstall"][..], &["install", "--data-dir", elsewhere.to_str().unwrap()]] {
        let add = begun(&node);
        let waiting = waiting(&node, args);
        add.go_on().succeeded();
        let said = node.path("said");
        assert_eq!(waiting.ended(), Some(1), "{args:?}");
        let said = std::fs::read_to_string(said).unwrap();
        assert!(said.contains("hold 1 address"), "{args:?}: {said}");
        assert_eq!(node.files(), files);
        assert!(!std::fs::read_to_string(node.flat()).unwrap().contains("elsewhere"));
        call(&node, "DEL").run().succeeded();
    }
    // A call that holds nothing in the end delays nothing.
    let del = Stopped::after(&call(&node, "DEL"), &Moment::new("openat", "format"));
    let waiting = waiting(&node, &["uninstall"]);
    del.go_on().succeeded();
    assert_eq!(waiting.ended(), Some(0));
    assert!(node.files().is_empty(), "{:?}", node.files());
}

#[test]
fn one_that_was_killed_while_it_waited_is_made_good() {
    let Some(node) = installed() else { return };
    let files = node.files();
    for args in
        [&["install", "--data-dir", node.sandbox.store().to_str().unwrap()][..], &["uninstall"]]
    {
        let add = begun(&node);
        let killed = waiting(&node, &["uninstall"]);
        assert_eq!(killed.end(Signal::SIGKILL), None);
        assert_ne!(node.files(), files);
        add.go_on().succeeded();
        let ended = node.run(args);
        assert_eq!(ended.status, Some(i32::from(args == ["uninstall"])), "{ended:?}");
        assert_eq!(node.files(), files, "put back");
        call(&node, "DEL").run().succeeded();
    }
}
