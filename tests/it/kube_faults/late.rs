//! Writes that the server carries out after their caller has given them up: an ADD was answered
//! with an error or by a second attempt, a DEL has run, and then the first attempt arrives.

use super::node_state::seconds_later;
use super::rig::{Rig, shared, within};
use crate::support::nodes::{Node, own_name};
use crate::support::proxy::{Act, Reply};

fn only(rig: &Rig<'_>) -> Vec<(String, String)> {
    rig.holders().into_iter().collect()
}

fn holds(address: &str, container: &str) -> Vec<(String, String)> {
    vec![(address.to_owned(), container.to_owned())]
}

#[test]
fn a_creation_that_comes_after_the_del_is_taken_back() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.proxy.first(1, "POST", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
    rig.node.del("c").succeeded();
    assert_eq!(only(&rig), []);
    assert_eq!(rig.proxy.send_held_back(), [201]);
    assert_eq!(only(&rig), holds("10.9.0.1", "c"));
    seconds_later(&rig.node, 6);
    // Makes any call of the node, for another attachment.
    let other = rig.node.add("other").addresses();
    assert_eq!(only(&rig), holds(&other[0], "other"));
    rig.node.del("other").succeeded();
    rig.assert_empty("after the last DEL");
    seconds_later(&rig.node, 60);
    rig.node.del("nobody").succeeded();
    assert!(!rig.node.state().join("tombstones").exists());
}

#[test]
fn a_tombstone_is_looked_at_for_a_minute_and_then_forgotten() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.proxy.first(1, "POST", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
    rig.node.del("c").succeeded();
    rig.proxy.seen();
    rig.node.del("nobody").succeeded();
    assert_eq!(rig.proxy.methods(), [""; 0], "looked at again too soon");
    seconds_later(&rig.node, 6);
    rig.node.del("nobody").succeeded();
    assert_eq!(rig.proxy.methods(), ["GET"]);
    seconds_later(&rig.node, 60);
    rig.node.del("nobody").succeeded();
    assert_eq!(rig.proxy.methods(), ["GET"]);
    rig.node.del("nobody").succeeded();
    assert_eq!(rig.proxy.methods(), [""; 0]);
}

/// The node's state is rebuilt from the objects, and this object does not exist yet.
#[test]
fn a_creation_that_comes_after_the_state_was_rebuilt_is_taken_back() {
    let Some(cluster) = shared() else { return };
    for when in ["before the DEL", "after the DEL"] {
        let rig = Rig::new(cluster).impatient();
        rig.proxy.first(1, "POST", Act::HoldBack);
        assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
        if when == "after the DEL" {
            rig.node.del("c").succeeded();
        }
        std::fs::remove_file(rig.node.state().join("complete")).unwrap();
        rig.node.del("nobody").succeeded();
        rig.node.del("c").succeeded();
        assert_eq!(rig.proxy.send_held_back(), [201]);
        seconds_later(&rig.node, 6);
        rig.node.del("nobody").succeeded();
        rig.assert_empty(when);
    }
}

/// Each attempt may arrive by itself.
#[test]
fn a_second_attempt_that_comes_after_the_first_was_taken_back_is_taken_back() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.proxy.script(|asked| {
        if asked.method == "POST" { Act::HoldBackAfter(Reply::status(504)) } else { Act::Pass }
    });
    assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
    rig.node.del("c").succeeded();
    for _ in 0..2 {
        assert_eq!(rig.proxy.send_first_held_back(), 201);
        seconds_later(&rig.node, 6);
        rig.node.del("nobody").succeeded();
        rig.assert_empty("an attempt came late");
    }
}

/// The creation of the first attempt is the same as that of the second: it may create the object
/// again when the DEL has removed it.
#[test]
fn a_first_attempt_that_comes_after_the_del_is_taken_back() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    rig.proxy.first(1, "POST", Act::HoldBackAfter(Reply::status(504)));
    assert_eq!(within(5.0, &rig.node.call("ADD", "c")).addresses(), ["10.9.0.1"]);
    rig.node.del("c").succeeded();
    assert_eq!(rig.proxy.send_held_back(), [201]);
    seconds_later(&rig.node, 6);
    rig.node.del("nobody").succeeded();
    rig.assert_empty("the first attempt came late");
}

