//! Addresses of the node's own interfaces.

use super::{call, verb};
use crate::in_use::wire::Host;
use crate::support::sandbox::{Sandbox, configuration};

const RANGE: &str = r#""range":"10.0.0.0/29""#;
const BOTH: &str = r#""ipRanges":[{"range":"10.0.0.0/29"},{"range":"fd00::/125"}]"#;

/// Returns a node that has the first address of each range on a cable.
fn node() -> Option<(Host, Host)> {
    let (node, other) = (Host::new()?, Host::new()?);
    node.connect("uplink", &other, "eth0");
    node.run("ip address add 10.0.0.1/29 dev uplink; ip address add fd00::1/125 dev uplink nodad");
    Some((node, other))
}

#[test]
fn an_address_of_the_node_is_passed_over_for_as_long_as_it_has_it() {
    let Some((node, _other)) = node() else { return };
    let sandbox = Sandbox::new();
    let add = |container: &str| verb(&node, &sandbox, "ADD", container, BOTH).addresses();
    assert_eq!(add("c1"), ["10.0.0.2", "fd00::2"]);
    assert_eq!(add("c2"), ["10.0.0.3", "fd00::3"]);
    // A repeat for the same sandbox does not ask again.
    node.run("ip address add 10.0.0.2/32 dev uplink");
    assert_eq!(add("c1"), ["10.0.0.2", "fd00::2"]);
    // An address that was found is noted once, and the kernel is asked about it again.
    let noted = std::fs::read_to_string(sandbox.path("aside/n1")).unwrap();
    assert_eq!(noted.lines().count(), 2, "{noted}");
    node.run("ip address del 10.0.0.1/29 dev uplink");
    assert_eq!(add("c3"), ["10.0.0.1", "fd00::4"]);
    // Nothing is left of a claim that was undone.
    assert_eq!(sandbox.list().len(), 6);
    for container in ["c1", "c2", "c3"] {
        verb(&node, &sandbox, "DEL", container, BOTH).succeeded();
    }
    sandbox.command(&["verify"]).succeeded();
    assert!(sandbox.held().is_empty());
}

#[test]
fn status_counts_an_address_as_room_once_the_node_no_longer_has_it() {
    let Some((node, _other)) = node() else { return };
    let sandbox = Sandbox::new();
    // The store is there from its first ADD on.
    sandbox.add("c0", r#""range":"10.8.0.0/24""#).succeeded();
    let ipam = r#""range":"10.0.0.1-10.0.0.2/29","status_when_full":"not_ready""#;
    assert_eq!(verb(&node, &sandbox, "ADD", "c1", ipam).addresses(), ["10.0.0.2"]);
    assert_eq!(verb(&node, &sandbox, "STATUS", "", ipam).code(), 50);
    node.run("ip address del 10.0.0.1/29 dev uplink");
    verb(&node, &sandbox, "STATUS", "", ipam).succeeded();
    assert_eq!(verb(&node, &sandbox, "ADD", "c2", ipam).addresses(), ["10.0.0.1"]);
}

#[test]
fn an_address_of_the_node_that_is_asked_for_is_an_error_that_names_the_interface() {
    let Some((node, _other)) = node() else { return };
    let sandbox = Sandbox::new();
    let asked = configuration(RANGE).replacen(
        '{',
        r#"{"runtimeConfig":{"ips":["10.0.0.1/29"]},"capabilities":{"ips":true},"#,
        1,
    );
    for whole in [
        asked,
        configuration(r#""addresses":[{"address":"10.0.0.1/29"}]"#),
        configuration(r#""addresses":[{"address":"fd00::1/125"}]"#),
    ] {
        let ended = call(&node, &sandbox, "ADD", "c1", &whole);
        assert_eq!(ended.code(), 101, "{ended:?}");
        assert!(ended.details().contains("uplink"), "{ended:?}");
        assert!(sandbox.held().is_empty());
    }
}

#[test]
fn the_flat_file_allows_the_nodes_addresses_in_one_scope() {
    let Some((node, _other)) = node() else { return };
    let sandbox = Sandbox::new();
    let flat = |value: &str| {
        let more = format!(r#"{{"own_addresses":{value},"#);
        sandbox.write("flat.conf", &sandbox.flat("n1").replacen('{', &more, 1));
    };
    flat(r#"{"blue":"allowed","":"passed_over"}"#);
    let blue = format!(r#"{RANGE},"network_name":"blue""#);
    assert_eq!(verb(&node, &sandbox, "ADD", "c1", RANGE).addresses(), ["10.0.0.2"]);
    assert_eq!(verb(&node, &sandbox, "ADD", "c2", &blue).addresses(), ["10.0.0.1"]);
    flat(r#"{"":"allowed"}"#);
    assert_eq!(verb(&node, &sandbox, "ADD", "c3", RANGE).addresses(), ["10.0.0.1"]);
    flat(r#"{"":"yes"}"#);
    let ended = verb(&node, &sandbox, "ADD", "c4", RANGE);
    assert_eq!((ended.code(), ended.details().contains("own_addresses")), (7, true), "{ended:?}");
}

#[test]
fn a_range_of_the_nodes_addresses_alone_is_full_and_a_routed_prefix_is_not() {
    let Some((node, _other)) = node() else { return };
    let sandbox = Sandbox::new();
    let one = r#""range":"10.0.0.1/32""#;
    let ended = verb(&node, &sandbox, "ADD", "c1", one);
    assert_eq!(ended.code(), 100, "{ended:?}");
    assert!(ended.details().contains("1 set aside"), "{ended:?}");
    assert!(sandbox.held().is_empty());
    node.run("ip address flush dev uplink; ip route add local 10.0.0.0/29 dev lo");
    assert_eq!(verb(&node, &sandbox, "ADD", "c1", RANGE).addresses(), ["10.0.0.1"]);
}
