//! What nodes answer to a move, and what their tokens may write.

use super::{cluster, set, the_move};
use crate::install::node as installed;
use crate::support::cluster::Cluster;
use crate::support::nodes::Node;
use hereabouts::api_client::client::Client;
use hereabouts::api_client::http::{Method, Request};
use hereabouts::environment::ProxyVariables;
use serde_json::{Value, json};
use std::time::Duration;

/// Returns a node with the token that its DaemonSet has.
pub(super) fn node(cluster: &Cluster, name: &str) -> Node {
    let node = Node::new(name, "moving", &cluster.kubeconfig());
    let kubeconfig =
        node.sandbox.write("token.kubeconfig", &cluster.kubeconfig_with(&cluster.node_token(name)));
    node.configure(&kubeconfig, crate::support::nodes::DEADLINES);
    node
}

fn answer(node: &Node, executable: &str) -> String {
    let words = ["move", "answer", "--executable", executable];
    node.sandbox.command(&words).succeeded().stdout.trim().to_owned()
}

fn answer_of(cluster: &Cluster, node: &str) -> Value {
    let mut answer = the_move(cluster)["status"]["nodes"][node].take();
    if answer.is_object() {
        assert!(answer["at"].take().as_str().unwrap().ends_with('Z'));
    }
    answer
}

#[test]
fn a_node_answers_each_state_and_says_how_soon_it_looks_again() {
    let Some(cluster) = cluster() else { return };
    let [one, two] = ["one", "two"].map(|name| node(&cluster, name));
    assert_eq!(answer(&one, "other"), "later", "nothing is moved");
    set(&cluster, 1, "shared");
    assert_eq!([answer(&one, "other"), answer(&two, "hereabouts")], ["soon", "soon"]);
    let expected = |generation: u64, executable: &str| json!({"generation": generation, "executable": executable, "at": null});
    assert_eq!(answer_of(&cluster, "one"), expected(1, "other"));
    assert_eq!(answer_of(&cluster, "two"), expected(1, "hereabouts"));
    let version = || the_move(&cluster)["metadata"]["resourceVersion"].clone();
    let before = version();
    assert_eq!(answer(&one, "other"), "soon");
    assert_eq!(version(), before, "the same answer is not written again");
    assert_eq!(answer(&one, "hereabouts"), "soon");
    assert_eq!(answer_of(&cluster, "one"), expected(1, "hereabouts"));
    for (generation, state) in [(2, "closing"), (3, "finished")] {
        set(&cluster, generation, state);
        assert_eq!(answer(&one, "hereabouts"), "soon", "a new state");
    }
    assert_eq!(answer(&one, "hereabouts"), "later");
    assert_eq!(answer_of(&cluster, "one"), expected(3, "hereabouts"));
    assert_eq!(answer_of(&cluster, "two"), expected(1, "hereabouts"));

    cluster.text(&["delete", "move", "whereabouts"]);
    assert_eq!(answer(&one, "hereabouts"), "later");
    let ended = two.sandbox.command(&["move", "answer", "--executable", "none"]);
    assert_eq!(ended.status, Some(1));
    for words in ["the cluster was set back", "\"hereabouts move start\""] {
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
    set(&cluster, 1, "shared");
    assert_eq!(answer(&two, "none"), "soon");
    assert_eq!(answer_of(&cluster, "two"), expected(1, "none"));
}

/// Sends a patch with the token of a node.
fn patch(node: &Node, of_status: bool, body: &Value) -> Result<(), String> {
    let path = "/apis/hereabouts.dev/v1alpha1/moves/whereabouts";
    let body = body.to_string();
    let request = Request {
        method: Method::Patch,
        path: &format!("{path}{}", if of_status { "/status" } else { "" }),
        accept: "application/json",
        content: Some(("application/merge-patch+json", body.as_bytes())),
    };
    let kubeconfig = node.sandbox.path("token.kubeconfig");
    let client = Client::open(&kubeconfig, &ProxyVariables::default()).unwrap();
    let answer = client.call(&request, Duration::from_secs(30)).unwrap();
    match answer.status {
        200 => Ok(()),
        _ => Err(String::from_utf8_lossy(&answer.body).into_owned()),
    }
}

#[test]
fn a_token_changes_only_the_answer_of_its_own_node() {
    let Some(cluster) = cluster() else { return };
    set(&cluster, 1, "shared");
    let [one, two] = ["one", "two"].map(|name| node(&cluster, name));
    answer(&one, "other");
    answer(&two, "other");
    let given = |executable: &str| json!({"generation": 1, "executable": executable, "at": "2026-11-30T10:00:00Z"});
    let before = the_move(&cluster);
    for nodes in [
        json!({"one": given("hereabouts")}),
        json!({"one": null}),
        json!({"three": given("hereabouts")}),
        json!({"one": given("hereabouts"), "two": given("hereabouts")}),
    ] {
        let said = patch(&two, true, &json!({"status": {"nodes": nodes}})).unwrap_err();
        let words = "a token changes only the answer of its own node, this token is of node two";
        assert!(said.contains(words), "{nodes}: {said}");
    }
    let said = patch(&two, true, &json!({"status": null})).unwrap_err();
    assert!(said.contains("only the answer of its own node"), "{said}");
    let said = patch(&two, false, &json!({"spec": {"state": "closing", "generation": 2}}));
    assert!(said.unwrap_err().contains("cannot patch resource \\\"moves\\\""));
    assert_eq!(the_move(&cluster), before);
    patch(&two, true, &json!({"status": {"nodes": {"two": given("hereabouts")}}})).unwrap();
    patch(&two, true, &json!({"status": {"nodes": {"two": null}}})).unwrap();
    assert!(answer_of(&cluster, "two").is_null());
    assert_eq!(answer_of(&cluster, "one")["executable"], "other");
}

/// `install --watch` answers by itself, and sees a new state and another executable.
#[test]
fn the_daemonset_answers() {
    let Some(cluster) = cluster() else { return };
    set(&cluster, 1, "shared");
    let node = installed::Node::new();
    let token = cluster.node_token("n1");
    std::fs::write(node.path("pod/..data/token"), token.trim()).unwrap();
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let mut lines =
        text.lines().filter_map(|line| line.trim().strip_prefix("certificate-authority-data: "));
    let ca = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        lines.next().unwrap().trim_matches('"'),
    );
    std::fs::write(node.path("pod/..data/ca.crt"), ca.unwrap()).unwrap();
    std::fs::write(node.path("bin/whereabouts"), "another program").unwrap();
    let settings = format!("--settings={}", json!({"data_dir": node.sandbox.store()}));
    let server = format!("--server={}", cluster.server());
    let mut watching = node.watch(&["install", "--watch", &server, &settings]);
    watching.until("the first answer", || answer_of(&cluster, "n1")["executable"] == "other");
    std::fs::remove_file(node.path("bin/whereabouts")).unwrap();
    std::fs::copy(node.path("bin/hereabouts"), node.path("bin/whereabouts")).unwrap();
    watching.until("the executable", || answer_of(&cluster, "n1")["executable"] == "hereabouts");
    set(&cluster, 2, "closing");
    watching.until("the new state", || answer_of(&cluster, "n1")["generation"] == 2);
    cluster.text(&["delete", "move", "whereabouts"]);
    watching
        .until("the error", || node.said().contains("error: the move: the cluster was set back"));
}
