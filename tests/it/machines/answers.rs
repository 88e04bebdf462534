//! What the answer to a claim is, and when it ends.

use super::{all, shared};
use serde_json::json;
use std::time::Duration;

/// The manifests of a documentation that operators follow to the letter.
#[test]
fn three_claims_get_the_lowest_addresses_of_a_pool_of_either_kind() {
    let Some(machines) = shared() else { return };
    let global = format!("global-{}", machines.namespace);
    let spec = json!({"gateway": "10.10.10.1", "prefix": 24, "addresses": ["10.10.10.2-10.10.10.100", "10.10.10.102", "10.10.10.104"]});
    machines.write("InClusterIPPool", "pool", &spec);
    machines.write("GlobalInClusterIPPool", &global, &spec);
    for (number, address) in ["10.10.10.2", "10.10.10.3", "10.10.10.4"].into_iter().enumerate() {
        let own = format!("own-{number}");
        let shared = format!("shared-{number}");
        machines.claim(&[&own]);
        machines.claim_of("GlobalInClusterIPPool", &global, &[&shared]);
        machines.until(&Some(address.to_owned()), |machines| machines.address(&own));
        machines.until(&Some(address.to_owned()), |machines| machines.address(&shared));
        machines.until(&format!("True AddressAllocated: has {address}"), |machines| {
            machines.condition(&own)
        });
    }
    assert_eq!(machines.get("ipaddressclaim", "own-1")["status"]["addressRef"]["name"], "own-1");
    let answer = machines.get("ipaddresses.ipam.cluster.x-k8s.io", "own-1");
    assert_eq!(answer["spec"]["gateway"], "10.10.10.1");
    assert_eq!(answer["spec"]["prefix"], 24);
    let numbers = json!({"total": 101, "used": 3, "free": 98, "outOfRange": 0});
    machines.until(&numbers, |machines| {
        machines.get("inclusterippool", "pool")["status"]["ipAddresses"].clone()
    });
}

#[test]
fn an_address_is_free_again_when_its_claim_is_gone() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.2"]}));
    machines.claim(&["a"]);
    machines.until(&all([("a", "10.0.0.1")]), super::Machines::answers);
    machines.claim(&["b"]);
    machines.until(&all([("a", "10.0.0.1"), ("b", "10.0.0.2")]), super::Machines::answers);
    machines.claim(&["c"]);
    let full = "False PoolExhausted: InClusterIPPool";
    machines.until(&true, |machines| machines.condition("c").starts_with(full));
    machines.kubectl(&["delete", "ipaddressclaim", "a"]);
    machines.until(&all([("c", "10.0.0.1"), ("b", "10.0.0.2")]), super::Machines::answers);
    assert_eq!(machines.held(), machines.answers());
    machines.until(&"True AddressAllocated: has 10.0.0.1".to_owned(), |machines| {
        machines.condition("c")
    });
}

#[test]
fn a_pool_that_is_deleted_stays_until_its_claims_are_gone_and_gives_nothing_more() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    machines.claim(&["a"]);
    machines.until(&all([("a", "10.0.0.1")]), super::Machines::answers);
    machines.kubectl(&["delete", "inclusterippool", "pool", "--wait=false"]);
    machines.claim(&["b"]);
    let said = "False PoolNotReady: InClusterIPPool";
    machines.until(&true, |machines| {
        let text = machines.condition("b");
        text.starts_with(said) && text.ends_with("is being deleted")
    });
    assert_eq!(machines.answers(), all([("a", "10.0.0.1")]));
    machines.kubectl(&["delete", "ipaddressclaim", "a"]);
    machines.until(&0, |machines| machines.list("inclusterippools").len());
    machines.until(&true, |machines| machines.condition("b").contains("there is no "));
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.5"]}));
    machines.until(&all([("b", "10.0.0.5")]), super::Machines::answers);
}

