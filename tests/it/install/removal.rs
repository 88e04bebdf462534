//! `uninstall`: what it removes, and when it removes nothing.

use super::node::Node;
use crate::support::sandbox::configuration;
use nix::sys::signal::Signal;

pub(super) fn hold(node: &Node, verb: &str) {
    let mut call = node.sandbox.call(verb);
    call.set("HEREABOUTS_CONFIG", node.flat())
        .stdin(configuration(r#""range":"10.1.2.0/24""#))
        .run()
        .succeeded();
}

#[test]
fn what_install_wrote_is_removed_and_nothing_else() {
    let node = Node::new();
    node.run(&["install", "--whereabouts"]).succeeded();
    std::fs::write(node.path("bin/macvlan"), "a plugin").unwrap();
    let checked = node.run(&["uninstall", "--check"]);
    assert!(
        checked.status == Some(1) && checked.stderr.contains("still installed: "),
        "{checked:?}"
    );
    let removed = node.run(&["uninstall", "--force"]);
    assert_eq!(removed.succeeded().stderr.lines().count(), 6, "{removed:?}");
    // The kubeconfig leads nowhere.
    assert!(removed.stderr.contains("warning: cannot give back the slices"), "{removed:?}");
    assert_eq!(node.files(), ["bin/macvlan"]);
    assert!(!node.flat().parent().unwrap().exists());
    let again = node.run(&["uninstall"]);
    assert_eq!(again.succeeded().stderr.trim(), "hereabouts is not installed here");
    node.run(&["uninstall", "--check"]).succeeded();
}

#[test]
fn files_of_somebody_elses_stay() {
    let node = Node::new();
    node.install_for_files();
    std::fs::write(node.path("bin/whereabouts"), "the other one").unwrap();
    std::fs::write(node.path("net.d/hereabouts.d/nodename"), "n1").unwrap();
    std::fs::write(node.kubeconfig(), "by hand").unwrap();
    let removed = node.run(&["uninstall"]);
    assert_eq!(
        removed.succeeded().stderr.matches("hereabouts install did not write it").count(),
        2,
        "{removed:?}"
    );
    assert_eq!(
        node.files(),
        [
            "bin/whereabouts",
            "net.d/hereabouts.d/hereabouts.kubeconfig",
            "net.d/hereabouts.d/nodename"
        ]
    );
}

#[test]
fn it_is_refused_while_this_node_holds_addresses() {
    let node = Node::new();
    node.install_for_files();
    hold(&node, "ADD");
    let files = node.files();
    let refused = node.run(&["uninstall"]);
    assert!(refused.status == Some(1) && refused.stderr.contains("hold 1 address"), "{refused:?}");
    assert!(refused.stderr.contains("hereabouts list --node n1"), "{refused:?}");
    assert_eq!(node.files(), files);
    hold(&node, "DEL");
    node.run(&["uninstall"]).succeeded();
    assert!(node.files().is_empty(), "{:?}", node.files());
}

/// Whatever the name of the node that removes is.
#[test]
fn the_flat_file_says_whose_addresses_are_asked_for() {
    let node = Node::new();
    node.install_for_files();
    hold(&node, "ADD");
    let refused = node.call(&["uninstall"]).set("NODENAME", "another").run();
    assert!(
        refused.status == Some(1) && refused.stderr.contains("hereabouts list --node n1"),
        "{refused:?}"
    );
    assert_eq!(node.files().len(), 2);
}

#[test]
fn where_nothing_names_the_store_nobody_can_tell() {
    let node = Node::new();
    node.install_for_files();
    hold(&node, "ADD");
    std::fs::remove_file(node.flat()).unwrap();
    let refused = node.run(&["uninstall"]);
    assert!(
        refused.status == Some(1)
            && refused
                .stderr
                .contains("no store is configured, because the flat file is missing: "),
        "{refused:?}"
    );
    assert_eq!(node.files(), ["bin/hereabouts"]);
    node.run(&["uninstall", "--force"]).succeeded();
    assert!(node.files().is_empty(), "{:?}", node.files());
}

#[test]
fn what_another_node_holds_keeps_nothing_here() {
    let node = Node::new();
    node.install_for_files();
    let mut other = node.sandbox.call("ADD");
    node.sandbox.write("n2.conf", &node.sandbox.flat("n2"));
    other
        .set("HEREABOUTS_CONFIG", node.path("n2.conf"))
        .stdin(configuration(r#""range":"10.1.2.0/24""#))
        .run()
        .succeeded();
    node.run(&["uninstall"]).succeeded();
}

#[test]
fn a_store_that_cannot_be_asked_is_no_store_that_holds_nothing() {
    let node = Node::new();
    node.install_for_files();
    hold(&node, "ADD");
    std::fs::write(node.sandbox.store().join("format"), "{").unwrap();
    let refused = node.run(&["uninstall"]);
    assert!(
        refused.status == Some(1)
            && refused.stderr.contains("cannot determine whether pods on this node hold addresses"),
        "{refused:?}"
    );
    assert_eq!(node.files().len(), 2);
    node.run(&["uninstall", "--force"]).succeeded();
    assert!(node.files().is_empty(), "{:?}", node.files());
}

/// As for a process that may not read there.
#[test]
fn a_place_that_cannot_be_looked_at_is_no_place_where_nothing_is() {
    let node = Node::new();
    node.install_for_files();
    let (place, aside) = (node.path("net.d"), node.path("aside"));
    std::fs::rename(&place, &aside).unwrap();
    std::os::unix::fs::symlink(&place, &place).unwrap();
    for args in [&["uninstall"][..], &["uninstall", "--force"], &["uninstall", "--check"]] {
        let ended = node.run(args);
        assert!(
            ended.status == Some(1) && ended.stderr.contains("cannot look at "),
            "{args:?} {ended:?}"
        );
    }
    assert!(node.path("bin/hereabouts").exists());
}

#[test]
fn it_is_refused_while_an_install_would_put_everything_back() {
    let node = Node::new();
    let mut watching = node.watch(&["install", "--watch"]);
    watching.until("all files", || node.files().len() == 3);
    let refused = node.run(&["uninstall", "--force"]);
    assert!(
        refused.status == Some(1) && refused.stderr.contains("is running on this node"),
        "{refused:?}"
    );
    assert_eq!(node.files().len(), 3);
    assert_eq!(watching.end(Signal::SIGTERM), Some(0));
    node.run(&["uninstall", "--force"]).succeeded();
}

#[test]
fn one_that_stays_serves_the_pods_to_the_end_and_then_removes() {
    let node = Node::new();
    node.install_for_files();
    hold(&node, "ADD");
    // As if it were for the API: a kubeconfig whose token must be renewed.
    std::fs::write(
        node.kubeconfig(),
        "# Written by hereabouts install, anew when token or CA change.\ntoken: \"old\"\n",
    )
    .unwrap();
    let mut watching = node.watch(&["uninstall", "--watch"]);
    watching.until("the pod's token", || node.token() == "first");
    node.rotate("second");
    watching.until("another token", || node.token() == "second");
    assert!(node.path("bin/hereabouts").exists());
    let checked = node.run(&["uninstall", "--check"]);
    assert_eq!(checked.status, Some(1), "{checked:?}");

    hold(&node, "DEL");
    watching.until("the removal", || node.files().is_empty());
    node.run(&["uninstall", "--check"]).succeeded();
    node.rotate("third");
    watching.until("its last word", || node.said().contains("no longer needs the DaemonSet"));
    assert!(node.files().is_empty(), "{:?}", node.files());
    assert_eq!(watching.end(Signal::SIGTERM), Some(0));
}

/// Cause: uninstall ended with the last record, but the kubelet's garbage collection repeats the
/// DELs of a sandbox one to two minutes later. Without a plugin to answer them, it never completed.
#[test]
fn one_that_stays_answers_dels_for_some_time_after_the_last() {
    let node = Node::new();
    node.install_for_files();
    hold(&node, "ADD");
    let mut watching = node.watch(&["uninstall", "--watch", "--idle=5s"]);
    watching.until("its refusal", || node.said().contains("pods on this node hold 1"));
    hold(&node, "DEL");
    watching.until("its word", || {
        node.said().contains("no addresses are held any more; the plugin stays 5s longer")
    });
    assert!(node.path("bin/hereabouts").exists() && node.flat().exists());
    // An address that is held in between starts the time again.
    hold(&node, "ADD");
    watching.until("its second refusal", || {
        node.said().matches("pods on this node hold 1").count() == 2
    });
    hold(&node, "DEL");
    watching.until("the removal", || node.files().is_empty());
    assert_eq!(node.said().matches("the plugin stays 5s longer").count(), 2, "{}", node.said());
    assert_eq!(watching.end(Signal::SIGTERM), Some(0));
}
