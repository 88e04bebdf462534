//! `store init`, `store forget` and `store test`.

use crate::support::transcript::{Transcript, sandbox};

const ID: &str = "00000000000000000000000000000000";

#[test]
fn store_init_and_forget_print_this() {
    let sandbox = sandbox();
    let mut seen = Transcript::new(&sandbox);
    let place = sandbox.path("shared").display().to_string();
    let foreign = sandbox.path("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("notes.txt"), "").unwrap();
    for args in [
        &["store", "init", &place][..],
        &["store", "init", &place],
        &["store", "init", &place, "--id", ID],
        &["store", "init", &place, "--id", "1"],
        &["store", "init", foreign.to_str().unwrap()],
        &["store", "forget", &place],
        &["store", "forget", &place],
        &["store"],
    ] {
        seen.run(&sandbox, args);
    }
    seen.assert("store");
}

/// Without a partner, because what two machines see of each other differs each time.
#[test]
fn store_test_prints_this_without_a_partner() {
    let sandbox = sandbox();
    let mut seen = Transcript::new(&sandbox);
    let place = sandbox.root.display().to_string();
    // A memory filesystem has a known type, a disk does not.
    for args in [
        &["store", "test", &place, "--wait", "10ms"][..],
        &["store", "test", "/nowhere"],
        &["store", "test", "/", "--wait", ""],
        &["store", "test", "/", "--wait", "1"],
        &["store", "test", "/", "--wait", "10x"],
        &["store", "test", "/", "--wait", "99999999999999999999h"],
    ] {
        seen.run(&sandbox, args);
    }
    seen.assert("store-test");
}
