//! Orphans and late comers: real calls that stand still at a system call while
//! the runtime goes on, and then go on themselves. Every barrier is a stop, or a
//! place in the queue of a lock; nothing waits for a time.
//!
//! Whatever the order, an address that was printed to a sandbox that lives is
//! that sandbox's alone and stays so, and in the end nothing is left over. Not
//! here: many at once (`concurrency`), calls that are killed, steps that fail
//! (`every_step`).

use crate::support::living::Living;
use crate::support::sandbox::{Call, Ended, Sandbox, configuration};
use crate::support::stopped::{Moment, Stopped, Waiting, has_strace};

/// GC beside what it may collect and may not.
mod collecting;
/// DELs that come late, or before their ADD is done.
mod late_dels;
/// Another boot, another machine.
mod machines;
/// ADDs whose runtime has given up.
mod orphans;

const RANGE: &str = r#""range":"10.1.2.0/24""#;
/// The directory of the records, as the kernel shows its descriptor.
const SHARD: &str = "scopes/@/10.1.2.0_24";

/// Where an ADD stands still, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// It has read its configuration and done nothing.
    Start,
    /// The index entry is written and durable; the name is not given.
    Entry,
    /// The name is given.
    Name,
    /// All is durable, nothing is printed.
    Durable,
}

impl At {
    const ALL: [Self; 4] = [Self::Start, Self::Entry, Self::Name, Self::Durable];

    /// Whether it holds the lock there.
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

/// The caller of an ADD that stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Stays,
    Goes,
}

impl Caller {
    const BOTH: [Self; 2] = [Self::Stays, Self::Goes];

    /// The first ADD of a store, stopped; its caller has gone or has not.
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

/// Makes all directories, so that each path is synced once by an ADD.
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

/// GC with nobody in the list.
fn gc(sandbox: &Sandbox) -> Call {
    sandbox
        .call("GC")
        .stdin(configuration(RANGE).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1))
        .clone()
}

/// Runs a call beside one that stands still: at once, or in the queue of the
/// lock until the other goes on. How both ended, the one that stood still first.
fn run_beside(stopped: Stopped, is_locked: bool, call: &Call) -> (Ended, Ended) {
    if is_locked {
        let waiting = Waiting::start(call);
        return (stopped.go_on(), waiting.end());
    }
    let other = call.run();
    (stopped.go_on(), other)
}

/// Who holds what, in order of the addresses.
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

/// The one address that a container holds by the records.
fn held_by(sandbox: &Sandbox, container: &str) -> Option<String> {
    let mut held = holders(sandbox)
        .into_iter()
        .filter(|(_, holder)| holder == container)
        .map(|(address, _)| address);
    let first = held.next();
    assert_eq!(held.next(), None, "{container} holds two");
    first
}

/// That after the DEL of these nothing is there but what a store always has.
fn check_nothing_left(sandbox: &Sandbox, containers: &[&str]) {
    for container in containers {
        del(sandbox, container).run().succeeded();
    }
    assert_eq!(sandbox.files(), ["format", "nodes/n1/@machine-id"]);
}

/// Namespaces of sandboxes, or why there are none; skips the test then.
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
