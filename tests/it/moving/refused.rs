//! What a move refuses, and what it says to do.

use super::world::World;
use crate::deploy::chart::tool;
use crate::support::cluster::{Cluster, Options};
use crate::support::sandbox::Sandbox;
use serde_json::{Value, json};

/// Runs `move start`, which must refuse with these words and nothing else.
fn refuses(world: &World, words: &[&str]) {
    let ended = world.run(&["move", "start"]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    for words in words {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert_eq!(ended.stderr.matches("missing: ").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("start is not possible yet: 1 thing is missing"), "{ended:?}");
    assert!(world.names("moves").is_empty());
    // `status` says the same.
    let status = world.run(&["move", "status"]).succeeded().stdout.clone();
    assert!(status.contains(words[0]) && status.contains("state: nothing is moved"), "{status}");
}

fn workload(kind: &str, version: &str, name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    })
    .to_string()
}

#[test]
fn start_refuses_what_would_give_an_address_twice() {
    let Some(world) = World::new() else { return };
    world.network("plain", &json!({"range": "10.20.0.0/24"}));
    let remove = |kind: &str, name: &str| {
        world.cluster.text(&["delete", kind, name, "--force"]);
    };
    let network = |name: &str, ipam: Value, words: &[&str]| {
        world.network(name, &ipam);
        refuses(&world, words);
        world.cluster.text(&["delete", "net-attach-def", name]);
    };
    network(
        "cut",
        json!({"range": "10.30.0.0/16", "node_slice_size": "/24"}),
        &["the network default/cut has node_slice_size"],
    );
    network(
        "wide",
        json!({"range": "10.20.0.0/16", "enable_overlapping_ranges": false}),
        &[
            "the ranges 10.20.0.0/24 of default/plain and 10.20.0.0/16 of default/wide overlap",
            "network_name",
        ],
    );
    network(
        "odd",
        json!({"range": "10.31.0.0/24", "range_end": "10.32.0.9"}),
        &["the network default/odd cannot be read", "hereabouts config check"],
    );
    world.network_as("none", "{");
    refuses(&world, &["the network default/none cannot be read"]);
    world.cluster.text(&["delete", "net-attach-def", "none"]);

    // What cleans up for Whereabouts.
    let container = |words: &[&str]| json!([{"name": "w", "image": "none", "command": ["/bin/sh", "-c"], "args": words}]);
    let spec = json!({"nodeName": "n1", "containers": container(&["/install-cni.sh; /ip-control-loop -log-level debug"])});
    world.cluster.apply(&workload("Pod", "v1", "whereabouts-x", &spec));
    refuses(&world, &["pod default/whereabouts-x removes addresses", "delete pod/whereabouts-x"]);
    remove("pod", "whereabouts-x");
    let template =
        json!({"spec": {"restartPolicy": "Never", "containers": container(&["/ip-reconciler"])}});
    let job = json!({"schedule": "30 4 * * *", "jobTemplate": {"spec": {"template": template}}});
    world.cluster.apply(&workload("CronJob", "batch/v1", "ip-reconciler", &job));
    refuses(&world, &["CronJob default/ip-reconciler removes", "delete cronjob/ip-reconciler"]);
    remove("cronjob", "ip-reconciler");
    let labels = json!({"app": "w"});
    let spec = json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": container(&["run"])}}});
    world.cluster.apply(&workload("Deployment", "apps/v1", "whereabouts-reconciler", &spec));
    refuses(&world, &["Deployment default/whereabouts-reconciler", "--replicas=0"]);
    remove("deployment", "whereabouts-reconciler");

    // An entry that stands for no address.
    world.pool("10.20.0.0-24", "10.20.0.0/24", &[("18446463705355360228", "a")]);
    world.pod("a", "n1", "plain", "10.20.0.5");
    refuses(&world, &["IPPool kube-system/10.20.0.0-24 key 18446463705355360228: its offset"]);
    // To apply the pool without its entries would make them null (server-side apply).
    let without =
        json!([{"op": "remove", "path": "/spec/allocations/18446463705355360228"}]).to_string();
    let pool = "ippools.whereabouts.cni.cncf.io/10.20.0.0-24";
    world.cluster.text(&["patch", pool, "-n", "kube-system", "--type=json", "-p", &without]);
    world.cluster.text(&["delete", "pod", "a", "--force"]);
    world.run(&["move", "start"]).succeeded();
    assert_eq!(world.names("moves"), ["whereabouts"]);
}

#[test]
fn start_refuses_a_cluster_without_the_resources() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let sandbox = Sandbox::new();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let ended = sandbox.command(&["move", "start", "--kubeconfig", &kubeconfig]);
    assert_eq!(ended.status, Some(1));
    for words in [
        "the cluster does not have the resource ippools.whereabouts.cni.cncf.io",
        "the cluster does not have the resource overlappingrangeipreservations.whereabouts.cni.cncf.io",
        "2 things are missing",
    ] {
        assert!(ended.stderr.contains(words), "{words}: {ended:?}");
    }
    cluster.text(&["delete", "crd", "moves.hereabouts.dev"]);
    let ended = sandbox.command(&["move", "start", "--kubeconfig", &kubeconfig]);
    assert!(ended.stderr.contains("the resource moves.hereabouts.dev"), "{ended:?}");
    assert!(ended.stderr.contains("kubectl apply -k deploy/crd"), "{ended:?}");
}

/// Neither would see what the other has given.
#[test]
fn the_chart_refuses_networks_of_whereabouts_while_it_runs_and_no_move_has_begun() {
    let Some(world) = World::new() else { return };
    let pods = json!({
        "selector": {"matchLabels": {"app": "whereabouts"}},
        "template": {
            "metadata": {"labels": {"app": "whereabouts"}},
            "spec": {"containers": [{"name": "c", "image": "none"}]},
        },
    });
    world.cluster.apply(&workload("DaemonSet", "apps/v1", "whereabouts", &pods));
    let scheduled = |nodes: u32| {
        let status = json!({"status": {
            "desiredNumberScheduled": nodes, "currentNumberScheduled": nodes, "numberMisscheduled": 0, "numberReady": 0,
        }});
        let words =
            ["patch", "daemonset", "whereabouts", "--subresource=status", "--type=merge", "-p"];
        world.cluster.text(&[&words[..], &[&status.to_string()]].concat());
    };
    // Under another name, because the cluster has the plugin.
    let install = |values: &str| -> Result<(), String> {
        let output = tool("helm", "helm")?
            .args(["install", "x", "deploy/chart", "--namespace", "kube-system"])
            .args(["--dry-run=server", "--set", &format!("name=other,{values}")])
            .env("KUBECONFIG", world.cluster.kubeconfig())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    };
    scheduled(2);
    let refused = install("whereabouts=true").unwrap_err();
    if tool("helm", "helm").is_err() {
        return skipped!("{refused}");
    }
    for words in
        ["the DaemonSet default/whereabouts of Whereabouts runs", "\"hereabouts move start\""]
    {
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(install("whereabouts=false"), Ok(()), "other networks");
    super::set(&world.cluster, 1, "shared");
    assert_eq!(install("whereabouts=true,moving=true"), Ok(()), "a move");
    world.cluster.text(&["delete", "move", "whereabouts"]);
    scheduled(0);
    assert_eq!(install("whereabouts=true"), Ok(()), "it runs on no node");
}
