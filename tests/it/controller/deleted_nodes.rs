//! Addresses of nodes whose Node object is gone, with `--release-deleted-nodes`, on a real API server.
//! The time of the looks is that of the test, except where the controller runs as a process.

use super::cluster;
use super::node_scene::{Leader, Scene, TAINT};
use crate::deploy::chart::kustomized;
use crate::leaks::{Held, hold, make_node, make_pod};
use crate::support::cluster::{Cluster, Options};
use crate::support::controller::Replica;
use crate::support::sandbox::Sandbox;
use hereabouts::controller::leaks::Leak;
use hereabouts::controller::page::Pages;
use hereabouts::ipam::leak::{Evidence, LOOKS_APART};
use hereabouts::retry::{Deadline, until};
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a node must give no sign of life.
const SILENT: u64 = 600;

/// A node that is alone in the knowledge of its leaders, beside one that runs.
fn scene<'c>(cluster: &'c Cluster, name: &str) -> Scene<'c> {
    let scene = Scene::new(cluster, name);
    make_node(cluster, &scene.node, &boot(&scene));
    // In a cluster without Nodes, nobody writes a status.
    make_node(cluster, &beside(&scene), "boot-of-another");
    scene
}

/// Returns the boot of the node: no node of another test reports it.
fn boot(scene: &Scene<'_>) -> String {
    format!("boot-of-{}", scene.node)
}

fn beside(scene: &Scene<'_>) -> String {
    format!("{}-beside", scene.node)
}

fn leader(scene: &Scene<'_>) -> Leader {
    scene.leader().that_releases_deleted_nodes()
}

/// Deletes the Node. Its Lease goes with it, as with the garbage collector of a cluster.
fn delete_node(scene: &Scene<'_>) {
    scene.cluster.text(&["delete", "node", &scene.node]);
    delete_lease(scene);
}

fn delete_lease(scene: &Scene<'_>) {
    let lease = ["delete", "lease", &scene.node, "--namespace", "kube-node-lease"];
    scene.cluster.text(&lease);
}

