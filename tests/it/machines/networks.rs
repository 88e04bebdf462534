//! Networks with ranges that pools share: NetworkAttachmentDefinitions.

use super::pools::{condition, events};
use super::{Controller, Machines, own};
use crate::support::cluster::Cluster;
use crate::support::controller::Replica;
use crate::support::sandbox::Sandbox;
use serde_json::{Value, json};

/// The definition of the resource, as Multus installs it.
const RESOURCE: &str = include_str!("../../data/kubernetes/network-attachment-definition.yaml");

fn install(cluster: &Cluster) {
    cluster.apply(RESOURCE);
    let crd = "crd/network-attachment-definitions.k8s.cni.cncf.io";
    cluster.text(&["wait", "--for=condition=established", crd]);
}

fn definition(machines: &Machines<'_>, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": machines.namespace}, "spec": spec,
    })
}

fn network(machines: &Machines<'_>, name: &str, ipam: &Value) -> Value {
    let config = json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "eth0", "ipam": ipam});
    definition(machines, name, &json!({"config": config.to_string()}))
}

fn pool(machines: &Machines<'_>, name: &str, scope: &str) {
    let spec = json!({"scope": scope, "subnets": [{"subnet": "10.48.0.0/24"}]});
    machines.write("IPPool", name, &spec);
}

fn overlapping(machines: &Machines<'_>, pool: &str) -> String {
    condition(machines, pool, "Overlapping")
}

fn has_read_the_pool(machines: &Machines<'_>, pool: &str) {
    machines.until(&true, |machines| overlapping(machines, pool).starts_with("False None"));
}

#[test]
fn a_pool_with_addresses_of_a_network_names_it() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    let _controller = Controller::start(&cluster);
    pool(&machines, "blue", "wire");
    has_read_the_pool(&machines, "blue");
    // Multus is installed later.
    let log = std::fs::read_to_string(cluster.directory().join("controller.log")).unwrap();
    assert!(!log.contains("cannot watch Networks"), "{log}");
    install(&cluster);
    let write = |ipam: &Value| cluster.apply(&network(&machines, "net1", ipam).to_string());
    let ipam = json!({"type": "hereabouts", "range": "10.48.0.128/25", "network_name": "wire"});
    write(&ipam);
    let named = format!("also in network {}/net1", machines.namespace);
    let same = format!(
        "True NetworkRange: {named}: 10.48.0.129-10.48.0.254; an address has one holder, because the scope is the same, and what the network holds counts in the numbers of the pool"
    );
    machines.until(&same, |machines| overlapping(machines, "blue"));
    machines.until(&true, |machines| {
        let told = events(machines, "default", "blue");
        told.iter().any(|text| text.starts_with(&format!("Normal Overlapping: {named}")))
    });
    // In another scope, the same address may be given twice.
    write(&json!({"type": "hereabouts", "range": "10.48.0.128/25"}));
    let other =
        format!("True OtherScope: {named} (unnamed scope): 10.48.0.129-10.48.0.254; on one");
    machines.until(&true, |machines| overlapping(machines, "blue").starts_with(&other));
    machines.until(&true, |machines| {
        let told = events(machines, "default", "blue");
        told.iter().any(|text| text.starts_with(&format!("Warning Overlapping: {named}")))
    });
    // A network with a mistake gives nothing.
    write(&json!({"type": "hereabouts", "range": "10.48.0.128/33"}));
    has_read_the_pool(&machines, "blue");
    write(&ipam);
    machines.until(&same, |machines| overlapping(machines, "blue"));
    machines.kubectl(&["delete", "network-attachment-definitions", "net1"]);
    has_read_the_pool(&machines, "blue");
}

/// Everybody with rights in a namespace may write networks.
#[test]
fn networks_of_any_size_and_shape_do_not_hide_the_others() {
    // In MiB. A list of all at once would take more.
    const MEMORY: u64 = 88;
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    install(&cluster);
    let sandbox = Sandbox::new();
    let exclude = |count: u32| -> Vec<String> {
        (0..count)
            .map(|at| format!("10.{}.{}.{}/32", at >> 15, at >> 7 & 255, at << 1 & 255))
            .collect()
    };
    let mut objects = vec![
        definition(&machines, "nothing", &json!({})),
        definition(&machines, "empty", &json!({"config": ""})),
        definition(&machines, "broken", &json!({"config": "{\"ipam\": {"})),
        definition(&machines, "list", &json!({"config": "[".repeat(100_000)})),
        network(&machines, "text", &json!("hereabouts")),
    ];
    // As large as the API server takes, with and without more values than the plugin reads.
    for at in 0..30 {
        let many = exclude(if at % 2 == 0 { 49_000 } else { 60_000 });
        let ipam = json!({"type": "hereabouts", "range": "10.0.0.0/8", "exclude": many});
        let mut config = json!({"type": "macvlan", "ipam": ipam});
        let length = json!(config.to_string()).to_string().len();
        config["name"] = json!("x".repeat(1_500_000 - length));
        let config = config.to_string();
        objects.push(definition(&machines, &format!("large-{at:02}"), &json!({"config": config})));
    }
    let ipam = json!({"type": "hereabouts", "range": "10.48.0.0/24", "network_name": "z"});
    objects.push(network(&machines, "usual", &ipam));
    for object in &objects {
        let file = sandbox.write("network.json", &object.to_string());
        machines.cluster.text(&["create", "-f", file.to_str().unwrap()]);
    }
    pool(&machines, "blue", "z");
    let controller = Replica::start(&sandbox, &cluster.kubeconfig(), &[]);
    let names: Vec<String> = (0..7)
        .map(|at| {
            format!(
                "network {}/large-{:02} (unnamed scope): 10.48.0.1-10.48.0.254",
                machines.namespace,
                at * 2
            )
        })
        .collect();
    let told = format!("True OtherScope: also in {}, ", names.join(", "));
    machines.until(&true, |machines| {
        let text = overlapping(machines, "blue");
        text.starts_with(&told) && text.contains(", 8 more; ")
    });
    let memory = controller.peak_memory();
    println!("{memory} MiB");
    assert!(memory < MEMORY, "{memory} MiB");
}
