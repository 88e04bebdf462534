//! Which addresses pods get from slices, and what that costs.

use super::{Slices, proxy, seen};
use crate::support::proxy::{Act, Door, Reply};
use serde_json::json;
use std::collections::BTreeSet;

#[test]
fn each_node_gives_addresses_of_its_own_slice() {
    let Some(slices) = Slices::new("10.60.0.0/24") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    let mut given = BTreeSet::new();
    for container in ["a_0", "b_0", "c_0"] {
        for node in [&one, &two] {
            let added = slices.add(node, container);
            assert_eq!(
                added.document()["ips"][0]["address"].as_str().unwrap().split('/').nth(1),
                Some("24")
            );
            given.extend(added.addresses());
        }
    }
    assert_eq!(given.len(), 6, "{given:?}");
    let owners = slices.owners();
    assert_eq!(owners.len(), 2, "{owners:?}");
    assert_eq!(slices.single_objects(), 0);
    // A repeated ADD has the same address, a CHECK finds it, and a DEL frees it.
    let first = slices.add(&one, "a_0");
    assert_eq!(slices.add(&one, "a_0").addresses(), first.addresses());
    let mut check = slices.call(&one, "CHECK", "a_0");
    let mut stdin: serde_json::Value = serde_json::from_slice(&check.stdin).unwrap();
    stdin["prevResult"] = first.document();
    check.stdin(stdin.to_string()).run().succeeded();
    slices.del(&one, "a_0");
    slices.del(&one, "a_0");
    one.sandbox.forget_freed();
    assert_eq!(slices.add(&one, "d_0").addresses(), first.addresses());
    assert_eq!(slices.owners(), owners);
    let list = one.sandbox.command(&["list"]).succeeded().stdout.clone();
    assert!(list.contains(&first.addresses()[0]), "{list}");
}

#[test]
fn a_slice_without_an_address_to_give_is_not_claimed() {
    // All slices but the seventh are excluded.
    let excluded = ["10.60.9.0/26", "10.60.9.64/27", "10.60.9.112/28", "10.60.9.128/25"]
        .map(|range| json!({"addresses": range}));
    let Some(slices) = Slices::with(&json!({
        "ranges": [{"ipv4": "10.60.9.0/24", "exclude": excluded}],
        "slices": {"ipv4": {"perNodeMaskSize": 28}},
    })) else {
        return;
    };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    let given = slices.add(&one, "a_0");
    assert!(given.addresses()[0].starts_with("10.60.9.96"), "{given:?}");
    assert_eq!(slices.owners(), ["10.60.9.96/28 one"]);
    let full = slices.add(&two, "b_0");
    assert_eq!(full.code(), 100, "{full:?}");
    assert!(
        full.details().contains("that has addresses to give has an owner"),
        "{}",
        full.details()
    );
    assert_eq!(slices.owners().len(), 1);
}

