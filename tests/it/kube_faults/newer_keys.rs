//! Keys of a newer version, which this version does not know: they stay as long as the object is
//! about the same sandbox.

use super::rig::{Rig, shared};
use crate::support::living::Living;
use crate::support::nodes::objects;
use serde_json::{Value, json};

/// Returns the only object of the rig's scope.
fn object(rig: &Rig<'_>) -> Value {
    let mut found = objects(rig.cluster);
    found.retain(|object| object["spec"]["scope"] == *rig.node.scope);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn patch(rig: &Rig<'_>, spec: &Value) {
    let object = object(rig);
    let patch = json!({ "spec": spec }).to_string();
    rig.cluster.text(&[
        "patch",
        "ipa",
        object["metadata"]["name"].as_str().unwrap(),
        "--type=merge",
        "--patch",
        &patch,
    ]);
}

#[test]
fn a_record_for_another_sandbox_has_none_of_the_keys_of_a_newer_version() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    rig.node.add("web_1").succeeded();
    patch(&rig, &json!({"cgroup": {"id": 7}, "podRef": {"class": "a"}}));
    rig.node.add("web_2").succeeded();
    let spec = object(&rig)["spec"].clone();
    assert_eq!(spec["containerID"], "web_2");
    assert_eq!(
        (&spec["cgroup"], &spec["podRef"]["class"]),
        (&Value::Null, &json!("a")),
        "the pod is the same: {spec}"
    );
    rig.node.del("web_2").succeeded();
    rig.assert_empty("the DEL knows the object");
}

#[test]
fn a_record_that_is_made_again_has_the_keys_of_a_newer_version() {
    let Some(cluster) = shared() else { return };
    let Some(living) = Living::new() else { return skipped!("no network namespace without root") };
    let rig = Rig::new(cluster);
    rig.node.call("ADD", "c").set("CNI_NETNS", living.path()).run().succeeded();
    patch(&rig, &json!({"cgroup": {"id": 7}, "netns": {"cookie": "x"}}));
    std::fs::remove_dir_all(rig.node.sandbox.store()).unwrap();
    rig.node.del("none").succeeded();
    let before = object(&rig);
    rig.cluster.text(&["delete", "ipa", before["metadata"]["name"].as_str().unwrap()]);
    rig.node.sandbox.command(&["repair", "--yes"]).succeeded();
    assert_eq!(object(&rig)["spec"], before["spec"]);
    assert_eq!(before["spec"]["netns"]["cookie"], "x");
}
