//! `verify` of a million records: how long, and how much memory.

use crate::conformance::{candidates, host, open, record};
use crate::support::disk::{Faults, FaultyDisk};
use crate::support::sandbox::Sandbox;
use hereabouts::ipam::Scope;
use hereabouts::store::Claim;
use hereabouts::store::file::FileStore;
use serde_json::json;
use std::time::{Duration, Instant};

const RECORDS: usize = 1_000_000;

/// Claims them as ADDs would, without flushing each.
fn fill(sandbox: &Sandbox) {
    let faults = Faults { unsynced: true, ..Faults::default() };
    let candidates = candidates("10.0.0.0/8");
    for batch in 0..RECORDS / 1000 {
        let store = FileStore::on(FaultyDisk::new(sandbox.store(), faults), host("n1"));
        let mut session = open(&store);
        for number in batch * 1000..(batch + 1) * 1000 {
            let record =
                record("n1", &format!("container-{number}"), Some(&format!("web-{number}")));
            assert!(matches!(
                session.claim(&Scope::default(), &candidates, &record).unwrap(),
                Claim::Claimed(_)
            ));
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test measures time")]
fn timed(sandbox: &Sandbox) -> Duration {
    let start = Instant::now();
    let ended = sandbox.command(&["verify", "-o", "json"]);
    let took = start.elapsed();
    assert_eq!((ended.status, &ended.document()["records"]), (Some(0), &json!(RECORDS)));
    took
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_verify_of_a_million_records_takes_30_s_and_200_mib_at_most() {
    let sandbox = Sandbox::new();
    fill(&sandbox);
    let warm = timed(&sandbox);
    // In KiB, of the largest child so far: nothing larger is run here.
    let children =
        nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    let mib = children.max_rss() / 1024;
    println!("verify of 1,000,000 records: {:.1} s warm, {mib} MiB", warm.as_secs_f64());
    nix::unistd::sync();
    match std::fs::write("/proc/sys/vm/drop_caches", "3") {
        Ok(()) => {
            println!("and {:.1} s with nothing of it in memory", timed(&sandbox).as_secs_f64())
        }
        Err(error) => println!("not measured with nothing of it in memory: {error}"),
    }
    assert!(warm < Duration::from_secs(30) && mib < 200);
}
