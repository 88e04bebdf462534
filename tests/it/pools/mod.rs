//! Pools: named sets of addresses that networks share. On the file store here, on the Kubernetes store
//! in `kube`; `rules` has what the API server enforces.

#[cfg(feature = "kube")]
pub(crate) mod kube;
#[cfg(feature = "kube")]
mod rules;

use crate::support::sandbox::{Ended, Sandbox, configuration};
use expect_test::{Expect, expect};
use serde_json::json;

/// Writes a pool beside the flat file.
fn write(sandbox: &Sandbox, name: &str, spec: &str) {
    std::fs::create_dir_all(sandbox.path("pools")).unwrap();
    let pool = format!(
        "apiVersion: hereabouts.dev/v1alpha1\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    );
    sandbox.write(&format!("pools/{name}.yaml"), &pool);
}

fn remove(sandbox: &Sandbox, name: &str) {
    std::fs::remove_file(sandbox.path(&format!("pools/{name}.yaml"))).unwrap();
}

/// An ADD of a pod (`namespace/name`).
fn add(sandbox: &Sandbox, container: &str, pod: &str, ipam: &str) -> Ended {
    let (namespace, name) = pod.split_once('/').unwrap();
    let args = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};IgnoreUnknown=1");
    let mut call = sandbox.call("ADD");
    call.set("CNI_CONTAINERID", container).set("CNI_ARGS", args);
    call.stdin(configuration(ipam)).run()
}

const BLUE: &str = r#""pool":"blue""#;

#[test]
fn networks_that_name_one_pool_get_addresses_of_both_families_from_it() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "blue",
        "{scope: wire, subnets: [{subnet: 10.1.2.0/24, gateway: 10.1.2.1, addresses: [10.1.2.1-10.1.2.3, 10.1.2.9], exclude: [{addresses: 10.1.2.3, reason: a printer}]}, {subnet: 'fd00:c::/120'}], routes: [{dst: 0.0.0.0/0}]}",
    );
    assert_eq!(sandbox.add("c1", BLUE).addresses(), ["10.1.2.2", "fd00:c::1"]);
    let other = configuration(BLUE).replace("\"net1\"", "\"net2\"");
    let mut call = sandbox.call("ADD");
    let second = call.set("CNI_CONTAINERID", "c2").stdin(other).run();
    assert_eq!(second.addresses(), ["10.1.2.9", "fd00:c::2"]);
    let result: serde_json::Value = serde_json::from_str(&second.stdout).unwrap();
    assert_eq!(result["ips"][0], json!({"address": "10.1.2.9/24", "gateway": "10.1.2.1"}));
    assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0"}]));
    let listed = sandbox.list();
    assert!(listed.iter().all(|held| held["scope"] == "wire"), "{listed:?}");
    // Ranges in the scope of the pool and the pool are one truth.
    let ranges = r#""range":"10.1.2.0/28","network_name":"wire""#;
    assert_eq!(sandbox.add("c3", ranges).addresses(), ["10.1.2.3"]);
    assert_eq!(sandbox.add("c4", BLUE).code(), 100);
}

/// Machines that share a store read the pools in its directory, which may be there before the store.
#[test]
fn a_store_may_have_its_pools_before_its_first_add() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.store().join("pools")).unwrap();
    let pool = "apiVersion: hereabouts.dev/v1alpha1\nkind: IPPool\nmetadata: {name: blue}\nspec: {subnets: [{subnet: 10.1.2.0/24}]}\n";
    std::fs::write(sandbox.store().join("pools/blue.yaml"), pool).unwrap();
    sandbox.command(&["store", "init", sandbox.store().to_str().unwrap()]).succeeded();
    assert_eq!(sandbox.add("c1", BLUE).addresses(), ["10.1.2.1"]);
    sandbox.command(&["verify"]).succeeded();
}

#[test]
fn all_addresses_of_an_add_come_from_the_first_pool_that_has_room() {
    let sandbox = Sandbox::new();
    let ipam = r#""pools":["a","b"]"#;
    write(&sandbox, "a", "{subnets: [{subnet: 10.1.2.0/30}, {subnet: 'fd00:a::/120'}]}");
    write(&sandbox, "b", "{subnets: [{subnet: 10.1.3.0/29}, {subnet: 'fd00:b::/120'}]}");
    assert_eq!(sandbox.add("c1", ipam).addresses(), ["10.1.2.1", "fd00:a::1"]);
    assert_eq!(sandbox.add("c2", ipam).addresses(), ["10.1.2.2", "fd00:a::2"]);
    assert_eq!(sandbox.add("c3", ipam).addresses(), ["10.1.3.1", "fd00:b::1"]);
    assert_eq!(sandbox.held().len(), 6, "nothing of a pool without room is left");
    sandbox.del("c1", ipam).succeeded();
    sandbox.forget_freed();
    // A repeated ADD stays with its pool, although the first one has room again.
    assert_eq!(sandbox.add("c3", ipam).addresses(), ["10.1.3.1", "fd00:b::1"]);
    assert_eq!(sandbox.add("c4", ipam).addresses(), ["10.1.2.1", "fd00:a::1"]);
}

