//! ADDs that their runtime has given up: it has created a new sandbox of the same pod, or no
//! process reads the result.

use super::{
    At, Caller, add, check_nothing_left, del, held_by, holders, prepare, run_beside, sandboxes,
};
use crate::support::sandbox::Sandbox;
use crate::support::stopped::{Moment, Stopped};

/// Plays one order of events. `old_lives`: the runtime has left the old sandbox's namespace behind.
fn check_new_sandbox(at: At, caller: Caller, old_lives: bool, printed: &mut usize) {
    let [old, new, other] = sandboxes().unwrap();
    let case = format!("{at:?}, caller {caller:?}, old sandbox lives: {old_lives}");
    let sandbox = Sandbox::new();
    let orphan = caller.stopped(&sandbox, &add(&sandbox, "c1", &old, "web-0"), at);
    let old = Some(old).filter(|_| old_lives);
    let (late, second) = run_beside(orphan, at.is_locked(), &add(&sandbox, "c2", &new, "web-0"));
    let address = second.addresses().remove(0);
    assert_eq!(
        held_by(&sandbox, "c2").as_ref(),
        Some(&address),
        "{case}: the new sandbox keeps what was printed"
    );
    if late.stdout.contains("\"ips\"") {
        *printed += 1;
        assert_eq!(caller, Caller::Stays, "{case}: a result for nobody was printed");
        assert!(
            !old_lives || !late.stdout.contains(&format!("\"{address}/")),
            "{case}: {address} to two that live"
        );
        assert!(
            !old_lives || held_by(&sandbox, "c1").is_some(),
            "{case}: printed and not recorded"
        );
    } else {
        assert_eq!(held_by(&sandbox, "c1"), None, "{case}: not printed, and held");
    }
    // The next pod gets neither address, and the old sandbox's DEL comes late.
    let third = add(&sandbox, "c3", &other, "db-0").run().addresses().remove(0);
    assert_ne!(third, address, "{case}");
    del(&sandbox, "c1").run().succeeded();
    assert_eq!(
        (held_by(&sandbox, "c2"), held_by(&sandbox, "c3")),
        (Some(address), Some(third)),
        "{case}"
    );
    check_nothing_left(&sandbox, &["c2", "c3"]);
    drop((old, new, other));
}

#[test]
fn an_add_that_goes_on_late_shares_no_address_with_the_new_sandbox_of_its_pod() {
    let Some([]) = sandboxes() else { return };
    let (mut orders, mut printed) = (0, 0);
    for (at, caller) in At::ALL.into_iter().flat_map(|at| Caller::BOTH.map(|caller| (at, caller))) {
        for old_lives in [true, false] {
            check_new_sandbox(at, caller, old_lives, &mut printed);
            orders += 1;
        }
    }
    println!("{orders} orders, {printed} late results printed");
}

/// The old sandbox is dead, and its ADD has done everything except print: the new sandbox gets
/// another address, because the old ADD may still undo its own.
#[test]
fn what_an_orphan_may_take_back_is_not_rehomed() {
    let Some([old, new]) = sandboxes() else { return };
    let sandbox = Sandbox::new();
    let pod_entry = Moment::new("linkat", "default%2Fweb-0@net1.0");
    let mut orphan = Stopped::below_caller(&add(&sandbox, "c1", &old, "web-0"), &pod_entry);
    orphan.lose_caller();
    drop(old);
    assert_eq!(add(&sandbox, "c2", &new, "web-0").run().addresses(), ["10.1.2.2"]);
    let late = orphan.go_on();
    assert!(late.stderr.contains("the calling process has exited"), "{late:?}");
    assert_eq!(holders(&sandbox), [("10.1.2.2".to_owned(), "c2".to_owned())]);
    check_nothing_left(&sandbox, &["c1", "c2"]);
}

