//! Claims and pods that draw from one pool.

use super::{Machines, shared};
use crate::support::nodes::{Node, own_name};
use crate::support::sandbox::{Ended, configuration};
use serde_json::json;
use std::collections::BTreeSet;

fn add(node: &Node, container: &str, pool: &str) -> Ended {
    let mut call = node.call("ADD", container);
    call.stdin(configuration(&format!(r#""pool":"{pool}""#)));
    call.run()
}

#[test]
fn machines_and_pods_never_get_one_address() {
    let Some(machines) = shared() else { return };
    let pool = own_name("wire");
    machines.write(
        "IPPool",
        &pool,
        &json!({
            "scope": pool,
            "subnets": [{"subnet": "10.30.0.0/24", "gateway": "10.30.0.1", "addresses": ["10.30.0.1-10.30.0.8"],
                "exclude": [{"addresses": "10.30.0.3", "reason": "a printer"}]}],
            "reservations": [{"pod": "default/db-0", "address": "10.30.0.4"}],
        }),
    );
    let node = Node::new(&pool, "", &machines.cluster.kubeconfig());
    machines.claim_of("IPPool", &pool, &["a"]);
    machines.until(&1, |machines| machines.answers().len());
    let first = add(&node, "web-0", &pool);
    machines.claim_of("IPPool", &pool, &["b"]);
    machines.until(&2, |machines| machines.answers().len());
    let second = add(&node, "web-1", &pool);
    machines.claim_of("IPPool", &pool, &["c"]);
    machines.until(&true, |machines| {
        machines.condition("c").starts_with("True") || machines.answers().len() == 3
    });
    let mut given: Vec<String> =
        machines.answers().into_iter().map(|(_, address)| address).collect();
    given.extend(first.addresses());
    given.extend(second.addresses());
    let distinct: BTreeSet<&String> = given.iter().collect();
    assert_eq!(distinct.len(), 5, "{given:?}");
    for barred in ["10.30.0.1", "10.30.0.3", "10.30.0.4"] {
        assert!(!given.iter().any(|address| address == barred), "{given:?}");
    }
    // Both sides say that nothing is left.
    let full = add(&node, "web-2", &pool);
    assert_eq!(full.code(), 100, "{}", full.stdout);
    machines.claim_of("IPPool", &pool, &["d"]);
    machines.until(&true, |machines| machines.condition("d").starts_with("False PoolExhausted"));
    // What a pod gives back, a machine gets.
    let mut del = node.call("DEL", "web-0");
    del.stdin(configuration(&format!(r#""pool":"{pool}""#)));
    assert_eq!(del.run().status, Some(0));
    let freed = first.addresses();
    machines.until(&freed.first().cloned(), |machines: &Machines<'_>| machines.address("d"));
    // And the other way round.
    machines.kubectl(&["delete", "ipaddressclaim", "a"]);
    let again = add(&node, "web-2", &pool);
    assert_eq!(again.addresses(), ["10.30.0.2"]);
}

/// Also a pool of Cluster API may be of the wire on which pods are.
#[test]
fn a_pool_of_cluster_api_can_be_put_into_the_scope_of_pods() {
    let Some(machines) = shared() else { return };
    let scope = own_name("wire");
    let mut pool = json!({
        "apiVersion": "ipam.cluster.x-k8s.io/v1alpha2", "kind": "InClusterIPPool",
        "metadata": {"name": "pool", "namespace": machines.namespace, "annotations": {"hereabouts.dev/scope": scope}},
        "spec": {"prefix": 24, "addresses": ["10.9.0.1-10.9.0.2"]},
    });
    machines.cluster.apply(&pool.to_string());
    let node = Node::new(&scope, &scope, &machines.cluster.kubeconfig());
    assert_eq!(node.add("web-0").addresses(), ["10.9.0.1"]);
    machines.claim(&["a"]);
    machines.until(&Some("10.9.0.2".to_owned()), |machines| machines.address("a"));
    // The address of the claim is not free for a pod. Which one it gets instead is not said.
    let second = node.add("web-1").addresses();
    assert_eq!(second.len(), 1);
    assert!(!["10.9.0.1", "10.9.0.2"].contains(&&*second[0]), "{second:?}");
    // The scope stays while the claim holds an address in it, or its address would be free there.
    pool["metadata"]["annotations"] = json!({"hereabouts.dev/scope": "other"});
    machines.cluster.apply(&pool.to_string());
    machines.claim(&["b"]);
    machines.until(&true, |machines| machines.condition("b").starts_with("False PoolExhausted"));
    let pool = machines.get("inclusterippool", "pool");
    assert_eq!(pool["metadata"]["annotations"]["hereabouts.dev/scope-in-use"], scope);
}
