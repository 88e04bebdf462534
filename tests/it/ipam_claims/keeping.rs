//! Which addresses a claim gets, and that it keeps them.

use super::shared;
use serde_json::json;

/// What the claim `vm` holds when it has this address.
fn of_claim(address: &str) -> String {
    format!(r#"{address} IPAMClaim vm ["hereabouts.dev/in-use"]"#)
}

#[test]
fn a_claim_keeps_its_address_when_its_pod_is_gone() {
    let Some(claims) = shared() else { return };
    claims.claim("vm", None);
    let first = claims.add(1, "a", "vm");
    assert_eq!(first.addresses(), ["10.9.0.1"]);
    assert_eq!(
        (claims.held(), claims.users()),
        (vec![of_claim("10.9.0.1")], vec!["a 10.9.0.1".to_owned()])
    );
    // A repeated ADD is answered as before, and changes nothing.
    assert_eq!(claims.add(1, "a", "vm").document(), first.document());
    claims.nodes[0].check_call("a", &first.document()).run().succeeded();
    claims.del(1, "a", "vm");
    claims.del(1, "a", "vm");
    assert_eq!((claims.held(), claims.users()), (vec![of_claim("10.9.0.1")], vec![]));
    // Nobody else gets it.
    assert_eq!(claims.nodes[1].add("other").addresses(), ["10.9.0.2"]);
    // The next pod of the claim does, wherever it is, also if the network has changed meanwhile.
    let again =
        claims.call("ADD", 2, "b", "vm", r#""range":"10.9.0.0/16","gateway":"10.9.255.254""#).run();
    assert_eq!(again.addresses(), ["10.9.0.1"]);
    assert_eq!(again.document()["ips"], first.document()["ips"]);
    claims.del(2, "b", "vm");
    let moved = claims.call("ADD", 1, "c", "vm", r#""range":"10.10.0.0/24""#).run();
    assert_eq!(moved.addresses(), ["10.9.0.1"]);
    claims.del(1, "c", "vm");
}

#[test]
fn a_claim_has_as_many_addresses_as_its_network_gives() {
    let Some(claims) = shared() else { return };
    claims.claim("vm", None);
    let dual = r#""ipRanges":[{"range":"10.9.0.0/24"},{"range":"fd00:9::/64"}]"#;
    let add =
        |node, container: &str| claims.call("ADD", node, container, "vm", dual).run().addresses();
    assert_eq!(add(1, "a"), ["10.9.0.1", "fd00:9::1"]);
    assert_eq!(claims.held(), [of_claim("10.9.0.1"), of_claim("fd00:9::1")]);
    assert_eq!(claims.users(), ["a 10.9.0.1", "a fd00:9::1"]);
    claims.call("DEL", 1, "a", "vm", dual).run().succeeded();
    assert_eq!(claims.users(), Vec::<String>::new());
    assert_eq!(add(2, "b"), ["10.9.0.1", "fd00:9::1"]);
    claims.call("DEL", 2, "b", "vm", dual).run().succeeded();
    // A network with one family more: the claim gets what it lacks.
    claims.claim("later", None);
    assert_eq!(claims.add(1, "c", "later").addresses(), ["10.9.0.2"]);
    claims.del(1, "c", "later");
    let later = claims.call("ADD", 1, "d", "later", dual).run();
    assert_eq!(later.addresses(), ["10.9.0.2", "fd00:9::2"]);
}

#[test]
fn a_claim_gets_what_it_asks_for_or_what_its_status_names() {
    let Some(claims) = shared() else { return };
    let told = |name: &str, address: &str| {
        claims.claim(name, None);
        claims.write_status(name, &json!({"ips": [address]}));
    };
    told("vm", "10.9.0.77/24");
    assert_eq!(claims.add(1, "a", "vm").addresses(), ["10.9.0.77"]);
    assert_eq!(claims.held(), [of_claim("10.9.0.77")]);
    // It is a wish: the address is another claim's.
    told("thief", "10.9.0.77/24");
    let refused = claims.add(2, "b", "thief");
    assert_eq!(refused.code(), 101);
    let said = "the requested address 10.9.0.77 is held by IPAMClaim";
    assert!(refused.details().contains(said), "{}", refused.details());
    // A status of another cluster, whose addresses this network does not have.
    told("restored", "192.0.2.5/24");
    assert_eq!(claims.add(2, "c", "restored").addresses(), ["10.9.0.1"]);
    // The pod's own request counts more than the status, and is no reason to get another address.
    told("asked", "10.9.0.80/24");
    let with_ips = |container: &str, address: &str| {
        let mut stdin = claims.network(r#""range":"10.9.0.0/24""#);
        stdin["args"] = json!({"cni": {"ipamClaim": "asked", "ips": [address]}});
        claims.call_with("ADD", 1, container, &stdin).run()
    };
    assert_eq!(with_ips("d", "10.9.0.90").addresses(), ["10.9.0.90"]);
    claims.del(1, "d", "asked");
    assert_eq!(with_ips("e", "10.9.0.90").addresses(), ["10.9.0.90"]);
    claims.del(1, "e", "asked");
    let other = with_ips("f", "10.9.0.91");
    assert_eq!(other.code(), 101);
    assert!(
        other.details().contains("it holds 10.9.0.90, and the pod requests 10.9.0.91"),
        "{}",
        other.details()
    );
}

#[test]
fn a_range_that_is_full_or_in_use_gives_nothing_to_a_claim() {
    let Some(claims) = shared() else { return };
    let small = r#""range":"10.9.0.0/30""#;
    claims.claim("vm", None);
    claims.claim("late", None);
    assert_eq!(claims.call("ADD", 1, "a", "vm", small).run().addresses(), ["10.9.0.1"]);
    claims.del(1, "a", "vm");
    assert_eq!(
        claims.nodes[1].call_in("ADD", "pod", "10.9.0.0/30").run().addresses(),
        ["10.9.0.2"]
    );
    let full = claims.call("ADD", 1, "b", "late", small).run();
    assert_eq!(full.code(), 100, "{}", full.details());
    // What the claim has is not asked for again.
    assert_eq!(claims.call("ADD", 1, "c", "vm", small).run().addresses(), ["10.9.0.1"]);
    claims.nodes[1].call_in("DEL", "pod", "10.9.0.0/30").run().succeeded();
    assert_eq!(claims.call("ADD", 2, "d", "late", small).run().addresses(), ["10.9.0.2"]);
}

#[test]
fn what_ends_a_sandbox_ends_its_use_and_not_the_claim() {
    let Some(claims) = shared() else { return };
    claims.claim("vm", None);
    assert_eq!(claims.add(1, "a", "vm").addresses(), ["10.9.0.1"]);
    // GC of a runtime that knows no sandbox of the network.
    claims.nodes[0].gc_call(&[]).run().succeeded();
    assert_eq!((claims.held(), claims.users()), (vec![of_claim("10.9.0.1")], vec![]));
    assert_eq!(claims.add(1, "b", "vm").addresses(), ["10.9.0.1"]);
    let node = &claims.nodes[0];
    node.sandbox.command(&["release", "--node", &node.name, "--force", "--yes"]);
    assert_eq!((claims.held(), claims.users()), (vec![of_claim("10.9.0.1")], vec![]));
    // The address itself is the claim's.
    let refused = node.sandbox.command(&["release", "10.9.0.1", "--yes", "--force"]);
    assert!(
        refused.stderr.contains("held by a claim, whose controller alone releases it"),
        "{refused:?}"
    );
    assert_eq!(claims.held(), [of_claim("10.9.0.1")]);
}

#[test]
fn a_claim_stays_with_its_pool_and_gets_another_address_in_another_scope() {
    let Some(claims) = shared() else { return };
    let pool = |name: &str, subnet: &str| {
        let spec = json!({"scope": claims.namespace, "subnets": [{"subnet": subnet}]});
        let pool = json!({"apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool", "spec": spec,
            "metadata": {"name": format!("{}-{name}", claims.namespace)}});
        claims.cluster.apply(&pool.to_string());
        format!("{}-{name}", claims.namespace)
    };
    let (small, large) = (pool("small", "10.9.1.0/30"), pool("large", "10.9.2.0/24"));
    claims.claim("vm", None);
    let call = |verb: &str, node, container: &str, pools: serde_json::Value| {
        let mut network = claims.network("");
        network["ipam"] = json!({"type": "hereabouts", "pools": pools});
        network["args"] = json!({"cni": {"ipamClaim": "vm"}});
        claims.call_with(verb, node, container, &network).run()
    };
    let both = || json!([small, large]);
    assert_eq!(call("ADD", 1, "a", json!([large])).addresses(), ["10.9.2.1"]);
    call("DEL", 1, "a", json!([large])).succeeded();
    // The first pool has room, and the claim has an address of the second one.
    assert_eq!(call("ADD", 2, "b", both()).addresses(), ["10.9.2.1"]);
    // A repeat, also when no pool serves the network any more.
    assert_eq!(call("ADD", 2, "b", both()).addresses(), ["10.9.2.1"]);
    claims.cluster.text(&["delete", "ippool.hereabouts.dev", &small, &large, "--wait=false"]);
    call("DEL", 2, "b", both()).succeeded();
    assert_eq!(claims.held(), [of_claim("10.9.2.1")]);
    // In another scope somebody else may have the address.
    let mut other = claims.network(r#""range":"10.9.2.0/24""#);
    other["ipam"]["network_name"] = json!(format!("{}-other", claims.namespace));
    let plain = claims.call_with("ADD", 1, "plain", &other).run();
    assert_eq!(plain.addresses(), ["10.9.2.1"]);
    other["args"] = json!({"cni": {"ipamClaim": "vm"}});
    assert_eq!(claims.call_with("ADD", 1, "c", &other).run().addresses(), ["10.9.2.2"]);
    claims.call_with("DEL", 1, "c", &other).run().succeeded();
    assert_eq!(claims.add(1, "d", "vm").addresses(), ["10.9.2.1"]);
}
