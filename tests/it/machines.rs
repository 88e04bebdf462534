//! Claims of Cluster API, answered by the controller as a process, with a real API server and the
//! real custom resources of Cluster API and of its in-cluster provider.

use crate::support::cluster::{Cluster, Options};
use crate::support::controller::{Kept, end_of_log};
use crate::support::nodes::own_name;
use hereabouts::retry::{Deadline, pause};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

/// Which addresses of the provider are taken over.
mod adopt;
/// What the answer to a claim is, and when it ends.
mod answers;
/// The demo.
mod demo;
/// Controllers that are killed, two of them at once; servers that restart, forget, or are set back.
mod faults;
/// Objects with mistakes, and very large ones.
mod hostile;
/// Objects of a later version.
mod later;
/// IPAllocations that the API server has lost.
mod lost;
/// Thousands of claims and of pools.
mod many;
/// Objects that move to another API server.
mod moved;
/// Networks with ranges that pools share.
mod networks;
/// Claims and pods that draw from one pool.
mod pods;
/// What is said about pools: status, events, and their end.
mod pools;
/// The provider of Cluster API itself.
mod provider;
/// Answers that others wrote, and addresses whose claim is gone.
mod strangers;
/// Cluster API's own webhooks look at the answers.
mod webhooks;

/// A namespace of a cluster that has the resources of Cluster API.
struct Machines<'c> {
    cluster: &'c Cluster,
    namespace: String,
}

/// A controller with all rights.
struct Controller(Kept);

impl Controller {
    fn start(cluster: &Cluster) -> Self {
        Self(Kept::start(&cluster.kubeconfig(), &cluster.directory().join("controller.log")))
    }

    /// Ends it with SIGKILL.
    fn kill(self) {
        drop(self.0);
    }
}

/// Returns the cluster that the tests of this process share, with a controller.
fn shared() -> Option<Machines<'static>> {
    static SHARED: LazyLock<Result<(Cluster, Controller), String>> = LazyLock::new(|| {
        let cluster = own_cluster()?;
        let controller = Controller::start(&cluster);
        Ok((cluster, controller))
    });
    let (cluster, _) = SHARED.as_ref().map_err(|reason| skipped!("{reason}")).ok()?;
    Some(Machines::of(cluster))
}

/// Returns a cluster that a test may break, without a controller.
fn own() -> Option<Cluster> {
    own_cluster().map_err(|reason| skipped!("{reason}")).ok()
}

