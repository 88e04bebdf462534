//! Every step of every call fails, with each errno that a disk may return: carried out or not, once
//! or permanently. Afterwards the store is as before the call or as after it, the error names path
//! and cause, and the same call again cleans up what was left.

use crate::conformance::{attachment, host, open};
use crate::support::cached::{CachedDisk, Image};
use crate::support::calls::{CALLS, Call, run};
use crate::support::disk::{Faults, FaultyDisk};
use crate::support::sandbox::Sandbox;
use hereabouts::store::disk::{Disk, RealDisk};
use hereabouts::store::file::FileStore;
use hereabouts::store::{Filter, Store};
use nix::errno::Errno;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

const ERRORS: &[Errno] = &[
    Errno::EIO,
    Errno::ENOSPC,
    Errno::EDQUOT,
    Errno::EACCES,
    Errno::EROFS,
    Errno::EMFILE,
    Errno::EINTR,
];

/// Holder and address of each record.
type State = BTreeSet<(String, String)>;

fn store(image: &Image) -> FileStore<CachedDisk> {
    // Later than any hint is valid.
    FileStore::on(CachedDisk::new(image.clone(), 10_000), host("n1"))
}

/// Returns the records. Checks that each holder finds its own record and nothing else.
fn state(image: &Image) -> State {
    let store = store(image);
    let Ok(listing) = store.list(&Filter::default()) else { return State::new() };
    let standing: Vec<_> = listing.map(Result::unwrap).collect();
    let session = open(&store);
    for allocation in &standing {
        let holdings = session.holdings(&allocation.record.attachment).unwrap();
        assert!(
            holdings.held.contains(allocation) && holdings.damaged.is_empty(),
            "{allocation:?} is not found by its holder"
        );
    }
    let addresses: BTreeSet<_> = standing.iter().map(|allocation| allocation.address).collect();
    assert_eq!(addresses.len(), standing.len(), "an address twice");
    standing
        .iter()
        .map(|held| {
            (held.record.attachment.container.as_str().to_owned(), held.address.to_string())
        })
        .collect()
}

/// A bystander, a pair of addresses, a dead sandbox of the pod `web`, two more dead sandboxes, and
/// one from before the last boot.
fn prepared() -> Image {
    let disk = CachedDisk::new(Image::new(), 1_000);
    let store = FileStore::on(disk, host("n1"));
    for call in [Call::Add("self", 1), Call::Add("half", 2), Call::ReleaseFirst("half")] {
        run(&store, call, "yesterday").unwrap();
    }
    for call in
        [Call::Add("by", 1), Call::Add("two", 2), Call::Add("dead-web", 1), Call::Add("dead-db", 1)]
    {
        run(&store, call, "today").unwrap();
    }
    store.disk().image()
}

/// Runs a call on a disk with a fault. Returns the disk, and how the call ended.
fn run_with(
    image: &Image,
    call: Call,
    faults: Faults,
) -> (FileStore<FaultyDisk<CachedDisk>>, Result<(), String>) {
    let store =
        FileStore::on(FaultyDisk::over(CachedDisk::new(image.clone(), 2_000), faults), host("n1"));
    let ended = run(&store, call, "today").map(|_| ());
    (store, ended)
}

fn check_error(error: &str, errno: Errno) {
    assert!(error.contains("/store"), "the path: {error}");
    assert!(error.contains(&format!("({errno:?})")), "the cause: {error}");
    let lower = error.to_lowercase();
    assert!(!lower.contains("no such file") && !lower.contains("not found"), "{error}");
}

/// Checks that each address is as before or as after, and that an ADD is all or nothing.
fn check_state(
    found: &State,
    before: &State,
    after: &State,
    call: Call,
    ended: &Result<(), String>,
) {
    match (ended, call) {
        (Ok(()), _) => assert_eq!(found, after, "it said that it was done"),
        (Err(_), Call::Add(..)) => assert!(found == before || found == after, "{found:?}"),
        // It frees one after the other.
        (Err(_), _) => assert!(found.is_subset(before) && after.is_subset(found), "{found:?}"),
    }
}

