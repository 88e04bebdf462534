//! `scripts/cluster`, on which all tests of the Kubernetes store depend: two real servers that
//! start, are killed, restart, and leave nothing behind.

use crate::support::cluster::{Cluster, Options, Server, end_orphans};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn script(args: &[&str]) -> Output {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cluster"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Returns a cluster of this test's own, without the objects of `deploy/`.
fn bare() -> Option<Cluster> {
    Cluster::own(Options { deploy: false, ..Options::default() })
        .map_err(|reason| skipped!("{reason}"))
        .ok()
}

fn answers(cluster: &Cluster) -> bool {
    cluster.kubectl(&["get", "namespace", "default", "--request-timeout=2s"]).status.success()
}

#[test]
fn the_shared_cluster_is_one() {
    let cluster = match Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    assert_eq!(cluster.text(&["get", "--raw", "/readyz"]), "ok");
    assert_eq!(cluster.directory(), Cluster::shared().unwrap().directory());
    // A running server is not started again.
    let again = script(&["up", "--directory", cluster.directory().to_str().unwrap()]);
    assert_eq!(
        String::from_utf8(again.stdout).unwrap().trim(),
        cluster.kubeconfig().to_str().unwrap()
    );
    assert!(String::from_utf8_lossy(&again.stderr).contains("runs already"), "{:?}", again.stderr);
}

#[test]
fn each_kubeconfig_is_somebody() {
    let cluster = match Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    for (user, may) in [("admin", "yes"), ("admin-certificate", "yes"), ("nobody", "no")] {
        let kubeconfig = cluster.kubeconfig_of(user);
        let output = cluster.kubectl(&[
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "auth",
            "can-i",
            "delete",
            "secrets",
        ]);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), may, "{user}: {output:?}");
    }
    let token = cluster.text(&["create", "token", "default"]);
    let who = cluster.text(&["--token", token.trim(), "auth", "whoami"]);
    assert!(who.contains("system:serviceaccount:default:default"), "{who}");
}

#[test]
fn killed_servers_come_back_with_what_they_had() {
    let Some(cluster) = bare() else { return };
    let kubeconfig = std::fs::read(cluster.kubeconfig()).unwrap();
    let directory = cluster.directory().to_str().unwrap();
    for (server, file, value) in
        [(Server::ApiServer, "apiserver.pid", "1"), (Server::Etcd, "etcd.pid", "2")]
    {
        let file = cluster.directory().join(file);
        cluster.text(&["create", "configmap", &format!("c{value}")]);
        cluster.kill(server);
        assert!(!answers(&cluster), "{server:?} is killed and the API answers");
        let status = script(&["status", "--directory", cluster.directory().to_str().unwrap()]);
        assert_eq!(status.status.code(), Some(1), "{status:?}");
        // Another process has its id now, and was started with the same command line. It is not the
        // server, and stays alive.
        let words = [
            format!("--data-dir={directory}/etcd"),
            format!("--tls-cert-file={directory}/pki/apiserver.crt"),
        ];
        let mut other = Command::new("sh")
            .args(["-c", "read line; :"])
            .args(words)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::fs::write(file, other.id().to_string()).unwrap();
        cluster.start(server);
        assert_eq!(other.try_wait().unwrap(), None, "{server:?}: the wrong process was killed");
        other.kill().unwrap();
        other.wait().unwrap();
        cluster.text(&["get", "configmap", &format!("c{value}")]);
    }
    assert_eq!(kubeconfig, std::fs::read(cluster.kubeconfig()).unwrap());
}

#[test]
fn an_older_state_of_etcd_can_be_restored() {
    let Some(cluster) = bare() else { return };
    cluster.apply(r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "before", "namespace": "default"}}"#);
    cluster.save();
    cluster.text(&["create", "configmap", "after"]);
    cluster.restore();
    let names = cluster.text(&["get", "configmap", "-o", "name"]);
    assert_eq!(
        names.lines().filter(|name| !name.contains("kube-root")).collect::<Vec<_>>(),
        ["configmap/before"]
    );
}

#[test]
fn etcd_with_a_small_quota_takes_no_more_writes() {
    let options = Options { deploy: false, etcd_quota_bytes: Some(4 << 20), ..Options::default() };
    let cluster = match Cluster::own(options) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let value = cluster.directory().join("value");
    std::fs::write(&value, vec![b'x'; 900_000]).unwrap();
    let from = format!("--from-file={}", value.display());
    let refused = (0..20)
        .map(|n| cluster.kubectl(&["create", "configmap", &format!("c{n}"), &from]))
        .find(|output| !output.status.success())
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("space exceeded"), "{refused:?}");
    cluster.text(&["get", "configmap", "c0", "-o", "name"]);
}

/// As after a SIGKILL of a test process and its keeper.
#[test]
fn what_a_dead_process_left_is_taken_down() {
    let Some(cluster) = bare() else { return };
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let left = cluster.directory().with_file_name(format!("{}-0", dead.id()));
    let up = script(&["up", "--no-deploy", "--directory", left.to_str().unwrap()]);
    assert!(up.status.success(), "{up:?}");
    let processes = ["etcd", "apiserver"]
        .map(|server| std::fs::read_to_string(left.join(format!("{server}.pid"))).unwrap());
    end_orphans();
    assert!(!left.exists());
    for process in processes {
        let line = std::fs::read_to_string(Path::new("/proc").join(process.trim()).join("cmdline"))
            .unwrap_or_default();
        assert!(!line.contains(left.to_str().unwrap()), "{line}");
    }
    assert!(answers(&cluster), "the one of a living process went with it");
}

#[test]
fn what_is_no_cluster_is_left_alone() {
    let sandbox = crate::support::sandbox::Sandbox::new();
    let directory = sandbox.root.to_str().unwrap();
    let down = script(&["down", "--directory", directory]);
    assert!(down.status.success() && sandbox.path("flat.conf").exists(), "{down:?}");
    assert_eq!(script(&["status", "--directory", directory]).status.code(), Some(1));
    assert_eq!(script(&["start", "etcd", "--directory", directory]).status.code(), Some(1));
    for wrong in [
        &["upp"][..],
        &[],
        &["up", "now"],
        &["stop", "kubelet"],
        &["up", "--fast"],
        &["up", "--etcd-quota-bytes", "4G"],
    ] {
        assert_eq!(script(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
