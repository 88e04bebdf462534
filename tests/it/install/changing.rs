//! `install` over an install of another kind: no store is replaced while its pods live, and nothing
//! is left of the earlier install.

use super::node::Node;
use super::removal::hold;
use crate::support::sandbox::Ended;
use serde_json::json;

fn refused(ended: &Ended, words: &str) {
    assert!(
        ended.status == Some(1) && ended.stderr.contains(" names another store or node"),
        "{ended:?}"
    );
    assert!(ended.stderr.contains(words), "{ended:?}");
}

#[test]
fn another_store_is_refused_while_pods_of_this_node_hold_addresses() {
    let node = Node::new();
    node.install_for_files();
    hold(&node, "ADD");
    let before = std::fs::read(node.flat()).unwrap();
    let (store, elsewhere) = (node.sandbox.store(), node.path("elsewhere"));
    let other = ["install", "--data-dir", elsewhere.to_str().unwrap()];
    for args in [&other[..], &["install"]] {
        refused(
            &node.run(args),
            "hold 1 address; hint: delete those pods first; \"hereabouts list --node n1\" lists them",
        );
        assert_eq!(std::fs::read(node.flat()).unwrap(), before);
        assert!(!node.kubeconfig().exists());
    }
    // Another node of the same store could not free them, either.
    let renamed = ["install", "--node-name", "n2", "--data-dir", store.to_str().unwrap()];
    refused(&node.run(&renamed), "hereabouts list --node n1");
    // If the store stays the same, no store is asked, not even one that cannot answer.
    let format = std::fs::read(store.join("format")).unwrap();
    std::fs::write(store.join("format"), "{").unwrap();
    assert!(
        node.run(&["install", "--data-dir", store.to_str().unwrap()])
            .succeeded()
            .stderr
            .contains("hereabouts is already installed")
    );
    let settings = [
        "install",
        "--data-dir",
        store.to_str().unwrap(),
        "--settings",
        r#"{"log_level":"debug"}"#,
    ];
    assert!(node.run(&settings).succeeded().stderr.contains("wrote "));
    refused(&node.run(&other), "cannot determine whether pods on this node hold addresses: ");
    std::fs::write(store.join("format"), format).unwrap();

    hold(&node, "DEL");
    node.run(&other).succeeded();
    assert!(std::fs::read_to_string(node.flat()).unwrap().contains("/elsewhere"));
}

#[test]
fn force_takes_another_store_and_the_token_goes_with_the_old_one() {
    let node = Node::new();
    node.run(&["install"]).succeeded();
    let store = node.sandbox.store();
    let for_files = ["install", "--data-dir", store.to_str().unwrap()];
    refused(&node.run(&for_files), "cannot determine whether pods on this node hold addresses: ");
    assert_eq!(node.token(), "first");
    let forced = node.run(&[&for_files[..], &["--force"]].concat());
    assert!(
        forced.succeeded().stderr.contains(&format!("removed {}", node.kubeconfig().display())),
        "{forced:?}"
    );
    assert_eq!(node.files(), ["bin/hereabouts", "net.d/hereabouts.d/hereabouts.conf"]);

    // A file that a person wrote stays.
    std::fs::write(node.kubeconfig(), "by hand").unwrap();
    node.run(&for_files).succeeded();
    assert_eq!(std::fs::read_to_string(node.kubeconfig()).unwrap(), "by hand");
}

#[test]
fn another_cluster_has_another_url_and_another_ca() {
    let node = Node::new();
    node.run(&["install"]).succeeded();
    let elsewhere = ["install", "--server=https://192.0.2.1:6443"];
    node.run(&elsewhere).succeeded();
    node.rotate("second");
    node.run(&elsewhere).succeeded();
    node.rotate("third");
    refused(&node.run(&["install"]), "cannot determine whether pods on this node hold addresses");
    assert_eq!(node.token(), "second");
    node.run(&["install", "--force"]).succeeded();
    assert_eq!(node.token(), "third");
}

#[test]
fn two_kubeconfigs_of_one_cluster_name_one_store() {
    let node = Node::new();
    let path = node.path("own.kubeconfig");
    let kubeconfig = json!({"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": true}}],
        "users": [{"name": "u", "user": {"token": "t"}}]});
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    let mut own = node.call(&["install", "--kubeconfig", path.to_str().unwrap()]);
    own.args.retain(|arg| !arg.starts_with("--token-file"));
    own.run().succeeded();
    refused(
        &node.run(&["install", "--server=https://127.0.0.1:2"]),
        "cannot determine whether pods on this node hold addresses",
    );
    node.run(&["install", "--server=https://127.0.0.1:1"]).succeeded();
    assert_eq!(node.token(), "first");
}

#[test]
fn one_that_stays_waits_until_the_store_may_change() {
    let node = Node::new();
    node.install_for_files();
    hold(&node, "ADD");
    let elsewhere = node.path("elsewhere");
    let mut watching =
        node.watch(&["install", "--watch", "--data-dir", elsewhere.to_str().unwrap()]);
    watching.until("the refusal", || {
        std::fs::read_to_string(node.path("said")).unwrap().contains("hold 1 address")
    });
    hold(&node, "DEL");
    watching.until("the other store", || {
        std::fs::read_to_string(node.flat()).unwrap().contains("/elsewhere")
    });
    assert_eq!(watching.said().matches("hold 1 address").count(), 1, "{}", watching.said());
}
