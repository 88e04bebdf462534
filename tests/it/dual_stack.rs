//! `ipFamilyPolicy` and `ipFamilies`, in networks and in pools. HEREABOUTS_TEST_STORE=kubernetes runs
//! the tests of networks on that store.

use crate::support::sandbox::{Ended, Sandbox, configuration};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

/// A range of each family, with four addresses for pods in the first one.
const BOTH: &str =
    r#""ipRanges":[{"range":"10.1.2.0/29","range_end":"10.1.2.4"},{"range":"fd00:2::/120"}]"#;
const ORDER_64: &str = r#""ipFamilies":["IPv6","IPv4"]"#;
const REQUIRE: &str = r#""ipFamilyPolicy":"RequireDualStack""#;
const PREFER: &str = r#""ipFamilyPolicy":"PreferDualStack""#;
const SINGLE: &str = r#""ipFamilyPolicy":"SingleStack""#;

fn ipam(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(",")
}

fn document(ended: &Ended) -> Value {
    serde_json::from_str(&ended.succeeded().stdout).unwrap()
}

fn check_refused(ended: &Ended, sandbox: &Sandbox, expected: &Expect) {
    let text = format!("{} {}", ended.code(), ended.details());
    expected.assert_eq(&text.replace(sandbox.path("").to_str().unwrap(), "/"));
}

