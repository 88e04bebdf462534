//! A node that was cut off, and whose slices other nodes have got since.

use super::returning::change_all_notes;
use super::{Slices, proxy, seen};
use crate::support::nodes::Node;
use crate::support::proxy::Door;
use hereabouts::retry::Stopwatch;
use serde_json::json;
use std::time::Duration;

/// Lets the node's last look at its slices, and its last attempt, be six minutes ago.
fn six_minutes_later(node: &Node) {
    change_all_notes(node, |notes| {
        for key in ["looked", "tried"] {
            if let Some(at) = notes[key]["at"].as_i64() {
                notes[key]["at"] = json!(at - 360_000);
            }
        }
    });
}

/// A pool of one slice.
fn one_slice(range: &str) -> Option<Slices> {
    Slices::with(&json!({"ranges": [{"ipv4": range}], "slices": {"ipv4": {"perNodeMaskSize": 28}}}))
}

#[test]
fn a_node_that_was_cut_off_looks_before_it_gives_an_address() {
    let Some(slices) = one_slice("10.63.0.0/28") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    slices.add(&one, "a_0").succeeded();
    // It is off, as it seems: an operator releases its slice, and removes it.
    let [object] = &slices.objects()[..] else { panic!("{:?}", slices.owners()) };
    let name = object["metadata"]["name"].as_str().unwrap();
    slices.cluster.text(&["delete", "ipslices.hereabouts.dev", name]);
    slices.add(&two, "b_0").succeeded();
    six_minutes_later(&one);
    let refused = slices.add(&one, "c_0");
    assert_eq!(refused.code(), 100, "{refused:?}");
    assert_eq!(slices.owners(), ["10.63.0.0/28 two"]);
}

#[test]
fn without_an_answer_a_node_goes_on_and_waits_once_a_minute() {
    let Some(slices) = one_slice("10.63.1.0/28") else { return };
    let node = slices.node("one");
    let proxy = proxy(&slices, &node);
    slices.add(&node, "a_0").succeeded();
    proxy.door(Door::Mute);
    six_minutes_later(&node);
    let waited = |container: &str| {
        let start = Stopwatch::default();
        slices.add(&node, container).succeeded();
        start.elapsed()
    };
    let first = waited("b_0");
    assert!(Duration::from_millis(900) < first, "{first:?}");
    let second = waited("c_0");
    assert!(second < Duration::from_millis(900), "{second:?}");
    proxy.door(Door::Open);
    six_minutes_later(&node);
    seen(&proxy);
    slices.add(&node, "d_0").succeeded();
    assert_eq!(seen(&proxy), ["GET ipslicegeometries", "GET ipslices", "GET ippools"]);
    slices.add(&node, "e_0").succeeded();
    assert_eq!(seen(&proxy), Vec::<String>::new());
}
