//! Orphans and late calls: real calls that are stopped at a system call while the runtime
//! continues, and that then continue themselves. Every barrier is a stop, or a place in the queue
//! of a lock. Nothing waits for a time.
//!
//! In every order, an address that was printed to a living sandbox belongs to this sandbox alone,
//! and in the end nothing is left. Not here: many calls at once (`concurrency`), killed calls, and
//! failing steps (`every_step`).

use crate::support::living::Living;
use crate::support::sandbox::{Call, Ended, Sandbox, configuration};
use crate::support::stopped::{Moment, Stopped, Waiting, has_strace};

/// GC at the same time as what it may free and may not free.
mod collecting;
/// DELs that come late, or before their ADD has ended.
mod late_dels;
/// Another boot, another machine.
mod machines;
/// ADDs whose runtime has given up.
mod orphans;

const RANGE: &str = r#""range":"10.1.2.0/24""#;
/// The directory of the records, in the form in which the kernel shows its descriptor.
const SHARD: &str = "scopes/@/10.1.2.0_24";

/// The place at which an ADD is stopped, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// It has read its configuration and done nothing else.
    Start,
    /// The index entry is written and durable; the name does not exist.
    Entry,
    /// The name exists.
    Name,
    /// Everything is durable, nothing is printed.
    Durable,
}

impl At {
    const ALL: [Self; 4] = [Self::Start, Self::Entry, Self::Name, Self::Durable];

    /// Returns whether it holds the lock there.
    fn is_locked(self) -> bool {
        matches!(self, Self::Entry | Self::Name)
    }

    fn moment(self, sandbox: &Sandbox, node: &str) -> Moment {
        let below = |path: &str| sandbox.store().join(path).display().to_string();
        match self {
            Self::Start => Moment::new("openat", "format"),
            Self::Entry => Moment::new("fsync", below(&format!("nodes/{node}/net1"))),
            Self::Name => Moment::new("linkat", "10.1.2.1"),
            Self::Durable => Moment::new("fsync", below(SHARD)),
        }
    }
}

/// The caller of an ADD that is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Stays,
    Goes,
}

impl Caller {
    const BOTH: [Self; 2] = [Self::Stays, Self::Goes];

    /// Returns the first ADD of a store, stopped. Its caller has exited or has not.
    fn stopped(self, sandbox: &Sandbox, call: &Call, at: At) -> Stopped {
        prepare(sandbox);
        let moment = at.moment(sandbox, "n1");
        match self {
            Self::Stays => Stopped::after(call, &moment),
            Self::Goes => {
                let mut stopped = Stopped::below_caller(call, &moment);
                stopped.lose_caller();
                stopped
            }
        }
    }
}

/// Creates all directories, so that an ADD syncs each path once.
fn prepare(sandbox: &Sandbox) {
    sandbox.add("first", RANGE).succeeded();
    sandbox.del("first", RANGE).succeeded();
}

fn add(sandbox: &Sandbox, container: &str, living: &Living, pod: &str) -> Call {
    let args = format!(
        "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_UID={pod}"
    );
    let mut call = sandbox.call("ADD");
    call.set("CNI_CONTAINERID", container)
        .set("CNI_NETNS", living.path())
        .set("CNI_ARGS", args)
        .stdin(configuration(RANGE));
    call
}

fn del(sandbox: &Sandbox, container: &str) -> Call {
    sandbox.call("DEL").set("CNI_CONTAINERID", container).stdin(configuration(RANGE)).clone()
}

/// Returns a GC with an empty list.
fn gc(sandbox: &Sandbox) -> Call {
    sandbox
        .call("GC")
        .stdin(configuration(RANGE).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1))
        .clone()
}

/// Runs a call while another one is stopped: at once, or in the queue of the lock until the other
/// continues. Returns how both ended, the stopped one first.
fn run_beside(stopped: Stopped, is_locked: bool, call: &Call) -> (Ended, Ended) {
    if is_locked {
        let waiting = Waiting::start(call);
        return (stopped.go_on(), waiting.end());
    }
    let other = call.run();
    (stopped.go_on(), other)
}

/// Returns who holds what, in order of the addresses.
fn holders(sandbox: &Sandbox) -> Vec<(String, String)> {
    let text = |record: &serde_json::Value, key: &str| record[key].as_str().unwrap().to_owned();
    let mut holders: Vec<_> = sandbox
        .list()
        .iter()
        .map(|record| (text(record, "address"), text(record, "container")))
        .collect();
    holders.sort();
    holders
}

/// Returns the one address that a container holds according to the records.
fn held_by(sandbox: &Sandbox, container: &str) -> Option<String> {
    let mut held = holders(sandbox)
        .into_iter()
        .filter(|(_, holder)| holder == container)
        .map(|(address, _)| address);
    let first = held.next();
    assert_eq!(held.next(), None, "{container} holds two");
    first
}

/// Checks that after the DEL of these containers, only what a store always contains is left.
fn check_nothing_left(sandbox: &Sandbox, containers: &[&str]) {
    for container in containers {
        del(sandbox, container).run().succeeded();
    }
    assert_eq!(sandbox.files(), ["format", "nodes/n1/@machine-id"]);
}

/// Returns namespaces of sandboxes, or skips the test.
fn sandboxes<const COUNT: usize>() -> Option<[Living; COUNT]> {
    if !has_strace() {
        skipped!("no strace");
        return None;
    }
    let living: Option<Vec<Living>> = (0..COUNT).map(|_| Living::new()).collect();
    if living.is_none() {
        skipped!("needs root for a network namespace");
    }
    living?.try_into().ok()
}
