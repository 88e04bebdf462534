//! The example: a pool for all nodes, one for a group of nodes, and one for a single node.

use super::{Slices, shared};
use crate::real_parts::examples::configuration;
use crate::support::nodes::own_name;
use serde_json::json;

#[test]
fn the_example_gives_each_node_slices_of_its_pool() {
    let Some(cluster) = shared() else { return };
    let pools = concat!(env!("CARGO_MANIFEST_DIR"), "/conf-examples/sliced-pool.yaml");
    cluster.text(&["apply", "-f", pools]);
    let slices = Slices::of(cluster, own_name("example"));
    let network = configuration("sliced-network.yaml");
    for (name, labels, first, count) in [
        ("all", json!({}), "192.168.", 2),
        ("group", json!({"example.com/group": "workers"}), "10.96.", 2),
        ("single", json!({"kubernetes.io/hostname": "node-3"}), "10.97.0.", 1),
    ] {
        let node = slices.node(name);
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name, "labels": labels}});
        cluster.apply(&object.to_string());
        let mut call = node.call("ADD", "a_0");
        let added = call.stdin(network.clone()).run();
        let addresses = added.addresses();
        assert!(addresses[0].starts_with(first) && addresses.len() == count, "{addresses:?}");
    }
    let owners = cluster.text(&["get", "ipslices.hereabouts.dev", "-o", "wide"]);
    for pool in ["sliced ", "sliced-workers ", "sliced-one-node "] {
        assert!(owners.contains(pool), "{owners}");
    }
}
