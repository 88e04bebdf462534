//! Objects of a later version: it may run beside this one during an upgrade, or have run before a
//! step back. This version leaves them alone and says what to install.

use super::{Machines, all, own, shared, wait};
use crate::support::controller::Replica;
use crate::support::sandbox::Sandbox;
use serde_json::{Value, json};
use std::time::Duration;

const NEWER: &str = "was written by a later version of hereabouts (format 3, but this version reads only up to 2); install the newer hereabouts again";

/// Returns an IPAllocation of the format after this one, which a claim of this uid holds. In all
/// else it is like that of another claim of the pool.
fn of_later_version(machines: &Machines<'_>, address: &str, claim: &str, uid: &Value) -> Value {
    let objects = machines.list("ipallocations.hereabouts.dev");
    let mut object = objects
        .into_iter()
        .find(|object| object["spec"]["claim"]["namespace"] == json!(machines.namespace))
        .unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name = text(&object["metadata"]["name"]);
    let name = name.replace(&text(&object["spec"]["address"]), address);
    object["metadata"] = json!({"name": name});
    let spec = &mut object["spec"];
    spec["claim"]["name"] = json!(claim);
    spec["claim"]["uid"] = uid.clone();
    spec["format"] = json!(3);
    spec["address"] = json!(address);
    spec["purpose"] = json!("of a later version");
    object
}

#[test]
fn what_a_later_version_holds_for_a_claim_is_left_alone_and_the_claim_says_so() {
    let Some(machines) = shared() else { return };
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    machines.claim(&["first"]);
    machines.until(&all([("first", "10.0.0.1")]), Machines::held);
    // The later version holds an address for a claim that has no answer yet.
    let paused = "cluster.x-k8s.io/paused";
    let mut claim = machines.claim_object("InClusterIPPool", "pool", "a");
    claim["metadata"]["annotations"] = json!({paused: ""});
    machines.cluster.apply(&claim.to_string());
    let uid = machines.get("ipaddressclaim", "a")["metadata"]["uid"].clone();
    let held = of_later_version(&machines, "10.0.0.3", "a", &uid);
    machines.cluster.apply(&held.to_string());
    // And one for a claim that is gone.
    let gone = of_later_version(
        &machines,
        "10.0.0.2",
        "gone",
        &json!("00000000-0000-4000-8000-000000000000"),
    );
    machines.cluster.apply(&gone.to_string());
    machines.claim(&["second"]);
    machines.until(&Some("10.0.0.4".to_owned()), |machines| machines.address("second"));

    machines.kubectl(&["annotate", "ipaddressclaim", "a", &format!("{paused}-")]);
    let name = held["metadata"]["name"].as_str().unwrap().to_owned();
    let said = format!("False AllocationFailed: IPAllocation {name} {NEWER}");
    machines.until(&said, |machines| machines.condition("a"));
    machines.kubectl(&["delete", "ipaddressclaim", "a", "--wait=false"]);
    wait(Duration::from_secs(2));
    let four = all([
        ("first", "10.0.0.1"),
        ("gone", "10.0.0.2"),
        ("a", "10.0.0.3"),
        ("second", "10.0.0.4"),
    ]);
    assert_eq!(machines.held(), four);
    assert_eq!(machines.condition("a"), said);
    let object = machines.get("ipallocations.hereabouts.dev", &name);
    assert_eq!(object["spec"]["format"], json!(3));
    assert_eq!(object["spec"]["purpose"], json!("of a later version"));
    let log = std::fs::read_to_string(machines.cluster.directory().join("controller.log")).unwrap();
    let gone = gone["metadata"]["name"].as_str().unwrap();
    assert_eq!(log.matches(&format!("IPAllocation {gone} {NEWER}")).count(), 1, "{log}");

    // The later version ends what it began.
    machines.cluster.text(&["delete", "ipallocation", &name]);
    machines.until(&0, |machines| {
        let claims = machines.list("ipaddressclaims");
        claims.iter().filter(|claim| claim["metadata"]["name"] == "a").count()
    });
}

/// After an upgrade the role may still be that of the earlier version. It lacks the rights to
/// IPAMClaims and to networks, which claims of machines do not need.
#[test]
fn the_role_of_an_earlier_version_is_enough_for_machines() {
    let Some(cluster) = own() else { return };
    let rights = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/controller/rbac.yaml");
    cluster.text(&["apply", "-f", rights]);
    let name = "hereabouts-controller";
    let role = cluster.text(&["get", "clusterrole", name, "-o", "json"]);
    let mut role: Value = serde_json::from_str(&role).unwrap();
    let rules = role["rules"].as_array_mut().unwrap();
    rules.retain(|rule| rule["apiGroups"] != json!(["k8s.cni.cncf.io"]));
    let sandbox = Sandbox::new();
    let file = sandbox.write("role.json", &role.to_string());
    cluster.text(&["replace", "-f", file.to_str().unwrap()]);
    let words = ["create", "token", name, "--namespace", "kube-system", "--duration", "1h"];
    let token = cluster.text(&words);
    let kubeconfig = sandbox.write("kubeconfig", &cluster.kubeconfig_with(token.trim()));
    let _controller = Replica::start(&sandbox, &kubeconfig, &[]);
    let machines = Machines::of(&cluster);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    machines.claim(&["a"]);
    machines.until(&Some("10.0.0.1".to_owned()), |machines| machines.address("a"));
}
