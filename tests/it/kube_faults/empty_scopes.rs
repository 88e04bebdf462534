//! What the node state keeps for a scope in which the node holds nothing.

use super::rig::{Rig, shared};
use std::path::PathBuf;

/// Cause: each `network_name` left the node's beliefs about it, and the lock of its list, forever.
/// Effect: they used inodes. Fix: `sweep` removes what belongs to no record.
#[test]
fn sweep_removes_what_is_kept_for_scopes_that_hold_nothing() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    let node = &rig.node;
    // Recently listed scopes are kept for a day, and this order never lists.
    rig.set("allocation_order", "lowest");
    let sweep = || assert_eq!(node.sandbox.command(&["sweep", "--yes"]).status, Some(0));
    let names = |directory: &str| -> Vec<String> {
        let entries = node.state().join(directory).read_dir().unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    node.add("c1").succeeded();
    let [scope] = &names("scopes")[..] else { panic!("{:?}", names("scopes")) };
    let [lock, foreign]: [PathBuf; 2] =
        [format!("listing-{scope}"), "listing-of-nobody".to_owned()]
            .map(|name| node.state().join(name));
    for path in [&lock, &foreign] {
        std::fs::write(path, "").unwrap();
    }
    node.del("c1").succeeded();
    sweep();
    assert!(
        names("scopes").is_empty() && !lock.exists() && foreign.exists(),
        "{:?} {:?}",
        names("scopes"),
        names("")
    );
    // The sandboxes of these tests never existed: only records of living sandboxes are kept.
    let Some(living) = crate::support::living::Living::new() else { return };
    node.call("ADD", "c2").set("CNI_NETNS", living.path()).run().succeeded();
    std::fs::write(&lock, "").unwrap();
    sweep();
    assert!(names("scopes") == [scope.as_str()] && lock.exists());
    node.del("c2").succeeded();
    rig.assert_empty("both are gone");
}
