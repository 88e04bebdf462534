//! Controllers that are killed, two of them at once; servers that restart, forget, or are set back.

use super::{Controller, Machines, own};
use crate::support::cluster::Server;
use crate::support::controller::Replica;
use crate::support::sandbox::Sandbox;
use hereabouts::retry::Stopwatch;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const CLAIMS: usize = 120;

/// No lease is held: both write at the same time.
#[test]
fn two_controllers_that_are_killed_give_no_address_twice_and_lose_none() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.200"]}));
    let names: Vec<String> = (0..CLAIMS).map(|number| format!("m{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (early, late) = names.split_at(CLAIMS / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            machines.claim(early);
            machines.kubectl(&[
                "delete",
                "ipaddressclaim",
                "--wait=false",
                "m0",
                "m1",
                "m2",
                "m3",
                "m4",
            ]);
            machines.claim(late);
        });
        for round in 0_u64..8 {
            let both = [Controller::start(&cluster), Controller::start(&cluster)];
            super::wait(Duration::from_millis(250 + 150 * round));
            both.into_iter().for_each(Controller::kill);
        }
    });
    let _both = [Controller::start(&cluster), Controller::start(&cluster)];
    check(&machines, CLAIMS - 5);
    machines.kubectl(&["delete", "ipaddressclaim", "--all"]);
    machines.until(&BTreeSet::new(), Machines::held);
}

/// Waits until every claim is answered, and checks that no address is there twice and none is held
/// for nothing.
fn check(machines: &Machines<'_>, expected: usize) {
    machines.until(&expected, |machines| {
        let claims = machines.list("ipaddressclaims");
        claims.iter().filter(|claim| claim["status"]["addressRef"]["name"].is_string()).count()
    });
    let answers = machines.answers();
    assert_eq!(answers.len(), expected);
    assert_eq!(
        answers.iter().map(|(_, address)| address).collect::<BTreeSet<_>>().len(),
        expected,
        "{answers:?}"
    );
    // Two controllers may have got an address each for one claim. One of them is given back.
    machines.until(&answers, Machines::held);
}

#[test]
fn an_api_server_that_restarts_loses_nothing() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.200"]}));
    let _controller = Controller::start(&cluster);
    machines.claim(&["a", "b"]);
    machines.until(&2, |machines| machines.answers().len());
    cluster.kill(Server::ApiServer);
    cluster.start(Server::ApiServer);
    machines.claim(&["c", "d"]);
    check(&machines, 4);
    machines.kubectl(&["delete", "ipaddressclaim", "a", "c"]);
    check(&machines, 2);
}

/// Neither claims that are half answered nor claims that come right afterwards wait for pauses that
/// have grown meanwhile.
#[test]
fn an_api_server_that_was_away_for_long_is_used_as_soon_as_it_answers() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.200"]}));
    let sandbox = Sandbox::new();
    let _controller = Replica::start(&sandbox, &cluster.kubeconfig(), &[]);
    machines.claim(&["a"]);
    check(&machines, 1);
    let half: Vec<String> = (0..60).map(|number| format!("b{number}")).collect();
    machines.claim(&half.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.kill(Server::ApiServer);
    super::wait(Duration::from_secs(45));
    cluster.start(Server::ApiServer);
    machines.claim(&["c"]);
    let since = Stopwatch::default();
    check(&machines, half.len() + 2);
    let took = since.elapsed();
    println!("all are answered after {:.1} s", took.as_secs_f64());
    assert!(took < Duration::from_secs(30), "{took:?}");
}

/// The claims are those of the copy, and the answers too: the addresses that were given since are
/// forgotten, and must not confuse what is left.
#[test]
fn an_etcd_that_is_set_back_leaves_one_address_a_claim() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.200"]}));
    let _controller = Controller::start(&cluster);
    machines.claim(&["a", "b"]);
    machines.until(&2, |machines| machines.answers().len());
    cluster.save();
    machines.kubectl(&["delete", "ipaddressclaim", "a"]);
    machines.claim(&["c", "d"]);
    machines.until(&3, |machines| machines.answers().len());
    cluster.restore();
    machines.claim(&["e"]);
    check(&machines, 3);
}

