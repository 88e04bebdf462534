//! Geometries of pools that are gone, on a real API server, and a replica without its process. The
//! time of its looks is that of the test.

use crate::support::cluster::{Cluster, Options};
use crate::support::nodes::own_name;
use hereabouts::controller::client;
use hereabouts::controller::geometries::Geometries;
use hereabouts::controller::metrics::Metrics;
use hereabouts::controller::requests::Requests;
use hereabouts::controller::shapes::{OwnPoolObject, SliceObject};
use hereabouts::controller::state::State;
use hereabouts::controller::watches;
use hereabouts::controller::work::Controller;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

fn cluster() -> Option<&'static Cluster> {
    static OWN: LazyLock<Result<Cluster, String>> =
        LazyLock::new(|| Cluster::own(Options::default()));
    OWN.as_ref().map_err(|reason| skipped!("{reason}")).ok()
}

/// A pool's geometry, and a replica.
struct Scene {
    cluster: &'static Cluster,
    pool: String,
    runtime: Runtime,
    controller: Controller,
    geometries: Geometries,
    start: Instant,
    /// A replica looks at all geometries, also at those of other tests.
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    fn new() -> Option<Self> {
        static TURNS: Mutex<()> = Mutex::new(());
        let turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = cluster()?;
        cluster.text(&["delete", "ipslicegeometries", "--all"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kubeconfig = cluster.kubeconfig();
        let connected = client::connect(Some(&kubeconfig));
        let client = runtime.block_on(connected).unwrap();
        let metrics = Rc::new(Metrics::new());
        let requests = Requests::new(client, "v1beta2", Rc::clone(&metrics));
        let (_, leading) = tokio::sync::watch::channel(true);
        let state = Rc::new(RefCell::new(State::default()));
        let controller = Controller::new(requests, state, metrics, leading);
        let (pool, geometries) = (own_name("cut"), Geometries::default());
        let start = Instant::now();
        let scene = Self { cluster, pool, runtime, controller, geometries, start, _turn: turn };
        scene.apply(
            "IPSliceGeometry",
            &scene.pool,
            &json!({"pool": scene.pool, "ranges": [{"ipv4": "10.66.0.0/24"}], "ipv4MaskSize": 28}),
        );
        Some(scene)
    }

    fn apply(&self, kind: &str, name: &str, spec: &Value) -> Value {
        let object = json!({"apiVersion": "hereabouts.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        self.cluster.apply(&object.to_string());
        let text = self.cluster.text(&[
            "get",
            &format!("{kind}.v1alpha1.hereabouts.dev"),
            name,
            "-o",
            "json",
        ]);
        serde_json::from_str(&text).unwrap()
    }

    fn make_pool(&self) -> Value {
        let spec = json!({"ranges": [{"ipv4": "10.66.0.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 28}}});
        self.apply("IPPool", &self.pool, &spec)
    }

    fn make_slice(&self) -> Value {
        let spec = json!({"pool": self.pool, "geometry": "g", "ipv4": "10.66.0.0/28", "node": "n", "bootID": "b", "since": "2026-01-01T00:00:00Z"});
        self.apply("IPSlice", &format!("pool-{}.10.66.0.0", self.pool), &spec)
    }

    fn exists(&self) -> bool {
        let args = ["get", "ipslicegeometries", &self.pool, "--ignore-not-found", "-o", "name"];
        !self.cluster.text(&args).is_empty()
    }

    /// Looks each minute.
    fn look(&self, from: u64, to: u64) {
        for seconds in (from..=to).step_by(60) {
            let now = self.start + Duration::from_secs(seconds);
            self.runtime.block_on(self.geometries.look(&self.controller, now));
        }
    }
}

#[test]
fn the_geometry_of_a_pool_that_is_gone_goes_after_two_minutes() {
    let Some(scene) = Scene::new() else { return };
    scene.look(0, 120);
    assert!(scene.exists(), "the first look ended after its begin");
    scene.look(180, 180);
    assert!(!scene.exists());
}

#[test]
fn a_geometry_that_has_changed_waits_again() {
    let Some(scene) = Scene::new() else { return };
    scene.look(0, 120);
    let patch = json!({"metadata": {"annotations": {"a": "b"}}}).to_string();
    scene.cluster.text(&["patch", "ipslicegeometry", &scene.pool, "--type=merge", "-p", &patch]);
    scene.look(180, 300);
    assert!(scene.exists());
    scene.look(360, 360);
    assert!(!scene.exists());
}

#[test]
fn the_geometry_of_a_pool_that_exists_stays_also_if_the_watch_is_behind() {
    let Some(scene) = Scene::new() else { return };
    let pool = scene.make_pool();
    scene.look(0, 240);
    assert!(scene.exists());
    let pool: OwnPoolObject = serde_json::from_value(pool).unwrap();
    watches::own_pool(&mut scene.controller.state.borrow_mut(), &pool);
    scene.cluster.text(&["delete", "ippools.hereabouts.dev", &scene.pool]);
    scene.look(300, 600);
    assert!(scene.exists(), "the watch has not told of the end");
}

#[test]
fn the_geometry_stays_while_a_slice_is_there_also_if_the_watch_is_behind() {
    let Some(scene) = Scene::new() else { return };
    let slice = scene.make_slice();
    scene.look(0, 240);
    assert!(scene.exists());
    let name = slice["metadata"]["name"].as_str().unwrap().to_owned();
    let slice: SliceObject = serde_json::from_value(slice).unwrap();
    scene.controller.state.borrow_mut().apply_slice(&slice);
    scene.cluster.text(&["delete", "ipslice", &name]);
    scene.look(300, 600);
    assert!(scene.exists(), "the watch has not told of the end");
}
