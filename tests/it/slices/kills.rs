//! Calls that are killed at each of their steps: what the next call does is right, and one slice is
//! all that the node owns.

use super::returning::{change_notes, sweep};
use super::{Slices, shared};
use crate::support::living::Living;
use crate::support::nodes::{Node, own_name};
use crate::support::sandbox::Call;
use serde_json::json;

/// The system calls that change something here or at the API server, or take its answer.
const STEPS: [&str; 5] = ["renameat", "linkat", "unlinkat", "write", "read"];

/// Kills a call when it makes a system call for the nth time. Returns false if it ended before.
fn is_killed(call: &mut Call, name: &str, nth: usize) -> bool {
    let inject = format!("inject={name}:signal=KILL:when={nth}");
    let trace = format!("trace={name}");
    call.through(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
    call.run().status != Some(0)
}

/// Returns a pool of 16 slices, whose range no other one has.
fn pool(slices: &mut Slices, number: usize) {
    slices.pool = own_name("sliced");
    let range = format!("10.{}.{}.0/24", 67 + number / 256, number % 256);
    slices
        .write(&json!({"ranges": [{"ipv4": range}], "slices": {"ipv4": {"perNodeMaskSize": 28}}}));
}

/// Checks that the node gives addresses of its only slice.
fn check(slices: &Slices, node: &Node, what: &str) {
    let given = ["a_0", "b_0", "a_0"].map(|container| slices.add(node, container).addresses());
    assert_eq!(given[0], given[2], "{what}");
    assert_ne!(given[0], given[1], "{what}");
    let owners = slices.owners();
    assert_eq!(owners.len(), 1, "{what}: {owners:?}");
    let block = owners[0].split('/').next().unwrap();
    let of = |address: &str| {
        let (first, last) = address.rsplit_once('.').unwrap();
        (first.to_owned(), last.parse::<u8>().unwrap() / 16)
    };
    for given in given {
        assert_eq!(of(&given[0]), of(block), "{what}");
    }
}

#[test]
fn an_add_or_a_return_that_is_killed_at_any_step_leaves_one_slice_and_no_address_twice() {
    let Some(cluster) = shared() else { return };
    let Some(_living) = Living::new() else { return skipped!("strace needs root") };
    let mut slices = Slices::of(cluster, String::new());
    let mut number = 0;
    for name in STEPS {
        for is_add in [true, false] {
            // A call reads much more often than it writes.
            for nth in (1..).step_by(if name == "read" { 7 } else { 1 }) {
                pool(&mut slices, number);
                number += 1;
                let node = slices.node("one");
                let what = format!("{name} {nth}, {}", if is_add { "ADD" } else { "sweep" });
                let killed = if is_add {
                    is_killed(&mut slices.call(&node, "ADD", "a_0"), name, nth)
                } else {
                    slices.add(&node, "c_0").succeeded();
                    slices.del(&node, "c_0");
                    sweep(&node);
                    change_notes(&node, |slice| slice["empty_since"] = json!(-600_000));
                    is_killed(&mut node.sandbox.command_call(&["sweep", "--yes"]), name, nth)
                };
                if !is_add {
                    // What was marked is given back, and no second slice is used until then.
                    sweep(&node);
                }
                check(&slices, &node, &what);
                if !killed {
                    break;
                }
            }
        }
    }
}
