//! File stores: a lock that another process holds, and a store that does not exist.

use super::{call, fail_to_del, living, lock, owed, run, until_settled};
use crate::support::sandbox::Sandbox;
use crate::support::stopped::{Moment, Stopped, has_strace};

#[test]
fn a_del_that_finds_the_store_busy_is_owed_and_settled_by_another_call_when_the_sandbox_is_gone() {
    let (sandbox, Some(living)) = (Sandbox::new(), living()) else { return };
    assert_eq!(run(&sandbox, "ADD", "c1", Some(&living)).addresses(), ["10.1.2.1"]);
    let failed = fail_to_del(&sandbox, "c1", Some(&living));
    assert!(
        failed
            .details()
            .contains("this node noted a debt: it completes the DEL when the sandbox is gone"),
        "{failed:?}"
    );
    let [debt] = &owed(&sandbox)[..] else { panic!("{:?}", owed(&sandbox)) };
    assert_eq!((&debt["answered"], &debt["exclusive"]), (&"error".into(), &true.into()));
    assert_eq!(debt["held"][0]["record"]["address"], "10.1.2.1");

    // The interface may be up and use the address.
    for verb in ["ADD", "DEL"] {
        run(&sandbox, verb, "other", None).succeeded();
        assert_eq!(sandbox.held()[0], "10.1.2.1", "{verb}");
    }
    assert_eq!(owed(&sandbox).len(), 1);
    drop(living);
    assert_eq!(run(&sandbox, "ADD", "other", None).addresses(), ["10.1.2.2"]);
    until_settled(&sandbox, || drop(run(&sandbox, "ADD", "other", None)));
    assert_eq!(sandbox.held(), ["10.1.2.2"]);
}

/// An ADD, a DEL and a CHECK each, in a store of their own.
#[test]
fn every_verb_but_status_and_version_settles_debts() {
    let settles = |verb: &str| {
        let sandbox = Sandbox::new();
        let other = run(&sandbox, "ADD", "other", None);
        run(&sandbox, "ADD", "c1", None).succeeded();
        fail_to_del(&sandbox, "c1", None);
        let mut call = call(&sandbox, verb, "other", None);
        let mut stdin: serde_json::Value = serde_json::from_slice(&call.stdin).unwrap();
        match verb {
            "CHECK" => stdin["prevResult"] = other.document(),
            "GC" => {
                stdin["cni.dev/valid-attachments"] =
                    serde_json::json!([{"containerID": "other", "ifname": "net1"}])
            }
            _ => {}
        }
        call.stdin(stdin.to_string()).run().succeeded();
        if !["STATUS", "VERSION"].contains(&verb) {
            until_settled(&sandbox, || drop(call.run()));
        }
        owed(&sandbox).is_empty()
    };
    for (verb, expected) in [
        ("ADD", true),
        ("DEL", true),
        ("CHECK", true),
        ("GC", true),
        ("STATUS", false),
        ("VERSION", false),
    ] {
        assert_eq!(settles(verb), expected, "{verb}");
    }
}

#[test]
fn the_runtimes_next_del_settles_the_debt_though_the_sandbox_lives() {
    let (sandbox, Some(living)) = (Sandbox::new(), living()) else { return };
    run(&sandbox, "ADD", "c1", Some(&living)).succeeded();
    let first = fail_to_del(&sandbox, "c1", Some(&living));
    let since = owed(&sandbox)[0]["since"].clone();
    // A DEL that is repeated without success does not make the debt younger.
    assert_eq!(fail_to_del(&sandbox, "c1", Some(&living)).details(), first.details());
    assert_eq!(owed(&sandbox)[0]["since"], since);
    run(&sandbox, "DEL", "c1", Some(&living)).succeeded();
    assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (0, 0));
}

#[test]
fn a_del_that_has_nothing_to_free_owes_nothing() {
    let sandbox = Sandbox::new();
    run(&sandbox, "ADD", "c1", None).succeeded();
    fail_to_del(&sandbox, "nobody", None);
    assert_eq!(owed(&sandbox).len(), 0);
    assert!(!sandbox.path("debts").exists());
}

