//! Fills a cluster with what Whereabouts and Multus leave in it: networks, pools with their entries,
//! reservations, and pods that know their addresses.

use crate::options::Options;
use crate::server::{Server, THEIR_POOLS, THEIR_RESERVATIONS};
use anyhow::Result;
use serde_json::{Map, Value, json};

const NODES: usize = 50;

/// Creates all of it.
///
/// # Errors
/// Fails if the server does not accept an object.
pub(crate) fn fill(options: &Options, server: &Server) -> Result<()> {
    server.apply(&["-f".as_ref(), options.networks.as_os_str()])?;
    let pools = options.pools;
    server.create_all("/api/v1/nodes", 0..NODES, &|number| Ok(node(number)))?;
    let networks = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions";
    server.create_all(networks, 0..pools, &|number| Ok(network(number)))?;
    server.create_all("/api/v1/namespaces/default/pods", 0..options.held, &|index| {
        Ok(pod(index, pools))
    })?;
    server
        .create_all(THEIR_RESERVATIONS, 0..options.held, &|index| Ok(reservation(index, pools)))?;
    server
        .create_all(THEIR_POOLS, 0..pools, &|number| Ok(pool(number, pools, options.held)))
        .map(drop)
}

fn node(index: usize) -> Value {
    json!({
        "metadata": {"name": format!("n{index}")},
        "status": {"nodeInfo": {
            "bootID": format!("{index:08x}-1111-4111-8111-111111111111"),
            "machineID": "", "systemUUID": "", "kernelVersion": "", "osImage": "",
            "containerRuntimeVersion": "", "kubeletVersion": "", "kubeProxyVersion": "",
            "operatingSystem": "", "architecture": "",
        }},
    })
}

fn range(number: usize) -> String {
    format!("10.{number}.0.0/16")
}

fn network(number: usize) -> Value {
    let configuration = json!({
        "cniVersion": "1.0.0", "name": format!("net{number}"), "type": "macvlan",
        "ipam": {"type": "whereabouts", "range": range(number)},
    });
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": format!("net{number}")},
        "spec": {"config": configuration.to_string()},
    })
}

/// Returns the address of a pod, without its network's first 16 bits, counted from 1.
fn offset(index: usize, pools: usize) -> usize {
    index / pools + 1
}

fn address(index: usize, pools: usize) -> String {
    let offset = offset(index, pools);
    format!("10.{}.{}.{}", index % pools, offset / 256, offset % 256)
}

fn pod(index: usize, pools: usize) -> Value {
    let status = json!([
        {"name": "cbr0", "interface": "eth0", "ips": ["10.244.0.5"], "default": true, "dns": {}},
        {"name": format!("default/net{}", index % pools), "interface": "net1", "ips": [address(index, pools)], "dns": {}},
    ]);
    json!({
        "metadata": {
            "name": format!("pod-{index}"),
            "annotations": {
                "k8s.v1.cni.cncf.io/networks": format!("net{}", index % pools),
                "k8s.v1.cni.cncf.io/network-status": status.to_string(),
            },
        },
        "spec": {"nodeName": format!("n{}", index % NODES), "containers": [{"name": "c", "image": "none"}]},
    })
}

/// Returns what Whereabouts notes about a pod's address, in both kinds of its objects.
fn held(index: usize) -> (String, String) {
    (format!("{index:064x}"), format!("default/pod-{index}"))
}

fn reservation(index: usize, pools: usize) -> Value {
    let (container, pod) = held(index);
    json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "OverlappingRangeIPReservation",
        "metadata": {"name": address(index, pools)},
        "spec": {"containerid": container, "podref": pod, "ifname": "net1"},
    })
}

fn pool(number: usize, pools: usize, all: usize) -> Value {
    let entry = |index: usize| {
        let (container, pod) = held(index);
        let entry = json!({"id": container, "podref": pod, "ifname": "net1"});
        (offset(index, pools).to_string(), entry)
    };
    let entries: Map<String, Value> = (number..all).step_by(pools).map(entry).collect();
    json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool",
        "metadata": {"name": format!("10.{number}.0.0-16")},
        "spec": {"range": range(number), "allocations": entries},
    })
}