/// Until its answer is gone, an address may be in use.
#[test]
fn an_address_stays_held_while_somebody_keeps_its_answer() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1"]}));
    machines.claim(&["a"]);
    machines.until(&all([("a", "10.0.0.1")]), super::Machines::answers);
    let answers = "ipaddresses.ipam.cluster.x-k8s.io";
    let finalizers = r#"{"metadata":{"finalizers":["ipam.cluster.x-k8s.io/ProtectAddress","example.com/mine"]}}"#;
    machines.kubectl(&["patch", answers, "a", "--type=merge", "-p", finalizers]);
    machines.kubectl(&["delete", "ipaddressclaim", "a", "--wait=false"]);
    machines.claim(&["b"]);
    machines.until(&true, |machines| machines.condition("b").starts_with("False PoolExhausted"));
    let left = json!(["example.com/mine"]);
    machines.until(&left, |machines| machines.get(answers, "a")["metadata"]["finalizers"].clone());
    super::wait(Duration::from_secs(1));
    assert_eq!(machines.held(), all([("a", "10.0.0.1")]));
    machines.kubectl(&[
        "patch",
        answers,
        "a",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    machines.until(&all([("b", "10.0.0.1")]), super::Machines::answers);
    assert_eq!(machines.held(), machines.answers());
}

#[test]
fn a_claim_gets_the_address_that_it_asks_for_or_hears_why_not() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "gateway": "10.0.0.1", "addresses": ["10.0.0.1-10.0.0.9"], "excludedAddresses": ["10.0.0.5"]}));
    for (name, address) in
        [("a", "10.0.0.7"), ("b", "10.0.0.7"), ("c", "10.0.0.5"), ("d", "10.0.1.1"), ("e", "x")]
    {
        let mut claim = machines.claim_object("InClusterIPPool", "pool", name);
        claim["metadata"]["annotations"] = json!({"hereabouts.dev/address": address});
        machines.cluster.apply(&claim.to_string());
        if name == "a" {
            machines.until(&all([("a", "10.0.0.7")]), super::Machines::answers);
        }
    }
    let namespace = &machines.namespace;
    for (name, reason) in [
        ("b", format!("10.0.0.7 is held by IPAddressClaim {namespace}/a")),
        ("c", format!("InClusterIPPool {namespace}/pool cannot give 10.0.0.5")),
        ("d", format!("InClusterIPPool {namespace}/pool cannot give 10.0.1.1")),
        ("e", "expected an IPv4 or IPv6 address, found \"x\"".to_owned()),
    ] {
        let said = format!("False AllocationFailed: annotation hereabouts.dev/address: {reason}");
        machines.until(&said, |machines| machines.condition(name));
    }
    machines.kubectl(&["delete", "ipaddressclaim", "a"]);
    machines.until(&all([("b", "10.0.0.7")]), super::Machines::answers);
}

/// A claim that can take only one certain address does not stand in the way of the others.
#[test]
fn a_freed_address_goes_to_a_claim_that_can_take_it() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.2"]}));
    machines.claim(&["one"]);
    machines.until(&all([("one", "10.0.0.1")]), super::Machines::answers);
    machines.claim(&["two"]);
    machines.until(&all([("one", "10.0.0.1"), ("two", "10.0.0.2")]), super::Machines::answers);
    let mut asking = machines.claim_object("InClusterIPPool", "pool", "a");
    asking["metadata"]["annotations"] = json!({"hereabouts.dev/address": "10.0.0.2"});
    machines.cluster.apply(&asking.to_string());
    machines.until(&true, |machines| machines.condition("a").contains("10.0.0.2 is held by "));
    machines.claim(&["b"]);
    machines.until(&true, |machines| machines.condition("b").starts_with("False PoolExhausted"));
    machines.kubectl(&["delete", "ipaddressclaim", "one"]);
    machines.until(&all([("b", "10.0.0.1"), ("two", "10.0.0.2")]), super::Machines::answers);
    machines.kubectl(&["delete", "ipaddressclaim", "two"]);
    machines.until(&all([("a", "10.0.0.2"), ("b", "10.0.0.1")]), super::Machines::answers);
}

#[test]
fn what_leaves_a_pool_stays_with_its_holder_and_is_not_given_again() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.3"]}));
    machines.claim(&["a"]);
    machines.until(&all([("a", "10.0.0.1")]), super::Machines::answers);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.2-10.0.0.3"]}));
    let numbers = json!({"total": 2, "used": 1, "free": 1, "outOfRange": 1});
    machines.until(&numbers, |machines| {
        machines.get("inclusterippool", "pool")["status"]["ipAddresses"].clone()
    });
    machines.claim(&["b"]);
    machines.until(&all([("a", "10.0.0.1"), ("b", "10.0.0.2")]), super::Machines::answers);
    machines.kubectl(&["delete", "ipaddressclaim", "a"]);
    machines.claim(&["c", "d"]);
    machines.until(&true, |machines| {
        ["c", "d"].iter().any(|name| machines.condition(name).starts_with("False PoolExhausted"))
    });
    let given: Vec<String> = machines.answers().into_iter().map(|(_, address)| address).collect();
    assert_eq!(given.len(), 2, "{given:?}");
    assert!(!given.contains(&"10.0.0.1".to_owned()), "{given:?}");
}

#[test]
fn a_claim_hears_what_is_wrong_with_its_pool() {
    let Some(machines) = shared() else { return };
    machines.claim(&["a"]);
    let namespace = &machines.namespace;
    let said = format!("False PoolNotReady: there is no InClusterIPPool {namespace}/pool");
    machines.until(&said, |machines| machines.condition("a"));
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.9-10.0.0.1"]}));
    let said = format!(
        "False PoolNotReady: InClusterIPPool {namespace}/pool cannot be used: spec.addresses[0]: expected an address, a subnet or first-last, found \"10.0.0.9-10.0.0.1\""
    );
    machines.until(&said, |machines| machines.condition("a"));
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1"]}));
    machines.until(&all([("a", "10.0.0.1")]), super::Machines::answers);
}