/// The sandbox is created again while a DEL of it is owed: it keeps its addresses.
#[test]
fn an_add_of_a_living_sandbox_answers_with_what_it_holds_and_nothing_is_owed_any_more() {
    let (sandbox, Some(living)) = (Sandbox::new(), living()) else { return };
    run(&sandbox, "ADD", "before", None).succeeded();
    run(&sandbox, "ADD", "c1", Some(&living)).succeeded();
    run(&sandbox, "DEL", "before", None).succeeded();
    fail_to_del(&sandbox, "c1", Some(&living));
    assert_eq!(run(&sandbox, "ADD", "c1", Some(&living)).addresses(), ["10.1.2.2"]);
    assert_eq!((sandbox.held(), owed(&sandbox).len()), (vec!["10.1.2.2".to_owned()], 0));
    // An address that a later call answers with stays, whatever is settled.
    run(&sandbox, "ADD", "other", None).succeeded();
    sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!(sandbox.held()[1], "10.1.2.2");
}

#[test]
fn an_add_frees_what_its_dead_sandbox_owes_before_it_looks() {
    let sandbox = Sandbox::new();
    run(&sandbox, "ADD", "before", None).succeeded();
    run(&sandbox, "ADD", "c1", None).succeeded();
    fail_to_del(&sandbox, "c1", None);
    until_settled(&sandbox, || drop(run(&sandbox, "DEL", "nobody", None)));
    // It is settled by then. Another debt, that an ADD of the same attachment meets first.
    assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (1, 0));
    run(&sandbox, "ADD", "c1", None).succeeded();
    fail_to_del(&sandbox, "c1", None);
    assert_eq!(run(&sandbox, "ADD", "c1", None).addresses(), ["10.1.2.2"]);
    assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (2, 0));
}

#[test]
fn an_add_answers_11_where_what_is_owed_cannot_be_settled() {
    let (sandbox, Some(living)) = (Sandbox::new(), living()) else { return };
    run(&sandbox, "ADD", "c1", Some(&living)).succeeded();
    fail_to_del(&sandbox, "c1", Some(&living));
    let debts = sandbox.path("debts");
    let mut add = call(&sandbox, "ADD", "c1", Some(&living));
    let script = r#"mount --bind -o ro "$0" "$0" && exec "$@""#;
    add.through(&["unshare", "--mount", "sh", "-c", script, debts.to_str().unwrap()]);
    let refused = add.run();
    assert!(
        refused.code() == 11
            && refused
                .details()
                .contains("the debt of an earlier DEL of this attachment cannot be settled"),
        "{refused:?}"
    );
    assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (1, 1));
    run(&sandbox, "ADD", "c1", Some(&living)).succeeded();
    assert_eq!(owed(&sandbox).len(), 0);
}

/// The directory has changed, so it is unknown what is held.
#[test]
fn a_del_of_a_store_that_is_away_is_owed_until_it_is_back() {
    let sandbox = Sandbox::new();
    run(&sandbox, "ADD", "c1", None).succeeded();
    let away = sandbox.path("away");
    std::fs::rename(sandbox.store(), &away).unwrap();
    std::fs::write(sandbox.store(), "").unwrap();
    let failed = run(&sandbox, "DEL", "c1", None);
    assert_eq!(failed.code(), 5, "{failed:?}");
    let debt = owed(&sandbox).remove(0);
    assert_eq!((&debt["held"], &debt["exclusive"]), (&serde_json::Value::Null, &false.into()));
    let unsettled = sandbox.command(&["sweep", "--debts", "--yes"]);
    assert!(
        unsettled.status == Some(1) && unsettled.stderr.contains("cannot settle the debt of"),
        "{unsettled:?}"
    );
    std::fs::remove_file(sandbox.store()).unwrap();
    // A missing directory is no answer, either.
    sandbox.command(&["sweep", "--debts", "--yes"]);
    assert_eq!(owed(&sandbox).len(), 1);
    std::fs::rename(away, sandbox.store()).unwrap();
    let settled = sandbox.command(&["sweep", "--debts", "--yes"]);
    assert_eq!(
        settled.succeeded().stdout,
        "settled the debt of container c1, interface net1, network net1\n"
    );
    assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (0, 0));
}

