//! The controller with the rights that deploy/controller gives it, and with the command line of
//! the Deployment.

use super::cluster;
use crate::deploy::chart::kustomized;
use crate::support::controller::{Replica, pause};
use crate::support::sandbox::Sandbox;
use serde_json::Value;
use std::time::Duration;

#[test]
fn it_needs_no_right_that_it_does_not_have() {
    let Some(cluster) = cluster() else { return };
    let objects = match kustomized("controller") {
        Ok(objects) => objects,
        Err(reason) => return skipped!("{reason}"),
    };
    for object in &objects {
        cluster.apply(&object.to_string());
    }
    let namespace = ["--namespace", "kube-system"];
    let token =
        cluster.text(&[&["create", "token", "hereabouts-controller"], &namespace[..]].concat());
    let sandbox = Sandbox::new();
    let kubeconfig = sandbox.write("kubeconfig", &cluster.kubeconfig_with(token.trim()));

    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let port = container["ports"][0]["containerPort"].to_string();
    let word = |word: &Value| {
        let word = word.as_str().unwrap().replace("$(NAMESPACE)", "kube-system");
        word.replace(&format!("--listen=[::]:{port}"), "--listen=[::1]:0")
    };
    let words: Vec<String> = container["command"].as_array().unwrap().iter().map(word).collect();
    assert_eq!(words[0], "/hereabouts-controller");
    let mut args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    args.extend(["--kubeconfig", kubeconfig.to_str().unwrap()]);
    let mut replica = Replica::spawn(&sandbox, crate::support::controller::command(&args));

    replica.wait(20, "leader", |replica| replica.leads().then_some(()));
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], "metrics");
        replica.wait(20, probe, |replica| (replica.get(path).status == 200).then_some(()));
    }
    replica.wait(20, "pods and nodes", |replica| {
        replica.metric(r#"hereabouts_leak_candidates{evidence="pod-gone"}"#)
    });
    // Some renewals.
    pause(Duration::from_secs(5));
    let (log, metrics) = (replica.log(), replica.get("/metrics").body);
    assert!(!log.contains("forbidden") && !log.contains("code: 403"), "{log}");
    let refused = metrics.lines().filter(|line| line.contains(r#"outcome="refused""#));
    assert!(refused.clone().all(|line| line.ends_with("} 0")), "{metrics}");
    replica.signal("TERM");
    assert_eq!(replica.ended(3), Some(0));
}
