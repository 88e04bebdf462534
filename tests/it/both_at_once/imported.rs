//! Records of pods that Whereabouts has started, on a node that is one of hereabouts since.

use super::rig::{World, world};
use crate::conformance::host;
use crate::support::nodes::{Node, RANGE, holders, own_name};
use hereabouts::api_client::client::Client;
use hereabouts::environment::ProxyVariables;
use hereabouts::ipam::{
    AllocationOrder, Attachment, ContainerId, IfName, NetworkName, NodeName, Part, PodRef, Record,
    Scope, Source,
};
use hereabouts::retry::Deadline;
use hereabouts::store::kube::KubeStore;
use hereabouts::store::kube::imported::Imported;
use std::time::{Duration, UNIX_EPOCH};

/// Lets Whereabouts give an address to a pod of the node, and records that from elsewhere.
pub(super) fn import(world: &World, node: &Node, container: &str) -> String {
    let given = world.whereabouts("ADD", container, &node.scope, &[RANGE]).run().addresses();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let record = Record {
        attachment: Attachment {
            node: NodeName::parse(&node.name).unwrap(),
            network: NetworkName::parse("net1").unwrap(),
            container: ContainerId::parse(container).unwrap(),
            ifname: IfName::parse("net1").unwrap(),
        },
        pod: Some(PodRef {
            namespace: "default".to_owned(),
            name: container.split('_').next().unwrap().to_owned(),
            uid: None,
        }),
        netns: None,
        view: None,
        boot_id: boot.trim().to_owned(),
        since: UNIX_EPOCH,
        source: Source::Dynamic,
        part: Part { index: 0, of: 1 },
        prefix: 24,
        gateway: None,
    };
    let client = Client::open(&world.cluster.kubeconfig(), &ProxyVariables::default()).unwrap();
    let order = AllocationOrder::Auto;
    let store = KubeStore::new(client, &node.sandbox.path("elsewhere"), host("elsewhere"), order);
    let (scope, address) = (Scope::parse(&node.scope).unwrap(), given[0].parse().unwrap());
    let deadline = Deadline::after(Duration::from_secs(30));
    let made = store.for_dead_node().import(&scope, address, &record, "", &deadline).unwrap();
    assert!(matches!(made, Imported::Created), "{made:?}");
    given[0].clone()
}

/// Returns a node whose records were imported before its first call.
pub(super) fn node(world: &World, scope: &str) -> Node {
    let node = Node::new(scope, scope, &world.cluster.kubeconfig());
    node.configure(&world.cluster.kubeconfig(), super::rig::DEADLINES);
    node
}

#[test]
fn an_imported_record_is_shown_as_ours_and_ends_with_all_that_was_written() {
    let Some(world) = world() else { return };
    let scope = own_name("imported");
    let node = node(world, &scope);
    let [one, two] = ["w1", "w2"].map(|container| import(world, &node, container));
    // A repeated ADD gives the entry our form.
    assert_eq!(node.add("w1").addresses(), std::slice::from_ref(&one));
    let ours: Vec<_> =
        world.entries(&scope).into_values().filter(|(_, ifname)| ifname.contains('/')).collect();
    assert_eq!(ours.len(), 1);
    let reserved = world.reservations(&scope);
    assert_eq!((&reserved[&one], &reserved[&two].0), (&ours[0], &String::new()));
    // A DEL removes the form of Whereabouts, too.
    for container in ["w2", "w1"] {
        node.del(container).succeeded();
    }
    world.assert_nothing(&scope, "at the end");
}

/// A pod of a StatefulSet was deleted by force, and starts on a node of Whereabouts while it runs on.
#[test]
fn what_whereabouts_has_given_to_the_next_sandbox_stays() {
    let Some(world) = world() else { return };
    let scope = own_name("moved-on");
    let node = node(world, &scope);
    let address = import(world, &node, "web_1");
    let next = world.whereabouts("ADD", "web_2", &scope, &[RANGE]);
    assert_eq!(
        next.run().addresses(),
        std::slice::from_ref(&address),
        "it takes over its own entries"
    );
    node.del("web_1").succeeded();
    assert!(holders(&world.cluster, &scope).is_empty());
    let left: Vec<_> = world.entries(&scope).into_values().collect();
    assert_eq!(left, [("web_2".to_owned(), "net1".to_owned())]);
    assert_eq!(world.reservations(&scope).into_keys().collect::<Vec<_>>(), [address]);
    world.whereabouts("DEL", "web_2", &scope, &[RANGE]).run().succeeded();
    world.assert_nothing(&scope, "at the end");
}

/// The node imports its own sandboxes: the address is Whereabouts', and of this very container.
#[test]
fn an_address_that_whereabouts_gave_to_the_attachment_itself_can_be_claimed() {
    let Some(world) = world() else { return };
    let scope = own_name("own");
    let (node, _proxy) = world.node(&scope, &scope);
    let given = world.whereabouts("ADD", "w1", &scope, &[RANGE]).run().addresses();
    assert_eq!(node.add("w1").addresses(), given);
    world.assert_shown(&scope, "after the ADD");
    node.del("w1").succeeded();
    world.assert_nothing(&scope, "at the end");
}

/// An operator releases the records of a node that is off.
#[test]
fn a_release_for_another_node_removes_what_it_showed() {
    let Some(world) = world() else { return };
    let scope = own_name("off");
    let (node, _proxy) = world.node(&scope, &scope);
    let given = node.add("c1").addresses();
    node.add("c2").succeeded();
    let kubeconfig = world.cluster.kubeconfig().display().to_string();
    let release = |words: &[&str]| {
        let words = [&["release"][..], words, &["--kubeconfig", &kubeconfig]].concat();
        node.sandbox.command(&words)
    };
    release(&["--node", &scope, &given[0], "--yes"]).succeeded();
    world.assert_shown(&scope, "after the release of one");
    assert_eq!(holders(&world.cluster, &scope).into_values().collect::<Vec<_>>(), ["c2"]);
    release(&["--node", &scope, "--yes"]).succeeded();
    world.assert_nothing(&scope, "at the end");
}

#[test]
fn a_gc_removes_what_it_frees() {
    let Some(world) = world() else { return };
    let scope = own_name("gc");
    let (node, _proxy) = world.node(&scope, &scope);
    for container in ["a", "b"] {
        node.add(container).succeeded();
    }
    node.gc_call(&["b"]).run().succeeded();
    world.assert_shown(&scope, "after GC");
    assert_eq!(holders(&world.cluster, &scope).into_values().collect::<Vec<_>>(), ["b"]);
    node.del("b").succeeded();
    world.assert_nothing(&scope, "at the end");
}

#[test]
fn an_address_of_a_slice_is_refused() {
    let Some(world) = world() else { return };
    let scope = own_name("slices");
    let (node, _proxy) = world.node(&scope, &scope);
    let mut call = node.call("ADD", "c");
    call.stdin(crate::support::sandbox::configuration(&format!(
        r#""range":"10.77.0.0/16","node_slice_size":"/24","network_name":"{scope}""#
    )));
    let ended = call.run();
    assert_eq!(ended.code(), 7, "{ended:?}");
    assert!(ended.stdout.contains("an address of a slice is not given"), "{ended:?}");
}
