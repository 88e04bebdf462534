//! `validate dual-stack`: nodes, pods, services and secondary networks of a real API server.

use crate::support::cluster::{Cluster, Options};
use crate::support::sandbox::{Ended, Sandbox};
use crate::support::transcript::assert_file;
use serde_json::{Value, json};

/// The definition of the resource, as Multus installs it.
const RESOURCE: &str = include_str!("../data/kubernetes/network-attachment-definition.yaml");

fn validate(sandbox: &Sandbox, cluster: &Cluster, options: &[&str]) -> Ended {
    let kubeconfig = cluster.kubeconfig();
    let all = [&["validate", "dual-stack", "--kubeconfig", kubeconfig.to_str().unwrap()], options];
    sandbox.command(&all.concat())
}

fn set_status(cluster: &Cluster, kind: &str, name: &str, status: &Value) {
    let patch = json!({"status": status}).to_string();
    cluster.text(&["patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch]);
}

/// Creates a node with these blocks and internal addresses.
fn make_node(cluster: &Cluster, name: &str, blocks: &[&str], internal: &[&str]) {
    cluster.apply(
        &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"podCIDR": blocks.first(), "podCIDRs": blocks}})
        .to_string(),
    );
    let addresses: Vec<Value> =
        internal.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    set_status(cluster, "node", name, &json!({"addresses": addresses}));
}

/// Creates a pod, which runs if it has addresses. `interfaces` is its network-status.
fn make_pod(cluster: &Cluster, name: &str, spec: &Value, ips: &[&str], interfaces: &Value) {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "none"}]}});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    if !interfaces.is_null() {
        let status = match interfaces {
            Value::String(text) => text.clone(),
            list => list.to_string(),
        };
        pod["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/network-status": status});
    }
    cluster.apply(&pod.to_string());
    if let Some(first) = ips.first() {
        let all: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        let status = json!({"phase": "Running", "podIP": first, "podIPs": all});
        set_status(cluster, "pod", name, &status);
    }
}

fn make_service(cluster: &Cluster, name: &str, spec: &Value) {
    let mut service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": name}}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    cluster.apply(&service.to_string());
}

fn make_network(cluster: &Cluster, name: &str, ipam: &Value) {
    let config = json!({"cniVersion": "1.0.0", "type": "macvlan", "ipam": ipam}).to_string();
    cluster.apply(
        &json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"config": config}})
        .to_string(),
    );
}

/// The API server creates its own service soon after it has started.
fn wait_for_service(cluster: &Cluster) {
    cluster.text(&["wait", "--for=create", "service/kubernetes", "--timeout=60s"]);
}

fn install_networks(cluster: &Cluster) {
    cluster.apply(RESOURCE);
    cluster.text(&[
        "wait",
        "--for=condition=established",
        "crd/network-attachment-definitions.k8s.cni.cncf.io",
    ]);
}

