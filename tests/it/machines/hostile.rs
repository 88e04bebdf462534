//! Objects of any size and shape: whoever may write a claim or a pool is not an administrator.

use super::{Controller, Machines, all, own, shared};
use crate::support::nodes::own_name;
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

/// Every list of the pool is as long as its schema allows.
#[test]
fn the_largest_pool_of_hereabouts_gives_its_last_address() {
    let Some(machines) = shared() else { return };
    let name = own_name("largest");
    let subnet = |number: usize| {
        let addresses: Vec<String> = (1..=256)
            .map(|address| format!("10.46.{}.{}", number * 4 + address / 256, address % 256))
            .collect();
        json!({"subnet": format!("10.46.{}.0/22", number * 4), "addresses": addresses})
    };
    let subnets: Vec<Value> = (0..64).map(subnet).collect();
    machines.write("IPPool", &name, &json!({"scope": name, "subnets": subnets}));
    let mut claim = machines.claim_object("IPPool", &name, "a");
    claim["metadata"]["annotations"] = json!({"hereabouts.dev/address": "10.46.253.0"});
    machines.cluster.apply(&claim.to_string());
    machines.until(&"True AddressAllocated: has 10.46.253.0".to_owned(), |machines| {
        machines.condition("a")
    });
    machines.until(&json!(["16384", "1", "16383"]), |machines| {
        let status = &machines.get("ippools.hereabouts.dev", &name)["status"];
        json!([status["total"], status["held"], status["free"]])
    });
}

/// The longest text in an object that the API server accepts: with the finalizer of the controller
/// it would be too long for etcd.
#[test]
fn a_claim_that_is_too_large_for_a_finalizer_or_a_condition_has_an_event() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    create_as_large_as_possible(&machines, &machines.claim_object("InClusterIPPool", "pool", "a"));
    let said = "Warning AllocationFailed: the API server refuses to patch ipaddressclaims/a: ";
    machines.until(&true, |machines| {
        events(machines, "a")
            .iter()
            .any(|text| text.starts_with(said) && text.ends_with("request is too large"))
    });
    machines.claim(&["b"]);
    machines.until(&true, |machines| machines.condition("b").starts_with("True"));
    machines.kubectl(&["delete", "ipaddressclaim", "a", "--timeout=20s"]);
}

/// Its claims are answered without a status of the pool.
#[test]
fn a_pool_that_is_too_large_for_a_finalizer_or_a_status_has_an_event() {
    let Some(machines) = shared() else { return };
    let name = own_name("heavy");
    create_as_large_as_possible(
        &machines,
        &json!({
            "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": name},
            "spec": {"scope": name, "subnets": [{"subnet": "10.47.0.0/28"}]},
        }),
    );
    machines.claim_of("IPPool", &name, &["a"]);
    machines.until(&"True AddressAllocated: has 10.47.0.1".to_owned(), |machines| {
        machines.condition("a")
    });
    let said = format!("/{name}: etcdserver: request is too large");
    machines.until(&true, |machines| {
        let told = events_in(machines, "default", &name);
        told.iter().any(|text| {
            text.starts_with("Warning Refused: the API server refuses to patch ippools")
                && text.ends_with(&said)
        })
    });
}

/// The controller adds itself to the owners of an answer that it takes over.
#[test]
fn a_claim_whose_answer_is_too_large_to_be_changed_is_told_so() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    let answer = json!({
        "apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddress",
        "metadata": {"name": "a", "namespace": machines.namespace},
        "spec": {
            "address": "10.0.0.1", "prefix": 24, "claimRef": {"name": "a"},
            "poolRef": {"apiGroup": "ipam.cluster.x-k8s.io", "kind": "InClusterIPPool", "name": "pool"},
        },
    });
    create_as_large_as_possible(&machines, &answer);
    // Until the controller has read it, the address seems free.
    machines.until(&false, |machines| machines.held().is_empty());
    machines.claim(&["b"]);
    machines.until(&Some("10.0.0.2".to_owned()), |machines| machines.address("b"));
    machines.claim(&["a"]);
    machines.until(&true, |machines| {
        let text = machines.condition("a");
        text.starts_with("False AllocationFailed: the API server refuses to patch ipaddresses/a: ")
            && text.ends_with("request is too large")
    });
}

