//! A node of a cluster, as the plugin sees it: a flat file with its name, its own directory for
//! node state, a kubeconfig. One machine can have any number of them.

use super::cluster::Cluster;
use super::sandbox::{Call, Ended, Sandbox, configuration};
use hereabouts::api_client::client::Client;
use hereabouts::api_client::http::{Method, Request};
use hereabouts::environment::ProxyVariables;
use hereabouts::retry::{Deadline, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A node, see the module.
pub(crate) struct Node {
    pub(crate) sandbox: Sandbox,
    pub(crate) name: String,
    /// The scope in which its addresses are unique.
    pub(crate) scope: String,
}

/// Long enough for a busy machine, short enough for a test.
pub(crate) const DEADLINES: &str = r#"{"add":"5s","del":"4s","gc":"4s"}"#;
/// The range of its network.
pub(crate) const RANGE: &str = "10.9.0.0/24";

/// Returns a name that no other test uses in the same cluster.
pub(crate) fn own_name(start: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{start}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Node {
    pub(crate) fn new(name: &str, scope: &str, kubeconfig: &Path) -> Self {
        let node = Self { sandbox: Sandbox::new(), name: name.to_owned(), scope: scope.to_owned() };
        node.configure(kubeconfig, DEADLINES);
        node
    }

    /// Writes the flat file.
    pub(crate) fn configure(&self, kubeconfig: &Path, deadlines: &str) {
        let flat = json!({
            "datastore": "kubernetes", "kubernetes": {"kubeconfig": kubeconfig}, "data_dir": self.sandbox.store(),
            "node_name": self.name, "debts_dir": self.sandbox.path("debts"), "deadlines": serde_json::from_str::<Value>(deadlines).unwrap(),
        });
        self.sandbox.write("flat.conf", &flat.to_string());
    }

    /// Returns the directory of its node state.
    pub(crate) fn state(&self) -> PathBuf {
        self.sandbox.store().join("kubernetes").join(&self.name)
    }

    fn ipam(&self, range: &str) -> String {
        format!(r#""range":"{range}","network_name":"{}""#, self.scope)
    }

    /// Returns a call for a container. Its pod has the container's name up to the first `_`.
    pub(crate) fn call(&self, verb: &str, container: &str) -> Call {
        self.call_in(verb, container, RANGE)
    }

    pub(crate) fn call_in(&self, verb: &str, container: &str, range: &str) -> Call {
        let pod = container.split('_').next().unwrap();
        let mut call = self.sandbox.call(verb);
        call.set("CNI_CONTAINERID", container)
            .set("CNI_NETNS", format!("/var/run/netns/{container}"))
            .set(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"),
            )
            .stdin(configuration(&self.ipam(range)));
        call
    }

    pub(crate) fn add(&self, container: &str) -> Ended {
        self.call("ADD", container).run()
    }

    pub(crate) fn del(&self, container: &str) -> Ended {
        self.call("DEL", container).run()
    }

    /// Makes a CHECK of what an ADD printed.
    pub(crate) fn check(&self, container: &str, added: &Ended) -> Ended {
        self.check_call(container, &added.document()).run()
    }

    pub(crate) fn check_call(&self, container: &str, result: &Value) -> Call {
        let mut call = self.call("CHECK", container);
        let mut stdin: Value = serde_json::from_slice(&call.stdin).unwrap();
        stdin["prevResult"] = result.clone();
        call.stdin(stdin.to_string());
        call
    }

    /// Returns a GC that spares these containers.
    pub(crate) fn gc_call(&self, valid: &[&str]) -> Call {
        let mut call = self.call("GC", "");
        let mut stdin: Value = serde_json::from_slice(&call.stdin).unwrap();
        let valid: Vec<Value> = valid
            .iter()
            .map(|container| json!({"containerID": container, "ifname": "net1"}))
            .collect();
        stdin["cni.dev/valid-attachments"] = json!(valid);
        call.unset("CNI_CONTAINERID").stdin(stdin.to_string());
        call
    }

    pub(crate) fn status(&self) -> Ended {
        self.status_call().run()
    }

    pub(crate) fn status_call(&self) -> Call {
        let mut call = self.call("STATUS", "");
        call.unset("CNI_CONTAINERID").unset("CNI_NETNS").unset("CNI_IFNAME");
        call
    }
}

/// Returns the holders of a scope: containers by address, from the objects themselves.
pub(crate) fn holders(cluster: &Cluster, scope: &str) -> BTreeMap<String, String> {
    let text =
        |object: &Value, key: &str| object["spec"][key].as_str().unwrap_or_default().to_owned();
    let objects = objects(cluster);
    let held = objects.iter().filter(|object| text(object, "scope") == scope);
    held.map(|object| (text(object, "address"), text(object, "containerID"))).collect()
}

/// Waits until the API server's cache, which an ADD uses, has a StickyIP.
pub(crate) fn until_remembered(cluster: &Cluster, address: &str) {
    let list = "/apis/hereabouts.dev/v1alpha1/stickyips?resourceVersion=0";
    let seen = until(&Deadline::after(Duration::from_secs(30)), || {
        Ok::<_, ()>(
            cluster.text(&["get", "--raw", list]).contains(&format!("{address}\"")).then_some(()),
        )
    });
    assert_eq!(seen, Ok(Some(())), "{address}");
}

/// Returns all objects.
pub(crate) fn objects(cluster: &Cluster) -> Vec<Value> {
    let client = Client::open(&cluster.kubeconfig(), &ProxyVariables::default()).unwrap();
    let path = "/apis/hereabouts.dev/v1alpha1/ipallocations";
    let request = Request { method: Method::Get, path, accept: "application/json", content: None };
    let answer = client.call(&request, Duration::from_secs(30)).unwrap();
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 200, "{text}");
    let list: Value = serde_json::from_str(&text).unwrap();
    list["items"].as_array().unwrap().clone()
}
