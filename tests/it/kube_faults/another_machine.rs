//! Records that another machine made under this node's name, or that somebody forged with a stolen
//! token. This node skips them: they stop no verb, no verb frees or changes them, and `verify`
//! names them.

use super::rig::shared;
use crate::support::cluster::Cluster;
use crate::support::living::Living;
use crate::support::nodes::{Node, RANGE, objects, own_name};
use crate::support::sandbox::Ended;
use serde_json::{Value, json};

/// Returns the object at an address of a scope.
fn object(cluster: &Cluster, scope: &str, address: &str) -> Value {
    let found = objects(cluster)
        .into_iter()
        .find(|object| object["spec"]["scope"] == scope && object["spec"]["address"] == address);
    found.unwrap_or_else(|| panic!("no object: {scope} {address}"))
}

/// Returns the record in it. Labels do not belong to the record: another node of this cluster that
/// runs `repair --all` may correct the labels of any node.
fn record(cluster: &Cluster, scope: &str, address: &str) -> [Value; 2] {
    let object = object(cluster, scope, address);
    [object["metadata"]["uid"].clone(), object["spec"].clone()]
}

/// A node, and a copy of one of its records that names another machine. Everything shows that the
/// copy is dead: another boot, no namespace.
struct Scene {
    cluster: &'static Cluster,
    node: Node,
}

impl Scene {
    fn new() -> Option<Self> {
        let cluster = shared()?;
        if !std::fs::read_to_string("/etc/machine-id").is_ok_and(|id| !id.trim().is_empty()) {
            skipped!("this machine has no /etc/machine-id");
            return None;
        }
        let name = own_name("machine");
        Some(Self { cluster, node: Node::new(&name, &name, &cluster.kubeconfig()) })
    }

    /// Creates a record of `machine` for a container, as a copy of the record at .1.
    fn plant(&self, address: &str, container: &str, change: impl FnOnce(&mut Value)) {
        let mut object = object(self.cluster, &self.node.scope, "10.9.0.1");
        let name = format!("{}.{address}", self.node.scope);
        object["metadata"] = json!({"name": name, "labels": object["metadata"]["labels"]});
        object["metadata"]["labels"]["hereabouts.dev/address"] = json!(address);
        object["spec"]["address"] = json!(address);
        object["spec"]["containerID"] = json!(container);
        object["spec"]["machine"] = json!("0000");
        change(&mut object);
        self.cluster.apply(&object.to_string());
    }

    fn command(&self, args: &[&str]) -> Ended {
        self.node.sandbox.command(args)
    }

    /// Returns what `verify` reports for this scope, as problem and object.
    fn findings(&self) -> Vec<(String, String)> {
        let document = self.command(&["verify", "-o", "json"]).document();
        let found = document["findings"].as_array().unwrap().iter();
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let found = found.map(|finding| (text(finding, "problem"), text(finding, "path")));
        found.filter(|(_, path)| path.contains(&self.node.scope)).collect()
    }

    fn second(&self, address: &str) -> (String, String) {
        ("second-machine".to_owned(), format!("ipallocations/{}.{address}", self.node.scope))
    }

    fn remove(&self, address: &str) {
        self.cluster.text(&["delete", "ipa", &format!("{}.{address}", self.node.scope)]);
    }
}

