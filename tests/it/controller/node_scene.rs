//! Nodes that are off, on a real API server, and a replica that leads without its process. The time
//! of its looks is that of the test.

use crate::leaks::{Held, hold, make_node};
use crate::support::cluster::Cluster;
use crate::support::nodes::own_name;
use hereabouts::controller::client;
use hereabouts::controller::deleted_nodes::DeletedNodes;
use hereabouts::controller::metrics::Metrics;
use hereabouts::controller::off_nodes::OffNodes;
use hereabouts::controller::requests::Requests;
use hereabouts::controller::shapes::AllocationObject;
use hereabouts::controller::state::{Kind, Name, State};
use hereabouts::controller::watches;
use hereabouts::controller::work::Controller;
use hereabouts::retry::{Deadline, until};
use hereabouts::store::kube::objects::evidence::{NodeObject, PodObject};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

pub(super) const TAINT: &str = "node.kubernetes.io/out-of-service";

/// A replica that leads, without its process.
pub(super) struct Leader {
    pub(super) runtime: Runtime,
    pub(super) controller: Controller,
    pub(super) metrics: Rc<Metrics>,
    off: OffNodes,
    /// If it also looks for Nodes that are gone.
    deleted: Option<DeletedNodes>,
    namespace: String,
    start: Instant,
    last: Cell<Option<u64>>,
    /// The begin of the names of the nodes that it knows: those of other tests are not its own.
    pub(super) node: String,
}

impl Leader {
    /// `node` is the one that it knows, and the namespace of its Lease.
    pub(super) fn new(kubeconfig: &Path, node: &str) -> Self {
        Self::with_lease_in(kubeconfig, node, node)
    }

    /// `namespace` is that of its Lease.
    pub(super) fn with_lease_in(kubeconfig: &Path, node: &str, namespace: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(client::connect(Some(kubeconfig))).unwrap();
        let metrics = Rc::new(Metrics::new());
        let requests = Requests::new(client, "v1beta2", Rc::clone(&metrics));
        let (_, leading) = tokio::sync::watch::channel(true);
        let state = Rc::new(RefCell::new(State::default()));
        let controller = Controller::new(requests, state, Rc::clone(&metrics), leading);
        let off = OffNodes::new(namespace.to_owned());
        let namespace = namespace.to_owned();
        let (start, node) = (Instant::now(), node.to_owned());
        let last = Cell::new(None);
        Self { runtime, controller, metrics, off, deleted: None, namespace, start, last, node }
    }

    /// Returns it as with `--release-deleted-nodes`.
    pub(super) fn that_releases_deleted_nodes(self) -> Self {
        let again = self.controller.again.subscribe();
        Self { deleted: Some(DeletedNodes::new(self.namespace.clone(), again)), ..self }
    }

    /// Notes everything as it is now, as the watches do.
    pub(super) fn watch(&self, cluster: &Cluster) {
        let list = |kind: &str| {
            let text = cluster.text(&["get", kind, "-o", "json"]);
            serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().clone()
        };
        let mut state = self.controller.state.borrow_mut();
        let mut seen = HashSet::new();
        for object in list("ipallocations") {
            let object: AllocationObject = serde_json::from_value(object).unwrap();
            // The others are of nodes that this leader does not know, and would call gone.
            if self.deleted.is_some() && !object.spec.attachment.node.starts_with(&self.node) {
                continue;
            }
            seen.insert(Name::of(&object.metadata));
            watches::held(&mut state, &object);
        }
        state.finish(Kind::Allocations, &seen);
        self.controller.leaks.change(|known| {
            known.retain_nodes(&|_| false);
            for object in list("nodes") {
                let object: NodeObject = serde_json::from_value(object).unwrap();
                if object.metadata.name.starts_with(&self.node) {
                    known.put_node(&object.metadata.name, object.node());
                }
            }
            known.retain_pods(&|_, _| false);
            for object in list("pods") {
                let object: PodObject = serde_json::from_value(object).unwrap();
                known.put_pod(&object.metadata.namespace, &object.metadata.name, object.pod());
            }
        });
    }

    /// Looks once, so many seconds after the start, at what the watches told last.
    pub(super) fn look_once(&self, seconds: u64) {
        let now = self.start + Duration::from_secs(seconds);
        self.runtime.block_on(self.off.look(&self.controller, now));
        if let Some(deleted) = &self.deleted {
            self.runtime.block_on(deleted.look(&self.controller, now));
        }
        self.last.set(Some(seconds));
    }

    /// Looks every 10 seconds from the last look to this time, at what the watches told last.
    pub(super) fn look_again(&self, seconds: u64) {
        let from = self.last.get().map_or(seconds, |last| last + 10);
        (from..seconds).step_by(10).for_each(|time| self.look_once(time));
        self.look_once(seconds);
    }

    pub(super) fn look(&self, cluster: &Cluster, seconds: u64) {
        self.watch(cluster);
        self.look_again(seconds);
    }

    pub(super) fn metric(&self, name: &str) -> String {
        let text = self.metrics.text(&self.controller, true);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or("-").to_owned()
    }

