//! The admission policies of deploy/ and the objects of claims, on a real API server: a token of the
//! plugin changes none of them, and a token of hereabouts-controller changes nothing else.

use super::policy::{Bearer, DENIED, cluster, denied, node, object, record, tokens};
use crate::support::claims::{self, held};
use crate::support::cluster::Cluster;
use crate::support::nodes::own_name;
use hereabouts::retry::{Deadline, until};
use serde_json::{Value, json};
use std::time::Duration;

/// The message of the controller's policy.
const NOT_OF_A_CLAIM: &str = "the controller changes only records of claims";

/// Changes that the schema allows.
fn changes() -> [Value; 4] {
    [
        json!({"spec": {"gateway": "10.9.0.9"}}),
        json!({"metadata": {"labels": {"hereabouts.dev/claim": "x"}}}),
        json!({"metadata": {"finalizers": ["a.example/b"]}}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]}}),
    ]
}

#[test]
fn a_token_of_a_node_changes_no_record_of_a_claim() {
    let Some(cluster) = cluster() else { return };
    let (own, scope) = (own_name("policy-claim"), own_name("policy-claims"));
    cluster.apply(&claims::object(&held(&scope, "10.9.0.1")).to_string());
    let name = format!("{scope}.10.9.0.1");
    let before = object(cluster, &name);
    let [by_node, by_pod] = tokens(cluster, &own);
    for token in [by_node, by_pod, cluster.plugin_token(&[])] {
        let thief = Bearer::new(cluster, &token);
        let of_claim = |said: &Result<String, String>| {
            denied(said)
                && said.as_ref().is_err_and(|said| said.contains("the record is of a claim"))
        };
        for patch in changes() {
            let said = thief.patch(&name, &patch);
            assert!(of_claim(&said), "{patch}: {said:?}");
        }
        for said in [thief.delete(&name), thief.create(&claims::object(&held(&scope, "10.9.0.2")))]
        {
            assert!(of_claim(&said), "{said:?}");
        }
    }
    assert_eq!(object(cluster, &name), before);
    // A command says so, and what to do.
    let bearer = Bearer::new(cluster, &cluster.node_token(&own));
    let labels = json!({"metadata": {"labels": {"hereabouts.dev/claim": "x"}}});
    cluster.text(&["patch", "ipa", &name, "--type=merge", "-p", &labels.to_string()]);
    let here = node(&bearer, &own, &scope);
    here.status().succeeded();
    here.add("web").succeeded();
    here.sandbox.command(&["repair", "--yes"]).succeeded();
    let all = here.sandbox.command(&["repair", "--all", "--yes"]);
    assert!(
        all.status == Some(1)
            && all.stderr.contains(DENIED)
            && all.stderr.contains("the record is of a claim")
            && all.stderr.contains("with an administrator's kubeconfig"),
        "{all:?}"
    );
    here.del("web").succeeded();
    cluster.text(&["delete", "ipa", &name]);
}

#[test]
fn the_controller_changes_only_records_of_claims() {
    let Some(cluster) = cluster() else { return };
    let scope = own_name("policy-controller");
    let token = controller_token(cluster, &scope, "hereabouts-controller");
    let controller = Bearer::new(cluster, &token);
    changes_only_claims(cluster, &controller, &scope);
}

fn changes_only_claims(cluster: &Cluster, controller: &Bearer<'_>, scope: &str) {
    let (claim, pod) = (format!("{scope}.10.9.0.21"), format!("{scope}.10.9.0.22"));
    cluster.apply(&record(scope, "10.9.0.22", "n1").to_string());
    let before = object(cluster, &pod);
    let made = claims::object(&held(scope, "10.9.0.21"));
    // A role and a policy take effect some moments after they were created.
    let planted = record(scope, "10.9.0.23", "n1");
    let dry =
        || controller.kubectl(&["create", "--dry-run=server", "-f", "-"], &planted.to_string());
    let in_force = until(&Deadline::after(Duration::from_secs(60)), || {
        Ok::<_, ()>(dry().is_err_and(|said| is_denial(&said)).then_some(()))
    });
    assert_eq!(in_force, Ok(Some(())), "{:?}", dry());
    controller.create(&made).unwrap();
    for patch in changes() {
        let said = controller.patch(&pod, &patch);
        assert!(said.as_ref().is_err_and(is_denial), "{patch}: {said:?}");
    }
    for said in [controller.delete(&pod), controller.create(&planted)] {
        assert!(said.as_ref().is_err_and(is_denial), "{said:?}");
    }
    assert_eq!(object(cluster, &pod), before);
    controller.patch(&claim, &changes()[1]).unwrap();
    controller.delete(&claim).unwrap();
    cluster.text(&["delete", "ipa", &pod]);
}

#[allow(clippy::ptr_arg, reason = "the error of a Result<String, String>")]
fn is_denial(said: &String) -> bool {
    said.contains(NOT_OF_A_CLAIM) && said.contains("the record is of node n1")
}

/// Returns a token of a controller's account that may do everything with the records.
fn controller_token(cluster: &Cluster, namespace: &str, account: &str) -> String {
    let role = format!("{namespace}-claims");
    let _ = cluster.kubectl(&["create", "namespace", namespace]);
    cluster.text(&["create", "serviceaccount", account, "--namespace", namespace]);
    cluster.text(&[
        "create",
        "clusterrole",
        &role,
        "--verb=create,delete,get,list,patch",
        "--resource=ipallocations.hereabouts.dev",
    ]);
    let binding = ["create", "clusterrolebinding", &role, "--clusterrole", &role];
    let subject = format!("--serviceaccount={namespace}:{account}");
    cluster.text(&[&binding[..], &[&subject]].concat());
    cluster.text(&["create", "token", account, "--namespace", namespace]).trim().to_owned()
}

/// Checks both policies where they are installed under a name.
pub(super) fn bites(cluster: &Cluster, namespace: &str, account: &str, node: &Bearer<'_>) {
    assert!(denied(&node.create(&claims::object(&held(namespace, "10.9.0.2")))));
    let token = controller_token(cluster, namespace, &format!("{account}-controller"));
    let controller = Bearer::new(cluster, &token);
    changes_only_claims(cluster, &controller, namespace);
}
