//! What a DEL leaves that cannot be done, and who settles it: the real executable on both stores.

/// What stands in the place of debts and is none.
mod damaged;
/// Stores of files: busy, and away.
mod files;
/// The store in the Kubernetes API, away.
#[cfg(feature = "kube")]
mod kube;
/// Calls as Multus makes them.
mod recorded;
/// What the operator sees and does.
mod shown;

use crate::support::living::Living;
use crate::support::sandbox::{Call, Ended, Sandbox, configuration, files_below};
use hereabouts::retry::Deadline;
use serde_json::Value;
use std::time::Duration;

/// A DEL gives up soon.
const IPAM: &str = r#""range":"10.1.2.0/24","deadlines":{"add":"5s","del":"50ms"}"#;

/// A call of a container whose sandbox lives, or has never been.
fn call(sandbox: &Sandbox, verb: &str, container: &str, living: Option<&Living>) -> Call {
    let mut call = sandbox.call(verb);
    let netns = living.map_or_else(|| format!("/var/run/netns/no-{container}"), Living::path);
    call.set("CNI_CONTAINERID", container).set("CNI_NETNS", netns).stdin(configuration(IPAM));
    call
}

fn run(sandbox: &Sandbox, verb: &str, container: &str, living: Option<&Living>) -> Ended {
    call(sandbox, verb, container, living).run()
}

/// The debts as they stand.
fn owed(sandbox: &Sandbox) -> Vec<Value> {
    let read = |name: &String| {
        serde_json::from_slice(&std::fs::read(sandbox.path("debts").join(name)).unwrap()).unwrap()
    };
    files_below(&sandbox.path("debts")).iter().map(read).collect()
}

/// Keeps everybody else out of a local store of files.
fn lock(sandbox: &Sandbox) -> std::fs::File {
    let lock = std::fs::File::open(sandbox.store()).unwrap();
    lock.lock().unwrap();
    lock
}

/// A DEL that meets a held lock, and so leaves a debt.
fn fail_to_del(sandbox: &Sandbox, container: &str, living: Option<&Living>) -> Ended {
    let lock = lock(sandbox);
    let failed = run(sandbox, "DEL", container, living);
    drop(lock);
    assert_eq!(failed.code(), 11, "{failed:?}");
    failed
}

/// Makes a call again and again until nothing is owed: on a busy machine 50 ms of
/// one may not be enough.
fn until_settled(sandbox: &Sandbox, mut call: impl FnMut()) {
    let deadline = Deadline::after(Duration::from_secs(60));
    while !owed(sandbox).is_empty() {
        assert!(!deadline.left().is_zero(), "{:?}", owed(sandbox));
        call();
    }
}

/// A sandbox, or why a test is skipped.
fn living() -> Option<Living> {
    let living = Living::new();
    if living.is_none() {
        skipped!("no root, no namespaces");
    }
    living
}
