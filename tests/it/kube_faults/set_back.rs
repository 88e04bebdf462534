//! A cluster that was restored to an older state: the next answer shows it, the call leaves a mark,
//! and `sweep` repairs before the hourly `repair`. Nothing else leaves a mark.

use super::rig::{Rig, install, shared};
use crate::support::cluster::{Cluster, Options};
use crate::support::nodes::{Node, holders, own_name};
use crate::support::proxy::{Act, Reply};
use crate::support::sandbox::{Call, Ended};
use std::collections::BTreeMap;

/// Returns a call for a sandbox that lives as long as this test.
fn of_living(node: &Node, verb: &str, container: &str) -> Call {
    let netns = node.sandbox.path(container);
    if !netns.is_symlink() {
        std::os::unix::fs::symlink(format!("/proc/{}/ns/net", std::process::id()), &netns).unwrap();
    }
    node.call(verb, container).set("CNI_NETNS", netns).set("CNI_NETNS_OVERRIDE", "true").clone()
}

fn command(node: &Node, words: &[&str]) -> Ended {
    node.sandbox.command_call(words).set("CNI_NETNS_OVERRIDE", "true").run()
}

fn is_marked(node: &Node) -> bool {
    node.state().join("set-back").exists()
}

fn revision(node: &Node) -> u64 {
    std::fs::read_to_string(node.state().join("revision")).unwrap().trim().parse().unwrap()
}

/// Cause: a node did not notice that etcd was restored, and `repair` came within an hour and a
/// half. Effect: addresses of living pods were free for other pods.
#[test]
fn an_etcd_that_was_set_back_is_noticed_by_the_next_answer_and_repaired_by_sweep() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    install(&cluster);
    let (one, two) = (own_name("n"), own_name("n"));
    let [adding, listing] = [one, two].map(|name| Node::new(&name, &name, &cluster.kubeconfig()));
    for node in [&adding, &listing] {
        of_living(node, "ADD", "kept").run().succeeded();
    }
    cluster.save();
    // One more record each: the restored etcd answers the next creation with the revision that the
    // lost one had.
    for node in [&listing, &adding] {
        of_living(node, "ADD", "lost").run().succeeded();
        assert!(!is_marked(node));
    }
    let noted = revision(&adding);
    cluster.restore();
    of_living(&adding, "ADD", "next").run().succeeded();
    assert!(revision(&adding) <= noted && is_marked(&adding));
    // The address that the cluster had lost went to no pod: the node knows better.
    assert!(!holders(&cluster, &adding.scope).contains_key("10.9.0.2"));
    // A node that only lists: it sees that the cluster is behind, unless others have written since.
    let swept = command(&listing, &["sweep", "--yes"]);
    let said = &swept.succeeded().stderr;
    let back = |node: &Node| {
        holders(&cluster, &node.scope).get("10.9.0.2").map(String::as_str) == Some("lost")
    };
    assert_eq!(said.contains("repaired first"), back(&listing), "{said}");
    let swept = command(&adding, &["sweep", "--yes"]);
    assert!(swept.succeeded().stderr.contains("was restored to an older state"), "{swept:?}");
    assert!(back(&adding) && !is_marked(&adding));
    // Once: the noted revision is now the cluster's.
    of_living(&adding, "ADD", "after").run().succeeded();
    assert!(!is_marked(&adding));
    assert!(command(&adding, &["sweep", "--yes"]).stderr.contains("nothing to sweep"));
}

#[test]
fn a_mark_stays_until_everything_was_tried() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    let node = &rig.node;
    for container in ["lost", "kept"] {
        of_living(node, "ADD", container).run().succeeded();
    }
    cluster.text(&["delete", "ipallocation", &format!("{}.10.9.0.1", node.scope)]);
    std::fs::write(node.state().join("revision"), "1000000000000").unwrap();
    of_living(node, "ADD", "next").run().succeeded();
    assert!(is_marked(node));
    rig.proxy.script(|asked| {
        if asked.method == "POST" { Act::Answer(Reply::status(403)) } else { Act::Pass }
    });
    assert_eq!(command(node, &["repair", "--yes"]).status, Some(1));
    assert!(is_marked(node), "what was lost could not be written");
    rig.proxy.pass();
    assert!(command(node, &["sweep", "--dry-run"]).status == Some(0) && is_marked(node));
    command(node, &["repair", "--yes"]).succeeded();
    assert!(!is_marked(node) && rig.holders().contains_key("10.9.0.1"));
    // An unreadable file raises no alarm, and hides none.
    for garbage in ["", "x", "-1", "99999999999999999999999"] {
        std::fs::write(node.state().join("revision"), garbage).unwrap();
        of_living(node, "ADD", "again").run().succeeded();
        node.del("again").succeeded();
        assert!(!is_marked(node), "{garbage}");
        assert!(0 < revision(node));
    }
}

/// Answers come in any order, and each call notes its own.
#[test]
fn thirty_two_calls_at_once_raise_no_alarm() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    let node = &rig.node;
    for round in 0..4 {
        std::thread::scope(|scope| {
            for n in 0..32 {
                scope.spawn(move || {
                    let container = format!("c{n}");
                    let add =
                        |container: &str| node.call("ADD", container).run().succeeded().addresses();
                    // The second sandbox of a pod: a change.
                    let (first, second) = (format!("{container}_1"), format!("{container}_2"));
                    add(&first);
                    if n % 2 == 0 {
                        add(&second);
                    }
                    if n % 8 == 0 {
                        node.gc_call(&[]).run();
                    }
                    node.del(&first).succeeded();
                    node.del(&second).succeeded();
                });
            }
        });
        assert!(
            !is_marked(node),
            "round {round}: {}",
            std::fs::read_to_string(node.state().join("set-back")).unwrap_or_default()
        );
    }
    assert_eq!(rig.holders(), BTreeMap::new());
}
