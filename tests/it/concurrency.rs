//! Many processes at once: every address is given once, the lowest ones first, and one attachment
//! gets one answer. Also proves that these tests can fail: with a flock that succeeds without
//! locking, and with a link that overwrites.

use crate::conformance::{attachment, candidates, host, record};
use crate::support::calls;
use crate::support::disk::{Faults, FaultyDisk};
use crate::support::lockless::{FLOCK, only_succeeds};
use crate::support::sandbox::{Call, Sandbox, configuration};
use hereabouts::ipam::Scope;
use hereabouts::retry::Deadline;
use hereabouts::store::file::FileStore;
use hereabouts::store::{Access, Claim, Store};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

const RANGE: &str = r#""range":"10.1.0.0/16""#;

/// Starts all calls before it waits for one of them.
fn run_all(calls: &[Call], stdin: &str) -> Vec<String> {
    let mut children: Vec<_> = calls
        .iter()
        .map(|call| {
            call.command()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &mut children {
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    }
    children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            // A failed call gives no answer, and fails the round.
            document["ips"][0]["address"]
                .as_str()
                .map_or_else(|| document.to_string(), str::to_owned)
        })
        .collect()
}

fn lowest(count: u32) -> BTreeSet<String> {
    (1..=count).map(|n| format!("10.1.0.{n}/16")).collect()
}

/// Makes 64 ADDs at once. Returns whether they got the 64 lowest addresses, each once.
fn distinct_holds() -> bool {
    let sandbox = Sandbox::new();
    let calls: Vec<Call> = (0..64)
        .map(|n| sandbox.call("ADD").set("CNI_CONTAINERID", format!("c{n}")).clone())
        .collect();
    let answers: BTreeSet<_> = run_all(&calls, &configuration(RANGE)).into_iter().collect();
    if answers != lowest(64) {
        println!("answers: {answers:?}");
    }
    answers == lowest(64) && sandbox.held().len() == 64
}

/// Starts 8 processes for each of 8 attachments. Returns whether each attachment got one address
/// and nothing was left behind.
fn one_answer_holds() -> bool {
    let sandbox = Sandbox::new();
    let calls: Vec<Call> = (0..64)
        .map(|n| sandbox.call("ADD").set("CNI_CONTAINERID", format!("c{}", n % 8)).clone())
        .collect();
    let answers = run_all(&calls, &configuration(RANGE));
    let agree = (0..8).all(|c| (0..8).all(|n| answers[n * 8 + c] == answers[c]));
    let orphan = sandbox
        .files()
        .iter()
        .filter(|path| path.contains("@tmp") || path.contains("@net1."))
        .count();
    agree
        && answers.into_iter().collect::<BTreeSet<_>>() == lowest(8)
        && sandbox.held().len() == 8
        && orphan == 8
}

#[test]
fn processes_at_once_get_the_lowest_addresses_each_once() {
    for _ in 0..5 {
        assert!(distinct_holds());
    }
}

#[test]
fn processes_at_once_for_one_attachment_get_one_answer() {
    for _ in 0..5 {
        assert!(one_answer_holds());
    }
}

/// The lock may be released at the commit only if nothing more follows in the ADD. Otherwise a
/// second process would complete what looks half done, and the first one would continue, too.
#[test]
fn processes_at_once_for_one_attachment_with_two_ranges_get_two_addresses() {
    let ranges = r#""ipRanges":[{"range":"10.1.0.0/16"},{"range":"10.2.0.0/16"}]"#;
    for _ in 0..10 {
        let sandbox = Sandbox::new();
        let calls: Vec<Call> = (0..32)
            .map(|n| sandbox.call("ADD").set("CNI_CONTAINERID", format!("c{}", n % 4)).clone())
            .collect();
        let answers = run_all(&calls, &configuration(ranges));
        assert!((0..4).all(|c| (0..8).all(|n| answers[n * 4 + c] == answers[c])), "{answers:?}");
        assert_eq!(sandbox.held().len(), 8);
    }
}

#[test]
fn without_flock_addresses_stay_distinct_in_50_rounds() {
    for round in 0..50 {
        assert!(only_succeeds(&[FLOCK], distinct_holds), "round {round}");
    }
}

#[test]
fn without_flock_one_attachment_gets_one_answer_in_50_rounds() {
    // The attachment has its own lock. The mutant that removes this lock shows that the test can
    // fail.
    for round in 0..50 {
        assert!(only_succeeds(&[FLOCK], one_answer_holds), "round {round}");
    }
}