/// Cause: an ADD that is stopped holds the lock of its attachment, and its DEL gives up. Effect if
/// that debt were settled like others: the address that the ADD then answers with is freed. Fix:
/// for such a debt, only records of dead sandboxes are freed.
#[test]
fn an_add_that_ends_after_its_del_keeps_its_address_while_its_sandbox_lives() {
    let (sandbox, Some(living)) = (Sandbox::new(), living()) else { return };
    if !has_strace() {
        return skipped!("strace is missing");
    }
    run(&sandbox, "ADD", "before", None).succeeded();
    let shard = sandbox.store().join("scopes/@/10.1.2.0_24");
    let add = call(&sandbox, "ADD", "c1", Some(&living));
    let stopped = Stopped::after(&add, &Moment::new("fsync", shard.to_str().unwrap()));
    let failed = run(&sandbox, "DEL", "c1", Some(&living));
    assert_eq!(failed.code(), 11, "{failed:?}");
    let debt = owed(&sandbox).remove(0);
    assert_eq!((&debt["held"], &debt["exclusive"]), (&serde_json::Value::Null, &false.into()));
    assert_eq!(stopped.go_on().addresses(), ["10.1.2.2"]);
    run(&sandbox, "ADD", "other", None).succeeded();
    sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (3, 1));
    drop(living);
    sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (2, 0));
}

/// The same for an ADD that cannot undo its claims.
#[test]
fn an_add_that_cannot_take_back_what_it_made_owes_it() {
    let (sandbox, Some(living)) = (Sandbox::new(), living()) else { return };
    if !has_strace() {
        return skipped!("strace is missing");
    }
    run(&sandbox, "ADD", "before", None).succeeded();
    let shard = sandbox.store().join("scopes/@/10.1.2.0_24");
    let mut add = call(&sandbox, "ADD", "c1", Some(&living));
    add.stdin(crate::support::sandbox::configuration(
        r#""range":"10.1.2.0/24","deadlines":{"add":"250ms"}"#,
    ));
    let mut stopped = Stopped::after(&add, &Moment::new("fsync", shard.to_str().unwrap()));
    stopped.lose_reader();
    let held = lock(&sandbox);
    let failed = stopped.go_on();
    drop(held);
    assert_ne!(failed.status, Some(0), "{failed:?}");
    let debt = owed(&sandbox).remove(0);
    assert_eq!(debt["held"][0]["record"]["address"], "10.1.2.2");
    drop(living);
    sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!((sandbox.held(), owed(&sandbox).len()), (vec!["10.1.2.1".to_owned()], 0));
}

/// A filesystem that is not mounted: an empty directory, or another store.
#[test]
fn a_del_of_a_store_that_is_not_mounted_is_owed_to_that_store() {
    let sandbox = Sandbox::new();
    let made = sandbox.command(&["store", "init", sandbox.store().to_str().unwrap()]);
    let id = made.succeeded().stdout.trim();
    sandbox.set_in_flat(&[("store_id", id.into())]);
    run(&sandbox, "ADD", "c1", None).succeeded();
    let away = sandbox.path("away");
    std::fs::rename(sandbox.store(), &away).unwrap();
    std::fs::create_dir(sandbox.store()).unwrap();
    let failed = run(&sandbox, "DEL", "c1", None);
    assert!(failed.code() == 5 && failed.details().contains("wrong store at"), "{failed:?}");
    assert_eq!(owed(&sandbox)[0]["store"]["id"], id);
    for format in [None, Some(r#"{"format":1,"id":"00000000000000000000000000000000"}"#)] {
        if let Some(format) = format {
            std::fs::write(sandbox.store().join("format"), format).unwrap();
        }
        let unsettled = sandbox.command(&["sweep", "--debts", "--yes"]);
        assert!(
            unsettled.status == Some(1) && unsettled.stderr.contains("wrong store at"),
            "{unsettled:?}"
        );
        assert_eq!(owed(&sandbox).len(), 1);
    }
    std::fs::remove_dir_all(sandbox.store()).unwrap();
    std::fs::rename(away, sandbox.store()).unwrap();
    sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (0, 0));
}
