//! Addresses of nodes with the taint out-of-service, on a real API server. The time of the looks is
//! that of the test, except where the controller runs as a process.

use super::cluster;
use super::node_scene::{Scene, TAINT};
use crate::deploy::chart::kustomized;
use crate::leaks::{Held, hold, make_node};
use crate::support::claims;
use crate::support::cluster::{Cluster, Options};
use crate::support::controller::Replica;
use crate::support::nodes::own_name;
use crate::support::sandbox::Sandbox;
use hereabouts::controller::freeing::{Freeing, Grounds, Reason, StayHeld, Verdict, records};
use hereabouts::controller::requests::{Answered, Requests};
use hereabouts::ipam::off_node::{Kept, Recorded};
use hereabouts::retry::{Deadline, until};
use hereabouts::store::kube::objects::ip_allocation_status::OutOfService;
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::Duration;

#[test]
fn the_taint_frees_what_the_node_held_before_it_was_first_seen() {
    let Some(cluster) = cluster() else { return };
    let scene = Scene::new(cluster, "off-taint");
    let other = Scene::new(cluster, "off-other");
    let all =
        ["10.78.0.1", "10.78.0.2", "10.78.0.3", "10.78.0.4", "10.78.0.5", "10.78.0.6", "10.78.0.7"];
    let [old, same, without_uid, of_other, moved, later, next_boot] = all;
    let scope = own_name("off-claim");
    let claim = format!("{scope}.10.78.0.9");
    cluster.apply(&claims::object(&claims::held(&scope, "10.78.0.9")).to_string());
    scene.hold(old, "boot-0");
    scene.hold(same, "boot-1");
    let leader = scene.leader();
    // A record that names no uid of its Node counts only if it is younger than the Node.
    scene.next_second(&leader);
    let node = [scene.node.as_str(), "", "boot-0"];
    hold(cluster, &Held { address: without_uid, node, pod: ["web", "uid-of-web"] });
    other.hold(of_other, "boot-0");
    scene.hold(moved, "boot-1");
    leader.look(cluster, 0);
    assert_eq!(scene.first_sight(), Value::Null);
    scene.next_second(&leader);
    scene.taint();
    leader.look(cluster, 10);
    assert_eq!(scene.first_sight()["uid"], json!(scene.uid));
    // A node that is on again, before it renews its Lease and reports its boot.
    scene.hold(later, "boot-1");
    scene.hold(next_boot, "boot-2");
    let patch = r#"{"spec":{"containerID":"c2"}}"#;
    cluster.text(&["patch", "ipallocation", moved, "--type=merge", "-p", patch]);
    // 40 s for which the Lease is valid, and 60 s.
    leader.look(cluster, 109);
    assert_eq!((scene.held(&all), leader.freed()), (all.to_vec(), "0".to_owned()));
    leader.look(cluster, 130);
    let stay = vec![of_other, moved, later, next_boot];
    assert_eq!((scene.held(&all), leader.freed()), (stay.clone(), "3".to_owned()));
    assert_eq!(leader.kept(), "3");
    cluster.text(&["get", "ipallocation", &claim]);
    let event = "AddressesFreed: 3 addresses freed: the node is out of service and silent";
    assert_eq!(scene.events(), [event]);
    leader.look(cluster, 500);
    assert_eq!((scene.held(&all), leader.freed()), (stay, "3".to_owned()));
    assert_eq!(scene.events().len(), 1);
    // Nothing is left to say when the taint is away.
    scene.untaint();
    leader.look(cluster, 510);
    assert_eq!((scene.first_sight(), leader.kept()), (Value::Null, "0".to_owned()));
    cluster.text(&["delete", "ipallocation", &claim]);
    other.remove(&[of_other]);
    scene.remove(&all);
}

