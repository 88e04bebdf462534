//! `scripts/demo --pools`, which shows machines and pods with one pool.

use crate::real_parts::demo::runs_to_its_end;
use crate::real_parts::tools;

#[test]
fn the_demo_of_pools_shows_machines_and_pods_and_leaves_nothing() {
    if let Err(reason) = tools() {
        return skipped!("{reason}");
    }
    runs_to_its_end(
        &["--pools"],
        &[
            "claim machine-2: 192.168.29.12",
            "ADD   pod0 on node1: 192.168.29.13",
            "has no free address: all 5 are held",
            "No address is held any more.",
            "What to try next",
        ],
    );
}
