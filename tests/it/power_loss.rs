//! Power loss, on a disk in memory with a cache. After every step of a call, also of a call that
//! follows a killed one, every state that a legal filesystem could leave is opened again and
//! checked (a seeded sample if there are too many): no address has two holders, no printed result
//! is missing, every record is found by its holder, nothing that was freed is held again, and later
//! calls work.
//!
//! The model finds the bug if any one kind of sync is removed.

/// A step that fails before the power does.
mod failed_step;
/// `repair` at any step.
mod repair;
/// Below a filesystem that machines share.
mod shared;
/// A disk, and what must be true of it.
mod world;

use crate::conformance::host;
use crate::support::cached::{CachedDisk, Draw, Image, Skip};
use crate::support::calls::{CALLS, Call, run};
use hereabouts::retry::Deadline;
use hereabouts::store::disk::Disk;
use hereabouts::store::file::FileStore;
use hereabouts::store::{Access, Store};
use std::path::Path;
use std::time::Duration;
use world::{World, fault, fault_later, prepared};

/// How many states are checked.
struct Effort {
    most: usize,
    later_every: usize,
}

/// Runs a call, with a power loss after each of its steps. Returns the number of checked states, or
/// the first fault.
fn power_fails_during(
    world: &World,
    call: Call,
    so_far: &[Call],
    skip: Option<Skip>,
    effort: &Effort,
) -> Result<usize, String> {
    let mut during = world.clone();
    during.begin(call);
    let freed = world.about_to_free(call);
    let mut disk = during.disk();
    disk.skip = skip;
    let store = FileStore::on(disk, host("n1"));
    let printed = run(&store, call, world.boot)?;
    let history = store.disk().history();
    let mut after = during.clone();
    after.end(call, store.disk().image(), &printed);
    after.freed.extend(freed);
    let calls: Vec<Call> = so_far.iter().copied().chain([call]).collect();
    let mut checked = 0;
    let last = history.len();
    let ended = std::iter::once(&after).map(|world| (last, world.image.clone(), world));
    for (step, image, told) in
        history.into_iter().enumerate().map(|(step, image)| (step, image, &during)).chain(ended)
    {
        for found in image.after_power_loss(effort.most, step as u64) {
            checked += 1;
            let world = World { image: found, ..told.clone() };
            let wrong = fault(&world).or_else(|| {
                if checked % effort.later_every == 0 { fault_later(&world, &calls) } else { None }
            });
            if let Some(wrong) = wrong {
                return Err(format!("{calls:?}, power lost after step {step}: {wrong}"));
            }
        }
    }
    Ok(checked)
}

/// Returns those calls, and DELs of what only an earlier call has created.
fn calls() -> impl Iterator<Item = Call> {
    CALLS.iter().copied().chain([Call::Del("c1"), Call::Del("new-web")])
}

#[test]
fn power_lost_after_any_step_of_the_first_call_of_a_store() {
    let effort = Effort { most: 400, later_every: 1 };
    for call in [Call::Add("c1", 1), Call::Add("c2", 2)] {
        let checked = power_fails_during(&World::new(), call, &[], None, &effort).unwrap();
        println!("{call:?}: {checked} states");
    }
}

#[test]
fn power_lost_after_any_step_of_any_call() {
    let effort = Effort { most: 2000, later_every: 1 };
    for call in calls() {
        let checked = power_fails_during(&prepared(), call, &[], None, &effort).unwrap();
        println!("{call:?}: {checked} states");
    }
}

/// `release --node` forgets the machine of a node. The next ADD notes it again, when all
/// directories exist and nothing else would flush the note.
#[test]
fn power_lost_after_the_first_add_since_the_node_was_released() {
    let mut world = prepared();
    let released = FileStore::on(world.disk(), host("n1")).for_dead_node();
    drop(released.open(Access::Release, Deadline::after(Duration::from_secs(20))).unwrap());
    world.image = released.disk().image().after_power_loss(1, 0).remove(0);
    let world = world.then(Call::Add("c1", 1));
    let states = world.image.after_power_loss(2000, 0);
    println!("{} states", states.len());
    for image in states {
        assert_eq!(fault(&World { image, ..world.clone() }), None);
    }
}

/// Runs every pair of calls, the first killed at each of its steps.
fn pairs(worlds: &[World], effort: &Effort) -> Result<usize, String> {
    let mut checked = 0;
    for world in worlds {
        for first in calls() {
            for killed in world.killed(first) {
                for second in calls() {
                    checked += power_fails_during(&killed, second, &[first], None, effort)?;
                }
            }
        }
    }
    Ok(checked)
}

