//! Slices of nodes that are off, on a real API server, and a replica without its process. The time of
//! its looks is that of the test.

use crate::leaks::make_node;
use crate::support::cluster::{Cluster, Options};
use crate::support::nodes::own_name;
use crate::support::sandbox::Ended;
use hereabouts::controller::client;
use hereabouts::controller::metrics::Metrics;
use hereabouts::controller::released_slices::ReleasedSlices;
use hereabouts::controller::requests::Requests;
use hereabouts::controller::shapes::SliceObject;
use hereabouts::controller::state::{Kind, Name, State};
use hereabouts::controller::work::Controller;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

const ACCOUNT: &str = "system:serviceaccount:kube-system:hereabouts-controller";

fn cluster() -> Option<&'static Cluster> {
    static OWN: LazyLock<Result<Cluster, String>> =
        LazyLock::new(|| Cluster::own(Options::default()));
    OWN.as_ref().map_err(|reason| skipped!("{reason}")).ok()
}

/// A node with slices, and a replica that knows only this node.
struct Scene {
    cluster: &'static Cluster,
    node: String,
    runtime: Runtime,
    controller: Controller,
    released: ReleasedSlices,
    start: Instant,
}

impl Scene {
    fn new() -> Option<Self> {
        let cluster = cluster()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kubeconfig = cluster.kubeconfig();
        let connected = client::connect(Some(&kubeconfig));
        let client = runtime.block_on(connected).unwrap();
        let metrics = Rc::new(Metrics::new());
        let requests = Requests::new(client, "v1beta2", Rc::clone(&metrics));
        let (_, leading) = tokio::sync::watch::channel(true);
        let state = Rc::new(RefCell::new(State::default()));
        let controller = Controller::new(requests, state, metrics, leading);
        let (node, released) = (own_name("off"), ReleasedSlices::default());
        Some(Self { cluster, node, runtime, controller, released, start: Instant::now() })
    }

    /// Creates a slice of the node, at this place of its pool. Returns its name.
    fn make_slice(&self, place: u8, spec: &Value) -> String {
        let block = format!("10.65.{place}.0");
        let name = format!("pool-{}.{block}", self.node);
        let mut object = json!({
            "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPSlice", "metadata": {"name": name},
            "spec": {"pool": self.node, "geometry": "g", "ipv4": format!("{block}/24"), "node": self.node,
                "bootID": "b1", "since": "2026-01-01T00:00:00Z", "released": "2026-01-02T00:00:00Z"},
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        if object["spec"]["released"].is_null() {
            object["spec"].as_object_mut().unwrap().remove("released");
        }
        self.cluster.apply(&object.to_string());
        name
    }

    /// Renews the Lease of the node. `time` tells renewals apart.
    fn renew(&self, time: u32) {
        let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-node-lease"}});
        self.cluster.apply(&space.to_string());
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.node, "namespace": "kube-node-lease"},
            "spec": {"leaseDurationSeconds": 40, "renewTime": format!("2026-01-01T00:{time:02}:00.000000Z")},
        });
        self.cluster.apply(&lease.to_string());
    }

    /// Returns the slices of the node.
    fn slices(&self) -> Vec<Value> {
        let list = self.cluster.text(&["get", "ipslices", "-o", "json"]);
        let mut list: Value = serde_json::from_str(&list).unwrap();
        let mut found = list["items"].as_array_mut().unwrap().clone();
        found.retain(|object| object["spec"]["node"] == self.node);
        found
    }

    fn names(&self) -> Vec<String> {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        self.slices().iter().map(name).collect()
    }

    /// Notes the slices as they are now, as the watch does.
    fn watch(&self) {
        let mut state = self.controller.state.borrow_mut();
        let mut seen = HashSet::new();
        for object in self.slices() {
            let object: SliceObject = serde_json::from_value(object).unwrap();
            seen.insert(Name::of(&object.metadata));
            state.apply_slice(&object);
        }
        state.finish(Kind::Slices, &seen);
    }

    /// Looks every 10 seconds, at what the watch told last.
    fn look(&self, from: u64, to: u64) {
        for seconds in (from..=to).step_by(10) {
            let now = self.start + Duration::from_secs(seconds);
            self.runtime.block_on(self.released.look(&self.controller, now));
        }
    }
}

