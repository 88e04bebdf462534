//! Addresses that are in use although no record says so: on an interface of the node, or by another
//! host on the wire.

mod foreign;
mod forward;
mod own;
mod wire;

use crate::support::sandbox::{Ended, Sandbox, configuration};
use wire::Host;

/// Makes an ADD or DEL on a node, with these keys of `ipam` and these `CNI_ARGS`.
fn verb(node: &Host, sandbox: &Sandbox, verb: &str, container: &str, ipam: &str) -> Ended {
    call(node, sandbox, verb, container, &configuration(ipam))
}

fn call(node: &Host, sandbox: &Sandbox, verb: &str, container: &str, whole: &str) -> Ended {
    sandbox.call(verb).set("CNI_CONTAINERID", container).stdin(whole).through(&node.inside()).run()
}
