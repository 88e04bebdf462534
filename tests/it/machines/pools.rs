//! What the controller says about IPPools of hereabouts: their status, events, and their end.

use super::{Machines, shared, wait};
use crate::support::nodes::{Node, own_name};
use crate::support::sandbox::{Call, Ended, configuration};
use hereabouts::retry::Deadline;
use serde_json::{Value, json};
use std::time::Duration;

const POOLS: &str = "ippools.hereabouts.dev";

fn call(node: &Node, verb: &str, container: &str, pool: &str) -> Call {
    let mut call = node.call(verb, container);
    call.stdin(configuration(&format!(r#""pool":"{pool}""#)));
    call
}

fn add(node: &Node, container: &str, pool: &str) -> Ended {
    call(node, "ADD", container, pool).run()
}

/// Returns a condition of a pool: its status, reason and message.
pub(super) fn condition(machines: &Machines<'_>, pool: &str, kind: &str) -> String {
    let status = machines.get(POOLS, pool)["status"].take();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.map_or_else(String::new, |found| {
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("status"), text("reason"), text("message"))
    })
}

/// Returns the numbers of a pool's status.
fn numbers(machines: &Machines<'_>, pool: &str) -> Value {
    let mut status = machines.get(POOLS, pool)["status"].take();
    for key in ["conditions", "observedGeneration", "writer"] {
        status.as_object_mut().and_then(|status| status.remove(key));
    }
    status
}

/// Returns the events about an object: the reason and the text of each.
pub(super) fn events(machines: &Machines<'_>, namespace: &str, name: &str) -> Vec<String> {
    let text =
        machines.cluster.text(&["get", "events.events.k8s.io", "-n", namespace, "-o", "json"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    let about = |event: &&Value| event["regarding"]["name"] == name;
    let told = |event: &Value| {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("type"), text("reason"), text("note"))
    };
    list["items"].as_array().unwrap().iter().filter(about).map(told).collect()
}

/// The numbers of `usage --pool`, in the words of the status.
fn usage(node: &Node, pool: &str) -> Value {
    let usage = node.sandbox.command(&["usage", "-o", "json", "--pool", pool]);
    let rows: Vec<Value> = serde_json::from_str(&usage.succeeded().stdout).unwrap();
    let sum = |key: &str| {
        let numbers = rows.iter().map(|row| {
            // A number that JSON cannot hold is a text.
            let text = row[key].to_string();
            text.trim_matches('"').parse::<u128>().unwrap()
        });
        numbers.sum::<u128>().to_string()
    };
    json!({
        "total": sum("total"), "held": sum("held"), "free": sum("free"),
        "reserved": sum("reserved"), "excluded": sum("excluded"),
    })
}

#[test]
fn the_status_of_a_pool_counts_as_usage_does() {
    let Some(machines) = shared() else { return };
    let pool = own_name("counted");
    let mut spec = json!({
        "scope": pool,
        "subnets": [
            {"subnet": "10.40.0.0/24", "gateway": "10.40.0.1", "addresses": ["10.40.0.1-10.40.0.20", "10.40.0.30"],
             "exclude": [{"addresses": "10.40.0.3", "reason": "a printer"}]},
            {"subnet": "fd00:40::/64"},
        ],
        "reservations": [{"pod": "default/db-0", "address": "10.40.0.4"}],
    });
    machines.write("IPPool", &pool, &spec);
    machines.until(&"True Ready: gives addresses".to_owned(), |machines| {
        condition(machines, &pool, "Ready")
    });
    assert_eq!(condition(&machines, &pool, "Draining").split(':').next(), Some("False None"));
    let node = Node::new(&pool, "", &machines.cluster.kubeconfig());
    assert_eq!(add(&node, "db-0_0", &pool).addresses(), ["10.40.0.4", "fd00:40::1"]);
    assert_eq!(add(&node, "web-0_0", &pool).addresses(), ["10.40.0.2", "fd00:40::2"]);
    machines.claim_of("IPPool", &pool, &["a"]);
    machines.until(&Some("10.40.0.5".to_owned()), |machines| machines.address("a"));
    let expected = usage(&node, &pool);
    assert_eq!((&expected["held"], &expected["reserved"]), (&json!("5"), &json!("1")));
    // The numbers of a /64 have 20 digits.
    assert_eq!(expected["total"], "18446744073709551644");
    let mut with_outside = expected.clone();
    with_outside["outOfRange"] = json!("0");
    machines.until(&with_outside, |machines| numbers(machines, &pool));
    assert!(condition(&machines, &pool, "Full").starts_with("False Room: 2 of 18 IPv4 "));

    // The pool becomes smaller: what is held outside stays with its holder.
    spec["subnets"][0]["addresses"] = json!(["10.40.0.4-10.40.0.9"]);
    machines.write("IPPool", &pool, &spec);
    let outside = "True HeldOutside: 1 address that it does not give is held: 10.40.0.2 (pod default/web-0): no other pod gets such an address afterwards";
    machines.until(&outside.to_owned(), |machines| condition(machines, &pool, "Draining"));
    let mut expected = usage(&node, &pool);
    expected["outOfRange"] = json!("1");
    machines.until(&expected, |machines| numbers(machines, &pool));
    machines.until(&1, |machines| {
        let told = events(machines, "default", &pool);
        told.iter().filter(|text| text.starts_with("Normal Draining: ")).count()
    });
    let table = machines.cluster.text(&["get", POOLS, &pool]);
    let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    let expected = [&pool, "10.40.0.0/24", &pool, "18446744073709551620", "4"];
    assert_eq!(words[..5], expected, "{table}");
    assert_eq!(words[6], "True", "{table}");
    println!("{table}");
}

#[test]
fn a_pool_with_a_mistake_says_it_in_the_words_of_an_add() {
    let Some(machines) = shared() else { return };
    let pool = own_name("mistaken");
    let subnets = |texts: &[&str]| {
        let subnets: Vec<Value> = texts.iter().map(|text| json!({"subnet": text})).collect();
        json!({"scope": pool, "subnets": subnets})
    };
    machines.write("IPPool", &pool, &subnets(&["10.41.0.0/24", "10.41.0.128/25"]));
    let mistake =
        "spec.subnets: expected subnets that do not overlap, found 10.41.0.0/24 and 10.41.0.128/25";
    machines.until(&format!("False Invalid: {mistake}"), |machines| {
        condition(machines, &pool, "Ready")
    });
    let node = Node::new(&pool, "", &machines.cluster.kubeconfig());
    let refused = add(&node, "web-0_0", &pool);
    assert!(refused.stdout.contains(mistake), "{refused:?}");
    machines.until(&vec![format!("Warning Invalid: {mistake}")], |machines| {
        events(machines, "default", &pool)
    });
    assert_eq!(numbers(&machines, &pool), json!({}));
    let since = |machines: &Machines<'_>| {
        machines.get(POOLS, &pool)["status"]["conditions"][0]["lastTransitionTime"].clone()
    };
    let before = since(&machines);
    wait(Duration::from_secs(1));
    // Another mistake is not a transition.
    machines.write("IPPool", &pool, &subnets(&["10.41.0.0/24", "10.41.0.0/25"]));
    machines.until(&true, |machines| condition(machines, &pool, "Ready").ends_with("10.41.0.0/25"));
    assert_eq!(since(&machines), before);
    machines.write("IPPool", &pool, &subnets(&["10.41.0.0/24"]));
    machines.until(&"True Ready: gives addresses".to_owned(), |machines| {
        condition(machines, &pool, "Ready")
    });
    assert_ne!(since(&machines), before);
    machines.until(&2, |machines| events(machines, "default", &pool).len());
}

#[test]
fn pools_that_share_addresses_say_with_whom() {
    let Some(machines) = shared() else { return };
    let [one, two, other] = ["one", "two", "other"].map(own_name);
    let write = |name: &str, scope: &str, subnet: &str| {
        machines.write("IPPool", name, &json!({"scope": scope, "subnets": [{"subnet": subnet}]}));
    };
    let said = |machines: &Machines<'_>, pool: &str| {
        let text = condition(machines, pool, "Overlapping");
        text.split(';').next().unwrap().to_owned()
    };
    write(&one, &one, "10.42.0.0/24");
    machines.until(&true, |machines| said(machines, &one).starts_with("False None"));
    write(&two, &one, "10.42.0.128/25");
    let shared = "10.42.0.129-10.42.0.254";
    machines.until(&format!("True SameScope: also in IPPool {one}: {shared}"), |machines| {
        said(machines, &two)
    });
    machines.pool(&json!({"prefix": 24, "addresses": ["10.42.0.9"]}));
    let both = format!(
        "True OtherScope: also in InClusterIPPool {0}/pool (scope capi:InClusterIPPool/{0}/pool): 10.42.0.9, IPPool {two}: {shared}",
        machines.namespace
    );
    machines.until(&both, |machines| said(machines, &one));
    machines.until(&true, |machines| {
        let told = events(machines, "default", &one);
        told.iter().any(|text| text.starts_with("Warning Overlapping: also in InClusterIPPool"))
    });
    // A pool of Cluster API has no such condition, but the event.
    machines.until(&true, |machines| {
        let told = events(machines, &machines.namespace, "pool");
        told.iter().any(|text| text.starts_with("Warning Overlapping: also in IPPool"))
    });
    // The default range of Services of a cluster.
    let services = machines.cluster.text(&[
        "get",
        "servicecidr",
        "kubernetes",
        "-o",
        "jsonpath={.spec.cidrs[0]}",
    ]);
    write(&other, &other, &services);
    machines.until(&true, |machines| {
        said(machines, &other)
            .starts_with("True ServiceAddresses: also in ServiceCIDR kubernetes: ")
    });
}

#[test]
fn a_pool_with_addresses_of_pod_cidrs_names_the_nodes() {
    let Some(machines) = shared() else { return };
    let [pool, node] = ["pods", "node"].map(own_name);
    machines.write("IPPool", &pool, &json!({"scope": pool, "subnets": [{"subnet": "10.48.0.0/22"}, {"subnet": "fd00:48::/64"}]}));
    machines.until(&true, |machines| {
        condition(machines, &pool, "Overlapping").starts_with("False None")
    });
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
        "spec": {"podCIDR": "10.48.1.0/24", "podCIDRs": ["10.48.1.0/24", "fd00:48:0:0:1::/80"]}});
    machines.cluster.apply(&object.to_string());
    let told = format!(
        "PodAddresses: also in podCIDRs of node {node}: 10.48.1.0-10.48.1.255; the network of the cluster may give the same address to another pod, unless it takes its addresses from hereabouts"
    );
    machines.until(&format!("True {told}"), |machines| condition(machines, &pool, "Overlapping"));
    machines.until(&true, |machines| {
        let events = events(machines, "default", &pool);
        events.iter().any(|text| text.starts_with("Warning Overlapping: also in podCIDRs of node"))
    });
    machines.cluster.text(&["delete", "node", &node]);
    machines.until(&true, |machines| {
        condition(machines, &pool, "Overlapping").starts_with("False None")
    });
}

