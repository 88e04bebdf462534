//! Pools whose ranges overlap: a block has one owner in all pools, unless they are on different wires.

use super::returning::{change_notes, states};
use super::review::sync;
use super::{BOOTS, Slices};
use crate::support::sandbox::configuration;
use serde_json::{Value, json};

/// Returns a pool of one slice, and one of two, of which the first is that of the other pool.
fn one_and_two(third: u8, allowed: impl Fn(&str) -> Value) -> Option<[Slices; 2]> {
    let spec = |length: u8, allowed: Value| {
        json!({
            "ranges": [{"ipv4": format!("10.59.{third}.0/{length}")}],
            "slices": {"ipv4": {"perNodeMaskSize": 28}, "allowOverlapWith": allowed},
        })
    };
    let one = Slices::with(&spec(28, json!([])))?;
    let two = Slices::with(&spec(27, allowed(&one.pool)))?;
    Some([one, two])
}

#[test]
fn no_slice_is_claimed_that_overlaps_with_a_slice_of_another_pool() {
    let Some([one, two]) = one_and_two(0, |_| json!([])) else { return };
    let [node, other] = [one.node("one"), two.node("two")];
    one.add(&node, "a_0").succeeded();
    for container in 0..16 {
        let added = two.add(&other, &format!("a{container}_0"));
        if added.status == Some(0) {
            continue;
        }
        assert_eq!(added.code(), 101, "{}", added.details());
        let owner = format!("the node {} owns 10.59.0.0/28 of the pool {}", node.name, one.pool);
        assert!(added.details().contains(&owner), "{}", added.details());
    }
    let ipam = format!(r#""pool":"{}""#, two.pool);
    let network = other.sandbox.write("net.json", &configuration(&ipam));
    let explained =
        other.sandbox.command(&["explain", "--network", network.to_str().unwrap()]).stdout;
    assert!(explained.contains(&node.name), "{explained}");
    assert_eq!(two.owners(), ["10.59.0.16/28 two"]);
    assert_eq!(states(&other), ["owned"]);
    one.del(&node, "a_0");
    sync(&node).succeeded();
    change_notes(&node, |slice| slice["empty_since"] = json!(-600_000));
    sync(&node).succeeded();
    two.add(&other, "more_0").succeeded();
    let full = one.add(&node, "a_0");
    assert_eq!(full.code(), 101, "{}", full.details());
    assert_eq!(one.owners(), Vec::<String>::new());
}

#[test]
fn pools_on_different_wires_overlap_if_they_say_so() {
    let Some([one, two]) = one_and_two(1, |one| json!([one])) else { return };
    let [node, other] = [one.node("one"), two.node("two")];
    one.add(&node, "a_0").succeeded();
    let added = (0..18).filter(|number| two.add(&other, &format!("a{number}_0")).status == Some(0));
    assert!(16 <= added.count());
    assert_eq!(two.owners().len(), 2);
    // The other pool does not say so.
    one.del(&node, "a_0");
    sync(&node).succeeded();
    change_notes(&node, |slice| slice["empty_since"] = json!(-600_000));
    sync(&node).succeeded();
    assert_eq!(one.add(&node, "b_0").code(), 101);
    // A network of single addresses on another wire.
    let scope = json!({
        "ranges": [{"ipv4": "10.59.2.0/28"}],
        "slices": {"ipv4": {"perNodeMaskSize": 28}, "allowOverlapWith": [one.pool]},
    });
    let single = crate::support::nodes::Node::new(&one.pool, &one.pool, &one.cluster.kubeconfig());
    single.call_in("ADD", "a_0", "10.59.2.0/28").run().succeeded();
    let Some(beside) = Slices::with(&scope) else { return };
    beside.add(&beside.node("one"), "b_0").succeeded();
}

#[test]
fn of_two_slices_that_are_claimed_at_the_same_time_the_earlier_one_stays() {
    let Some([one, two]) = one_and_two(3, |_| json!([])) else { return };
    let node = one.node("one");
    // The geometry of the other pool is there before each of its slices.
    two.add(&two.node("two"), "a_0").succeeded();
    let other = two.objects().remove(0);
    two.cluster.text(&["delete", "ipslices", &super::review::name(&two)]);
    for is_later in [true, false] {
        one.add(&node, "a_0").succeeded();
        let mut slice = other.clone();
        let name = other["metadata"]["name"].as_str().unwrap().replace("10.59.3.16", "10.59.3.0");
        slice["metadata"] = json!({"name": name, "labels": other["metadata"]["labels"]});
        slice["spec"]["ipv4"] = json!("10.59.3.0/28");
        two.cluster.apply(&slice.to_string());
        if !is_later {
            let boot = json!({"spec": {"bootID": BOOTS[2]}}).to_string();
            two.cluster.text(&["patch", "ipslices", &name, "--type=merge", "-p", &boot]);
        }
        // Killed after the creation, before the look.
        change_notes(&node, |slice| {
            slice["state"] = json!("asked");
            let metadata = slice["object"]["metadata"].as_object_mut().unwrap();
            metadata.retain(|key, _| !["uid", "resourceVersion"].contains(&key.as_str()));
        });
        sync(&node).succeeded();
        let expected: &[&str] = if is_later { &["10.59.3.0/28 one"] } else { &[] };
        assert_eq!(one.owners(), expected);
        assert_eq!(states(&node).len(), expected.len());
        two.cluster.text(&["delete", "ipslices", &name]);
    }
}
