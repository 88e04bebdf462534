//! The same in the Kubernetes API: the image has the flat file, the kubeconfig and the node state.

use super::{CLONE, ORIGINAL, after, on};
use crate::kube_faults::rig::shared;
use crate::support::living::Living;
use crate::support::nodes::{Node, holders, own_name};
use crate::support::proxy::Proxy;
use crate::support::sandbox::Call;
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn a_clone_frees_nothing_of_the_originals_pods() {
    let Some(cluster) = shared() else { return };
    let Some(living) = Living::new() else { return skipped!("no root") };
    let name = own_name("cloned");
    let mut node = Node::new(&name, &name, &cluster.kubeconfig());
    let add = |node: &Node, container: &str, netns: &str| {
        node.call_in("ADD", container, "10.9.0.0/30").set("CNI_NETNS", netns).clone()
    };
    let file = node.sandbox.write("pod", "");
    let mount = format!("mount --bind {} {}", living.path(), file.display());
    on(&node.sandbox, ORIGINAL, None, after(add(&node, "c1", file.to_str().unwrap()), &mount))
        .run()
        .succeeded();
    on(&node.sandbox, ORIGINAL, None, add(&node, "c2", &living.path())).run().succeeded();
    let held = BTreeMap::from(
        [("10.9.0.1", "c1"), ("10.9.0.2", "c2")]
            .map(|(address, holder)| (address.to_owned(), holder.to_owned())),
    );
    let on_clone = |node: &Node, mut call: Call| {
        call.through(&["unshare", "--pid", "--mount", "--fork", "--mount-proc"]);
        let call = after(call, &format!("mount -t tmpfs t {}", node.sandbox.path("run").display()));
        on(&node.sandbox, CLONE, None, call).run()
    };
    std::fs::create_dir(node.sandbox.path("run")).unwrap();
    for keeps_state in [true, false] {
        if !keeps_state {
            std::fs::remove_dir_all(node.state()).unwrap();
        }
        on_clone(&node, node.gc_call(&[])).succeeded();
        for command in [&["sweep", "--yes"][..], &["repair", "--yes"]] {
            on_clone(&node, node.sandbox.command_call(command)).succeeded();
        }
        // Nothing is free. A pod of the same name is not the next sandbox of a living one.
        assert_eq!(on_clone(&node, add(&node, "c1_2", "/var/run/netns/x")).code(), 100);
        assert_eq!(holders(cluster, &name), held, "{keeps_state}");
    }
    // Under another name, which `install` on the clone has written: its runtime ends what the image
    // had.
    node.name = own_name("another");
    node.configure(&cluster.kubeconfig(), crate::support::nodes::DEADLINES);
    on_clone(&node, node.gc_call(&[])).succeeded();
    on_clone(&node, node.sandbox.command_call(&["sweep", "--yes"])).succeeded();
    let refused = on_clone(&node, node.call("DEL", "c1"));
    assert!(refused.status == Some(0) || refused.code() == 7, "{refused:?}");
    assert_eq!(holders(cluster, &name), held);
}

/// A record that a DEL skips is not owed when the API server is away.
#[test]
fn a_clone_owes_nothing_of_what_the_original_holds() {
    let Some(cluster) = shared() else { return };
    if Living::new().is_none() {
        return skipped!("no root");
    }
    let (name, proxy) = (own_name("cloned"), Proxy::new(cluster));
    let node = Node::new(&name, &name, Path::new("/"));
    node.configure(&proxy.kubeconfig(&node.sandbox.root), crate::support::nodes::DEADLINES);
    let [one, other] =
        ["5b9dd3a4-0a8e-4a35-9b0a-1f4c3c9e7d11", "c0ffee00-17b3-4f0e-8f57-0a5d7a1be0f2"].map(Some);
    on(&node.sandbox, ORIGINAL, one, node.call("ADD", "c1")).run().succeeded();
    // The clone has compared its node state with the cluster.
    on(&node.sandbox, CLONE, other, node.gc_call(&[])).run().succeeded();
    proxy.refuse();
    on(&node.sandbox, CLONE, other, node.call("DEL", "c1")).run().succeeded();
    assert!(!node.sandbox.path("debts").exists());
    proxy.listen();
    on(&node.sandbox, CLONE, other, node.sandbox.command_call(&["sweep", "--debts", "--yes"]))
        .run()
        .succeeded();
    assert_eq!(holders(cluster, &name).len(), 1);
}
