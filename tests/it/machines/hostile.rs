//! Objects of any size and shape: whoever may write a claim or a pool is not an administrator.

use super::{Controller, Machines, own, shared};
use serde_json::{Value, json};

/// Its numbers do not fit what Cluster API's status can hold.
#[test]
fn a_pool_of_a_64_gives_its_lowest_addresses() {
    let Some(machines) = shared() else { return };
    machines
        .pool(&json!({"prefix": 64, "addresses": ["fd00:0:0:1::/64"], "gateway": "fd00:0:0:1::1"}));
    machines.claim(&["a"]);
    machines.until(&Some("fd00:0:0:1::2".to_owned()), |machines| machines.address("a"));
    let numbers = json!({"total": i64::MAX, "used": 1, "free": i64::MAX - 1, "outOfRange": 0});
    machines.until(&numbers, |machines| {
        machines.get("inclusterippool", "pool")["status"]["ipAddresses"].clone()
    });
}

#[test]
fn a_pool_with_ten_thousand_entries_gives_the_last_of_them() {
    let Some(machines) = shared() else { return };
    let single = |number: usize| format!("10.{}.{}.1", number / 250, number % 250);
    let addresses: Vec<String> = (0..10_000).map(single).collect();
    machines.pool(&json!({"prefix": 8, "addresses": addresses}));
    let mut claim = machines.claim_object("InClusterIPPool", "pool", "a");
    claim["metadata"]["annotations"] = json!({"hereabouts.dev/address": single(9_999)});
    machines.cluster.apply(&claim.to_string());
    machines.until(&Some(single(9_999)), |machines| machines.address("a"));
}

/// A condition holds at most 32,768 characters, and an object some 1.5 MB.
#[test]
fn a_claim_that_asks_with_a_long_text_is_told_what_is_wrong() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1"]}));
    let mut claim = machines.claim_object("InClusterIPPool", "pool", "a");
    claim["metadata"]["annotations"] = json!({"hereabouts.dev/address": "\u{e9}".repeat(100_000)});
    // kubectl apply keeps a copy of the whole object in an annotation.
    create(&machines, &claim);
    let said = "False AllocationFailed: annotation hereabouts.dev/address: ";
    machines.until(&true, |machines| machines.condition("a").starts_with(said));
    assert!(machines.condition("a").chars().count() < 40_000);
}

#[test]
fn objects_with_mistakes_and_of_any_size_do_not_stop_the_answers_to_others() {
    // In a cluster of its own: these pools overlap with every other one.
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    let _controller = Controller::start(&cluster);
    let pool = |name: &str, spec: &Value| machines.write("InClusterIPPool", name, spec);
    for (name, addresses) in [
        ("reversed", json!(["10.0.0.9-10.0.0.1"])),
        ("mixed", json!(["10.0.0.1", "fd00::1"])),
        ("words", json!(["", "-", "/", "10.0.0.0/33", "10.0.0.0/-1", "::1-"])),
        ("everything", json!(["0.0.0.0/0"])),
        ("all-of-ipv6", json!(["::/0"])),
    ] {
        pool(name, &json!({"prefix": 0, "addresses": addresses}));
    }
    pool("of-no-prefix", &json!({"prefix": 128, "addresses": ["10.0.0.1"]}));
    let long = "a".repeat(253);
    let names = ["reversed", "mixed", "words", "everything", "all-of-ipv6", "of-no-prefix", &long];
    for (number, name) in names.into_iter().enumerate() {
        machines.claim_of("InClusterIPPool", name, &[&format!("odd-{number}")]);
    }
    machines.claim_of("InClusterIPPool", "everything", &[&long]);
    let mut large = machines.claim_object("InClusterIPPool", "pool", "large");
    large["metadata"]["annotations"] = json!({"example.com/text": "x".repeat(250_000)});
    create(&machines, &large);
    // Answers that nobody asked for.
    for (number, address) in ["10.0.0.1/24", "::ffff:10.0.0.1", "010.0.0.1"].iter().enumerate() {
        let mut answer = json!({
            "apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddress",
            "metadata": {"name": format!("odd-answer-{number}"), "namespace": machines.namespace},
            "spec": {
                "address": address, "prefix": 24, "claimRef": {"name": "no-such-claim"},
                "poolRef": {"apiGroup": "ipam.cluster.x-k8s.io", "kind": "InClusterIPPool", "name": "pool"},
            },
        });
        answer["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "IPAddressClaim", "name": "x", "uid": "not a uid",
        }]);
        create(&machines, &answer);
    }

    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    machines.claim(&["usual"]);
    machines.until(&true, |machines| machines.condition("usual").starts_with("True"));
    machines.until(&true, |machines| machines.condition("large").starts_with("True"));
    // The address of an answer whose owner is nonsense is held, too.
    machines.until(&true, |machines| {
        machines.held().contains(&("odd-answer-2".to_owned(), "10.0.0.1".to_owned()))
    });
    for number in [0, 1, 2, 5, 6] {
        let claim = format!("odd-{number}");
        machines
            .until(&true, |machines| machines.condition(&claim).starts_with("False PoolNotReady"));
    }
    // The first address of a subnet is not given.
    machines.until(&Some("0.0.0.1".to_owned()), |machines| machines.address("odd-3"));
    machines.until(&Some("0.0.0.2".to_owned()), |machines| machines.address(&long));
    machines.until(&Some("::1".to_owned()), |machines| machines.address("odd-4"));
}

/// Writes an object without a copy of it in an annotation, as `kubectl apply` makes it.
fn create(machines: &Machines<'_>, object: &Value) {
    let path = machines.cluster.directory().join(format!("{}.json", machines.namespace));
    std::fs::write(&path, object.to_string()).unwrap();
    machines.cluster.text(&["create", "-f", path.to_str().unwrap()]);
}
