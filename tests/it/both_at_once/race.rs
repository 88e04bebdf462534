//! Both give and free addresses of one range at the same time, and some of our calls are killed. The
//! history of all answers is replayed: no address has two holders. At the end nothing is left.

use super::rig::{World, call_in};
use crate::support::cached::Draw;
use crate::support::history::{History, What};
use crate::support::nodes::Node;
use crate::support::sandbox::{Call, Ended};
use hereabouts::retry::{Deadline, pause};
use serde_json::json;
use std::time::Duration;

const WORKERS_OF_EACH: usize = 8;
const NODES: usize = 2;
const SCOPE: &str = "race";
/// The second one is part of the first one: its addresses stand in two pools.
const RANGES: [&str; 2] = ["10.9.0.0/26", "10.9.0.32/27"];

/// One of both.
enum Side<'r> {
    Theirs(&'r World),
    Ours(&'r Node),
}

struct Worker<'r> {
    side: Side<'r>,
    number: usize,
    draw: Draw,
    history: &'r History,
}

impl Worker<'_> {
    fn call(&self, verb: &str, container: &str) -> Call {
        let range = [RANGES[self.number % RANGES.len()]];
        match self.side {
            Side::Theirs(world) => world.whereabouts(verb, container, SCOPE, &range),
            Side::Ours(node) => call_in(node, verb, container, &range),
        }
    }

    /// Runs a call. Some of ours are killed.
    fn run(&mut self, call: &Call) -> Option<Ended> {
        if matches!(self.side, Side::Theirs(_)) || self.draw.below(4) != 0 {
            return Some(call.run());
        }
        let mut child = call.start_under(&[]);
        let after = Duration::from_millis(self.draw.below(120) as u64);
        pause(&Deadline::after(after), after);
        let _ = child.kill();
        // What it printed before is not read: nobody has the address.
        let _ = child.wait();
        None
    }

    /// Gives and frees addresses until the time is over. Returns how many were given.
    fn work(mut self, until: &Deadline) -> usize {
        let mut given = 0;
        for round in 0.. {
            if until.left().is_zero() {
                break;
            }
            let side = if matches!(self.side, Side::Ours(_)) { "o" } else { "w" };
            let container = format!("{side}{}-{round}", self.number);
            self.history.note(&container, What::Invoked("ADD"));
            if let Some(ended) = self.run(&self.call("ADD", &container)) {
                let document = ended.document();
                if ended.status == Some(0) {
                    let addresses = ended.addresses();
                    let addresses = addresses.iter().map(|address| address.parse().unwrap());
                    self.history.note(&container, What::Printed(addresses.collect()));
                    given += 1;
                } else {
                    println!("{container}: {document}");
                    self.history.note(&container, What::Failed("ADD", document["code"].as_u64()));
                }
            }
            let while_it_lives = Duration::from_millis(self.draw.below(200) as u64);
            pause(&Deadline::after(while_it_lives), while_it_lives);
            self.history.note(&container, What::Ended);
            let call = self.call("DEL", &container);
            // The runtime repeats a DEL that did not succeed.
            while self.run(&call).is_none_or(|ended| ended.status != Some(0)) {}
            self.history.note(&container, What::Freed);
        }
        given
    }
}

#[test]
fn no_address_is_given_twice_and_nothing_is_left() {
    let world = match World::new() {
        Ok(world) => world,
        Err(reason) => return skipped!("{reason}"),
    };
    let seed = 20_261_130;
    for range in RANGES {
        world.put_pool(SCOPE, range, &json!({}));
    }
    let nodes: Vec<Node> =
        (0..NODES).map(|number| world.plain_node(&format!("race-{number}"), SCOPE)).collect();
    let history = History::default();
    let until = Deadline::after(Duration::from_secs(15));
    let worker = |number: usize, side| Worker {
        side,
        number,
        draw: Draw(seed + number as u64),
        history: &history,
    };
    let (mut ours, mut theirs) = (0, 0);
    std::thread::scope(|scope| {
        let run = |worker: Worker<'_>| worker.work(&until);
        let of_ours: Vec<_> = (0..WORKERS_OF_EACH)
            .map(|number| worker(number, Side::Ours(&nodes[number % NODES])))
            .map(|worker| scope.spawn(move || run(worker)))
            .collect();
        let of_theirs: Vec<_> = (0..WORKERS_OF_EACH)
            .map(|number| worker(number, Side::Theirs(&world)))
            .map(|worker| scope.spawn(move || run(worker)))
            .collect();
        ours = of_ours.into_iter().map(|worker| worker.join().unwrap()).sum();
        theirs = of_theirs.into_iter().map(|worker| worker.join().unwrap()).sum();
    });
    println!("seed {seed}: {ours} addresses of hereabouts, {theirs} of Whereabouts");
    let outcome = history.replay().unwrap_or_else(|broken| panic!("{broken}"));
    assert!(outcome.held.is_empty());
    assert!(WORKERS_OF_EACH < ours && WORKERS_OF_EACH < theirs, "{ours} {theirs}");
    for node in &nodes {
        node.gc_call(&[]).run().succeeded();
    }
    world.assert_nothing(SCOPE, "at the end");
}
