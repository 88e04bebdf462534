//! The way back, from each state.

use super::commands::{is, killed, lacks, start, world};
use super::export::held;
use super::the_move;
use super::world::{World, entry};
use serde_json::json;

const POOL: &str = "10.20.0.0-24";

fn has_rights(world: &World) -> bool {
    world.names("clusterrolebindings").contains(&"whereabouts".to_owned())
}

/// Makes all nodes answer the present state.
fn answer(world: &World) {
    let generation = the_move(&world.cluster)["spec"]["generation"].as_u64().unwrap();
    for node in ["n1", "n2"] {
        world.answer(node, generation, "hereabouts");
    }
}

fn finish(world: &World) {
    start(world);
    answer(world);
    killed(world, &["move", "finish"]);
    world.let_time_pass();
    answer(world);
    for node in ["n1", "n2"] {
        world.complete(node);
    }
    world.run(&["move", "finish"]).succeeded();
    is(world, "finished", 3);
}

#[test]
fn back_while_the_move_is_closing_gives_the_rights_again() {
    let Some(world) = world() else { return };
    assert!(world.run(&["move", "back"]).stderr.contains("nothing is moved"));
    start(&world);
    answer(&world);
    killed(&world, &["move", "finish"]);
    assert!(!has_rights(&world));
    let said = world.run(&["move", "back", "--dry-run"]).succeeded().stderr.clone();
    assert!(said.contains("would create the ClusterRoleBinding whereabouts again"), "{said}");
    is(&world, "closing", 2);
    world.run(&["move", "back"]).succeeded();
    is(&world, "shared", 3);
    assert!(has_rights(&world) && the_move(&world.cluster)["spec"]["kept"].is_null());
}

#[test]
fn back_after_the_end_shows_everything_to_whereabouts_before_it_gets_its_rights() {
    let Some(world) = world() else { return };
    finish(&world);
    // Since then, a pod has ended, and another one has got its address. A third one is new.
    world.cluster.text(&["delete", "pod", "b", "--force"]);
    world.cluster.text(&["delete", "ipa", "10.20.0.6"]);
    held(&world, "10.20.0.6", "later");
    held(&world, "10.20.0.9", "new");
    let said = world.run(&["move", "back", "--dry-run"]).succeeded().stderr.clone();
    for words in ["of pod default/b, which is gone", "would create the ClusterRoleBinding"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    is(&world, "finished", 3);
    killed(&world, &["move", "back"]);
    is(&world, "opening", 4);
    let status = world.run(&["move", "status"]).succeeded().stdout.clone();
    for words in ["state: opening, generation 4", "node n1 does not write for Whereabouts yet"] {
        assert!(status.contains(words), "{words}: {status}");
    }
    answer(&world);
    // All nodes have answered: the calls that go by the state before are waited for.
    killed(&world, &["move", "back"]);
    is(&world, "opening", 4);
    assert!(!has_rights(&world));
    let long_ago =
        json!({"metadata": {"annotations": {"hereabouts.dev/answered": "4 2026-01-01T00:00:00Z"}}});
    let words = ["patch", "move", "whereabouts", "--type=merge", "-p", &long_ago.to_string()];
    world.cluster.text(&words);
    world.run(&["move", "back"]).succeeded();
    is(&world, "shared", 5);
    assert!(has_rights(&world));
    let podref = |key: &str| world.entries(POOL)[key]["podref"].clone();
    assert_eq!(
        ["5", "6", "9"].map(podref),
        ["default/a", "default/later", "default/new"].map(|pod| json!(pod))
    );

    // Node by node.
    let serves = "hereabouts serves node n2";
    lacks(&world, &["move", "back"], &["node n1 has 3 records"]);
    answer_now(&world, "n2");
    lacks(&world, &["move", "back", "--node", "n2"], &[serves]);
    world.answer("n1", 5, "other");
    let said = world.run(&["move", "back", "--node", "n1"]).succeeded().stderr.clone();
    assert!(said.contains("Whereabouts has 3 addresses of node n1 now"), "{said}");
    assert_eq!(world.entries(POOL)["5"], entry("a"));
    assert!(world.names("ipallocations").is_empty());
    world.run(&["move", "back", "--node", "n1"]).succeeded();
    world.run(&["move", "back"]).succeeded();
    is(&world, "ended", 6);
    world.run(&["move", "back"]).succeeded();
    // And again from the beginning.
    world.run(&["move", "start"]).succeeded();
    is(&world, "shared", 7);
}

/// Writes the answer of a node whose DaemonSet runs.
#[allow(clippy::disallowed_methods, reason = "the node uses this clock")]
fn answer_now(world: &World, node: &str) {
    let at = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let answer = json!({"generation": 5, "executable": "hereabouts", "at": at});
    let status = json!({"status": {"nodes": {node: answer}}}).to_string();
    let words = ["patch", "move", "whereabouts", "--subresource=status", "--type=merge", "-p"];
    world.cluster.text(&[&words[..], &[&status]].concat());
}
