//! What Whereabouts sees after an export.

use super::commands::world;
use super::world::{World, entry};
use crate::leaks::{Held, hold};
use serde_json::{Value, json};

const POOL: &str = "10.20.0.0-24";

fn reservations(world: &World) -> Vec<String> {
    world.names("overlappingrangeipreservations.whereabouts.cni.cncf.io")
}

/// Records an address for a pod of n1.
pub(super) fn held(world: &World, address: &str, pod: &str) {
    hold(&world.cluster, &Held { address, node: ["n1", "", "boot-1"], pod: [pod, "uid"] });
}

#[test]
fn import_and_export_lose_nothing_and_invent_nothing() {
    let Some(world) = world() else { return };
    let before = (world.entries(POOL), reservations(&world));
    world.run(&["import", "whereabouts"]).succeeded();
    for _ in 0..2 {
        let said = world.run(&["export", "whereabouts"]).succeeded().stdout.clone();
        let words = "2 held addresses: 2 shown to Whereabouts, 0 in none of its ranges, 0 left; 0 objects without a record removed";
        assert!(said.contains(words), "{said}");
        assert_eq!((world.entries(POOL), reservations(&world)), before);
    }
}

#[test]
fn export_makes_the_pools_equal_to_what_is_held_and_touches_nothing_else() {
    let Some(world) = world() else { return };
    world.run(&["import", "whereabouts"]).succeeded();
    held(&world, "10.20.0.9", "z");
    held(&world, "10.99.0.1", "elsewhere");
    let stray = json!({"id": "no-such-uid", "podref": "default/x", "ifname": "net1/hereabouts"});
    let (stranger, unread) = (entry("stranger"), json!({"id": "", "podref": ""}));
    let more = json!({"spec": {"allocations": {"7": stray, "8": stranger, "40": unread}}});
    let pool = format!("ippools.whereabouts.cni.cncf.io/{POOL}");
    let words = ["patch", "-n", "kube-system", &pool, "--type=merge", "-p", &more.to_string()];
    world.cluster.text(&words);
    let spec =
        json!({"podref": "default/x", "containerid": "no-such-uid", "ifname": "net1/hereabouts"});
    world.write("OverlappingRangeIPReservation", "10.20.0.7", &spec);

    let before = (world.entries(POOL), reservations(&world));
    let dry = world.run(&["export", "whereabouts", "--dry-run"]).succeeded().stdout.clone();
    assert!(dry.contains("4 held addresses: 3 would be shown to Whereabouts, 1 in none of its ranges, 0 left; 2 objects without a record would be removed"), "{dry}");
    assert_eq!((world.entries(POOL), reservations(&world)), before);

    let ended = world.run(&["export", "whereabouts"]);
    let said = ended.succeeded().stderr.clone();
    for words in [
        "without a record: the reservation kube-system/10.20.0.7",
        "without a record: IPPool kube-system/10.20.0.0-24 key 7",
        "not touched: 10.20.0.8 of pod default/stranger",
        "not touched: 10.20.0.40 of pod ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let of_z = world.entries(POOL)["9"].clone();
    assert_eq!((&of_z["podref"], &of_z["ifname"]), (&json!("default/z"), &json!("net1")));
    assert!(world.entries(POOL)["7"].is_null());
    for (key, value) in [("5", entry("a")), ("6", entry("b")), ("8", stranger), ("40", unread)] {
        assert_eq!(world.entries(POOL)[key], value, "{key}");
    }
    assert_eq!(reservations(&world), ["10.20.0.5", "10.20.0.6", "10.20.0.9"]);
    world.run(&["export", "whereabouts"]).succeeded();

    // Whereabouts has an address for another pod.
    held(&world, "10.20.0.8", "y");
    let ended = world.run(&["export", "whereabouts"]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("left: 10.20.0.8 is held by"), "{ended:?}");
    assert!(ended.stderr.contains("pod default/stranger"), "{ended:?}");
    assert_eq!(world.entries(POOL)["8"], entry("stranger"));
}

#[test]
fn during_a_move_an_export_writes_what_whereabouts_cannot_take_over() {
    let Some(world) = world() else { return };
    world.pool("10.20.0.0-16", "10.20.0.0/16", &[]);
    world.run(&["move", "start"]).succeeded();
    held(&world, "10.20.0.9", "z");
    world.run(&["export", "whereabouts"]).succeeded();
    let guarded = |key: &str| world.entries(POOL)[key]["ifname"].clone();
    assert_eq!([guarded("5"), guarded("9")], [(); 2].map(|()| json!("net1/hereabouts")));
    let uid = |name: &str| -> Value {
        let text = world.cluster.text(&["get", "ipa", name, "-o", "json"]);
        serde_json::from_str::<Value>(&text).unwrap()["metadata"]["uid"].clone()
    };
    assert_eq!(world.entries(POOL)["9"]["id"], uid("10.20.0.9"));
    // An address that stands in two pools is one address.
    assert_eq!(world.entries("10.20.0.0-16")["9"]["id"], uid("10.20.0.9"));
    let status = world.run(&["move", "status", "-o", "json"]).succeeded().document();
    assert_eq!(status["entries"]["ofHereabouts"], 3);
}