/// Writes a pool beside the flat file.
fn write_pool(sandbox: &Sandbox, name: &str, spec: &str) {
    std::fs::create_dir_all(sandbox.path("pools")).unwrap();
    let pool = format!(
        "apiVersion: hereabouts.dev/v1alpha1\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    );
    sandbox.write(&format!("pools/{name}.yaml"), &pool);
}

#[test]
fn families_have_the_meaning_that_a_service_gives_them() {
    const V4: &str = "10.1.2.1";
    const V6: &str = "fd00:2::1";
    let prefer_v6 = ipam(&[PREFER, r#""ipFamilies":["IPv6"]"#]);
    let require_64 = ipam(&[REQUIRE, ORDER_64]);
    let single_64 = ipam(&[SINGLE, ORDER_64]);
    for (keys, expected) in [
        ("", &[V4, V6][..]),
        (SINGLE, &[V4]),
        (&single_64, &[V6]),
        (PREFER, &[V4, V6]),
        (&prefer_v6, &[V6, V4]),
        (REQUIRE, &[V4, V6]),
        (&require_64, &[V6, V4]),
        (ORDER_64, &[V6, V4]),
        (r#""ipFamilies":["IPv6"]"#, &[V6]),
        (r#""ipFamilies":["IPv4"]"#, &[V4]),
        (r#""ipFamilies":[]"#, &[V4, V6]),
    ] {
        let sandbox = Sandbox::new();
        assert_eq!(sandbox.add("c1", &ipam(&[BOTH, keys])).addresses(), expected, "{keys}");
        assert_eq!(sandbox.held().len(), expected.len(), "{keys}");
    }
}

#[test]
fn preferred_families_are_those_that_have_ranges_not_those_that_have_room() {
    let sandbox = Sandbox::new();
    let one = r#""range":"fd00:3::/120""#;
    assert_eq!(sandbox.add("a", &ipam(&[one, PREFER])).addresses(), ["fd00:3::1"]);
    assert_eq!(sandbox.add("b", &ipam(&[one, ORDER_64])).addresses(), ["fd00:3::2"]);
    let full = r#""ipRanges":[{"range":"10.1.2.0/30"},{"range":"fd00:2::/120"}]"#;
    for keys in [PREFER, REQUIRE, ORDER_64] {
        let full = ipam(&[full, keys]);
        for container in ["c1", "c2"] {
            assert_eq!(sandbox.add(container, &full).addresses().len(), 2, "{keys}");
        }
        assert_eq!(sandbox.add("c3", &full).code(), 100, "{keys}");
        assert_eq!(
            sandbox.held().len(),
            6,
            "{keys}: the address of the other family is free again"
        );
        for container in ["c1", "c2"] {
            sandbox.del(container, &full).succeeded();
        }
    }
}

#[test]
fn addresses_stay_with_their_holder_in_their_order() {
    let sandbox = Sandbox::new();
    let before = ipam(&[BOTH, REQUIRE]);
    let first = sandbox.add("c1", &before);
    assert_eq!(first.addresses(), ["10.1.2.1", "fd00:2::1"]);
    let only_v4 = r#""range":"10.1.2.0/29""#;
    for now in [
        ipam(&[BOTH, ORDER_64]),
        ipam(&[BOTH, SINGLE]),
        ipam(&[BOTH, r#""ipFamilies":["IPv6"]"#]),
        ipam(&[only_v4, REQUIRE]),
    ] {
        let again = sandbox.add("c1", &now);
        assert_eq!(again.addresses(), first.addresses(), "{now}");
        let mut with_result: Value = serde_json::from_str(&configuration(&now)).unwrap();
        with_result["prevResult"] = document(&again);
        let mut check = sandbox.call("CHECK");
        check.set("CNI_CONTAINERID", "c1").stdin(with_result.to_string()).run().succeeded();
    }
    sandbox.del("c1", &ipam(&[only_v4, REQUIRE])).succeeded();
    assert!(sandbox.held().is_empty());
    // A new one gets what is configured now, and nothing if that is a mistake.
    assert_eq!(sandbox.add("c2", &ipam(&[BOTH, ORDER_64])).addresses(), ["fd00:2::1", "10.1.2.1"]);
    assert_eq!(sandbox.add("c3", &ipam(&[only_v4, REQUIRE])).code(), 7);
}

#[test]
fn static_and_requested_addresses_follow_the_order_of_families() {
    let sandbox = Sandbox::new();
    let fixed = r#""addresses":[{"address":"10.9.0.5/24"},{"address":"fd00:9::5/64"}]"#;
    let given = |keys: &[&str]| {
        let ended = sandbox.add("c1", &ipam(keys));
        let addresses = ended.addresses();
        sandbox.del("c1", &ipam(keys)).succeeded();
        sandbox.forget_freed();
        addresses
    };
    assert_eq!(
        given(&[BOTH, fixed]),
        ["10.1.2.1", "fd00:2::1", "10.9.0.5", "fd00:9::5"],
        "without the keys, static addresses come last"
    );
    assert_eq!(given(&[BOTH, fixed, ORDER_64]), ["fd00:2::1", "fd00:9::5", "10.1.2.1", "10.9.0.5"]);
    assert_eq!(given(&[fixed, ORDER_64]), ["fd00:9::5", "10.9.0.5"]);
    // A static address is one of its family.
    let v6 = r#""addresses":[{"address":"fd00:9::5/64"}]"#;
    let range = r#""range":"10.1.2.0/24""#;
    assert_eq!(given(&[range, v6, REQUIRE]), ["10.1.2.1", "fd00:9::5"]);
    check_refused(
        &sandbox.add("c1", &ipam(&[range, v6, SINGLE])),
        &sandbox,
        &expect![
            "7 ipam.addresses: expected only addresses of IPv4, because ipam.ipFamilyPolicy asks for one family, found fd00:9::5"
        ],
    );
    let request = |container: &str, keys: &str, addresses: &str| {
        let mut call = sandbox.call("ADD");
        call.set("CNI_CONTAINERID", container);
        call.set("CNI_ARGS", format!("IgnoreUnknown=1;IP={addresses}"));
        call.stdin(configuration(&ipam(&[BOTH, keys]))).run()
    };
    let both = request("c2", ORDER_64, "10.1.2.3,fd00:2::7");
    assert_eq!(both.addresses(), ["fd00:2::7", "10.1.2.3"]);
    assert_eq!(request("c3", ORDER_64, "10.1.2.4").addresses()[1], "10.1.2.4");
    check_refused(
        &request("c4", SINGLE, "fd00:2::9"),
        &sandbox,
        &expect!["101 CNI_ARGS IP: expected an address of 10.1.2.1-10.1.2.4, found fd00:2::9"],
    );
}

#[test]
fn routes_of_a_family_that_is_left_out_are_not_answered() {
    let sandbox = Sandbox::new();
    let routes = r#""routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]"#;
    let routes_with = |keys: &str, container: &str| {
        document(&sandbox.add(container, &ipam(&[BOTH, routes, keys])))["routes"].clone()
    };
    assert_eq!(routes_with(SINGLE, "c1"), json!([{"dst": "0.0.0.0/0"}]));
    assert_eq!(routes_with(ORDER_64, "c2"), json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
}

#[test]
fn mistakes_are_named_with_their_path_also_by_config_check() {
    let sandbox = Sandbox::new();
    let v4 = r#""range":"10.1.2.0/24""#;
    for (keys, expected) in [
        (
            ipam(&[BOTH, r#""ipFamilyPolicy":"DualStack""#]),
            expect![[
                r#"7 ipam.ipFamilyPolicy: expected SingleStack, PreferDualStack or RequireDualStack, found "DualStack""#
            ]],
        ),
        (
            ipam(&[BOTH, r#""ipFamilies":["IPv4","ipv6"]"#]),
            expect![[r#"7 ipam.ipFamilies[1]: expected IPv4 or IPv6, found "ipv6""#]],
        ),
        (
            ipam(&[BOTH, r#""ipFamilies":["IPv4","IPv4"]"#]),
            expect![[r#"7 ipam.ipFamilies[1]: expected each family once, found "IPv4""#]],
        ),
        (
            ipam(&[BOTH, r#""ipFamilies":"IPv4""#]),
            expect![[r#"7 ipam.ipFamilies: expected a list, found "IPv4""#]],
        ),
        (
            ipam(&[BOTH, REQUIRE, r#""ipFamilies":["IPv4"]"#]),
            expect![
                "7 ipam.ipFamilies: expected both families, because ipFamilyPolicy is RequireDualStack, found only IPv4"
            ],
        ),
        (
            ipam(&[v4, REQUIRE]),
            expect![
                "7 ipam.ipFamilyPolicy: expected ranges of both families, found no range of IPv6"
            ],
        ),
        (
            ipam(&[v4, r#""ipFamilies":["IPv6"]"#]),
            expect!["7 ipam.ipFamilies: expected a range of the family, found no range of IPv6"],
        ),
        (
            ipam(&[r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"10.1.3.0/24"}]"#, PREFER]),
            expect![
                "7 ipam.ipFamilyPolicy: expected at most one range set of each family, found 2 of IPv4; hint: put all ranges of a family into one inner list of ranges"
            ],
        ),
        (
            ipam(&[BOTH, r#""ip_families":["IPv4"]"#]),
            expect![[
                r#"2 ipam.ip_families: unknown key with the value a list; hint: did you mean "ipFamilies"?"#
            ]],
        ),
    ] {
        check_refused(&sandbox.add("c1", &keys), &sandbox, &expected);
        let place = expected.data().split(' ').nth(1).unwrap().to_owned();
        let file = sandbox.write("net.json", &configuration(&keys));
        let checked = sandbox.command(&["config", "check", file.to_str().unwrap()]);
        assert!(checked.status == Some(1) && checked.stdout.contains(&place), "{checked:?}");
    }
    assert!(sandbox.held().is_empty());
    // A flat file does not choose the families of a network.
    sandbox.set_in_flat(&[("ipFamilies", json!(["IPv6"]))]);
    assert_eq!(sandbox.add("c1", BOTH).addresses(), ["10.1.2.1", "fd00:2::1"]);
}

#[test]
fn a_network_decides_before_its_pool() {
    let subnets = "subnets: [{subnet: 10.1.2.0/24}, {subnet: 'fd00:2::/120'}]";
    let (order, single, require) = (
        "ipFamilies: [IPv6, IPv4]",
        "ipFamilyPolicy: SingleStack",
        "ipFamilyPolicy: RequireDualStack",
    );
    for (of_pool, of_network, expected) in [
        (order, "", &["fd00:2::1", "10.1.2.1"][..]),
        (single, "", &["10.1.2.1"]),
        (order, SINGLE, &["fd00:2::1"]),
        (single, PREFER, &["10.1.2.1", "fd00:2::1"]),
        (single, ORDER_64, &["fd00:2::1"]),
        (require, r#""ipFamilies":["IPv6"]"#, &["fd00:2::1"]),
        ("ipFamilies: [IPv6]", REQUIRE, &["fd00:2::1", "10.1.2.1"]),
    ] {
        let sandbox = Sandbox::new();
        if sandbox.cluster.is_some() {
            return skipped!("only the file store has pools");
        }
        write_pool(&sandbox, "blue", &format!("{{{subnets}, {of_pool}}}"));
        let ended = sandbox.add("c1", &ipam(&[r#""pool":"blue""#, of_network]));
        assert_eq!(ended.addresses(), expected, "{of_pool} {of_network}");
    }
}

#[test]
fn a_pool_without_a_family_that_the_network_needs_is_passed_over() {
    let sandbox = Sandbox::new();
    if sandbox.cluster.is_some() {
        return skipped!("only the file store has pools");
    }
    let pools = ipam(&[r#""pools":["a","b"]"#, REQUIRE]);
    write_pool(&sandbox, "a", "{subnets: [{subnet: 10.1.2.0/24}]}");
    write_pool(&sandbox, "b", "{subnets: [{subnet: 10.1.3.0/24}]}");
    let missing =
        expect!["7 ipam.ipFamilyPolicy: expected ranges of both families, found no range of IPv6"];
    check_refused(&sandbox.add("c1", &pools), &sandbox, &missing);
    let status = sandbox.call("STATUS").stdin(configuration(&pools)).run();
    check_refused(&status, &sandbox, &missing);
    write_pool(&sandbox, "b", "{subnets: [{subnet: 10.1.3.0/24}, {subnet: 'fd00:3::/120'}]}");
    assert_eq!(sandbox.add("c1", &pools).addresses(), ["10.1.3.1", "fd00:3::1"]);
    sandbox.call("STATUS").stdin(configuration(&pools)).run().succeeded();
    // What is written in the pool is named with its file.
    write_pool(
        &sandbox,
        "a",
        "{subnets: [{subnet: 10.1.2.0/24}], ipFamilyPolicy: RequireDualStack}",
    );
    check_refused(
        &sandbox.add("c2", r#""pool":"a""#),
        &sandbox,
        &expect![
            "7 /pools/a.yaml: spec.ipFamilyPolicy: expected ranges of both families, found no range of IPv6"
        ],
    );
    write_pool(&sandbox, "a", "{subnets: [{subnet: 10.1.2.0/24}], ipFamilies: [IPv5]}");
    check_refused(
        &sandbox.add("c2", r#""pool":"a""#),
        &sandbox,
        &expect![[r#"7 /pools/a.yaml: spec.ipFamilies[0]: expected IPv4 or IPv6, found "IPv5""#]],
    );
}
