//! A controller that believes in IPAllocations that the API server has lost. The controller runs in
//! this process: a watch would tell it.

use super::{Machines, own};
use hereabouts::controller::client;
use hereabouts::controller::metrics::Metrics;
use hereabouts::controller::pool::{PoolId, PoolKind};
use hereabouts::controller::requests::Requests;
use hereabouts::controller::state::{ClaimHolder, Holder, Holding, Name, State, Version};
use hereabouts::controller::watches;
use hereabouts::controller::work::Controller;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;

/// Runs a controller with a state for some seconds.
fn run(machines: &Machines<'_>, state: State) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kubeconfig = machines.cluster.kubeconfig();
    LocalSet::new().block_on(&runtime, async {
        let client = client::connect(Some(&kubeconfig)).await.unwrap();
        let metrics = Rc::new(Metrics::new());
        let requests = Requests::new(client, "v1beta2", Rc::clone(&metrics));
        let (_leads, leading) = tokio::sync::watch::channel(true);
        let state = Rc::new(RefCell::new(state));
        let controller = Rc::new(Controller::new(requests, state, metrics, leading));
        let _ = tokio::time::timeout(Duration::from_secs(5), controller.run()).await;
    });
}

/// As after etcd was set back, before this is noticed: the claim is as it was in the copy, and what
/// it held since is known from before.
#[test]
fn no_claim_is_answered_with_an_address_that_it_has_lost() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    machines.claim(&["a"]);
    let claim = machines.get("ipaddressclaim", "a");
    let mut state = State::new(BTreeSet::new(), true);
    let read = |object: Value| serde_json::from_value(object).unwrap();
    watches::pool(&mut state, PoolKind::InCluster, &read(machines.get("inclusterippool", "pool")));
    watches::claim(&mut state, &serde_json::from_value(claim.clone()).unwrap());

    let id = PoolId {
        kind: PoolKind::InCluster,
        namespace: machines.namespace.clone(),
        name: "pool".to_owned(),
    };
    let label = state.pool(&id).unwrap().scope_label.clone();
    let holder = ClaimHolder {
        kind: "IPAddressClaim".to_owned(),
        uid: claim["metadata"]["uid"].as_str().unwrap().into(),
        name: Name { namespace: machines.namespace.as_str().into(), name: "a".into() },
        pool: Some(state.id(id)),
        prefix: 24,
        gateway: None,
        is_ending: false,
        later_format: None,
    };
    let version = Version { uid: "lost".into(), revision: "1".into() };
    let holding = Holding { version, holder: Holder::Claim(Box::new(holder)) };
    let lost = format!("{label}.10.0.0.7");
    state.apply_allocation(&lost, holding);
    assert!(state.held.named(&lost).is_some());

    run(&machines, state);

    let answers: BTreeSet<(String, String)> = machines.answers();
    assert_eq!(answers, super::all([("a", "10.0.0.1")]));
    assert_eq!(machines.held(), answers);
}

/// A request to hold it was not answered, and not carried out.
#[test]
fn an_address_of_which_nothing_was_told_is_held_for_its_ipaddress_after_a_while() {
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    machines.pool(&json!({"prefix": 24, "addresses": ["10.0.0.1-10.0.0.9"]}));
    machines.answer("a", "10.0.0.7");
    let mut state = State::new(BTreeSet::new(), true);
    let pool = serde_json::from_value(machines.get("inclusterippool", "pool")).unwrap();
    watches::pool(&mut state, PoolKind::InCluster, &pool);
    let label = state.pools().next().unwrap().1.scope_label.clone();
    let holder = Holder::Unknown(tokio::time::Instant::now());
    let version = Version { uid: "".into(), revision: "".into() };
    state.note_held(&format!("{label}.10.0.0.7"), Holding { version, holder });

    run(&machines, state);

    assert_eq!(machines.held(), super::all([("a", "10.0.0.7")]));
}