/// A policy of somebody else, or a quota.
#[test]
fn a_claim_whose_answer_the_api_server_refuses_is_told_so_until_it_accepts_it() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    let (name, namespace) = (own_name("refuse"), &machines.namespace);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["ipam.cluster.x-k8s.io"], "apiVersions": ["*"],
                "operations": ["CREATE"], "resources": ["ipaddresses"],
            }]},
            "validations": [{"expression": "false", "message": "not in this namespace"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {
                "matchLabels": {"kubernetes.io/metadata.name": namespace},
            }},
        },
    });
    machines.cluster.apply(&policy.to_string());
    machines.cluster.apply(&binding.to_string());
    // A policy takes effect after some moments.
    let probe = machines.cluster.directory().join(format!("{name}.json"));
    let answer = json!({
        "apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddress",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {
            "address": "10.9.0.1", "prefix": 24, "claimRef": {"name": "probe"},
            "poolRef": {"apiGroup": "ipam.cluster.x-k8s.io", "kind": "InClusterIPPool", "name": "none"},
        },
    });
    std::fs::write(&probe, answer.to_string()).unwrap();
    machines.until(&false, |machines| {
        let words = ["create", "--dry-run=server", "-f", probe.to_str().unwrap()];
        machines.cluster.kubectl(&words).status.success()
    });
    machines.claim(&["a"]);
    machines.until(&true, |machines| {
        let text = machines.condition("a");
        text.starts_with("False AllocationFailed: the API server refuses to create ipaddresses/a: ")
            && text.ends_with("not in this namespace")
    });
    // The address is held for it meanwhile.
    machines.until(&all([("a", "10.0.0.1")]), Machines::held);
    machines.cluster.text(&["delete", "validatingadmissionpolicybinding", &name]);
    machines.until(&"True AddressAllocated: has 10.0.0.1".to_owned(), |machines| {
        machines.condition("a")
    });
}

/// Creates an object with a text that is as long as the API server accepts.
fn create_as_large_as_possible(machines: &Machines<'_>, object: &Value) {
    const STEP: usize = 200;
    let path = machines.cluster.directory().join(format!("{}.json", machines.namespace));
    // The limit of etcd for a request.
    let mut length = 1_572_864;
    loop {
        length -= STEP;
        let mut object = object.clone();
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "x".repeat(length), "uid": "none",
        }]);
        std::fs::write(&path, object.to_string()).unwrap();
        let words = ["create", "--validate=false", "-f", path.to_str().unwrap()];
        let output = machines.cluster.kubectl(&words);
        let refusal = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return;
        }
        assert!(refusal.contains("request is too large"), "{refusal}");
        assert!(1_500_000 < length, "{refusal}");
    }
}

/// Returns the events about a claim: type, reason and text.
fn events(machines: &Machines<'_>, claim: &str) -> Vec<String> {
    events_in(machines, &machines.namespace, claim)
}

fn events_in(machines: &Machines<'_>, namespace: &str, about: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let words = ["get", "events.events.k8s.io", "--namespace", namespace, "-o", "json"];
    let list: Value = serde_json::from_str(&machines.cluster.text(&words)).unwrap();
    let events: Vec<Value> = serde_json::from_value(list["items"].clone()).unwrap();
    let about = events.iter().filter(|event| event["regarding"]["name"] == json!(about));
    about
        .map(|event| {
            format!("{} {}: {}", text(&event["type"]), text(&event["reason"]), text(&event["note"]))
        })
        .collect()
}

/// Writes an object without a copy of it in an annotation, as `kubectl apply` makes it.
fn create(machines: &Machines<'_>, object: &Value) {
    let path = machines.cluster.directory().join(format!("{}.json", machines.namespace));
    std::fs::write(&path, object.to_string()).unwrap();
    machines.cluster.text(&["create", "-f", path.to_str().unwrap()]);
}
