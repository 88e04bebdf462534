//! The real executable, killed at every system call, with the store on a real API server: every
//! promise is kept. A repeat, a DEL and a GC each correct everything.
//!
//! The server may still carry out what was sent before the process died, and the node's later calls
//! check for it. How often a process reads from the network differs between runs: a call that does
//! not come is skipped and counted.

use super::node_state::seconds_later;
use super::rig::shared;
use crate::kills::strace::{self, Point};
use crate::support::cluster::Cluster;
use crate::support::nodes::{Node, holders, own_name};
use crate::support::sandbox::{Call, Ended};
use hereabouts::retry::{Attempt, Deadline, Pace, until_paced};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One address from each.
const TWO: &str = r#""ipRanges":[{"range":"10.9.0.0/24"},{"range":"10.8.0.0/24"}]"#;

struct Scene {
    name: &'static str,
    before: &'static [&'static str],
    verb: &'static str,
    container: &'static str,
    two: bool,
}

const SCENES: &[Scene] = &[
    Scene { name: "ADD, no state yet", before: &[], verb: "ADD", container: "c", two: false },
    Scene { name: "ADD", before: &["b"], verb: "ADD", container: "c", two: false },
    Scene { name: "ADD of two", before: &["b"], verb: "ADD", container: "c", two: true },
    Scene { name: "repeated ADD", before: &["b", "c"], verb: "ADD", container: "c", two: false },
    Scene {
        name: "re-homing ADD",
        before: &["b", "web_1"],
        verb: "ADD",
        container: "web_2",
        two: false,
    },
    Scene { name: "DEL", before: &["b", "c"], verb: "DEL", container: "c", two: false },
    Scene { name: "DEL of two", before: &["b", "c"], verb: "DEL", container: "c", two: true },
    Scene { name: "GC", before: &["b", "c"], verb: "GC", container: "", two: false },
];

/// The results of the kills of a scene.
#[derive(Default)]
struct Counts {
    kills: AtomicUsize,
    printed: AtomicUsize,
    passed_over: AtomicUsize,
}

impl Scene {
    fn call(&self, node: &Node, verb: &str, container: &str) -> Call {
        if verb == "GC" {
            return node.gc_call(&["b"]);
        }
        let mut call = node.call(verb, container);
        if self.two {
            let stdin = String::from_utf8(call.stdin.clone()).unwrap();
            call.stdin(stdin.replace(r#""range":"10.9.0.0/24""#, TWO));
        }
        call
    }

    fn prepare(&self, cluster: &Cluster) -> Node {
        let name = own_name("kill");
        let node = Node::new(&name, &name, &cluster.kubeconfig());
        for container in self.before {
            self.call(&node, "ADD", container).run().succeeded();
        }
        node
    }

    fn the_call(&self, node: &Node) -> Call {
        self.call(node, self.verb, self.container)
    }

    /// Kills at one point, and corrects everything in one of three ways.
    fn kill_at(&self, cluster: &Cluster, point: &Point, way: usize, counts: &Counts) {
        let node = self.prepare(cluster);
        let Some(ended) = strace::perhaps_killed_at(&node.sandbox, &self.the_call(&node), point)
        else {
            counts.passed_over.fetch_add(1, Ordering::Relaxed);
            return;
        };
        counts.kills.fetch_add(1, Ordering::Relaxed);
        let when = format!("{}, killed at {}", self.name, point.line);
        if self.verb == "ADD" && ended.stdout.contains(r#""ips""#) {
            counts.printed.fetch_add(1, Ordering::Relaxed);
            self.assert_holds(&holders(cluster, &node.scope), &ended, &when);
        }
        match way % 3 {
            0 => {
                let again = self.the_call(&node).run();
                again.succeeded();
                if self.verb == "ADD" {
                    self.assert_holds(&holders(cluster, &node.scope), &again, &when);
                }
                self.delete(&node);
            }
            1 => self.delete(&node),
            _ => drop(self.call(&node, "GC", "").run().succeeded()),
        }
        // A request that was on its way arrives when the server has time for it.
        let kept = if self.before.contains(&"b") { 1 + usize::from(self.two) } else { 0 };
        let settled: Result<_, ()> =
            until_paced(&Deadline::after(Duration::from_secs(20)), Pace::SERVER, || {
                seconds_later(&node, 6);
                node.del("nobody").succeeded();
                let held = holders(cluster, &node.scope);
                let right = held.len() == kept && held.values().all(|container| container == "b");
                Ok(if right { Attempt::Done(()) } else { Attempt::Again(Duration::ZERO) })
            });
        assert_eq!(settled, Ok(Some(())), "{when}, way {way}: {:?}", holders(cluster, &node.scope));
        node.gc_call(&[]).run().succeeded();
    }

    fn delete(&self, node: &Node) {
        for container in ["c", "web_1", "web_2"] {
            self.call(node, "DEL", container).run().succeeded();
        }
    }

    fn assert_holds(&self, held: &BTreeMap<String, String>, ended: &Ended, when: &str) {
        let given = Ended { status: Some(0), ..ended.clone() }.addresses();
        assert_eq!(given.len(), 1 + usize::from(self.two), "{when}");
        for address in given {
            assert_eq!(
                held.get(&address).map(String::as_str),
                Some(self.container),
                "{when}: {held:?}"
            );
        }
    }

    /// Runs four at once, because they mostly wait.
    fn play(&self, cluster: &Cluster) {
        let traced = self.prepare(cluster);
        let points = strace::points(&traced.sandbox, &self.the_call(&traced));
        traced.gc_call(&[]).run().succeeded();
        // Earlier system calls are the start of any process.
        let begins = |point: &Point| point.line.contains("flat.conf");
        let first = points.iter().position(begins).unwrap_or_else(|| panic!("{points:?}"));
        let (counts, next) = (Counts::default(), AtomicUsize::new(first));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(point) = points.get(at) else { return };
                        self.kill_at(cluster, point, at, &counts);
                    }
                });
            }
        });
        let [kills, printed, passed_over] =
            [counts.kills, counts.printed, counts.passed_over].map(AtomicUsize::into_inner);
        println!(
            "{}: {kills} kills, {printed} after printing, {passed_over} calls that did not come again",
            self.name
        );
        assert!(30 < kills && passed_over * 5 < kills);
    }
}

fn play(meant: impl Fn(&Scene) -> bool) {
    if let Some(reason) = strace::missing() {
        return skipped!("{reason}");
    }
    let Some(cluster) = shared() else { return };
    SCENES.iter().filter(|scene| meant(scene)).for_each(|scene| scene.play(cluster));
}

#[test]
fn an_add_and_a_del_killed_at_any_system_call_break_no_promise() {
    play(|scene| ["ADD", "DEL"].contains(&scene.name));
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_every_call_killed_at_any_system_call_breaks_no_promise() {
    play(|_| true);
}
