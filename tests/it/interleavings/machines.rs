//! Another boot of the machine, and another machine with the same node name. Each call sees its own
//! boot id and machine id: a file that is mounted over the kernel's in a mount namespace.

use super::{RANGE, add, check_nothing_left, del, gc, held_by, prepare, sandboxes};
use crate::support::living::Living;
use crate::support::sandbox::{Call, Ended, Sandbox, configuration};
use crate::support::stopped::{Moment, NO_LOCKS, Stopped, Waiting};
use std::collections::BTreeSet;
use std::path::Path;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const MACHINE_ID: &str = "/etc/machine-id";
const FIRST: &str = "11111111111111111111111111111111";
const SECOND: &str = "22222222222222222222222222222222";
const PODS: usize = 6;

/// Returns a call in a boot with this id.
fn in_boot(sandbox: &Sandbox, boot: &str, mut call: Call) -> Call {
    let path = sandbox.write(boot, &format!("{boot}\n"));
    call.seeing(BOOT_ID, &path);
    call
}

fn on_machine(sandbox: &Sandbox, id: &str, mut call: Call) -> Call {
    let path = sandbox.write(id, &format!("{id}\n"));
    call.seeing(MACHINE_ID, &path);
    call
}

/// Makes the ADDs of all pods in one boot, in sandboxes of that boot.
fn adds(sandbox: &Sandbox, boot: &str, living: &Living, generation: &str, pod: &str) -> Vec<Call> {
    (0..PODS)
        .map(|n| {
            in_boot(
                sandbox,
                boot,
                add(sandbox, &format!("{generation}{n}"), living, &format!("{pod}-{n}")),
            )
        })
        .collect()
}

