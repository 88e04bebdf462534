//! Cluster API's own webhooks for IPAddresses and IPAddressClaims, which its manager has in a cluster
//! with Cluster API: they accept whatever the controller writes.

use super::{Controller, Machines, all, own, wait};
use crate::support::cluster::Cluster;
use crate::support::proxy::authority::Authority;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The webhooks. They end with this value.
struct Webhooks(Child);

impl Webhooks {
    /// Starts them, and tells the API server to ask them. Returns when it does.
    fn start(machines: &Machines<'_>) -> Self {
        let cluster = machines.cluster;
        let authority = Authority::new("webhooks");
        let directory = cluster.directory().join("webhooks");
        std::fs::create_dir(&directory).unwrap();
        let (certificate, key) = authority.server_pem(&["127.0.0.1"]);
        std::fs::write(directory.join("tls.crt"), certificate).unwrap();
        std::fs::write(directory.join("tls.key"), key).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(cluster.directory().join("webhooks.log")).unwrap();
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/capi-webhooks");
        let child = Command::new(program)
            .arg(format!("--port={port}"))
            .arg(format!("--cert-dir={}", directory.display()))
            .env("KUBECONFIG", cluster.kubeconfig())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let webhooks = Self(child);
        cluster.apply(&configuration(port, &authority).to_string());
        machines.until(&true, |machines| machines.refuses(&answer("10.0.0.1", 64), "too large"));
        webhooks
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns what Cluster API's manifests say about the two webhooks, with the address of these.
fn configuration(port: u16, authority: &Authority) -> Value {
    let webhook = |kind: &str, resource: &str| {
        json!({
            "name": format!("validation.{kind}.ipam.cluster.x-k8s.io"),
            "admissionReviewVersions": ["v1", "v1beta1"], "sideEffects": "None",
            "failurePolicy": "Fail", "matchPolicy": "Equivalent",
            "clientConfig": {
                "url": format!("https://127.0.0.1:{port}/validate-ipam-cluster-x-k8s-io-v1beta2-{kind}"),
                "caBundle": STANDARD.encode(authority.pem()),
            },
            "rules": [{
                "apiGroups": ["ipam.cluster.x-k8s.io"], "apiVersions": ["v1beta2"],
                "operations": ["CREATE", "UPDATE", "DELETE"], "resources": [resource],
            }],
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "capi"},
        "webhooks": [webhook("ipaddress", "ipaddresses"), webhook("ipaddressclaim", "ipaddressclaims")],
    })
}

fn answer(address: &str, prefix: u8) -> Value {
    json!({
        "apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddress",
        "metadata": {"name": "of-nobody"},
        "spec": {
            "address": address, "prefix": prefix, "claimRef": {"name": "of-nobody"},
            "poolRef": {"apiGroup": "ipam.cluster.x-k8s.io", "kind": "InClusterIPPool", "name": "pool"},
        },
    })
}

impl Machines<'_> {
    /// Returns whether the API server refuses to create an object, with these words.
    fn refuses(&self, object: &Value, words: &str) -> bool {
        let file = self.cluster.directory().join("refused.json");
        std::fs::write(&file, object.to_string()).unwrap();
        let namespace = ["--namespace", &self.namespace, "--dry-run=server"];
        let create = ["create", "--filename", file.to_str().unwrap()];
        let said = self.cluster.kubectl(&[&create[..], &namespace].concat());
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        text.contains("denied the request") && text.contains(words)
    }

    fn writes_are_accepted(&self) -> bool {
        let log = std::fs::read_to_string(self.cluster.directory().join("controller.log")).unwrap();
        !log.contains("denied the request")
    }
}

#[test]
fn webhooks_of_cluster_api_accept_the_answers() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    let _webhooks = Webhooks::start(&machines);
    machines
        .pool(&json!({"prefix": 24, "gateway": "10.0.0.254", "addresses": ["10.0.0.1-10.0.0.9"]}));
    machines.write(
        "GlobalInClusterIPPool",
        "global",
        &json!({"prefix": 64, "gateway": "fd00::1", "addresses": ["fd00::/64"]}),
    );
    machines.write("IPPool", "ours", &json!({"subnets": [{"subnet": "10.1.0.0/24"}]}));
    let _controller = Controller::start(&cluster);
    // Of two claims that are there at once, any may be the first.
    machines.claim(&["a"]);
    machines.until(&all([("a", "10.0.0.1")]), Machines::answers);
    machines.claim(&["b"]);
    machines.claim_of("GlobalInClusterIPPool", "global", &["six"]);
    machines.claim_of("IPPool", "ours", &["ours"]);
    let expected =
        all([("a", "10.0.0.1"), ("b", "10.0.0.2"), ("ours", "10.1.0.1"), ("six", "fd00::2")]);
    machines.until(&expected, Machines::answers);
    // The webhooks look at what Kubernetes cannot compare: the pool of the claim.
    assert!(machines.refuses(&with_pool(&machines, "other"), "poolRef"));
    let patch = r#"{"spec":{"poolRef":{"name":"other"}}}"#;
    let change = ["patch", "ipaddressclaim", "a", "--type=merge", "--patch", patch];
    let said = cluster.kubectl(&[&change[..], &["--namespace", &machines.namespace]].concat());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("denied the request") && said.contains("immutable"), "{said}");
    // Answers that are changed and removed pass, too.
    machines.kubectl(&["delete", "ipaddressclaim", "a", "six"]);
    machines.until(&all([("b", "10.0.0.2"), ("ours", "10.1.0.1")]), Machines::answers);
    machines.kubectl(&["delete", "ipaddresses.ipam.cluster.x-k8s.io", "b", "--wait=false"]);
    wait(Duration::from_millis(500));
    machines.kubectl(&["delete", "ipaddressclaim", "b", "ours"]);
    machines.until(&all([]), Machines::answers);
    machines.until(&all([]), Machines::held);
    assert!(machines.writes_are_accepted());
    end(&cluster);
}

/// Returns an answer to the claim `b` that names another pool than the claim.
fn with_pool(machines: &Machines<'_>, pool: &str) -> Value {
    let mut object = answer("10.0.0.2", 24);
    object["metadata"]["name"] = json!("b-again");
    object["metadata"]["namespace"] = json!(machines.namespace);
    object["spec"]["claimRef"]["name"] = json!("b");
    object["spec"]["poolRef"]["name"] = json!(pool);
    object
}

/// Removes the webhooks, which end with the test, from the API server.
fn end(cluster: &Cluster) {
    cluster.text(&["delete", "validatingwebhookconfiguration", "capi"]);
}
