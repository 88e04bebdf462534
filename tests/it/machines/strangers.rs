//! Answers that others wrote, and addresses whose claim is gone.

use super::{Machines, all, shared};
use serde_json::json;
use std::time::Duration;

const ANSWERS: &str = "ipaddresses.ipam.cluster.x-k8s.io";

#[test]
fn the_address_of_an_answer_that_another_wrote_is_held_and_never_given() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.3"]}));
    machines.answer("before", "10.0.0.1");
    machines.until(&all([("before", "10.0.0.1")]), Machines::held);
    machines.claim(&["a"]);
    machines.until(&Some("10.0.0.2".to_owned()), |machines| machines.address("a"));
    // The claim of that name takes the answer over, and gives it back when it ends.
    machines.claim(&["before"]);
    machines.until(&true, |machines| machines.condition("before").starts_with("True"));
    machines.kubectl(&["delete", "ipaddressclaim", "before"]);
    machines.until(&all([("a", "10.0.0.2")]), Machines::held);
}

/// For example by a provider that still runs. The claim does not get the address.
#[test]
fn an_answer_with_an_address_that_another_claim_holds_is_not_published() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.2"]}));
    machines.claim(&["a"]);
    machines.until(&true, |machines| machines.condition("a").starts_with("True"));
    machines.answer("b", "10.0.0.1");
    machines.claim(&["b"]);
    let namespace = &machines.namespace;
    let said = format!(
        "False AllocationFailed: IPAddress {namespace}/b has 10.0.0.1, which is held by IPAddressClaim {namespace}/a; delete the IPAddress, and this claim gets another address"
    );
    machines.until(&said, |machines| machines.condition("b"));
    assert!(machines.get("ipaddressclaim", "b")["status"]["addressRef"]["name"].is_null());
    machines.kubectl(&["delete", ANSWERS, "b", "--wait=false"]);
    machines.kubectl(&[
        "patch",
        ANSWERS,
        "b",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    machines.until(&"True AddressAllocated: has 10.0.0.2".to_owned(), |machines| {
        machines.condition("b")
    });
    assert_eq!(machines.held(), machines.answers());
}

/// `kubectl patch` took the finalizer away, and the garbage collector could not take the answer.
#[test]
fn an_address_whose_claim_is_gone_is_free_when_its_answer_is_gone() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1"]}));
    machines.claim(&["a"]);
    machines.until(&true, |machines| machines.condition("a").starts_with("True"));
    machines.cluster.kubectl(&[
        "patch",
        "ipaddressclaim",
        "a",
        "--namespace",
        &machines.namespace,
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":["example.com/mine"]}}"#,
    ]);
    // The controller puts its finalizer back; a deletion without it goes through paused.
    let paused = r#"{"metadata":{"annotations":{"cluster.x-k8s.io/paused":""}}}"#;
    machines.kubectl(&["patch", "ipaddressclaim", "a", "--type=merge", "-p", paused]);
    machines.kubectl(&["delete", "ipaddressclaim", "a", "--wait=false"]);
    machines.kubectl(&[
        "patch",
        "ipaddressclaim",
        "a",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    machines.claim(&["b"]);
    machines.until(&true, |machines| machines.condition("b").starts_with("False PoolExhausted"));
    super::wait(Duration::from_secs(1));
    assert_eq!(machines.held(), all([("a", "10.0.0.1")]), "the answer still stands");
    machines.kubectl(&["delete", ANSWERS, "a", "--wait=false"]);
    machines.kubectl(&[
        "patch",
        ANSWERS,
        "a",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    machines.until(&all([("b", "10.0.0.1")]), Machines::held);
}
