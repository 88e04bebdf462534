//! Replicas: one leads, another one takes over, and never do two lead.

use super::{cluster, namespace};
use crate::support::cluster::{Cluster, Options, Server};
use crate::support::controller::{Replica, pause};
use crate::support::sandbox::Sandbox;
use hereabouts::retry::Deadline;
use std::time::Duration;

fn replica(sandbox: &Sandbox, cluster: &Cluster, namespace: &str) -> Replica {
    let args = ["--leader-elect", "--lease-namespace", namespace];
    Replica::start(sandbox, &cluster.kubeconfig(), &args)
}

/// Returns two replicas, the leader first.
fn two(sandbox: &Sandbox, cluster: &Cluster, namespace: &str) -> (Replica, Replica) {
    let mut first = replica(sandbox, cluster, namespace);
    first.wait(10, "leader", |first| first.leads().then_some(()));
    let second = replica(sandbox, cluster, namespace);
    (first, second)
}

fn holder(cluster: &Cluster, namespace: &str) -> String {
    let path = "jsonpath={.spec.holderIdentity}";
    let lease = ["get", "lease", "hereabouts-controller", "--namespace", namespace, "-o", path];
    cluster.text(&lease)
}

/// A stopwatch.
struct Since(Deadline);

impl Since {
    const LIMIT: Duration = Duration::from_secs(1000);

    fn now() -> Self {
        Self(Deadline::after(Self::LIMIT))
    }

    fn seconds(&self) -> f64 {
        (Self::LIMIT - self.0.left()).as_secs_f64()
    }
}

#[test]
fn a_leader_that_is_told_to_end_makes_way_at_once() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new();
    namespace(cluster, "lease-way");
    let (mut first, mut second) = two(&sandbox, cluster, "lease-way");
    assert!(!second.leads());
    // A replica that does not lead is ready, too.
    second.wait(20, "readiness", |second| (second.get("/readyz").status == 200).then_some(()));
    assert!(!second.leads());

    let since = Since::now();
    first.signal("TERM");
    assert_eq!(first.ended(3), Some(0), "{}", first.log());
    assert!(first.log().contains("has released the lease"), "{}", first.log());
    second.wait(3, "leader", |second| second.leads().then_some(()));
    println!("the other replica leads after {:.1} s", since.seconds());
    assert!(since.seconds() < 3.0, "{}", since.seconds());

    // One that waits ends, too, and leaves the lease to the leader.
    let third = replica(&sandbox, cluster, "lease-way");
    let before = holder(cluster, "lease-way");
    drop(third);
    let mut third = replica(&sandbox, cluster, "lease-way");
    third.signal("INT");
    assert_eq!(third.ended(3), Some(0), "{}", third.log());
    assert_eq!(holder(cluster, "lease-way"), before);
    second.signal("TERM");
    assert_eq!(second.ended(3), Some(0));
    assert_eq!(holder(cluster, "lease-way"), "");
}

/// A process that is stopped cannot release its lease, and continues when nobody expects it.
#[test]
fn two_replicas_never_lead() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new();
    namespace(cluster, "lease-two");
    let (mut first, mut second) = two(&sandbox, cluster, "lease-two");
    for _ in 0..10 {
        assert!(first.leads() && !second.leads());
    }
    let since = Since::now();
    first.signal("STOP");
    second.wait(25, "leader", |second| second.leads().then_some(()));
    let taken = since.seconds();
    println!("the other replica leads after {taken:.1} s");
    // The record is up to 2 s old at the start, and is looked at every 2 s.
    assert!((12.9..20.0).contains(&taken), "{taken}");

    first.signal("CONT");
    assert_eq!(first.ended(3), Some(1), "{}", first.log());
    assert!(first.log().contains("ERROR"), "{}", first.log());
    assert!(first.log().contains("lost the lease hereabouts-controller"), "{}", first.log());
    assert!(second.leads());

    // A third one waits for as long as the second one renews.
    let third = replica(&sandbox, cluster, "lease-two");
    let since = Since::now();
    while since.seconds() < 20.0 {
        assert!(second.leads() && !third.leads(), "{} {}", second.log(), third.log());
        pause(Duration::from_millis(200));
    }
}

/// Someone else's name in the record ends a leader. A record that someone deletes does not.
#[test]
fn a_leader_whose_record_is_changed() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new();
    namespace(cluster, "lease-edit");
    let mut only = replica(&sandbox, cluster, "lease-edit");
    only.wait(10, "leader", |only| only.leads().then_some(()));
    let lease = ["hereabouts-controller", "--namespace", "lease-edit"];
    let identity = holder(cluster, "lease-edit");
    cluster.text(&[&["label", "lease"], &lease[..], &["seen=yes"]].concat());
    cluster.text(&[&["delete", "lease"], &lease[..]].concat());
    only.wait(6, "new record", |_| {
        let output = cluster.kubectl(&[&["get", "lease"], &lease[..], &["-o", "name"]].concat());
        output.status.success().then_some(())
    });
    assert!(only.leads() && holder(cluster, "lease-edit") == identity, "{}", only.log());

    let patch = r#"{"spec":{"holderIdentity":"another"}}"#;
    cluster.text(&[&["patch", "lease"], &lease[..], &["--type=merge", "-p", patch]].concat());
    assert_eq!(only.ended(4), Some(1), "{}", only.log());
    assert!(only.log().contains("another replica holds it"), "{}", only.log());
    assert_eq!(holder(cluster, "lease-edit"), "another");
}

#[test]
fn without_an_api_server_the_leader_ends_and_the_other_waits() {
    let cluster = match Cluster::own(Options { deploy: false, ..Options::default() }) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let sandbox = Sandbox::new();
    let (mut first, mut second) = two(&sandbox, &cluster, "kube-system");
    let since = Since::now();
    cluster.kill(Server::ApiServer);
    assert_eq!(first.ended(20), Some(1), "{}", first.log());
    let ended = since.seconds();
    println!("the leader has ended after {ended:.1} s: {}", first.log());
    assert!((7.9..13.0).contains(&ended), "{ended}");
    assert!(first.log().contains("not renewed for 10 s: "), "{}", first.log());
    assert_eq!(second.get("/healthz").status, 200);
    pause(Duration::from_secs_f64((20.0 - since.seconds()).max(0.0)));
    assert!(second.runs() && !second.leads(), "{}", second.log());
    // It complains once, and not at each attempt.
    assert!(second.log().matches("cannot take the lease").count() < 4, "{}", second.log());
    cluster.start(Server::ApiServer);
    second.wait(20, "leader", |second| second.leads().then_some(()));
}
