//! The programs of Whereabouts that remove addresses which they think nobody uses, beside a move: the
//! real ip-reconciler and the real ip-control-loop, with the rights that Whereabouts gives them.

use super::answers::node;
use super::world::{World, entry};
use crate::deploy::chart::{kustomized, tool};
use crate::support::nodes::Node;
use hereabouts::retry::{Deadline, until};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const POOL: &str = "moving-10.9.0.0-24";
const POOL_OBJECT: &str = "ippools.whereabouts.cni.cncf.io/moving-10.9.0.0-24";
const RESERVATIONS: &str = "overlappingrangeipreservations.whereabouts.cni.cncf.io";
const THEIR_USER: &str = "--as=system:serviceaccount:kube-system:whereabouts";

/// What the API server says of a change of the pool.
const DENIED: &str = "only hereabouts removes its entries";

/// What Whereabouts' own manifests give its controllers, besides the rights of the plugin.
const RIGHTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: whereabouts-controllers}
rules:
  - {apiGroups: [""], resources: [nodes], verbs: [get, list, watch]}
  - {apiGroups: [k8s.cni.cncf.io], resources: [network-attachment-definitions], verbs: [get, list, watch]}
  - {apiGroups: ["", events.k8s.io], resources: [events], verbs: [create, patch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: whereabouts-controllers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: whereabouts-controllers}
subjects: [{kind: ServiceAccount, name: whereabouts, namespace: kube-system}]
"#;

/// A program of Whereabouts that runs. It ends with this value.
struct Cleaner(Child);

impl Drop for Cleaner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cleaner {
    /// Starts it as in a pod on n1: in a root directory with the token. Returns it with its log.
    fn start(world: &World, name: &str) -> Result<(Self, std::path::PathBuf), String> {
        tool("whereabouts", name)?;
        world.cluster.apply(RIGHTS);
        let root = world.sandbox.path(name);
        let secret = root.join("var/run/secrets/kubernetes.io/serviceaccount");
        std::fs::create_dir_all(&secret).unwrap();
        std::fs::create_dir_all(root.join("cron-schedule")).unwrap();
        let words = ["create", "token", "whereabouts", "-n", "kube-system", "--duration=1h"];
        std::fs::write(secret.join("token"), world.cluster.text(&words).trim()).unwrap();
        std::fs::copy(world.cluster.directory().join("pki/ca.crt"), secret.join("ca.crt")).unwrap();
        std::fs::write(root.join("cron-schedule/config"), "@every 1s").unwrap();
        let configuration = root.join("host/etc/cni/net.d/whereabouts.d");
        std::fs::create_dir_all(&configuration).unwrap();
        std::fs::write(
            configuration.join("whereabouts.conf"),
            r#"{"kubernetes": {"kubeconfig": "/none"}}"#,
        )
        .unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin").join(name);
        std::fs::copy(program, root.join(name)).unwrap();
        let server = world.cluster.server();
        let (host, port) = server.rsplit_once('/').unwrap().1.rsplit_once(':').unwrap();
        let log = world.sandbox.path(&format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let child = Command::new("chroot")
            .arg(&root)
            .arg(format!("/{name}"))
            .envs([("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)])
            .envs([("NODENAME", "n1"), ("WHEREABOUTS_NAMESPACE", "kube-system")])
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Ok((Self(child), log))
    }
}

/// Waits for words in what a program prints.
fn wait(log: &Path, words: &str) {
    let deadline = Deadline::after(Duration::from_secs(120));
    let text = || std::fs::read_to_string(log).unwrap();
    let found =
        until(&deadline, || Ok::<_, ()>(text().contains(words).then_some(()))).unwrap().is_some();
    assert!(found, "{words}: {}", text());
}

/// A cluster in which a node of hereabouts has 10.9.0.2 for a pod that no Pod object names, with the
/// rights and the rules of deploy/moving in force.
fn moving() -> Option<(World, Node)> {
    let world = World::new()?;
    let objects = match kustomized("moving") {
        Ok(objects) => objects,
        Err(reason) => {
            skipped!("{reason}");
            return None;
        }
    };
    objects.iter().for_each(|object| world.cluster.apply(&object.to_string()));
    world.pool("10.1.0.0-16", "10.1.0.0/16", &[("1", "ended")]);
    world.pool(POOL, "10.9.0.0/24", &[("1", "theirs")]);
    super::set(&world.cluster, 1, "shared");
    let node = node(&world.cluster, "n1");
    // Roles and rules take effect some moments after they were created.
    let deadline = Deadline::after(Duration::from_secs(60));
    let added = until(&deadline, || {
        let ended = node.add("a_1");
        Ok::<_, ()>((ended.status == Some(0)).then(|| ended.addresses()))
    });
    assert_eq!(added, Ok(Some(vec!["10.9.0.2".to_owned()])));
    let is_denied = until(&deadline, || {
        let said = theirs(&world, &["delete", POOL_OBJECT, "--dry-run=server"]);
        Ok::<_, ()>(said.contains(DENIED).then_some(()))
    });
    assert_eq!(is_denied, Ok(Some(())));
    Some((world, node))
}

/// Runs kubectl as Whereabouts. Returns what it says.
fn theirs(world: &World, words: &[&str]) -> String {
    let output = world.cluster.kubectl(&[&["-n", "kube-system", THEIR_USER], words].concat());
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Returns the names of the entries of the pool in which the node has an address.
fn entries(world: &World) -> Vec<String> {
    world.entries(POOL).as_object().unwrap().keys().cloned().collect()
}

#[test]
fn what_a_node_has_written_is_changed_by_hereabouts_alone() {
    let Some((world, node)) = moving() else { return };
    let patch = |patch: &Value| {
        theirs(&world, &["patch", POOL_OBJECT, "--type=json", "-p", &patch.to_string()])
    };
    let removed = json!([{"op": "remove", "path": "/spec/allocations/2"}]);
    let taken = json!([{"op": "replace", "path": "/spec/allocations/2", "value": entry("other")}]);
    let emptied = json!([{"op": "replace", "path": "/spec/allocations", "value": {}}]);
    for change in [removed, taken, emptied] {
        let said = patch(&change);
        assert!(said.contains(DENIED), "{change}: {said}");
    }
    let reservation = format!("{RESERVATIONS}/moving-10.9.0.2");
    let said = theirs(&world, &["delete", &reservation]);
    assert!(said.contains("only hereabouts removes its reservation"), "{said}");
    let renamed = r#"{"spec": {"podref": "default/other"}}"#;
    let said = theirs(&world, &["patch", &reservation, "--type=merge", "-p", renamed]);
    assert!(said.contains("only hereabouts removes its reservation"), "{said}");

    // Its own entries and reservations are its own.
    let said = patch(&json!([
        {"op": "remove", "path": "/spec/allocations/1"},
        {"op": "add", "path": "/spec/allocations/3", "value": entry("new")},
    ]));
    assert!(said.contains("patched"), "{said}");
    assert_eq!(entries(&world), ["2", "3"]);
    world.reservation("moving-10.9.0.3", "new");
    let said = theirs(&world, &["delete", &format!("{RESERVATIONS}/moving-10.9.0.3")]);
    assert!(said.contains("deleted"), "{said}");
    // An administrator removes what he wants, and the node what is its own.
    node.del("a_1").succeeded();
    assert_eq!(entries(&world), ["3"]);
    let said = theirs(&world, &["delete", POOL_OBJECT]);
    assert!(said.contains("deleted"), "{said}");
    node.add("b_1").succeeded();
    world.cluster.text(&["-n", "kube-system", "delete", POOL_OBJECT]);
}

#[test]
fn the_reconciler_of_whereabouts_removes_nothing_that_a_node_of_hereabouts_holds() {
    let Some((world, node)) = moving() else { return };
    let (_cleaner, log) = match Cleaner::start(&world, "ip-reconciler") {
        Ok(started) => started,
        Err(reason) => return skipped!("{reason}"),
    };
    wait(&log, DENIED);
    // It does its work in the pools before.
    assert_eq!(world.entries("10.1.0.0-16"), json!({}));
    assert_eq!(entries(&world), ["1", "2"]);
    assert_eq!(world.names(RESERVATIONS), ["moving-10.9.0.2"]);
    node.del("a_1").succeeded();
    wait(&log, "reconciler run succeeded");
    assert_eq!(entries(&world), [""; 0]);
}

/// It removes the entry of a pod that was deleted with the words of the entry itself, so that no form
/// of an entry is safe from it.
#[test]
fn the_control_loop_of_whereabouts_removes_nothing_that_a_node_of_hereabouts_holds() {
    let Some((world, _node)) = moving() else { return };
    world.network("net", &json!({"range": "10.9.0.0/24", "network_name": "moving"}));
    let (_cleaner, log) = match Cleaner::start(&world, "ip-control-loop") {
        Ok(started) => started,
        Err(reason) => return skipped!("{reason}"),
    };
    let ends = |pod, address| {
        world.pod(pod, "n1", "net", address);
        world.cluster.text(&["delete", "pod", pod, "--grace-period=0", "--force"]);
    };
    // It does not say when it has begun to watch.
    let deadline = Deadline::after(Duration::from_secs(60));
    let is_seen = until(&deadline, || {
        ends("a", "10.9.0.2");
        let text = std::fs::read_to_string(&log).unwrap();
        Ok::<_, ()>(text.contains("deleted pod [default/a]").then_some(()))
    });
    assert_eq!(is_seen, Ok(Some(())));
    ends("theirs", "10.9.0.1");
    wait(&log, DENIED);
    let deadline = Deadline::after(Duration::from_secs(60));
    let is_done = until(&deadline, || Ok::<_, ()>((entries(&world) == ["2"]).then_some(())));
    assert_eq!(is_done, Ok(Some(())), "{:?}", entries(&world));
    assert_eq!(world.names(RESERVATIONS), ["moving-10.9.0.2"]);
}
