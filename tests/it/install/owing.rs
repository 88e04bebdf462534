//! What install and uninstall do about failed DELs on their node.

use super::node::Node;
use crate::support::sandbox::{Call, configuration};
use nix::sys::signal::Signal;
use std::path::Path;

/// Installs for a file store, with debts in the sandbox, and allows other stores.
fn install(node: &Node) -> String {
    let settings =
        serde_json::json!({"debts_dir": node.path("debts"), "allowed_paths": [node.path("")]})
            .to_string();
    node.run(&[
        "install",
        "--data-dir",
        node.sandbox.store().to_str().unwrap(),
        "--settings",
        &settings,
    ])
    .succeeded();
    settings
}

/// Returns a call in a store that the network names.
fn call(node: &Node, verb: &str, store: &Path) -> Call {
    let mut call = node.sandbox.call(verb);
    let ipam = format!(
        r#""range":"10.1.2.0/24","deadlines":{{"del":"50ms"}},"data_dir":"{}""#,
        store.display()
    );
    call.set("HEREABOUTS_CONFIG", node.flat()).stdin(configuration(&ipam));
    call
}

/// Leaves an address that a sandbox holds that is gone, and a DEL that failed.
fn owe(node: &Node, store: &Path) {
    call(node, "ADD", store).run().succeeded();
    let lock = std::fs::File::open(store).unwrap();
    lock.lock().unwrap();
    assert_eq!(call(node, "DEL", store).run().code(), 11);
    drop(lock);
    assert_eq!(owed(node), 1);
}

fn owed(node: &Node) -> usize {
    std::fs::read_dir(node.path("debts")).map_or(0, Iterator::count)
}

#[test]
fn an_install_that_stays_settles_what_is_owed_in_any_store() {
    let node = Node::new();
    let settings = install(&node);
    for store in [node.sandbox.store(), node.path("other")] {
        owe(&node, &store);
        let mut watching = node.watch(&[
            "install",
            "--watch",
            "--data-dir",
            node.sandbox.store().to_str().unwrap(),
            "--settings",
            &settings,
        ]);
        watching.until("nothing is owed", || owed(&node) == 0);
        assert!(node.said().contains("settled the debt of container abc123"));
        assert_eq!(watching.end(Signal::SIGTERM), Some(0));
        let left =
            node.sandbox.command(&["list", "-o", "json", "--data-dir", store.to_str().unwrap()]);
        assert_eq!(left.succeeded().stdout.trim(), "[]", "{}", store.display());
    }
}

/// While nothing is owed, no process is started.
#[test]
fn an_install_that_stays_starts_nothing_while_nothing_is_owed() {
    let node = Node::new();
    let settings = install(&node);
    let mut watching = node.watch(&[
        "install",
        "--watch",
        "--data-dir",
        node.sandbox.store().to_str().unwrap(),
        "--settings",
        &settings,
    ]);
    let children = format!("/proc/{0}/task/{0}/children", watching.id());
    let mut looks = 0;
    watching.until("some looks", || {
        looks += 1;
        assert_eq!(std::fs::read_to_string(&children).unwrap(), "");
        looks == 20
    });
}

/// The flat file's store holds nothing. Another store does, and only the debt shows it.
#[test]
fn an_uninstall_waits_for_what_is_owed() {
    let node = Node::new();
    install(&node);
    owe(&node, &node.path("other"));
    let refused = node.run(&["uninstall"]);
    assert!(
        refused.status == Some(1)
            && refused.stderr.contains("this node has 1 debt of a failed DEL"),
        "{refused:?}"
    );
    let mut leaving = node.watch(&["uninstall", "--watch"]);
    leaving.until("it has left", || node.said().contains("done: "));
    assert_eq!((owed(&node), node.files().len()), (0, 0));
}