#[test]
fn a_full_slice_is_followed_by_another_up_to_the_most() {
    let Some(slices) = Slices::with(&json!({
        "ranges": [{"ipv4": "10.60.1.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 30}, "maxPerNode": 2},
    })) else {
        return;
    };
    let node = slices.node("one");
    let count = |from: u32, to: u32| {
        (from..to).filter(|n| slices.add(&node, &format!("p-{n}_0")).status == Some(0)).count()
    };
    let given = count(0, 9);
    // The first and the last address of the whole range are nobody's.
    // The slices of both may be the last one and the first one.
    assert!((6..=8).contains(&given), "{given}");
    assert_eq!(slices.owners().len(), 2);
    let full = slices.add(&node, "more_0");
    assert_eq!(full.code(), 100, "{full:?}");
    assert!(full.details().contains("it owns 2 slices, the most"), "{}", full.details());
}

#[test]
fn both_families_of_a_pod_are_of_one_slice() {
    let Some(slices) = Slices::with(&json!({
        "ranges": [{"ipv4": "10.60.2.0/24", "ipv6": "fd00:60::/120", "gateways": ["10.60.2.1", "fd00:60::1"]}],
        "slices": {"ipv4": {"perNodeMaskSize": 28}, "ipv6": {"perNodeMaskSize": 124}},
    })) else {
        return;
    };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    for node in [&one, &two] {
        let addresses = slices.add(node, "a_0").addresses();
        let v4: std::net::Ipv4Addr = addresses[0].parse().unwrap();
        let v6: std::net::Ipv6Addr = addresses[1].parse().unwrap();
        assert_eq!(v4.octets()[3] / 16, u8::try_from(v6.segments()[7]).unwrap() / 16);
    }
    assert_eq!(slices.objects().len(), 2);
}

#[test]
fn an_add_in_an_owned_slice_asks_nobody() {
    let Some(slices) = Slices::new("10.60.3.0/24") else { return };
    let node = slices.node("one");
    let proxy = proxy(&slices, &node);
    slices.add(&node, "a_0").succeeded();
    let mut claimed = seen(&proxy);
    claimed.retain(|request| !request.contains("ippools"));
    let expected = [
        // What the node has, then how the pool is cut, then what else lies in the block.
        "GET ipallocations",
        "GET ipslices",
        "GET ipslicegeometries",
        "POST ipslicegeometries",
        "GET ipallocations",
        "POST ipslices",
        "GET ipslicegeometries",
    ];
    assert_eq!(claimed, expected);
    slices.add(&node, "b_0").succeeded();
    let after_first = seen(&proxy);
    assert!(after_first.iter().all(|request| request == "GET ippools"), "{after_first:?}");
    slices.add(&node, "c_0").succeeded();
    slices.add(&node, "c_0").succeeded();
    slices.del(&node, "c_0");
    assert_eq!(seen(&proxy), Vec::<String>::new());
    // Whatever becomes of the API server, and however old the copy of the pool is.
    proxy.door(Door::Reset);
    crate::pools::kube::age(&node, 100);
    slices.add(&node, "d_0").succeeded();
    slices.del(&node, "d_0");
    slices.del(&node, "b_0");
    let mut further = 0;
    let refused = loop {
        let ended = slices.add(&node, &format!("e-{further}_0"));
        match ended.status {
            Some(0) => further += 1,
            _ => break ended,
        }
    };
    assert!((12..16).contains(&further), "{further}");
    assert_eq!(refused.code(), 11, "{}", refused.details());
    proxy.door(Door::Open);
    slices.add(&node, "f_0").succeeded();
    assert_eq!(slices.owners().len(), 2);
}

#[test]
fn the_list_of_a_node_shows_its_slices_while_the_api_server_does_not_answer() {
    let Some(slices) = Slices::new("10.60.5.0/24") else { return };
    let node = slices.node("one");
    let proxy = proxy(&slices, &node);
    let given = slices.add(&node, "a_0").addresses();
    proxy.script(|_| Act::Answer(Reply::status(403)));
    let listed = node.sandbox.command(&["list"]);
    assert_eq!(listed.status, Some(1), "{listed:?}");
    assert!(listed.stdout.contains(&given[0]), "{listed:?}");
    assert!(listed.stderr.contains("warning: this is not complete"), "{listed:?}");
    assert!(listed.stderr.contains("error: "), "{listed:?}");
    let shown = node.sandbox.command(&["show", &given[0]]);
    assert_eq!(shown.status, Some(1), "{shown:?}");
    assert!(shown.stdout.contains("default/a"), "{shown:?}");
    assert!(shown.stderr.contains("warning: this is not complete"), "{shown:?}");
    let listed = node.sandbox.command(&["list", "-o", "json"]);
    assert_eq!(listed.status, Some(1), "{listed:?}");
    let document: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(document[0]["address"], json!(given[0]));
    slices.del(&node, "a_0");
    let nothing = node.sandbox.command(&["list", "-o", "json"]);
    assert_eq!((nothing.status, nothing.stdout.as_str()), (Some(1), ""), "{nothing:?}");
}

#[test]
fn a_change_of_the_pool_counts_on_a_node_with_slices_after_the_next_look_of_the_daemonset() {
    let Some(slices) = Slices::new("10.60.4.0/24") else { return };
    let node = slices.node("one");
    let proxy = proxy(&slices, &node);
    for container in ["a_0", "b_0"] {
        slices.add(&node, container).succeeded();
    }
    slices.write(
        &json!({"ranges": [{"ipv4": "10.60.4.0/24", "exclude": [{"addresses": "10.60.4.0/24"}]}],
        "slices": {"ipv4": {"perNodeMaskSize": 28}}}),
    );
    crate::pools::kube::age(&node, 100);
    slices.add(&node, "c_0").succeeded();
    seen(&proxy);
    node.sandbox.command(&["slices", "sync"]).succeeded();
    assert!(seen(&proxy).contains(&"GET ippools".to_owned()));
    assert_eq!(slices.add(&node, "d_0").code(), 100);
    slices.add(&node, "c_0").succeeded();
}
