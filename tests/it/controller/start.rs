//! How the controller starts, and what it says if it cannot.

use super::{cluster, namespace};
use crate::support::controller::{Replica, command, pause};
use crate::support::sandbox::{Ended, Sandbox};
use crate::support::transcript::assert_file;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

fn ended(args: &[&str]) -> Ended {
    Ended::from(command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap())
}

#[test]
fn its_help() {
    let help = ended(&["--help"]);
    assert_eq!((help.status, &*help.stderr), (Some(0), ""));
    assert_file("controller-help.txt", &help.stdout);
    let wrong = ended(&["--listen", "8080"]);
    assert!(wrong.status == Some(2) && wrong.stderr.contains("--listen"), "{wrong:?}");
}

#[test]
fn it_says_why_it_does_not_start() {
    let sandbox = Sandbox::new();
    let missing = sandbox.path("missing");
    let missing = missing.to_str().unwrap();
    let none = ended(&["--listen", "127.0.0.1:0"]);
    let file = ended(&["--listen", "127.0.0.1:0", "--kubeconfig", missing]);
    for (ended, text) in [
        (&none, "no API server is configured".to_owned()),
        (&file, format!("cannot use the kubeconfig: {missing}: ")),
    ] {
        assert_eq!((ended.status, &*ended.stdout), (Some(1), ""));
        assert!(ended.stderr.contains(&text), "{}", ended.stderr);
    }
    let Some(cluster) = cluster() else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let kubeconfig = cluster.kubeconfig();
    let port = ended(&["--listen", &address, "--kubeconfig", kubeconfig.to_str().unwrap()]);
    assert!(
        port.status == Some(1) && port.stderr.contains(&format!("cannot listen on {address}: ")),
        "{port:?}"
    );
}

#[test]
fn it_finds_the_kubeconfig_of_the_environment() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new();
    namespace(cluster, "lease-env");
    let args = ["--listen", "127.0.0.1:0", "--leader-elect", "--lease-namespace", "lease-env"];
    let mut command = command(&args);
    command.env("KUBECONFIG", cluster.kubeconfig());
    let mut replica = Replica::spawn(&sandbox, command);
    replica.wait(10, "leader", |replica| replica.leads().then_some(()));
}

#[test]
fn without_the_right_to_the_lease_it_says_so_once_and_does_not_lead() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new();
    let args = ["--leader-elect", "--lease-namespace", "kube-system"];
    let mut replica = Replica::start(&sandbox, &cluster.kubeconfig_of("nobody"), &args);
    replica.wait(10, "complaint", |replica| {
        replica.log().contains("cannot take the lease hereabouts-controller: ").then_some(())
    });
    pause(Duration::from_secs(5));
    let log = replica.log();
    assert!(log.contains("cannot get resource \"leases\"") && log.contains("(403)"), "{log}");
    assert_eq!(log.matches("cannot take the lease").count(), 1, "{log}");
    assert!(!replica.leads() && replica.get("/healthz").status == 200);
    replica.signal("TERM");
    assert_eq!(replica.ended(4), Some(0), "{}", replica.log());
}

/// A cluster without Cluster API, KubeVirt and Multus lacks most of the kinds that are watched.
#[test]
fn it_says_once_which_kinds_the_cluster_does_not_have() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new();
    let mut replica = Replica::start(&sandbox, &cluster.kubeconfig(), &[]);
    let failed = |replica: &Replica, kind: &str| {
        replica.log().matches(&format!("cannot watch {kind}: ")).count()
    };
    replica.wait(30, "word of a kind", |replica| (0 < failed(replica, "Claims")).then_some(()));
    // The watches would ask again each second.
    pause(Duration::from_secs(5));
    for (kind, times) in
        [("Claims", 1), ("Answers", 1), ("Clusters", 1), ("IpamClaims", 0), ("Networks", 0)]
    {
        assert_eq!(failed(&replica, kind), times, "{kind}: {}", replica.log());
    }
}