#[test]
fn a_node_that_renews_its_lease_ends_it_until_the_taint_was_away() {
    let Some(cluster) = cluster() else { return };
    let scene = Scene::new(cluster, "off-renews");
    let address = "10.78.1.1";
    scene.hold(address, "boot-1");
    let leader = scene.leader();
    scene.next_second(&leader);
    scene.taint();
    leader.look(cluster, 0);
    scene.renew(2, 40);
    leader.look(cluster, 101);
    assert_eq!(scene.first_sight()["hasRenewed"], json!(true));
    // It is silent from now on. The taint is the old one.
    for seconds in [300, 500, 1000] {
        leader.look(cluster, seconds);
        assert_eq!(scene.held(&[address]), [address]);
    }
    assert!(scene.events().iter().any(|text| text.starts_with("NodeIsOn: ")));
    // Another leader knows it, too.
    let second = scene.leader();
    for seconds in [0, 300] {
        second.look(cluster, seconds);
    }
    assert_eq!(scene.held(&[address]), [address]);
    scene.untaint();
    leader.look(cluster, 1010);
    scene.taint();
    leader.look(cluster, 1020);
    assert_eq!(scene.first_sight()["hasRenewed"], json!(false));
    leader.look(cluster, 1119);
    assert_eq!(scene.held(&[address]), [address]);
    leader.look(cluster, 1140);
    assert_eq!(scene.held(&[address]), [""; 0]);
    scene.remove(&[]);
}

#[test]
fn a_node_that_comes_back_with_its_taint_loses_nothing_of_its_new_boot() {
    let Some(cluster) = cluster() else { return };
    let scene = Scene::new(cluster, "off-back");
    let [old, new] = ["10.78.2.1", "10.78.2.2"];
    scene.hold(old, "boot-1");
    let leader = scene.leader();
    scene.next_second(&leader);
    scene.taint();
    leader.look(cluster, 0);
    leader.look(cluster, 120);
    assert_eq!(scene.held(&[old, new]), [""; 0]);
    // The kubelet creates a pod before it renews its Lease.
    scene.hold(new, "boot-2");
    leader.look(cluster, 130);
    make_node(cluster, &scene.node, "boot-2");
    leader.look(cluster, 140);
    scene.renew(2, 40);
    leader.look(cluster, 150);
    // The node crashes, so that its Lease is silent again.
    for seconds in [300, 600] {
        leader.look(cluster, seconds);
    }
    assert_eq!(scene.held(&[old, new]), [new]);
    scene.remove(&[new]);
}

/// What the watches told is old: what is read before each deletion counts.
#[test]
fn a_taint_that_is_removed_in_between_stops_it() {
    let Some(cluster) = cluster() else { return };
    let scene = Scene::new(cluster, "off-away");
    let address = "10.78.3.1";
    scene.hold(address, "boot-1");
    let leader = scene.leader();
    scene.next_second(&leader);
    scene.taint();
    leader.look(cluster, 0);
    leader.look(cluster, 50);
    scene.untaint();
    leader.look_again(200);
    assert_eq!((scene.held(&[address]), scene.first_sight()), (vec![address], Value::Null));
    leader.look(cluster, 210);
    // The Node was deleted, and another machine has its name and its taint.
    scene.taint();
    leader.look(cluster, 220);
    cluster.text(&["delete", "node", &scene.node]);
    leader.look_again(400);
    make_node(cluster, &scene.node, "boot-9");
    scene.taint();
    for seconds in [410, 600] {
        leader.look(cluster, seconds);
    }
    assert_eq!(scene.held(&[address]), [address]);
    scene.remove(&[address]);
}

/// A leader that ends after it has marked a record leaves the rest to the next one.
#[test]
fn a_mark_counts_as_long_as_the_spec_is_the_same() {
    let Some(cluster) = cluster() else { return };
    let scene = Scene::new(cluster, "off-marked");
    let [marked, moved, other] = ["10.78.8.1", "10.78.8.2", "10.78.8.3"];
    let all = [marked, moved, other];
    all.iter().for_each(|address| scene.hold(address, "boot-1"));
    let leader = scene.leader();
    scene.next_second(&leader);
    scene.taint();
    leader.look(cluster, 0);
    // After the first sight.
    scene.mark(marked, &scene.uid, 1);
    scene.mark(moved, &scene.uid, 1);
    scene.mark(other, "uid-of-other", 1);
    let patch = r#"{"spec":{"containerID":"c2"}}"#;
    cluster.text(&["patch", "ipallocation", moved, "--type=merge", "-p", patch]);
    leader.look(cluster, 120);
    assert_eq!((scene.held(&all), leader.kept()), (vec![moved, other], "2".to_owned()));
    scene.remove(&all);
}

