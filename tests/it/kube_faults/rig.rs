//! A node behind a proxy, in its own scope, and the time that a call may take.

use crate::support::cluster::Cluster;
use crate::support::nodes::{DEADLINES, Node, holders, own_name};
use crate::support::proxy::Proxy;
use crate::support::sandbox::{Call, Ended};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

pub(super) struct Rig<'c> {
    pub(super) cluster: &'c Cluster,
    pub(super) proxy: Proxy,
    pub(super) node: Node,
    /// The deadlines while the proxy disturbs.
    deadlines: Arc<Mutex<String>>,
}

/// The deadlines while nothing disturbs: a busy machine may take as long as it needs. A call that
/// should succeed does so, and no call waits for the end of this time.
const UNDISTURBED: &str = r#"{"add":"2m","del":"2m","gc":"2m"}"#;

/// The time that a call may need after its deadline on a busy machine.
const SLACK: Duration = Duration::from_secs(20);

impl<'c> Rig<'c> {
    /// Returns a node whose first call is made: it knows that it holds nothing.
    pub(super) fn new(cluster: &'c Cluster) -> Self {
        Self::named(cluster, &own_name("fault"))
    }

    /// The same under a given name.
    pub(super) fn named(cluster: &'c Cluster, name: &str) -> Self {
        let rig = Self::cold_named(cluster, name);
        rig.node.del("nobody").succeeded();
        rig.proxy.seen();
        rig
    }

    /// Returns a node that has never made a call.
    pub(super) fn cold(cluster: &'c Cluster) -> Self {
        Self::cold_named(cluster, &own_name("fault"))
    }

    fn cold_named(cluster: &'c Cluster, name: &str) -> Self {
        let proxy = Proxy::new(cluster);
        let node = Node::new(name, name, Path::new("/"));
        let deadlines = Arc::new(Mutex::new(DEADLINES.to_owned()));
        let kubeconfig = proxy.kubeconfig(&node.sandbox.root);
        node.configure(&kubeconfig, UNDISTURBED);
        let (flat, disturbed) = (node.sandbox.path("flat.conf"), Arc::clone(&deadlines));
        proxy.tell(move |begins| {
            let deadlines =
                if begins { disturbed.lock().unwrap().clone() } else { UNDISTURBED.to_owned() };
            set_deadlines(&flat, &deadlines);
        });
        Self { cluster, proxy, node, deadlines }
    }

    /// Makes the node less patient than usual.
    pub(super) fn impatient(self) -> Self {
        self.deadlines(r#"{"add":"2s","del":"1500ms","gc":"1500ms"}"#);
        self
    }

    /// Sets the deadlines, from now on and whenever the proxy begins to disturb.
    pub(super) fn deadlines(&self, deadlines: &str) {
        deadlines.clone_into(&mut self.deadlines.lock().unwrap());
        set_deadlines(&self.node.sandbox.path("flat.conf"), deadlines);
    }

    /// Sets a key of the flat file.
    pub(super) fn set(&self, key: &str, value: &str) {
        change_flat_file(&self.node.sandbox.path("flat.conf"), key, value.into());
    }

    pub(super) fn holders(&self) -> BTreeMap<String, String> {
        holders(self.cluster, &self.node.scope)
    }

    /// Checks that nothing is held, and that the node state says the same.
    pub(super) fn assert_empty(&self, when: &str) {
        assert_eq!(self.holders(), BTreeMap::new(), "{when}");
        let left = std::fs::read_dir(self.node.state().join("attachments")).unwrap().count();
        assert_eq!(left, 0, "{when}");
    }
}

fn set_deadlines(flat: &Path, deadlines: &str) {
    change_flat_file(flat, "deadlines", serde_json::from_str(deadlines).unwrap());
}

/// Changes one key of a flat file. Tests may have changed the others.
fn change_flat_file(flat: &Path, key: &str, value: Value) {
    let mut keys: Value = serde_json::from_slice(&std::fs::read(flat).unwrap()).unwrap();
    keys[key] = value;
    // Completely or not at all, because a call may be reading it.
    let aside = flat.with_extension("new");
    std::fs::write(&aside, keys.to_string()).unwrap();
    std::fs::rename(aside, flat).unwrap();
}

/// Returns the shared cluster with the resource in it.
pub(crate) fn shared() -> Option<&'static Cluster> {
    static ONCE: Once = Once::new();
    match Cluster::shared() {
        Ok(cluster) => {
            ONCE.call_once(|| install(cluster));
            Some(cluster)
        }
        Err(reason) => {
            skipped!("{reason}");
            None
        }
    }
}

/// Defines the resource, if `scripts/cluster` has not.
pub(crate) fn install(cluster: &Cluster) {
    cluster.text(&["apply", "-k", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crd")]);
    cluster.text(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd/ipallocations.hereabouts.dev",
    ]);
    // At first the server answers 429, and kubectl tries again.
    cluster.text(&["get", "ipallocations"]);
}

/// Runs a call, which must end within its deadline.
#[allow(clippy::disallowed_methods, reason = "a test measures time")]
pub(super) fn within(seconds: f32, call: &Call) -> Ended {
    let start = Instant::now();
    let ended = call.run();
    let took = start.elapsed();
    assert!(took < Duration::from_secs_f32(seconds) + SLACK, "{took:.1?}: {ended:?}");
    ended
}

/// Checks what an error must contain, and what it must not contain.
pub(super) fn assert_says(ended: &Ended, code: u64, words: &str) {
    assert_eq!(ended.code(), code, "{ended:?}");
    assert!(ended.details().contains(words), "{words}: {ended:?}");
    for word in ["not found", "no such file or directory"] {
        assert!(
            !ended.stdout.to_lowercase().contains(word),
            "runtimes take that for success: {ended:?}"
        );
    }
}

/// Returns the address of the API server itself.
pub(super) fn server_of(cluster: &Cluster) -> String {
    cluster
        .text(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"])
        .trim_start_matches("https://")
        .to_owned()
}

/// Runs all rows of a table at once, because they mostly wait.
pub(super) fn each<T: Send>(table: Vec<(&'static str, T)>, play: impl Fn(&str, T) + Sync) {
    let play = &play;
    std::thread::scope(|scope| {
        let players: Vec<_> = table
            .into_iter()
            .map(|(name, row)| (name, scope.spawn(move || play(name, row))))
            .collect();
        let failed: Vec<_> = players
            .into_iter()
            .filter_map(|(name, player)| player.join().is_err().then_some(name))
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    });
}
