//! Leak candidates of the controller: what is read again before an address counts, and a controller
//! that may not read pods.

use super::cluster;
use crate::deploy::chart::kustomized;
use crate::leaks::{Held, hold, make_node, make_pod};
use crate::support::cluster::Cluster;
use crate::support::controller::Replica;
use crate::support::sandbox::Sandbox;
use hereabouts::controller::client;
use hereabouts::controller::leaks::Leaks;
use hereabouts::controller::metrics::Metrics;
use hereabouts::controller::page::Pages;
use hereabouts::controller::pods_and_nodes;
use hereabouts::controller::requests::Requests;
use hereabouts::controller::shapes::AllocationObject;
use hereabouts::controller::state::{Kind, State};
use hereabouts::controller::watches;
use hereabouts::controller::work::Controller;
use hereabouts::ipam::leak::{Evidence, LOOKS_APART, Node};
use serde_json::json;
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use tokio::sync::watch;
use tokio::time::Instant;

/// Notes an IPAllocation as it is now, as the watch does.
fn note(cluster: &Cluster, state: &mut State, name: &str) {
    let text = cluster.text(&["get", "ipallocation", name, "-o", "json"]);
    let object: AllocationObject = serde_json::from_str(&text).unwrap();
    watches::held(state, &object);
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

async fn requests(kubeconfig: &Path) -> Requests {
    let client = client::connect(Some(kubeconfig)).await.unwrap();
    Requests::new(client, "v1beta2", Rc::new(Metrics::new()))
}

/// Confirms through this kubeconfig what two looks have found. Returns the number that counts.
fn confirmed(leaks: &Leaks, state: &State, kubeconfig: &Path) -> u64 {
    block_on(async {
        let requests = requests(kubeconfig).await;
        let now = Instant::now();
        leaks.look(state, now);
        leaks.look(state, now + LOOKS_APART);
        leaks.confirm(&requests, now + LOOKS_APART).await;
        let counts = leaks.counts(now + LOOKS_APART).unwrap();
        counts.iter().find(|(evidence, _)| *evidence == Evidence::PodGone).unwrap().1
    })
}

/// The watch of pods is behind: it knows none.
#[test]
fn an_address_counts_only_if_the_api_server_says_the_same_again() {
    let Some(cluster) = cluster() else { return };
    cluster.text(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"]);
    let node_uid = make_node(cluster, "leaks-n1", "boot-1");
    let node = ["leaks-n1", node_uid.as_str(), "boot-1"];
    let uid = make_pod(cluster, "leaks-lives", "leaks-n1", "Running", "10.77.0.2");
    let mut state = State::default();
    state.finish(Kind::Allocations, &HashSet::new());
    for (address, pod) in [
        ("10.77.0.1", ["leaks-gone", "uid-of-gone"]),
        ("10.77.0.2", ["leaks-lives", uid.as_str()]),
        ("10.77.0.3", ["leaks-gone", "uid-of-changed"]),
        ("10.77.0.4", ["leaks-gone", "uid-of-freed"]),
    ] {
        hold(cluster, &Held { address, node, pod });
        note(cluster, &mut state, address);
    }
    cluster.text(&["label", "ipallocation", "10.77.0.3", "changed=yes"]);
    cluster.text(&["delete", "ipallocation", "10.77.0.4"]);
    let scene = || {
        let leaks = Leaks::default();
        let boot_id = Some("boot-1".into());
        let node = Node { uid: node_uid.as_str().into(), boot_id, ..Node::default() };
        leaks.change(|cluster| cluster.put_node("leaks-n1", node));
        leaks.has_read("Pod");
        leaks.has_read("Node");
        leaks
    };
    assert_eq!(confirmed(&scene(), &state, &cluster.kubeconfig()), 1);
    // An API server that does not answer confirms nothing.
    let sandbox = Sandbox::new();
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let away = text.replace(&cluster.server(), "https://127.0.0.1:1");
    assert_ne!(away, text);
    assert_eq!(confirmed(&scene(), &state, &sandbox.write("away", &away)), 0);
    let leaks = Rc::new(scene());
    assert_eq!(confirmed(&leaks, &state, &cluster.kubeconfig()), 1);
    told(cluster, &leaks);
    // What counted does not count any more if it can no longer be confirmed.
    let leaks = scene();
    assert_eq!(confirmed(&leaks, &state, &cluster.kubeconfig()), 1);
    cluster.text(&["delete", "ipallocation", "10.77.0.1"]);
    state.held.remove("10.77.0.1");
    assert_eq!(confirmed(&leaks, &state, &cluster.kubeconfig()), 0);
    cluster.text(&["delete", "pod", "leaks-lives", "--force", "--grace-period=0"]);
    cluster.text(&["delete", "ipallocation", "10.77.0.2", "10.77.0.3"]);
}

/// The address 10.77.0.1 is on the page and in an event.
fn told(cluster: &Cluster, leaks: &Rc<Leaks>) {
    block_on(async {
        let pages = Pages::new(Rc::default(), Rc::clone(leaks));
        let page = pages.get("/leaks", "", true).await.unwrap();
        for words in ["1 address with", ">10.77.0.1<", "leaks-gone", "leaks-n1", "the pod is gone"]
        {
            assert!(page.html.contains(words), "{words}: {}", page.html);
        }
        let none = Pages::new(Rc::default(), Rc::default());
        let page = none.get("/leaks", "page=9", true).await.unwrap();
        assert!(page.html.contains("has not read all pods"), "{}", page.html);
        let (leading, metrics) = (watch::channel(true).1, Rc::new(Metrics::new()));
        let requests = requests(&cluster.kubeconfig()).await;
        let controller = Controller::new(requests, Rc::default(), metrics, leading);
        let (some, total) = leaks.list(0, 9, Instant::now()).unwrap();
        assert_eq!((some.len(), total), (1, 1));
        assert_eq!(leaks.list(1, 9, Instant::now()).unwrap().0.len(), 0);
        pods_and_nodes::tell(&controller, &some[0]).await;
    });
    let events = cluster.text(&["describe", "ipallocation", "10.77.0.1"]);
    for words in ["Warning", "LeakCandidate", "pod default/leaks-gone: the pod is gone. Nothing"] {
        assert!(events.contains(words), "{words}: {events}");
    }
}

#[test]
fn claims_do_not_wait_for_pods_that_the_controller_may_not_read() {
    let Some(cluster) = cluster() else { return };
    let objects = match kustomized("controller") {
        Ok(objects) => objects,
        Err(reason) => return skipped!("{reason}"),
    };
    let name = "controller-without-pods";
    let mut role = objects.into_iter().find(|object| object["kind"] == "ClusterRole").unwrap();
    role["metadata"]["name"] = json!(name);
    let rules = role["rules"].as_array_mut().unwrap();
    let count = rules.len();
    rules.retain(|rule| rule["resources"] != json!(["nodes", "pods"]));
    assert_eq!(rules.len(), count - 1);
    let account = json!({"kind": "ServiceAccount", "name": name, "namespace": "default"});
    let group = "rbac.authorization.k8s.io";
    for object in [
        role,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name}, "subjects": [account]}),
    ] {
        cluster.apply(&object.to_string());
    }
    let token = cluster.text(&["create", "token", name, "--namespace", "default"]);
    let sandbox = Sandbox::new();
    let kubeconfig = sandbox.write("kubeconfig", &cluster.kubeconfig_with(token.trim()));
    let mut replica = Replica::start(&sandbox, &kubeconfig, &[]);
    replica.wait(20, "readiness", |replica| (replica.get("/readyz").status == 200).then_some(()));
    replica.wait(20, "warning", |replica| {
        replica.log().contains("cannot watch pods for leak candidates").then_some(())
    });
    let metrics = replica.get("/metrics").body;
    assert!(!metrics.contains("hereabouts_leak_candidates{"), "{metrics}");
}
