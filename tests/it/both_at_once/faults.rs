//! What happens between two requests of a call: a kill, another writer, a Lease that is not free.

use super::rig::{World, call_in, pool_name, world};
use crate::support::nodes::{Node, RANGE, holders, own_name};
use crate::support::proxy::{Act, Asked, Proxy};
use crate::support::sandbox::Call;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

const TWO: [&str; 2] = ["10.9.0.0/24", "10.8.0.0/24"];

/// Whether the server carries out the last request of a call that is killed.
#[derive(Debug, Clone, Copy)]
enum Last {
    IsCarriedOut,
    IsLost,
}

/// Runs a call and kills it at its request of this number, from 0. Returns false if it made fewer.
fn kill_at(proxy: &Proxy, call: &Call, number: usize, last: Last) -> bool {
    let (at, reached) = channel();
    let mut requests = 0;
    proxy.script(move |_| {
        requests += 1;
        if requests <= number {
            return Act::Pass;
        }
        let _ = at.send(());
        match last {
            Last::IsCarriedOut => Act::Lose,
            Last::IsLost => Act::Mute,
        }
    });
    let mut child = call.start_under(&[]);
    let killed = loop {
        match reached.recv_timeout(Duration::from_millis(20)) {
            Ok(()) => break true,
            Err(RecvTimeoutError::Timeout) if child.try_wait().unwrap().is_some() => break false,
            Err(_) => {}
        }
    };
    let _ = child.kill();
    let status = child.wait().unwrap();
    assert!(killed || status.success(), "{status:?}");
    proxy.wait_for_what_was_sent();
    proxy.pass();
    killed
}

/// What happened to the last request of a call that was killed, and which call comes next.
const SHORT: &[(Last, &str)] = &[(Last::IsCarriedOut, "ADD"), (Last::IsLost, "DEL")];

/// Kills a call at each of its requests, and goes on with an ADD or a DEL.
fn kill_everywhere(name: &str, before: &[&str], verb: &str, ways: &[(Last, &str)]) {
    let Some(world) = world() else { return };
    let scope = own_name(name);
    let (node, proxy) = world.node(&scope, &scope);
    world.put_pool(&scope, TWO[0], &json!({}));
    world.put_pool(&scope, TWO[1], &json!({}));
    let call = |verb: &str, container: &str| call_in(&node, verb, container, &TWO);
    let mut kills = 0;
    for (last, way) in ways {
        for number in 0.. {
            for container in before {
                call("ADD", container).run().succeeded();
            }
            let when = format!("{verb} killed at request {number}, {last:?}, then {way}");
            let reached = kill_at(&proxy, &call(verb, "web_1"), number, *last);
            kills += usize::from(reached);
            if *way == "ADD" {
                let again = call("ADD", "web_1").run();
                assert_eq!(again.addresses().len(), 2, "{when}");
                world.assert_shown(&scope, &when);
            }
            for container in before.iter().chain(&["web_1"]) {
                call("DEL", container).run().succeeded();
            }
            world.assert_nothing(&scope, &when);
            if !reached {
                break;
            }
        }
    }
    println!("{kills} kills of {verb}");
    assert!(8 * ways.len() <= kills, "{kills}");
}

#[test]
fn an_add_that_is_killed_at_any_request_goes_on_or_ends() {
    kill_everywhere("kill-add", &[], "ADD", SHORT);
}

#[test]
fn a_del_that_is_killed_at_any_request_goes_on() {
    kill_everywhere("kill-del", &["web_1"], "DEL", SHORT);
}

#[test]
#[ignore = "scripts/test --long"]
fn long_calls_that_are_killed_at_any_request_go_on_in_the_other_ways() {
    let others = &[(Last::IsCarriedOut, "DEL"), (Last::IsLost, "ADD")];
    kill_everywhere("kill-add-long", &[], "ADD", others);
    kill_everywhere("kill-del-long", &["web_1"], "DEL", others);
}

/// Lets something happen once, before the first request of this kind.
fn before_the_first(
    proxy: &Proxy,
    is_it: impl Fn(&Asked) -> bool + Send + 'static,
    mut happens: impl FnMut() + Send + 'static,
) {
    let mut has_happened = false;
    proxy.script(move |asked| {
        if !has_happened && is_it(asked) {
            has_happened = true;
            happens();
        }
        Act::Pass
    });
}

fn is_patch_of_pool(asked: &Asked) -> bool {
    asked.method == "PATCH" && asked.path.contains("/ippools/")
}

