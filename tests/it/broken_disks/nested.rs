//! No store is created inside another store or node state, or around one. What already exists there
//! stops no verb.

use crate::support::sandbox::{Ended, Sandbox, configuration};
use serde_json::json;
use std::fs;
use std::path::Path;

/// The node's own store with a record in it, next to the node state of the other kind of store.
/// Networks may name any directory of the sandbox.
fn lived_in() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox
        .call("ADD")
        .set("CNI_CONTAINERID", "kept")
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    let state = sandbox.store().join("kubernetes/n1");
    for directory in ["attachments", "pods", "scopes", "@tmp"] {
        fs::create_dir_all(state.join(directory)).unwrap();
    }
    for file in ["calls", "complete"] {
        fs::write(state.join(file), "").unwrap();
    }
    let path = sandbox.path("flat.conf");
    let mut flat: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    flat["allowed_paths"] = json!([sandbox.root, "/var/lib/cni"]);
    sandbox.write("flat.conf", &flat.to_string());
    sandbox
}

const RANGE: &str = r#""range":"10.1.2.0/24""#;

fn call(sandbox: &Sandbox, verb: &str, data_dir: &Path) -> Ended {
    let ipam = format!(r#""datastore":"file",{RANGE},"data_dir":"{}""#, data_dir.display());
    sandbox.call(verb).set("CNI_CONTAINERID", "evil").stdin(configuration(&ipam)).run()
}

/// Cause: any empty directory was accepted for a store. Effect: a network configuration put a store
/// into the node state, and then every verb of the node failed.
#[test]
fn a_store_in_or_around_another_or_node_state_is_refused() {
    let sandbox = lived_in();
    std::os::unix::fs::symlink(sandbox.store(), sandbox.path("link")).unwrap();
    fs::create_dir_all(sandbox.path("around/nodes")).unwrap();
    fs::create_dir_all(sandbox.path("beside/kubernetes/n1/attachments")).unwrap();
    fs::write(sandbox.path("beside/kubernetes/n1/calls"), "").unwrap();
    let inner = call(&sandbox, "ADD", &sandbox.path("around/nodes/inner"));
    inner.succeeded();
    let places = [
        ("store/x", "a data directory of this node"),
        ("store/kubernetes/n1/@tmp", "a data directory of this node"),
        ("store/kubernetes/n1", "is not a hereabouts store"),
        ("store/kubernetes/n2", "a data directory of this node"),
        ("store/scopes/@/deep/er", "a data directory of this node"),
        ("link/kubernetes/n1/@tmp/y", "a data directory of this node"),
        ("around/nodes/inner/scopes/z", "which is a store"),
        ("around", "which is a store"),
        ("beside/kubernetes/n1/attachments/z", "which is a node state"),
        ("beside/kubernetes/n1", "is not a hereabouts store"),
    ];
    for (place, words) in places {
        let path = sandbox.path(place);
        let existed = path.exists();
        let ended = call(&sandbox, "ADD", &path);
        assert_eq!(ended.code(), 7, "{place}: {ended:?}");
        assert!(ended.details().contains(words), "{place}: {ended:?}");
        assert!(existed || !path.exists(), "{place} was made");
        assert!(!path.join("format").exists(), "{place}");
        // The store there holds nothing. Every verb refuses foreign files.
        let freed = call(&sandbox, "DEL", &path);
        assert!(freed.status == Some(0) || existed, "{place}: {freed:?}");
        let made = sandbox.command(&["store", "init", path.to_str().unwrap()]);
        assert!(made.status != Some(0) && !path.join("format").exists(), "{place}: {made:?}");
    }
    for place in
        ["/var/lib/cni/hereabouts/kubernetes/n1/@tmp", "/var/lib/cni/hereabouts/x", "/var/lib/cni"]
    {
        let ended = call(&sandbox, "ADD", Path::new(place));
        assert!(
            ended.code() == 7 && !Path::new(place).join("format").exists(),
            "{place}: {ended:?}"
        );
    }
    // Our own layout: a store next to node state that existed first.
    call(&sandbox, "ADD", &sandbox.path("beside")).succeeded();
    call(&sandbox, "DEL", &sandbox.path("beside")).succeeded();
    // An existing store stays usable, nested or not.
    call(&sandbox, "DEL", &sandbox.path("around/nodes/inner")).succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
}