fn freed(leader: &Leader) -> String {
    leader.metric(r#"hereabouts_released_addresses_total{reason="node-deleted"}"#)
}

fn kept(leader: &Leader) -> String {
    leader.metric(r#"hereabouts_unreleased_addresses{reason="node-deleted"}"#)
}

fn first_sight(scene: &Scene<'_>) -> Value {
    scene.first_sights("deleted-nodes")[format!("{}/{}", scene.node, scene.uid)].clone()
}

fn remove(scene: &Scene<'_>, addresses: &[&str]) {
    for address in addresses {
        scene.cluster.text(&["delete", "ipallocation", "--ignore-not-found", address]);
    }
    let nodes = ["delete", "node", "--ignore-not-found", &scene.node, &beside(scene)];
    scene.cluster.text(&nodes);
}

/// Holds an address, in the second before the Node of the scene is deleted.
fn hold_and_delete(scene: &Scene<'_>, leader: &Leader, address: &str) {
    scene.hold(address, &boot(scene));
    scene.next_second(leader);
    delete_node(scene);
}

#[test]
fn a_node_that_was_deleted_frees_what_its_records_say_that_it_held() {
    let Some(cluster) = cluster() else { return };
    let scene = scene(cluster, "gone-frees");
    let all = ["10.79.0.1", "10.79.0.2", "10.79.0.3", "10.79.0.4", "10.79.0.5"];
    let [held, earlier, without_uid, without_boot, of_other] = all;
    scene.hold(earlier, "boot-0");
    let hold_as = |address, node: [&str; 3]| {
        hold(cluster, &Held { address, node, pod: ["web", "uid-of-web"] });
    };
    let name = scene.node.as_str();
    hold_as(without_uid, [name, "", &boot(&scene)]);
    hold_as(without_boot, [name, &scene.uid, ""]);
    hold_as(of_other, [&beside(&scene), "", "boot-of-another"]);
    let leader = leader(&scene);
    leader.look(cluster, 0);
    assert_eq!(first_sight(&scene), Value::Null);
    hold_and_delete(&scene, &leader, held);
    leader.look(cluster, 10);
    assert_eq!(first_sight(&scene)["uid"], json!(scene.uid));
    leader.look(cluster, SILENT);
    assert_eq!((scene.held(&all), freed(&leader)), (all.to_vec(), "0".to_owned()));
    leader.look(cluster, SILENT + 20);
    let stay = vec![without_uid, without_boot, of_other];
    assert_eq!((scene.held(&all), freed(&leader)), (stay.clone(), "2".to_owned()));
    let event = "AddressesFreed: 2 addresses freed: the Node was deleted, and the node is silent";
    assert_eq!(scene.events(), [event]);
    leader.look(cluster, 2 * SILENT);
    assert_eq!((scene.held(&all), kept(&leader)), (stay, "0".to_owned()));
    assert_eq!(first_sight(&scene), Value::Null);
    remove(&scene, &all);
}

#[test]
fn without_the_switch_a_node_that_was_deleted_frees_nothing() {
    let Some(cluster) = cluster() else { return };
    let scene = scene(cluster, "gone-off");
    let address = "10.79.1.1";
    let leader = scene.leader();
    hold_and_delete(&scene, &leader, address);
    leader.look(cluster, 0);
    leader.look(cluster, 3 * SILENT);
    assert_eq!((scene.held(&[address]), scene.mark_of(address)), (vec![address], String::new()));
    assert_eq!(scene.first_sights("deleted-nodes"), Value::Null);
    is_named(
        &leader,
        &format!("{address}, node {}, pod default/web: the node is gone", scene.node),
    );
    remove(&scene, &[address]);
}

/// The log, the metric and the page name the leak candidate.
fn is_named(leader: &Leader, text: &str) {
    let controller = &leader.controller;
    ["Node", "Pod"].into_iter().for_each(|kind| controller.leaks.has_read(kind));
    let (first, second) = (Instant::now(), Instant::now() + LOOKS_APART);
    for now in [first, second] {
        controller.leaks.look(&controller.state.borrow(), now);
    }
    let new = leader.runtime.block_on(controller.leaks.confirm(&controller.requests, second));
    // The log has these texts. This leader does not know the nodes of other tests.
    let new: Vec<String> = new.iter().map(Leak::text).collect();
    assert!(new.iter().any(|found| found == text), "{new:?}");
    let count = leader.metric(r#"hereabouts_leak_candidates{evidence="node-gone"}"#);
    // Other tests have candidates as well, and only so many are said at once.
    let (all, _) = controller.leaks.list(0, usize::MAX, second).unwrap();
    let gone = all.iter().filter(|leak| leak.evidence == Evidence::NodeGone).count();
    assert_eq!(count, gone.to_string());
    let pages = Pages::new(Rc::clone(&controller.state), Rc::clone(&controller.leaks));
    let page = leader.runtime.block_on(pages.get("/leaks", "", true)).unwrap();
    assert!(page.html.contains("the node is gone"), "{}", page.html);
}

/// Another machine has the name: what the Node and the Lease of the name say is about that one.
#[test]
fn a_machine_that_has_the_name_of_another_one_keeps_what_is_its_own() {
    let Some(cluster) = cluster() else { return };
    let scene = scene(cluster, "gone-replaced");
    let [of_gone, of_new] = ["10.79.2.1", "10.79.2.2"];
    let leader = leader(&scene);
    hold_and_delete(&scene, &leader, of_gone);
    let uid = make_node(cluster, &scene.node, "boot-9");
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": scene.node, "uid": uid});
    let renew = |time: u32, owners: &Value| {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": scene.node, "namespace": "kube-node-lease", "ownerReferences": owners},
            "spec": {"renewTime": format!("2026-01-01T00:00:00.{time:06}Z")},
        });
        cluster.apply(&lease.to_string());
    };
    renew(1, &json!([owner]));
    leader.look(cluster, 0);
    let node = [scene.node.as_str(), uid.as_str(), "boot-9"];
    hold(cluster, &Held { address: of_new, node, pod: ["web", "uid-of-web"] });
    leader.look(cluster, SILENT - 10);
    renew(2, &json!([owner]));
    leader.look(cluster, SILENT + 20);
    assert_eq!(scene.held(&[of_gone, of_new]), [of_new]);
    remove(&scene, &[of_new]);
}

/// A kubelet that restarts after somebody has deleted its Node.
#[test]
fn a_machine_that_is_a_node_again_keeps_its_addresses() {
    let Some(cluster) = cluster() else { return };
    let scene = scene(cluster, "gone-again");
    let address = "10.79.3.1";
    let leader = leader(&scene);
    hold_and_delete(&scene, &leader, address);
    leader.look(cluster, 0);
    scene.mark(address, &scene.uid, 1);
    leader.look(cluster, SILENT - 50);
    assert!(!scene.mark_of(address).is_empty());
    // In the API server it is there, and the watch is behind.
    make_node(cluster, &scene.node, &boot(&scene));
    leader.look_again(3 * SILENT);
    assert_eq!((scene.held(&[address]), scene.mark_of(address)), (vec![address], String::new()));
    // Its Node is deleted again: the time begins again.
    cluster.text(&["delete", "node", &scene.node]);
    leader.look(cluster, 3 * SILENT + 10);
    leader.look(cluster, 4 * SILENT);
    assert_eq!(scene.held(&[address]), [address]);
    leader.look(cluster, 4 * SILENT + 20);
    assert_eq!(scene.held(&[address]), [""; 0]);
    remove(&scene, &[]);
}

#[test]
fn a_machine_whose_name_was_changed_keeps_its_addresses() {
    let Some(cluster) = cluster() else { return };
    let scene = scene(cluster, "gone-renamed");
    let address = "10.79.4.1";
    let leader = leader(&scene);
    hold_and_delete(&scene, &leader, address);
    leader.look(cluster, 0);
    leader.look(cluster, SILENT - 10);
    // The watch is behind.
    let renamed = format!("{}-renamed", scene.node);
    make_node(cluster, &renamed, &boot(&scene));
    leader.look_again(SILENT + 50);
    assert_eq!(scene.held(&[address]), [address]);
    leader.look(cluster, 2 * SILENT + 100);
    assert_eq!((scene.held(&[address]), first_sight(&scene)), (vec![address], Value::Null));
    cluster.text(&["delete", "node", &renamed]);
    remove(&scene, &[address]);
}

/// A kubelet that runs on without its Node, and other signs of a machine that is on.
#[test]
fn a_machine_that_gives_a_sign_of_life_without_a_node_keeps_its_addresses() {
    let Some(cluster) = cluster() else { return };
    let scene = scene(cluster, "gone-lives");
    let [address, later, moved] = ["10.79.5.1", "10.79.5.2", "10.79.5.3"];
    let all = [address, later, moved];
    let renews = |scene: &Scene<'_>| scene.renew(2, 40);
    let adds = |scene: &Scene<'_>| scene.hold(later, &boot(scene));
    let hold_as = |node: [&str; 3]| {
        hold(cluster, &Held { address: later, node, pod: ["web", "uid-of-web"] });
    };
    // By another name of the same Node, and without a boot.
    let adds_in_doubt = |scene: &Scene<'_>| {
        hold_as([&format!("{}-by-another-name", scene.node), &scene.uid, ""]);
    };
    let adds_without_uid = |scene: &Scene<'_>| hold_as([&scene.node, "", &boot(scene)]);
    let moves = |_: &Scene<'_>| {
        let patch = r#"{"spec":{"containerID":"c2"}}"#;
        cluster.text(&["patch", "ipallocation", moved, "--type=merge", "-p", patch]);
    };
    let signs: [&dyn Fn(&Scene<'_>); 5] =
        [&renews, &adds, &adds_in_doubt, &adds_without_uid, &moves];
    let mut scene_uid = scene.uid.clone();
    for sign in signs {
        let scene = Scene { cluster, node: scene.node.clone(), uid: scene_uid.clone() };
        let leader = leader(&scene);
        scene.hold(moved, &boot(&scene));
        scene.hold(address, &boot(&scene));
        scene.next_second(&leader);
        cluster.text(&["delete", "node", &scene.node]);
        leader.look(cluster, 0);
        leader.look(cluster, SILENT - 10);
        sign(&scene);
        leader.look(cluster, SILENT + 20);
        assert_eq!(first_sight(&scene)["hasRenewed"], json!(true));
        leader.look(cluster, 2 * SILENT);
        // Another leader knows it, too.
        let second = scene.leader().that_releases_deleted_nodes();
        second.look(cluster, 0);
        second.look(cluster, SILENT + 20);
        assert!(scene.held(&all).starts_with(&[address]));
        for address in all {
            cluster.text(&["delete", "ipallocation", "--ignore-not-found", address]);
        }
        leader.look(cluster, 2 * SILENT + 10);
        assert_eq!(first_sight(&scene), Value::Null);
        scene_uid = make_node(cluster, &scene.node, &boot(&scene));
    }
    assert!(scene.events().iter().any(|text| text.starts_with("NodeIsOn: ")));
    remove(&scene, &all);
}

/// Everything is read again before each deletion.
#[test]
fn a_node_that_lives_while_its_addresses_are_freed_keeps_the_rest() {
    const COUNT: usize = 60;
    let Some(cluster) = cluster() else { return };
    let scene = scene(cluster, "gone-late");
    let all: Vec<&'static str> =
        (1..=COUNT).map(|number| &*format!("10.79.9.{number}").leak()).collect();
    all.iter().for_each(|address| scene.hold(address, &boot(&scene)));
    let leader = leader(&scene);
    scene.next_second(&leader);
    cluster.text(&["delete", "node", &scene.node]);
    leader.look(cluster, 0);
    leader.look(cluster, SILENT - 10);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let first = until(&Deadline::after(Duration::from_secs(60)), || {
                Ok::<_, ()>((scene.held(&all).len() < COUNT).then_some(()))
            });
            assert_eq!(first, Ok(Some(())));
            scene.renew(2, 40);
        });
        leader.look(cluster, SILENT + 20);
    });
    let rest = scene.held(&all);
    assert!(!rest.is_empty() && rest.len() < COUNT, "{}", rest.len());
    assert!(rest.iter().all(|address| scene.mark_of(address).is_empty()));
    remove(&scene, &all);
}

