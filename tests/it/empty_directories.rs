//! `sweep` removes directories of networks, shards and scopes that hold nothing, whatever runs at
//! the same time.

use crate::conformance::host;
use crate::support::calls::{Call, run};
use crate::support::disk::{Faults, FaultyDisk};
use crate::support::sandbox::{Ended, Sandbox, configuration};
use hereabouts::retry::Deadline;
use hereabouts::store::file::FileStore;
use hereabouts::store::node_identity::NodeIdentity;
use hereabouts::store::upkeep::Upkeep;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Returns every directory below another one, relative, in order.
fn directories(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.push(path.strip_prefix(root).unwrap().to_owned());
                todo.push(path);
            }
        }
    }
    found.sort();
    found
}

fn call(sandbox: &Sandbox, verb: &str, number: u8) -> Ended {
    let pod =
        format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-{number};K8S_POD_INFRA_CONTAINER_ID=x");
    let ipam = format!(r#""range":"10.{number}.0.0/24","network_name":"scope-{number}""#);
    let network =
        configuration(&ipam).replace(r#""name":"net1""#, &format!(r#""name":"net-{number}""#));
    sandbox
        .call(verb)
        .set("CNI_CONTAINERID", format!("c{number}"))
        .set("CNI_ARGS", &pod)
        .stdin(network)
        .run()
}

/// Cause: each network and each `network_name` left its directories forever. Effect: they used
/// inodes, 166 directories after 40 pods that had ended. Fix: sweep removes empty directories.
#[test]
fn networks_that_hold_nothing_leave_no_directory() {
    let sandbox = Sandbox::new();
    if sandbox.cluster.is_some() {
        return;
    }
    for number in 1..=9 {
        call(&sandbox, "ADD", number).succeeded();
    }
    for number in 2..=9 {
        call(&sandbox, "DEL", number).succeeded();
    }
    sandbox.command(&["sweep", "--dry-run"]);
    assert!(40 < directories(&sandbox.store()).len());
    // The sandboxes of this test do not exist: c1 is swept in the second round.
    let held =
        ["nodes/n1/@pods/net-1", "nodes/n1/net-1", "scopes/scope-1", "scopes/scope-1/10.1.0.0_24"];
    let always = ["nodes", "nodes/n1", "nodes/n1/@pods", "nodes/n1/@tmp", "scopes"];
    let mut expected: Vec<PathBuf> = held.iter().chain(&always).map(PathBuf::from).collect();
    expected.sort();
    let store = FileStore::new(sandbox.store(), NodeIdentity { machine_id: None, ..host("n1") });
    let removed = store.tidy(Deadline::after(Duration::from_secs(60)));
    assert!(removed.is_ok_and(|removed| removed == 8 * held.len()));
    assert_eq!(directories(&sandbox.store()), expected);
    let swept = sandbox.command(&["sweep", "--yes"]);
    assert_eq!(swept.status, Some(0), "{swept:?}");
    assert_eq!(directories(&sandbox.store()), always.map(PathBuf::from));
    assert_eq!(call(&sandbox, "ADD", 1).addresses(), ["10.1.0.1"]);
    let verified = sandbox.command(&["verify"]);
    assert_eq!(verified.status, Some(0), "{verified:?}");
}

/// Foreign files in a store stay, and stop no verb.
#[test]
fn what_is_not_ours_stays_where_it_is() {
    let sandbox = Sandbox::new();
    if sandbox.cluster.is_some() {
        return;
    }
    call(&sandbox, "ADD", 1).succeeded();
    call(&sandbox, "DEL", 1).succeeded();
    let foreign =
        ["scopes/scope-1/notes", "nodes/n1/net-1/notes", "scopes/notes", "nodes/n1/notes"];
    foreign.iter().for_each(|name| std::fs::write(sandbox.store().join(name), "x").unwrap());
    let store = FileStore::new(sandbox.store(), NodeIdentity { machine_id: None, ..host("n1") });
    store.tidy(Deadline::after(Duration::from_secs(60))).unwrap();
    assert!(foreign.iter().all(|name| sandbox.store().join(name).exists()));
    let found = directories(&sandbox.store());
    assert!(!found.iter().any(|path| path.ends_with("10.1.0.0_24")), "{found:?}");
}

/// Makes a call while another process removes empty directories before each step in turn, as if no
/// lock excluded it.
fn tidied_beside(call: Call, shared: bool) -> usize {
    for step in 0.. {
        let sandbox = Sandbox::new();
        let faults = Faults { shared, no_shared_locks: true, unsynced: true, ..Faults::default() };
        let on = |faults| FileStore::on(FaultyDisk::new(sandbox.store(), faults), host("n1"));
        for before in [Call::Add("by", 1), Call::Add("c1", 2), Call::Del("by"), Call::Del("c1")] {
            run(&on(faults), before, "today").unwrap();
        }
        if call != Call::Add("c1", 2) {
            run(&on(faults), Call::Add("c1", 2), "today").unwrap();
        }
        let root = sandbox.store();
        let store = on(Faults { interrupted_at: Some(step), ..faults });
        let other = FileStore::on(
            FaultyDisk::new(root, Faults { no_locks: true, unsynced: true, ..Faults::default() }),
            host("n1"),
        );
        store.disk().meanwhile.set(Some(Box::new(move || {
            other.tidy(Deadline::after(Duration::from_secs(60))).unwrap();
        })));
        let held = run(&store, call, "today")
            .unwrap_or_else(|error| panic!("{call:?}, before step {step}: {error}"));
        let steps = store.disk().steps();
        drop(store);
        let found = on(faults).verify(Deadline::after(Duration::from_secs(60))).unwrap();
        assert!(found.findings.is_empty(), "{call:?}, before step {step}: {:?}", found.findings);
        let expected = if matches!(call, Call::Add(..)) { 2 } else { 0 };
        assert_eq!(
            (held.len(), found.records),
            (expected, expected),
            "{call:?}, before step {step}"
        );
        if steps <= step {
            return step;
        }
    }
    unreachable!()
}

#[test]
fn a_directory_that_goes_before_any_step_of_a_call_is_made_again() {
    for shared in [false, true] {
        for call in [Call::Add("c1", 2), Call::Del("c1")] {
            println!("{call:?}: {} steps", tidied_beside(call, shared));
        }
    }
}