#[test]
fn every_gap_of_a_cluster_is_named() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let sandbox = Sandbox::new();
    wait_for_service(&cluster);
    install_networks(&cluster);
    let both = json!({"type": "hereabouts", "ipRanges": [{"range": "192.0.2.0/24"}, {"range": "fd00:2::/64"}]});
    make_network(&cluster, "dual", &both);
    make_network(
        &cluster,
        "preferred",
        &json!({"type": "whereabouts", "range": "192.0.2.0/24", "ipFamilyPolicy": "PreferDualStack"}),
    );
    make_network(&cluster, "single", &json!({"type": "hereabouts", "range": "198.51.100.0/24"}));
    make_network(&cluster, "wrong", &json!({"type": "hereabouts", "range": "198.51.100.0/33"}));
    make_network(&cluster, "other", &json!({"type": "host-local", "subnet": "198.51.100.0/24"}));
    make_node(
        &cluster,
        "n1",
        &["10.244.1.0/24", "fd00:10:244:1::/64"],
        &["192.0.2.11", "fd00:9::11"],
    );
    make_node(&cluster, "n2", &["10.244.2.0/24"], &["192.0.2.12"]);
    make_node(&cluster, "n3", &[], &[]);
    let (v4, v6) = ("10.244.1.5", "fd00:10:244:1::5");
    let none = Value::Null;
    make_pod(&cluster, "both", &json!({}), &[v4, v6], &none);
    make_pod(&cluster, "starting", &json!({}), &[], &none);
    make_pod(&cluster, "v4-only", &json!({}), &[v4], &none);
    make_pod(&cluster, "v6-only", &json!({}), &[v6], &none);
    let on_host = |node: &str| json!({"nodeName": node, "hostNetwork": true});
    make_pod(&cluster, "host-of-n1", &on_host("n1"), &["192.0.2.11"], &none);
    make_pod(&cluster, "host-of-n2", &on_host("n2"), &["192.0.2.12"], &none);
    let interface = |name: &str, network: &str, ips: &[&str]| json!({"name": network, "interface": name, "ips": ips});
    let interfaces = json!([
        interface("eth0", "cbr0", &[v4]),
        interface("net1", "default/dual", &["192.0.2.20", "fd00:2::20"]),
        interface("net2", "default/dual", &["192.0.2.21"]),
        interface("net3", "default/preferred", &["192.0.2.22"]),
        interface("net4", "default/single", &["198.51.100.20"]),
        interface("net5", "default/other", &["198.51.100.21"]),
        json!({"name": "default/dual", "interface": "net6"}),
    ]);
    make_pod(&cluster, "web", &json!({}), &[v4, v6], &interfaces);
    make_pod(&cluster, "with-odd-status", &json!({}), &[v4, v6], &json!("x"));
    make_service(
        &cluster,
        "preferred",
        &json!({"clusterIP": "10.96.0.10", "ipFamilyPolicy": "PreferDualStack"}),
    );
    make_service(&cluster, "single", &json!({"clusterIP": "10.96.0.11"}));
    make_service(
        &cluster,
        "headless",
        &json!({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}),
    );
    make_service(
        &cluster,
        "elsewhere",
        &json!({"type": "ExternalName", "externalName": "example.com"}),
    );
    let ended = validate(&sandbox, &cluster, &[]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let text = format!(
        "$ hereabouts validate dual-stack --kubeconfig FILE\n{}{}",
        ended.stdout, ended.stderr
    );
    assert_file("outputs/validate-dual-stack.txt", &text);
    let ended = validate(&sandbox, &cluster, &["-o", "json"]);
    assert_eq!((ended.status, &*ended.stderr), (Some(1), "error: 12 gaps found\n"));
    let rows: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    let gaps = rows.iter().filter(|row| row["verdict"] == "gap").count();
    assert_eq!(gaps, 12, "{rows:?}");
    let net2 = rows.iter().find(|row| row["what"] == "net2 in default/dual").unwrap();
    assert_eq!(
        *net2,
        json!({"kind": "Pod", "namespace": "default", "name": "web", "what": "net2 in default/dual",
            "ipv4": ["192.0.2.21"], "ipv6": [], "verdict": "gap", "reason": "no IPv6 address"})
    );
    // Without the rights.
    let poor = sandbox.write("poor.conf", &cluster.kubeconfig_with(&cluster.node_token("n9")));
    let ended =
        sandbox.command(&["validate", "dual-stack", "--kubeconfig", poor.to_str().unwrap()]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let hint = "the right to list network-attachment-definitions.k8s.cni.cncf.io in all namespaces";
    assert!(ended.stderr.contains(hint), "{ended:?}");
    assert_eq!(sandbox.command(&["validate", "dual-stack"]).status, Some(2));
}

#[test]
fn a_dual_stack_cluster_has_no_gap() {
    let service_cidrs = Some("10.96.0.0/16,fd00:96::/108".to_owned());
    let cluster = match Cluster::own(Options { service_cidrs, ..Options::default() }) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let sandbox = Sandbox::new();
    wait_for_service(&cluster);
    make_node(
        &cluster,
        "n1",
        &["10.244.1.0/24", "fd00:10:244:1::/64"],
        &["192.0.2.11", "fd00:9::11"],
    );
    make_pod(&cluster, "web", &json!({}), &["10.244.1.5", "fd00:10:244:1::5"], &Value::Null);
    let ips =
        |first: &str, second: &str| json!({"clusterIP": first, "clusterIPs": [first, second]});
    let mut required = ips("fd00:96::10", "10.96.0.10");
    required["ipFamilyPolicy"] = "RequireDualStack".into();
    required["ipFamilies"] = json!(["IPv6", "IPv4"]);
    make_service(&cluster, "required", &required);
    let mut preferred = ips("10.96.0.11", "fd00:96::11");
    preferred["ipFamilyPolicy"] = "PreferDualStack".into();
    make_service(&cluster, "preferred", &preferred);
    let headless = json!({"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack"});
    make_service(&cluster, "headless", &headless);
    // Without Multus, there are no secondary networks.
    let ended = validate(&sandbox, &cluster, &[]);
    let text =
        format!("$ hereabouts validate dual-stack --kubeconfig FILE\n{}", ended.succeeded().stdout);
    assert_file("outputs/validate-dual-stack-without-gaps.txt", &text);
    let rows: Vec<Value> =
        serde_json::from_str(&validate(&sandbox, &cluster, &["-o", "json"]).succeeded().stdout)
            .unwrap();
    assert_eq!(rows.len(), 7, "{rows:?}");
}
