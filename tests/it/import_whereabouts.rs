//! `import whereabouts --dry-run`: a cluster in which the real Whereabouts has given addresses, and
//! one defect of each kind.

use crate::leaks::{Held, hold, make_node};
use crate::peers::whereabouts_built;
use crate::support::cluster::{Cluster, Options};
use crate::support::sandbox::{Call, Sandbox};
use crate::support::transcript::{Transcript, sandbox};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A cluster with the resources of Whereabouts and Multus, and with networks.
struct World {
    cluster: Cluster,
    sandbox: Sandbox,
    whereabouts: PathBuf,
}

/// The configuration of each network.
fn ipam(network: &str) -> Value {
    match network {
        "blue" => {
            json!({"range": "10.20.0.0/24", "network_name": "blue", "gateway": "10.20.0.1", "range_start": "10.20.0.10"})
        }
        "dual" => json!({"ipRanges": [{"range": "fd00:21::/64"}, {"range": "10.21.0.0/24"}]}),
        "wide" => json!({"range": "10.22.0.0/16"}),
        "narrow" => json!({"range": "10.22.0.0/24"}),
        "far" => json!({"range": "fd00:23::/64", "range_start": "fd00:23::ffff:0:0:1"}),
        other => panic!("{other}"),
    }
}

fn configuration(network: &str, flat: Option<&str>) -> String {
    let mut ipam = ipam(network);
    ipam["type"] = json!("whereabouts");
    if let Some(flat) = flat {
        ipam["configuration_path"] = json!(flat);
    }
    // `wide` has a name of its own, which a DEL carries.
    let name = if network == "wide" { "wide-area" } else { network };
    json!({"cniVersion": "1.0.0", "name": name, "type": "macvlan", "ipam": ipam}).to_string()
}

/// An interface of a pod, as Multus writes it.
fn interface(network: &str, name: &str, ips: &[String]) -> Value {
    json!({"name": format!("default/{network}"), "interface": name, "ips": ips, "mac": "02:00:00:00:00:01", "dns": {}})
}

impl World {
    fn new() -> Result<Self, String> {
        let tools = whereabouts_built()?;
        let cluster = Cluster::own(Options::default())?;
        let sandbox = sandbox();
        cluster.apply(include_str!("../../benches/cluster/whereabouts.yaml"));
        cluster.apply(include_str!("../data/peers/node-slices.yaml"));
        cluster.apply(include_str!("../data/kubernetes/network-attachment-definition.yaml"));
        for resource in [
            "network-attachment-definitions.k8s.cni.cncf.io",
            "nodeslicepools.whereabouts.cni.cncf.io",
            "overlappingrangeipreservations.whereabouts.cni.cncf.io",
        ] {
            let resource = format!("crd/{resource}");
            cluster.text(&["wait", "--for=condition=established", &resource]);
        }
        cluster.text(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"]);
        make_node(&cluster, "n1", "boot-1");
        make_node(&cluster, "n2", "boot-2");
        for network in ["blue", "dual", "wide", "narrow", "far"] {
            let object = json!({
                "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": network, "namespace": "default"},
                "spec": {"config": configuration(network, None)},
            });
            cluster.apply(&object.to_string());
        }
        // With its usual durations (about a second), a call on a busy machine loses its Lease.
        let flat = json!({
            "datastore": "kubernetes", "kubernetes": {"kubeconfig": cluster.kubeconfig()},
            "leader_lease_duration": 15_000, "leader_renew_deadline": 10_000,
        });
        sandbox.write("whereabouts.conf", &flat.to_string());
        Ok(Self { cluster, sandbox, whereabouts: tools.join("whereabouts") })
    }

    /// Lets the real Whereabouts give a pod an address. Returns the interface for its network-status.
    fn give(&self, pod: &str, network: &str, name: &str) -> Value {
        let flat = self.sandbox.root.join("whereabouts.conf");
        let mut call = Call::bare();
        call.set("CNI_COMMAND", "ADD")
            .set("CNI_CONTAINERID", format!("sandbox-of-{pod}"))
            .set("CNI_NETNS", "/var/run/netns/x")
            .set("CNI_IFNAME", name)
            .set("CNI_PATH", "/opt/cni/bin")
            .set(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"),
            )
            .stdin(configuration(network, flat.to_str()))
            .by(&self.whereabouts)
            .through(&["timeout", "60"]);
        interface(network, name, &call.run().addresses())
    }