#[test]
fn power_lost_after_any_step_of_a_call_that_follows_one_killed_at_any_step() {
    let checked = pairs(&[World::new(), prepared()], &Effort { most: 12, later_every: 6 }).unwrap();
    println!("{checked} states");
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_power_lost_after_any_step_of_a_call_that_follows_one_killed_at_any_step() {
    let checked =
        pairs(&[World::new(), prepared()], &Effort { most: 300, later_every: 5 }).unwrap();
    println!("{checked} states");
}

/// Returns a disk on which an address was given and freed: its shard and its network are empty.
fn emptied() -> World {
    let mut world = World::new().then(Call::Add("c1", 1)).then(Call::Del("c1"));
    // c1 may have it again.
    world.freed.clear();
    world.image = world.image.after_power_loss(1, 0).remove(0);
    world
}

/// Removes directories that calls before and after it use.
#[test]
fn power_lost_after_any_step_beside_the_removal_of_empty_directories() {
    let effort = Effort { most: 60, later_every: 2 };
    let (add, mut checked) = (Call::Add("c1", 1), 0);
    for world in [emptied(), World { shared: true, ..emptied() }] {
        for (first, second) in [(Call::Tidy, add), (add, Call::Tidy), (Call::Tidy, Call::Tidy)] {
            for killed in world.killed(first) {
                checked += power_fails_during(&killed, second, &[first], None, &effort).unwrap();
            }
        }
        // If a killed DEL has removed a name, but not durably, the name goes with its directory.
        for killed in world.clone().then(add).killed(Call::Del("c1")) {
            let tidied = killed.then(Call::Tidy);
            for last in [Call::Del("c1"), add, Call::Gc] {
                checked +=
                    power_fails_during(&tidied, last, &[Call::Del("c1")], None, &effort).unwrap();
            }
        }
    }
    println!("{checked} states");
}

/// A directory is flushed before it is removed.
#[test]
fn the_model_finds_the_bug_when_a_directory_is_removed_that_was_not_flushed() {
    let effort = Effort { most: 2000, later_every: 1 };
    let found =
        emptied().then(Call::Add("c1", 1)).killed(Call::Del("c1")).iter().find_map(|killed| {
            let mut disk = killed.disk();
            // The flush of the scope, which is removed next, would be enough for its shard.
            disk.skip = Some(|path| path.starts_with("scopes"));
            let store = FileStore::on(disk, host("n1"));
            run(&store, Call::Tidy, killed.boot).unwrap();
            let tidied = World { image: store.disk().image(), ..killed.clone() };
            power_fails_during(&tidied, Call::Del("c1"), &[Call::Del("c1")], None, &effort).err()
        });
    println!("{found:?}");
    assert!(found.is_some());
}

fn is_shard(path: &Path) -> bool {
    path.starts_with("scopes") && path.components().count() == 3
}
fn is_entry(path: &Path) -> bool {
    path.starts_with("nodes/n1/net1") && path.components().count() == 4
}

/// Each kind of sync, and the calls of which one is unsafe without it.
const SYNCS: &[(&str, Skip, &[Call])] = &[
    ("the record's bytes", is_entry, &[Call::Add("c1", 1), Call::Add("new-web", 1)]),
    (
        "the directory of the index entry",
        |path| path == Path::new("nodes/n1/net1"),
        &[Call::Add("c1", 1), Call::Add("new-web", 1)],
    ),
    (
        "the directory of the name",
        is_shard,
        &[Call::Add("c1", 1), Call::Add("new-web", 1), Call::Del("by"), Call::Del("two")],
    ),
    (
        "bytes of a small file",
        |path| path.starts_with("nodes/n1/@tmp") && path.components().count() == 4,
        &[],
    ),
    ("the data directory", |path| path == Path::new(""), &[]),
    ("the directory of scopes", |path| path == Path::new("scopes"), &[]),
    ("the directory of shards", |path| path == Path::new("scopes/@"), &[]),
    ("the directory of nodes", |path| path == Path::new("nodes"), &[]),
    ("the directory of one node", |path| path == Path::new("nodes/n1"), &[]),
];

#[test]
fn the_model_finds_the_bug_when_any_one_sync_is_taken_out() {
    let effort = Effort { most: 2000, later_every: 1 };
    for (what, skip, calls) in SYNCS {
        if calls.is_empty() {
            let found =
                power_fails_during(&World::new(), Call::Add("c1", 1), &[], Some(*skip), &effort);
            println!("without {what}: {found:?}");
            assert!(found.is_err(), "{what}");
        }
        for call in *calls {
            let found = power_fails_during(&prepared(), *call, &[], Some(*skip), &effort);
            println!("without {what}: {found:?}");
            assert!(found.is_err(), "{what} {call:?}");
        }
    }
}

/// A repeated ADD syncs what a killed ADD may have left visible and not durable.
#[test]
fn the_model_finds_the_bug_when_a_repeated_add_does_not_sync() {
    let effort = Effort { most: 2000, later_every: 1 };
    let call = Call::Add("c1", 1);
    let found = prepared().killed(call).iter().find_map(|killed| {
        power_fails_during(killed, call, &[call], Some(is_shard), &effort).err()
    });
    println!("{found:?}");
    assert!(found.is_some());
}

/// A small deterministic check of the disk itself.
#[test]
fn the_cached_disk_forgets_and_keeps_what_it_may() {
    let disk = CachedDisk::new(Image::new(), 0);
    disk.create(Path::new("a"), b"four").unwrap();
    // The name exists or not; of the bytes there are all, none, half, or zeros.
    assert_eq!(disk.image().after_power_loss(100, 0).len(), 8);
    disk.sync(Path::new("a")).unwrap();
    disk.sync(Path::new("")).unwrap();
    disk.link(Path::new("a"), Path::new("b")).unwrap();
    disk.unlink(Path::new("a")).unwrap();
    let states = disk.image().after_power_loss(100, 0);
    let names =
        |image: &Image| CachedDisk::new(image.clone(), 0).names(Path::new("")).unwrap().len();
    let mut counts: Vec<_> = states.iter().map(names).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 1, 1, 2]);
    assert!(Draw(1).below(3) < 3);
}
