//! GC during an ADD, and an ADD during a GC that is stopped. The list of GC is always empty: a
//! living sandbox that it lacks is kept.

use super::{At, RANGE, add, check_nothing_left, del, gc, holders, prepare, run_beside, sandboxes};
use crate::support::sandbox::{Call, Sandbox};
use crate::support::stopped::{Moment, NO_LOCKS, Stopped};

/// Runs GC at each place of an ADD. If the ADD holds the lock, GC waits. Also runs with useless
/// locks, so that GC sees what is half done.
fn check_beside_add(at: At, without_locks: bool) {
    let [living, other] = sandboxes().unwrap();
    let case = format!("{at:?}, without locks: {without_locks}");
    let sandbox = Sandbox::new();
    prepare(&sandbox);
    let flying = Stopped::after(&add(&sandbox, "c1", &living, "web-0"), &at.moment(&sandbox, "n1"));
    let mut collect = gc(&sandbox);
    if without_locks {
        collect.through(NO_LOCKS);
    }
    let (added, collected) = run_beside(flying, at.is_locked() && !without_locks, &collect);
    collected.succeeded();
    assert_eq!(added.addresses(), ["10.1.2.1"], "{case}");
    assert_eq!(holders(&sandbox), [("10.1.2.1".to_owned(), "c1".to_owned())], "{case}");
    // Its holder still finds it: the entry was not taken for a dangling entry.
    assert_eq!(add(&sandbox, "c1", &living, "web-0").run().addresses(), ["10.1.2.1"], "{case}");
    assert_eq!(add(&sandbox, "c2", &other, "db-0").run().addresses(), ["10.1.2.2"], "{case}");
    check_nothing_left(&sandbox, &["c1", "c2"]);
}

#[test]
fn gc_frees_nothing_of_an_add_in_flight() {
    let Some([]) = sandboxes() else { return };
    for at in At::ALL {
        check_beside_add(at, false);
        check_beside_add(at, true);
    }
    println!("8 orders");
}

/// An ADD of another node, whose sandbox cannot be seen from here. To this node, its record would
/// look dead.
#[test]
fn gc_frees_nothing_of_an_add_in_flight_on_another_node() {
    let Some([]) = sandboxes() else { return };
    for (at, without_locks) in At::ALL.into_iter().flat_map(|at| [(at, false), (at, true)]) {
        let sandbox = Sandbox::new();
        let (other, machine) = (
            sandbox.write("n2.conf", &sandbox.flat("n2")),
            sandbox.write("machine", "22222222222222222222222222222222\n"),
        );
        let on_n2 = |verb: &str| -> Call {
            let mut call = sandbox.call(verb);
            call.set("HEREABOUTS_CONFIG", other.to_str().unwrap())
                .set("CNI_CONTAINERID", "c2")
                .stdin(super::configuration(RANGE));
            call.seeing("/etc/machine-id", &machine);
            call
        };
        prepare(&sandbox);
        on_n2("ADD").run().succeeded();
        on_n2("DEL").run().succeeded();
        let flying = Stopped::after(&on_n2("ADD"), &at.moment(&sandbox, "n2"));
        let mut collect = gc(&sandbox);
        if without_locks {
            collect.through(NO_LOCKS);
        }
        let (added, collected) = run_beside(flying, at.is_locked() && !without_locks, &collect);
        collected.succeeded();
        assert_eq!(added.addresses(), ["10.1.2.1"], "{at:?}");
        gc(&sandbox).run().succeeded();
        assert_eq!(
            holders(&sandbox),
            [("10.1.2.1".to_owned(), "c2".to_owned())],
            "{at:?} {without_locks}"
        );
        on_n2("DEL").run().succeeded();
        assert!(sandbox.held().is_empty());
    }
}

/// GC has seen that a record's sandbox is dead, and is stopped before it frees the record.
/// Meanwhile one of three things happens. GC checks again under the lock.
#[test]
fn gc_that_saw_a_record_dead_frees_nothing_that_has_changed_since() {
    let Some([new]) = sandboxes() else { return };
    for way in ["repeated", "re-homed", "given to another"] {
        let sandbox = Sandbox::new();
        let [old] = sandboxes().unwrap();
        let path = old.path();
        add(&sandbox, "c1", &old, "web-0").run().succeeded();
        drop(old);
        let collecting = Stopped::after(&gc(&sandbox), &Moment::new("openat", path));
        let holder = match way {
            "repeated" => ("c1", "web-0"),
            "re-homed" => ("c2", "web-0"),
            _ => {
                del(&sandbox, "c1").run().succeeded();
                sandbox.forget_freed();
                ("c2", "db-0")
            }
        };
        assert_eq!(
            add(&sandbox, holder.0, &new, holder.1).run().addresses(),
            ["10.1.2.1"],
            "{way}"
        );
        collecting.go_on().succeeded();
        assert_eq!(holders(&sandbox), [("10.1.2.1".to_owned(), holder.0.to_owned())], "{way}");
        check_nothing_left(&sandbox, &["c1", "c2"]);
    }
}
