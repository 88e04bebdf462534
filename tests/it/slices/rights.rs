//! What the plugin's token can do with slices: those of its own node, and no others.

use super::Slices;
use crate::support::nodes::{DEADLINES, Node};
use hereabouts::api_client::client::Client;
use hereabouts::api_client::http::{Method, Request};
use hereabouts::environment::ProxyVariables;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

fn with_token(slices: &Slices, node: &Node) -> std::path::PathBuf {
    let token = slices.cluster.node_token(&node.name);
    let kubeconfig =
        node.sandbox.write("token.kubeconfig", &slices.cluster.kubeconfig_with(&token));
    node.configure(&kubeconfig, DEADLINES);
    kubeconfig
}

fn kubectl(slices: &Slices, kubeconfig: &Path, args: &[&str]) -> Result<(), String> {
    let mut command = slices.cluster.kubectl_command(args);
    let output = command.env("KUBECONFIG", kubeconfig).output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Writes the status of a slice, and tries to release it by the same request.
fn patch_status(kubeconfig: &Path, name: &str) -> Result<(), String> {
    let at = "2026-11-01T00:00:00Z";
    let status = json!({"published": at, "count": 0, "held": []});
    let body = json!({"status": status, "spec": {"released": at}}).to_string();
    let request = Request {
        method: Method::Patch,
        path: &format!("/apis/hereabouts.dev/v1alpha1/ipslices/{name}/status"),
        accept: "application/json",
        content: Some(("application/merge-patch+json", body.as_bytes())),
    };
    let client = Client::open(kubeconfig, &ProxyVariables::default()).unwrap();
    let answer = client.call(&request, Duration::from_secs(30)).unwrap();
    match answer.status {
        200 => Ok(()),
        _ => Err(String::from_utf8_lossy(&answer.body).into_owned()),
    }
}

#[test]
fn a_node_serves_its_pods_with_the_rights_that_it_gets_and_touches_no_slice_of_another() {
    let Some(slices) = Slices::new("10.64.0.0/28") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    let [of_one, of_two] = [&one, &two].map(|node| with_token(&slices, node));
    slices.add(&one, "a_0").succeeded();
    assert_eq!(slices.add(&two, "b_0").code(), 100);
    let mut object = slices.objects().remove(0);
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let boot = json!({"spec": {"bootID": "x"}}).to_string();
    let denied = |result: Result<(), String>| {
        let said = result.unwrap_err();
        assert!(said.contains("a token changes only records of its own node"), "{said}");
    };
    denied(kubectl(&slices, &of_two, &["delete", "ipslices", &name]));
    denied(kubectl(&slices, &of_two, &["patch", "ipslices", &name, "--type=merge", "-p", &boot]));
    kubectl(&slices, &of_one, &["patch", "ipslices", &name, "--type=merge", "-p", &boot]).unwrap();
    // The status is the node's own as well, and it can change nothing else.
    denied(patch_status(&of_two, &name));
    patch_status(&of_one, &name).unwrap();
    let found = slices.objects().remove(0);
    assert_eq!((&found["status"]["count"], &found["spec"]["released"]), (&json!(0), &json!(null)));
    // Another node takes over only what the owner has marked as returned.
    let owned_by = |node: &Node| json!({"spec": {"node": node.name, "returned": null}}).to_string();
    let patch = |kubeconfig: &Path, spec: &str| {
        kubectl(&slices, kubeconfig, &["patch", "ipslices", &name, "--type=merge", "-p", spec])
    };
    patch(&of_two, &owned_by(&two)).unwrap_err();
    patch(&of_one, &json!({"spec": {"returned": "2026-11-30T00:00:00Z"}}).to_string()).unwrap();
    denied(patch(&of_two, &json!({"spec": {"returned": null}}).to_string()));
    denied(kubectl(&slices, &of_two, &["delete", "ipslices", &name]));
    patch(&of_two, &owned_by(&two)).unwrap();
    patch(&of_two, &json!({"spec": {"returned": "2026-11-30T00:00:00Z"}}).to_string()).unwrap();
    patch(&of_one, &owned_by(&one)).unwrap();
    // Nothing but the boot and the marks ever changes.
    for change in [
        json!({"node": two.name}),
        json!({"ipv4": "10.64.0.0/29"}),
        json!({"machine": "x"}),
        json!({"geometry": "x"}),
        json!({"pool": "x"}),
    ] {
        let change = json!({"spec": change}).to_string();
        let refused =
            kubectl(&slices, &of_one, &["patch", "ipslices", &name, "--type=merge", "-p", &change]);
        refused.unwrap_err();
    }
    object["metadata"] = json!({"name": "forged.10.64.0.0"});
    let forged = one.sandbox.write("forged.json", &object.to_string());
    denied(kubectl(&slices, &of_two, &["create", "-f", forged.to_str().unwrap()]));
    let geometry = slices.cluster.text(&["get", "ipslicegeometries", "-o", "name"]);
    let geometry = geometry.lines().find(|line| line.contains(&slices.pool)).unwrap();
    let said = kubectl(&slices, &of_one, &["delete", geometry]).unwrap_err();
    assert!(said.contains("forbidden"), "{said}");
    let sizes = json!({"spec": {"ipv4MaskSize": 30}}).to_string();
    kubectl(&slices, &of_one, &["patch", geometry, "--type=merge", "-p", &sizes]).unwrap_err();
    let ranges = json!({"spec": {"ranges": [{"ipv4": "10.64.0.0/27"}]}}).to_string();
    kubectl(&slices, &of_one, &["patch", geometry, "--type=merge", "-p", &ranges]).unwrap_err();
}