    /// Creates a running pod with these interfaces.
    fn run(&self, pod: &str, node: &str, interfaces: &[Value]) {
        let mut status = vec![
            json!({"name": "cbr0", "interface": "eth0", "ips": ["10.244.1.5"], "default": true, "dns": {}}),
        ];
        status.extend_from_slice(interfaces);
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": "default", "annotations": {
                "k8s.v1.cni.cncf.io/network-status": serde_json::to_string_pretty(&status).unwrap(),
            }},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}]},
        });
        self.cluster.apply(&object.to_string());
        self.set_phase(pod, "Running");
    }

    fn set_phase(&self, pod: &str, phase: &str) {
        let patch = json!({"status": {"phase": phase}}).to_string();
        self.cluster.text(&[
            "patch",
            "pod",
            pod,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ]);
    }

    /// Adds entries to a pool. `null` removes one.
    fn patch_pool(&self, pool: &str, entries: &Value) {
        let patch = json!({"spec": {"allocations": entries}}).to_string();
        let pool = format!("ippools.whereabouts.cni.cncf.io/{pool}");
        self.cluster.text(&["patch", "-n", "kube-system", &pool, "--type=merge", "-p", &patch]);
    }

    fn apply_whereabouts(&self, kind: &str, name: &str, spec: &Value) {
        let object = json!({
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": "kube-system"}, "spec": spec,
        });
        self.cluster.apply(&object.to_string());
    }
}

#[test]
fn everything_that_whereabouts_has_given_is_found_and_each_defect_is_said() {
    let world = match World::new() {
        Ok(world) => world,
        Err(reason) => return skipped!("{reason}"),
    };
    let kubeconfig = world.cluster.kubeconfig().display().to_string();
    let import = ["import", "whereabouts", "--kubeconfig", &kubeconfig, "--dry-run"];
    let mut seen = Transcript::new(&world.sandbox);
    seen.replace(world.cluster.server(), "https://192.0.2.1:6443");
    seen.replace(world.cluster.directory().display().to_string(), "/cluster");
    seen.note("Whereabouts has given nothing yet");
    seen.run(&world.sandbox, &import);

    let two = [world.give("a", "blue", "net1"), world.give("a", "dual", "net2")];
    world.run("a", "n1", &two);
    world.run("b", "n2", &[world.give("b", "blue", "net1"), world.give("b", "narrow", "net2")]);
    world.run("c", "n2", &[world.give("c", "wide", "net1"), world.give("c", "far", "net2")]);
    world.run("d", "n1", &[world.give("d", "narrow", "net1")]);
    world.run("e", "n1", &[world.give("e", "wide", "net1")]);
    seen.note("five pods run");
    seen.run(&world.sandbox, &import);
    let ended = seen.run(&world.sandbox, &[&import[..], &["-o", "json"]].concat());
    let found = ended.document()["addresses"].as_array().unwrap().clone();
    // What the pods show is what would be recorded.
    assert_eq!((ended.status, found.len()), (Some(0), 9), "{found:?}");
    assert!(found.iter().all(|row| row["state"] == "new"), "{found:?}");

    seen.note("one defect of each kind");
    break_it(&world);
    let ended = seen.run(&world.sandbox, &import);
    assert_eq!(ended.status, Some(1));
    let ended = seen.run(&world.sandbox, &[&import[..], &["-o", "json"]].concat());
    assert_eq!(ended.status, Some(1));
    seen.note("the import, and again");
    for _ in 0..2 {
        let ended = seen.run(&world.sandbox, &import[..4]);
        assert_eq!(ended.status, Some(1));
    }
    seen.note("on a node, which has the sandboxes of none of them");
    let on_node = ["import", "whereabouts", "--dry-run", "--cache-dir", "/nowhere"];
    seen.run(&world.sandbox, &on_node);
    let nobody = world.cluster.kubeconfig_of("nobody").display().to_string();
    seen.run(&world.sandbox, &["import", "whereabouts", "--kubeconfig", &nobody, "--dry-run"]);
    seen.assert("import-whereabouts");
}

