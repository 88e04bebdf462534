//! The words of each command, in tests/data/outputs/move.txt.

use super::commands::world;
use super::the_move;
use crate::support::transcript::Transcript;
use serde_json::json;

#[test]
fn every_step_of_a_move_reads_so() {
    let Some(world) = world() else { return };
    let kubeconfig = world.cluster.kubeconfig().display().to_string();
    let mut seen = Transcript::new(&world.sandbox);
    seen.replace(world.cluster.server(), "https://192.0.2.1:6443");
    seen.replace(world.cluster.directory().display().to_string(), "/cluster");
    let mut run = |words: &[&str]| {
        seen.run(&world.sandbox, &[words, &["--kubeconfig", &kubeconfig]].concat())
    };
    let (start, finish, back) = (["move", "start"], ["move", "finish"], ["move", "back"]);
    let dry = |step: [&'static str; 2]| [step[0], step[1], "--dry-run"];
    run(&["move", "status"]);
    run(&dry(start));
    run(&start);
    run(&start);
    world.answer("n1", 1, "other");
    run(&dry(finish));
    run(&finish);
    // The command would wait, and say for how long.
    let closing =
        json!({"spec": {"state": "closing", "generation": 2, "since": "2026-01-01T00:00:00Z"}});
    let words = ["patch", "move", "whereabouts", "--type=merge", "-p", &closing.to_string()];
    world.cluster.text(&words);
    world.cluster.text(&["delete", "clusterrolebinding", "whereabouts"]);
    run(&dry(back));
    for node in ["n1", "n2"] {
        world.answer(node, 2, "hereabouts");
        world.complete(node);
    }
    run(&dry(finish));
    run(&finish);
    run(&dry(back));
    run(&["export", "whereabouts", "--dry-run"]);
    assert_eq!(the_move(&world.cluster)["spec"]["state"], "finished");
    seen.assert("move");
}