#[test]
fn a_pool_is_for_its_namespaces_and_nodes_alone() {
    let sandbox = Sandbox::new();
    write(&sandbox, "a", "{namespaces: [db], subnets: [{subnet: 10.1.2.0/24}]}");
    let selector = "nodeSelector: {matchLabels: {zone: a}}";
    write(&sandbox, "b", &format!("{{{selector}, subnets: [{{subnet: 10.1.3.0/24}}]}}"));
    let ipam = r#""pools":["a","b"]"#;
    assert_eq!(add(&sandbox, "c1", "db/x", ipam).addresses(), ["10.1.2.1"]);
    let refused = add(&sandbox, "c2", "web/x", ipam);
    assert_eq!(refused.code(), 7);
    let details = refused.details();
    assert!(details.contains("a is not for the namespace web"), "{details}");
    assert!(details.contains("b is for nodes with the label zone=a"), "{details}");
    sandbox.set_in_flat(&[("node_labels", json!({"zone": "a"}))]);
    assert_eq!(add(&sandbox, "c2", "web/x", ipam).addresses(), ["10.1.3.1"]);
}

#[test]
fn a_pool_grows_and_shrinks_without_a_restart_and_takes_nothing_from_its_holder() {
    let sandbox = Sandbox::new();
    let of = |addresses: &str| {
        write(
            &sandbox,
            "blue",
            &format!("{{subnets: [{{subnet: 10.1.2.0/24, addresses: [{addresses}]}}]}}"),
        );
    };
    of("10.1.2.4");
    assert_eq!(sandbox.add("c1", BLUE).addresses(), ["10.1.2.4"]);
    assert_eq!(sandbox.add("c2", BLUE).code(), 100);
    of("10.1.2.4-10.1.2.5");
    assert_eq!(sandbox.add("c2", BLUE).addresses(), ["10.1.2.5"]);
    of("10.1.2.5");
    assert_eq!(sandbox.add("c1", BLUE).addresses(), ["10.1.2.4"], "it keeps what it holds");
    sandbox.del("c1", BLUE).succeeded();
    assert_eq!(sandbox.add("c3", BLUE).code(), 100, "and nobody else gets it");
    // A repeated ADD and a DEL need no pool.
    remove(&sandbox, "blue");
    assert_eq!(sandbox.add("c2", BLUE).addresses(), ["10.1.2.5"]);
    assert_eq!(sandbox.add("c3", BLUE).code(), 7);
    sandbox.del("c2", BLUE).succeeded();
    assert!(sandbox.held().is_empty());
}

#[test]
fn a_pool_with_a_mistake_does_not_stop_the_others() {
    let sandbox = Sandbox::new();
    write(&sandbox, "a", "{subnets: [{subnet: 10.1.2.0/24, gatway: 10.1.2.1}]}");
    write(&sandbox, "b", "{subnets: [{subnet: 10.1.3.0/24}]}");
    for ipam in [r#""pools":["a","b"]"#, r#""pools":["none","b"]"#] {
        assert_eq!(sandbox.add("c1", ipam).addresses(), ["10.1.3.1"], "{ipam}");
        sandbox.call("STATUS").stdin(configuration(ipam)).run().succeeded();
    }
    let refused = sandbox.add("c2", r#""pools":["a","none"]"#);
    let details = refused.details();
    assert!(
        details.contains("gatway") && details.contains("no pool has the name none"),
        "{details}"
    );
}

#[test]
fn reservations_of_a_pool_bind_every_network_that_names_it() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "blue",
        "{subnets: [{subnet: 10.1.2.0/24}], reservations: [{pod: default/db-0, address: 10.1.2.1}, {statefulSet: default/web, addresses: 10.1.2.2-10.1.2.3}, {pod: default/db-0, interface: net9, address: 10.1.2.9}]}",
    );
    for (container, pod, address) in [
        ("c1", "default/x", "10.1.2.4"),
        ("c2", "default/db-0", "10.1.2.1"),
        ("c3", "default/web-1", "10.1.2.3"),
    ] {
        assert_eq!(add(&sandbox, container, pod, BLUE).addresses(), [address], "{pod}");
    }
}