fn is_reservation(asked: &Asked) -> bool {
    asked.method == "POST" && asked.path.contains("/overlappingrangeipreservations")
}

fn add(node: &Node, container: &str) -> Vec<String> {
    node.add(container).addresses()
}

/// The rig of a test: a scope with an empty pool, and a node whose scope has no addresses yet.
fn rig(world: &'static World, name: &str) -> (String, Node, Proxy) {
    let scope = own_name(name);
    let (node, proxy) = world.node(&scope, &scope);
    world.put_pool(&scope, RANGE, &json!({}));
    (scope, node, proxy)
}

fn ended(world: &World, scope: &str, held: &[(&str, &str)]) {
    let held: BTreeMap<String, String> =
        held.iter().map(|(a, c)| ((*a).to_owned(), (*c).to_owned())).collect();
    assert_eq!(holders(&world.cluster, scope), held);
    world.assert_shown(scope, "at the end");
}

#[test]
fn an_address_that_whereabouts_gives_meanwhile_is_left_to_it() {
    let Some(world) = world() else { return };
    let (scope, node, proxy) = rig(world, "meanwhile");
    let theirs = world.whereabouts("ADD", "w", &scope, &[RANGE]);
    let happens = move || assert_eq!(theirs.run().addresses(), ["10.9.0.1"]);
    // Before the Lease is asked for.
    let is_first = |asked: &Asked| asked.path.contains("/leases");
    before_the_first(&proxy, is_first, happens);
    assert_eq!(add(&node, "c"), ["10.9.0.2"]);
    ended(world, &scope, &[("10.9.0.2", "c")]);
    assert_eq!(world.entries(&scope).len(), 2);
}

/// Whereabouts' ADD can succeed with a reservation alone (its issue 712).
#[test]
fn an_address_with_a_reservation_alone_is_whereabouts() {
    let Some(world) = world() else { return };
    let (scope, node, _proxy) = rig(world, "reserved");
    let spec = json!({"podref": "default/c", "ifname": "net1"});
    world.apply("OverlappingRangeIPReservation", &format!("{scope}-10.9.0.1"), &spec);
    // Also if the pod has the same name: it may run on another node.
    assert_eq!(add(&node, "c"), ["10.9.0.2"]);
    ended(world, &scope, &[("10.9.0.2", "c")]);
    assert_eq!(world.reservations(&scope).len(), 2);
    node.del("c").succeeded();
    assert_eq!(world.reservations(&scope).into_keys().collect::<Vec<_>>(), ["10.9.0.1"]);
}

#[test]
fn a_pool_that_comes_meanwhile_gets_the_entry_too() {
    let Some(world) = world() else { return };
    let (scope, node, proxy) = rig(world, "new-pool");
    let in_proxy = scope.clone();
    before_the_first(&proxy, is_reservation, move || {
        world.put_pool(&in_proxy, "10.9.0.0/16", &json!({}));
    });
    assert_eq!(add(&node, "c"), ["10.9.0.1"]);
    assert_eq!(world.entries(&scope).len(), 2);
    node.del("c").succeeded();
    world.assert_nothing(&scope, "after DEL");
}

/// The pool that comes has another holder already.
#[test]
fn a_pool_that_comes_meanwhile_may_have_the_address() {
    let Some(world) = world() else { return };
    let (scope, node, proxy) = rig(world, "taken-pool");
    let in_proxy = scope.clone();
    before_the_first(&proxy, is_reservation, move || {
        let entry = json!({"1": {"id": "x", "podref": "default/x", "ifname": "net1"}});
        world.put_pool(&in_proxy, "10.9.0.0/16", &entry);
    });
    assert_eq!(add(&node, "c"), ["10.9.0.2"]);
    assert_eq!(holders(&world.cluster, &scope).into_keys().collect::<Vec<_>>(), ["10.9.0.2"]);
    assert_eq!(world.reservations(&scope).into_keys().collect::<Vec<_>>(), ["10.9.0.2"]);
    assert_eq!(world.entries(&scope).len(), 3);
}