#[test]
fn marks_end_when_the_node_is_on() {
    let Some(cluster) = cluster() else { return };
    let scene = Scene::new(cluster, "off-marks");
    // In a cluster without Nodes, nobody writes a status.
    let other = Scene::new(cluster, "off-marks-other");
    let address = "10.78.9.1";
    scene.hold(address, "boot-1");
    let leader = scene.leader();
    scene.next_second(&leader);
    let is_marked = || !scene.mark_of(address).is_empty();
    scene.taint();
    leader.look(cluster, 0);
    scene.mark(address, &scene.uid, 1);
    leader.look(cluster, 50);
    assert!(is_marked());
    scene.renew(2, 40);
    leader.look(cluster, 60);
    assert!(!is_marked());
    // A leader that begins looks once, too.
    scene.mark(address, &scene.uid, 1);
    leader.look(cluster, 70);
    assert!(is_marked());
    scene.leader().look(cluster, 0);
    assert!(!is_marked());
    let untaint = format!("{TAINT}-");
    for end in [&["taint", "node", &scene.node, &untaint][..], &["delete", "node", &scene.node]] {
        scene.mark(address, &scene.uid, 1);
        cluster.text(end);
        leader.look(cluster, 80);
        assert_eq!((is_marked(), scene.first_sight()), (false, Value::Null));
        make_node(cluster, &scene.node, "boot-1");
        scene.taint();
        leader.look(cluster, 90);
        assert_ne!(scene.first_sight(), Value::Null);
    }
    assert_eq!(scene.held(&[address]), [address]);
    scene.remove(&[address]);
    other.remove(&[]);
}

/// Everything is read again after the mark, because the API server takes its time for it.
#[test]
fn a_node_that_is_on_after_the_mark_keeps_the_address() {
    struct Once(Cell<bool>, Verdict);
    impl Grounds for Once {
        const REASON: Reason = Reason::OutOfService;
        async fn verdict(&self, _: &Requests, _: Recorded<'_>) -> Answered<Verdict> {
            Ok(if self.0.replace(true) { self.1 } else { Verdict::Free })
        }
        fn mark(&self, generation: i64) -> OutOfService {
            let since = "2026-01-01T00:00:00Z".to_owned();
            OutOfService { node: "n1".to_owned(), node_uid: "u1".to_owned(), generation, since }
        }
    }
    let Some(cluster) = cluster() else { return };
    let scene = Scene::new(cluster, "off-late");
    let address = "10.78.10.1";
    scene.hold(address, "boot-1");
    let leader = scene.leader();
    leader.watch(cluster);
    let free = |later: Verdict| {
        let found = records(&leader.controller.state.borrow(), |holder| {
            holder.address.to_string() == address
        });
        assert_eq!(found.len(), 1);
        let (freeing, mut stay) = (Freeing::default(), StayHeld::default());
        let grounds = Once(Cell::new(false), later);
        let work = freeing.free_all(&leader.controller, found, &grounds, &mut stay);
        let tally = leader.runtime.block_on(work);
        (tally.freed, tally.kept)
    };
    assert_eq!(free(Verdict::Over), (0, 0));
    assert_eq!((scene.held(&[address]), scene.mark_of(address)), (vec![address], String::new()));
    assert_eq!(free(Verdict::Keep(Kept::Later)), (0, 1));
    assert_eq!((scene.held(&[address]), scene.mark_of(address)), (vec![address], String::new()));
    assert_eq!(free(Verdict::Free), (1, 0));
    scene.remove(&[]);
}

