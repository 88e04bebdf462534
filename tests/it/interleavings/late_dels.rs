//! DELs that come late: after their address has been given to another pod, or before their own ADD
//! has ended.

use super::{
    At, Caller, RANGE, add, check_nothing_left, del, gc, held_by, holders, prepare, run_beside,
    sandboxes,
};
use crate::support::sandbox::Sandbox;
use crate::support::stopped::{Moment, Stopped};

fn one(address: &str, container: &str) -> Vec<(String, String)> {
    vec![(address.to_owned(), container.to_owned())]
}

/// A DEL is stopped at its start. Meanwhile the runtime's second DEL completes, and the address is
/// given to another pod. Or it goes to the pod's new sandbox by re-homing, without a second DEL.
#[test]
fn a_del_that_goes_on_late_frees_nothing_of_the_new_holder() {
    let Some([old, new]) = sandboxes() else { return };
    for rehomed in [false, true] {
        let sandbox = Sandbox::new();
        let first = sandboxes::<1>().unwrap();
        add(&sandbox, "c1", &first[0], "web-0").run().succeeded();
        let late = Stopped::after(&del(&sandbox, "c1"), &At::Start.moment(&sandbox, "n1"));
        drop(first);
        if !rehomed {
            del(&sandbox, "c1").run().succeeded();
            sandbox.forget_freed();
        }
        let pod = if rehomed { "web-0" } else { "db-0" };
        assert_eq!(
            add(&sandbox, "c2", &new, pod).run().addresses(),
            ["10.1.2.1"],
            "rehomed: {rehomed}"
        );
        late.go_on().succeeded();
        assert_eq!(holders(&sandbox), one("10.1.2.1", "c2"), "rehomed: {rehomed}");
        assert_eq!(add(&sandbox, "c3", &old, "other").run().addresses(), ["10.1.2.2"]);
        check_nothing_left(&sandbox, &["c2", "c3"]);
    }
}

/// Under the lock, no other call can get the address: after the DEL has read the holder, and after
/// it has removed the name but not yet the index entry.
#[test]
fn a_del_that_stands_still_under_the_lock_keeps_others_away_until_it_is_done() {
    let Some([living]) = sandboxes() else { return };
    for call in ["openat", "unlinkat"] {
        let sandbox = Sandbox::new();
        sandbox.add("c1", RANGE).succeeded();
        let late = Stopped::after(&del(&sandbox, "c1"), &Moment::new(call, "10.1.2.1"));
        let (late, new) = run_beside(late, true, &add(&sandbox, "c2", &living, "web-0"));
        late.succeeded();
        assert_eq!(new.addresses(), ["10.1.2.1"], "{call}");
        assert_eq!(holders(&sandbox), one("10.1.2.1", "c2"), "{call}");
        check_nothing_left(&sandbox, &["c2"]);
    }
}

/// The runtime gives up, makes the DEL, and removes the sandbox, and then the ADD continues. It
/// prints an address of a dead sandbox, and GC finds its record.
fn check_overtaken(at: At, caller: Caller) -> bool {
    let [old, new] = sandboxes().unwrap();
    let case = format!("{at:?}, caller {caller:?}");
    let sandbox = Sandbox::new();
    let late = caller.stopped(&sandbox, &add(&sandbox, "c1", &old, "web-0"), at);
    let (late, overtaking) = if at != At::Start {
        run_beside(late, true, &del(&sandbox, "c1"))
    } else {
        del(&sandbox, "c1").run().succeeded();
        run_beside(late, false, &add(&sandbox, "c2", &new, "db-0"))
    };
    overtaking.succeeded();
    let address = add(&sandbox, "c2", &new, "db-0").run().addresses().remove(0);
    assert_eq!(held_by(&sandbox, "c2"), Some(address.clone()), "{case}");
    let leaked = held_by(&sandbox, "c1").is_some();
    match caller {
        Caller::Goes => assert!(!leaked && !late.stdout.contains("\"ips\""), "{case}: {late:?}"),
        // An ADD that begins after its DEL looks like any other ADD.
        Caller::Stays => assert!(!leaked || at == At::Start, "{case}"),
    }
    drop(old);
    gc(&sandbox).run().succeeded();
    assert_eq!(
        holders(&sandbox),
        one(&address, "c2"),
        "{case}: GC finds what is left, and that alone"
    );
    check_nothing_left(&sandbox, &["c2"]);
    leaked
}

#[test]
fn a_del_that_overtakes_its_add_leaves_nothing_that_gc_does_not_find() {
    let Some([]) = sandboxes() else { return };
    let orders = At::ALL.into_iter().flat_map(|at| Caller::BOTH.map(|caller| (at, caller)));
    let leaks: Vec<_> = orders.filter(|(at, caller)| check_overtaken(*at, *caller)).collect();
    println!("8 orders, records left for GC: {leaks:?}");
    assert_eq!(leaks, [(At::Start, Caller::Stays)]);
}

/// The DEL comes between two addresses of one ADD, which holds the lock to its end: it frees both.
#[test]
fn a_del_between_two_addresses_of_an_add_frees_both() {
    let Some([living]) = sandboxes() else { return };
    let ranges = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"10.1.3.0/24"}]"#;
    let sandbox = Sandbox::new();
    prepare(&sandbox);
    let mut call = add(&sandbox, "c1", &living, "web-0");
    let late = Stopped::after(
        call.stdin(super::configuration(ranges)),
        &At::Durable.moment(&sandbox, "n1"),
    );
    let (late, overtaking) = run_beside(late, true, &del(&sandbox, "c1"));
    assert_eq!(late.addresses(), ["10.1.2.1", "10.1.3.1"]);
    overtaking.succeeded();
    check_nothing_left(&sandbox, &[]);
}

/// An ADD links its entry by pod after it has released the store's lock. A DEL waits until the ADD
/// has ended, and removes that entry too.
#[test]
fn an_entry_by_pod_that_is_made_late_goes_with_the_del() {
    let Some([living]) = sandboxes() else { return };
    let sandbox = Sandbox::new();
    add(&sandbox, "c0", &living, "web-0").run().succeeded();
    del(&sandbox, "c0").run().succeeded();
    let add = Caller::Stays.stopped(&sandbox, &add(&sandbox, "c1", &living, "web-0"), At::Durable);
    let (add, del) = run_beside(add, true, &del(&sandbox, "c1"));
    add.succeeded();
    del.succeeded();
    check_nothing_left(&sandbox, &[]);
}
