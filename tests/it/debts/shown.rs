//! What the operator sees of debts, and how an operator settles them.

use super::{fail_to_del, living, owed, run};
use crate::support::sandbox::{Sandbox, files_below};
use serde_json::Value;

#[test]
fn list_and_verify_show_what_is_owed_and_a_day_later_it_is_a_finding() {
    let (sandbox, Some(living)) = (Sandbox::new(), living()) else { return };
    run(&sandbox, "ADD", "c1", Some(&living)).succeeded();
    run(&sandbox, "ADD", "c2", Some(&living)).succeeded();
    fail_to_del(&sandbox, "c1", Some(&living));
    let records = sandbox.list();
    let with_debt: Vec<&str> = records
        .iter()
        .filter(|record| record["debt"].is_object())
        .map(|record| record["address"].as_str().unwrap())
        .collect();
    assert_eq!(with_debt, ["10.1.2.1"]);
    let table = sandbox.command(&["list"]).succeeded().stdout.clone();
    assert!(table.contains("DEBT SINCE") && table.contains("was not free within 50ms"), "{table}");
    let alone: Value = serde_json::from_str(
        &sandbox.command(&["list", "--debts", "-o", "json"]).succeeded().stdout,
    )
    .unwrap();
    assert_eq!(
        (alone[0]["addresses"].clone(), &alone[0]["containerID"]),
        (serde_json::json!(["10.1.2.1"]), &"c1".into())
    );
    let verified = sandbox.command(&["verify"]);
    assert!(verified.succeeded().stdout.contains("1 debt of a failed DEL"), "{verified:?}");

    let path = sandbox.path("debts").join(&files_below(&sandbox.path("debts"))[0]);
    let mut debt = owed(&sandbox).remove(0);
    debt["since"] = "2001-01-01T00:00:00Z".into();
    debt["boot_id"] = "another".into();
    std::fs::write(&path, debt.to_string()).unwrap();
    let verified = sandbox.command(&["verify"]);
    assert!(verified.status == Some(1) && verified.stdout.contains("1 x old-debt"), "{verified:?}");
    let document: Value =
        serde_json::from_str(&sandbox.command(&["verify", "-o", "json"]).stdout).unwrap();
    assert_eq!(
        (&document["findings"][0]["problem"], document["debts"].as_array().unwrap().len()),
        (&"old-debt".into(), 1)
    );
}

#[test]
fn what_is_released_by_hand_is_owed_no_more() {
    let (sandbox, Some(living)) = (Sandbox::new(), living()) else { return };
    for (container, release) in [
        ("c1", &["release", "10.1.2.1", "--force", "--yes"][..]),
        ("c2", &["release", "--node", "n1", "--force", "--yes"]),
    ] {
        run(&sandbox, "ADD", container, Some(&living)).succeeded();
        fail_to_del(&sandbox, container, Some(&living));
        sandbox.command(release).succeeded();
        assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (0, 0), "{release:?}");
    }
}

#[test]
fn a_sweep_says_what_it_would_settle_and_settles_it() {
    let sandbox = Sandbox::new();
    run(&sandbox, "ADD", "c1", None).succeeded();
    fail_to_del(&sandbox, "c1", None);
    let dry = sandbox.command(&["sweep", "--debts", "--dry-run"]);
    assert!(dry.succeeded().stdout.contains("DEBT SINCE"), "{dry:?}");
    assert_eq!(owed(&sandbox).len(), 1);
    sandbox.command(&["sweep", "--yes"]).succeeded();
    assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (0, 0));
}