#[test]
fn a_released_slice_goes_when_its_node_has_been_silent_for_ten_minutes() {
    let Some(scene) = Scene::new() else { return };
    let owned = scene.make_slice(0, &json!({"released": null}));
    let released = scene.make_slice(1, &json!({}));
    scene.renew(1);
    scene.watch();
    scene.look(0, 590);
    assert_eq!(scene.names(), [owned.clone(), released.clone()]);
    // The node was only cut off.
    scene.renew(2);
    scene.look(600, 1200);
    assert_eq!(scene.names(), [owned.clone(), released]);
    scene.look(1210, 1220);
    assert_eq!(scene.names(), [owned]);
}

#[test]
fn a_released_slice_goes_when_its_node_has_booted() {
    let Some(scene) = Scene::new() else { return };
    make_node(scene.cluster, &scene.node, "b2");
    scene.renew(1);
    let [owned, now, _before] = [
        (0, json!({"released": null})),
        (1, json!({"bootID": "b2"})),
        (2, json!({"bootID": "b1"})),
    ]
    .map(|(place, spec)| scene.make_slice(place, &spec));
    scene.watch();
    scene.look(0, 0);
    assert_eq!(scene.names(), [owned, now]);
}

#[test]
fn a_node_without_a_lease_counts_only_if_the_api_server_has_named_it() {
    let Some(scene) = Scene::new() else { return };
    let unnamed = scene.make_slice(0, &json!({}));
    let _named = scene.make_slice(1, &json!({"nodeUID": "u"}));
    scene.watch();
    scene.look(0, 590);
    assert_eq!(scene.names().len(), 2);
    scene.look(600, 620);
    assert_eq!(scene.names(), [unnamed]);
}

#[test]
fn a_slice_that_has_changed_since_it_was_seen_stays() {
    let Some(scene) = Scene::new() else { return };
    let name = scene.make_slice(0, &json!({}));
    make_node(scene.cluster, &scene.node, "b2");
    scene.watch();
    let patch = json!({"metadata": {"annotations": {"a": "b"}}}).to_string();
    scene.cluster.text(&["patch", "ipslice", &name, "--type=merge", "-p", &patch]);
    scene.look(0, 0);
    assert_eq!(scene.names(), [name]);
    scene.watch();
    scene.look(10, 10);
    assert!(scene.names().is_empty());
}

/// The role lets it delete any slice; the policy does not.
#[test]
fn a_token_of_it_removes_only_released_slices() {
    let Some(scene) = Scene::new() else { return };
    let objects = match crate::deploy::chart::kustomized("controller") {
        Ok(objects) => objects,
        Err(reason) => return skipped!("{reason}"),
    };
    for object in objects.iter().filter(|object| object["kind"] != "Deployment") {
        scene.cluster.apply(&object.to_string());
    }
    let owned = scene.make_slice(0, &json!({"released": null}));
    let released = scene.make_slice(1, &json!({}));
    let delete = |name: &str| {
        let args = ["delete", "--dry-run=server", "ipslice", name, "--as", ACCOUNT];
        Ended::from(scene.cluster.kubectl(&args))
    };
    // The API server enforces a new policy after some moments.
    let deadline = hereabouts::retry::Deadline::after(Duration::from_secs(30));
    let denied = hereabouts::retry::until(&deadline, || {
        let text = delete(&owned).stderr;
        Ok::<_, ()>(
            text.contains("removes only slices that an operator has released").then_some(()),
        )
    });
    assert_eq!(denied, Ok(Some(())), "{:?}", delete(&owned));
    assert_eq!(delete(&released).status, Some(0), "{:?}", delete(&released));
}
