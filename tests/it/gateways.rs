//! A gateway is given to no pod, neither by its own network nor by another network of the scope, as
//! long as a record names it.

use crate::support::sandbox::{Sandbox, configuration};

const SILENT: &str = r#""range":"10.9.0.0/29""#;
const NAMING: &str = r#""range":"10.9.0.0/29","gateway":"10.9.0.1""#;

#[test]
fn a_gateway_that_an_existing_record_names_is_not_given_in_its_scope() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.add("c1", NAMING).addresses(), ["10.9.0.2"]);
    assert_eq!(sandbox.add("c2", SILENT).addresses(), ["10.9.0.3"]);
    let asked = |container: &str| {
        sandbox
            .call("ADD")
            .set("CNI_CONTAINERID", container)
            .set("CNI_ARGS", "IP=10.9.0.1")
            .stdin(configuration(SILENT))
            .run()
    };
    assert_eq!(asked("c3").code(), 101);
    // Another scope has another router.
    assert_eq!(
        sandbox.add("c4", &format!(r#"{SILENT},"network_name":"blue""#)).addresses(),
        ["10.9.0.1"]
    );
    // A full range is exhausted, although the gateway is free.
    for (container, address) in [("c5", "10.9.0.4"), ("c6", "10.9.0.5"), ("c7", "10.9.0.6")] {
        assert_eq!(sandbox.add(container, SILENT).addresses(), [address]);
    }
    assert_eq!(sandbox.add("c8", SILENT).code(), 100);
    sandbox.del("c5", SILENT).succeeded();
    // Another record names the gateway when the first one is gone. The note ends with the last one.
    assert_eq!(sandbox.add("c9", NAMING).addresses(), ["10.9.0.4"]);
    sandbox.del("c1", NAMING).succeeded();
    assert_eq!(sandbox.add("c10", SILENT).addresses(), ["10.9.0.2"]);
    assert_eq!(asked("c11").code(), 101);
    sandbox.del("c9", NAMING).succeeded();
    assert_eq!(asked("c12").addresses(), ["10.9.0.1"]);
    assert_eq!(sandbox.command(&["verify"]).status, Some(0));
}

#[test]
fn status_counts_no_gateway_that_an_existing_record_names_as_room() {
    let sandbox = Sandbox::new();
    let silent =
        |bounds: &str| format!(r#""range":"10.9.0.0/29",{bounds},"status_when_full":"not_ready""#);
    let gateway_alone = silent(r#""range_start":"10.9.0.1","range_end":"10.9.0.1""#);
    let status = |ipam: &str| sandbox.call("STATUS").stdin(configuration(ipam)).run();
    // A store that a flat file names exists from its first ADD on.
    sandbox.add("c0", r#""range":"10.8.0.0/24""#).succeeded();
    status(&gateway_alone).succeeded();
    sandbox.add("c1", NAMING).succeeded();
    assert_eq!(status(&gateway_alone).code(), 50);
    status(&silent(r#""range_start":"10.9.0.1","range_end":"10.9.0.3""#)).succeeded();
}

/// The author of the network may make a pod the router.
#[test]
fn a_static_address_may_be_the_gateway_of_another_network() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", NAMING).succeeded();
    let router = r#""addresses":[{"address":"10.9.0.1/29"}]"#;
    assert_eq!(sandbox.add("router", router).addresses(), ["10.9.0.1"]);
}

#[test]
fn static_addresses_obey_the_networks_gateways_and_the_ends_of_its_subnets() {
    let sandbox = Sandbox::new();
    let fixed = |address: &str| {
        format!(r#"{NAMING},"exclude":["10.9.0.5"],"addresses":[{{"address":"{address}/29"}}]"#)
    };
    for (address, what) in [
        ("10.9.0.1", "gateway"),
        ("10.9.0.0", "network or broadcast"),
        ("10.9.0.7", "network or broadcast"),
    ] {
        let refused = sandbox.add("c1", &fixed(address));
        assert_eq!((refused.code(), refused.details().contains(what)), (101, true), "{refused:?}");
        assert_eq!(sandbox.call("STATUS").stdin(configuration(&fixed(address))).run().code(), 101);
    }
    assert!(sandbox.held().is_empty());
    // An exclusion does not bar an address that the same configuration assigns.
    assert_eq!(sandbox.add("c1", &fixed("10.9.0.5")).addresses(), ["10.9.0.2", "10.9.0.5"]);
    let file = sandbox.write("network.json", &configuration(&fixed("10.9.0.5")));
    let checked = sandbox.command(&["config", "check", file.to_str().unwrap()]);
    assert!(
        checked
            .succeeded()
            .stdout
            .contains("note: static address is assigned although exclude covers it"),
        "{checked:?}"
    );
}

/// Covers records that this node has made, without any request.
#[cfg(feature = "kube")]
#[test]
fn in_the_kubernetes_store_a_gateway_that_a_record_of_the_node_names_is_not_given() {
    use crate::support::{cluster::Cluster, nodes, proxy::Proxy};
    let cluster = match Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    crate::kube_faults::install(cluster);
    let scope = nodes::own_name("gateways");
    let node = nodes::Node::new(&scope, &scope, std::path::Path::new("/"));
    let proxy = Proxy::new(cluster);
    node.configure(&proxy.kubeconfig(&node.sandbox.root), nodes::DEADLINES);
    let call = |verb: &str, container: &str, keys: &str, args: &str| {
        let mut call = node.call(verb, container);
        call.set("CNI_ARGS", args).stdin(configuration(&format!(
            r#""network_name":"{scope}","range":"10.9.0.0/29"{keys}"#
        )));
        call.run()
    };
    let naming = r#","gateway":"10.9.0.1""#;
    node.del("no-such").succeeded();
    proxy.seen();
    assert_eq!(call("ADD", "c1", naming, "").addresses(), ["10.9.0.2"]);
    assert_eq!(call("ADD", "c2", "", "").addresses(), ["10.9.0.3"]);
    // The first claim of a node in the scope lists it.
    assert_eq!(proxy.methods(), ["GET", "POST", "POST"]);
    assert_eq!(call("ADD", "c3", "", "IP=10.9.0.1").code(), 101);
    // It checks whether a sandbox of the node left the address behind.
    assert_eq!(proxy.methods(), ["GET"]);
    // Another record names the gateway when the first one is gone. The note ends with the last one.
    assert_eq!(call("ADD", "c4", naming, "").addresses(), ["10.9.0.4"]);
    call("DEL", "c1", naming, "").succeeded();
    assert_eq!(call("ADD", "c5", "", "").addresses(), ["10.9.0.2"]);
    assert_eq!(call("ADD", "c6", "", "IP=10.9.0.1").code(), 101);
    call("DEL", "c4", naming, "").succeeded();
    assert_eq!(call("ADD", "c7", "", "IP=10.9.0.1").addresses(), ["10.9.0.1"]);
    assert!(!node.state().join(format!("gateways-{scope}")).exists());
    // What is read from the cluster after a boot is noted, too.
    call("DEL", "c7", "", "").succeeded();
    assert_eq!(call("ADD", "c8", naming, "").addresses(), ["10.9.0.4"]);
    std::fs::remove_dir_all(node.state()).unwrap();
    assert_eq!(call("ADD", "c9", "", "").addresses(), ["10.9.0.5"]);
    for container in ["c2", "c5", "c8", "c9"] {
        call("DEL", container, "", "").succeeded();
    }
}
