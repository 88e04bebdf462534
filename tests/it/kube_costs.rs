//! The requests of the Kubernetes store to the API server, as a proxy between them sees them.
//! `scripts/bench --kubernetes` measures times and processor time.

use crate::support::cluster::Cluster;
use crate::support::nodes::{DEADLINES, Node, own_name};
use crate::support::proxy::Proxy;
use std::path::Path;

/// Two nodes that share a scope, the second one behind a proxy. Each has made its first call.
struct Pair {
    other: Node,
    node: Node,
    proxy: Proxy,
}

impl Pair {
    fn new() -> Option<Self> {
        let cluster = match Cluster::shared() {
            Ok(cluster) => cluster,
            Err(reason) => {
                skipped!("{reason}");
                return None;
            }
        };
        crate::kube_faults::install(cluster);
        let scope = own_name("costs");
        let other = Node::new(&format!("{scope}-other"), &scope, &cluster.kubeconfig());
        let node = Node::new(&scope, &scope, Path::new("/"));
        let proxy = Proxy::new(cluster);
        node.configure(&proxy.kubeconfig(&node.sandbox.root), DEADLINES);
        for node in [&other, &node] {
            node.del("nobody").succeeded();
        }
        proxy.seen();
        Some(Self { other, node, proxy })
    }

    /// Returns the methods, and the paths of the LISTs, of an ADD in a range whose lowest address
    /// the other node took first.
    fn second_in(&self, range: &str) -> (Vec<String>, Vec<String>) {
        self.other.call_in("ADD", "first", range).run().succeeded();
        self.node.call_in("ADD", "second", range).run().succeeded();
        let seen = self.proxy.seen();
        let lists =
            seen.iter().filter(|seen| seen.method == "GET").map(|seen| seen.path.clone()).collect();
        for (node, container) in [(&self.other, "first"), (&self.node, "second")] {
            node.call_in("DEL", container, range).run().succeeded();
        }
        (seen.into_iter().map(|seen| seen.method).collect(), lists)
    }
}

#[test]
fn an_add_alone_creates_and_a_del_deletes() {
    let Some(pair) = Pair::new() else { return };
    // The first claim of a node in a scope lists the scope.
    pair.node.add("first").succeeded();
    assert_eq!(pair.proxy.methods(), ["GET", "POST"]);
    pair.node.add("only").succeeded();
    pair.node.del("only").succeeded();
    assert_eq!(pair.proxy.methods(), ["POST", "DELETE"]);
    pair.node.del("first").succeeded();
}

/// A sandbox that is created again: the DEL of the old one comes first.
#[test]
fn a_pod_keeps_its_address_at_no_further_request() {
    let Some(pair) = Pair::new() else { return };
    let call = |verb: &str, pod: &str, container: &str| {
        let mut call = pair.node.call(verb, container);
        call.set(
            "CNI_ARGS",
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_UID=uid-{pod}"
            ),
        );
        call.run().succeeded().clone()
    };
    let mine = call("ADD", "mine", "old").addresses();
    call("ADD", "other", "c1");
    pair.proxy.seen();
    call("DEL", "mine", "old");
    assert_ne!(call("ADD", "next", "c2").addresses(), mine);
    assert_eq!(call("ADD", "mine", "new").addresses(), mine);
    assert_eq!(pair.proxy.methods(), ["DELETE", "POST", "POST"]);
    for (pod, container) in [("mine", "new"), ("other", "c1"), ("next", "c2")] {
        call("DEL", pod, container);
    }
}

#[test]
fn a_miss_in_a_large_range_lists_nothing() {
    let Some(pair) = Pair::new() else { return };
    assert_eq!(pair.second_in("10.64.0.0/16").0, ["POST", "POST"]);
}

#[test]
fn a_small_range_is_looked_at_by_names_without_the_objects() {
    let Some(pair) = Pair::new() else { return };
    let (methods, lists) = pair.second_in("10.9.0.0/24");
    assert_eq!(methods, ["GET", "POST"]);
    assert!(lists[0].contains("includeObject=None"), "{lists:?}");
}

#[test]
fn a_node_that_begins_again_does_not_meet_its_own_addresses() {
    let Some(pair) = Pair::new() else { return };
    let lowest: Vec<_> = ["first", "second"]
        .iter()
        .flat_map(|container| pair.node.add(container).addresses())
        .collect();
    std::fs::remove_dir_all(pair.node.sandbox.store()).unwrap();
    pair.proxy.seen();
    let next = pair.node.add("third").addresses();
    // Its own objects, and the scope.
    assert_eq!(pair.proxy.methods(), ["GET", "GET", "POST"], "{next:?}");
    for container in ["first", "second", "third"] {
        pair.node.del(container).succeeded();
    }
    // It draws no address, as it would after another node was first.
    assert!(
        lowest < next && pair.node.add("fourth").addresses()[0] == lowest[0],
        "{lowest:?} {next:?}"
    );
    pair.node.del("fourth").succeeded();
}

/// Two pods on one node and one pod on another get the first three addresses. Cause: a node that
/// met one taken address continued from an address that it drew.
#[test]
fn pods_started_one_after_another_get_the_lowest_addresses_whatever_their_nodes() {
    let cluster = match Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => {
            return skipped!("{reason}");
        }
    };
    crate::kube_faults::install(cluster);
    let scope = own_name("lowest");
    let proxy = Proxy::new(cluster);
    let nodes: Vec<Node> = (0..20)
        .map(|number| {
            let node = Node::new(&format!("{scope}-{number}"), &scope, Path::new("/"));
            node.configure(&proxy.kubeconfig(&node.sandbox.root), DEADLINES);
            node.del("nobody").succeeded();
            node
        })
        .collect();
    proxy.seen();
    let range = "192.168.20.0/20";
    let lowest = |number: usize| format!("192.168.16.{number}");
    for (number, node) in (1..).zip(&nodes) {
        assert_eq!(
            node.call_in("ADD", "pod", range).run().succeeded().addresses(),
            [lowest(number)]
        );
    }
    let asked = proxy.methods();
    assert!(
        asked.len() <= 2 * nodes.len(),
        "{} requests for {} ADDs: {asked:?}",
        asked.len(),
        nodes.len()
    );
    // A node that is alone sends only the necessary requests, once it has seen that it is alone. On
    // a busy machine it may be time to list again.
    let last = nodes.last().unwrap();
    let seen: Vec<usize> = (0..4)
        .map(|number| {
            let added = last.call_in("ADD", &format!("alone{number}"), range).run();
            assert_eq!(added.succeeded().addresses(), [lowest(nodes.len() + 1 + number)]);
            proxy.methods().len()
        })
        .collect();
    assert!(seen.iter().all(|asked| *asked <= 2) && seen.contains(&1), "{seen:?}");
}
