//! The store on two mounts of a real shared filesystem, each of them a node, with the real
//! executable: many writers, killed ones, repeated DELs and GC, also with locks that do not lock.
//! `scripts/test-shared-fs` creates the mounts and starts this test; do not run it without the
//! script.

mod churn;
mod nodes;
/// A client that still sees what another node has removed. Needs no mounts.
mod old_view;

use crate::conformance::{LIST, host};
use crate::store_test;
use crate::support::disk::{Faults, FaultyDisk};
use churn::Churn;
use hereabouts::retry::Stopwatch;
use hereabouts::store::file::FileStore;
use nodes::{Locks, Nodes, fresh, scale};
use std::time::Duration;

const PLAIN: Churn = Churn {
    locks: Locks::Real,
    workers: 4,
    steps: 40,
    kill: None,
    repeat_del: false,
    gc: false,
    seed: 1,
};

fn churn(change: Churn) {
    let nodes = Nodes::new();
    churn::run(&nodes, Churn { steps: change.steps * scale(), ..change });
    for node in 0..2 {
        let orphan = nodes.orphan(node);
        // A killed DEL may leave an entry without a name, which holds nothing.
        println!("left over on n{node}: {}", orphan.len());
        assert!(change.kill.is_some() || orphan.is_empty(), "{orphan:?}");
    }
}

#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn each_mount_passes_the_list() {
    for mount in 0..2 {
        for (name, behavior) in LIST {
            println!("{name}");
            let directory = &fresh()[mount];
            behavior(&FileStore::new(directory.clone(), host("n1")));
            std::fs::remove_dir_all(directory).unwrap();
        }
    }
}

#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn each_mount_passes_the_list_where_no_lock_locks() {
    for mount in 0..2 {
        for (name, behavior) in LIST {
            println!("{name}");
            let directory = &fresh()[mount];
            let faults = Faults { no_locks: true, ..Faults::default() };
            behavior(&FileStore::on(FaultyDisk::new(directory.clone(), faults), host("n1")));
            std::fs::remove_dir_all(directory).unwrap();
        }
    }
}

#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn no_address_has_two_holders_in_a_churn_from_both() {
    churn(PLAIN);
}

#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn no_address_has_two_holders_where_shared_locks_do_not_lock() {
    churn(Churn { locks: Locks::SharedUseless, seed: 2, ..PLAIN });
}

#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn no_address_has_two_holders_where_no_lock_locks() {
    churn(Churn { locks: Locks::AllUseless, seed: 3, ..PLAIN });
}

#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn killed_processes_of_one_node_harm_nobody() {
    churn(Churn { kill: Some(1), steps: 60, seed: 4, ..PLAIN });
}

#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn killed_processes_harm_nobody_where_shared_locks_do_not_lock() {
    churn(Churn { kill: Some(1), locks: Locks::SharedUseless, seed: 5, ..PLAIN });
}

#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn repeated_dels_free_nothing_of_others() {
    churn(Churn { repeat_del: true, seed: 6, ..PLAIN });
}

/// This needs only the machine's own lock: without it, two DELs of one attachment at once may both
/// read before either removes.
#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn repeated_dels_free_nothing_of_others_where_shared_locks_do_not_lock() {
    churn(Churn { repeat_del: true, locks: Locks::SharedUseless, seed: 7, ..PLAIN });
}

#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn gc_from_both_nodes_frees_nothing_that_lives() {
    churn(Churn { gc: true, seed: 8, ..PLAIN });
}

#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn gc_that_is_killed_frees_nothing_that_lives_where_shared_locks_do_not_lock() {
    churn(Churn {
        gc: true,
        kill: Some(1),
        repeat_del: true,
        locks: Locks::SharedUseless,
        seed: 9,
        ..PLAIN
    });
}

/// One at a time, so that the times in `docs/store.md` are those of a call that waits for no other.
#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn calls_one_after_the_other_take_the_lowest_address() {
    let nodes = Nodes::new();
    let mut times: [Vec<Duration>; 2] = Default::default();
    for round in 0..20 {
        for (at, verb) in ["ADD", "DEL"].into_iter().enumerate() {
            for node in 0..2 {
                #[allow(clippy::disallowed_methods, reason = "a test measures")]
                let start = std::time::Instant::now();
                let ended = nodes.call(node, verb, &format!("c{round}")).run();
                times[at].push(start.elapsed());
                assert_eq!(ended.status, Some(0), "{ended:?}");
                // The other node's view of a freed name may be old, and it then skips the name;
                // never more than the two of the round before.
                let lowest = |address: &String| {
                    ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"].contains(&address.as_str())
                };
                assert!(verb == "DEL" || ended.addresses().iter().all(lowest), "{ended:?}");
            }
        }
    }
    for (verb, mut times) in ["ADD", "DEL"].into_iter().zip(times) {
        times.sort();
        println!(
            "{verb} alone: median {:?}, slowest {:?} of {}",
            times[times.len() / 2],
            times[times.len() - 1],
            times.len()
        );
    }
}

