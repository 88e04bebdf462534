//! From the first command to the last, each repeated.

use super::the_move;
use super::world::{World, entry};
use hereabouts::retry::{Deadline, pause};
use serde_json::{Value, json};
use std::time::Duration;

/// Returns a cluster with two pods of Whereabouts, on two nodes.
pub(super) fn world() -> Option<World> {
    let world = World::new()?;
    world.network("plain", &json!({"range": "10.20.0.0/24"}));
    world.network("blue", &json!({"range": "fd00:20::/64", "network_name": "blue"}));
    world.pool("10.20.0.0-24", "10.20.0.0/24", &[("5", "a"), ("6", "b")]);
    for (pod, node, address) in [("a", "n1", "10.20.0.5"), ("b", "n2", "10.20.0.6")] {
        world.pod(pod, node, "plain", address);
        world.reservation(address, pod);
    }
    Some(world)
}

fn state(world: &World) -> (String, u64) {
    let object = the_move(&world.cluster);
    let spec = &object["spec"];
    (spec["state"].as_str().unwrap().to_owned(), spec["generation"].as_u64().unwrap())
}

pub(super) fn is(world: &World, expected: &str, generation: u64) {
    assert_eq!(state(world), (expected.to_owned(), generation));
}

fn status(world: &World) -> Value {
    world.run(&["move", "status", "-o", "json"]).succeeded().document()
}

