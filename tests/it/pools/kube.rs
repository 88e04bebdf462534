//! Pools of the Kubernetes store: IPPool objects, which a node asks for at most once a minute.

use crate::support::cluster::Cluster;
use crate::support::nodes::{DEADLINES, Node, own_name};
use crate::support::proxy::Proxy;
use crate::support::sandbox::{Call, Ended, configuration};
use serde_json::{Value, json};
use std::path::PathBuf;

fn shared() -> Option<&'static Cluster> {
    Cluster::shared().map_err(|reason| skipped!("{reason}")).ok()
}

/// Writes a pool in a scope of its own name.
fn write(cluster: &Cluster, name: &str, spec: &Value) {
    let mut spec = spec.clone();
    spec["scope"] = json!(name);
    let pool = json!({"apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec});
    cluster.apply(&pool.to_string());
}

fn node(cluster: &Cluster, name: &str) -> Node {
    Node::new(name, "", &cluster.kubeconfig())
}

fn call(node: &Node, verb: &str, container: &str, pools: &[&str]) -> Call {
    let mut call = node.call(verb, container);
    call.stdin(configuration(&format!(r#""pools":{}"#, json!(pools))));
    call
}

fn add(node: &Node, container: &str, pools: &[&str]) -> Ended {
    call(node, "ADD", container, pools).run()
}

/// Lets the copies of a node's state become older by some seconds.
pub(crate) fn age(node: &Node, seconds: u64) {
    for path in copies(node) {
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, document) = text.split_once('\n').unwrap();
        let mut head: Value = serde_json::from_str(head).unwrap();
        head["asked"] = json!(head["asked"].as_u64().unwrap() - seconds * 1000);
        std::fs::write(&path, format!("{head}\n{document}")).unwrap();
    }
}

fn copies(node: &Node) -> Vec<PathBuf> {
    fn below(directory: PathBuf, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                below(path, found);
            } else if name.starts_with("pool-") || name == "node-labels" {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(node.state(), &mut found);
    found
}

#[test]
fn nodes_share_a_pool_of_the_cluster() {
    let Some(cluster) = shared() else { return };
    let pool = own_name("pool");
    let subnets = json!([
        {"subnet": "10.20.0.0/24", "gateway": "10.20.0.1", "addresses": ["10.20.0.1-10.20.0.3", "10.20.0.9"],
         "exclude": [{"addresses": "10.20.0.3", "reason": "a printer"}]},
        {"subnet": "fd00:20::/120"},
    ]);
    let reservations = json!([{"pod": "default/db-0", "address": "10.20.0.9"}]);
    write(
        cluster,
        &pool,
        &json!({"subnets": subnets, "reservations": reservations, "routes": [{"dst": "0.0.0.0/0"}]}),
    );
    let [one, two] = ["one", "two"].map(|name| node(cluster, &format!("{pool}-{name}")));
    assert_eq!(add(&one, "web-0_0", &[&pool]).addresses(), ["10.20.0.2", "fd00:20::1"]);
    let second = add(&two, "db-0_0", &[&pool]);
    assert_eq!(second.addresses(), ["10.20.0.9", "fd00:20::2"]);
    assert_eq!(second.document()["routes"], json!([{"dst": "0.0.0.0/0"}]));
    let full = add(&two, "web-1_0", &[&pool]);
    assert_eq!(full.code(), 100, "{full:?}");
    call(&one, "DEL", "web-0_0", &[&pool]).run().succeeded();
    // A DEL needs no pool.
    cluster.text(&["delete", "ippools.hereabouts.dev", &pool]);
    call(&two, "DEL", "db-0_0", &[&pool]).run().succeeded();
    let held = cluster.text(&["get", "ipallocations", "-o", "name"]);
    assert!(!held.contains(&format!("/{pool}.")), "{held}");
}

#[test]
fn a_pool_costs_one_request_a_minute() {
    let Some(cluster) = shared() else { return };
    let pool = own_name("pool");
    write(cluster, &pool, &json!({"subnets": [{"subnet": "10.21.0.0/24"}]}));
    let node = node(cluster, &own_name("node"));
    let proxy = Proxy::new(cluster);
    node.configure(&proxy.kubeconfig(&node.sandbox.root), DEADLINES);
    let asked = |verb: &str, container: &str| {
        proxy.seen();
        call(&node, verb, container, &[&pool]).run().succeeded();
        let what = |path: &str| if path.contains("/ippools/") { " pool" } else { "" };
        let seen = proxy.seen();
        let words = seen.iter().map(|seen| format!("{}{}", seen.method, what(&seen.path)));
        words.collect::<Vec<_>>().join(", ")
    };
    // The first ADD of a node keeps its copy, too.
    asked("ADD", "a-0_0");
    assert_eq!(asked("ADD", "b-0_0"), "POST");
    assert_eq!(asked("ADD", "a-1_0"), "POST");
    assert_eq!(asked("ADD", "a-1_0"), "GET");
    assert_eq!(asked("DEL", "a-1_0"), "DELETE");
    // A quarter of a minute is left for the test itself, on a busy machine.
    age(&node, 45);
    assert_eq!(asked("ADD", "a-2_0"), "POST");
    age(&node, 16);
    assert_eq!(asked("ADD", "a-3_0"), "GET pool, POST");
    assert_eq!(asked("ADD", "a-4_0"), "POST");
    // What is written there by somebody else, or by another boot, is no copy.
    for path in copies(&node) {
        std::fs::write(path, "{").unwrap();
    }
    assert_eq!(asked("ADD", "a-5_0"), "GET pool, POST");
}

#[test]
fn a_change_counts_at_once_where_it_helps_and_after_a_minute_everywhere() {
    let Some(cluster) = shared() else { return };
    let pool = own_name("pool");
    let of = |addresses: &Value, more: &Value| {
        let mut spec = json!({"subnets": [{"subnet": "10.22.0.0/24", "addresses": addresses}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        write(cluster, &pool, &spec);
    };
    of(&json!(["10.22.0.4"]), &json!({}));
    let node = node(cluster, &own_name("node"));
    assert_eq!(add(&node, "a-0_0", &[&pool]).addresses(), ["10.22.0.4"]);
    // Growth counts at the next ADD that needs it.
    of(&json!(["10.22.0.4-10.22.0.5"]), &json!({"namespaces": ["db"]}));
    let refused = add(&node, "a-1_0", &[&pool]);
    assert!(refused.details().contains("is not for the namespace default"), "{refused:?}");
    of(&json!(["10.22.0.4-10.22.0.6"]), &json!({}));
    assert_eq!(add(&node, "a-1_0", &[&pool]).addresses(), ["10.22.0.5"]);
    // What is taken out of the pool is given until the copy is a minute old, and then no more.
    of(&json!(["10.22.0.4-10.22.0.9"]), &json!({}));
    age(&node, 61);
    assert_eq!(add(&node, "a-2_0", &[&pool]).addresses(), ["10.22.0.6"]);
    of(&json!(["10.22.0.9"]), &json!({}));
    assert_eq!(add(&node, "a-3_0", &[&pool]).addresses(), ["10.22.0.7"]);
    age(&node, 61);
    assert_eq!(add(&node, "a-5_0", &[&pool]).addresses(), ["10.22.0.9"]);
    // It takes nothing from its holder.
    assert_eq!(add(&node, "a-0_0", &[&pool]).addresses(), ["10.22.0.4"]);
    cluster.text(&["delete", "ippools.hereabouts.dev", &pool]);
    age(&node, 61);
    let refused = add(&node, "a-4_0", &[&pool]);
    assert_eq!(refused.code(), 7);
    assert!(refused.details().contains(&format!("no pool has the name {pool}")), "{refused:?}");
}

#[test]
fn a_pool_for_nodes_with_a_label_serves_these_alone() {
    let Some(cluster) = shared() else { return };
    let [a, b] = [own_name("pool"), own_name("pool")];
    let in_zone = |zone: &str| json!({"matchLabels": {"topology.kubernetes.io/zone": zone}});
    write(
        cluster,
        &a,
        &json!({"subnets": [{"subnet": "10.23.0.0/24"}], "nodeSelector": in_zone("a")}),
    );
    write(
        cluster,
        &b,
        &json!({"subnets": [{"subnet": "10.24.0.0/24"}], "nodeSelector": in_zone("b")}),
    );
    let name = own_name("node");
    let node = node(cluster, &name);
    let refused = add(&node, "a-0_0", &[&a, &b]);
    assert!(refused.details().contains("no Node object has the name of this node"), "{refused:?}");
    let object = |zone: &str| {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        cluster.apply(&object.to_string());
    };
    object("b");
    assert_eq!(add(&node, "a-0_0", &[&a, &b]).addresses(), ["10.24.0.1"]);
    // A repeated ADD stays with its pool after the node has moved to another zone.
    object("a");
    age(&node, 61);
    assert_eq!(add(&node, "a-1_0", &[&a, &b]).addresses(), ["10.23.0.1"]);
    let refused = add(&node, "a-2_0", &[&b]);
    let zone = "is for nodes with the label topology.kubernetes.io/zone=b";
    assert!(refused.details().contains(zone), "{refused:?}");
}

#[test]
fn usage_reads_the_pool_of_the_cluster() {
    let Some(cluster) = shared() else { return };
    let pool = own_name("pool");
    write(cluster, &pool, &json!({"subnets": [{"subnet": "10.25.0.0/29"}]}));
    let node = node(cluster, &own_name("node"));
    add(&node, "a-0_0", &[&pool]).succeeded();
    let file = node.sandbox.write("net.json", &configuration(&format!(r#""pool":"{pool}""#)));
    let usage = node.sandbox.command(&["usage", "-o", "json", file.to_str().unwrap()]);
    let rows: Value = serde_json::from_str(&usage.succeeded().stdout).unwrap();
    assert_eq!(
        (&rows[0]["pool"], &rows[0]["held"], &rows[0]["free"]),
        (&json!(pool), &json!(1), &json!(5)),
        "{rows}"
    );
}

/// Before the definition is applied, an ADD says what is missing. So does a role of an older
/// version.
#[test]
fn a_cluster_without_the_resource_is_named() {
    let options = crate::support::cluster::Options::default();
    let cluster = match Cluster::own(options) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    cluster.text(&["delete", "crd", "ippools.hereabouts.dev"]);
    let node = node(&cluster, "n1");
    let refused = add(&node, "a-0_0", &["blue"]);
    let what = "does not know the resource: ippools.hereabouts.dev";
    assert!(refused.code() == 105 && refused.details().contains(what), "{refused:?}");
}
