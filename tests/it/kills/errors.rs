//! Each system call that touches the store returns an error in turn, with every errno in the
//! kernel's manual. The call then either succeeds completely, or names path and cause and leaves
//! the store as before or as after. A repeat corrects everything.
//!
//! strace produces the errors, and the system call is not made. Lost answers and permanent faults
//! are in `every_step.rs`.

use super::scene::{SCENES, Scene, copy, state};
use super::strace::{self, Point};
use crate::support::checker::check;
use crate::support::sandbox::{Ended, Sandbox};
use std::collections::{BTreeMap, BTreeSet};

/// The errors that a store must expect from each system call. Errors that are not here have other
/// causes. `close` releases a descriptor whatever it returns, which strace cannot imitate.
const ERRORS: &[(&str, &[&str])] = &[
    ("openat", &["EIO", "EACCES", "EMFILE", "EINTR"]),
    ("open", &["EIO", "EACCES", "EMFILE", "EINTR"]),
    ("read", &["EIO", "EINTR"]),
    ("write", &["EIO", "ENOSPC", "EDQUOT", "EINTR"]),
    ("fsync", &["EIO", "ENOSPC", "EDQUOT", "EROFS", "EINTR"]),
    ("linkat", &["EIO", "ENOSPC", "EDQUOT", "EACCES", "EROFS"]),
    ("unlinkat", &["EIO", "ENOSPC", "EDQUOT", "EACCES", "EROFS"]),
    ("renameat", &["EIO", "ENOSPC", "EDQUOT", "EACCES", "EROFS"]),
    ("mkdirat", &["EIO", "ENOSPC", "EDQUOT", "EACCES", "EROFS"]),
    ("mkdir", &["EIO", "ENOSPC", "EDQUOT", "EACCES", "EROFS"]),
    ("fchmod", &["EIO", "ENOSPC", "EDQUOT", "EROFS"]),
    ("newfstatat", &["EIO", "EACCES"]),
    ("statx", &["EIO", "EACCES"]),
    ("fstatfs", &["EIO", "EINTR"]),
    ("getdents64", &["EIO"]),
    ("flock", &["EINTR"]),
];

/// An `openat` that creates a file.
const CREATES: &[&str] = &["EIO", "ENOSPC", "EDQUOT", "EACCES", "EROFS", "EMFILE", "EINTR"];

fn errors(point: &Point) -> &'static [&'static str] {
    if point.line.contains("O_CREAT") {
        return CREATES;
    }
    if point.line.contains("F_DUPFD") {
        return &["EMFILE"];
    }
    ERRORS.iter().find(|(name, _)| *name == point.name).map_or(&[], |(_, errors)| errors)
}

/// The results of the errors of one scene.
#[derive(Debug, Default)]
struct Counts {
    calls: usize,
    succeeded: usize,
    /// By code.
    failed: BTreeMap<u64, usize>,
    orphan: usize,
    /// The states that they left, each once.
    states: usize,
}

fn refuse_every_call(scene: &Scene) -> Counts {
    let template = scene.prepare();
    let traced = copy(&template);
    let points = strace::points(&traced, &scene.call(&traced));
    let store = traced.store();
    let mut counts = Counts::default();
    let mut mended = BTreeSet::new();
    // The flat file names the store, too.
    let is_of_store = |point: &&Point| {
        point.line.contains(store.to_str().unwrap()) && !point.line.contains("flat.conf")
    };
    for point in points.iter().filter(is_of_store) {
        counts.calls += usize::from(!errors(point).is_empty());
        for errno in errors(point) {
            let (sandbox, ended) = strace::until_met(point, || {
                let sandbox = copy(&template);
                let ended = strace::refused_at(&sandbox, &scene.call(&sandbox), point, errno)?;
                Ok((sandbox, ended))
            });
            let shown = format!("{}: {errno} for {}: {ended:?}", scene.name, point.line);
            if ended.status == Some(0) {
                counts.succeeded += 1;
            } else {
                *counts.failed.entry(check_error(&ended, &sandbox, errno, &shown)).or_default() +=
                    1;
            }
            counts.orphan += check_state(scene, &sandbox, &ended, &shown);
            // The same state has the same consequences.
            if mended.insert(state(&sandbox)) {
                scene.repair(&sandbox);
            }
        }
    }
    counts.states = mended.len();
    counts
}

/// Checks that the error names path and cause, without words that runtimes take for success.
fn check_error(ended: &Ended, sandbox: &Sandbox, errno: &str, shown: &str) -> u64 {
    let details = ended.details();
    assert!(details.contains(sandbox.store().to_str().unwrap()), "no path: {shown}");
    assert!(details.contains(&format!("({errno})")), "no cause: {shown}");
    let lower = ended.stdout.to_lowercase();
    assert!(!lower.contains("not found") && !lower.contains("no such file"), "{shown}");
    assert_eq!(ended.code(), 5, "{shown}");
    ended.code()
}

/// Checks that the store is as after the call, or, if the call failed, as before. An ADD has all of
/// its addresses or none. Returns the number of dangling entries.
fn check_state(scene: &Scene, sandbox: &Sandbox, ended: &Ended, shown: &str) -> usize {
    if ended.status == Some(0) {
        let found = check(&sandbox.store(), &scene.promised_after());
        assert!(found.leaked.is_empty(), "{shown}: {found:?}");
        return found.orphan;
    }
    let found = check(&sandbox.store(), &scene.promised());
    assert!(scene.is_expected(&found), "{shown}: {found:?}");
    let of_call = found.leaked.iter().filter(|(container, _)| container == "c").count();
    assert!(
        scene.verb != "ADD" || [0, scene.after.len()].contains(&of_call),
        "half an ADD: {shown}: {found:?}"
    );
    found.orphan
}

fn play(verb: &str) {
    if let Some(reason) = strace::missing() {
        skipped!("{reason}");
        return;
    }
    for scene in SCENES.iter().filter(|scene| scene.verb == verb) {
        let Counts { calls, succeeded, failed, orphan, states } = refuse_every_call(scene);
        let all = succeeded + failed.values().sum::<usize>();
        println!(
            "{}: {calls} calls of the store, {all} errors, {succeeded} succeeded, failed by code: {failed:?}, {orphan} dangling-entrys, {states} states",
            scene.name
        );
        assert!(0 < calls && !failed.is_empty());
    }
}

#[test]
fn an_add_with_an_error_from_any_system_call_is_whole_or_not_done() {
    play("ADD");
}

#[test]
fn a_del_with_an_error_from_any_system_call_is_done_or_says_why_not() {
    play("DEL");
}

#[test]
fn a_gc_with_an_error_from_any_system_call_is_done_or_says_why_not() {
    play("GC");
}