/// One object that somebody created put a new node, or one that had booted, out of service.
#[test]
fn an_object_of_another_machine_stops_no_verb_of_a_node() {
    let Some(scene) = Scene::new() else { return };
    let node = &scene.node;
    node.add("first").succeeded();
    scene.plant("10.9.0.7", "foreign", |object| object["spec"]["bootID"] = json!("an earlier one"));
    let planted = record(scene.cluster, &node.scope, "10.9.0.7");
    // As after a boot, and on a node that has just joined.
    std::fs::remove_dir_all(node.state()).unwrap();
    assert_eq!(scene.findings(), [scene.second("10.9.0.7")], "before its first call");
    let added = node.add("second");
    assert_eq!(added.addresses(), ["10.9.0.2"]);
    assert_eq!(node.add("second").addresses(), ["10.9.0.2"], "a repeat");
    node.check("second", &added).succeeded();
    node.status().succeeded();
    node.gc_call(&["second"]).run().succeeded();
    assert_eq!(scene.findings(), [scene.second("10.9.0.7")]);
    for command in [&["repair", "--yes"][..], &["sweep", "--yes"]] {
        let ended = scene.command(command);
        ended.succeeded();
        assert!(!ended.stdout.contains("10.9.0.7"), "{ended:?}");
    }
    node.del("second").succeeded();
    node.del("first").succeeded();
    // The DEL of the attachment that the copy names: this node's attachment holds nothing of it.
    node.del("foreign").succeeded();
    assert_eq!(record(scene.cluster, &node.scope, "10.9.0.7"), planted);
    scene.remove("10.9.0.7");
    assert_eq!(scene.findings(), []);
}

/// A record that this node knows and that now names another machine.
#[test]
fn a_record_that_got_another_machines_mark_is_neither_freed_nor_moved() {
    let Some(scene) = Scene::new() else { return };
    let (node, Some(living)) = (&scene.node, Living::new()) else {
        return skipped!("not root");
    };
    let mut call = node.call("ADD", "web_1");
    call.set("CNI_NETNS", living.path()).run().succeeded();
    let mark = json!({"spec": {"machine": "0000"}}).to_string();
    let name = format!("{}.10.9.0.1", node.scope);
    scene.cluster.text(&["patch", "ipa", &name, "--type=merge", "-p", &mark]);
    let marked = record(scene.cluster, &node.scope, "10.9.0.1");
    let stands =
        |what: &str| assert_eq!(record(scene.cluster, &node.scope, "10.9.0.1"), marked, "{what}");

    let found = scene.findings();
    assert!(found.contains(&scene.second("10.9.0.1")), "{found:?}");
    scene.command(&["repair", "--yes"]);
    stands("repair");
    drop(living);
    assert_eq!(
        node.add("web_2").addresses(),
        ["10.9.0.2"],
        "no re-homing of what is not this machine's"
    );
    stands("re-homing");
    node.gc_call(&[]).run().succeeded();
    scene.command(&["sweep", "--yes"]).succeeded();
    stands("GC and sweep");
    assert_eq!(node.add("web_1").addresses().len(), 1, "a repeat");
    stands("a repeat");
    node.del("web_1").succeeded();
    stands("DEL");
    node.del("web_2").succeeded();
    scene.remove("10.9.0.1");
    assert_eq!(scene.findings(), []);
}

/// Wrong labels of such a record are not for this node to repair.
#[test]
fn its_labels_are_left_alone() {
    let Some(scene) = Scene::new() else { return };
    scene.node.add("first").succeeded();
    scene.plant("10.9.0.7", "foreign", |object| {
        object["metadata"]["labels"]["hereabouts.dev/pod"] = json!("x")
    });
    assert_eq!(scene.findings(), [scene.second("10.9.0.7")], "and no wrong labels");
    let repaired = scene.command(&["repair", "--yes"]);
    assert!(repaired.status == Some(0) && !repaired.stdout.contains("10.9.0.7"), "{repaired:?}");
    scene.remove("10.9.0.7");
    scene.node.del("first").succeeded();
}

/// An address with such a record is held and is given to no pod.
#[test]
fn its_address_is_held() {
    let Some(scene) = Scene::new() else { return };
    let node = &scene.node;
    node.add("first").succeeded();
    scene.plant("10.9.0.2", "foreign", |_| {});
    assert_ne!(node.add("second").addresses(), ["10.9.0.2"]);
    let asked =
        node.call_in("ADD", "third", RANGE).set("CNI_ARGS", "IgnoreUnknown=1;IP=10.9.0.2").run();
    assert_eq!(asked.code(), 101, "{asked:?}");
    scene.remove("10.9.0.2");
    for container in ["first", "second"] {
        node.del(container).succeeded();
    }
}