#[test]
fn a_full_pool_says_so_before_it_is_full() {
    let Some(machines) = shared() else { return };
    let pool = own_name("filling");
    machines.write(
        "IPPool",
        &pool,
        &json!({"scope": pool, "subnets": [{"subnet": "10.43.0.0/24", "addresses": ["10.43.0.1-10.43.0.10"]}]}),
    );
    let names: Vec<String> = (0..9).map(|number| format!("m-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    machines.claim_of("IPPool", &pool, &names);
    machines.until(&"True NearlyFull: 9 of 10 IPv4 addresses are held".to_owned(), |machines| {
        condition(machines, &pool, "Full")
    });
    machines.claim_of("IPPool", &pool, &["last", "late"]);
    machines.until(&"True Full: 10 of 10 IPv4 addresses are held".to_owned(), |machines| {
        condition(machines, &pool, "Full")
    });
    let told = |machines: &Machines<'_>| events(machines, "default", &pool);
    machines.until(&2, |machines| told(machines).len());
    assert!(told(&machines).iter().all(|text| text.starts_with("Warning ")));
    // The claim that came too late says it, too.
    machines.until(&true, |machines| {
        let late = events(machines, &machines.namespace, "late");
        late.iter().any(|text| {
            text.starts_with(&format!("Warning PoolExhausted: IPPool {pool} has no free"))
        })
    });
}

/// After a step back to an older version, the newer one's conditions stay.
#[test]
fn an_older_controller_leaves_the_conditions_of_a_newer_one() {
    let Some(machines) = shared() else { return };
    let pool = own_name("newer");
    let spec = json!({"scope": pool, "subnets": [{"subnet": "10.44.0.0/28"}]});
    machines.write("IPPool", &pool, &spec);
    machines.until(&true, |machines| condition(machines, &pool, "Ready").starts_with("True"));
    let status = json!({"status": {"writer": "99.0.0", "conditions": [
        {"type": "Ready", "status": "Unknown", "reason": "New", "message": "new", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]}});
    let patch = ["patch", POOLS, &pool, "--subresource=status", "--type=merge", "-p"];
    machines.cluster.text(&[&patch[..], &[&status.to_string()]].concat());
    machines.claim_of("IPPool", &pool, &["a"]);
    machines.until(&json!("1"), |machines| numbers(machines, &pool)["held"].clone());
    assert_eq!(condition(&machines, &pool, "Ready"), "Unknown New: new");
    assert_eq!(machines.get(POOLS, &pool)["status"]["writer"], "99.0.0");
}

#[test]
fn a_pool_that_is_deleted_waits_for_its_holders() {
    let Some(machines) = shared() else { return };
    let pool = own_name("ending");
    machines.write(
        "IPPool",
        &pool,
        &json!({"scope": pool, "subnets": [{"subnet": "10.45.0.0/28"}]}),
    );
    let node = Node::new(&pool, "", &machines.cluster.kubeconfig());
    assert_eq!(add(&node, "web-0_0", &pool).addresses(), ["10.45.0.1"]);
    machines.claim_of("IPPool", &pool, &["a"]);
    machines.until(&Some("10.45.0.2".to_owned()), |machines| machines.address("a"));
    machines.until(&json!(["hereabouts.dev/protect-pool"]), |machines| {
        machines.get(POOLS, &pool)["metadata"]["finalizers"].clone()
    });
    machines.cluster.text(&["delete", POOLS, &pool, "--wait=false"]);
    let waits = format!(
        "False Deleting: is being deleted, and waits: 2 addresses of it are held: 10.45.0.1 (pod default/web-0), 10.45.0.2 (IPAddressClaim {}/a)",
        machines.namespace
    );
    machines.until(&waits, |machines| condition(machines, &pool, "Ready"));
    machines.until(&true, |machines| {
        let told = events(machines, "default", &pool);
        told.iter().any(|text| text.starts_with("Normal Deleting: is being deleted, and waits: 2 "))
    });
    // Nothing new is given.
    let new = Node::new(&own_name("new"), "", &machines.cluster.kubeconfig());
    let refused = add(&new, "web-1_0", &pool);
    assert!(refused.details().contains(&format!("{pool} is being deleted")), "{refused:?}");
    machines.claim_of("IPPool", &pool, &["b"]);
    machines.until(&format!("False PoolNotReady: IPPool {pool} is being deleted"), |machines| {
        machines.condition("b")
    });
    // The pod keeps its address, and a repeated ADD of it succeeds.
    assert_eq!(add(&node, "web-0_0", &pool).addresses(), ["10.45.0.1"]);
    machines.kubectl(&["delete", "ipaddressclaim", "a"]);
    let one = "False Deleting: is being deleted, and waits: 1 address of it is held: 10.45.0.1 (pod default/web-0)";
    machines.until(&one.to_owned(), |machines| condition(machines, &pool, "Ready"));
    call(&node, "DEL", "web-0_0", &pool).run().succeeded();
    // It stays for as long as a node may still give from its copy.
    let deadline = Deadline::after(Duration::from_secs(115));
    machines.until(&true, |machines| {
        condition(machines, &pool, "Ready").contains("waits until no node knows it any more")
    });
    let exists = || !machines.cluster.text(&["get", POOLS, &pool, "--ignore-not-found"]).is_empty();
    while !deadline.left().is_zero() {
        assert!(exists(), "after {:?}", Duration::from_secs(115) - deadline.left());
        wait(Duration::from_secs(5));
    }
    machines.until(&false, |_| exists());
}