/// All pods are recreated (`pod` says whether as the same pods) while the DELs of the boot before
/// are stopped. The range has no spare address.
fn check_reboot(pod: &str, at: &Moment) {
    let [old, new] = sandboxes().unwrap();
    let sandbox = Sandbox::new();
    let small = |mut call: Call| call.stdin(configuration(r#""range":"10.1.2.0/29""#)).clone();
    for call in adds(&sandbox, "yesterday", &old, "old", "web") {
        small(call).run().succeeded();
    }
    drop(old);
    let dels =
        (0..PODS).map(|n| small(in_boot(&sandbox, "today", del(&sandbox, &format!("old{n}")))));
    let late: Vec<Stopped> = dels.map(|call| Stopped::after(&call, at)).collect();
    let mut printed = BTreeSet::new();
    for call in adds(&sandbox, "today", &new, "new", pod) {
        printed.extend(small(call).run().addresses());
    }
    assert_eq!(printed.len(), PODS, "{pod}: each its own: {printed:?}");
    for stopped in late {
        stopped.go_on().succeeded();
    }
    assert_eq!(
        sandbox.held(),
        printed.into_iter().collect::<Vec<_>>(),
        "{pod}: all that was printed stands, and no more"
    );
    for n in 0..PODS {
        assert!(held_by(&sandbox, &format!("new{n}")).is_some(), "{pod} {n}");
    }
    // Today's GC keeps them, and today's DELs leave nothing.
    in_boot(&sandbox, "today", gc(&sandbox)).run().succeeded();
    assert_eq!(sandbox.held().len(), PODS);
    for n in 0..PODS {
        in_boot(&sandbox, "today", del(&sandbox, &format!("new{n}"))).run().succeeded();
    }
    check_nothing_left(&sandbox, &[]);
}

#[test]
fn dels_of_before_a_reboot_free_nothing_of_the_pods_made_again_since() {
    let Some([]) = sandboxes() else { return };
    for pod in ["web", "other"] {
        check_reboot(pod, &Moment::new("openat", "format"));
    }
}

/// The same without any waiting.
#[test]
fn dels_of_before_a_reboot_beside_the_adds_after_it_leave_each_pod_its_own() {
    let Some([new]) = sandboxes() else { return };
    for round in 0..5 {
        let sandbox = Sandbox::new();
        let [old] = sandboxes().unwrap();
        for call in adds(&sandbox, "yesterday", &old, "old", "web") {
            call.run().succeeded();
        }
        drop(old);
        let mut calls = adds(&sandbox, "today", &new, "new", "web");
        calls.extend(
            (0..PODS).map(|n| in_boot(&sandbox, "today", del(&sandbox, &format!("old{n}")))),
        );
        let ended: Vec<Ended> = std::thread::scope(|scope| {
            let started: Vec<_> = calls.iter().map(|call| scope.spawn(|| call.run())).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let printed: BTreeSet<String> = ended[..PODS].iter().flat_map(Ended::addresses).collect();
        ended[PODS..].iter().for_each(|del| assert_eq!(del.status, Some(0), "{del:?}"));
        assert_eq!(printed.len(), PODS, "round {round}");
        assert_eq!(sandbox.held().into_iter().collect::<BTreeSet<_>>(), printed, "round {round}");
        let containers: Vec<String> = (0..PODS).map(|n| format!("new{n}")).collect();
        check_nothing_left(&sandbox, &containers.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

fn check_refused(ended: &Ended) {
    assert_eq!(ended.code(), 7, "{ended:?}");
    for word in ["node name n1", "@machine-id", FIRST, SECOND, "node_name"] {
        assert!(ended.details().contains(word), "{word}: {ended:?}");
    }
}

#[test]
fn a_second_machine_of_one_node_name_is_refused_and_both_are_named() {
    if !Path::new(MACHINE_ID).exists() {
        skipped!("this machine has no /etc/machine-id");
        return;
    }
    let Some([]) = sandboxes() else { return };
    let sandbox = Sandbox::new();
    let call = |verb: &str| sandbox.call(verb).stdin(configuration(RANGE)).clone();
    on_machine(&sandbox, FIRST, call("ADD")).run().succeeded();
    let before = sandbox.files();
    // Its sandbox looks dead: a second machine would free it.
    for call in [call("ADD"), call("DEL"), gc(&sandbox)] {
        check_refused(&on_machine(&sandbox, SECOND, call).run());
    }
    assert_eq!(sandbox.files(), before);
    on_machine(&sandbox, FIRST, call("DEL")).run().succeeded();
    assert!(sandbox.held().is_empty());
}

/// Two machines come for the first time at once, and locks do not exclude each other: one has seen
/// that the name is unused and is stopped, the other takes it.
#[test]
fn of_two_machines_that_take_one_node_name_at_once_one_is_refused() {
    if !Path::new(MACHINE_ID).exists() {
        skipped!("this machine has no /etc/machine-id");
        return;
    }
    let Some([]) = sandboxes() else { return };
    let sandbox = Sandbox::new();
    prepare(&sandbox);
    std::fs::remove_file(sandbox.store().join("nodes/n1/@machine-id")).unwrap();
    // With two pods, because calls of one attachment wait for each other.
    let call = |id: &str| {
        let container = if id == FIRST { "c1" } else { "abc123" };
        on_machine(
            &sandbox,
            id,
            sandbox
                .call("ADD")
                .set("CNI_CONTAINERID", container)
                .stdin(configuration(RANGE))
                .clone(),
        )
    };
    let late = Stopped::after(&call(FIRST), &Moment::new("openat", "@machine-id"));
    call(SECOND).through(NO_LOCKS).run().succeeded();
    check_refused(&late.go_on());
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    // With the lock, the second machine waits for the first, and is then refused.
    on_machine(&sandbox, SECOND, del(&sandbox, "abc123")).run().succeeded();
    std::fs::remove_file(sandbox.store().join("nodes/n1/@machine-id")).unwrap();
    let first = Stopped::after(&call(FIRST), &Moment::new("openat", "@machine-id"));
    let second = Waiting::start(&call(SECOND));
    first.go_on().succeeded();
    check_refused(&second.end());
}
