//! Faults of the connection and of single answers: a table of them, each applied to every verb,
//! once and permanently.

use super::rig::{Rig, each, shared, within};
use crate::support::nodes::{Node, own_name};
use crate::support::proxy::{Act, Door, Proxy, Reply};
use nix::sys::socket::{Backlog, listen};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

#[test]
fn one_request_each_when_nothing_fails() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::cold(cluster);
    let node = &rig.node;
    // The first call of a node lists its own objects.
    node.add("first").succeeded();
    // It also lists the scope.
    assert_eq!(rig.proxy.methods(), ["GET", "GET", "POST"]);
    let added = node.add("c");
    assert_eq!(added.addresses(), ["10.9.0.2"]);
    assert_eq!(rig.proxy.methods(), ["POST"]);
    node.check("c", &added).succeeded();
    assert_eq!(rig.proxy.methods(), ["GET"]);
    assert_eq!(node.add("c").addresses(), ["10.9.0.2"]);
    assert_eq!(rig.proxy.methods(), ["GET"]);
    assert_eq!(rig.holders()["10.9.0.2"], "c");
    node.del("c").succeeded();
    assert_eq!(rig.proxy.methods(), ["DELETE"]);
    node.del("c").succeeded();
    assert_eq!(rig.proxy.methods(), [""; 0]);
    assert_eq!(rig.holders().len(), 1);
}

/// Returns faults that happen once and may be gone at the next attempt.
fn passing() -> Vec<(&'static str, Act)> {
    let status = |status| Act::Answer(Reply::status(status));
    let after = |status| Act::AnswerAfter(Reply::status(status));
    vec![
        ("408", status(408)),
        ("429", status(429)),
        ("429 and 1 s", Act::Answer(Reply::retry_after(429, 1))),
        ("500", status(500)),
        ("502 of another", Act::Answer(Reply::garbage(502))),
        ("503", status(503)),
        ("503 and 1 s", Act::Answer(Reply::retry_after(503, 1))),
        ("504", status(504)),
        ("500 when it was done", after(500)),
        ("503 when it was done", after(503)),
        ("504 when it was done", after(504)),
        ("reset", Act::Reset),
        ("reset when it was done", Act::ResetAfter),
        ("reset within the answer", Act::ResetWithin),
        ("late answer", Act::Delay(Duration::from_millis(1500))),
    ]
}

#[test]
fn what_passes_fails_no_verb() {
    let Some(cluster) = shared() else { return };
    each(passing(), |name, act| {
        let rig = Rig::new(cluster);
        let (proxy, node) = (&rig.proxy, &rig.node);
        proxy.first(1, "POST", act.clone());
        let added = within(5.0, &node.call("ADD", "c"));
        assert_eq!(added.addresses(), ["10.9.0.1"], "{name}");
        assert_eq!(
            rig.holders().into_iter().collect::<Vec<_>>(),
            [("10.9.0.1".to_owned(), "c".to_owned())],
            "{name}"
        );
        proxy.first(1, "GET", act.clone());
        within(5.0, &node.check_call("c", &added.document())).succeeded();
        proxy.first(1, "GET", act.clone());
        assert_eq!(within(5.0, &node.call("ADD", "c")).addresses(), ["10.9.0.1"], "{name}");
        // The pod's next sandbox.
        proxy.first(1, "PATCH", act.clone());
        assert_eq!(within(5.0, &node.call("ADD", "c_2")).addresses(), ["10.9.0.1"], "{name}");
        assert_eq!(rig.holders()["10.9.0.1"], "c_2", "{name}");
        proxy.first(1, "DELETE", act.clone());
        within(4.0, &node.call("DEL", "c_2")).succeeded();
        rig.assert_empty(name);
        within(4.0, &node.call("DEL", "c")).succeeded();
        node.add("gone").succeeded();
        proxy.first(1, "GET", act.clone());
        within(4.0, &node.gc_call(&[])).succeeded();
        rig.assert_empty(name);
        node.add("gone").succeeded();
        proxy.first(1, "DELETE", act);
        within(4.0, &node.gc_call(&[])).succeeded();
        rig.assert_empty(name);
    });
}

/// A permanent fault between plugin and server.
type Break = fn(&Proxy);

fn lasting() -> Vec<(&'static str, Break)> {
    vec![
        ("refused", |proxy| proxy.refuse()),
        ("no TLS comes about", |proxy| proxy.door(Door::Mute)),
        ("every connection is reset", |proxy| proxy.door(Door::Reset)),
        ("nothing is answered", |proxy| proxy.script(|_| Act::Mute)),
        ("everything is done, nothing is answered", |proxy| proxy.script(|_| Act::Lose)),
        ("every request is reset", |proxy| proxy.script(|_| Act::Reset)),
        ("every request is reset when it was done", |proxy| proxy.script(|_| Act::ResetAfter)),
        ("half of each answer", |proxy| proxy.script(|_| Act::ResetWithin)),
        ("late answers", |proxy| proxy.script(|_| Act::Delay(Duration::from_secs(12)))),
        ("429", |proxy| proxy.script(|_| Act::Answer(Reply::status(429)))),
        ("429 and an hour", |proxy| proxy.script(|_| Act::Answer(Reply::retry_after(429, 3600)))),
        ("500", |proxy| proxy.script(|_| Act::Answer(Reply::status(500)))),
        ("500 when it was done", |proxy| proxy.script(|_| Act::AnswerAfter(Reply::status(500)))),
        ("502 of another", |proxy| proxy.script(|_| Act::Answer(Reply::garbage(502)))),
        ("503", |proxy| proxy.script(|_| Act::Answer(Reply::status(503)))),
        ("504 when it was done", |proxy| proxy.script(|_| Act::AnswerAfter(Reply::status(504)))),
    ]
}