/// Checks that the same call again succeeds, and that then nothing is left except the records.
fn check_repaired(image: &Image, call: Call, after: &State) {
    let store = store(image);
    run(&store, call, "today").unwrap();
    assert_eq!(state(&store.disk().image()), *after, "again");
    let containers = ["c1", "c2", "new-web", "self", "half", "by", "two", "dead-web", "dead-db"];
    for container in containers {
        run(&store, Call::Del(container), "today").unwrap();
    }
    let left = store.disk().names(Path::new("nodes/n1/net1")).unwrap_or_default();
    assert!(left.is_empty(), "left over: {left:?}");
}

fn every_step(image: &Image, call: Call) -> usize {
    let before = state(image);
    let (done, ended) = run_with(image, call, Faults::default());
    ended.unwrap();
    let (steps, after) = (done.disk().steps(), state(&done.disk().inner.image()));
    for step in 0..steps {
        for (errno, but_done) in ERRORS.iter().flat_map(|errno| [(*errno, false), (*errno, true)]) {
            let faults =
                Faults { fails_at: Some((step, errno as i32)), but_done, ..Faults::default() };
            let (store, ended) = run_with(image, call, faults);
            let image = store.disk().inner.image();
            if let Err(error) = &ended {
                check_error(error, errno);
            }
            check_state(&state(&image), &before, &after, call, &ended);
            check_repaired(&image, call, &after);
        }
    }
    println!("{call:?}: {steps} steps, {} faults", steps * ERRORS.len() * 2);
    steps
}

#[test]
fn every_step_of_the_first_call_of_a_store_fails() {
    for call in [Call::Add("c1", 1), Call::Add("c2", 2)] {
        assert!(20 < every_step(&Image::new(), call));
    }
}

#[test]
fn every_step_of_every_call_fails() {
    for call in CALLS {
        assert!(5 < every_step(&prepared(), *call), "{call:?}");
    }
}

/// Cause: an index entry that could not be created was removed as "partly written", whatever the
/// error was. Effect: a repeated ADD after a reboot, whose open failed, removed the entry of its
/// own record, and no DEL found that record any more. Fix: only the call that created a file
/// removes it.
#[test]
fn an_entry_that_cannot_be_made_takes_none_away() {
    let image = prepared();
    let (done, _) = run_with(&image, Call::Add("self", 1), Faults::default());
    for step in 0..done.disk().steps() {
        let faults = Faults { fails_at: Some((step, Errno::EIO as i32)), ..Faults::default() };
        let (store, _) = run_with(&image, Call::Add("self", 1), faults);
        let held = open(&self::store(&store.disk().inner.image()))
            .holdings(&attachment("n1", "self"))
            .unwrap()
            .held;
        assert_eq!(held.len(), 1, "{step}");
    }
}

/// Cause: a re-homing reported a failure when the address had moved and only the old holder's index
/// entry could not be removed. Effect: the first of two addresses was missing in the list of what
/// to undo, and the failed ADD kept it. Fix: the old holder's entry stays as a dangling entry,
/// which is not a failure.
#[test]
fn a_rehoming_add_of_two_that_fails_keeps_neither() {
    let disk = FileStore::on(CachedDisk::new(Image::new(), 1_000), host("n1"));
    run(&disk, Call::Add("dead-web", 2), "today").unwrap();
    let image = disk.disk().image();
    let (done, _) = run_with(&image, Call::Add("new-web", 2), Faults::default());
    for (step, but_done) in (0..done.disk().steps()).flat_map(|step| [(step, false), (step, true)])
    {
        let faults =
            Faults { fails_at: Some((step, Errno::EIO as i32)), but_done, ..Faults::default() };
        let (store, ended) = run_with(&image, Call::Add("new-web", 2), faults);
        let found = state(&store.disk().inner.image());
        let held = found.iter().filter(|(container, _)| container == "new-web").count();
        assert!(held == 2 || held == 0 && ended.is_err(), "{step}: {found:?} {ended:?}");
    }
}

