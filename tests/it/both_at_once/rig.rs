//! A cluster that moves from Whereabouts: its resources, the real Whereabouts, and a Move in the state
//! `shared`.

use crate::peers::whereabouts_built;
use crate::support::cluster::{Cluster, Options};
use crate::support::nodes::{Node, objects};
use crate::support::proxy::Proxy;
use crate::support::sandbox::{Call, configuration};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Where Whereabouts has its objects.
pub(super) const HOME: &str = "kube-system";
const GROUP: &str = "whereabouts.cni.cncf.io";

pub(super) struct World {
    pub(super) cluster: Cluster,
    whereabouts: PathBuf,
    flat: PathBuf,
}

/// Returns the cluster of these tests. Each test has its own scope in it.
pub(super) fn world() -> Option<&'static World> {
    static WORLD: LazyLock<Result<World, String>> = LazyLock::new(World::new);
    match &*WORLD {
        Ok(world) => Some(world),
        Err(reason) => {
            skipped!("{reason}");
            None
        }
    }
}

impl World {
    /// Returns a cluster of a test's own.
    pub(super) fn new() -> Result<Self, String> {
        let whereabouts = whereabouts_built()?.join("whereabouts");
        let cluster = Cluster::own(Options::default())?;
        crate::kube_faults::install(&cluster);
        cluster.apply(include_str!("../../../benches/cluster/whereabouts.yaml"));
        for resource in [
            "ippools.whereabouts.cni.cncf.io",
            "overlappingrangeipreservations.whereabouts.cni.cncf.io",
            "moves.hereabouts.dev",
        ] {
            cluster.text(&["wait", "--for=condition=Established", &format!("crd/{resource}")]);
        }
        let shared = json!({
            "apiVersion": "hereabouts.dev/v1alpha1", "kind": "Move", "metadata": {"name": "whereabouts"},
            "spec": {"state": "shared", "generation": 1, "since": "2026-11-30T10:00:00Z"},
        });
        cluster.apply(&shared.to_string());
        // With its usual durations (about a second), a call on a busy machine loses its Lease.
        let flat = json!({
            "datastore": "kubernetes", "kubernetes": {"kubeconfig": cluster.kubeconfig()},
            "leader_lease_duration": 15_000, "leader_renew_deadline": 10_000,
        });
        let path = cluster.directory().join("whereabouts.conf");
        std::fs::write(&path, flat.to_string()).unwrap();
        Ok(Self { cluster, whereabouts, flat: path })
    }

    /// Returns a call of the real Whereabouts. Its pod has the container's name up to the first `_`.
    pub(super) fn whereabouts(
        &self,
        verb: &str,
        container: &str,
        scope: &str,
        ranges: &[&str],
    ) -> Call {
        let pod = container.split('_').next().unwrap();
        let ranges: Vec<Value> = ranges.iter().map(|range| json!({"range": range})).collect();
        let mut ipam = json!({
            "type": "whereabouts", "ipRanges": ranges, "network_name": scope,
            "configuration_path": self.flat,
        });
        if scope.is_empty() {
            ipam.as_object_mut().unwrap().remove("network_name");
        }
        let stdin = json!({"cniVersion": "1.0.0", "name": "net1", "type": "macvlan", "ipam": ipam});
        let mut call = Call::bare();
        call.set("CNI_COMMAND", verb)
            .set("CNI_CONTAINERID", container)
            .set("CNI_NETNS", "/var/run/netns/x")
            .set("CNI_IFNAME", "net1")
            .set("CNI_PATH", "/opt/cni/bin")
            .set(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"),
            )
            .stdin(stdin.to_string())
            .by(&self.whereabouts)
            .through(&["timeout", "100"]);
        call
    }

    /// Returns the items of a resource of Whereabouts whose names begin with the scope.
    fn items(&self, resource: &str, scope: &str) -> Vec<Value> {
        let path = format!("/apis/{GROUP}/v1alpha1/{resource}");
        let list: Value =
            serde_json::from_str(&self.cluster.text(&["get", "--raw", &path])).unwrap();
        let mut items = list["items"].as_array().unwrap().clone();
        let prefix = format!("{scope}-");
        items.retain(|item| item["metadata"]["name"].as_str().unwrap().starts_with(&prefix));
        items
    }

    /// Returns the entries in the pools of a scope: container ID and interface, by the range and the
    /// offset.
    pub(super) fn entries(&self, scope: &str) -> BTreeMap<(String, String), (String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut entries = BTreeMap::new();
        for pool in self.items("ippools", scope) {
            for (key, value) in pool["spec"]["allocations"].as_object().unwrap() {
                let place = (text(&pool["spec"]["range"]), key.clone());
                entries.insert(place, (text(&value["id"]), text(&value["ifname"])));
            }
        }
        entries
    }

