//! Pools with slices, on a real API server: a node claims a block, and gives the addresses in it
//! without a request.

use crate::support::cluster::{Cluster, Options};
use crate::support::nodes::{DEADLINES, Node, own_name};
use crate::support::proxy::Proxy;
use crate::support::sandbox::{Call, Ended, configuration};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A node that was cut off.
mod contact;
/// Slices whose owner was interrupted or refused.
mod cut_short;
/// The example of docs/slices.md.
mod example;
/// Which addresses pods get, and what that costs.
mod giving;
/// Calls that are killed.
mod kills;
/// Networks that are cut by node_slice_size.
mod networks;
/// Pools whose ranges overlap.
mod overlapping;
/// Which node owns a slice after a reboot, a lost disk, a copy of a disk, and a restored cluster.
mod owning;
/// What nodes publish about the addresses in their slices.
mod published;
/// Slices whose objects are those of an older state of the cluster.
mod restored;
/// How slices are given back.
mod returning;
/// The DaemonSet's look each minute, and nodes that are off.
mod review;
/// What the plugin's token can do.
mod rights;

/// A pool with slices or a network that is cut into slices, and nodes.
struct Slices {
    cluster: &'static Cluster,
    /// The name in the objects.
    pool: String,
    /// `node_slice_size`, for a network.
    size: &'static str,
}

/// The boot of a node, as its kernel names it.
const BOOTS: [&str; 3] = [
    "11111111-1111-4111-8111-111111111111",
    "22222222-2222-4222-8222-222222222222",
    "33333333-3333-4333-8333-333333333333",
];

fn shared() -> Option<&'static Cluster> {
    static SHARED: LazyLock<Result<Cluster, String>> =
        LazyLock::new(|| Cluster::own(Options::default()));
    SHARED.as_ref().map_err(|reason| skipped!("{reason}")).ok()
}

impl Slices {
    /// Writes a pool of /28 slices in a range that no other test uses.
    fn new(range: &str) -> Option<Self> {
        Self::with(
            &json!({"ranges": [{"ipv4": range}], "slices": {"ipv4": {"perNodeMaskSize": 28}}}),
        )
    }

    fn with(spec: &Value) -> Option<Self> {
        let slices = Self::of(shared()?, own_name("sliced"));
        slices.write(spec);
        Some(slices)
    }

    fn of(cluster: &'static Cluster, pool: String) -> Self {
        Self { cluster, pool, size: "" }
    }

    /// Returns a network that is cut into slices of this size.
    fn of_network(range: &str, size: &'static str) -> Option<Self> {
        let pool = format!("{range}:{}", own_name("sliced"));
        Some(Self { cluster: shared()?, pool, size })
    }

    /// Returns the same network, cut in another way.
    fn cut(&self, size: &'static str) -> Self {
        Self { cluster: self.cluster, pool: self.pool.clone(), size }
    }

    fn ipam(&self) -> String {
        match self.pool.split_once(':') {
            None => format!(r#""pool":"{}""#, self.pool),
            Some((range, name)) => {
                format!(
                    r#""range":"{range}","network_name":"{name}","node_slice_size":"{}""#,
                    self.size
                )
            }
        }
    }

    fn write(&self, spec: &Value) {
        self.cluster.apply(&self.manifest(spec).to_string());
    }

    fn manifest(&self, spec: &Value) -> Value {
        json!({"apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": self.pool}, "spec": spec})
    }

    fn node(&self, name: &str) -> Node {
        Node::new(&format!("{}-{name}", self.prefix()), "", &self.cluster.kubeconfig())
    }

    /// Returns what the names of the nodes begin with.
    fn prefix(&self) -> &str {
        self.pool.split_once(':').map_or(&self.pool, |(_, name)| name)
    }

    fn call(&self, node: &Node, verb: &str, container: &str) -> Call {
        let mut call = node.call(verb, container);
        call.stdin(configuration(&self.ipam()));
        call
    }

    fn add(&self, node: &Node, container: &str) -> Ended {
        self.call(node, "ADD", container).run()
    }

    fn del(&self, node: &Node, container: &str) {
        self.call(node, "DEL", container).run().succeeded();
    }

    /// Returns a call in another boot.
    fn call_in(&self, boot: usize, node: &Node, verb: &str, container: &str) -> Call {
        let mut call = self.call(node, verb, container);
        in_boot(boot, node, &mut call);
        call
    }

    /// Returns the slices of the pool, as block and node.
    fn owners(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let owner = |spec: &Value| {
            let node = text(&spec["node"]);
            let node = node.strip_prefix(&format!("{}-", self.prefix())).unwrap_or(&node);
            format!("{} {node}", text(&spec["ipv4"]))
        };
        let mut owners: Vec<String> = self.objects().iter().map(|of| owner(&of["spec"])).collect();
        owners.sort();
        owners
    }

    fn objects(&self) -> Vec<Value> {
        let list = self.cluster.text(&["get", "ipslices.hereabouts.dev", "-o", "json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let of_pool = |object: &&Value| object["spec"]["pool"] == json!(self.pool);
        list["items"].as_array().unwrap().iter().filter(of_pool).cloned().collect()
    }

    /// Returns the number of IPAllocations in the scope of the pool.
    fn single_objects(&self) -> usize {
        let held = self.cluster.text(&["get", "ipallocations.hereabouts.dev", "-o", "name"]);
        held.lines().filter(|line| line.contains(&self.pool)).count()
    }
}

/// Lets a call run in another boot of its node.
fn in_boot(boot: usize, node: &Node, call: &mut Call) {
    let file = node.sandbox.write(&format!("boot-{boot}"), &format!("{}\n", BOOTS[boot]));
    call.seeing("/proc/sys/kernel/random/boot_id", &file);
}

/// Returns a proxy before the API server of a node.
fn proxy(slices: &Slices, node: &Node) -> Proxy {
    let proxy = Proxy::new(slices.cluster);
    node.configure(&proxy.kubeconfig(&node.sandbox.root), DEADLINES);
    proxy
}

/// Returns the requests that a proxy has seen since the last time, as method and resource.
fn seen(proxy: &Proxy) -> Vec<String> {
    let word = |path: &str| {
        let path = path.split('?').next().unwrap_or_default();
        let resource = path.split('/').nth(4).unwrap_or_default();
        resource.to_owned()
    };
    proxy.seen().iter().map(|seen| format!("{} {}", seen.method, word(&seen.path))).collect()
}