/// The resource of an earlier version has no status.
#[test]
fn without_a_status_nothing_is_freed_until_it_is_there() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let resource = ["patch", "crd", "ipallocations.hereabouts.dev", "--type=json", "-p"];
    let change = |patch: &str| drop(cluster.text(&[&resource[..], &[patch]].concat()));
    let scene = Scene::new(&cluster, "off-earlier");
    let address = "10.78.11.1";
    scene.hold(address, "boot-1");
    change(r#"[{"op":"remove","path":"/spec/versions/0/subresources"}]"#);
    let has_status = |expected: bool| {
        let said = until(&Deadline::after(Duration::from_secs(30)), || {
            let path = format!("/apis/hereabouts.dev/v1alpha1/ipallocations/{address}/status");
            let is_there = cluster.kubectl(&["get", "--raw", &path]).status.success();
            Ok::<_, ()>((is_there == expected).then_some(()))
        });
        assert_eq!(said, Ok(Some(())));
    };
    has_status(false);
    let leader = scene.leader();
    scene.next_second(&leader);
    scene.taint();
    for seconds in [0, 120] {
        leader.look(&cluster, seconds);
    }
    assert_eq!((scene.held(&[address]), leader.kept()), (vec![address], "1".to_owned()));
    change(r#"[{"op":"add","path":"/spec/versions/0/subresources","value":{"status":{}}}]"#);
    has_status(true);
    leader.look(&cluster, 130);
    assert_eq!((scene.held(&[address]), leader.kept()), (vec![], "0".to_owned()));
    // A cluster without Nodes. Everybody else creates and deletes records as before.
    cluster.text(&["delete", "node", &scene.node]);
    scene.hold(address, "boot-1");
    let patch = r#"{"status":{"outOfService":null}}"#;
    let refused = until(&Deadline::after(Duration::from_secs(30)), || {
        let words = ["patch", "ipallocation", address, "--subresource=status", "--type=merge"];
        let said = cluster.kubectl(&[&words[..], &["-p", patch]].concat());
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        Ok::<_, ()>(text.contains("no params found").then_some(()))
    });
    assert_eq!(refused, Ok(Some(())));
    cluster.text(&["delete", "ipallocation", address]);
}

#[test]
fn what_cannot_be_read_frees_nothing() {
    let Some(cluster) = cluster() else { return };
    let scene = Scene::new(cluster, "off-blind");
    let address = "10.78.4.1";
    scene.hold(address, "boot-1");
    let leader = scene.leader();
    scene.next_second(&leader);
    scene.taint();
    let lease = ["delete", "lease", &scene.node, "--namespace", "kube-node-lease"];
    // A node without a Lease.
    cluster.text(&lease);
    for seconds in [0, 200] {
        leader.look(cluster, seconds);
    }
    assert_eq!(scene.held(&[address]), [address]);
    scene.renew(1, 40);
    leader.look(cluster, 210);
    cluster.text(&lease);
    leader.look(cluster, 400);
    assert_eq!(scene.held(&[address]), [address]);
    // It comes back as another Lease: somebody lives.
    scene.renew(1, 40);
    for seconds in [410, 600] {
        leader.look(cluster, seconds);
    }
    assert_eq!(scene.held(&[address]), [address]);
    cluster.text(&["taint", "node", &scene.node, &format!("{TAINT}-")]);
    leader.look(cluster, 610);
    scene.taint();
    // This process was stopped, or the API server was away: nobody knows what the node did.
    leader.look(cluster, 620);
    leader.look_once(900);
    leader.look(cluster, 980);
    assert_eq!(scene.held(&[address]), [address]);
    // Somebody has written into the Lease of the controller.
    let own = ["hereabouts-controller", "--namespace", &scene.node, "--overwrite"];
    let broken = "hereabouts.dev/out-of-service={";
    cluster.text(&[&["annotate", "lease"], &own[..], &[broken]].concat());
    for seconds in [990, 1200] {
        leader.look(cluster, seconds);
    }
    assert_eq!(scene.held(&[address]), [address]);
    scene.remove(&[address]);
}

#[test]
fn another_leader_takes_the_first_sight_over() {
    let Some(cluster) = cluster() else { return };
    let scene = Scene::new(cluster, "off-leaders");
    let [before, after] = ["10.78.5.1", "10.78.5.2"];
    scene.hold(before, "boot-1");
    let first = scene.leader();
    scene.next_second(&first);
    scene.taint();
    first.look(cluster, 0);
    let sight = scene.first_sight();
    scene.hold(after, "boot-1");
    scene.next_second(&first);
    drop(first);
    let second = scene.leader();
    second.look(cluster, 0);
    // The second leader has measured no silence of its own yet.
    assert_eq!(scene.held(&[before, after]), [before, after]);
    second.look(cluster, 120);
    assert_eq!(scene.held(&[before, after]), [after]);
    assert_eq!(scene.first_sight(), sight);
    scene.remove(&[after]);
}

#[test]
fn two_leaders_at_once_free_each_address_once() {
    const COUNT: usize = 40;
    let Some(cluster) = cluster() else { return };
    let scene = Scene::new(cluster, "off-two");
    let addresses: Vec<&'static str> =
        (1..=COUNT).map(|number| &*format!("10.78.6.{number}").leak()).collect();
    for address in &addresses {
        scene.hold(address, "boot-0");
    }
    scene.next_second(&scene.leader());
    scene.taint();
    let work = || {
        let leader = scene.leader();
        for seconds in [0, 120, 140] {
            leader.look(cluster, seconds);
        }
        leader.freed().parse::<usize>().unwrap_or_default()
    };
    let freed = std::thread::scope(|scope| {
        let both = [scope.spawn(work), scope.spawn(work)];
        both.map(|one| one.join().unwrap())
    });
    assert_eq!(scene.held(&addresses), [""; 0]);
    assert_eq!(freed.iter().sum::<usize>(), COUNT, "{freed:?}");
    scene.remove(&[]);
}

/// As a process, with the rights and the policies of deploy/.
#[test]
fn the_controller_frees_with_the_rights_that_it_has() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let objects = match kustomized("controller") {
        Ok(objects) => objects,
        Err(reason) => return skipped!("{reason}"),
    };
    objects.iter().for_each(|object| cluster.apply(&object.to_string()));
    let scene = Scene::new(&cluster, "off-process");
    let other = Scene::new(&cluster, "off-on");
    let deleted = Scene::new(&cluster, "off-deleted");
    let [off, on, gone] = ["10.78.7.1", "10.78.7.2", "10.78.7.3"];
    scene.hold(off, "boot-1");
    other.hold(on, "boot-1");
    deleted.hold(gone, "boot-of-deleted");
    cluster.text(&["delete", "node", &deleted.node]);
    scene.renew(1, 1);
    scene.next_second(&scene.leader());
    scene.taint();
    let create = ["create", "token", "hereabouts-controller", "--namespace", "kube-system"];
    let token = cluster.text(&create);
    let sandbox = Sandbox::new();
    let kubeconfig = sandbox.write("kubeconfig", &cluster.kubeconfig_with(token.trim()));
    let mut replica = Replica::start(&sandbox, &kubeconfig, &["--leader-elect"]);
    replica.wait(120, "freed address", |replica| {
        replica
            .log()
            .contains(&format!("freed {off}: pod default/web, node {}", scene.node))
            .then_some(())
    });
    assert_eq!(scene.held(&[off, on, gone]), [on, gone]);
    // Without --release-deleted-nodes, it does not even look. It is a leak candidate.
    assert!(!replica.log().contains("was deleted"), "{}", replica.log());
    let metric = r#"hereabouts_released_addresses_total{reason="out-of-service"}"#;
    assert_eq!(replica.metric(metric), Some(1.0));
    replica.wait(10, "event", |_| (scene.events().len() == 1).then_some(()));
    let metrics = replica.get("/metrics").body;
    let refused = metrics.lines().filter(|line| line.contains(r#"outcome="refused""#));
    assert!(refused.clone().all(|line| line.ends_with("} 0")), "{metrics}");
    assert!(replica.leads() && !replica.log().contains("forbidden"), "{}", replica.log());
}
