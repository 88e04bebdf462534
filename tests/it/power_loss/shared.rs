//! Power loss on a filesystem that machines share and that ignores the flush of a directory: see
//! `docs/store.md`, "What is assumed of the filesystem". The same calls and the same checks; and
//! the proof that each flush of a file, which makes a name durable there, is needed.

use super::world::{World, prepared_shared};
use super::{Effort, calls, power_fails_during};
use crate::conformance::host;
use crate::support::cached::{CachedDisk, Image, Skip};
use crate::support::calls::{CALLS, Call};
use hereabouts::retry::Deadline;
use hereabouts::store::disk::Disk;
use hereabouts::store::file::FileStore;
use hereabouts::store::file::upkeep::finding::{FileFinding, Problem};
use std::path::Path;
use std::time::Duration;

fn empty() -> World {
    World { shared: true, ..World::new() }
}

#[test]
fn power_lost_below_a_shared_filesystem_after_any_step_of_any_call() {
    let effort = Effort { most: 400, later_every: 5 };
    for call in [Call::Add("c1", 1), Call::Add("c2", 2)] {
        let checked = power_fails_during(&empty(), call, &[], None, &effort).unwrap();
        println!("first, {call:?}: {checked} states");
    }
    for call in calls() {
        let checked = power_fails_during(&prepared_shared(), call, &[], None, &effort).unwrap();
        println!("{call:?}: {checked} states");
    }
}

#[test]
fn power_lost_below_a_shared_filesystem_after_a_call_that_follows_one_killed_at_any_step() {
    let effort = Effort { most: 12, later_every: 20 };
    let mut checked = 0;
    for world in [empty(), prepared_shared()] {
        for first in [Call::Add("c1", 1), Call::Add("new-web", 1), Call::Del("two"), Call::Gc] {
            for killed in world.killed(first) {
                for second in CALLS.iter().copied().chain([Call::Del("c1")]) {
                    checked +=
                        power_fails_during(&killed, second, &[first], None, &effort).unwrap();
                }
            }
        }
    }
    println!("{checked} states");
}

fn is_entry(path: &Path) -> bool {
    path.starts_with("nodes/n1/net1") && path.components().count() == 4
}
/// Also those by pod: `drop_dangling` flushes what the dead sandbox left there.
fn is_index(path: &Path) -> bool {
    path.starts_with("nodes/n1") && 4 <= path.components().count() && !is_temporary(path)
}
fn is_record(path: &Path) -> bool {
    path.starts_with("scopes") && path.components().count() == 4
}
fn is_temporary(path: &Path) -> bool {
    path.starts_with("nodes/n1/@tmp") && path.components().count() == 4
}

/// Flushed when it is created, and by the first call that creates a directory next to it, because
/// its creator may have been killed.
fn is_small_file(path: &Path) -> bool {
    is_temporary(path) || path.ends_with("format") || path.ends_with("@machine-id")
}

/// Each flush that makes a name durable, and the calls that are unsafe without it.
const SYNCS: &[(&str, Skip, &[Call])] = &[
    ("the record, when its name was made", is_entry, &[Call::Add("c1", 1), Call::Add("c2", 2)]),
    (
        "the record, when the name of a dead one was given to it",
        is_index,
        &[Call::Add("new-web", 1)],
    ),
    (
        "the record, when its name was removed",
        is_entry,
        &[Call::Del("by"), Call::Del("two"), Call::Gc],
    ),
];

#[test]
fn the_model_of_a_shared_filesystem_finds_the_bug_when_any_one_sync_is_taken_out() {
    let effort = Effort { most: 400, later_every: 1 };
    for (what, skip, calls) in SYNCS {
        for call in *calls {
            let found = power_fails_during(&prepared_shared(), *call, &[], Some(*skip), &effort);
            println!("without {what}: {found:?}");
            assert!(found.is_err(), "{what} {call:?}");
        }
    }
    let found = power_fails_during(&empty(), Call::Add("c1", 1), &[], Some(is_small_file), &effort);
    println!("without format and machine id: {found:?}");
    assert!(found.is_err());
}

/// What a killed ADD left visible and not durable.
#[test]
fn the_model_of_a_shared_filesystem_finds_the_bug_when_a_repeated_add_does_not_sync() {
    let effort = Effort { most: 400, later_every: 1 };
    let call = Call::Add("c1", 1);
    let found = prepared_shared().killed(call).iter().find_map(|killed| {
        power_fails_during(killed, call, &[call], Some(is_record), &effort).err()
    });
    println!("{found:?}");
    assert!(found.is_some());
}

/// A DEL was killed between the name and the entry. The next call of the attachment removes the
/// entry, and the name must not come back.
#[test]
fn the_model_of_a_shared_filesystem_finds_the_bug_when_a_dangling_entry_goes_unsynced() {
    let effort = Effort { most: 400, later_every: 1 };
    let call = Call::Del("by");
    let found = prepared_shared().killed(call).iter().find_map(|killed| {
        power_fails_during(killed, call, &[call], Some(is_entry), &effort).err()
    });
    println!("{found:?}");
    assert!(found.is_some());
}

type Damage = fn(&CachedDisk);

/// Damages that `repair` repairs with a new name, and unreadable records that `release` frees.
const DAMAGES: &[(&str, Problem, Damage)] = &[
    ("a lost entry", Problem::Unindexed, |disk| {
        disk.unlink(Path::new("nodes/n1/net1/by@eth0.0")).unwrap()
    }),
    ("a copy", Problem::Split, |disk| {
        let path = Path::new("nodes/n1/net1/by@eth0.0");
        let bytes = disk.read(path).unwrap().bytes;
        disk.unlink(path).unwrap();
        disk.create(path, &bytes).unwrap();
    }),
    ("a damaged record without an entry", Problem::Damaged, |disk| {
        disk.create(Path::new("scopes/@/10.0.0.0_24/10.0.0.6"), b"{").unwrap();
    }),
];

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Like a local disk, on which the second check waits for no other call.
fn find(image: &Image, problem: Problem) -> Option<FileFinding> {
    let found = FileStore::on(CachedDisk::new(image.clone(), 10_000), host("n1"))
        .verify(deadline())
        .unwrap()
        .findings;
    found.into_iter().find(|finding| finding.problem == problem)
}

/// Repairs a damage. Returns how many of the states after a power loss show it again.
fn damaged_again(problem: Problem, damage: Damage, skip: Option<Skip>) -> usize {
    let mut world = prepared_shared();
    let disk = world.disk();
    damage(&disk);
    world.image = disk.image().after_power_loss(1, 0).remove(0);
    let mut disk = world.disk();
    disk.skip = skip;
    let store = FileStore::on(disk, host("n1"));
    let finding = find(&world.image, problem).unwrap();
    match problem {
        Problem::Damaged => assert!(store.release_damaged(&finding.path, deadline()).unwrap()),
        _ => drop(store.repair(&finding, deadline()).unwrap()),
    }
    store
        .disk()
        .image()
        .after_power_loss(400, 0)
        .iter()
        .filter(|image| find(image, problem).is_some())
        .count()
}

#[test]
fn what_repair_has_done_on_a_shared_filesystem_is_durable() {
    for (what, problem, damage) in DAMAGES {
        assert_eq!(damaged_again(*problem, *damage, None), 0, "{what}");
        assert_ne!(damaged_again(*problem, *damage, Some(|_| true)), 0, "{what} without its flush");
    }
}
