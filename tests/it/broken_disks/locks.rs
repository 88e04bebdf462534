//! The lock: held by a process that does not continue, or removed under its holder and created
//! again.

use super::{RANGE, check_says};
use crate::support::sandbox::{Call, Sandbox, configuration};
use crate::support::stopped::{Moment, Stopped, Waiting, has_strace};
use hereabouts::store::disk::{Disk, Locked, Patience, RealDisk};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

fn is_skipped() -> bool {
    let skipped = !has_strace();
    if skipped {
        skipped!("no strace");
    }
    skipped
}

fn call(sandbox: &Sandbox, verb: &str, container: &str, ipam: &str) -> Call {
    sandbox.call(verb).set("CNI_CONTAINERID", container).stdin(configuration(ipam)).clone()
}

#[test]
fn the_message_of_a_lock_that_stays_held_names_the_process_that_stands_still() {
    if is_skipped() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    let holder =
        Stopped::after(&call(&sandbox, "ADD", "c2", RANGE), &Moment::new("linkat", "10.1.2.2"));
    let named = format!("process {} (hereabouts) holds it", holder.id());
    let ipam = format!(r#"{RANGE},"deadlines":{{"add":"250ms","del":"200ms","gc":"200ms"}}"#);
    for (verb, limit) in [("ADD", "200ms"), ("DEL", "200ms")] {
        let ended = call(&sandbox, verb, "c1", &ipam).run();
        assert_eq!(ended.code(), 11, "{verb}");
        check_says(&ended, &[&named, sandbox.store().to_str().unwrap(), limit, "deadlines"]);
    }
    assert_eq!(holder.go_on().addresses(), ["10.1.2.2"]);
}

/// Removes the files that could be taken for a lock.
fn remove_files(sandbox: &Sandbox) {
    for entry in std::fs::read_dir(sandbox.store()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("format") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// Where the lock is a file, as on a shared filesystem: a waiter whose lock file was removed takes
/// the lock on the new file, and excludes all others.
#[test]
fn a_lock_file_that_was_removed_is_created_again() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("lock");
    let lock = |patience: Patience, local: bool| {
        let disk = RealDisk::new(sandbox.root.clone());
        let locked = if local {
            disk.lock_local(&path, patience)
        } else {
            disk.lock(Path::new("lock"), patience)
        };
        match locked.unwrap() {
            Locked::Held(held) => Some(held),
            Locked::Busy => None,
        }
    };
    for local in [false, true] {
        let first = lock(Patience::Try, local).unwrap();
        let inode = format!(":{} ", std::fs::metadata(&path).unwrap().ino());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let held = lock(Patience::Queue(Duration::from_secs(20)), local);
                // Later callers find the file of this one.
                held.is_some() && lock(Patience::Try, local).is_none()
            });
            let waits = |line: &str| line.contains("->") && line.contains(&inode);
            while !std::fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
                assert!(!waiter.is_finished());
                std::thread::yield_now();
            }
            std::fs::remove_file(&path).unwrap();
            drop(first);
            assert!(waiter.join().unwrap(), "local: {local}");
        });
    }
}

/// Cause: the lock was only the file, and a caller that came after its removal created and locked
/// another one. Effect: while a DEL was stopped between its read and its unlink, a second DEL freed
/// the address and the next ADD got it. Then the first DEL removed the record of the living
/// sandbox, and the address was given a third time. Fix: the directory is locked, and no call
/// creates that again.
#[test]
fn a_lock_that_is_removed_and_created_again_excludes_all_but_its_holder() {
    if is_skipped() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    let first =
        Stopped::after(&call(&sandbox, "DEL", "c1", RANGE), &Moment::new("openat", "10.1.2.1"));
    remove_files(&sandbox);
    let short = format!(r#"{RANGE},"deadlines":{{"del":"200ms"}}"#);
    let second = call(&sandbox, "DEL", "c1", &short).run();
    assert_eq!(second.code(), 11, "{second:?}");
    check_says(
        &second,
        &[&format!("process {} (hereabouts) holds it", first.id()), "container c1", "200ms"],
    );
    let third = Waiting::start(&call(&sandbox, "ADD", "c2", RANGE));
    first.go_on().succeeded();
    assert_eq!(third.end().addresses(), ["10.1.2.1"]);
    assert_eq!(sandbox.held(), ["10.1.2.1"], "the new holder keeps it");
    assert_eq!(sandbox.add("c3", RANGE).addresses(), ["10.1.2.2"]);
}

/// The same for two ADDs of one attachment: both get the same answer.
#[test]
fn a_lock_that_is_removed_and_created_again_gives_one_attachment_one_answer() {
    if is_skipped() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.add("first", RANGE).succeeded();
    let entry = Moment::new("fsync", sandbox.store().join("nodes/n1/net1").display().to_string());
    let first = Stopped::after(&call(&sandbox, "ADD", "c1", RANGE), &entry);
    remove_files(&sandbox);
    let second = Waiting::start(&call(&sandbox, "ADD", "c1", RANGE));
    assert_eq!(first.go_on().addresses(), ["10.1.2.2"]);
    assert_eq!(second.end().addresses(), ["10.1.2.2"]);
    assert_eq!(sandbox.held(), ["10.1.2.1", "10.1.2.2"]);
}

/// Cause: the signal mask is inherited, and the timer's signal was blocked; or no timer could be
/// created. Effect: a wait for the lock that never ended, or an error that named no lock. Fix: the
/// signal is unblocked for the wait, and without a timer the lock is polled.
#[test]
fn a_wait_for_the_lock_ends_whatever_the_caller_has_left_us_with() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    let disk = RealDisk::new(sandbox.store());
    let Locked::Held(_held) = disk.lock(Path::new(""), Patience::Try).unwrap() else {
        panic!("nobody else has it")
    };
    let ipam = format!(r#"{RANGE},"deadlines":{{"add":"500ms","del":"300ms"}}"#);
    let callers: [&[&str]; 4] = [
        &[],
        &["env", "--block-signal=ALRM"],
        &["env", "--ignore-signal=ALRM"],
        &["prlimit", "--sigpending=0:0"],
    ];
    for caller in callers {
        for verb in ["ADD", "DEL"] {
            let mut call = call(&sandbox, verb, "c1", &ipam);
            let ended = call.through(&["timeout", "--signal=KILL", "60"]).through(caller).run();
            assert_eq!(ended.code(), 11, "{caller:?} {verb}: {ended:?}");
        }
    }
}