#[test]
fn a_first_attempt_that_comes_late_is_refused_while_the_second_stands() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    rig.proxy.first(1, "POST", Act::HoldBackAfter(Reply::status(504)));
    let added = within(5.0, &rig.node.call("ADD", "c"));
    assert_eq!(rig.proxy.send_held_back(), [409]);
    rig.node.check("c", &added).succeeded();
    assert_eq!(only(&rig), holds("10.9.0.1", "c"));
    rig.node.del("c").succeeded();
    assert_eq!(only(&rig), []);
}

#[test]
fn a_repeated_add_asks_for_the_same_address_first() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.proxy.first(1, "POST", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
    assert_eq!(rig.node.add("other").addresses(), ["10.9.0.2"]);
    assert_eq!(rig.node.add("c").addresses(), ["10.9.0.1"]);
    assert_eq!(rig.proxy.send_held_back(), [409]);
    rig.node.del("other").succeeded();
    rig.node.del("c").succeeded();
    rig.assert_empty("after both DELs");
}

/// The object came between the two ADDs. It belongs to the attachment, but names another ADD than
/// the second one.
#[test]
fn a_repeated_add_takes_what_came_late() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.proxy.first(1, "POST", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
    assert_eq!(rig.proxy.send_held_back(), [201]);
    assert_eq!(rig.node.add("c").addresses(), ["10.9.0.1"]);
    assert_eq!(only(&rig), holds("10.9.0.1", "c"));
    rig.node.del("c").succeeded();
    rig.assert_empty("after the DEL");
}

/// cnitool names a container after the path of its namespace: the same attachment comes back after
/// its DEL.
#[test]
fn a_tombstone_does_not_delete_the_next_add_of_the_same_attachment() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.proxy.first(1, "POST", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
    rig.node.del("c").succeeded();
    let added = rig.node.add("c");
    assert_eq!(rig.holders()[&added.addresses()[0]], "c");
    rig.proxy.send_held_back();
    seconds_later(&rig.node, 6);
    rig.node.del("nobody").succeeded();
    assert_eq!(only(&rig), holds(&added.addresses()[0], "c"));
    rig.node.check("c", &added).succeeded();
    rig.node.del("c").succeeded();
    rig.assert_empty("after the DEL");
}

/// The name that a tombstone watches belongs to another attachment now, of this node or of the next
/// one.
#[test]
fn what_another_holds_by_now_is_not_deleted() {
    let Some(cluster) = shared() else { return };
    for of_neighbor in [false, true] {
        let rig = Rig::new(cluster).impatient();
        let neighbor = Node::new(&own_name("neighbor"), &rig.node.scope, &cluster.kubeconfig());
        rig.proxy.first(1, "POST", Act::HoldBack);
        assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
        rig.node.del("c").succeeded();
        // From here on, the address that may come late is tried.
        std::fs::remove_dir_all(rig.node.state().join("scopes")).unwrap();
        std::fs::create_dir(rig.node.state().join("scopes")).unwrap();
        let holder = if of_neighbor { &neighbor } else { &rig.node };
        assert_eq!(holder.add("other").addresses(), ["10.9.0.1"]);
        assert_eq!(rig.proxy.send_held_back(), [409]);
        seconds_later(&rig.node, 6);
        rig.node.del("nobody").succeeded();
        assert_eq!(only(&rig), holds("10.9.0.1", "other"), "of the neighbor: {of_neighbor}");
        holder.del("other").succeeded();
        rig.assert_empty("after the DEL");
    }
}

