//! Networks with `node_slice_size`: Whereabouts cannot be shown what nodes hold in their slices.

use super::commands::is;
use super::export::held;
use super::world::World;
use crate::support::nodes::Node;
use crate::support::sandbox::configuration;
use serde_json::json;

/// Before, the export created a pool of the whole range without these addresses, and Whereabouts got
/// its rights.
#[test]
fn export_and_back_refuse_what_nodes_hold_in_slices() {
    let Some(world) = World::new() else { return };
    world.network("cut", &json!({"range": "10.40.0.0/24", "node_slice_size": "/28"}));
    let refused = |command: &[&str], words: &str| {
        let ended = world.run(command);
        assert_eq!(ended.status, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    };
    let (export, back) = (["export", "whereabouts"], ["move", "back"]);
    // Imported while Whereabouts had the network.
    held(&world, "10.40.0.9", "z");
    let held = "10.40.0.9 is held, and the network default/cut has node_slice_size";
    refused(&export, held);
    refused(&["export", "whereabouts", "--dry-run"], held);
    world.cluster.text(&["delete", "ipa", "10.40.0.9"]);

    let node = Node::new("n1", "", &world.cluster.kubeconfig());
    let mut call = node.call("ADD", "a_1");
    call.stdin(configuration(r#""range":"10.40.0.0/24","node_slice_size":"/28""#));
    call.run().succeeded();
    refused(&export, "node n1 owns the slice 10.40.0.");
    // The slice stays when the network is cut no more.
    let whole = json!({"range": "10.40.0.0/24"});
    world.network("cut", &whole);
    let owned = "of 10.40.0.0/24, which is in a range of Whereabouts";
    refused(&export, owned);
    refused(&["move", "start"], owned);
    assert!(world.names("moves").is_empty());
    super::set(&world.cluster, 3, "finished");
    refused(&back, owned);
    is(&world, "finished", 3);

    world.network("cut", &json!({"range": "10.40.0.0/24", "node_slice_size": "/28"}));
    world.cluster.text(&["delete", "ipslices.hereabouts.dev", "--all"]);
    world.run(&["export", "whereabouts", "--dry-run"]).succeeded();
    world.run(&export).succeeded();
    assert_eq!(world.names("ippools.whereabouts.cni.cncf.io"), [""; 0]);
}
