//! Which node owns a slice after a reboot, a lost disk, a copy of a disk, and a restored cluster.

use super::{Slices, in_boot, proxy, seen};
use crate::support::nodes::Node;
use crate::support::sandbox::Ended;
use serde_json::{Value, json};

fn add_in(slices: &Slices, boot: usize, node: &Node, container: &str) -> Ended {
    slices.call_in(boot, node, "ADD", container).run()
}

/// Returns the boot that the only slice names.
fn boot(slices: &Slices) -> String {
    slices.objects()[0]["spec"]["bootID"].as_str().unwrap().to_owned()
}

/// Removes what a node has on its disk.
fn lose_disk(node: &Node) {
    std::fs::remove_dir_all(node.sandbox.store()).unwrap();
}

/// Copies the disk of a node. Returns how to put the copy back.
fn copy_disk(node: &Node) -> impl Fn() {
    let (from, to) = (node.sandbox.store(), node.sandbox.path("copy"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let _ = std::fs::remove_dir_all(to);
        let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status();
        assert!(copied.unwrap().success());
    };
    copy(&from, &to);
    move || copy(&to, &from)
}

fn change(slices: &Slices, name: &str, spec: &Value) {
    let patch = json!({"spec": spec}).to_string();
    slices.cluster.text(&["patch", "ipslices", name, "--type=merge", "-p", &patch]);
}

fn name(slices: &Slices) -> String {
    slices.objects()[0]["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Gives the only slice to another node, as if that node had claimed it.
pub(super) fn give_to(slices: &Slices, other: &str) {
    let mut object = slices.objects().remove(0);
    slices.cluster.text(&["delete", "ipslices", &name(slices)]);
    let metadata = &object["metadata"];
    object["metadata"] = json!({"name": metadata["name"], "labels": metadata["labels"]});
    object["spec"]["node"] = json!(other);
    slices.cluster.apply(&object.to_string());
}

#[test]
fn after_a_reboot_one_request_for_each_slice_comes_before_the_first_address() {
    let Some(slices) = Slices::new("10.61.0.0/24") else { return };
    let node = slices.node("one");
    let proxy = proxy(&slices, &node);
    let first = add_in(&slices, 0, &node, "a_0").addresses();
    seen(&proxy);
    let second = add_in(&slices, 1, &node, "b_0").addresses();
    let asked = seen(&proxy);
    let of_slices: Vec<_> = asked.iter().filter(|asked| asked.contains("slice")).collect();
    assert_eq!(of_slices, ["GET ipslices", "PATCH ipslices"], "{asked:?}");
    assert_eq!(boot(&slices), super::BOOTS[1]);
    assert_eq!(slices.owners().len(), 1);
    assert_ne!(first, second, "nothing shows yet that the pod of the earlier boot is gone");
    add_in(&slices, 1, &node, "c_0").succeeded();
    assert!(seen(&proxy).iter().all(|asked| asked == "GET ippools"));
}

#[test]
fn while_the_api_server_is_away_no_slice_is_used_in_a_new_boot() {
    let Some(slices) = Slices::new("10.61.1.0/24") else { return };
    let node = slices.node("one");
    add_in(&slices, 0, &node, "a_0").succeeded();
    let proxy = proxy(&slices, &node);
    proxy.door(crate::support::proxy::Door::Reset);
    let refused = add_in(&slices, 1, &node, "b_0");
    assert_eq!(refused.code(), 11, "{}", refused.details());
}

#[test]
fn a_node_that_lost_its_disk_takes_its_slice_up_after_a_reboot_only() {
    let Some(slices) = Slices::new("10.61.2.0/24") else { return };
    let node = slices.node("one");
    add_in(&slices, 0, &node, "a_0").succeeded();
    let owners = slices.owners();
    lose_disk(&node);
    // The pod of the ADD above may live: its address is recorded nowhere.
    let other = add_in(&slices, 0, &node, "b_0").addresses();
    assert_eq!(slices.owners().len(), 2);
    lose_disk(&node);
    let again = add_in(&slices, 1, &node, "c_0").addresses();
    assert_eq!(slices.owners().len(), 2);
    assert!(slices.owners().contains(&owners[0]));
    let of_slice = |address: &str| address.rsplit('.').next().unwrap().parse::<u8>().unwrap() / 16;
    let blocks: Vec<u8> =
        slices.owners().iter().map(|owner| of_slice(owner.split('/').next().unwrap())).collect();
    assert!(blocks.contains(&of_slice(&again[0])) && blocks.contains(&of_slice(&other[0])));
}

#[test]
fn a_disk_that_went_back_gives_nothing_from_a_slice_that_another_node_owns() {
    let Some(slices) = Slices::new("10.61.3.0/24") else { return };
    let node = slices.node("one");
    let given = add_in(&slices, 0, &node, "a_0").addresses();
    let put_back = copy_disk(&node);
    slices.call_in(0, &node, "DEL", "a_0").run().succeeded();
    give_to(&slices, "another");
    put_back();
    let after = add_in(&slices, 1, &node, "b_0").addresses();
    assert_eq!(slices.owners().len(), 2);
    assert_ne!(
        after[0].rsplit('.').next().unwrap().parse::<u8>().unwrap() / 16,
        given[0].rsplit('.').next().unwrap().parse::<u8>().unwrap() / 16
    );
    // The attachment whose address is in the lost slice is not answered again.
    let lost = slices.call_in(1, &node, "ADD", "a_0").run();
    assert_eq!(lost.code(), 101, "{}", lost.details());
    assert!(lost.details().contains("is not this node's any more"), "{}", lost.details());
    slices.call_in(1, &node, "DEL", "a_0").run().succeeded();
}

#[test]
fn a_slice_whose_object_is_gone_is_created_again_by_its_node() {
    let Some(slices) = Slices::new("10.61.4.0/24") else { return };
    let node = slices.node("one");
    let given = add_in(&slices, 0, &node, "a_0").addresses();
    let owners = slices.owners();
    slices.cluster.text(&["delete", "ipslices", &name(&slices)]);
    // In the boot in which it was confirmed, nothing asks.
    add_in(&slices, 0, &node, "b_0").succeeded();
    assert_eq!(slices.owners(), Vec::<String>::new());
    let after = add_in(&slices, 1, &node, "c_0").addresses();
    assert_eq!(slices.owners(), owners);
    assert_eq!(after[0].rsplit_once('.').unwrap().0, given[0].rsplit_once('.').unwrap().0);
}

#[test]
fn a_slice_that_was_released_is_not_used_in_another_boot() {
    let Some(slices) = Slices::new("10.61.5.0/24") else { return };
    let node = slices.node("one");
    add_in(&slices, 0, &node, "a_0").succeeded();
    change(&slices, &name(&slices), &json!({"released": "2026-11-30T00:00:00Z"}));
    add_in(&slices, 1, &node, "b_0").succeeded();
    assert_eq!(slices.owners().len(), 2);
}

#[test]
fn an_add_that_was_killed_in_a_slice_that_was_given_back_is_not_answered_from_it() {
    let Some(slices) = Slices::new("10.61.6.0/24") else { return };
    let node = slices.node("one");
    let first = slices.add(&node, "a_0").addresses();
    // As after a kill between the record and the second look at the notes: the record is there,
    // and the slice is not.
    give_to(&slices, "another");
    let notes = node.state().join("slices");
    std::fs::remove_file(&notes).unwrap();
    let second = slices.add(&node, "a_0").addresses();
    assert_ne!(first, second);
    assert_eq!(slices.owners().len(), 2);
}

#[test]
fn the_slices_of_a_node_show_that_another_way_leads_to_the_same_cluster() {
    let Some(slices) = Slices::new("10.61.16.0/24") else { return };
    let node = slices.node("one");
    let given = slices.add(&node, "a_0").addresses();
    // As if the last call had come by another URL, another authority and another kubeconfig.
    let complete = node.state().join("complete");
    let mut origin: Value = serde_json::from_slice(&std::fs::read(&complete).unwrap()).unwrap();
    origin["cluster"] = json!("another-another");
    origin["ways"] = json!([{"id": "another-another", "file": "/another"}]);
    std::fs::write(&complete, origin.to_string()).unwrap();
    assert_eq!(slices.add(&node, "a_0").addresses(), given);
    assert_eq!(slices.owners().len(), 1);
    let noted: Value = serde_json::from_slice(&std::fs::read(&complete).unwrap()).unwrap();
    assert_eq!(noted["ways"].as_array().unwrap().len(), 2);
}

#[test]
fn damaged_notes_use_no_slice_of_this_boot_and_the_next_boot_takes_it_up() {
    let Some(slices) = Slices::new("10.61.7.0/24") else { return };
    let node = slices.node("one");
    add_in(&slices, 0, &node, "a_0").succeeded();
    for notes in ["slices", "given-back"] {
        std::fs::write(node.state().join(notes), "{").unwrap();
    }
    add_in(&slices, 0, &node, "b_0").succeeded();
    assert_eq!(slices.owners().len(), 2);
    add_in(&slices, 1, &node, "c_0").succeeded();
    assert_eq!(slices.owners().len(), 2);
}

#[test]
fn a_pool_that_is_cut_in_another_way_is_refused_while_its_geometry_stands() {
    let Some(slices) = Slices::new("10.61.8.0/24") else { return };
    let node = slices.node("one");
    slices.add(&node, "a_0").succeeded();
    // What is immutable in an object changes when the object is replaced.
    slices.cluster.text(&["delete", "ippools.hereabouts.dev", &slices.pool]);
    slices.write(
        &json!({"ranges": [{"ipv4": "10.61.8.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 26}}}),
    );
    let other = slices.node("two");
    let refused = slices.add(&other, "b_0");
    assert_eq!(refused.code(), 7, "{}", refused.details());
    assert!(refused.details().contains("cut in another way"), "{}", refused.details());
    assert_eq!(slices.owners().len(), 1);
}

#[test]
fn further_ranges_of_a_pool_are_used_and_no_range_changes() {
    let Some(slices) = Slices::new("10.61.9.0/28") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    slices.add(&one, "a_0").succeeded();
    let full = slices.add(&two, "b_0");
    assert_eq!(full.code(), 100);
    assert!(full.details().contains("each slice of the pool"), "{}", full.details());
    let grown = json!({"ranges": [{"ipv4": "10.61.9.0/28"}, {"ipv4": "10.61.10.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 28}}});
    slices.write(&grown);
    assert!(slices.add(&two, "b_0").addresses()[0].starts_with("10.61.10."));
    assert!(slices.add(&two, "b_0").addresses()[0].starts_with("10.61.10."));
    for refused in [
        json!({"ranges": [{"ipv4": "10.61.10.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 28}}}),
        json!({"ranges": [{"ipv4": "10.61.9.0/27"}, {"ipv4": "10.61.10.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 28}}}),
        json!({"ranges": grown["ranges"], "slices": {"ipv4": {"perNodeMaskSize": 29}}}),
        json!({"subnets": [{"subnet": "10.61.9.0/28"}]}),
    ] {
        let file = one.sandbox.write("pool.json", &slices.manifest(&refused).to_string());
        let replaced = slices.cluster.kubectl(&["replace", "-f", file.to_str().unwrap()]);
        assert!(!replaced.status.success(), "{refused}");
    }
}

#[test]
fn no_slice_is_claimed_where_somebody_holds_an_address_in_another_scope() {
    let Some(slices) = Slices::new("10.61.11.0/28") else { return };
    let other =
        Node::new(&format!("{}-other", slices.pool), &slices.pool, &slices.cluster.kubeconfig());
    other.call_in("ADD", "a_0", "10.61.11.0/28").run().succeeded();
    let node = slices.node("one");
    let refused = slices.add(&node, "b_0");
    assert_eq!(refused.code(), 101, "{}", refused.details());
    let holder = format!(
        "pod default/a on the node {} holds 10.61.11.1 in the scope {}",
        other.name, other.scope
    );
    assert!(refused.details().contains(&holder), "{}", refused.details());
    other.call_in("DEL", "a_0", "10.61.11.0/28").run().succeeded();
    slices.add(&node, "b_0").succeeded();
}

#[test]
fn a_requested_address_is_given_in_a_free_or_own_slice_and_in_no_other() {
    let Some(slices) = Slices::new("10.61.12.0/24") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    let ask = |node: &Node, container: &str, address: &str| {
        let mut call = slices.call(node, "ADD", container);
        let mut stdin: Value = serde_json::from_slice(&call.stdin).unwrap();
        stdin["runtimeConfig"] = json!({"ips": [address]});
        call.stdin(stdin.to_string()).run()
    };
    assert_eq!(ask(&one, "a_0", "10.61.12.100").addresses(), ["10.61.12.100"]);
    assert_eq!(slices.owners(), ["10.61.12.96/28 one"]);
    assert_eq!(ask(&one, "b_0", "10.61.12.101").addresses(), ["10.61.12.101"]);
    assert_eq!(ask(&one, "c_0", "10.61.12.100").code(), 101);
    let refused = ask(&two, "d_0", "10.61.12.102");
    assert_eq!(refused.code(), 101, "{}", refused.details());
    assert!(refused.details().contains("slice"), "{}", refused.details());
    assert_eq!(slices.owners(), ["10.61.12.96/28 one"]);
}

#[test]
fn two_machines_of_one_name_do_not_share_a_slice() {
    let Some(slices) = Slices::new("10.61.13.0/24") else { return };
    let node = slices.node("one");
    add_in(&slices, 0, &node, "a_0").succeeded();
    lose_disk(&node);
    let mut call = slices.call(&node, "ADD", "b_0");
    in_boot(1, &node, &mut call);
    let machine = node.sandbox.write("machine-id", "0123456789abcdef0123456789abcdef\n");
    call.seeing("/etc/machine-id", &machine);
    call.run().succeeded();
    assert_eq!(slices.owners().len(), 2);
}

#[test]
fn another_machine_with_a_copy_of_the_disk_does_not_use_the_slice() {
    let Some(slices) = Slices::new("10.61.14.0/24") else { return };
    let node = slices.node("one");
    add_in(&slices, 0, &node, "a_0").succeeded();
    let before = slices.objects();
    let mut call = slices.call(&node, "ADD", "b_0");
    in_boot(1, &node, &mut call);
    let machine = node.sandbox.write("machine-id", "0123456789abcdef0123456789abcdef\n");
    call.seeing("/etc/machine-id", &machine);
    call.run();
    let after = slices.objects();
    assert!(after.contains(&before[0]), "{before:?} {after:?}");
}

#[test]
fn a_node_that_lost_only_the_addresses_in_its_slice_does_not_give_them_again_in_this_boot() {
    let Some(slices) = Slices::new("10.61.15.0/24") else { return };
    let node = slices.node("one");
    let first = add_in(&slices, 0, &node, "a_0").addresses();
    std::fs::remove_dir_all(node.sandbox.store().join("slices")).unwrap();
    // The pod of the ADD above may live.
    let second = add_in(&slices, 0, &node, "b_0").addresses();
    assert_ne!(first, second);
    assert_eq!(slices.owners().len(), 2);
    assert_eq!(add_in(&slices, 0, &node, "b_0").addresses(), second);
    add_in(&slices, 1, &node, "c_0").succeeded();
    assert_eq!(slices.owners().len(), 2);
}