    /// Returns the reservations of a scope: container ID and interface, by the address.
    pub(super) fn reservations(&self, scope: &str) -> BTreeMap<String, (String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = self.items("overlappingrangeipreservations", scope).into_iter();
        let pair = |item: Value| {
            let name = text(&item["metadata"]["name"]);
            let address = name.strip_prefix(&format!("{scope}-")).unwrap().to_owned();
            (address, (text(&item["spec"]["containerid"]), text(&item["spec"]["ifname"])))
        };
        items.map(pair).collect()
    }

    /// Checks that Whereabouts sees each record of a scope, and nothing else of ours. The ranges are
    /// IPv4 and end with `.0`.
    pub(super) fn assert_shown(&self, scope: &str, when: &str) {
        let records = objects(&self.cluster).into_iter();
        let records = records.filter(|object| object["spec"]["scope"] == scope);
        let records: BTreeMap<String, String> = records
            .map(|object| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (text(&object["spec"]["address"]), text(&object["metadata"]["uid"]))
            })
            .collect();
        let ours =
            |(uid, ifname): &(String, String)| ifname.ends_with("/hereabouts").then(|| uid.clone());
        let mut entries = BTreeMap::new();
        for ((range, key), value) in self.entries(scope) {
            let (base, _) = range.split_once(".0/").unwrap();
            entries.extend(ours(&value).map(|uid| (format!("{base}.{key}"), uid)));
        }
        assert_eq!(entries, records, "entries, and records: {when}");
        let reservations = self.reservations(scope).into_iter();
        let reservations: BTreeMap<String, String> = reservations
            .filter_map(|(address, value)| ours(&value).map(|uid| (address, uid)))
            .collect();
        assert_eq!(reservations, records, "reservations, and records: {when}");
    }

    pub(super) fn assert_nothing(&self, scope: &str, when: &str) {
        assert_eq!(self.entries(scope), BTreeMap::new(), "{when}");
        assert_eq!(self.reservations(scope), BTreeMap::new(), "{when}");
        let held = crate::support::nodes::holders(&self.cluster, scope);
        assert_eq!(held, BTreeMap::new(), "{when}");
    }

    /// Creates a pool as Whereabouts does for a range, or replaces it.
    pub(super) fn put_pool(&self, scope: &str, range: &str, entries: &Value) {
        self.apply(
            "IPPool",
            &pool_name(scope, range),
            &json!({"range": range, "allocations": entries}),
        );
    }

    pub(super) fn apply(&self, kind: &str, name: &str, spec: &Value) {
        let object = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind,
            "metadata": {"name": name, "namespace": HOME}, "spec": spec,
        });
        self.cluster.apply(&object.to_string());
    }

    /// Returns a node of hereabouts that has made its first call.
    pub(super) fn plain_node(&self, name: &str, scope: &str) -> Node {
        let node = Node::new(name, scope, std::path::Path::new("/"));
        node.configure(&self.cluster.kubeconfig(), DEADLINES);
        node.del("nobody").succeeded();
        node
    }

    /// Returns a node of hereabouts behind a proxy, which has made its first call.
    pub(super) fn node(&self, name: &str, scope: &str) -> (Node, Proxy) {
        let proxy = Proxy::new(&self.cluster);
        let node = Node::new(name, scope, std::path::Path::new("/"));
        node.configure(&proxy.kubeconfig(&node.sandbox.root), DEADLINES);
        node.del("nobody").succeeded();
        proxy.seen();
        (node, proxy)
    }
}

/// Long enough for a busy machine, whose Lease others hold.
pub(super) const DEADLINES: &str = r#"{"add":"60s","del":"60s","gc":"60s"}"#;

pub(super) fn pool_name(scope: &str, range: &str) -> String {
    format!("{scope}-{}", range.replace([':', '/'], "-"))
}

/// Returns a call of ours in several ranges.
pub(super) fn call_in(node: &Node, verb: &str, container: &str, ranges: &[&str]) -> Call {
    let mut call = node.call(verb, container);
    let ranges: Vec<Value> = ranges.iter().map(|range| json!({"range": range})).collect();
    let ranges = Value::from(ranges);
    call.stdin(configuration(&format!(r#""ipRanges":{ranges},"network_name":"{}""#, node.scope)));
    call
}
