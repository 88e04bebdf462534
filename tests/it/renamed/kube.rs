//! The same in the Kubernetes API.

use crate::kube_faults::rig::shared;
use crate::support::nodes::{DEADLINES, Node, holders, own_name};
use crate::support::sandbox::Call;
use std::collections::BTreeMap;

#[test]
fn a_del_under_a_changed_name_is_refused_names_both_and_frees_nothing() {
    let Some(cluster) = shared() else { return };
    let before = own_name("before");
    let mut node = Node::new(&before, &before, &cluster.kubeconfig());
    node.add("c1").succeeded();
    node.name = own_name("after");
    node.configure(&cluster.kubeconfig(), DEADLINES);
    let refused = node.del("c1");
    assert_eq!(refused.code(), 7, "{refused:?}");
    for words in [&before, &node.name, &format!("hereabouts release --node {before}")] {
        assert!(refused.details().contains(words), "{words}: {refused:?}");
    }
    for words in ["not found", "no such file"] {
        assert!(!refused.stdout.contains(words), "{refused:?}");
    }
    let held = BTreeMap::from([("10.9.0.1".to_owned(), "c1".to_owned())]);
    assert_eq!(holders(cluster, &node.scope), held);
    node.del("never-added").succeeded();
    node.gc_call(&[]).run().succeeded();
    assert_eq!(holders(cluster, &node.scope), held, "nor does GC");
    // Records under the new name belong to it.
    node.add("c2").succeeded();
    node.del("c2").succeeded();
    // The command that the error names, with the rights that it needs.
    let kubeconfig = cluster.kubeconfig();
    let release =
        ["release", "--node", &before, "--yes", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let mut call = Call::bare();
    call.args = release.map(str::to_owned).to_vec();
    call.run().succeeded();
    node.del("c1").succeeded();
    assert_eq!(holders(cluster, &node.scope), BTreeMap::new());
}

/// The other way out: the earlier name again.
#[test]
fn with_its_name_back_the_del_frees() {
    let Some(cluster) = shared() else { return };
    let before = own_name("before");
    let mut node = Node::new(&before, &before, &cluster.kubeconfig());
    node.add("c1").succeeded();
    for (name, code) in [(own_name("after"), 7), (before, 0)] {
        node.name = name;
        node.configure(&cluster.kubeconfig(), DEADLINES);
        // Also if the state of the earlier name was invalidated.
        let _ = std::fs::remove_file(
            node.sandbox.store().join("kubernetes").join(&node.scope).join("complete"),
        );
        let ended = node.del("c1");
        assert_eq!(if ended.status == Some(0) { 0 } else { ended.code() }, code, "{ended:?}");
    }
    assert_eq!(holders(cluster, &node.scope), BTreeMap::new());
}

/// The flat file is missing for a while, and the network names the store.
#[test]
fn the_kubernetes_store_takes_no_hosts_name() {
    let Some(cluster) = shared() else { return };
    let name = own_name("named");
    let node = Node::new(&name, &name, &cluster.kubeconfig());
    node.add("c1").succeeded();
    let flat = std::fs::read_to_string(node.sandbox.path("flat.conf")).unwrap();
    let mut unnamed: serde_json::Value = serde_json::from_str(&flat).unwrap();
    unnamed.as_object_mut().unwrap().remove("node_name");
    node.sandbox.write("flat.conf", &unnamed.to_string());
    for verb in ["DEL", "ADD"] {
        let refused = node.call(verb, "c1").run();
        assert_eq!(refused.code(), 7, "{refused:?}");
        for words in ["node_name", "NODENAME", "nodename", "Node object"] {
            assert!(refused.details().contains(words), "{words}: {refused:?}");
        }
    }
    assert_eq!(holders(cluster, &node.scope).len(), 1);
    let swept = node.sandbox.command(&["sweep", "--yes"]);
    assert!(swept.status == Some(1) && swept.stderr.contains("node_name"), "{swept:?}");
    assert_eq!(node.call("ADD", "c1").set("NODENAME", &name).run().addresses(), ["10.9.0.1"]);
    node.sandbox.write("nodename", &format!("{name}\n"));
    node.del("c1").succeeded();
    assert_eq!(holders(cluster, &node.scope), BTreeMap::new());
}
