//! A node name that another machine had: the DaemonSet frees what that machine left, because of the
//! token of its own pod. Nothing else frees it.

use crate::install::node::{Node as Installed, Watching};
use crate::kube_faults::rig::shared;
use crate::support::cluster::Cluster;
use crate::support::living::Living;
use crate::support::nodes::{DEADLINES, Node, holders, own_name};
use crate::support::sandbox::{Call, Ended};
use std::path::PathBuf;

const BEFORE: (&str, &str) = ("aaaa", "11111111-1111-4111-8111-111111111111");
const NOW: (&str, &str) = ("bbbb", "22222222-2222-4222-8222-222222222222");

struct Scene {
    cluster: &'static Cluster,
    node: Node,
    token: String,
}

impl Scene {
    fn new() -> Option<Self> {
        let cluster = shared()?;
        if !nix::unistd::geteuid().is_root() {
            skipped!("not root");
            return None;
        }
        let name = own_name("taken");
        let scene = Self {
            cluster,
            node: Node::new(&name, &name, &cluster.kubeconfig()),
            token: cluster.node_token(&name),
        };
        Some(scene.with_token())
    }

    /// Adds the kubeconfig that `install` makes from the token.
    fn with_token(self) -> Self {
        let kubeconfig =
            self.node.sandbox.write("node.kubeconfig", &self.cluster.kubeconfig_with(&self.token));
        self.node.configure(&kubeconfig, DEADLINES);
        self
    }

    /// Deletes the Node object and creates another one.
    fn replace_node(mut self) -> Self {
        self.cluster.text(&["delete", "node", &self.node.name]);
        self.token = self.cluster.node_token(&self.node.name);
        self.with_token()
    }

    /// Makes a call on the machine with this id, in the boot with that id.
    fn on(&self, (machine, boot): (&str, &str), mut call: Call) -> Ended {
        let file = |text: &str| -> PathBuf { self.node.sandbox.write(text, &format!("{text}\n")) };
        call.seeing("/etc/machine-id", &file(machine))
            .seeing("/proc/sys/kernel/random/boot_id", &file(boot))
            .run()
    }

    fn add(&self, place: (&str, &str), container: &str) {
        self.on(place, self.node.call("ADD", container)).succeeded();
    }

    fn take_over(&self, place: (&str, &str), token: &str) -> Ended {
        let mut call = self.node.sandbox.command_call(&["take-over"]);
        call.stdin(token);
        self.on(place, call)
    }

    fn held(&self) -> usize {
        holders(self.cluster, &self.node.scope).len()
    }
}

#[test]
fn a_diskless_node_has_its_addresses_back_after_a_boot() {
    let Some(scene) = Scene::new() else { return };
    scene.add(BEFORE, "c1");
    scene.add(BEFORE, "c2");
    std::fs::remove_dir_all(scene.node.state()).unwrap();
    // No verb does this by itself, and neither do an operator's commands.
    scene.add(NOW, "c3");
    scene.on(NOW, scene.node.call("DEL", "c1")).succeeded();
    scene.on(NOW, scene.node.gc_call(&[])).succeeded();
    for command in [&["sweep", "--yes"][..], &["repair", "--yes"]] {
        scene.on(NOW, scene.node.sandbox.command_call(command));
    }
    let verified = scene.on(NOW, scene.node.sandbox.command_call(&["verify"]));
    assert!(
        verified.stdout.contains("second-machine") && verified.stdout.contains("install --watch"),
        "{verified:?}"
    );
    assert!(scene.held() >= 2);
    let taken = scene.take_over(NOW, &scene.token);
    assert_eq!(taken.succeeded().stdout.matches("released ").count(), 2, "{taken:?}");
}

