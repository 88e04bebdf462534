//! What hereabouts holds in the ranges of Whereabouts when a move starts or goes back.

use super::commands::{is, killed, lacks};
use super::world::World;
use crate::support::nodes::Node;
use serde_json::{Value, json};

const POOL: &str = "moving-10.9.0.0-24";

/// Returns a cluster with one network of Whereabouts, and a node of hereabouts with the same range.
fn world() -> Option<(World, Node)> {
    let world = World::new()?;
    world.network("net", &json!({"range": "10.9.0.0/24", "network_name": "moving"}));
    world.pool(POOL, "10.9.0.0/24", &[]);
    let node = Node::new("n1", "moving", &world.cluster.kubeconfig());
    Some((world, node))
}

fn given(node: &Node, container: &str) -> String {
    node.add(container).addresses().remove(0)
}

#[test]
fn start_shows_whereabouts_what_a_node_gave_before() {
    let Some((world, node)) = world() else { return };
    assert_eq!([given(&node, "a_1"), given(&node, "b_1")], ["10.9.0.1", "10.9.0.2"]);
    assert_eq!(world.entries(POOL), json!({}));
    // Whereabouts does not see b.
    world.pool(POOL, "10.9.0.0/24", &[("2", "theirs")]);
    world.pod("theirs", "n2", "net", "10.9.0.2");
    let ended = world.run(&["move", "start"]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    for words in [
        "1 address cannot be recorded yet",
        "left: 10.9.0.2 is held by pod default/b, container b_1,",
        "and Whereabouts has it for interface net1 of pod default/theirs",
    ] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    is(&world, "shared", 1);
    let shown = |key: &str| {
        let entry = world.entries(POOL)[key].clone();
        (entry["podref"].clone(), entry["ifname"].clone())
    };
    let of = |pod: &str| (json!(format!("default/{pod}")), json!("net1/hereabouts"));
    assert_eq!(shown("1"), of("a"));
    assert_eq!(shown("2"), (json!("default/theirs"), json!("net1")));
    let reservations = "overlappingrangeipreservations.whereabouts.cni.cncf.io";
    assert_eq!(world.names(reservations), ["moving-10.9.0.1"]);

    // The operator ends one of the two, and repeats.
    world.cluster.text(&["delete", "pod", "theirs", "--grace-period=0", "--force"]);
    world.pool(POOL, "10.9.0.0/24", &[("1", "none")]);
    let before: Value = json!([{"op": "remove", "path": "/spec/allocations/1"}]);
    let pool = format!("ippools.whereabouts.cni.cncf.io/{POOL}");
    let words = ["-n", "kube-system", "patch", &pool, "--type=json", "-p", &before.to_string()];
    world.cluster.text(&words);
    let ended = world.run(&["move", "start"]);
    ended.succeeded();
    assert_eq!([shown("1"), shown("2")], [of("a"), of("b")]);
    let said = world.run(&["move", "start"]).succeeded().stdout.clone();
    assert_eq!(said, "", "nothing is left to show");
    // Its DaemonSet looks each minute.
    let words = ["move", "answer", "--executable", "hereabouts"];
    node.sandbox.command(&words).succeeded();
    for container in ["a_1", "b_1"] {
        node.del(container).succeeded();
    }
    assert_eq!(world.entries(POOL), json!({}));
    assert!(world.names(reservations).is_empty());
}

/// A call that read the state before the node did ends without an entry.
#[test]
fn start_waits_for_calls_of_nodes_that_hereabouts_serves_already() {
    let Some((world, _node)) = world() else { return };
    world.daemon("n1");
    killed(&world, &["move", "start"]);
    world.answer("n1", 1, "hereabouts");
    let said = killed(&world, &["move", "start"]);
    assert!(said.contains("for calls that go by the state before"), "{said}");
    assert!(!said.contains("the move has started"), "{said}");
    let said = world.run(&["move", "start", "--wait", "1s"]).succeeded().stderr.clone();
    assert!(said.contains("the move has started"), "{said}");
}

/// Creates the record of a claim.
fn claim(world: &World, address: &str) -> String {
    let name = format!("moving.{address}");
    let claim = json!({
        "apiGroup": "k8s.cni.cncf.io", "kind": "IPAMClaim", "namespace": "vms", "name": "web", "uid": "u-1",
    });
    let object = json!({
        "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPAllocation", "metadata": {"name": name},
        "spec": {
            "format": 2, "address": address, "prefix": 24, "scope": "moving", "source": "dynamic",
            "since": "2026-01-01T00:00:00Z", "claim": claim,
        },
    });
    world.cluster.apply(&object.to_string());
    name
}

/// Whereabouts knows no claims: it would give the address of a virtual machine to a pod.
#[test]
fn an_address_of_a_claim_is_refused_at_the_start_and_on_the_way_back() {
    let Some((world, _node)) = world() else { return };
    let held = claim(&world, "10.9.0.5");
    let words = "10.9.0.5 is held by IPAMClaim vms/web: Whereabouts cannot see it";
    for command in [&["move", "start"][..], &["move", "start", "--dry-run"]] {
        lacks(&world, command, &[words]);
    }
    // A range of which Whereabouts has no pool yet is one of its ranges, too.
    let pool = format!("ippools.whereabouts.cni.cncf.io/{POOL}");
    world.cluster.text(&["-n", "kube-system", "delete", &pool]);
    lacks(&world, &["move", "start"], &[words]);
    assert!(world.names("moves").is_empty());

    // A node has given it since `start` has looked.
    super::set(&world.cluster, 1, "shared");
    let ended = world.run(&["move", "start"]);
    assert!(ended.status == Some(1) && ended.stderr.contains(words), "{ended:?}");
    super::set(&world.cluster, 2, "closing");
    super::set(&world.cluster, 3, "finished");
    let back = ["move", "back", "--wait", "1s"];
    for command in [&[&back[..], &["--dry-run"]].concat()[..], &back] {
        let ended = world.run(command);
        assert!(ended.status == Some(1) && ended.stderr.contains(words), "{ended:?}");
        assert!(ended.stderr.contains("delete the claim"), "{ended:?}");
    }
    is(&world, "opening", 4);
    world.cluster.text(&["delete", "ipa", &held]);
    world.run(&back).succeeded();
    is(&world, "shared", 5);
}