/// The flush of a directory does nothing on a brick; the flush of the record does.
#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn what_was_answered_survives_a_power_loss_of_the_server() {
    let Some(power) = nodes::power() else {
        return skipped!("no disk whose power can be cut");
    };
    let nodes = Nodes::new();
    let answered = |node: usize, verb: &str, container: &str| {
        let ended = nodes.call(node, verb, container).run();
        assert_eq!(ended.status, Some(0), "{ended:?}");
        ended
    };
    answered(0, "ADD", "before");
    for round in 0..3 {
        let container = format!("c{round}");
        power("settle");
        let given = answered(0, "ADD", &container).addresses();
        power("copy");
        power("restart");
        let record = format!("{} n0 {container}", given[0]);
        assert!(
            nodes.held(0).contains(&record),
            "what was printed is lost: {record}, {:?}",
            nodes.held(0)
        );
        assert_ne!(answered(1, "ADD", "other").addresses(), given, "given again");
        answered(1, "DEL", "other");

        power("settle");
        answered(0, "DEL", &container);
        power("copy");
        power("restart");
        assert!(!nodes.held(0).contains(&record), "what was freed is held again: {record}");
    }
}

/// A row of `docs/filesystems.md`: the verdict, within half a minute, and its consequence.
#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn the_row_of_the_document_holds() {
    let expected = nodes::expected();
    let directories = fresh();
    std::fs::create_dir_all(&directories[0]).unwrap();
    let clock = Stopwatch::default();
    for (ended, report) in store_test::pair([&directories[0], &directories[1]], [None; 2]) {
        println!("{report}");
        assert_eq!(report["verdict"].as_str(), Some(&*expected), "{ended:?}");
        let is_moved = report["renames"]["movesOpenFiles"].as_bool().unwrap_or_default();
        assert_eq!(is_moved, nodes::moves_open_files(), "{ended:?}");
    }
    assert!(clock.elapsed() < Duration::from_secs(30), "{:?}", clock.elapsed());
    if expected == "unsafe" {
        return nodes::is_refused(&directories[0]);
    }
    let nodes = Nodes::new();
    let mut given = std::collections::BTreeSet::new();
    let both = |verb: &str, round: usize| {
        let calls = [0, 1].map(|node| nodes.call(node, verb, &format!("c{round}-{node}")));
        let threads = calls.map(|call| std::thread::spawn(move || call.run()));
        threads.map(|thread| thread.join().unwrap().succeeded().clone())
    };
    for round in 0..20 {
        for added in both("ADD", round) {
            assert!(given.insert(added.addresses()), "given twice: {added:?}");
        }
    }
    nodes.command(0, &["verify"]).succeeded();
    for round in 0..20 {
        both("DEL", round);
    }
    assert_eq!(nodes.held(0), Vec::<String>::new());
    // Where a rename would leave the name free, the new sandbox of a pod gets another address.
    let [old, new] = ["old", "new"].map(|container| {
        let mut call = nodes.call(0, "ADD", container);
        call.set("CNI_ARGS", "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c");
        call.run().succeeded().addresses()
    });
    assert_eq!(old == new, !nodes::moves_open_files(), "{old:?} {new:?}");
}

/// The command of `docs/store.md` for other filesystems, on this one.
#[test]
#[ignore = "scripts/test-shared-fs makes the mounts"]
fn the_command_that_tests_a_filesystem_finds_this_one_safe() {
    for (useless, verdict) in [(None, "safe"), (Some("flock"), "safe_without_locks")] {
        let directories = fresh();
        std::fs::create_dir_all(directories[0].join(".hereabouts-store-test")).unwrap();
        for (ended, report) in store_test::pair([&directories[0], &directories[1]], [useless; 2]) {
            println!("{report}");
            assert_eq!(
                (ended.status, report["verdict"].as_str()),
                (Some(0), Some(verdict)),
                "{ended:?}"
            );
        }
    }
}