#[test]
fn a_pod_that_the_api_server_still_has_keeps_its_address() {
    let Some(cluster) = cluster() else { return };
    cluster.text(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"]);
    let scene = scene(cluster, "gone-pod");
    let [address, of_gone] = ["10.79.6.1", "10.79.6.2"];
    let pod = format!("{}-web", scene.node);
    let uid = make_pod(cluster, &pod, &scene.node, "Running", address);
    let node = [scene.node.as_str(), scene.uid.as_str(), &boot(&scene)];
    hold(cluster, &Held { address, node, pod: [&pod, &uid] });
    let leader = leader(&scene);
    hold_and_delete(&scene, &leader, of_gone);
    leader.look(cluster, 0);
    leader.look(cluster, SILENT + 20);
    assert_eq!((scene.held(&[address, of_gone]), kept(&leader)), (vec![address], "1".to_owned()));
    // The watch says that it is gone, and is wrong.
    leader.controller.leaks.change(|known| known.retain_pods(&|_, _| false));
    leader.look_again(SILENT + 50);
    assert_eq!((scene.held(&[address]), kept(&leader)), (vec![address], "1".to_owned()));
    cluster.text(&["delete", "pod", &pod, "--force", "--grace-period=0"]);
    leader.look(cluster, SILENT + 60);
    assert_eq!((scene.held(&[address]), kept(&leader)), (vec![], "0".to_owned()));
    remove(&scene, &[]);
}

/// An API server that was restored, for example: the Node is there again.
#[test]
fn a_node_that_is_there_again_ends_it() {
    let Some(cluster) = cluster() else { return };
    let scene = scene(cluster, "gone-back");
    let address = "10.79.7.1";
    let leader = leader(&scene);
    scene.hold(address, &boot(&scene));
    scene.next_second(&leader);
    leader.watch(cluster);
    // The watch is behind, or wrong: the API server has the Node.
    leader.controller.leaks.change(|known| known.remove_node(&scene.node));
    for seconds in [0, SILENT + 20] {
        leader.look_again(seconds);
    }
    assert_eq!((scene.held(&[address]), first_sight(&scene)), (vec![address], Value::Null));
    delete_node(&scene);
    leader.look(cluster, SILENT + 30);
    assert_ne!(first_sight(&scene), Value::Null);
    // This process was stopped, or the API server was away: nobody knows what the node did.
    leader.look_once(3 * SILENT);
    leader.look(cluster, 4 * SILENT - 50);
    // The API server was restored, and everything is read again.
    leader.controller.again.send_replace(());
    leader.look(cluster, 5 * SILENT - 50);
    assert_eq!(scene.held(&[address]), [address]);
    leader.look(cluster, 5 * SILENT);
    assert_eq!(scene.held(&[address]), [""; 0]);
    remove(&scene, &[]);
}

/// With the rights and the policies of deploy/: the process begins, and what it may do frees.
#[test]
fn the_controller_frees_what_deleted_nodes_held_with_the_rights_that_it_has() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let objects = ["node", "controller"].map(kustomized);
    for objects in objects {
        match objects {
            Ok(objects) => objects.iter().for_each(|object| cluster.apply(&object.to_string())),
            Err(reason) => return skipped!("{reason}"),
        }
    }
    let scene = scene(&cluster, "gone-process");
    let address = "10.79.8.1";
    hold_and_delete(&scene, &scene.leader(), address);
    let create = ["create", "token", "hereabouts-controller", "--namespace", "kube-system"];
    let token = cluster.text(&create);
    let sandbox = Sandbox::new();
    let kubeconfig = sandbox.write("kubeconfig", &cluster.kubeconfig_with(token.trim()));
    let args = ["--leader-elect", "--release-deleted-nodes"];
    let mut replica = Replica::start(&sandbox, &kubeconfig, &args);
    replica.wait(60, "first sight", |replica| {
        let begun = format!("the Node {} was deleted: its addresses will be freed", scene.node);
        replica.log().contains(&begun).then_some(())
    });
    drop(replica);
    // The looks of the process take ten minutes. Its Lease has what it saw.
    let leader = Leader::with_lease_in(&kubeconfig, &scene.node, "kube-system");
    let leader = leader.that_releases_deleted_nodes();
    leader.look(&cluster, 0);
    leader.look(&cluster, SILENT + 20);
    assert_eq!((scene.held(&[address]), freed(&leader)), (vec![], "1".to_owned()));
    // The taint is not needed.
    assert!(!cluster.text(&["get", "nodes", "-o", "yaml"]).contains(TAINT));
}