/// While it is stopped, another controller frees two addresses and gives one of them and a third.
/// What it has missed is in no history any more: neither in etcd's, nor in the cache of the API
/// server.
#[test]
fn a_controller_whose_watches_lost_their_place_sees_all_that_it_missed() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    let sandbox = Sandbox::new();
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    let mut stopped = Replica::start(&sandbox, &cluster.kubeconfig(), &[]);
    machines.claim(&["a", "b", "c"]);
    check(&machines, 3);

    stopped.signal("STOP");
    // Otherwise what it misses would wait in its connections.
    cluster.kill(Server::ApiServer);
    cluster.start(Server::ApiServer);
    let other = Controller::start(&cluster);
    machines.kubectl(&["delete", "ipaddressclaim", "a", "b"]);
    check(&machines, 1);
    machines.claim(&["d"]);
    check(&machines, 2);
    machines.claim(&["e"]);
    check(&machines, 3);
    machines.kubectl(&["delete", "ipaddressclaim", "d"]);
    check(&machines, 2);
    other.kill();
    machines.claim(&["f"]);
    cluster.kill(Server::ApiServer);
    cluster.compact();
    cluster.start(Server::ApiServer);
    stopped.signal("CONT");

    check(&machines, 3);
    let lost = stopped.wait(20, "watch that lost its place", |stopped| {
        Some(stopped.log().matches("too old resource version").count()).filter(|count| 0 < *count)
    });
    println!("watches that lost their place: {lost}");
    // It has forgotten what is gone: it counts as many as there are, and gives the lowest of the
    // others.
    let held = format!(
        r#"hereabouts_pool_addresses_held{{kind="InClusterIPPool",pool_namespace="{}",pool="pool"}}"#,
        machines.namespace
    );
    stopped.wait(20, "count of held addresses", |stopped| {
        (stopped.metric(&held) == Some(3.0)).then_some(())
    });
    let answers = machines.answers();
    let used: BTreeSet<&String> = answers.iter().map(|(_, address)| address).collect();
    let free = (1..9).map(|number| format!("10.0.0.{number}")).find(|free| !used.contains(free));
    machines.claim(&["g"]);
    machines.until(&free, |machines| machines.address("g"));
    check(&machines, 4);
    machines.kubectl(&["delete", "ipaddressclaim", "--all"]);
    machines.until(&BTreeSet::new(), Machines::held);
}

/// The copy was made when half of the claims were answered. The answers that were written afterwards come back
/// from another backup: they are held again, before a claim gets their addresses.
#[test]
fn answers_that_an_etcd_that_was_set_back_has_lost_are_held_again_when_they_are_written_back() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.200"]}));
    let sandbox = Sandbox::new();
    let mut controller = Replica::start(&sandbox, &cluster.kubeconfig(), &[]);
    let names =
        |letter: char| (0..20).map(|number| format!("{letter}{number}")).collect::<Vec<_>>();
    let claim = |names: &[String]| {
        machines.claim(&names.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let (early, late) = (names('a'), names('b'));
    let (answered, open) = early.split_at(early.len() / 2);
    claim(answered);
    check(&machines, answered.len());
    // The copy has claims with an answer and claims without one. The API server stops while it is
    // made: a request that it interrupts would be repeated with another address, and the address in
    // the copy would be given to another claim.
    controller.signal("STOP");
    claim(open);
    cluster.save();
    controller.signal("CONT");
    check(&machines, early.len());
    claim(&late);
    check(&machines, early.len() + late.len());
    let answers: Vec<Value> = machines
        .list("ipaddresses.ipam.cluster.x-k8s.io")
        .into_iter()
        .filter(|object| object["metadata"]["name"].as_str().unwrap().starts_with('b'))
        .collect();
    let given = machines.answers();

    // It must not be able to give a lost address before the answers are back.
    controller.signal("STOP");
    cluster.restore();
    for object in &answers {
        let name = object["metadata"]["name"].as_str().unwrap();
        machines.answer(name, object["spec"]["address"].as_str().unwrap());
    }
    claim(&["c".to_owned()]);
    controller.signal("CONT");

    machines.until(&late.len(), |machines| {
        machines.held().iter().filter(|(name, _)| name.starts_with('b')).count()
    });
    // The claims of these answers come back, too.
    claim(&late);
    check(&machines, early.len() + late.len() + 1);
    let now = machines.answers();
    let of = |all: &BTreeSet<(String, String)>, letter: char| -> BTreeSet<(String, String)> {
        all.iter().filter(|(name, _)| name.starts_with(letter)).cloned().collect()
    };
    assert_eq!(of(&now, 'b'), of(&given, 'b'));
    let lost = of(&given, 'a').difference(&of(&now, 'a')).count();
    println!("addresses of claims of the copy that changed: {lost} of {}", early.len());
    assert!(controller.runs());
}
