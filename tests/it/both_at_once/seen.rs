//! What each of both sees of the other.

use super::rig::{call_in, world};
use crate::support::nodes::RANGE;
use crate::support::nodes::own_name;
use serde_json::json;

#[test]
fn each_gives_what_the_other_has_not() {
    let Some(world) = world() else { return };
    let scope = own_name("seen");
    let (node, _proxy) = world.node(&scope, &scope);
    let theirs = |verb: &str, container: &str| {
        world.whereabouts(verb, container, &scope, &[RANGE]).run().succeeded().clone()
    };
    assert_eq!(theirs("ADD", "w1").addresses(), ["10.9.0.1"]);
    assert_eq!(node.add("o1").addresses(), ["10.9.0.2"]);
    assert_eq!(theirs("ADD", "w2").addresses(), ["10.9.0.3"]);
    assert_eq!(node.add("o2").addresses(), ["10.9.0.4"]);
    world.assert_shown(&scope, "two of each");
    assert_eq!(world.entries(&scope).len(), 4);
    // The same pod starts at the other one: neither takes over what the other has given.
    assert_eq!(theirs("ADD", "o1_again").addresses(), ["10.9.0.5"]);
    assert_eq!(node.add("w1_again").addresses(), ["10.9.0.6"]);
    // Nor removes it.
    theirs("DEL", "o1");
    world.assert_shown(&scope, "after a DEL of Whereabouts");
    node.del("o1").succeeded();
    theirs("DEL", "w1");
    assert_eq!(node.add("o3").addresses(), ["10.9.0.1"]);
    assert_eq!(theirs("ADD", "w3").addresses(), ["10.9.0.2"]);
    for container in ["o2", "o3", "w1_again"] {
        node.del(container).succeeded();
    }
    for container in ["w2", "w3", "o1_again"] {
        theirs("DEL", container);
    }
    world.assert_nothing(&scope, "at the end");
}

#[test]
fn an_address_stands_in_each_pool_that_has_it() {
    let Some(world) = world() else { return };
    let scope = own_name("overlap");
    let (node, _proxy) = world.node(&scope, &scope);
    world.put_pool(&scope, "10.9.0.0/24", &json!({}));
    world.put_pool(&scope, "10.9.0.0/16", &json!({}));
    world.put_pool(&scope, "10.8.0.0/24", &json!({}));
    let two = ["10.9.0.0/24", "10.8.0.0/24"];
    let given = call_in(&node, "ADD", "c", &two).run().addresses();
    assert_eq!(given, ["10.9.0.1", "10.8.0.1"]);
    let places: Vec<_> = world.entries(&scope).into_keys().collect();
    let place = |range: &str| (range.to_owned(), "1".to_owned());
    assert_eq!(places, [place("10.8.0.0/24"), place("10.9.0.0/16"), place("10.9.0.0/24")]);
    // Whereabouts, in the other range, passes it over.
    let theirs = |verb: &str| world.whereabouts(verb, "w", &scope, &["10.9.0.0/16"]).run();
    assert_eq!(theirs("ADD").addresses(), ["10.9.0.2"]);
    // A repeated ADD writes again what somebody has removed.
    let pool = format!("ippools.whereabouts.cni.cncf.io/{scope}-10.9.0.0-16");
    let reservation =
        format!("overlappingrangeipreservations.whereabouts.cni.cncf.io/{scope}-10.8.0.1");
    world.cluster.text(&["delete", "-n", "kube-system", &pool, &reservation]);
    world.put_pool(&scope, "10.9.0.0/16", &json!({}));
    assert_eq!(call_in(&node, "ADD", "c", &two).run().addresses(), given);
    assert_eq!(world.entries(&scope).len(), 3);
    assert_eq!(world.reservations(&scope).len(), 3);
    call_in(&node, "DEL", "c", &two).run().succeeded();
    theirs("DEL").succeeded();
    assert_eq!(world.entries(&scope).len(), 0);
    node.del("c").succeeded();
}

/// What Whereabouts gave on this node before the node was one of hereabouts, and what no import has
/// recorded.
#[test]
fn a_del_without_a_record_removes_what_whereabouts_wrote() {
    let Some(world) = world() else { return };
    let scope = own_name("before");
    let (node, _proxy) = world.node(&scope, &scope);
    for container in ["w1", "w2"] {
        world.whereabouts("ADD", container, &scope, &[RANGE]).run().succeeded();
    }
    node.del("w1").succeeded();
    node.del("w3").succeeded();
    let left: Vec<_> = world.entries(&scope).into_values().map(|(id, _)| id).collect();
    assert_eq!(left, ["w2"]);
    assert_eq!(world.reservations(&scope).into_keys().collect::<Vec<_>>(), ["10.9.0.2"]);
    node.del("w2").succeeded();
    world.assert_nothing(&scope, "at the end");
}

#[test]
fn what_whereabouts_cannot_note_is_not_given() {
    let Some(world) = world() else { return };
    let scope = own_name("far");
    let (node, _proxy) = world.node(&scope, &scope);
    let ipam = |range: &str, start: &str| {
        crate::support::sandbox::configuration(&format!(
            r#""range":"{range}","range_start":"{start}","network_name":"{scope}""#
        ))
    };
    world.put_pool(&scope, "fd00:9::/64", &json!({}));
    let mut call = node.call("ADD", "far");
    call.stdin(ipam("fd00:9::/64", "fd00:9::8000:0:0:0"));
    let ended = call.run();
    assert_eq!(ended.code(), 7, "{ended:?}");
    assert!(ended.stdout.contains("while the cluster moves from Whereabouts"), "{ended:?}");
    world.assert_nothing(&scope, "it was refused before anything was written");
    // The last one that Whereabouts can read.
    call.stdin(ipam("fd00:9::/64", "fd00:9::7fff:ffff:ffff:ffff"));
    assert_eq!(call.run().addresses(), ["fd00:9::7fff:ffff:ffff:ffff"]);
    let keys: Vec<_> = world.entries(&scope).into_keys().map(|(_, key)| key).collect();
    assert_eq!(keys, ["9223372036854775807"]);
    call.set("CNI_COMMAND", "DEL").run().succeeded();
    world.assert_nothing(&scope, "at the end");
}

/// Whereabouts makes a pool with its first pod of a range. Until then, its reservation alone would let
/// a pod of the same name take over the address.
#[test]
fn a_range_without_a_pool_gets_one() {
    let Some(world) = world() else { return };
    let scope = own_name("no-pool");
    let (node, proxy) = world.node(&scope, &scope);
    assert_eq!(node.add("c").addresses(), ["10.9.0.1"]);
    world.assert_shown(&scope, "after the first ADD");
    let theirs = |verb: &str| world.whereabouts(verb, "c_again", &scope, &[RANGE]).run();
    assert_eq!(theirs("ADD").addresses(), ["10.9.0.2"]);
    proxy.seen();
    assert_eq!(node.add("d").addresses(), ["10.9.0.3"]);
    let posts = proxy.seen().into_iter().filter(|seen| seen.method == "POST").count();
    assert_eq!(posts, 2, "the IPAllocation and the reservation");
    for container in ["c", "d"] {
        node.del(container).succeeded();
    }
    theirs("DEL").succeeded();
    world.assert_nothing(&scope, "at the end");
}
