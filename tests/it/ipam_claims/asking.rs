//! How a pod names its claim, and which claims it does not get.

use super::shared;
use crate::real_parts::examples::configuration;
use crate::support::sandbox::Sandbox;
use serde_json::{Value, json};

#[test]
fn a_network_with_persistent_addresses_reads_the_reference_in_the_pod() {
    let Some(claims) = shared() else { return };
    claims.claim("vm.blue", Some("vm"));
    let networks = json!([
        {"name": "other", "namespace": claims.namespace},
        {"name": "blue", "namespace": claims.namespace, "interface": "pod37a8", "ipam-claim-reference": "vm.blue"},
    ]);
    claims.pod("virt-launcher", Some("vm"), &networks.to_string());
    claims.pod("plain", None, "blue");
    let mut network = claims.network(r#""range":"10.9.0.0/24""#);
    let call = |verb: &str, container: &str, interface: &str, network: &Value| {
        let mut call = claims.call_with(verb, 1, container, network);
        call.set("CNI_IFNAME", interface).run()
    };
    // Without the key, nothing reads the pod.
    assert_eq!(call("ADD", "virt-launcher", "pod37a8", &network).addresses(), ["10.9.0.1"]);
    assert_eq!(claims.held(), ["10.9.0.1 virt-launcher"]);
    call("DEL", "virt-launcher", "pod37a8", &network).succeeded();
    network["allowPersistentIPs"] = json!(true);
    claims.nodes[0].sandbox.forget_freed();
    assert_eq!(call("ADD", "plain", "net1", &network).addresses(), ["10.9.0.1"]);
    assert_eq!(call("ADD", "virt-launcher", "pod37a8", &network).addresses(), ["10.9.0.2"]);
    // Its first network has no claim.
    assert_eq!(call("ADD", "virt-launcher", "net1", &network).addresses(), ["10.9.0.3"]);
    let of_claim = r#"10.9.0.2 IPAMClaim vm.blue ["hereabouts.dev/in-use"]"#;
    assert_eq!(claims.held(), ["10.9.0.1 plain", of_claim, "10.9.0.3 virt-launcher"]);
    for interface in ["pod37a8", "net1"] {
        call("DEL", "virt-launcher", interface, &network).succeeded();
    }
    assert_eq!(claims.held(), ["10.9.0.1 plain", of_claim]);
    // A pod that the API server does not know may have a claim.
    let unknown = call("ADD", "unknown", "net1", &network);
    assert_eq!(unknown.code(), 11, "{}", unknown.details());
}

#[test]
fn a_pod_that_may_not_have_a_claim_gets_no_other_address() {
    let Some(claims) = shared() else { return };
    claims.claim_with("foreign", None, &json!({"network": "other", "interface": ""}));
    claims.claim("ending", None);
    let kept = r#"{"metadata":{"finalizers":["example.com/kept"]}}"#;
    claims.kubectl(&["patch", "ipamclaim", "ending", "--type=merge", "-p", kept]);
    claims.kubectl(&["delete", "ipamclaim", "ending", "--wait=false"]);
    for (claim, code, said) in [
        ("nothing", 11, "expected a claim of this name in the namespace of the pod, found none"),
        ("foreign", 101, "it is for the network other, and this network is net1"),
        ("ending", 101, "it is being deleted"),
        ("No/Name", 7, "args.cni.ipamClaim: expected the name of an IPAMClaim"),
    ] {
        let refused = claims.add(1, "a", claim);
        assert_eq!(refused.code(), code, "{}", refused.details());
        assert!(refused.details().contains(said), "{}", refused.details());
    }
    let mut call = claims.call("ADD", 1, "a", "foreign", r#""range":"10.9.0.0/24""#);
    assert_eq!(call.set("CNI_ARGS", "IgnoreUnknown=1").run().code(), 4);
    assert_eq!((claims.held(), claims.users()), (vec![], vec![]));
    claims.kubectl(&[
        "patch",
        "ipamclaim",
        "ending",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
}

#[test]
fn the_example_gives_the_claim_of_a_pod_its_address() {
    let Some(claims) = shared() else { return };
    let example = configuration("persistent-addresses.yaml");
    let mut network: Value = serde_json::from_str(&example).unwrap();
    network["ipam"]["network_name"] = json!(claims.namespace);
    claims.claim_with("router", None, &json!({"network": "persistent", "interface": "net1"}));
    let reference = json!([{"name": "persistent", "namespace": claims.namespace, "interface": "net1", "ipam-claim-reference": "router"}]);
    claims.pod("router", None, &reference.to_string());
    let call = |verb| claims.call_with(verb, 1, "router", &network).run();
    assert_eq!(call("ADD").addresses(), ["192.168.30.2"]);
    call("DEL").succeeded();
    assert!(claims.held()[0].starts_with("192.168.30.2 IPAMClaim router"), "{:?}", claims.held());
}

#[test]
fn the_file_store_refuses_claims() {
    let sandbox = Sandbox::new();
    let network = |more: Value| {
        let mut network = json!({"cniVersion": "1.1.0", "name": "net1", "type": "macvlan",
            "ipam": {"type": "hereabouts", "range": "10.9.0.0/24"}});
        network.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        network.to_string()
    };
    for more in [json!({"args": {"cni": {"ipamClaim": "vm"}}}), json!({"allowPersistentIPs": true})]
    {
        let refused = sandbox.call("ADD").stdin(network(more)).run();
        assert_eq!(refused.code(), 7, "{}", refused.details());
        assert!(
            refused.details().contains("the file store has no IPAMClaims"),
            "{}",
            refused.details()
        );
    }
    let nothing = json!({"args": {"cni": {"ipamClaim": ""}}, "allowPersistentIPs": false});
    assert_eq!(sandbox.call("ADD").stdin(network(nothing)).run().addresses(), ["10.9.0.1"]);
}

#[test]
fn no_network_has_the_scope_of_users() {
    let sandbox = Sandbox::new();
    let refused = sandbox.add("a", r#""range":"10.9.0.0/24","network_name":"ipamclaim:0:x""#);
    assert_eq!(refused.code(), 2, "{}", refused.details());
    assert!(refused.details().contains("kept for users of IPAMClaims"), "{}", refused.details());
}

#[test]
fn what_a_pod_with_a_claim_would_get_is_explained_and_shown() {
    let Some(claims) = shared() else { return };
    claims.claim("vm", None);
    let mut network = claims.network(r#""range":"10.9.0.0/24""#);
    network["args"] = json!({"cni": {"ipamClaim": "vm"}});
    let node = &claims.nodes[0];
    let file = node.sandbox.write("net.json", &network.to_string()).display().to_string();
    let explain = |pod: &str| {
        let pod = format!("{}/{pod}", claims.namespace);
        node.sandbox.command(&["explain", "--network", &file, "--pod", &pod])
    };
    let before = explain("a");
    assert!(before.succeeded().stdout.contains("10.9.0.1/24"), "{before:?}");
    assert_eq!((claims.held(), claims.users()), (vec![], vec![]));
    assert_eq!(claims.add(1, "a", "vm").addresses(), ["10.9.0.1"]);
    let other = explain("b");
    assert!(other.status == Some(1) && other.stderr.contains("it is in use by pod "), "{other:?}");
    let claim = format!("{}/vm", claims.namespace);
    let listed = node.sandbox.command(&["list", "--claim", &claim]);
    let rows: Vec<&str> = listed.succeeded().stdout.lines().collect();
    assert_eq!(rows.len(), 2, "{listed:?}");
    assert!(
        rows[1].contains("10.9.0.1/24") && rows[1].contains(&format!("IPAMClaim {claim}")),
        "{listed:?}"
    );
    let shown = node.sandbox.command(&["show", "10.9.0.1", "--network", &file]);
    assert!(shown.stdout.contains(&format!("Claim:     IPAMClaim {claim}")), "{shown:?}");
    assert!(shown.stdout.contains(&format!("Pod:       {}/a", claims.namespace)), "{shown:?}");
}
