//! IPAllocations that claims hold, on a real API server: it accepts what a controller writes and
//! refuses everything else.

use super::objects::{allocation, cluster, kubectl, taken};
use crate::support::claims::{self, held};
use hereabouts::ipam::Source;
use hereabouts::store::kube::objects::held::HeldObject;
use serde_json::{Value, json};

fn object(scope: &str, address: &str) -> Value {
    claims::object(&held(scope, address))
}

/// The longest values that the schema allows count for the cost of the rules.
#[test]
fn what_a_controller_writes_is_taken_and_read_back() {
    let Some(cluster) = cluster() else { return };
    let scope = "capi:GlobalInClusterIPPool/pool-a";
    for address in ["192.0.2.7", "2001:db8::1"] {
        let mut wanted = held(scope, address);
        wanted.gateway = Some(if address.contains(':') { "2001:db8::2" } else { "192.0.2.1" })
            .map(|gateway| gateway.parse().unwrap());
        wanted.claim.name = "c".repeat(253);
        wanted.source = Source::Requested;
        let created =
            kubectl(cluster, &["create", "-o", "json", "-f", "-"], &claims::object(&wanted));
        assert!(created.status.success(), "{created:?}");
        let text = String::from_utf8(created.stdout).unwrap();
        let Ok(HeldObject::Claim(read)) = HeldObject::decode(text.as_bytes()) else {
            panic!("{text}");
        };
        let mut known = read.allocation().unwrap();
        assert!(read.is_named_right() && read.is_labelled(&known));
        let version = known.version.take().unwrap();
        assert_eq!(Some(version), read.version());
        assert_eq!(known, wanted);
        // The name is the address in its scope, whoever holds it.
        let name = &read.metadata.name;
        let mut pod = allocation(name, Some(scope), address);
        pod["metadata"]["labels"] = json!({"hereabouts.dev/scope": "x"});
        let refused = kubectl(cluster, &["create", "-f", "-"], &pod);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("AlreadyExists"), "{refused:?}");
        cluster.text(&["delete", "ipa", name]);
    }
}

#[test]
fn an_object_has_the_keys_of_one_kind_of_holder() {
    let Some(cluster) = cluster() else { return };
    let either = "expected either claim and pool, or network";
    let cases: &[(&str, Value, &str)] = &[
        ("/spec/claim", Value::Null, either),
        ("/spec/pool", Value::Null, either),
        ("/spec/format", Value::Null, "format 2 is the format of claims"),
        ("/spec/format", json!(1), "format 2 is the format of claims"),
        ("/spec/source", json!("static"), "dynamic or requested"),
        ("/spec/claim/namespace", Value::Null, "a claim has a namespace"),
        ("/spec/claim/uid", Value::Null, "spec.claim.uid"),
        ("/spec/claim/uid", json!("-"), "spec.claim.uid"),
        ("/spec/claim/name", json!(""), "spec.claim.name"),
        ("/spec/pool/kind", json!(""), "spec.pool.kind"),
        ("/spec/pool/apiGroup", Value::Null, "spec.pool.apiGroup"),
        ("/spec/gateway", json!("2001:db8::1"), "two families"),
        ("/spec/prefix", json!(33), "prefix is longer"),
        ("/spec/network", json!("net"), "on no node"),
        ("/spec/interface", json!("net1"), "on no node"),
        ("/spec/containerID", json!("c1"), "on no node"),
        ("/spec/node", json!("n1"), "on no node"),
        ("/spec/bootID", json!("b1"), "on no node"),
        ("/spec/part", json!(0), "on no node"),
        ("/spec/of", json!(1), "on no node"),
        ("/spec/machine", json!("m"), "on no node"),
        ("/spec/nodeUID", json!("u"), "on no node"),
        ("/spec/netns", json!({"path": "/x", "inode": 1, "directoryDevice": 1}), "on no node"),
        ("/spec/view", json!({}), "on no node"),
        ("/spec/podRef", json!({"name": "web-0"}), "on no node"),
    ];
    for (key, value, words) in cases {
        let mut object = object("", "192.0.2.7");
        let (parent, last) = key.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[last] = value.clone();
        let refused = taken(cluster, &object).expect_err(key);
        assert!(refused.contains(words), "{key} {value}: {refused}");
    }
    for key in ["network", "interface", "containerID", "node", "bootID", "part", "of"] {
        let mut object = allocation("192.0.2.7", None, "192.0.2.7");
        object["spec"].as_object_mut().unwrap().remove(key);
        let refused = taken(cluster, &object).expect_err(key);
        assert!(refused.contains(either), "{key}: {refused}");
    }
    let mut both = allocation("192.0.2.7", None, "192.0.2.7");
    both["spec"]["pool"] = object("", "192.0.2.7")["spec"]["pool"].take();
    assert!(taken(cluster, &both).unwrap_err().contains(either));
}

#[test]
fn an_address_never_moves_between_kinds_of_holder() {
    let Some(cluster) = cluster() else { return };
    let (of_claim, of_pod) = ("one-kind.192.0.2.7", "one-kind.192.0.2.8");
    for made in [object("one-kind", "192.0.2.7"), allocation(of_pod, Some("one-kind"), "192.0.2.8")]
    {
        let created = kubectl(cluster, &["create", "-f", "-"], &made);
        assert!(created.status.success(), "{created:?}");
    }
    let nothing_of_claims =
        json!({"format": null, "claim": null, "pool": null}).as_object().unwrap().clone();
    let mut pod = allocation("", None, "")["spec"].take();
    pod["address"] = json!("192.0.2.7");
    pod.as_object_mut().unwrap().extend(nothing_of_claims);
    let mut claim = object("", "192.0.2.8")["spec"].take();
    for key in
        ["network", "interface", "containerID", "node", "bootID", "part", "of", "podRef", "netns"]
    {
        claim[key] = Value::Null;
    }
    for (name, spec, words) in [
        (of_claim, pod, "never moves between a claim and an attachment"),
        (of_pod, claim, "never moves between a claim and an attachment"),
        (of_claim, json!({"claim": {"name": "machine-1"}}), "never changes"),
        (of_claim, json!({"claim": {"uid": "5b20"}}), "never changes"),
        (of_claim, json!({"pool": {"name": "pool-b"}}), "never changes"),
        (of_claim, json!({"pool": {"namespace": "default"}}), "never changes"),
    ] {
        let patch = json!({"spec": spec}).to_string();
        let changed = cluster.kubectl(&["patch", "ipa", name, "--type=merge", "-p", &patch]);
        let said = String::from_utf8_lossy(&changed.stderr);
        assert!(!changed.status.success() && said.contains(words), "{patch}: {said}");
    }
    cluster.text(&["delete", "ipa", of_claim, of_pod]);
}
