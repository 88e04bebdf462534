//! Slices whose objects are those of an older state of the cluster, because etcd was restored. A test
//! with a real copy of etcd is in `kube_faults/servers`.

use super::returning::{change_notes, states};
use super::review::sync;
use super::{BOOTS, Slices};
use crate::support::nodes::Node;
use serde_json::{Value, json};

/// Gives the only slice of a node back. Returns its object.
fn give_back(slices: &Slices, node: &Node) -> Value {
    slices.add(node, "a_0").succeeded();
    let object = slices.objects().remove(0);
    slices.del(node, "a_0");
    sync(node).succeeded();
    change_notes(node, |slice| slice["empty_since"] = json!(-600_000));
    sync(node).succeeded();
    assert_eq!(slices.objects(), Vec::<Value>::new());
    object
}

/// Creates an object again, as an older state of the cluster has it. The API server gives it another
/// uid, which takes the place of the earlier one on the disk of its node.
fn restore(slices: &Slices, node: &Node, mut object: Value) {
    let metadata = &object["metadata"];
    let earlier = metadata["uid"].as_str().unwrap().to_owned();
    object["metadata"] = json!({"name": metadata["name"], "labels": metadata["labels"]});
    slices.cluster.apply(&object.to_string());
    let now = slices.objects()[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    let path = node.state().join("given-back");
    let noted = std::fs::read_to_string(&path).unwrap();
    assert!(noted.contains(&earlier), "{noted}");
    std::fs::write(&path, noted.replace(&earlier, &now)).unwrap();
}

#[test]
fn a_slice_that_was_given_back_before_the_cluster_was_restored_is_removed_after_ten_minutes() {
    let Some(slices) = Slices::new("10.66.0.0/28") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    let object = give_back(&slices, &one);
    restore(&slices, &one, object);
    let refused = slices.call_in(1, &one, "ADD", "b_0").run();
    assert_eq!(refused.code(), 100, "{}", refused.details());
    assert!(slices.objects()[0]["spec"]["returned"].is_string());
    let look = || {
        let mut sync = one.sandbox.command_call(&["slices", "sync"]);
        super::in_boot(1, &one, &mut sync);
        sync.run().succeeded();
    };
    look();
    let list = two.sandbox.command(&["slices", "list", "--pool", &slices.pool, "-o", "json"]);
    assert_eq!(list.document()[0]["state"], json!("returned"));
    // The name stays taken: the pods of another node may hold addresses.
    assert_eq!(slices.add(&two, "b_0").code(), 100);
    let path = one.state().join("given-back");
    let mut noted: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(noted[0]["seen"]["boot"], json!(BOOTS[1]));
    noted[0]["seen"]["at"] = json!(noted[0]["seen"]["at"].as_i64().unwrap() - 601_000);
    std::fs::write(&path, noted.to_string()).unwrap();
    look();
    assert_eq!(slices.objects(), Vec::<Value>::new());
    slices.add(&two, "b_0").succeeded();
}

#[test]
fn a_cluster_that_was_restored_in_an_earlier_boot_delays_no_claim() {
    let Some(slices) = Slices::new("10.66.3.0/24") else { return };
    let node = slices.node("one");
    slices.call_in(0, &node, "ADD", "a_0").run().succeeded();
    change_notes(&node, |slice| slice["state"] = json!("closing"));
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: u64 = uptime.split('.').next().unwrap().parse().unwrap();
    let seen = json!({"since_boot": uptime * 1000, "at": 0}).to_string();
    std::fs::write(node.state().join("restored-at"), seen).unwrap();
    assert_eq!(slices.call_in(0, &node, "ADD", "b_0").run().code(), 11);
    slices.call_in(1, &node, "ADD", "b_0").run().succeeded();
}

#[test]
fn a_slice_of_the_boot_before_stays_with_its_node_when_the_cluster_is_restored() {
    let Some(slices) = Slices::new("10.66.1.0/28") else { return };
    let node = slices.node("one");
    slices.call_in(0, &node, "ADD", "a_0").run().succeeded();
    let given = slices.call_in(1, &node, "ADD", "b_0").run().addresses();
    let name = slices.objects()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let earlier = json!({"spec": {"bootID": BOOTS[0]}}).to_string();
    slices.cluster.text(&["patch", "ipslices", &name, "--type=merge", "-p", &earlier]);
    let mut sync = node.sandbox.command_call(&["slices", "sync"]);
    super::in_boot(1, &node, &mut sync);
    let said = sync.run().succeeded().stderr.clone();
    assert!(!said.contains("two holders"), "{said}");
    assert_eq!(slices.objects()[0]["spec"]["bootID"], json!(BOOTS[1]));
    assert_eq!(states(&node), ["owned"]);
    assert_eq!(slices.call_in(1, &node, "ADD", "b_0").run().addresses(), given);
}

#[test]
fn a_slice_that_another_node_had_for_a_while_is_created_again_for_its_pods() {
    let Some(slices) = Slices::new("10.66.2.0/28") else { return };
    let node = slices.node("one");
    let given = slices.add(&node, "a_0").addresses();
    super::owning::give_to(&slices, "another");
    assert!(sync(&node).succeeded().stderr.contains("may have two holders"));
    assert_eq!(slices.add(&node, "a_0").code(), 101);
    assert_eq!(slices.owners(), ["10.66.2.0/28 another"], "it is not free");
    slices.cluster.text(&["delete", "ipslices", &super::review::name(&slices)]);
    sync(&node).succeeded();
    assert_eq!(slices.owners(), ["10.66.2.0/28 one"]);
    assert_eq!(slices.add(&node, "a_0").addresses(), given);
}
