//! Controllers that are killed, two of them at once, and an API server that restarts.

use super::{Controller, Machines, own};
use crate::support::cluster::Server;
use serde_json::json;
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
