//! Slices whose owner was interrupted, refused or lost from sight: nothing is given twice, and no
//! slice with pods is forgotten.

use super::returning::{change_notes, states, sweep};
use super::review::{name, sync};
use super::{Slices, proxy, seen};
use crate::support::living::Living;
use crate::support::nodes::Node;
use crate::support::proxy::{Act, Reply};
use crate::support::sandbox::Call;
use serde_json::json;

/// Returns a call of one and the same pod, whatever its sandbox.
fn of_pod(slices: &Slices, boot: usize, node: &Node, container: &str) -> Call {
    let mut call = slices.call_in(boot, node, "ADD", container);
    call.set(
        "CNI_ARGS",
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=db-0;K8S_POD_UID=u-1",
    );
    call
}

#[test]
fn a_pod_does_not_take_an_address_of_its_earlier_sandbox_in_a_slice_that_is_gone() {
    let Some(slices) = Slices::new("10.65.0.0/24") else { return };
    let node = slices.node("one");
    let first = of_pod(&slices, 0, &node, "a_0").run().addresses();
    // In the slice that is still the node's, the new sandbox of the pod has the same address.
    assert_eq!(of_pod(&slices, 1, &node, "a_1").run().addresses(), first);
    super::owning::give_to(&slices, "another");
    let second = of_pod(&slices, 2, &node, "a_2").run().addresses();
    assert_ne!(first, second);
    assert_eq!(slices.owners().len(), 2);
}

#[test]
fn a_slice_that_the_cluster_lost_is_not_forgotten_when_its_creation_is_refused() {
    let Some(slices) = Slices::new("10.65.1.0/24") else { return };
    let node = slices.node("one");
    let proxy = proxy(&slices, &node);
    slices.add(&node, "a_0").succeeded();
    let owners = slices.owners();
    slices.cluster.text(&["delete", "ipslices", &name(&slices)]);
    proxy.first(1, "POST", Act::Answer(Reply::status(403)));
    assert_ne!(sync(&node).status, Some(0));
    // Without a call that needs it.
    sync(&node).succeeded();
    assert_eq!(slices.owners(), owners);
    slices.add(&node, "b_0").succeeded();
    assert_eq!(slices.owners(), owners);
}

#[test]
fn a_return_whose_answer_was_lost_is_not_taken_back_without_a_look() {
    let Some(slices) = Slices::new("10.65.2.0/24") else { return };
    let node = slices.node("one");
    let Some(living) = Living::new() else { return skipped!("a network namespace needs root") };
    let mut call = slices.call(&node, "ADD", "a_0");
    let first = call.set("CNI_NETNS", living.path()).run().addresses();
    // The slice was marked while it was empty and the object was removed, but the answer was lost.
    // The ADD above has claimed its address before, and was killed before its second look.
    super::owning::give_to(&slices, "another");
    change_notes(&node, |slice| slice["state"] = json!("closing"));
    sweep(&node);
    assert_eq!(states(&node), ["owned"]);
    let second = slices.add(&node, "b_0").addresses();
    let block = |address: &str| address.rsplit('.').next().unwrap().parse::<u8>().unwrap() / 16;
    assert_ne!(block(&first[0]), block(&second[0]));
    assert_eq!(slices.owners().len(), 2);
}

#[test]
fn after_the_cluster_was_set_back_the_first_claim_waits_too() {
    let Some(slices) = Slices::new("10.65.3.0/24") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    let proxy = proxy(&slices, &two);
    slices.add(&one, "a_0").succeeded();
    slices.add(&two, "a_0").succeeded();
    // As if the cluster had been set back since: what the node has seen is higher.
    std::fs::write(two.state().join("revision"), "999999999").unwrap();
    change_notes(&two, |slice| slice["state"] = json!("closing"));
    seen(&proxy);
    let refused = slices.add(&two, "b_0");
    assert_eq!(refused.code(), 11, "{}", refused.details());
    assert!(refused.details().contains("restored"), "{}", refused.details());
    assert!(!seen(&proxy).contains(&"POST ipslices".to_owned()));
}

#[test]
fn a_released_slice_of_a_node_that_lives_goes_when_it_is_empty() {
    let Some(slices) = Slices::new("10.65.4.0/24") else { return };
    let node = slices.node("one");
    slices.add(&node, "a_0").succeeded();
    let patch = json!({"spec": {"released": "2026-11-30T00:00:00Z"}}).to_string();
    slices.cluster.text(&["patch", "ipslices", &name(&slices), "--type=merge", "-p", &patch]);
    sync(&node).succeeded();
    assert_eq!(slices.owners().len(), 1, "a pod holds an address of it");
    slices.del(&node, "a_0");
    sync(&node).succeeded();
    assert_eq!(slices.owners(), Vec::<String>::new());
}

#[test]
fn files_that_are_not_those_of_the_notes_give_no_slice_back() {
    let Some(slices) = Slices::new("10.65.5.0/24") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    for node in [&one, &two] {
        slices.add(node, "a_0").succeeded();
    }
    slices.del(&two, "a_0");
    let [of_one, of_two] = [&one, &two].map(|node| node.sandbox.store().join("slices"));
    std::fs::remove_dir_all(&of_one).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").args([&of_two, &of_one]).status();
    assert!(copied.unwrap().success());
    change_notes(&one, |slice| slice["empty_since"] = json!(-600_000));
    sweep(&one);
    assert_eq!(slices.owners().len(), 2, "{:?}", slices.owners());
}
