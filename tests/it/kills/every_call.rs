//! Killed at each system call in turn: the store then keeps every promise, a repeat corrects
//! everything, and GC finds what was lost.

use super::scene::{SCENES, Scene, State, copy, printed, state};
use super::strace;
use crate::support::checker::{Found, check};
use std::collections::BTreeMap;

/// What the kills of one scene left.
#[derive(Debug, Default)]
struct Counts {
    kills: usize,
    /// The states that they left, each once.
    states: usize,
    printed: usize,
    leaks: usize,
    orphan: usize,
    /// Repeats that did not get the dead sandbox's address.
    behind: usize,
}

fn kill_at_every_call(scene: &Scene) -> Counts {
    let template = scene.prepare();
    let traced = copy(&template);
    let points = strace::points(&traced, &scene.call(&traced));
    let mut counts = Counts::default();
    // The same state has the same consequences: most kills come before anything is written, or when
    // nothing was written since the previous one.
    let mut behind: BTreeMap<State, bool> = BTreeMap::new();
    for point in &points {
        let (sandbox, ended) = strace::until_met(point, || {
            let sandbox = copy(&template);
            let ended = strace::killed_at(&sandbox, &scene.call(&sandbox), point)?;
            Ok((sandbox, ended))
        });
        let mut promised = scene.promised();
        if let Some(addresses) = printed(&ended) {
            counts.printed += 1;
            promised.insert("c".to_owned(), addresses);
        }
        let found = check(&sandbox.store(), &promised);
        assert!(scene.is_expected(&found), "{}, killed at {}: {found:?}", scene.name, point.line);
        counts.kills += 1;
        counts.leaks += leaks(scene, &found);
        counts.orphan += found.orphan;
        counts.behind += usize::from(*behind.entry(state(&sandbox)).or_insert_with(|| {
            // From the same state in two ways: by GC, and by the repeat.
            scene.collect(&copy(&sandbox));
            scene.repair(&sandbox)
        }));
    }
    counts.states = behind.len();
    counts
}

/// Returns the records of an ADD whose result no caller got. What a DEL or a GC has not freed yet
/// does not count.
fn leaks(scene: &Scene, found: &Found) -> usize {
    found.leaked.iter().filter(|(container, _)| scene.verb == "ADD" && container == "c").count()
}

fn play(verb: &str) {
    if let Some(reason) = strace::missing() {
        skipped!("{reason}");
        return;
    }
    for scene in SCENES.iter().filter(|scene| scene.verb == verb) {
        let Counts { kills, states, printed, leaks, orphan, behind } = kill_at_every_call(scene);
        println!(
            "{}: {kills} kills, {states} states, {printed} after printing, {leaks} left a leak that GC found, {orphan} a dangling-entry",
            scene.name
        );
        if 0 < behind {
            println!(
                "{}: {behind} repeats did not get all addresses of the dead sandbox",
                scene.name
            );
        }
        assert!(50 < kills && behind * 20 < kills);
    }
}

#[test]
fn an_add_killed_at_any_system_call_breaks_no_promise() {
    play("ADD");
}

#[test]
fn a_del_killed_at_any_system_call_breaks_no_promise() {
    play("DEL");
}

#[test]
fn a_gc_killed_at_any_system_call_breaks_no_promise() {
    play("GC");
}