    pub(super) fn freed(&self) -> String {
        self.metric(r#"hereabouts_released_addresses_total{reason="out-of-service"}"#)
    }

    pub(super) fn kept(&self) -> String {
        self.metric(r#"hereabouts_unreleased_addresses{reason="out-of-service"}"#)
    }
}

/// A node with a Lease, in a cluster. Its name is also the namespace of the Lease of its leaders, so
/// that tests do not meet.
pub(super) struct Scene<'c> {
    pub(super) cluster: &'c Cluster,
    pub(super) node: String,
    pub(super) uid: String,
}

impl<'c> Scene<'c> {
    pub(super) fn new(cluster: &'c Cluster, name: &str) -> Self {
        let node = own_name(name);
        let uid = make_node(cluster, &node, "boot-1");
        super::namespace(cluster, &node);
        let scene = Self { cluster, node, uid };
        scene.renew(1, 40);
        scene
    }

    pub(super) fn leader(&self) -> Leader {
        Leader::new(&self.cluster.kubeconfig(), &self.node)
    }

    /// Renews the Lease of the node. `time` tells renewals apart.
    pub(super) fn renew(&self, time: u32, duration: u32) {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.node, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": self.node, "leaseDurationSeconds": duration, "renewTime": format!("2026-01-01T00:00:00.{time:06}Z")},
        });
        self.cluster.apply(&lease.to_string());
    }

    pub(super) fn taint(&self) {
        self.cluster.text(&[
            "taint",
            "node",
            &self.node,
            &format!("{TAINT}=nodeshutdown:NoExecute"),
        ]);
    }

    pub(super) fn untaint(&self) {
        self.cluster.text(&["taint", "node", &self.node, &format!("{TAINT}-")]);
    }

    /// Holds an address for a pod that the node had in a boot.
    pub(super) fn hold(&self, address: &str, boot: &str) {
        let node = [self.node.as_str(), self.uid.as_str(), boot];
        hold(self.cluster, &Held { address, node, pod: ["web", "uid-of-web"] });
    }

    /// Returns after the second of the API server in which everything was created so far: times in
    /// objects have no fractions.
    pub(super) fn next_second(&self, leader: &Leader) {
        let second = || {
            let second = leader.controller.requests.second(&self.node);
            leader.runtime.block_on(second).unwrap()
        };
        let before = second();
        let later = until(&Deadline::after(Duration::from_secs(10)), || {
            Ok::<_, ()>((before < second()).then_some(()))
        });
        assert_eq!(later, Ok(Some(())));
    }

    /// Marks a generation of a record, as a leader does.
    pub(super) fn mark(&self, address: &str, uid: &str, generation: i64) {
        let since = "2026-01-01T00:00:00Z";
        let mark =
            json!({"node": self.node, "nodeUID": uid, "generation": generation, "since": since});
        let patch = json!({"status": {"outOfService": mark}}).to_string();
        let words = ["patch", "ipallocation", address, "--subresource=status", "--type=merge"];
        self.cluster.text(&[&words[..], &["-p", &patch]].concat());
    }

    /// Returns the mark of a record. Empty if it has none.
    pub(super) fn mark_of(&self, address: &str) -> String {
        let path = "jsonpath={.status.outOfService}";
        self.cluster.text(&["get", "ipallocation", address, "-o", path])
    }

    /// Returns which of these addresses are held.
    pub(super) fn held(&self, addresses: &[&'static str]) -> Vec<&'static str> {
        let text = self.cluster.text(&["get", "ipallocations", "-o", "name"]);
        let is_held =
            |address: &&str| text.lines().any(|line| line.ends_with(&format!("/{address}")));
        addresses.iter().copied().filter(is_held).collect()
    }

    /// Returns the first sight in the Lease of the leaders.
    pub(super) fn first_sight(&self) -> Value {
        self.first_sights("out-of-service")[&self.node].clone()
    }

    /// Returns the first sights in an annotation of the Lease of the leaders.
    pub(super) fn first_sights(&self, annotation: &str) -> Value {
        let path = format!(r"jsonpath={{.metadata.annotations.hereabouts\.dev/{annotation}}}");
        let lease = ["get", "lease", "hereabouts-controller", "--ignore-not-found"];
        let text =
            self.cluster.text(&[&lease[..], &["--namespace", &self.node, "-o", &path]].concat());
        serde_json::from_str::<Value>(&text).unwrap_or_default()
    }

    pub(super) fn events(&self) -> Vec<String> {
        let text = self.cluster.text(&["get", "events.events.k8s.io", "-o", "json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        let about = |event: &&Value| {
            event["regarding"]["kind"] == "Node" && event["regarding"]["name"] == self.node
        };
        let all = list["items"].as_array().unwrap();
        all.iter()
            .filter(about)
            .map(|event| {
                format!(
                    "{}: {}",
                    event["reason"].as_str().unwrap(),
                    event["note"].as_str().unwrap()
                )
            })
            .collect()
    }

    pub(super) fn remove(self, addresses: &[&str]) {
        for address in addresses {
            self.cluster.text(&["delete", "ipallocation", "--ignore-not-found", address]);
        }
        self.cluster.text(&["delete", "node", &self.node]);
    }
}