/// Cause: the undo of an ADD compared only the attachment, and nothing excluded other calls of the
/// attachment until the answer was delivered. Effect: the runtime repeated the ADD, or made a DEL
/// and a new ADD. The orphan freed what that call had printed, and the next pod got it. Fix: the
/// attachment is locked until the answer is delivered, and an undo frees exactly the record that
/// its call made.
#[test]
fn an_orphan_takes_back_nothing_that_a_later_call_of_its_attachment_printed() {
    let Some([living, other]) = sandboxes() else { return };
    for (at, ends_first) in At::ALL.into_iter().flat_map(|at| [(at, false), (at, true)]) {
        let case = format!("{at:?}, DEL first: {ends_first}");
        let sandbox = Sandbox::new();
        let call = add(&sandbox, "c1", &living, "web-0");
        let orphan = Caller::Goes.stopped(&sandbox, &call, at);
        let locked = at != At::Start;
        let (late, next) = if ends_first {
            let (late, ended) = run_beside(orphan, locked, &del(&sandbox, "c1"));
            ended.succeeded();
            (late, call.run())
        } else {
            run_beside(orphan, locked, &call)
        };
        assert!(!late.stdout.contains("\"ips\""), "{case}: {late:?}");
        assert_eq!(next.addresses(), ["10.1.2.1"], "{case}");
        assert_eq!(add(&sandbox, "c2", &other, "db-0").run().addresses(), ["10.1.2.2"], "{case}");
        assert_eq!(held_by(&sandbox, "c1").as_deref(), Some("10.1.2.1"), "{case}");
        check_nothing_left(&sandbox, &["c1", "c2"]);
    }
}

/// Cause: an ADD whose last flush failed removed its name, while a repeat had found the name and
/// printed it. Effect: the next pod got the same address. Fix: the attachment is locked until the
/// answer is delivered, or the name is removed.
#[test]
fn a_name_that_could_not_be_flushed_is_not_taken_back_from_a_repeat() {
    let Some([living, other]) = sandboxes() else { return };
    let sandbox = Sandbox::new();
    prepare(&sandbox);
    let call = add(&sandbox, "c1", &living, "web-0");
    let failing = Stopped::after(&call, &At::Durable.moment(&sandbox, "n1").failing("EIO"));
    let (failed, repeated) = run_beside(failing, true, &call);
    assert!(failed.status == Some(1) && failed.stdout.contains("EIO"), "{failed:?}");
    assert_eq!(repeated.addresses(), ["10.1.2.1"]);
    assert_eq!(add(&sandbox, "c2", &other, "db-0").run().addresses(), ["10.1.2.2"]);
    assert_eq!(held_by(&sandbox, "c1").as_deref(), Some("10.1.2.1"));
    check_nothing_left(&sandbox, &["c1", "c2"]);
}

/// A repeat has created nothing, so it undoes nothing, even if its reader or its caller exits in
/// the last instant.
#[test]
fn a_repeat_that_reaches_nobody_undoes_nothing() {
    let Some([living]) = sandboxes() else { return };
    for caller in Caller::BOTH {
        let sandbox = Sandbox::new();
        let call = add(&sandbox, "c1", &living, "web-0");
        prepare(&sandbox);
        assert_eq!(call.run().addresses(), ["10.1.2.1"]);
        let mut repeat = Stopped::below_caller(&call, &At::Durable.moment(&sandbox, "n1"));
        match caller {
            Caller::Goes => repeat.lose_caller(),
            Caller::Stays => repeat.lose_reader(),
        }
        let ended = repeat.go_on();
        assert_ne!(ended.status, Some(0), "{ended:?}");
        assert!(!ended.stdout.contains("\"ips\""), "{ended:?}");
        assert_eq!(holders(&sandbox), [("10.1.2.1".to_owned(), "c1".to_owned())], "{caller:?}");
        check_nothing_left(&sandbox, &["c1"]);
    }
}

/// The same if the repeat has moved the record to today's namespace: the sandbox that the record
/// now names lives.
#[test]
fn a_repeat_that_was_rehomed_to_itself_and_reaches_nobody_undoes_nothing() {
    let Some([old, new]) = sandboxes() else { return };
    let sandbox = Sandbox::new();
    add(&sandbox, "c1", &old, "web-0").run().succeeded();
    drop(old);
    let mut repeat =
        Stopped::after(&add(&sandbox, "c1", &new, "web-0"), &At::Durable.moment(&sandbox, "n1"));
    repeat.lose_reader();
    assert_ne!(repeat.go_on().status, Some(0));
    assert_eq!(sandbox.list()[0]["netns"].as_str(), Some(&*new.path()));
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    check_nothing_left(&sandbox, &["c1"]);
}