/// The object of a tombstone belongs to the attachment again: its second ADD could not distinguish
/// it from its own first attempt.
#[test]
fn what_a_later_add_has_adopted_is_not_deleted() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.proxy.first(1, "POST", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
    rig.node.del("c").succeeded();
    assert_eq!(rig.proxy.send_held_back(), [201]);
    // From here on, the address that came late is tried, whatever is believed, and without a
    // listing of the scope.
    std::fs::remove_dir_all(rig.node.state().join("scopes")).unwrap();
    std::fs::create_dir(rig.node.state().join("scopes")).unwrap();
    rig.set("allocation_order", "lowest");
    rig.proxy.first(1, "POST", Act::Reset);
    let added = rig.node.add("c");
    assert_eq!(added.addresses(), ["10.9.0.1"]);
    seconds_later(&rig.node, 6);
    rig.node.del("nobody").succeeded();
    assert_eq!(only(&rig), holds("10.9.0.1", "c"));
    rig.node.check("c", &added).succeeded();
    rig.node.del("c").succeeded();
    rig.assert_empty("after the DEL");
}

#[test]
fn a_creation_of_an_earlier_add_that_comes_after_the_del_is_taken_back() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.proxy.first(1, "POST", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
    rig.node.add("c").succeeded();
    rig.node.del("c").succeeded();
    assert_eq!(rig.proxy.send_held_back(), [201]);
    seconds_later(&rig.node, 6);
    rig.node.del("nobody").succeeded();
    rig.assert_empty("the first ADD's creation came late");
}

/// Another node had the address in the meantime, and the attachment got another one.
#[test]
fn a_creation_that_comes_after_another_holder_is_taken_back() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    let neighbor = Node::new(&own_name("neighbor"), &rig.node.scope, &cluster.kubeconfig());
    rig.proxy.first(1, "POST", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "c")).code(), 11);
    assert_eq!(neighbor.add("other").addresses(), ["10.9.0.1"]);
    let added = rig.node.add("c").addresses();
    neighbor.del("other").succeeded();
    assert_eq!(rig.proxy.send_held_back(), [201]);
    seconds_later(&rig.node, 6);
    rig.node.del("nobody").succeeded();
    assert_eq!(only(&rig), holds(&added[0], "c"));
    rig.node.del("c").succeeded();
    rig.assert_empty("after both DELs");
}

#[test]
fn a_removal_that_comes_late_removes_nothing_of_the_next_holder() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    rig.node.add("c").succeeded();
    rig.proxy.first(1, "DELETE", Act::HoldBackAfter(Reply::status(504)));
    rig.node.del("c").succeeded();
    assert_eq!(rig.node.add("next").addresses(), ["10.9.0.1"]);
    assert_eq!(rig.proxy.send_held_back(), [409]);
    assert_eq!(only(&rig), holds("10.9.0.1", "next"));
}

#[test]
fn a_re_homing_that_comes_after_the_dels_moves_nothing() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.node.add("web_1").succeeded();
    rig.proxy.first(1, "PATCH", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "web_2")).code(), 11);
    rig.node.del("web_2").succeeded();
    rig.node.del("web_1").succeeded();
    assert_eq!(only(&rig), []);
    assert_eq!(rig.proxy.send_held_back(), [404]);
    rig.assert_empty("after both DELs");
}

#[test]
fn a_re_homing_that_comes_after_the_next_one_moves_nothing() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.node.add("web_1").succeeded();
    rig.proxy.first(1, "PATCH", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "web_2")).code(), 11);
    assert_eq!(rig.node.add("web_3").addresses(), ["10.9.0.1"]);
    assert_eq!(rig.proxy.send_held_back(), [409]);
    assert_eq!(only(&rig), holds("10.9.0.1", "web_3"));
}

/// The new sandbox's DEL has run, and no further DEL will come.
#[test]
fn a_re_homing_that_comes_between_the_dels_is_taken_back() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    rig.node.add("web_1").succeeded();
    rig.proxy.first(1, "PATCH", Act::HoldBack);
    assert_eq!(within(2.0, &rig.node.call("ADD", "web_2")).code(), 11);
    rig.node.del("web_2").succeeded();
    assert_eq!(rig.proxy.send_held_back(), [200]);
    assert_eq!(only(&rig), holds("10.9.0.1", "web_2"));
    rig.node.del("web_1").succeeded();
    seconds_later(&rig.node, 6);
    rig.node.del("nobody").succeeded();
    rig.assert_empty("after both DELs");
}