fn own_cluster() -> Result<Cluster, String> {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/tools");
    let built = Command::new(tools).arg("capi").output().map_err(|error| error.to_string())?;
    if !built.status.success() {
        return Err(String::from_utf8_lossy(&built.stderr).trim().replace('\n', "; "));
    }
    let cluster = Cluster::own(Options::default())?;
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/share/capi/crd");
    cluster.text(&["apply", "--server-side", "--recursive", "-f", crds]);
    cluster.text(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    Ok(cluster)
}

impl<'c> Machines<'c> {
    /// Returns a new namespace.
    fn of(cluster: &'c Cluster) -> Self {
        let namespace = own_name("machines");
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}"
        ));
        Self { cluster, namespace }
    }

    /// Writes a pool of this namespace, with the name `pool`.
    fn pool(&self, spec: &Value) {
        self.write("InClusterIPPool", "pool", spec);
    }

    fn write(&self, kind: &str, name: &str, spec: &Value) {
        let version = if kind == "IPPool" {
            "hereabouts.dev/v1alpha1"
        } else {
            "ipam.cluster.x-k8s.io/v1alpha2"
        };
        let mut pool =
            json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
        if kind == "InClusterIPPool" {
            pool["metadata"]["namespace"] = json!(self.namespace);
        }
        self.cluster.apply(&pool.to_string());
    }

    /// Writes claims of the pool `pool`.
    fn claim(&self, names: &[&str]) {
        self.claim_of("InClusterIPPool", "pool", names);
    }

    fn claim_of(&self, kind: &str, pool: &str, names: &[&str]) {
        let claims: Vec<Value> =
            names.iter().map(|name| self.claim_object(kind, pool, name)).collect();
        self.cluster
            .apply(&json!({"apiVersion": "v1", "kind": "List", "items": claims}).to_string());
    }

    fn claim_object(&self, kind: &str, pool: &str, name: &str) -> Value {
        let group = if kind == "IPPool" { "hereabouts.dev" } else { "ipam.cluster.x-k8s.io" };
        json!({
            "apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddressClaim",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"poolRef": {"apiGroup": group, "kind": kind, "name": pool}},
        })
    }

    /// Writes an answer, as somebody else may have written it.
    fn answer(&self, name: &str, address: &str) {
        let answer = json!({
            "apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddress",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "address": address, "prefix": 24, "claimRef": {"name": name},
                "poolRef": {"apiGroup": "ipam.cluster.x-k8s.io", "kind": "InClusterIPPool", "name": "pool"},
            },
        });
        self.cluster.apply(&answer.to_string());
    }

    fn kubectl(&self, args: &[&str]) -> String {
        self.cluster.text(&[args, &["--namespace", &self.namespace]].concat())
    }

    fn list(&self, resource: &str) -> Vec<Value> {
        let text = self.kubectl(&["get", resource, "-o", "json"]);
        let mut list: Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(list["items"].take()).unwrap()
    }

    fn get(&self, resource: &str, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", resource, name, "-o", "json"])).unwrap()
    }

    /// Returns the addresses of all answers of the namespace, each with the name of the claim.
    fn answers(&self) -> BTreeSet<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let answers = self.list("ipaddresses.ipam.cluster.x-k8s.io");
        answers
            .iter()
            .map(|object| (text(&object["metadata"]["name"]), text(&object["spec"]["address"])))
            .collect()
    }

    /// Returns the addresses that the claims of the namespace hold, each with the name of the claim.
    fn held(&self) -> BTreeSet<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let objects = self.list("ipallocations.hereabouts.dev");
        let is_ours = |spec: &&Value| spec["claim"]["namespace"] == json!(self.namespace);
        let specs = objects.iter().map(|object| &object["spec"]).filter(is_ours);
        specs.map(|spec| (text(&spec["claim"]["name"]), text(&spec["address"]))).collect()
    }

    /// Returns the message of a claim's condition, after status and reason.
    fn condition(&self, claim: &str) -> String {
        let claim = self.get("ipaddressclaim", claim);
        let conditions = claim["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        ready.map_or_else(String::new, |ready| {
            let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", text("status"), text("reason"), text("message"))
        })
    }

    /// Returns the address in the answer to a claim.
    fn address(&self, claim: &str) -> Option<String> {
        self.answers().into_iter().find(|(name, _)| name == claim).map(|(_, address)| address)
    }

    /// Returns which claims of the namespace have no address, each with its condition, for people.
    fn unanswered(&self) -> String {
        let listed = self.cluster.kubectl(&[
            "get",
            "ipaddressclaims",
            "--namespace",
            &self.namespace,
            "-o",
            "json",
        ]);
        if !listed.status.success() {
            return format!("no claims: {}", String::from_utf8_lossy(&listed.stderr));
        }
        let list: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
        let claims = list["items"].as_array().into_iter().flatten();
        let open = claims.filter(|claim| !claim["status"]["addressRef"]["name"].is_string());
        let told = open.map(|claim| {
            let name = claim["metadata"]["name"].as_str().unwrap_or_default();
            format!("\n  {name} {}", claim["status"]["conditions"])
        });
        format!("claims without an address:{}\n", told.collect::<String>())
    }

    /// Waits until a look gives what is expected.
    #[track_caller]
    fn until<T: PartialEq + std::fmt::Debug>(&self, expected: &T, look: impl Fn(&Self) -> T) {
        let deadline = Deadline::after(Duration::from_secs(60));
        loop {
            let found = look(self);
            if found == *expected {
                return;
            }
            assert!(
                !deadline.left().is_zero(),
                "expected {expected:?}, found {found:?} after 60 s; {}{}",
                self.unanswered(),
                end_of_log(&self.cluster.directory().join("controller.log"))
            );
            wait(Duration::from_millis(100));
        }
    }
}

/// Returns claims and addresses.
fn all<const N: usize>(pairs: [(&str, &str); N]) -> BTreeSet<(String, String)> {
    pairs.into_iter().map(|(name, address)| (name.to_owned(), address.to_owned())).collect()
}

/// Waits: long enough for what must not happen, if it happened.
fn wait(time: Duration) {
    pause(&Deadline::after(time), time);
}
