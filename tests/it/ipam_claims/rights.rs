//! The plugin with the token that it ships with, and what somebody else can do with that token.

use super::{Claims, shared};
use crate::support::nodes::DEADLINES;
use crate::support::sandbox::Ended;
use serde_json::{Value, json};

/// Gives the node its token.
fn with_token(claims: &Claims, node: usize) {
    let node = &claims.nodes[node - 1];
    let token = claims.cluster.node_token(&node.name);
    let kubeconfig = node.sandbox.write("kubeconfig", &claims.cluster.kubeconfig_with(&token));
    node.configure(&kubeconfig, DEADLINES);
}

#[test]
fn the_plugin_serves_claims_with_the_rights_that_it_ships_with() {
    let Some(claims) = shared() else { return };
    [1, 2].into_iter().for_each(|node| with_token(&claims, node));
    claims.claim("vm", Some("vm"));
    for pod in ["source", "target"] {
        claims.pod(pod, Some("vm"), "");
    }
    assert_eq!(claims.add(1, "source", "vm").addresses(), ["10.9.0.1"]);
    assert_eq!(claims.add(2, "target", "vm").addresses(), ["10.9.0.1"]);
    claims.del(1, "source", "vm");
    claims.del(2, "target", "vm");
    assert_eq!(claims.held(), [r#"10.9.0.1 IPAMClaim vm ["hereabouts.dev/in-use"]"#]);
}

#[test]
fn a_token_of_a_node_gives_to_claims_and_takes_nothing_from_them() {
    let Some(claims) = shared() else { return };
    with_token(&claims, 1);
    let node = &claims.nodes[0];
    // A controller frees what is held for a claim that is not there.
    claims.claim("c", None);
    let uid = claims.kubectl(&["get", "ipamclaim", "c", "-o", "jsonpath={.metadata.uid}"]);
    let kubectl = |args: &[&str], stdin: &Value| {
        let file = node.sandbox.write("object.json", &stdin.to_string());
        let mut command = claims.cluster.kubectl_command(args);
        command.env("KUBECONFIG", node.sandbox.path("kubeconfig"));
        if args.contains(&"create") {
            command.arg("-f").arg(file);
        }
        Ended::from(command.output().unwrap())
    };
    let object = |address: &str, kind: &str, finalizers: Value| {
        let (group, pool) = match kind {
            "IPAMClaim" => ("k8s.cni.cncf.io", Value::Null),
            _ => (
                "ipam.cluster.x-k8s.io",
                json!({"apiGroup": "x", "kind": "IPPool", "name": "p", "uid": "u"}),
            ),
        };
        let mut spec = json!({
            "format": 2, "address": address, "prefix": 24, "scope": claims.namespace, "source": "dynamic",
            "since": "2026-01-01T00:00:00Z",
            "claim": {"apiGroup": group, "kind": kind, "namespace": claims.namespace, "name": "c", "uid": uid},
        });
        if !pool.is_null() {
            spec["pool"] = pool;
        }
        json!({"apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPAllocation", "spec": spec,
            "metadata": {"name": format!("{}.{address}", claims.namespace), "finalizers": finalizers}})
    };
    let in_use = json!(["hereabouts.dev/in-use"]);
    let denied = |ended: &Ended| ended.stderr.contains("the record is of a claim");
    for refused in [
        object("10.9.0.1", "IPAddressClaim", in_use.clone()),
        object("10.9.0.1", "IPAMClaim", json!([])),
        object("10.9.0.1", "IPAMClaim", json!(["example.com/other"])),
    ] {
        let ended = kubectl(&["create"], &refused);
        assert!(denied(&ended), "{refused}: {ended:?}");
    }
    let made = kubectl(&["create"], &object("10.9.0.1", "IPAMClaim", in_use));
    assert_eq!(made.status, Some(0), "{made:?}");
    let name = format!("{}.10.9.0.1", claims.namespace);
    let strip = r#"{"metadata":{"finalizers":null}}"#;
    for args in [
        &["delete", "ipa", &name, "--wait=false"][..],
        &["patch", "ipa", &name, "--type=merge", "-p", strip],
    ] {
        let ended = kubectl(args, &Value::Null);
        assert!(denied(&ended), "{args:?}: {ended:?}");
    }
    claims.cluster.text(&["patch", "ipa", &name, "--type=merge", "-p", strip]);
    claims.cluster.text(&["delete", "ipa", &name]);
}