/// Makes one defect of each kind.
fn break_it(world: &World) {
    let entry = |pod: &str| json!({"id": format!("sandbox-of-{pod}"), "podref": format!("default/{pod}"), "ifname": "net1"});
    let net1 = |pod: &str, node: &str, network: &str, address: &str| {
        world.run(pod, node, &[interface(network, "net1", &[address.to_owned()])]);
    };
    world.patch_pool(
        "10.22.0.0-24",
        &json!({
            // Recorded already, and recorded for another pod.
            "30": {"id": "c1", "podref": "default/known", "ifname": "net1"},
            "31": entry("stranger"),
            // A pod that is gone, and one that has ended.
            "32": entry("gone"),
            "33": entry("ended"),
            // Versions before v0.8 wrote no interface.
            "34": {"id": "sandbox-of-old", "podref": "default/old"},
            "35": {"id": "sandbox-of-older", "podref": "older"},
            // The pod is on a node that is not there, has no network-status, or has another address.
            "36": entry("lost"),
            "37": entry("young"),
            "38": entry("moved"),
            // Two pools name it, for two pods.
            "39": entry("first"),
            // The network is gone.
            "40": entry("orphan"),
            // What no pool has room for.
            "18446463705355360228": entry("first"),
            "-3": entry("first"),
            "x": entry("gone"),
        }),
    );
    world.patch_pool("10.22.0.0-16", &json!({"39": entry("second"), "300": entry("outside")}));
    for (address, pod) in [("10.22.0.30", "known"), ("10.22.0.31", "another")] {
        let node = ["n1", "", "boot-1"];
        hold(&world.cluster, &Held { address, node, pod: [pod, "uid"] });
    }
    for (pod, node, network, address) in [
        ("known", "n1", "narrow", "10.22.0.30"),
        ("stranger", "n1", "narrow", "10.22.0.31"),
        ("ended", "n1", "narrow", "10.22.0.33"),
        ("old", "n1", "narrow", "10.22.0.34"),
        ("lost", "n9", "narrow", "10.22.0.36"),
        ("moved", "n1", "narrow", "10.22.0.98"),
        ("first", "n1", "narrow", "10.22.0.39"),
        ("second", "n1", "wide", "10.22.0.39"),
        ("orphan", "n1", "deleted", "10.22.0.40"),
        ("outside", "n1", "narrow", "10.22.1.44"),
        ("reserved", "n1", "narrow", "10.22.0.41"),
        ("unnoted", "n1", "narrow", "10.22.0.42"),
        ("sliced", "n1", "narrow", "10.24.0.5"),
    ] {
        net1(pod, node, network, address);
    }
    world.set_phase("ended", "Failed");
    world.run("young", "n1", &[]);
    let annotation = "k8s.v1.cni.cncf.io/network-status-";
    world.cluster.text(&["annotate", "pod", "young", annotation]);
    // Whereabouts' issue 712: an ADD has succeeded with the reservation alone.
    let kind = "OverlappingRangeIPReservation";
    world.apply_whereabouts(
        kind,
        "10.22.0.41",
        &json!({"podref": "default/reserved", "ifname": "net1"}),
    );
    world.apply_whereabouts(kind, "blue-10.20.0.77", &json!({"podref": "default/gone"}));
    // The slice of a node, with its NodeSlicePool and without.
    let spec = |range: &str| json!({"range": range, "allocations": {"5": entry("sliced")}});
    world.apply_whereabouts("IPPool", "n1-10.24.0.0-24", &spec("10.24.0.0/24"));
    world.apply_whereabouts("IPPool", "n2-10.25.0.0-24", &spec("10.25.0.0/24"));
    let slices = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "NodeSlicePool",
        "metadata": {"name": "cut", "namespace": "kube-system"},
        "spec": {"range": "10.24.0.0/16", "sliceSize": "/24"},
        "status": {"allocations": [{"nodeName": "n1", "sliceRange": "10.24.0.0/24"}]},
    });
    world.cluster.apply(&slices.to_string());
}
