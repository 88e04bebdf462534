//! 64 processes at once, ADDs, DELs, GCs and sweeps, nearly all of them killed. After each round,
//! the checker and `verify` compare the store with what was printed. GC then frees everything that
//! leaked, and `sweep` removes everything that is left.
//!
//! A kill counts if it comes between the first write of a process and its exit. The test prints the
//! kills by system call.

/// One process, killed.
mod victim;
/// The callers, and the answers that they got.
mod worker;

use super::strace;
use crate::support::checker::{Found, Printed, check};
use crate::support::sandbox::{Sandbox, configuration};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use victim::{Fate, Place};
use worker::Worker;

const WORKERS: usize = 64;
/// The calls of one worker in one round.
const TURNS: usize = 6;

/// The results of all rounds.
#[derive(Debug, Default)]
struct Tally {
    processes: BTreeMap<&'static str, usize>,
    killed: usize,
    /// The kills that count.
    places: BTreeMap<Place, usize>,
    /// ADDs, by code.
    refused: BTreeMap<u64, usize>,
    /// Records whose result no caller got, before GC.
    leaked: usize,
}

impl Tally {
    fn note(&mut self, verb: &'static str, fate: &Fate) {
        *self.processes.entry(verb).or_default() += 1;
        self.killed += usize::from(fate.killed);
        if let Some(place) = &fate.at {
            *self.places.entry(place.clone()).or_default() += 1;
        }
    }

    fn counted(&self) -> usize {
        self.places.values().sum()
    }

    fn add(&mut self, other: Self) {
        self.killed += other.killed;
        self.leaked += other.leaked;
        merge(&mut self.processes, other.processes);
        merge(&mut self.places, other.places);
        merge(&mut self.refused, other.refused);
    }
}

fn merge<K: Ord>(into: &mut BTreeMap<K, usize>, from: BTreeMap<K, usize>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}

/// Repeats rounds below a directory until this many kills count.
fn storm(directory: &Path, least: usize) -> Tally {
    let sandbox = Sandbox::below(directory);
    std::fs::create_dir(sandbox.path("netns")).unwrap();
    let mut workers: Vec<_> = (0..WORKERS).map(|number| Worker::new(&sandbox, number)).collect();
    let mut tally = Tally::default();
    while tally.counted() < least {
        std::thread::scope(|scope| {
            for worker in &mut workers {
                scope.spawn(|| (0..TURNS).for_each(|_| worker.turn()));
            }
        });
        let before = tally.counted();
        for worker in &mut workers {
            worker.give_up_what_is_open();
            tally.add(std::mem::take(&mut worker.tally));
        }
        assert!(before < tally.counted(), "no kill of this round counts: {tally:?}");
        tally.leaked += check_round(&sandbox, &workers);
    }
    println!("left over at the end, and swept then: {:?}", findings(&sandbox));
    sandbox.command(&["sweep", "--yes"]).succeeded();
    sandbox.command(&["verify"]).succeeded();
    tally
}

/// Checks that every promise is kept while nothing runs, and that a GC frees what leaked. Returns
/// how much leaked.
fn check_round(sandbox: &Sandbox, workers: &[Worker<'_>]) -> usize {
    let printed: Printed = workers.iter().flat_map(|worker| worker.printed.clone()).collect();
    let freed: BTreeSet<&String> = workers.iter().flat_map(|worker| &worker.freed).collect();
    let found = check_store(sandbox, &printed);
    assert!(
        found.leaked.iter().all(|(container, _)| !freed.contains(container)),
        "a DEL succeeded and freed not all: {found:?}"
    );
    let gc = configuration("").replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1);
    sandbox.call("GC").unset("CNI_CONTAINERID").stdin(gc).run().succeeded();
    let rest = check_store(sandbox, &printed);
    assert!(rest.leaked.is_empty(), "GC leaves {rest:?}");
    found.leaked.len()
}

/// Checks with two independent programs.
fn check_store(sandbox: &Sandbox, printed: &Printed) -> Found {
    let found = check(&sandbox.store(), printed);
    let harmless = ["dangling-entry", "dangling-pod-entry", "temporary-file"];
    let worse: Vec<String> = findings(sandbox)
        .into_keys()
        .filter(|problem| !harmless.contains(&problem.as_str()))
        .collect();
    assert!(worse.is_empty(), "verify finds {worse:?}");
    found
}

/// Returns what `verify` finds, by problem.
fn findings(sandbox: &Sandbox) -> BTreeMap<String, usize> {
    let document = sandbox.command(&["verify", "-o", "json"]).document();
    let mut found = BTreeMap::new();
    for finding in document["findings"].as_array().unwrap() {
        *found.entry(finding["problem"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

#[allow(clippy::disallowed_methods, reason = "the time is told, and decides nothing")]
fn play(directory: &Path, least: usize) {
    if let Some(reason) = strace::missing() {
        skipped!("{reason}");
        return;
    }
    if !directory.is_dir() {
        skipped!("no {}", directory.display());
        return;
    }
    let start = Instant::now();
    let tally = storm(directory, least);
    println!("on {}, {} s:", filesystem(directory), start.elapsed().as_secs());
    println!("{} at once, by verb {:?}, {} killed", WORKERS, tally.processes, tally.killed);
    println!(
        "{} killed between first write and exit, of these in a system call or after it:",
        tally.counted()
    );
    let calls: BTreeSet<&String> = tally.places.keys().map(|place| &place.call).collect();
    for call in calls {
        let count = |done| {
            tally.places.get(&Place { call: call.clone(), done }).copied().unwrap_or_default()
        };
        println!("  {call:<10} {:>6} {:>6}", count(false), count(true));
    }
    println!(
        "{} leaked, GC found all of them; ADDs refused by code: {:?}",
        tally.leaked, tally.refused
    );
}

fn filesystem(directory: &Path) -> String {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(directory).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The directory of the build, which is on a disk, wherever the directory for temporary files is.
const DISK: &str = env!("CARGO_TARGET_TMPDIR");
const MEMORY: &str = "/dev/shm";

#[test]
fn a_storm_of_kills_on_a_disk_breaks_no_promise() {
    play(Path::new(DISK), 500);
}

#[test]
fn a_storm_of_kills_in_memory_breaks_no_promise() {
    play(Path::new(MEMORY), 500);
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_a_storm_of_10_000_kills_on_a_disk_breaks_no_promise() {
    play(Path::new(DISK), 10_000);
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_a_storm_of_10_000_kills_in_memory_breaks_no_promise() {
    play(Path::new(MEMORY), 10_000);
}
