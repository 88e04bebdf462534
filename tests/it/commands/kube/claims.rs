//! Addresses that claims hold, as an operator sees them.

use super::{RANGE, Scene, from_workstation};
use crate::support::claims::{self, held};
use crate::support::sandbox::configuration;
use crate::support::transcript::Transcript;
use serde_json::{Value, json};

/// Besides the pods of the scene, claims hold 10.1.2.3 in the scope of the pods, and 10.1.2.1 and
/// 10.1.2.7 in a scope of their own.
fn with_claims() -> Option<Scene> {
    let scene = Scene::new()?;
    let own = "capi:GlobalInClusterIPPool/pool-a";
    for (scope, address) in [("", "10.1.2.3"), (own, "10.1.2.1"), (own, "10.1.2.7")] {
        let mut held = held(scope, address);
        held.claim.name = format!("machine-{}", address.rsplit('.').next().unwrap());
        held.gateway = "10.1.2.254".parse().ok();
        scene.cluster.apply(&claims::object(&held).to_string());
    }
    Some(scene)
}

fn object(scene: &Scene, name: &str) -> Value {
    serde_json::from_str(&scene.cluster.text(&["get", "ipa", name, "-o", "json"])).unwrap()
}

#[test]
fn an_operator_sees_claims_so() {
    let Some(scene) = with_claims() else { return };
    let mut seen = Transcript::new(&scene.sandbox);
    let network = scene.sandbox.write("net.json", &configuration(RANGE)).display().to_string();
    for args in [
        &["list"][..],
        &["list", "--node", "n1"],
        &["list", "--network", "net1"],
        &["list", "--pod", "machine-3"],
        &["list", "--claim", "default/machine-3"],
        &["list", "--claim", "default/machine-3", "-o", "json"],
        &["list", "--claim", "other/machine-3"],
        &["list", "--claim", "machine-3"],
        &["list", "--claim", "default/machine-3", "--node", "n1"],
        &["show", "10.1.2.3"],
        &["show", "10.1.2.1"],
        &["show", "10.1.2.7", "-o", "json"],
        &["usage", &network],
        &["verify"],
        &["release", "10.1.2.3", "--yes"],
        &["release", "10.1.2.3", "--yes", "--force"],
        &["release", "10.1.2.1", "--yes", "--force"],
        &["release", "10.1.2.3", "--yes", "--node", "n1"],
    ] {
        seen.run(&scene.sandbox, args);
    }
    let ended = from_workstation(&scene, &["release", "10.1.2.7", "--yes", "--force"]);
    seen.keep(&["release", "10.1.2.7", "--yes", "--force", "--kubeconfig", "ADMIN"], &ended);
    seen.note("the pod's address, and not the claim's in the other scope");
    seen.run(&scene.sandbox, &["release", "10.1.2.1", "--yes", "--network", "net1", "--force"]);
    seen.run(&scene.sandbox, &["list"]);
    seen.assert("kubernetes-claims");
}

#[test]
fn labels_of_claims_are_repaired_on_request() {
    let Some(scene) = with_claims() else { return };
    let wrong = [("wrong-labels".to_owned(), "ipallocations/10.1.2.3".to_owned())];
    let before = object(&scene, "10.1.2.3");
    assert_eq!(scene.findings(), []);
    for labels in [
        json!({"hereabouts.dev/claim": null, "mine": "stays"}),
        json!({"hereabouts.dev/node": "x"}),
        json!({"hereabouts.dev/pool": "x", "hereabouts.dev/address": null}),
    ] {
        scene.patch("10.1.2.3", &json!({"metadata": {"labels": labels}}));
        assert_eq!(scene.findings(), wrong, "{labels}");
        // A claim's object is of no node, and the token of a node may not change it.
        scene.sandbox.command(&["repair", "--yes"]).succeeded();
        assert_eq!(scene.findings(), wrong, "{labels}");
        let repaired = scene.sandbox.command(&["repair", "--all", "--yes"]);
        assert!(repaired.succeeded().stdout.contains("corrected the labels"), "{repaired:?}");
        assert_eq!(scene.findings(), [], "{labels}");
    }
    let after = object(&scene, "10.1.2.3");
    let mut labels = after["metadata"]["labels"].clone();
    assert_eq!(labels.as_object_mut().unwrap().remove("mine"), Some(json!("stays")));
    assert_eq!((&after["spec"], &labels), (&before["spec"], &before["metadata"]["labels"]));
}

/// An address of a living sandbox that a claim got after the object was lost.
#[test]
fn an_address_that_a_claim_got_is_named() {
    let Some(scene) = Scene::new() else { return };
    scene.delete("10.1.2.1");
    scene.cluster.apply(&claims::object(&held("", "10.1.2.1")).to_string());
    let verified = scene.sandbox.command(&["verify"]);
    assert!(
        verified.stdout.contains("given-away")
            && verified.stdout.contains("now held by IPAddressClaim default/machine-0"),
        "{verified:?}"
    );
    let repaired = scene.sandbox.command(&["repair", "--yes"]);
    assert!(repaired.stderr.contains("IPAddressClaim default/machine-0"), "{repaired:?}");
    assert_eq!(object(&scene, "10.1.2.1")["spec"]["claim"]["name"], "machine-0");
}

/// Objects that an older definition accepted, or that a later version wrote.
#[test]
fn an_object_of_a_claim_that_cannot_be_read_is_named_and_stays() {
    let Some(scene) = with_claims() else { return };
    scene.patch("10.1.2.3", &json!({"spec": {"format": 3}}));
    assert_eq!(
        scene.findings(),
        [("newer-record".to_owned(), "ipallocations/10.1.2.3".to_owned())]
    );
    let listed = scene.sandbox.command(&["list"]);
    assert!(listed.status == Some(1) && listed.stderr.contains("format 3"), "{listed:?}");
    scene.sandbox.command(&["repair", "--all", "--yes"]).succeeded();
    assert_eq!(object(&scene, "10.1.2.3")["spec"]["format"], 3);
}
