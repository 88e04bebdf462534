//! How long an ADD takes while addresses are shown, beside that of Whereabouts, in the same cluster.

use super::rig::World;
use crate::support::nodes::{Node, RANGE};
use crate::support::sandbox::Call;
use hereabouts::retry::{Deadline, Stopwatch, pause};
use serde_json::json;
use std::time::Duration;

const ALONE: usize = 20;
const AT_ONCE: usize = 20;

/// The shortest, the median and the longest of some times.
#[derive(Debug)]
struct Times([Duration; 3]);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self([times[0], times[times.len() / 2], times[times.len() - 1]])
    }
}

fn time(call: &Call) -> Duration {
    let watch = Stopwatch::default();
    let ended = call.run();
    let took = watch.elapsed();
    ended.succeeded();
    took
}

/// Measures ADDs one after the other, and as many at once. Each is freed.
fn measure(call: &(dyn Fn(&str, &str) -> Call + Sync)) -> [Times; 2] {
    let names = |start: &str, count: usize| -> Vec<String> {
        (0..count).map(|number| format!("{start}{number}")).collect()
    };
    let free = |containers: &[String]| {
        for container in containers {
            call("DEL", container).run().succeeded();
        }
    };
    let alone = names("alone", ALONE);
    let times_alone = alone.iter().map(|container| {
        // The API server answers a list of now at its own beat of a tenth of a second.
        let rest = Duration::from_millis(200);
        pause(&Deadline::after(rest), rest);
        time(&call("ADD", container))
    });
    let times_alone = times_alone.collect();
    free(&alone);
    let together = names("together", AT_ONCE);
    let times = std::thread::scope(|scope| {
        let run = |container: &String| {
            let call = call("ADD", container);
            scope.spawn(move || time(&call))
        };
        let running: Vec<_> = together.iter().map(run).collect();
        running.into_iter().map(|running| running.join().unwrap()).collect()
    });
    free(&together);
    [Times::of(times_alone), Times::of(times)]
}

/// With `--nocapture` it prints the times.
#[test]
#[ignore = "scripts/test --long"]
fn long_an_add_is_not_slower_than_that_of_whereabouts() {
    let world = match World::new() {
        Ok(world) => world,
        Err(reason) => return skipped!("{reason}"),
    };
    let scope = "speed";
    world.put_pool(scope, RANGE, &json!({}));
    let node: Node = world.plain_node("speed", scope);
    let ours = measure(&|verb, container| node.call(verb, container));
    let theirs = measure(&|verb, container| world.whereabouts(verb, container, scope, &[RANGE]));
    for (who, [alone, together]) in [("hereabouts", &ours), ("Whereabouts", &theirs)] {
        let [a, b, c] = alone.0;
        println!("{who}, {ALONE} one after the other: {a:.0?}, median {b:.0?}, slowest {c:.0?}");
        let [a, b, c] = together.0;
        println!("{who}, {AT_ONCE} at once: {a:.0?}, median {b:.0?}, slowest {c:.0?}");
    }
    // Each of both lists the pools once as they are now, which takes up to a tenth of a second.
    let beat = Duration::from_millis(50);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!(ours.0[1] <= theirs.0[1] + beat, "{ours:?} {theirs:?}");
    }
    world.assert_nothing(scope, "at the end");
}
