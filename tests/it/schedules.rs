//! Every interleaving of two calls: a scheduler drives them through the ports to
//! the disk and the API server, stops them at every step, and runs all schedules
//! with few switches. After each, nobody who was told an address has lost it.

mod behaviors;
mod calls;
mod debts;
mod disk;
mod explore;
mod promise;
mod scheduler;
mod server;
mod world;

use calls::{Call, Kind, Setting, What};
use explore::{Count, Explorer};
use promise::then;
use world::World;

/// Containers, which calls name for good.
const CONTAINERS: &[&str] = &["by", "c1", "c2", "far", "dead-web", "new-web"];

fn known(container: &str) -> &'static str {
    CONTAINERS.iter().find(|known| **known == container).unwrap()
}

/// A bystander and a dead sandbox of the pod `web`.
fn prepared(setting: &Setting) -> World {
    let add = |container| Call::new(What::Add(container, 1));
    then(setting, World::default(), &[add("by"), add("dead-web"), add("far").on("n2")])
}

/// The calls of which every pair is interleaved.
const CALLS: &[Call] = &[
    Call::new(What::Add("c1", 1)),
    Call::new(What::Add("c1", 1)).lost(),
    Call::new(What::Add("c2", 1)),
    Call::new(What::Add("c2", 1)).lost(),
    Call::new(What::Add("new-web", 1)),
    Call::new(What::Add("new-web", 1)).lost(),
    Call::new(What::Del("c1")),
    Call::new(What::Del("dead-web")),
    Call::new(What::Gc),
    Call::new(What::Sweep),
    Call::new(What::Release("c1")),
    Call::new(What::ReleaseNode("n1")).on("n2"),
    Call::new(What::Repair),
];

/// A call that may end so.
fn allowed(_: &[Call], _: &Call, _: &(u64, String)) -> bool {
    false
}

fn pairs(kind: Kind, most: usize) -> Count {
    let setting = Setting::new(kind);
    let empty = prepared(&setting);
    let held = then(&setting, empty.clone(), &[Call::new(What::Add("c1", 1))]);
    let mut all = Count::default();
    let mut faults = Vec::new();
    for world in [&empty, &held] {
        for first in CALLS {
            for second in CALLS {
                let calls = [*first, *second];
                let mut explorer =
                    Explorer { setting: &setting, world, calls: &calls, most, allowed, count: Count::default(), faults: Vec::new() };
                explorer.explore(0);
                all.schedules += explorer.count.schedules;
                all.same += explorer.count.same;
                faults.extend(explorer.faults);
            }
        }
    }
    println!("{kind:?}: {all:?}, {} faults", faults.len());
    for fault in faults.iter().take(20) {
        println!("{fault}\n");
    }
    assert!(faults.is_empty());
    all
}

#[test]
fn every_pair_of_calls_on_local_files() {
    pairs(Kind::Local, 2);
}

#[test]
fn every_pair_of_calls_on_shared_files() {
    pairs(Kind::Shared, 2);
}

#[test]
fn every_pair_of_calls_on_kubernetes() {
    pairs(Kind::Kubernetes, 2);
}