#[test]
fn a_lease_that_is_not_free_delays_a_call_and_does_not_stop_it() {
    let world = match World::new() {
        Ok(world) => world,
        Err(reason) => return skipped!("{reason}"),
    };
    let scope = own_name("lease");
    let (node, proxy) = world.node(&scope, &scope);
    world.put_pool(&scope, RANGE, &json!({}));
    let lease = |holder: &str, seconds: u64| {
        let object = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "whereabouts", "namespace": super::rig::HOME},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": seconds},
        });
        world.cluster.apply(&object.to_string());
    };
    let patches = |proxy: &Proxy| {
        let seen = proxy.seen().into_iter().filter(|seen| seen.method == "PATCH");
        seen.filter(|seen| seen.path.contains("/leases/")).count()
    };
    // A holder that was killed: its Lease expires.
    lease("default/killed", 1);
    assert_eq!(add(&node, "a"), ["10.9.0.1"]);
    assert_eq!(patches(&proxy), 2, "it is taken and freed");
    // A holder that works for long.
    lease("default/busy", 100);
    assert_eq!(add(&node, "b"), ["10.9.0.2"]);
    node.del("a").succeeded();
    assert_eq!(patches(&proxy), 0, "it is not touched");
    ended(&world, &scope, &[("10.9.0.2", "b")]);
    // A process of this node that was killed: nobody else of the node is at work.
    lease(&format!("hereabouts/node/{scope}"), 100);
    node.del("b").succeeded();
    assert_eq!(patches(&proxy), 2);
    world.assert_nothing(&scope, "at the end");
}

#[test]
fn an_entry_that_was_edited_by_hand_is_not_ours() {
    let Some(world) = world() else { return };
    let (scope, node, _proxy) = rig(world, "edited");
    assert_eq!(add(&node, "a"), ["10.9.0.1"]);
    assert_eq!(add(&node, "b"), ["10.9.0.2"]);
    let pool = format!("ippools.whereabouts.cni.cncf.io/{}", pool_name(&scope, RANGE));
    let edit = |value: Value| {
        let patch = json!({"spec": {"allocations": value}}).to_string();
        let words = ["patch", "-n", super::rig::HOME, &*pool, "--type=merge", "-p", &patch];
        world.cluster.text(&words);
    };
    edit(json!({"1": {"id": "x", "podref": "default/x", "ifname": "net1"}, "2": null}));
    // A repeated ADD gives another address for the first, and writes the second again.
    assert_eq!(add(&node, "a"), ["10.9.0.3"]);
    assert_eq!(add(&node, "b"), ["10.9.0.2"]);
    ended(world, &scope, &[("10.9.0.2", "b"), ("10.9.0.3", "a")]);
    // A DEL leaves what is somebody else's, whatever it is.
    edit(json!({"2": {"id": "y", "podref": "default/y"}}));
    for container in ["a", "b"] {
        node.del(container).succeeded();
    }
    let left: Vec<_> = world.entries(&scope).into_values().map(|(id, _)| id).collect();
    assert_eq!(left, ["x", "y"]);
    assert!(holders(&world.cluster, &scope).is_empty());
}

/// Another writer changes the pool between the reading and the writing, many times.
#[test]
fn a_pool_that_changes_all_the_time_does_not_stop_an_add() {
    let Some(world) = world() else { return };
    let (scope, node, proxy) = rig(world, "changing");
    let (in_proxy, mut number) = (scope.clone(), 100);
    proxy.script(move |asked| {
        if is_patch_of_pool(asked) {
            number += 1;
            let entry = json!({number.to_string(): {"id": "x", "podref": "default/x"}});
            world.put_pool(&in_proxy, RANGE, &entry);
        }
        Act::Pass
    });
    assert_eq!(add(&node, "c"), ["10.9.0.1"]);
    proxy.pass();
    ended(world, &scope, &[("10.9.0.1", "c")]);
    node.del("c").succeeded();
}

/// Somebody has removed Whereabouts before the move has finished.
#[test]
fn without_the_resources_of_whereabouts_a_del_ends_and_an_add_says_why() {
    let world = match World::new() {
        Ok(world) => world,
        Err(reason) => return skipped!("{reason}"),
    };
    let scope = own_name("removed");
    let (node, _proxy) = world.node(&scope, &scope);
    node.add("a").succeeded();
    world.cluster.text(&[
        "delete",
        "crd",
        "ippools.whereabouts.cni.cncf.io",
        "overlappingrangeipreservations.whereabouts.cni.cncf.io",
    ]);
    node.del("a").succeeded();
    assert!(holders(&world.cluster, &scope).is_empty());
    let ended = node.add("b");
    assert_eq!(ended.code(), 105, "{ended:?}");
    assert!(ended.stdout.contains("the cluster moves from Whereabouts"), "{ended:?}");
    node.del("b").succeeded();
}
