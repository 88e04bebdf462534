//! What a DEL that fails leaves, and who settles it: the real executable on both stores.

/// Files in the directory of debts that are not debts.
mod damaged;
/// File stores that are busy or away.
mod files;
/// The Kubernetes store while the API server is away.
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

/// A DEL gives up after a short time.
const IPAM: &str = r#""range":"10.1.2.0/24","deadlines":{"add":"5s","del":"50ms"}"#;

/// Returns a call of a container. Its sandbox is alive, or never existed.
fn call(sandbox: &Sandbox, verb: &str, container: &str, living: Option<&Living>) -> Call {
    let mut call = sandbox.call(verb);
    let netns = living.map_or_else(|| format!("/var/run/netns/no-{container}"), Living::path);
    call.set("CNI_CONTAINERID", container).set("CNI_NETNS", netns).stdin(configuration(IPAM));
    call
}

fn run(sandbox: &Sandbox, verb: &str, container: &str, living: Option<&Living>) -> Ended {
    call(sandbox, verb, container, living).run()
}

/// Returns the existing debts.
fn owed(sandbox: &Sandbox) -> Vec<Value> {
    let read = |name: &String| {
        serde_json::from_slice(&std::fs::read(sandbox.path("debts").join(name)).unwrap()).unwrap()
    };
    files_below(&sandbox.path("debts")).iter().map(read).collect()
}

/// Locks a local file store, so that every call must wait.
fn lock(sandbox: &Sandbox) -> std::fs::File {
    let lock = std::fs::File::open(sandbox.store()).unwrap();
    lock.lock().unwrap();
    lock
}

/// Makes a DEL that meets a held lock, and so leaves a debt.
fn fail_to_del(sandbox: &Sandbox, container: &str, living: Option<&Living>) -> Ended {
    let lock = lock(sandbox);
    let failed = run(sandbox, "DEL", container, living);
    drop(lock);
    assert_eq!(failed.code(), 11, "{failed:?}");
    failed
}

/// Repeats a call until nothing is owed: on a busy machine, the 50 ms of one call may not be
/// enough.
fn until_settled(sandbox: &Sandbox, mut call: impl FnMut()) {
    let deadline = Deadline::after(Duration::from_secs(60));
    while !owed(sandbox).is_empty() {
        assert!(!deadline.left().is_zero(), "{:?}", owed(sandbox));
        call();
    }
}

/// Returns a living sandbox, or prints why the test is skipped.
fn living() -> Option<Living> {
    let living = Living::new();
    if living.is_none() {
        skipped!("no root, no namespaces");
    }
    living
}