/// Runs a command that must say what is missing.
pub(super) fn lacks(world: &World, command: &[&str], words: &[&str]) {
    let ended = world.run(command);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    for words in words {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert_eq!(ended.stderr.matches("missing: ").count(), words.len(), "{}", ended.stderr);
}

pub(super) fn start(world: &World) {
    world.run(&["move", "start"]).succeeded();
    is(world, "shared", 1);
}

/// Runs a command that would wait for minutes, and kills it then. Returns what it has said.
pub(super) fn killed(world: &World, command: &[&str]) -> String {
    let kubeconfig = world.cluster.kubeconfig().display().to_string();
    let words = [command, &["--kubeconfig", &kubeconfig]].concat();
    let mut call = world.sandbox.command_call(&words);
    let ended = call.through(&["timeout", "--signal=KILL", "10"]).run();
    assert!(ended.status != Some(0) && ended.stderr.contains("waiting"), "{ended:?}");
    ended.stderr
}

#[test]
fn start_makes_every_address_visible_to_both() {
    let Some(world) = world() else { return };
    let said = world.run(&["move", "start", "--dry-run"]).succeeded().stderr.clone();
    for words in
        ["would create the IPPool blue-fd00-20---64 for fd00:20::/64", "would record 2 addresses"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(world.names("moves").is_empty() && world.names("ipallocations").is_empty());
    start(&world);
    assert_eq!(
        world.names("ippools.whereabouts.cni.cncf.io"),
        ["10.20.0.0-24", "blue-fd00-20---64"]
    );
    assert_eq!(world.names("ipallocations"), ["10.20.0.5", "10.20.0.6"]);
    assert_eq!(world.entries("10.20.0.0-24"), json!({"5": entry("a"), "6": entry("b")}));
    let said = world.run(&["move", "start"]).succeeded().stderr.clone();
    assert!(said.contains("the move has started"), "{said}");
    is(&world, "shared", 1);
    let status = status(&world);
    let next = "hereabouts move finish; on the way back, hereabouts move back --node NODE";
    assert_eq!((&status["state"], &status["next"]), (&json!("shared"), &json!(next)));
    assert_eq!(status["entries"]["recorded"], 2);
    let nodes: Vec<_> = status["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (&node["name"], &node["records"], &node["notCompleted"]))
        .collect();
    assert_eq!(nodes, [(&json!("n1"), &json!(1), &json!(1)), (&json!("n2"), &json!(1), &json!(1))]);

    // Many addresses are one line.
    world.pool("10.20.0.0-24", "10.20.0.0/24", &[("5", "a"), ("6", "b"), ("7", "c"), ("8", "d")]);
    world.pod("c", "n1", "plain", "10.20.0.7");
    world.pod("d", "n1", "plain", "10.20.0.8");
    let status = world.run(&["move", "status", "-o", "json"]).succeeded().document();
    let missing = status["missing"].as_array().unwrap().iter().map(|one| &one["what"]);
    let of_addresses: Vec<_> =
        missing.filter(|what| what.to_string().contains("not recorded")).collect();
    assert_eq!(of_addresses, [&json!("2 addresses of Whereabouts are not recorded")], "{status}");
    // It is what `finish` does, and nothing that it lacks.
    let said = world.run(&["move", "finish", "--dry-run"]).stderr;
    assert!(said.contains("node n1 has not answered") && !said.contains("not recorded"), "{said}");
}

/// An API server needs a moment to serve a resource that was just applied.
#[test]
fn start_waits_until_its_resources_are_served() {
    let Some(world) = world() else { return };
    let serve = |served: bool| {
        let patch = json!([{"op": "replace", "path": "/spec/versions/0/served", "value": served}]);
        let name = "crd/moves.hereabouts.dev";
        world.cluster.text(&["patch", name, "--type=json", "-p", &patch.to_string()]);
    };
    serve(false);
    let deadline = Deadline::after(Duration::from_secs(60));
    let resources = ["get", "--raw", "/apis/hereabouts.dev/v1alpha1"];
    while world.cluster.text(&resources).contains("\"moves\"") {
        assert!(!deadline.left().is_zero(), "the resource is still served");
        pause(&deadline, Duration::from_millis(100));
    }
    std::thread::scope(|scope| {
        let started = scope.spawn(|| world.run(&["move", "start"]));
        pause(&deadline, Duration::from_secs(4));
        serve(true);
        started.join().unwrap().succeeded();
    });
    is(&world, "shared", 1);
}

/// A node that has not seen the Move gives addresses that Whereabouts has given meanwhile.
#[test]
fn start_waits_for_the_nodes_that_hereabouts_serves_already() {
    let Some(world) = world() else { return };
    world.daemon("n1");
    let waiting = "waiting for the answers of 1 node";
    assert!(killed(&world, &["move", "start"]).contains(waiting));
    is(&world, "shared", 1);
    // The step is done, the waiting is not.
    assert!(killed(&world, &["move", "start"]).contains(waiting));
    // n2 has records too, of pods that Whereabouts has started.
    world.answer("n1", 1, "hereabouts");
    let said = world.run(&["move", "start", "--wait", "0s"]).succeeded().stderr.clone();
    assert!(said.contains("the move has started") && !said.contains(waiting), "{said}");
}

#[test]
fn finish_takes_the_rights_away_and_ends_only_when_nothing_is_missing() {
    let Some(world) = world() else { return };
    let bindings = || world.names("clusterrolebindings").contains(&"whereabouts".to_owned());
    assert!(world.run(&["move", "finish"]).stderr.contains("nothing is moved"));
    start(&world);
    world.answer("n1", 1, "hereabouts");
    let of_two = "node n2 has not answered";
    lacks(&world, &["move", "finish"], &[of_two]);
    world.answer("n2", 1, "other");
    let of_two = "node n2 still has the executable of Whereabouts";
    lacks(&world, &["move", "finish"], &[of_two]);
    let not_completed = "1 record on node n1 is imported and not completed";
    lacks(
        &world,
        &["move", "finish", "--dry-run"],
        &[of_two, not_completed, "on node n2 is imported"],
    );
    is(&world, "shared", 1);
    assert!(bindings());
    world.answer("n2", 1, "hereabouts");

    // Killed while it waits, with the rights taken away.
    let mut call = world.sandbox.command_call(&[
        "move",
        "finish",
        "--kubeconfig",
        world.cluster.kubeconfig().to_str().unwrap(),
    ]);
    call.through(&["timeout", "--signal=KILL", "8"]);
    let ended = call.run();
    assert!(ended.stderr.contains("waiting") && ended.status != Some(0), "{ended:?}");
    is(&world, "closing", 2);
    assert!(!bindings());
    let kept = the_move(&world.cluster)["spec"]["kept"].clone();
    let kept: Value = serde_json::from_str(kept[0].as_str().unwrap()).unwrap();
    assert_eq!(kept["metadata"]["name"], "whereabouts");
    assert_eq!(kept["subjects"][0]["name"], "whereabouts");

    // Somebody creates it again: it is taken away again, and the wait begins again.
    world.cluster.apply(&kept.to_string());
    let ended = call.run();
    assert!(
        ended.stderr.contains("waiting 2m") || ended.stderr.contains("waiting 1m 5"),
        "{ended:?}"
    );
    assert!(!bindings());
    world.let_time_pass();
    world.pod("c", "n2", "plain", "10.20.0.7");
    world.pool(
        "10.20.0.0-24",
        "10.20.0.0/24",
        &[("5", "a"), ("6", "b"), ("7", "c"), ("8", "stranger")],
    );
    world.pod("stranger", "n9", "plain", "10.20.0.8");
    let generations = ["node n1 has answered generation 1, and not 2", "node n2 has answered"];
    let left = "10.20.0.8 is left: ";
    lacks(
        &world,
        &["move", "finish"],
        &[&generations[..], &[not_completed, "2 records on node n2", left]].concat(),
    );
    // A machine may be off for good.
    let said = world.run(&["move", "finish"]).stderr.clone();
    let release = "run \"hereabouts release --node NODE --kubeconfig FILE\"";
    assert_eq!(said.matches(release).count(), 2, "{said}");
    for node in ["n1", "n2"] {
        world.answer(node, 2, "hereabouts");
        world.complete(node);
    }
    world.cluster.text(&["delete", "pod", "stranger", "--force"]);
    // A node of hereabouts has an entry without a record.
    let stray = json!({"id": "no-such-uid", "podref": "default/x", "ifname": "net1/hereabouts"});
    let patch = json!({"spec": {"allocations": {"9": stray}}}).to_string();
    world.cluster.text(&[
        "patch",
        "-n",
        "kube-system",
        "ippools.whereabouts.cni.cncf.io/10.20.0.0-24",
        "--type=merge",
        "-p",
        &patch,
    ]);
    lacks(&world, &["move", "finish"], &["key 9: a node of hereabouts wrote it for pod default/x"]);
    let patch = json!({"spec": {"allocations": {"9": null}}}).to_string();
    world.cluster.text(&[
        "patch",
        "-n",
        "kube-system",
        "ippools.whereabouts.cni.cncf.io/10.20.0.0-24",
        "--type=merge",
        "-p",
        &patch,
    ]);
    let said = world.run(&["move", "finish"]).succeeded().stderr.clone();
    assert!(said.contains("the move is finished"), "{said}");
    is(&world, "finished", 3);
    world.run(&["move", "finish"]).succeeded();
    is(&world, "finished", 3);
    assert_eq!(world.names("ipallocations"), ["10.20.0.5", "10.20.0.6", "10.20.0.7"]);
    assert!(world.run(&["move", "start"]).stderr.contains("the move is finished"));
}