/// Makes 64 claims at once through the library. Returns the number of different addresses.
fn distinct_overwriting(sandbox: &Sandbox) -> usize {
    // The store exists before the claims: its creation is not tested here.
    drop(
        FileStore::new(sandbox.store(), host("n1"))
            .open(Access::Allocate, Deadline::after(Duration::from_secs(20)))
            .unwrap(),
    );
    let faults = Faults { no_locks: true, link_overwrites: true, ..Faults::default() };
    let claims: Vec<_> = (0..64)
        .map(|n| {
            let root = sandbox.store();
            std::thread::spawn(move || {
                let store = FileStore::on(FaultyDisk::new(root, faults), host("n1"));
                let mut session =
                    store.open(Access::Allocate, Deadline::after(Duration::from_secs(20))).ok()?;
                let record = record("n1", &format!("c{n}"), None);
                assert_eq!(record.attachment, attachment("n1", &format!("c{n}")));
                match session.claim(&Scope::default(), &candidates("10.1.0.0/16"), &record).ok()? {
                    Claim::Claimed(allocation) => Some(allocation.address),
                    Claim::Full => None,
                }
            })
        })
        .collect();
    claims.into_iter().filter_map(|claim| claim.join().unwrap()).collect::<BTreeSet<_>>().len()
}

#[test]
fn without_flock_and_with_a_link_that_overwrites_addresses_are_given_twice() {
    let failed = (0..50).find(|_| distinct_overwriting(&Sandbox::new()) < 64);
    println!("first round that failed: {failed:?}");
    assert!(failed.is_some(), "the test of distinct addresses cannot fail");
}

/// Makes 8 ADDs of one container at once, on a filesystem that counts as shared and whose locks do
/// not lock. Returns the different answers.
fn answers_on_a_shared_filesystem_without_locks(sandbox: &Sandbox) -> BTreeSet<String> {
    let adds: Vec<_> = (0..8)
        .map(|_| {
            let root = sandbox.store();
            std::thread::spawn(move || {
                let faults = Faults { no_shared_locks: true, shared: true, ..Faults::default() };
                let store = FileStore::on(FaultyDisk::new(root, faults), host("n1"));
                let held = calls::run(&store, calls::Call::Add("c1", 1), "today").unwrap();
                held[0].address.to_string()
            })
        })
        .collect();
    adds.into_iter().map(|add| add.join().unwrap()).collect()
}

/// The machine's own lock keeps the calls of a node apart if the locks of the shared filesystem do
/// not.
#[test]
fn on_a_shared_filesystem_without_locks_one_attachment_gets_one_answer() {
    if !nix::unistd::geteuid().is_root() {
        skipped!("the lock is below /run");
        return;
    }
    for round in 0..50 {
        let sandbox = Sandbox::new();
        drop(
            FileStore::new(sandbox.store(), host("n1"))
                .open(Access::Allocate, Deadline::after(Duration::from_secs(20)))
                .unwrap(),
        );
        let answers = answers_on_a_shared_filesystem_without_locks(&sandbox);
        let format: serde_json::Value =
            serde_json::from_slice(&std::fs::read(sandbox.store().join("format")).unwrap())
                .unwrap();
        let _ = std::fs::remove_file(format!(
            "/run/hereabouts/n1-{}.lock",
            format["id"].as_str().unwrap()
        ));
        assert_eq!((answers.len(), sandbox.held().len()), (1, 1), "round {round}: {answers:?}");
    }
}

/// Half of the processes are killed at some point.
#[test]
fn processes_killed_midway_leave_no_address_with_two_holders_and_the_rest_finish() {
    let sandbox = Sandbox::new();
    let mut printed = BTreeSet::new();
    for round in 0..10 {
        let mut children: Vec<_> = (0..32)
            .map(|n| {
                let call =
                    sandbox.call("ADD").set("CNI_CONTAINERID", format!("r{round}c{n}")).clone();
                let mut child = call
                    .command()
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                child.stdin.take().unwrap().write_all(configuration(RANGE).as_bytes()).unwrap();
                child
            })
            .collect();
        for child in children.iter_mut().step_by(2) {
            child.kill().unwrap();
        }
        for (n, child) in children.into_iter().enumerate() {
            let output = child.wait_with_output().unwrap();
            assert!(n % 2 == 0 || output.status.success(), "{output:?}");
            if let Ok(document) = serde_json::from_slice::<serde_json::Value>(&output.stdout) {
                let address = document["ips"][0]["address"].as_str().unwrap().to_owned();
                assert!(printed.insert(address.clone()), "given twice: {address}");
            }
        }
    }
    let held: BTreeSet<String> =
        sandbox.held().into_iter().map(|address| format!("{address}/16")).collect();
    assert!(printed.is_subset(&held), "a printed result is missing");
    println!("{} printed, {} held after 160 kills", printed.len(), held.len());
    // What was lost is freed: the invented namespaces are not alive.
    let gc = configuration(RANGE).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1);
    sandbox.call("GC").stdin(gc).run().succeeded();
    assert!(sandbox.held().is_empty());
}
