//! Pods that end under Whereabouts after their records were imported, before their node has
//! hereabouts: the import on the node.

use super::imported::{import, node};
use super::rig::{World, world};
use crate::support::living::Living;
use crate::support::nodes::{Node, RANGE, holders, own_name};
use base64::Engine;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the runtime of a node keeps.
struct Runtime<'n> {
    node: &'n Node,
    /// The pods that run, by their containers.
    running: BTreeMap<String, Living>,
}

impl Runtime<'_> {
    /// Keeps the result of an ADD of Whereabouts, as libcni does.
    fn keep(&self, container: &str, address: &str) {
        let scope = &self.node.scope;
        let ipam = json!({"type": "whereabouts", "range": RANGE, "network_name": scope});
        let configuration =
            json!({"cniVersion": "1.0.0", "name": "net1", "type": "macvlan", "ipam": ipam});
        let netns = self.running.get(container).map_or("/proc/1/ns/gone".to_owned(), Living::path);
        let cached = json!({
            "kind": "cniCacheV1", "containerId": container, "ifName": "net1", "networkName": "net1",
            "config": base64::engine::general_purpose::STANDARD.encode(configuration.to_string()),
            "netns": netns,
            "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "default"],
                ["K8S_POD_NAME", container.split('_').next()]],
            "result": {"cniVersion": "1.0.0", "ips": [{"address": format!("{address}/24")}]},
        });
        std::fs::create_dir_all(self.node.sandbox.path("cache/results")).unwrap();
        self.node
            .sandbox
            .write(&format!("cache/results/net1-{container}-net1"), &cached.to_string());
    }

    /// Imports what Whereabouts has given on this node. Returns the state of each address and
    /// container.
    fn import(&self, more: &[&str]) -> Vec<(String, String)> {
        let cache = self.node.sandbox.path("cache").display().to_string();
        let words = ["import", "whereabouts", "--cache-dir", &cache, "-o", "json"];
        let ended = self.node.sandbox.command(&[&words[..], more].concat());
        let document: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let rows = document["addresses"].as_array().unwrap().iter();
        let pair = |row: &Value| {
            (format!("{} {}", text(row, "address"), text(row, "container")), text(row, "state"))
        };
        let mut states: Vec<_> = rows.map(pair).collect();
        states.sort();
        states
    }
}

fn states<const N: usize>(rows: [(String, &str); N]) -> [(String, String); N] {
    rows.map(|(row, state)| (row, state.to_owned()))
}

fn stop(world: &World, node: &Node, container: &str) {
    world.whereabouts("DEL", container, &node.scope, &[RANGE]).run().succeeded();
}

/// One pod has ended, and Whereabouts has given its address to the next one on the node. One has
/// ended, and nobody has its address. One runs, and no result is there. Of one there is a result, but
/// its entry is gone.
#[test]
fn the_import_on_a_node_frees_what_ended_under_whereabouts() {
    let Some(world) = world() else { return };
    let Some(living) = Living::new() else { return skipped!("needs root") };
    let scope = own_name("ended");
    let node = node(world, &scope);
    let [first, second, third, fourth] = ["first_1", "second_1", "third_1", "fourth_1"]
        .map(|container| import(world, &node, container));
    for container in ["first_1", "second_1", "fourth_1"] {
        stop(world, &node, container);
    }
    let given = world.whereabouts("ADD", "next_1", &scope, &[RANGE]).run().addresses();
    assert_eq!(given, std::slice::from_ref(&first), "Whereabouts gives the first free address");
    let running = [("next_1".to_owned(), living)].into();
    let runtime = Runtime { node: &node, running };

    // The directories may be the wrong ones.
    let before = holders(&world.cluster, &scope);
    let all_left = runtime.import(&[]);
    assert_eq!(all_left.len(), 4, "{all_left:?}");
    assert!(all_left.iter().all(|(_, state)| state == "left"), "{all_left:?}");
    assert_eq!(holders(&world.cluster, &scope), before);

    runtime.keep("next_1", &first);
    runtime.keep("fourth_1", &fourth);
    let expected = states([
        (format!("{first} first_1"), "freed"),
        (format!("{first} next_1"), "new"),
        (format!("{second} second_1"), "freed"),
        (format!("{third} third_1"), "left"),
        // Neither does the result say that it has ended.
        (format!("{fourth} fourth_1"), "gone"),
        (format!("{fourth} fourth_1"), "left"),
    ]);
    assert_eq!(runtime.import(&["--dry-run"]), expected);
    assert_eq!(holders(&world.cluster, &scope), before, "a dry run changes nothing");
    assert_eq!(runtime.import(&[]), expected);
    let held: Vec<_> = holders(&world.cluster, &scope).into_iter().collect();
    let pair = |address: &str, container: &str| (address.to_owned(), container.to_owned());
    assert_eq!(held, [pair(&first, "next_1"), pair(&third, "third_1"), pair(&fourth, "fourth_1")]);
    // What Whereabouts has given to the next pod stays, in our form.
    let entries: Vec<_> = world.entries(&scope).into_values().collect();
    let third_1 = ("third_1".to_owned(), "net1".to_owned());
    assert_eq!((entries.len(), &*entries[0].1, &entries[1]), (2, "net1/hereabouts", &third_1));
    assert_eq!(world.reservations(&scope)[&first], entries[0]);
}
