//! The real provider of Cluster API beside the controller, and the change from one to the other.

use super::{Controller, Machines, all, own, shared};
use crate::support::cluster::Cluster;
use serde_json::json;
use std::process::{Child, Command, Stdio};

/// The provider, with the leader election of its manifests. It ends with this value.
struct Provider(Child);

impl Provider {
    /// Starts it in a mount namespace in which it believes to run in a pod: outside of a cluster it
    /// does not know a namespace for its Lease.
    fn start(cluster: &Cluster) -> Self {
        let script = r#"mount -t tmpfs tmpfs /run
            mkdir -p /run/secrets/kubernetes.io/serviceaccount
            printf kube-system >/run/secrets/kubernetes.io/serviceaccount/namespace
            exec "$0" "$@" 2>>"$LOG""#;
        let provider = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/capi-provider");
        let child = Command::new("unshare")
            .args(["--mount", "--kill-child", "sh", "-c", script, provider, "--leader-elect"])
            .args(["--health-probe-bind-address=127.0.0.1:0", "--webhook-port=0"])
            .args(["--diagnostics-address=127.0.0.1:0", "--insecure-diagnostics"])
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("LOG", cluster.directory().join("provider.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Only the controller writes conditions.
#[test]
fn while_the_provider_runs_its_claims_are_left_to_it_and_then_they_are_answered() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    machines.write("IPPool", "ours", &json!({"subnets": [{"subnet": "10.1.0.0/24"}]}));
    let provider = Provider::start(&cluster);
    machines.claim(&["a"]);
    machines.until(&Some("10.0.0.1".to_owned()), |machines| machines.address("a"));

    let _controller = Controller::start(&cluster);
    let log =
        || std::fs::read_to_string(cluster.directory().join("controller.log")).unwrap_or_default();
    machines.until(&true, |_| log().contains("the provider of Cluster API runs, too"));
    // What the provider gives is held at once, and never given by the controller.
    machines.until(&all([("a", "10.0.0.1")]), Machines::held);
    machines.claim(&["b"]);
    machines.until(&all([("a", "10.0.0.1"), ("b", "10.0.0.2")]), Machines::held);
    assert_eq!((machines.condition("a"), machines.condition("b")), <(String, String)>::default());
    // The provider does not know this kind.
    machines.claim_of("IPPool", "ours", &["c"]);
    machines.until(&true, |machines| machines.condition("c").starts_with("True"));

    drop(provider);
    machines.claim(&["d"]);
    machines.until(&"True AddressAllocated: has 10.0.0.3".to_owned(), |machines| {
        machines.condition("d")
    });
    machines.until(&"True AddressAllocated: has 10.0.0.1".to_owned(), |machines| {
        machines.condition("a")
    });
}

#[test]
fn a_claim_of_a_pool_of_prefixes_is_told_that_there_are_none() {
    let Some(machines) = shared() else { return };
    machines.claim_of("InClusterPrefixPool", "prefixes", &["a"]);
    let said = "False AllocationFailed: InClusterPrefixPool prefixes: hereabouts-controller gives single addresses, and no prefixes; use an InClusterIPPool, a GlobalInClusterIPPool or an IPPool";
    machines.until(&said.to_owned(), |machines| machines.condition("a"));
    // Nothing keeps the claim.
    machines.kubectl(&["delete", "ipaddressclaim", "a", "--timeout=20s"]);
}
