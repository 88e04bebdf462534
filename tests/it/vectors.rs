//! The test vectors of the protocol: the answers that a CNI IPAM plugin must give, typed from the
//! specification and from observations of the reference code, never from answers of this program.
//! The name of each test states the rule.

use crate::support::sandbox::{Ended, Sandbox, configuration};

mod environment;
mod life_cycle;
mod protocol;
mod ranges;
mod requested;
mod routes;
mod stdin;

/// One /24, which most vectors use.
pub(crate) const RANGE: &str = r#""range":"10.1.2.0/24""#;

/// Makes an ADD with these `ipam` keys in a new store. Returns its code, or 0. An error must leave
/// nothing behind.
pub(crate) fn code_of(ipam: &str) -> u64 {
    code_of_text(configuration(ipam).as_bytes())
}

/// Makes an ADD with exactly these bytes on stdin.
pub(crate) fn code_of_text(bytes: &[u8]) -> u64 {
    let sandbox = Sandbox::new();
    let ended = sandbox.call("ADD").stdin(bytes).run();
    if ended.status == Some(0) {
        return 0;
    }
    assert!(
        sandbox.files().iter().all(|path| !path.contains('@') || path.ends_with("@machine-id")),
        "left behind: {:?}",
        sandbox.files()
    );
    ended.code()
}

/// Returns the first address that an ADD with these `ipam` keys gets, with its prefix.
pub(crate) fn first_of(ipam: &str) -> String {
    let ended = Sandbox::new().add("c1", ipam);
    ended.succeeded().document()["ips"][0]["address"].as_str().unwrap().to_owned()
}

/// Returns whether the call succeeded with nothing on stdout.
pub(crate) fn silent(ended: &Ended) -> bool {
    ended.status == Some(0) && ended.stdout.is_empty()
}