/// The undo fails too: an ADD may then be half done, and its error says so. No address has two
/// holders, every record is found, a repeat completes the ADD, and DEL frees it.
#[test]
fn every_step_of_every_call_fails_and_goes_on_failing() {
    for call in CALLS {
        let image = prepared();
        let before = state(&image);
        let (done, _) = run_with(&image, *call, Faults::default());
        let (steps, after) = (done.disk().steps(), state(&done.disk().inner.image()));
        for step in 0..steps {
            for but_done in [false, true] {
                let faults = Faults {
                    fails_at: Some((step, Errno::EIO as i32)),
                    but_done,
                    stays: true,
                    ..Faults::default()
                };
                let (store, ended) = run_with(&image, *call, faults);
                let image = store.disk().inner.image();
                let found = state(&image);
                if let Err(error) = &ended {
                    check_error(error, Errno::EIO);
                }
                let known: State = before.union(&after).cloned().collect();
                assert!(found.is_subset(&known), "{call:?} {step}: {found:?}");
                check_repaired(&image, *call, &after);
            }
        }
        println!("{call:?}: {steps} steps, {} faults that stay", steps * 2);
    }
}

/// The same on a real disk, with fewer errors: this shows that the disk in memory matches what the
/// calls really do.
#[test]
fn every_step_of_an_add_and_a_del_on_a_real_disk_fails() {
    for call in [Call::Add("c1", 2), Call::Del("by")] {
        let run_on = |faults| {
            let sandbox = Sandbox::new();
            let real = FileStore::new(sandbox.store(), host("n1"));
            run(&real, Call::Add("by", 1), "today").unwrap();
            let faulty = FileStore::on(FaultyDisk::new(sandbox.store(), faults), host("n1"));
            let ended = run(&faulty, call, "today");
            let held =
                |container| open(&real).holdings(&attachment("n1", container)).unwrap().held.len();
            (faulty.disk().steps(), ended, held("c1"), held("by"))
        };
        let (steps, ended, c1, by) = run_on(Faults::default());
        ended.unwrap();
        for (step, but_done) in (0..steps).flat_map(|step| [(step, false), (step, true)]) {
            let (_, ended, c1_now, by_now) = run_on(Faults {
                fails_at: Some((step, Errno::EIO as i32)),
                but_done,
                ..Faults::default()
            });
            let states = [(0, 1), (c1, by)];
            assert!(states.contains(&(c1_now, by_now)), "{call:?} {step}: {c1_now} {by_now}");
            assert!(ended.is_err() || (c1_now, by_now) == (c1, by), "{call:?} {step}");
        }
        println!("{call:?}: {steps} steps on a real disk");
    }
}

/// The store's lock is released before the name is flushed. Whichever step fails, no other call of
/// the attachment has begun by then. A call that has begun, because it came before the attachment
/// was locked, keeps what it got.
#[test]
fn what_could_not_be_flushed_is_nobody_elses_by_then() {
    let (mut before, mut beside) = (0, 0);
    for step in 0.. {
        let sandbox = Sandbox::new();
        let root = sandbox.store();
        drop(open(&FileStore::new(root.clone(), host("n1"))));
        let faults = Faults { fails_at: Some((step, Errno::EIO as i32)), ..Faults::default() };
        let store = FileStore::on(FaultyDisk::new(root.clone(), faults), host("n1"));
        let other = FileStore::new(root, host("n1"));
        let got = Rc::new(Cell::new(None));
        let flag = Rc::clone(&got);
        store.disk().meanwhile.set(Some(Box::new(move || {
            let lock = other.try_lock_attachment(&attachment("n1", "c1")).unwrap();
            flag.set(Some(lock.is_some()));
            if lock.is_some() {
                drop(lock);
                run(&other, Call::Add("c1", 1), "today").unwrap();
            }
        })));
        let _ = run(&store, Call::Add("c1", 1), "today");
        if store.disk().steps() <= step {
            break;
        }
        match got.get() {
            Some(true) => {
                before += 1;
                let held =
                    open(&store_at(&sandbox)).holdings(&attachment("n1", "c1")).unwrap().held;
                assert_eq!(held.len(), 1, "step {step} took it away");
            }
            Some(false) => beside += 1,
            None => {}
        }
    }
    println!("{before} steps before the lock, {beside} under it");
    assert!(0 < before && 10 < beside);
}

fn store_at(sandbox: &Sandbox) -> FileStore<RealDisk> {
    FileStore::new(sandbox.store(), host("n1"))
}