#[test]
fn another_node_object_than_recorded_is_another_machine_that_is_gone() {
    let Some(scene) = Scene::new() else { return };
    scene.add(BEFORE, "c1");
    let scene = scene.replace_node();
    let taken = scene.take_over(NOW, &scene.token);
    assert_eq!(taken.succeeded().stdout, "released 10.9.0.1\n", "{taken:?}");
    assert_eq!(scene.held(), 0);
}

/// The token alone is not enough: each of these is doubt.
#[test]
fn what_may_live_is_left() {
    let Some(scene) = Scene::new() else { return };
    let Some(living) = Living::new() else { return };
    scene.add(BEFORE, "c1");
    // A record of exactly this boot: a second machine, or a machine id that changed in the
    // meantime.
    scene.add((BEFORE.0, NOW.1), "c2");
    let taken = scene.take_over(NOW, &scene.token);
    assert!(
        taken.succeeded().stdout.is_empty()
            && taken.stderr.contains("kept, because another machine may hold it"),
        "{taken:?}"
    );
    assert_eq!(scene.held(), 2, "all of them or none");
    // The same machine id is not another machine.
    let taken = scene.take_over((BEFORE.0, "33333333-3333-4333-8333-333333333333"), &scene.token);
    assert!(taken.succeeded().stderr.contains("nothing to take over"), "{taken:?}");
    // A namespace that is seen here is alive, whatever the Node objects say.
    let mut call = scene.node.call("ADD", "c3");
    call.set("CNI_NETNS", living.path());
    scene.on(BEFORE, call).succeeded();
    let scene = scene.replace_node();
    let taken = scene.take_over(NOW, &scene.token);
    assert!(!taken.succeeded().stdout.contains("10.9.0.3"), "{taken:?}");
    // c2 belongs to this boot.
    assert_eq!(
        holders(scene.cluster, &scene.node.scope).into_values().collect::<Vec<_>>(),
        ["c2", "c3"]
    );
}

#[test]
fn a_token_of_another_node_or_of_none_takes_nothing() {
    let Some(scene) = Scene::new() else { return };
    scene.add(BEFORE, "c1");
    let other = scene.cluster.node_token(&own_name("other"));
    let refused = scene.take_over(NOW, &other);
    assert!(
        refused.status == Some(1) && refused.stderr.contains("the token belongs to node other-"),
        "{refused:?}"
    );
    for token in [scene.cluster.plugin_token(&[]), String::new(), "garbage".to_owned()] {
        let ended = scene.take_over(NOW, &token);
        assert!(ended.succeeded().stderr.contains("does not name a Node"), "{ended:?}");
    }
    assert_eq!(scene.held(), 1);
}

/// The complete path: what runs in the pod, with the token that the kubelet gave it.
#[test]
fn install_that_stays_does_it_by_itself() {
    let Some(scene) = Scene::new() else { return };
    scene.add(BEFORE, "c1");
    let installed = Installed::new();
    let token = installed.sandbox.write("node-token", &scene.token);
    let authority = installed.path("pod/ca.crt");
    std::fs::copy(scene.cluster.directory().join("pki/ca.crt"), &authority).unwrap();
    let settings = serde_json::json!({"data_dir": scene.node.sandbox.store()}).to_string();
    let mut call = installed.call(&[
        "install",
        "--watch",
        "--sweep-every=1h",
        "--node-name",
        &scene.node.name,
        "--settings",
        &settings,
    ]);
    call.args.retain(|arg| !arg.starts_with("--token-file"));
    call.args.extend([
        format!("--token-file={}", token.display()),
        format!("--server={}", scene.cluster.server()),
    ]);
    // The node, boot and machine of the pod are these.
    let file = |text: &str| scene.node.sandbox.write(text, &format!("{text}\n"));
    call.seeing("/etc/machine-id", &file(NOW.0))
        .seeing("/proc/sys/kernel/random/boot_id", &file(NOW.1));
    let mut watching = Watching::start(&call, &installed.path("said"));
    watching.until("a take-over", || scene.held() == 0);
}
