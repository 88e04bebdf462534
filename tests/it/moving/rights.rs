//! What the token of a node needs while addresses are shown: deploy/moving, and not more.

use super::answers::node;
use super::world::World;
use crate::deploy::chart::kustomized;
use hereabouts::retry::{Deadline, until};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_node_serves_its_pods_with_the_rights_of_deploy_moving() {
    let Some(world) = World::new() else { return };
    let objects = match kustomized("moving") {
        Ok(objects) => objects,
        Err(reason) => return skipped!("{reason}"),
    };
    world.pool("moving-10.9.0.0-24", "10.9.0.0/24", &[("1", "theirs")]);
    super::set(&world.cluster, 1, "shared");
    let node = node(&world.cluster, "n1");
    let ended = node.add("a_1");
    assert_eq!(ended.code(), 105, "{ended:?}");
    assert!(ended.details().contains("lacks the right to"), "{ended:?}");
    assert!(world.names("ipallocations").is_empty());

    objects.iter().for_each(|object| world.cluster.apply(&object.to_string()));
    // A role takes effect some moments after it was created.
    let added = until(&Deadline::after(Duration::from_secs(60)), || {
        let ended = node.add("a_1");
        Ok::<_, ()>((ended.status == Some(0)).then(|| ended.addresses()))
    });
    assert_eq!(added, Ok(Some(vec!["10.9.0.2".to_owned()])));
    let entry = world.entries("moving-10.9.0.0-24")["2"].clone();
    assert_eq!(
        (&entry["podref"], &entry["ifname"]),
        (&json!("default/a"), &json!("net1/hereabouts"))
    );
    let reservations = "overlappingrangeipreservations.whereabouts.cni.cncf.io";
    assert_eq!(world.names(reservations), ["moving-10.9.0.2"]);
    // A range of which Whereabouts has no pool yet.
    node.call_in("ADD", "b_1", "10.8.0.0/24").run().succeeded();
    assert!(
        world.names("ippools.whereabouts.cni.cncf.io").contains(&"moving-10.8.0.0-24".to_owned())
    );
    node.del("a_1").succeeded();
    node.call_in("DEL", "b_1", "10.8.0.0/24").run().succeeded();
    assert!(world.names(reservations).is_empty() && world.names("ipallocations").is_empty());
    assert_eq!(world.entries("moving-10.9.0.0-24").as_object().unwrap().len(), 1);

    // The turns were taken under the Lease, and the last one has ended. Without the right to change it,
    // the calls would have gone on without.
    let words = ["get", "lease", "whereabouts", "-n", "kube-system", "-o", "json"];
    let lease: serde_json::Value = serde_json::from_str(&world.cluster.text(&words)).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"].as_str().unwrap_or_default(), "");
    assert!(1 < lease["spec"]["leaseTransitions"].as_u64().unwrap(), "{lease}");

    // `move finish` takes the rights of Whereabouts away, and not those of the nodes.
    world.answer("n1", 1, "hereabouts");
    let said = world.run(&["move", "finish", "--dry-run"]).stderr;
    assert!(said.contains("would remove the ClusterRoleBinding whereabouts,"), "{said}");
    assert_eq!(said.matches("would remove").count(), 1, "{said}");
}
