//! Users of the API server that lack one right, each in turn, with real roles; and tokens that have
//! ended.

use super::rig::{Rig, assert_says, server_of, shared, within};
use crate::support::cluster::Cluster;
use crate::support::nodes::{DEADLINES, own_name};
use crate::support::proxy::kubeconfig;
use serde_json::json;
use std::path::PathBuf;

const VERBS: &[&str] = &["create", "delete", "get", "list", "patch"];

/// Creates a ServiceAccount that may use these verbs.
fn user(cluster: &Cluster, name: &str, verbs: &[&str]) {
    let metadata = json!({"name": name, "namespace": "default"});
    let group = "rbac.authorization.k8s.io";
    for object in [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [
                {"apiGroups": ["hereabouts.dev"], "resources": ["ipallocations"], "verbs": verbs},
                {"apiGroups": ["hereabouts.dev"], "resources": ["moves"], "verbs": ["get"]},
            ],
        }),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
        }),
    ] {
        cluster.apply(&object.to_string());
    }
}

/// Makes the node connect past the proxy, with a token in a file.
fn log_in(rig: &Rig<'_>, token: &str) -> PathBuf {
    let file = rig.node.sandbox.write("token", token);
    let authority = std::fs::read_to_string(rig.cluster.directory().join("pki/ca.crt")).unwrap();
    let text = kubeconfig(&server_of(rig.cluster), &authority, &json!({"tokenFile": file}));
    let path = rig.node.sandbox.write("user.kubeconfig", &text);
    rig.node.configure(&path, DEADLINES);
    file
}

fn token(cluster: &Cluster, name: &str) -> String {
    cluster.text(&["create", "token", name])
}

#[test]
fn each_right_that_is_missing_is_named() {
    let Some(cluster) = shared() else { return };
    for lacking in VERBS {
        let rig = Rig::new(cluster);
        let node = &rig.node;
        let name = own_name("lacks");
        let others: Vec<&str> = VERBS.iter().copied().filter(|verb| verb != lacking).collect();
        user(cluster, &name, &others);
        let kept = node.add("web_1");
        let state = node.state();
        // Another server in the kubeconfig is another cluster: the node state is created before the
        // right is removed.
        user(cluster, &name, VERBS);
        log_in(&rig, &token(cluster, &name));
        node.check("web_1", &kept).succeeded();
        user(cluster, &name, &others);
        let words = format!("lacks the right to {lacking} ipallocations.hereabouts.dev");
        let refused = match *lacking {
            "create" => within(5.0, &node.call("ADD", "c")),
            "delete" => within(4.0, &node.call("DEL", "web_1")),
            "get" => within(5.0, &node.check_call("web_1", &kept.document())),
            "patch" => within(5.0, &node.call("ADD", "web_2")),
            _ => {
                std::fs::remove_dir_all(&state).unwrap();
                within(5.0, &node.call("ADD", "c"))
            }
        };
        assert_says(&refused, 105, &words);
        assert_says(&node.status(), 50, &words);
        user(cluster, &name, VERBS);
        node.status().succeeded();
        for container in ["c", "web_2", "web_1"] {
            node.del(container).succeeded();
        }
        rig.assert_empty(lacking);
    }
}

/// The kubelet writes a new token before the old one ends: nothing of the old one is kept.
#[test]
fn a_token_is_read_again_when_it_was_renewed() {
    let Some(cluster) = shared() else { return };
    let (rig, name) = (Rig::new(cluster), own_name("rotated"));
    user(cluster, &name, VERBS);
    let file = log_in(&rig, &token(cluster, &name));
    let kept = rig.node.add("kept");
    kept.succeeded();
    // A recreated ServiceAccount ends the tokens of the old one. The server caches tokens that it
    // has seen for some seconds.
    let old = token(cluster, &name);
    cluster.text(&["delete", "serviceaccount", &name]);
    user(cluster, &name, VERBS);
    std::fs::write(&file, old).unwrap();
    let words = "token or certificate of the kubeconfig is no longer valid";
    assert_says(&within(5.0, &rig.node.call("ADD", "c")), 105, words);
    assert_says(&within(4.0, &rig.node.call("DEL", "kept")), 105, words);
    assert_says(&within(5.0, &rig.node.check_call("kept", &kept.document())), 105, words);
    std::fs::write(&file, token(cluster, &name)).unwrap();
    assert_eq!(rig.node.add("c").addresses(), ["10.9.0.2"]);
    rig.node.del("kept").succeeded();
    rig.node.del("c").succeeded();
    rig.assert_empty("with the new token");
    std::fs::remove_file(&file).unwrap();
    assert_says(&within(5.0, &rig.node.call("ADD", "c")), 11, "the tokenFile of the kubeconfig");
}
