//! The test vectors of the protocol: what a CNI IPAM plugin has to answer,
//! typed from the specification and from what the reference code was seen to
//! do, never from what this program answers. Each is a test under its number,
//! in the folder of this name; a number without a test fails here.

use crate::support::sandbox::{Ended, Sandbox, configuration};
use std::collections::BTreeSet;

mod environment;
mod life_cycle;
mod protocol;
mod ranges;
mod requested;
mod routes;
mod stdin;

/// The numbers of the list; they are not consecutive.
const NUMBERS: &[u16] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 25, 26, 27, 28, 30, 31, 32, 34, 35, 36, 38, 39, 40, 42, 43,
    44, 45, 47, 48, 50, 51, 52, 53, 55, 56, 57, 59, 61, 62, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75, 76, 78, 79, 80, 81, 83, 84, 85, 87, 89,
    90, 91, 93, 94, 96, 97, 99, 100, 102, 103, 105, 107, 108, 109, 111, 112, 113, 115, 116, 117, 119, 120, 122, 123, 125, 126, 127, 129,
    130, 132, 133, 135, 137, 138, 140,
];

const SOURCES: &[&str] = &[
    include_str!("vectors/environment.rs"),
    include_str!("vectors/life_cycle.rs"),
    include_str!("vectors/protocol.rs"),
    include_str!("vectors/ranges.rs"),
    include_str!("vectors/requested.rs"),
    include_str!("vectors/routes.rs"),
    include_str!("vectors/stdin.rs"),
];

#[test]
fn every_number_has_a_test_and_every_test_a_number() {
    let mut found = BTreeSet::new();
    for source in SOURCES {
        for part in source.split("#[test]\nfn v").skip(1) {
            let number: u16 = part[..3].parse().unwrap();
            assert!(found.insert(number), "two tests for {number}");
        }
    }
    assert_eq!(found, NUMBERS.iter().copied().collect::<BTreeSet<_>>());
}

/// One /24, as most vectors have it.
pub(crate) const RANGE: &str = r#""range":"10.1.2.0/24""#;

/// ADD with these `ipam` keys in a fresh store: its code, or 0. An error must
/// leave nothing behind.
pub(crate) fn code_of(ipam: &str) -> u64 {
    code_of_text(configuration(ipam).as_bytes())
}

/// ADD with exactly these bytes on stdin.
pub(crate) fn code_of_text(bytes: &[u8]) -> u64 {
    let sandbox = Sandbox::new();
    let ended = sandbox.call("ADD").stdin(bytes).run();
    if ended.status == Some(0) {
        return 0;
    }
    assert!(sandbox.files().iter().all(|path| !path.contains('@') || path.ends_with("@machine-id")), "left behind: {:?}", sandbox.files());
    ended.code()
}

/// The first address that an ADD with these `ipam` keys gets, with its prefix.
pub(crate) fn first_of(ipam: &str) -> String {
    let ended = Sandbox::new().add("c1", ipam);
    ended.succeeded().document()["ips"][0]["address"].as_str().unwrap().to_owned()
}

/// Whether the call succeeded with nothing on stdout.
pub(crate) fn silent(ended: &Ended) -> bool {
    ended.status == Some(0) && ended.stdout.is_empty()
}
