//! The role without each of its rights in turn: calls that need the right say which one is missing,
//! no address is lost, and all other calls work. A right that no call needs would be superfluous.

use super::chart::kustomized;
use crate::support::cluster::Cluster;
use crate::support::living::Living;
use crate::support::sandbox::{Ended, Sandbox, configuration};
use serde_json::{Value, json};

/// A node whose plugin has the role without one verb.
struct Node<'c> {
    cluster: &'c Cluster,
    sandbox: Sandbox,
    scope: String,
}

fn role() -> Result<Vec<Value>, String> {
    let objects = kustomized("node")?;
    Ok(objects
        .into_iter()
        .filter(|object| {
            ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"]
                .contains(&object["kind"].as_str().unwrap())
        })
        .collect())
}

impl<'c> Node<'c> {
    fn without(cluster: &'c Cluster, verb: &str) -> Result<Self, String> {
        let name = format!("without-{verb}");
        for mut object in role()? {
            object["metadata"]["name"] = json!(name);
            match object["kind"].as_str().unwrap() {
                "ClusterRole" => object["rules"][0]["verbs"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|granted| granted != verb),
                "ClusterRoleBinding" => {
                    object["roleRef"]["name"] = json!(name);
                    object["subjects"][0]["name"] = json!(name);
                }
                _ => {}
            }
            cluster.apply(&object.to_string());
        }
        let sandbox = Sandbox::new();
        let token = cluster.text(&["create", "token", &name, "--namespace", "kube-system"]);
        let kubeconfig = sandbox.write("kubeconfig", &cluster.kubeconfig_with(token.trim()));
        let flat = json!({"datastore": "kubernetes", "kubernetes": {"kubeconfig": kubeconfig}, "data_dir": sandbox.store(), "node_name": name});
        sandbox.write("flat.conf", &flat.to_string());
        Ok(Self { cluster, sandbox, scope: name })
    }

    /// Makes a call with the rights of this node's plugin.
    fn verb(&self, verb: &str, container: &str, netns: &str) -> Ended {
        let mut call = self.sandbox.call(verb);
        call.set("CNI_CONTAINERID", container)
            .set("CNI_NETNS", netns)
            .set(
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u",
            )
            .stdin(configuration(&format!(
                r#""network_name":"{}","range":"203.0.113.0/28""#,
                self.scope
            )));
        call.run()
    }

    fn held(&self) -> usize {
        let names = self.cluster.text(&["get", "ipallocations", "-o", "name"]);
        names.lines().filter(|name| name.contains(&format!("/{}.", self.scope))).count()
    }

    /// Restores the right, with the role as it ships.
    fn grant_all(&self) {
        let mut role =
            role().unwrap().into_iter().find(|object| object["kind"] == "ClusterRole").unwrap();
        role["metadata"]["name"] = json!(self.scope);
        self.cluster.apply(&role.to_string());
    }
}

fn says_missing(ended: &Ended, verb: &str) {
    assert_eq!(ended.code(), 105, "{ended:?}");
    let details = ended.document()["details"].as_str().unwrap().to_owned();
    assert!(
        details.contains(&format!("lacks the right to {verb} ipallocations.hereabouts.dev")),
        "{verb}: {details}"
    );
}

/// Makes calls on a node without a right: an ADD, its repeat, the ADD of a new sandbox of the same
/// pod after the first one died, and the DEL.
fn play(verb: &str, expect: impl FnOnce(&Node<'_>, [Ended; 3], &dyn Fn() -> Ended)) {
    let cluster = match Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let (Some(first), Some(second)) = (Living::new(), Living::new()) else {
        return skipped!("no root, no namespaces");
    };
    let node = match Node::without(cluster, verb) {
        Ok(node) => node,
        Err(reason) => return skipped!("{reason}"),
    };
    let added = node.verb("ADD", "c1", &first.path());
    let repeated = node.verb("ADD", "c1", &first.path());
    drop(first);
    let moved = node.verb("ADD", "c2", &second.path());
    let del = || node.verb("DEL", "c2", &second.path());
    expect(&node, [added, repeated, moved], &del);
    // When the right is restored, everything works, and nothing is left.
    node.grant_all();
    for container in ["c1", "c2"] {
        node.verb("DEL", container, "").succeeded();
    }
    assert_eq!(node.held(), 0);
}

#[test]
fn without_create() {
    play("create", |node, [added, repeated, _], del| {
        says_missing(&added, "create");
        says_missing(&repeated, "create");
        let status = node.verb("STATUS", "", "");
        assert!(status.code() == 50 && status.stdout.contains("create"), "{status:?}");
        del().succeeded();
    });
}

#[test]
fn without_delete() {
    play("delete", |node, [added, repeated, moved], del| {
        for ended in [added, repeated, moved] {
            ended.succeeded();
        }
        says_missing(&del(), "delete");
        assert_eq!(node.held(), 1);
    });
}

#[test]
fn without_get() {
    play("get", |_, [added, repeated, _], _| {
        added.succeeded();
        says_missing(&repeated, "get");
    });
}

#[test]
fn without_list() {
    play("list", |node, [added, ..], _| {
        says_missing(&added, "list");
        assert_eq!(node.held(), 0);
    });
}

#[test]
fn without_patch() {
    play("patch", |_, [added, repeated, moved], _| {
        added.succeeded();
        repeated.succeeded();
        says_missing(&moved, "patch");
    });
}
