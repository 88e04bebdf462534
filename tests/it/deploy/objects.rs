//! The manifests on a real API server: it accepts them, refuses an IPAllocation that no ADD of ours
//! writes, and gives the plugin its rights and no others.

use crate::support::cluster::{Cluster, Options};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Output, Stdio};

pub(super) fn cluster() -> Option<&'static Cluster> {
    Cluster::shared().map_err(|reason| skipped!("{reason}")).ok()
}

pub(super) fn kubectl(cluster: &Cluster, args: &[&str], stdin: &Value) -> Output {
    let mut command = cluster.kubectl_command(args);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Returns an object as an ADD writes it.
pub(super) fn allocation(name: &str, scope: Option<&str>, address: &str) -> Value {
    let mut object = json!({
        "apiVersion": "hereabouts.dev/v1alpha1",
        "kind": "IPAllocation",
        "metadata": {"name": name},
        "spec": {
            "address": address,
            "prefix": 24,
            "network": "macvlan-conf",
            "podRef": {"namespace": "default", "name": "web-0", "uid": "4a1f"},
            "interface": "net1",
            "containerID": "c1",
            "node": "n1",
            "netns": {"path": "/run/netns/x", "inode": 4_026_532_000_u64, "directoryDevice": 25},
            "bootID": "b1",
            "since": "2026-01-01T00:00:00.000001Z",
            "source": "dynamic",
            "part": 0,
            "of": 1,
        },
    });
    if let Some(scope) = scope {
        object["spec"]["scope"] = json!(scope);
    }
    object
}

/// Returns whether the API server would accept an object, and its answer.
pub(super) fn taken(cluster: &Cluster, object: &Value) -> Result<(), String> {
    let output = kubectl(cluster, &["create", "--dry-run=server", "-f", "-"], object);
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn every_manifest_is_taken_strictly() {
    let Some(cluster) = cluster() else { return };
    for folder in ["crd", "node", "uninstall", "node"] {
        let path = format!("{}/deploy/{folder}", env!("CARGO_MANIFEST_DIR"));
        let output =
            cluster.kubectl(&["apply", "--validate=strict", "--dry-run=server", "-k", &path]);
        assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains("Warning"),
            "{folder}: {output:?}"
        );
    }
}

#[test]
fn names_that_say_scope_and_address_are_taken() {
    let Some(cluster) = cluster() else { return };
    let hash = "0123456789abcdef";
    for (name, scope, address) in [
        ("192.0.2.7", None, "192.0.2.7"),
        ("2001-0db8-0000-0000-0000-0000-0000-0001", None, "2001:db8::1"),
        ("blue.192.0.2.7", Some("blue"), "192.0.2.7"),
        ("blue.2001-0db8-0000-0000-0000-0000-0000-0001", Some("blue"), "2001:db8::1"),
        (&format!("a-b-{hash}.192.0.2.7"), Some("A_b"), "192.0.2.7"),
        (&format!("{hash}.192.0.2.7"), Some(".."), "192.0.2.7"),
    ] {
        taken(cluster, &allocation(name, scope, address))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn other_names_are_refused() {
    let Some(cluster) = cluster() else { return };
    for (name, scope, address) in [
        ("192.0.2.8", None, "192.0.2.7"),
        ("1192.0.2.7", None, "192.0.2.7"),
        ("blue.192.0.2.7", None, "192.0.2.7"),
        ("192.0.2.7", Some("blue"), "192.0.2.7"),
        ("red.192.0.2.7", Some("blue"), "192.0.2.7"),
        ("blue.x.192.0.2.7", Some("blue"), "192.0.2.7"),
        ("a-b.192.0.2.7", Some("A_b"), "192.0.2.7"),
        ("a-b-0123456789abcdef.x.192.0.2.7", Some("A_b"), "192.0.2.7"),
        ("2001-db8--1", None, "2001:db8::1"),
        ("2001-0db8-0000-0000-0000-0000-0000-0002", None, "2001:db8::1"),
        ("x2001-0db8-0000-0000-0000-0000-0000-0001", None, "2001:db8::1"),
        ("blue.2001-0db8-0000-0000-0000-0000-0000-0001", None, "2001:db8::1"),
    ] {
        let refused = taken(cluster, &allocation(name, scope, address)).expect_err(name);
        assert!(refused.contains("metadata.name must "), "{name}: {refused}");
    }
}

#[test]
fn what_no_add_writes_is_refused() {
    let Some(cluster) = cluster() else { return };
    let cases: &[(&str, Value, &str)] = &[
        ("/spec/address", json!("192.0.2.07"), "expected an IPv4 address"),
        ("/spec/address", json!("example"), "expected an IPv4 address"),
        ("/spec/prefix", json!(33), "prefix is longer"),
        ("/spec/gateway", json!("2001:db8::1"), "two families"),
        ("/spec/gateway", json!("here"), "expected an address"),
        ("/spec/part", json!(1), "part counts from 0"),
        ("/spec/source", json!("guessed"), "Unsupported value"),
        ("/spec/node", json!(""), "spec.node"),
        ("/spec/interface", json!("a/b"), "spec.interface"),
        ("/spec/containerID", json!("-"), "spec.containerID"),
        ("/spec/since", json!("yesterday"), "spec.since"),
        ("/spec/scope", json!(""), "spec.scope"),
        ("/spec/podRef/name", json!(""), "spec.podRef.name"),
        ("/spec/bootID", Value::Null, "expected either claim and pool, or network"),
        ("/spec/format", json!(2), "format 2 is the format of claims"),
    ];
    for (key, value, words) in cases {
        let mut object = allocation("192.0.2.7", None, "192.0.2.7");
        let (parent, last) = key.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[last] = value.clone();
        let refused = taken(cluster, &object).expect_err(key);
        assert!(refused.contains(words), "{key} {value}: {refused}");
    }
}

#[test]
fn only_a_rehoming_changes_an_object() {
    let Some(cluster) = cluster() else { return };
    let name = "only-a-rehoming.192.0.2.7";
    let created = kubectl(
        cluster,
        &["create", "-f", "-"],
        &allocation(name, Some("only-a-rehoming"), "192.0.2.7"),
    );
    assert!(created.status.success(), "{created:?}");
    let patch = |spec: &Value| {
        let patch = json!({"spec": spec}).to_string();
        let output = cluster.kubectl(&[
            "patch",
            "ipa",
            name,
            "--type=merge",
            "--dry-run=server",
            "--patch",
            &patch,
        ]);
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    let same_pod = json!({
        "containerID": "c2", "bootID": "b2", "since": "2026-01-02T00:00:00Z", "prefix": 25, "gateway": "192.0.2.1",
        "netns": {"path": "/run/netns/y", "inode": 1, "directoryDevice": 2}, "source": "requested", "part": 1, "of": 2, "machine": "m",
        "added-later": {"kept": true},
    });
    assert_eq!(patch(&same_pod), Ok(()));
    assert_eq!(
        patch(&json!({"podRef": {"uid": "5b20"}})),
        Ok(()),
        "the same sandbox, told more of its pod"
    );
    for (spec, words) in [
        (json!({"address": "192.0.2.8"}), "never changes"),
        (json!({"scope": "blue"}), "never changes"),
        (json!({"scope": null}), "metadata.name must begin"),
        (json!({"network": "other"}), "never changes"),
        (json!({"interface": "net2"}), "never changes"),
        (json!({"node": "n2"}), "never changes"),
        (json!({"containerID": "c2", "podRef": {"name": "web-1"}}), "same pod only"),
        (json!({"containerID": "c2", "podRef": {"uid": "5b20"}}), "same pod only"),
        (json!({"containerID": "c2", "podRef": null}), "same pod only"),
    ] {
        let refused = patch(&spec).expect_err(&spec.to_string());
        assert!(refused.contains(words), "{spec}: {refused}");
    }
    let shown = cluster.text(&["get", "ipa", name]);
    let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        row[..7],
        [name, "192.0.2.7", "macvlan-conf", "default", "web-0", "net1", "n1"],
        "{shown}"
    );
    cluster.text(&["delete", "ipa", name]);
}

/// All verbs on everything that an installation has: the five that the plugin needs, and questions
/// about its own rights.
#[test]
fn the_plugin_has_its_rights_and_no_other() {
    let Some(cluster) = cluster() else { return };
    let plugin = "--as=system:serviceaccount:kube-system:hereabouts";
    let may = |verb: &str, resource: &str| {
        let output = cluster.kubectl(&[
            "auth",
            "can-i",
            verb,
            resource,
            "--all-namespaces",
            plugin,
            "--as-group=system:serviceaccounts",
            "--as-group=system:authenticated",
        ]);
        output.status.success()
    };
    let needed = ["create", "delete", "get", "list", "patch"];
    for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    {
        assert_eq!(may(verb, "ipallocations.hereabouts.dev"), needed.contains(&verb), "{verb}");
        assert_eq!(
            may(verb, "stickyips.hereabouts.dev"),
            ["create", "list", "patch"].contains(&verb),
            "{verb}"
        );
        for resource in ["ippools.hereabouts.dev", "nodes", "pods"] {
            assert_eq!(may(verb, resource), verb == "get", "{verb} {resource}");
        }
        for resource in [
            "secrets",
            "customresourcedefinitions.apiextensions.k8s.io",
            "serviceaccounts/token",
            "daemonsets.apps",
        ] {
            assert!(!may(verb, resource), "{verb} {resource}");
        }
    }
    assert!(may("create", "selfsubjectaccessreviews.authorization.k8s.io"));
}

#[test]
fn the_resource_outlives_the_daemon_set() {
    let own = Cluster::own(Options::default());
    let cluster = match own {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    assert!(
        kubectl(&cluster, &["create", "-f", "-"], &allocation("192.0.2.7", None, "192.0.2.7"))
            .status
            .success()
    );
    cluster.text(&[
        "delete",
        "-k",
        concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/node"),
        "--wait=false",
    ]);
    assert!(
        cluster
            .text(&["get", "clusterroles", "-o", "name"])
            .lines()
            .all(|name| !name.contains("hereabouts"))
    );
    assert!(cluster.text(&["get", "ipa", "-o", "name"]).contains("192.0.2.7"));
    if let Ok(mut helm) = super::chart::tool("helm", "helm") {
        let kubeconfig = cluster.kubeconfig();
        helm.args(["--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", "kube-system"])
            .env("HELM_CACHE_HOME", cluster.directory());
        let mut again = super::chart::tool("helm", "helm").unwrap();
        again.args(helm.get_args());
        let installed = helm.args(["install", "hereabouts", "deploy/chart"]).output().unwrap();
        assert!(installed.status.success(), "{installed:?}");
        assert!(cluster.text(&["get", "clusterroles", "-o", "name"]).contains("/hereabouts"));
        let removed = again.args(["uninstall", "hereabouts"]).output().unwrap();
        assert!(removed.status.success(), "{removed:?}");
        assert!(!cluster.text(&["get", "clusterroles", "-o", "name"]).contains("/hereabouts"));
        assert!(cluster.text(&["get", "ipa", "-o", "name"]).contains("192.0.2.7"));
    }
    // No single typing mistake deletes everything.
    let all = cluster.kubectl(&["delete", "-k", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy")]);
    assert!(!all.status.success());
    assert!(cluster.text(&["get", "ipa", "-o", "name"]).contains("192.0.2.7"));
}