#[test]
fn what_is_wrong_with_a_pool_is_named() {
    let sandbox = Sandbox::new();
    let check = |ipam: &str, expected: Expect| {
        let ended = sandbox.add("c1", ipam);
        let text = format!("{} {}", ended.code(), ended.details());
        expected.assert_eq(&text.replace(sandbox.path("").to_str().unwrap(), "/"));
    };
    check(
        BLUE,
        expect![
            "7 ipam.pool: no pool has the name blue: looked for /pools/blue.yaml and /store/pools/blue.yaml"
        ],
    );
    write(&sandbox, "blue", "{subnets: [{subnet: 10.1.2.0/24, gatway: 10.1.2.1}]}");
    check(
        BLUE,
        expect![[
            r#"2 /pools/blue.yaml: spec.subnets[0].gatway: unknown key with the value "10.1.2.1"; hint: did you mean "gateway"?"#
        ]],
    );
    let twice = r#"{"apiVersion":"hereabouts.dev/v1alpha1","kind":"IPPool","metadata":{"name":"blue"},"spec":{"scope":"a","scope":"b","subnets":[{"subnet":"10.1.2.0/24"}]}}"#;
    sandbox.write("pools/blue.yaml", twice);
    check(
        BLUE,
        expect!["7 /pools/blue.yaml: spec.scope: expected one value, found two different ones"],
    );
    write(&sandbox, "blue", "{scope: 'capi:x', subnets: [{subnet: 10.1.2.0/24}]}");
    check(
        BLUE,
        expect![[
            r#"2 /pools/blue.yaml: spec.scope: expected a name that does not begin with "capi:", found "capi:x"; hint: these names are kept for pools of Cluster API; choose another name"#
        ]],
    );
    write(&sandbox, "blue", "{subnets: [{subnet: 10.1.2.0/24}]}");
    check(
        r#""pool":"../blue""#,
        expect![[r#"7 ipam.pool: expected the name of a pool, such as zone-a, found "../blue""#]],
    );
    check(
        r#""pool":"blue","range":"10.1.2.0/24""#,
        expect!["7 ipam.pool: expected either a pool or ranges, not both"],
    );
    check(
        r#""pool":"blue","network_name":"x""#,
        expect![
            "7 ipam.network_name: expected no network_name beside a pool; hint: set scope in the pool"
        ],
    );
    check(
        r#""pool":"blue","pools":["blue"]"#,
        expect!["7 ipam.pools: expected either pool or pools, not both"],
    );
    check(r#""pools":[]"#, expect!["7 ipam.pools: expected 1 to 16 names of pools, found a list"]);
    std::fs::rename(sandbox.path("pools/blue.yaml"), sandbox.path("pools/red.yaml")).unwrap();
    check(
        r#""pool":"red""#,
        expect!["7 /pools/red.yaml: metadata.name: expected the name of the file, red, found blue"],
    );
    write(&sandbox, "blue", "{subnets: [{subnet: 10.1.2.0/24}]}");
    let other = sandbox.path("store/pools");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::copy(sandbox.path("pools/blue.yaml"), other.join("blue.yaml")).unwrap();
    check(
        BLUE,
        expect![
            "5 /pools/blue.yaml: expected one file for the pool blue, found also /store/pools/blue.yaml; hint: on a store that machines share, keep the file in the data directory"
        ],
    );
}

#[test]
fn usage_and_show_name_the_pool() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "a",
        "{scope: wire, subnets: [{subnet: 10.1.2.0/29}], reservations: [{pod: default/db-0, address: 10.1.2.6}]}",
    );
    write(&sandbox, "b", "{subnets: [{subnet: 10.1.3.0/29, gateway: 10.1.3.1}]}");
    let ipam = r#""pools":["a","b"]"#;
    add(&sandbox, "c1", "default/db-0", ipam).succeeded();
    add(&sandbox, "c2", "default/x", ipam).succeeded();
    let file = sandbox.write("net.json", &configuration(ipam));
    let file = file.to_str().unwrap();
    expect![[r#"
        NETWORK  POOL  RANGE                            SCOPE  HELD  FREE  RESERVED  EXCLUDED  TOTAL
        net1     a     10.1.2.1-10.1.2.6 (10.1.2.0/29)  wire   2     4     1         0         6
        net1     b     10.1.3.1-10.1.3.6 (10.1.3.0/29)  -      0     5     0         1         6
    "#]]
    .assert_eq(&sandbox.command(&["usage", file]).succeeded().stdout);
    let shown = sandbox.command(&["show", "10.1.2.6", "--network", file]);
    let last = shown.succeeded().stdout.lines().last().unwrap();
    expect!["Reserved:  for pod default/db-0, by pool a of network net1"].assert_eq(last);
}

/// `a` in a scope with two records of three, `b` beside it, and records of no pool.
#[cfg(feature = "kube")]
fn held() -> Sandbox {
    let sandbox = crate::support::transcript::sandbox();
    write(
        &sandbox,
        "a",
        "{scope: wire, subnets: [{subnet: 10.1.2.0/29, exclude: [{addresses: 10.1.2.2, reason: a printer}]}], reservations: [{pod: default/db-0, address: 10.1.2.6}]}",
    );
    write(&sandbox, "b", "{subnets: [{subnet: 10.1.2.0/29, addresses: [10.1.2.1-10.1.2.3]}]}");
    let (a, b) = (r#""pool":"a""#, r#""pool":"b""#);
    add(&sandbox, "c1", "default/db-0", a).succeeded();
    add(&sandbox, "c2", "default/x", a).succeeded();
    add(&sandbox, "c3", "default/y", b).succeeded();
    let ranges = r#""range":"10.1.2.0/29","network_name":"wire","range_start":"10.1.2.2""#;
    add(&sandbox, "c4", "default/z", ranges).succeeded();
    add(&sandbox, "c5", "default/z", r#""range":"10.9.9.0/29""#).succeeded();
    // An address of `a`, in another scope.
    let ranges = r#""range":"10.1.2.0/29","range_start":"10.1.2.4""#;
    add(&sandbox, "c6", "default/w", ranges).succeeded();
    sandbox
}

#[cfg(feature = "kube")]
#[test]
fn commands_for_pools_print_this() {
    let sandbox = held();
    let mut seen = crate::support::transcript::Transcript::new(&sandbox);
    for args in [
        &["list"][..],
        &["list", "--pool", "a"],
        &["list", "--pool", "a", "--pool", "b"],
        &["list", "--pool", "b", "--pod", "default/x"],
        &["list", "--pool", "c"],
        &["usage", "--pool", "a"],
        &["usage", "--pool", "b", "--pool", "a", "-o", "json"],
        &["usage", "--pool", "c"],
        &["usage"],
        &["show", "10.1.2.1"],
        &["show", "10.1.2.6", "--pool", "a"],
        &["show", "10.1.2.3"],
        &["show", "10.1.2.2", "--pool", "a"],
        &["show", "10.9.9.1", "--pool", "a", "--pool", "b"],
    ] {
        seen.run(&sandbox, args);
    }
    seen.note("smaller pools, and one with a mistake");
    write(&sandbox, "a", "{scope: wire, subnets: [{subnet: 10.1.2.0/29, addresses: [10.1.2.4]}]}");
    write(&sandbox, "b", "{subnet: 10.1.2.0/29}");
    let file = sandbox.write("net.json", &configuration(r#""pool":"a""#));
    let file = file.to_str().unwrap();
    seen.run(&sandbox, &["list", "--pool", "a"]);
    seen.run(&sandbox, &["show", "10.1.2.6", "--network", file]);
    seen.run(&sandbox, &["show", "10.1.2.6", "--pool", "a", "-o", "json"]);
    seen.run(&sandbox, &["usage", "--pool", "b"]);
    std::fs::remove_dir_all(sandbox.path("pools")).unwrap();
    seen.note("no pools");
    seen.run(&sandbox, &["list", "--pool", "a"]);
    seen.assert("pools");
}

/// A directory that the operator names has the pools in it, and not those beside the flat file.
#[cfg(feature = "kube")]
#[test]
fn the_pools_of_a_store_are_those_of_its_own_places() {
    let sandbox = held();
    let other = sandbox.path("other");
    crate::support::sandbox::make_store(&other);
    let other = other.to_str().unwrap();
    let ended = sandbox.command(&["list", "--pool", "a", "--data-dir", other]);
    assert!(ended.stderr.contains("this store has no pools"), "{ended:?}");
    std::fs::rename(sandbox.path("pools"), sandbox.path("other/pools")).unwrap();
    sandbox.command(&["list", "--pool", "a", "--data-dir", other]).succeeded();
    let ended = sandbox.command(&["list", "--pool", "a"]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
}