#[test]
fn what_lasts_is_try_again_in_time_and_nothing_is_lost() {
    let Some(cluster) = shared() else { return };
    each(lasting(), |name, broken| {
        let rig = Rig::new(cluster).impatient();
        let (proxy, node) = (&rig.proxy, &rig.node);
        let mended = || {
            proxy.refuse();
            proxy.listen();
            proxy.pass();
        };
        let kept = node.add("kept");
        broken(proxy);
        assert_eq!(within(2.0, &node.call("ADD", "c")).code(), 11, "{name}");
        // What was certainly never created can be freed without a server.
        let deleted = within(1.5, &node.call("DEL", "c"));
        assert!(deleted.status == Some(0) || deleted.code() == 11, "{name}: {deleted:?}");
        assert_eq!(within(2.0, &node.check_call("kept", &kept.document())).code(), 11, "{name}");
        assert_eq!(within(2.0, &node.call("ADD", "kept")).code(), 11, "{name}");
        assert_eq!(within(1.5, &node.gc_call(&["kept"])).code(), 11, "{name}");
        // What certainly exists is owed.
        within(1.5, &node.call("DEL", "kept")).succeeded();
        mended();
        node.del("c").succeeded();
        node.sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
        rig.assert_empty(name);
        // The same address is given to the next pod.
        broken(proxy);
        assert_eq!(within(2.0, &node.call("ADD", "d")).code(), 11, "{name}");
        mended();
        let again = node.add("d").addresses();
        assert_eq!(
            rig.holders().into_iter().collect::<Vec<_>>(),
            [(again[0].clone(), "d".to_owned())],
            "{name}"
        );
    });
}

#[test]
fn a_server_that_says_when_is_asked_then() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    rig.proxy.first(1, "POST", Act::Answer(Reply::retry_after(429, 1)));
    #[allow(clippy::disallowed_methods, reason = "a test measures time")]
    let start = std::time::Instant::now();
    rig.node.add("c").succeeded();
    assert!(Duration::from_secs(1) <= start.elapsed());
    assert_eq!(rig.proxy.methods(), ["GET", "POST", "POST"]);
}

/// STATUS has no deadline in the configuration, because runtimes poll it.
#[test]
fn status_says_in_time_why_it_is_not_ready() {
    let Some(cluster) = shared() else { return };
    each(lasting(), |name, broken| {
        let rig = Rig::new(cluster);
        broken(&rig.proxy);
        let status = within(10.0, &rig.node.status_call());
        assert_eq!(status.code(), 50, "{name}");
        assert!(
            status
                .details()
                .contains("did not serve the request \"list ipallocations\" within 10s"),
            "{name}: {status:?}"
        );
        rig.proxy.refuse();
        rig.proxy.listen();
        rig.proxy.pass();
        rig.node.status().succeeded();
        // The result is returned again for a minute, without a request.
        rig.proxy.seen();
        rig.node.status().succeeded();
        assert_eq!(rig.proxy.methods(), [""; 0], "{name}");
    });
}

/// A black hole: the kernel accepts no connection to a server with a full backlog.
#[test]
fn a_server_that_takes_no_connection_is_try_again_in_time() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster).impatient();
    let kept = rig.node.add("kept");
    rig.proxy.refuse();
    let listener = TcpListener::bind(rig.proxy.address).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    // A backlog of 0 has room for one.
    let waiting = TcpStream::connect(rig.proxy.address).unwrap();
    let ended = within(2.0, &rig.node.call("ADD", "c"));
    assert_eq!(ended.code(), 11, "{ended:?}");
    assert!(ended.details().contains("no answer within"), "{ended:?}");
    assert_eq!(within(2.0, &rig.node.check_call("kept", &kept.document())).code(), 11);
    within(1.5, &rig.node.call("DEL", "kept")).succeeded();
    drop((waiting, listener));
    rig.proxy.listen();
    rig.node.del("kept").succeeded();
    rig.node.del("c").succeeded();
    rig.assert_empty("reachable again");
}

/// Another node holds the lowest addresses, and this node has not listed them: it does not try them
/// one by one.
#[test]
fn a_node_that_knows_nothing_looks_before_it_tries_them_all() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    let neighbor = Node::new(&own_name("neighbor"), &rig.node.scope, &cluster.kubeconfig());
    for n in 0..40 {
        neighbor.add(&format!("c{n}")).succeeded();
    }
    for (order, container) in [("lowest", "first"), ("auto", "second"), ("spread", "third")] {
        let mut call = rig.node.call("ADD", container);
        let stdin = String::from_utf8(call.stdin.clone()).unwrap();
        call.stdin(
            stdin.replace(r#""range""#, &format!(r#""allocation_order":"{order}","range""#)),
        );
        std::fs::remove_dir_all(rig.node.state().join("scopes")).unwrap();
        std::fs::create_dir(rig.node.state().join("scopes")).unwrap();
        rig.proxy.seen();
        let given = call.run().addresses();
        let asked = rig.proxy.methods();
        assert!(asked.len() <= 8, "{order}: {asked:?}");
        if order == "lowest" {
            assert_eq!(given, ["10.9.0.41"]);
        }
    }
}
