//! A slice that one node has given back and another one has claimed, in a cluster that was restored to
//! the state before both. `servers` saves and restores the cluster.

use crate::support::cluster::Cluster;
use crate::support::nodes::{Node, own_name};
use crate::support::sandbox::{Ended, configuration};
use hereabouts::retry::{Deadline, until};
use serde_json::{Value, json};
use std::time::Duration;

/// A pool with one slice, and two nodes.
pub(super) struct OneSlice<'c> {
    cluster: &'c Cluster,
    pool: String,
    first: Node,
    second: Node,
}

/// Returns the list of a resource. Just after its start, the API server does not serve each of them.
fn served(cluster: &Cluster, resource: &str) -> String {
    let path = format!("/apis/hereabouts.dev/v1alpha1/{resource}");
    let list = until(&Deadline::after(Duration::from_secs(60)), || {
        let listed = cluster.kubectl(&["get", "--raw", &path]);
        Ok::<_, ()>(listed.status.success().then(|| String::from_utf8(listed.stdout).unwrap()))
    });
    list.unwrap().expect("the resource is not served")
}

impl<'c> OneSlice<'c> {
    /// Returns the state that is to be saved: the first node owns the slice, and no pod uses it.
    pub(super) fn of_the_first(cluster: &'c Cluster) -> Self {
        let pool = own_name("restored");
        let spec = json!({"ranges": [{"ipv4": "10.77.0.0/28"}], "slices": {"ipv4": {"perNodeMaskSize": 28}}});
        let manifest = json!({"apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": pool}, "spec": spec});
        let resources = ["ippools", "ipslices", "ipslicegeometries"];
        let definitions = resources.map(|resource| format!("crd/{resource}.hereabouts.dev"));
        let definitions = definitions.iter().map(String::as_str);
        let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
        cluster.text(&wait.into_iter().chain(definitions).collect::<Vec<_>>());
        served(cluster, "ippools");
        cluster.apply(&manifest.to_string());
        let [first, second] =
            ["first", "second"].map(|name| Node::new(&own_name(name), "", &cluster.kubeconfig()));
        let slice = Self { cluster, pool, first, second };
        slice.add(&slice.first, "a_0").succeeded();
        slice.call(&slice.first, "DEL", "a_0").succeeded();
        slice
    }

    fn call(&self, node: &Node, verb: &str, container: &str) -> Ended {
        let ipam = format!(r#""pool":"{}""#, self.pool);
        node.call(verb, container).stdin(configuration(&ipam)).run()
    }

    fn add(&self, node: &Node, container: &str) -> Ended {
        self.call(node, "ADD", container)
    }

    fn sync(node: &Node) -> String {
        node.sandbox.command(&["slices", "sync"]).succeeded().stderr.clone()
    }

    fn owner(&self) -> String {
        let list: Value = serde_json::from_str(&served(self.cluster, "ipslices")).unwrap();
        let of_pool = |object: &&Value| object["spec"]["pool"] == json!(self.pool);
        let slice = list["items"].as_array().unwrap().iter().find(of_pool).unwrap().clone();
        slice["spec"]["node"].as_str().unwrap().to_owned()
    }

    /// The slice goes to the second node, whose pod gets an address of it.
    pub(super) fn goes_to_the_second(&self) {
        let notes = self.first.state().join("slices");
        Self::sync(&self.first);
        let mut noted: Value = serde_json::from_slice(&std::fs::read(&notes).unwrap()).unwrap();
        noted["slices"][0]["empty_since"] = json!(-600_000);
        std::fs::write(&notes, noted.to_string()).unwrap();
        assert!(Self::sync(&self.first).contains("gave back 1 empty slice"));
        self.add(&self.second, "b_0").succeeded();
        assert_eq!(self.owner(), self.second.name);
    }

    /// The first node, whose object is there again, gives nothing from the slice; the second node
    /// gets it again.
    pub(super) fn stays_with_the_second(&self) {
        assert_eq!(self.owner(), self.first.name, "as it was saved");
        // In the meantime, nobody gives an address.
        assert!(Self::sync(&self.second).contains("is not this node's slice any more"));
        assert_ne!(self.add(&self.second, "c_0").status, Some(0));
        let file = self.first.sandbox.write("boot", "99999999-9999-4999-8999-999999999999\n");
        let ipam = format!(r#""pool":"{}""#, self.pool);
        let mut call = self.first.call("ADD", "d_0");
        call.stdin(configuration(&ipam)).seeing("/proc/sys/kernel/random/boot_id", &file);
        let refused = call.run();
        assert_ne!(refused.status, Some(0), "{}", refused.details());
        assert!(Self::sync(&self.second).contains("which the cluster had lost"));
        assert_eq!(self.owner(), self.second.name);
        self.add(&self.second, "c_0").succeeded();
        let full = call.run();
        assert_ne!(full.status, Some(0), "{}", full.details());
        assert_eq!(self.owner(), self.second.name);
    }
}
