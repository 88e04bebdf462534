//! Data of a later version: a whole node state is refused, and one object costs one address. Every
//! verb and command says what to install, and changes nothing.

use super::rig::{Rig, shared};
use crate::support::nodes::Node;
use crate::support::proxy::Seen;
use crate::support::sandbox::{Ended, files_below};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of a node state, and of an object.
const FORMATS: [&str; 2] = [
    "format 2, but this version reads only up to 1",
    "format 3, but this version reads only up to 2",
];

fn says_what_to_install(text: &str) -> bool {
    FORMATS.iter().any(|format| text.contains(format))
        && (text.contains("install the newer hereabouts again")
            || text.contains("install a newer hereabouts"))
}

/// Returns every file of a node's state, except those that are only hints.
fn state_of(node: &Node) -> BTreeMap<String, Vec<u8>> {
    let files = files_below(&node.state()).into_iter().filter(|path| !path.starts_with("revision"));
    files.map(|path| (path.clone(), std::fs::read(node.state().join(&path)).unwrap())).collect()
}

fn set(node: &Node, file: &str, change: impl Fn(&mut Value)) {
    let path = node.state().join(file);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

fn verb(node: &Node, verb: &str, added: &Ended) -> Ended {
    match verb {
        "CHECK" => node.check("c", added),
        "GC" => node.gc_call(&[]).run(),
        "STATUS" => node.status(),
        _ => node.call(verb, "c").run(),
    }
}

/// Cause: nothing in the state said which version wrote it. Effect: a DEL of an older version found
/// nothing in a newer layout, and succeeded.
#[test]
fn a_newer_state_is_refused_by_every_verb_and_command_that_uses_it() {
    let Some(cluster) = shared() else { return };
    for shape in ["today's", "another"] {
        let rig = Rig::new(cluster);
        let node = &rig.node;
        let added = node.add("c");
        added.succeeded();
        set(node, "complete", |complete| match shape {
            "another" => *complete = json!({"format": 2, "clusters": [["a", "b"]]}),
            _ => complete["format"] = json!(2),
        });
        let before = state_of(node);
        rig.proxy.seen();
        for name in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let ended = verb(node, name, &added);
            assert_eq!(
                ended.code(),
                if name == "STATUS" { 50 } else { 104 },
                "{shape}, {name}: {ended:?}"
            );
            let details = ended.details();
            assert!(says_what_to_install(&details), "{shape}, {name}: {details}");
            assert!(
                details.contains(node.state().to_str().unwrap())
                    && details.contains("remove that directory"),
                "{details}"
            );
        }
        for command in ["repair --yes", "sweep --yes", "verify"] {
            let ended = node.sandbox.command(&command.split(' ').collect::<Vec<_>>());
            // `verify` reads all objects, and finds those of other tests.
            assert!(
                ended.status == Some(1) || command == "verify",
                "{shape}, {command}: {ended:?}"
            );
            assert!(says_what_to_install(&ended.stderr), "{shape}, {command}: {ended:?}");
        }
        let is_write = |seen: &Seen| seen.method != "GET";
        assert!(!rig.proxy.seen().iter().any(is_write), "{shape}: something was written");
        assert_eq!(state_of(node), before, "{shape}: something was written");
        // The way back that the error names.
        std::fs::remove_dir_all(node.state()).unwrap();
        node.del("c").succeeded();
        rig.assert_empty("after the DEL");
    }
}

/// Cause: an object of a later version was called damaged, with the advice to remove it.
#[test]
fn a_newer_object_costs_its_address_and_no_other() {
    let Some(cluster) = shared() else { return };
    for known in ["as the server answered", "as it was", "in a damaged file"] {
        let rig = Rig::new(cluster);
        let node = &rig.node;
        let flat: Value =
            serde_json::from_slice(&std::fs::read(node.sandbox.path("flat.conf")).unwrap())
                .unwrap();
        let with_log = json!({"log_file": node.sandbox.path("log")});
        let flat: serde_json::Map<_, _> = [flat, with_log]
            .into_iter()
            .flat_map(|keys| keys.as_object().unwrap().clone())
            .collect();
        node.sandbox.write("flat.conf", &Value::from(flat).to_string());
        let added = node.add("c");
        let object = format!("{}.10.9.0.1", node.scope);
        cluster.text(&[
            "patch",
            "ipallocation",
            &object,
            "--type=merge",
            "-p",
            r#"{"spec":{"format":3}}"#,
        ]);
        let file = files_below(&node.state())
            .into_iter()
            .find(|path| path.starts_with("attachments/"))
            .unwrap();
        match known {
            "as the server answered" => {
                set(node, &file, |known| known[0]["spec"]["format"] = json!(3))
            }
            "in a damaged file" => std::fs::write(node.state().join(&file), "[{").unwrap(),
            // A DEL names the state that it knows, which the object no longer has.
            _ => {}
        }
        for name in ["ADD", "CHECK"] {
            let ended = verb(node, name, &added);
            assert_eq!(ended.code(), 104, "{known}, {name}: {ended:?}");
            assert!(says_what_to_install(&ended.details()), "{known}, {name}: {ended:?}");
        }
        node.status().succeeded();
        assert_eq!(node.add("other").addresses(), ["10.9.0.2"], "{known}");
        node.del("other").succeeded();
        for (command, status) in
            [("list", 1), ("verify", 1), ("repair --yes", 0), ("sweep --yes", 0)]
        {
            let ended = node.sandbox.command(&command.split(' ').collect::<Vec<_>>());
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert_eq!(ended.status, Some(status), "{known}, {command}: {ended:?}");
            assert!(
                says_what_to_install(&said) && !said.contains("damaged"),
                "{known}, {command}: {said}"
            );
        }
        for name in ["GC", "DEL"] {
            let _ = std::fs::remove_file(node.sandbox.path("log"));
            let ended = verb(node, name, &added);
            let log = std::fs::read_to_string(node.sandbox.path("log")).unwrap_or_default();
            let said = if ended.status == Some(0) { log } else { ended.details() };
            assert!(says_what_to_install(&said), "{known}, {name}: {ended:?} {said}");
        }
        assert_eq!(rig.holders().into_values().collect::<Vec<_>>(), ["c"], "{known}");
        // When the newer version's object is gone, everything works.
        cluster.text(&["delete", "ipallocation", &object]);
        node.del("c").succeeded();
        node.sandbox.command(&["sweep", "--yes"]).succeeded();
        node.add("fresh").succeeded();
        node.del("fresh").succeeded();
        assert_eq!(rig.holders().len(), 0, "{known}");
    }
}
