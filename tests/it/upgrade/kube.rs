//! The same in the Kubernetes API: objects and node state of the previous version.

use super::{Call, Sandbox, World, check_upgrade};
use crate::kube_faults::rig::shared;
use crate::support::cluster::Cluster;
use crate::support::nodes::{Node, holders, objects, own_name};
use serde_json::{Value, json};
use std::collections::BTreeSet;

struct Api {
    cluster: &'static Cluster,
    node: Node,
}

impl World for Api {
    fn sandbox(&self) -> &Sandbox {
        &self.node.sandbox
    }

    fn call(&self, verb: &str, container: &str) -> Call {
        self.node.call(verb, container)
    }

    fn gc(&self) -> Call {
        self.node.gc_call(&[])
    }

    fn holders(&self) -> BTreeSet<String> {
        holders(self.cluster, &self.node.scope).into_values().collect()
    }

    fn set_back(&self) {
        for object in
            objects(self.cluster).iter().filter(|object| object["spec"]["node"] == *self.node.name)
        {
            let name = object["metadata"]["name"].as_str().unwrap();
            let gone = json!({"spec": {"view": null, "nodeUID": null}}).to_string();
            self.cluster.text(&["patch", "ipallocations", name, "--type=merge", "--patch", &gone]);
        }
        let state = self.node.state();
        let now = objects(self.cluster);
        for entry in std::fs::read_dir(state.join("attachments")).unwrap().flatten() {
            let mut known: Value =
                serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
            for object in known.as_array_mut().unwrap() {
                let stands = now
                    .iter()
                    .find(|other| other["metadata"]["name"] == object["metadata"]["name"])
                    .unwrap();
                object["metadata"]["resourceVersion"] =
                    stands["metadata"]["resourceVersion"].clone();
                let spec = object["spec"].as_object_mut().unwrap();
                spec.remove("nodeUID");
                assert!(spec.remove("view").is_some(), "{object}");
            }
            std::fs::write(entry.path(), known.to_string()).unwrap();
        }
        let complete: Value =
            serde_json::from_slice(&std::fs::read(state.join("complete")).unwrap()).unwrap();
        // One hash of CA and URL, and no format.
        let before = json!({"cluster": "0".repeat(64), "node": complete["node"], "machine": complete["machine"], "boot": complete["boot"]});
        std::fs::write(state.join("complete"), before.to_string()).unwrap();
        for later in ["revision", "calls"] {
            let _ = std::fs::remove_file(state.join(later));
        }
    }
}

#[test]
fn none_of_the_living_is_taken_for_dead_and_the_dead_are_freed() {
    let Some(cluster) = shared() else { return };
    let name = own_name("upgraded");
    check_upgrade(&Api { cluster, node: Node::new(&name, &name, &cluster.kubeconfig()) });
}
