//! What this version wrote can be read forever: objects and node state, as kept in
//! `tests/data/written-2026-11-27`, and the files that came later. What is written today has no key
//! that is not kept there. A new key, or a new format, goes into a new directory.

use super::node_state::lived_in;
use super::rig::{Rig, shared};
use crate::support::nodes::{holders, objects, own_name};
use crate::support::sandbox::files_below;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/written-2026-11-27")
}

/// The kinds of files that came later.
fn later() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/written-2026-11-30")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Collects `key.key` of everything in a value. Arrays count as their items.
fn keys(value: &Value, above: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = format!("{above}.{key}");
                keys(value, &path, found);
                found.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, above, found)),
        _ => {}
    }
}

/// Returns the keys of the files of a node state, by kind. For files that are not JSON, it returns
/// that they exist.
fn keys_of(state: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files_below(state) {
        let kind = path.split(['/', '-']).next().unwrap().to_owned();
        let text = std::fs::read(state.join(&path)).unwrap();
        let found = kinds.entry(kind).or_default();
        if let Ok(value) = serde_json::from_slice(&text) {
            keys(&value, "", found);
        }
    }
    kinds
}

/// Returns what a node writes in calls that leave every kind of file. It is kept below target for
/// inspection.
fn write_today(rig: &Rig<'_>) -> PathBuf {
    let node = &rig.node;
    lived_in(rig);
    // A record whose namespace is seen.
    let netns = node.sandbox.path("living");
    std::os::unix::fs::symlink(format!("/proc/{}/ns/net", std::process::id()), &netns).unwrap();
    node.call("ADD", "living")
        .set("CNI_NETNS", netns)
        .set("CNI_NETNS_OVERRIDE", "true")
        .run()
        .succeeded();
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/written-today");
    let _ = std::fs::remove_dir_all(&out);
    for path in files_below(&node.state()) {
        let to = out.join("node-state").join(&path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(node.state().join(path), to).unwrap();
    }
    let own: Vec<Value> = objects(rig.cluster)
        .into_iter()
        .filter(|object| object["spec"]["scope"] == json!(node.scope))
        .collect();
    std::fs::write(out.join("objects.json"), serde_json::to_string_pretty(&own).unwrap() + "\n")
        .unwrap();
    out
}

#[test]
fn what_is_written_today_has_no_key_that_is_not_kept() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::named(cluster, &own_name("today"));
    let out = write_today(&rig);
    let today = keys_of(&out.join("node-state"));
    let mut before = keys_of(&kept().join("node-state"));
    before.extend(keys_of(&later().join("node-state")));
    for (kind, keys) in today {
        let known = before
            .get(&kind)
            .unwrap_or_else(|| panic!("no file {kind} is kept, {} has one", out.display()));
        let new: Vec<&String> = keys.difference(known).collect();
        assert!(new.is_empty(), "{kind}: {new:?} are not kept, {} has them", out.display());
    }
    let mut sets = [BTreeSet::new(), BTreeSet::new()];
    for (set, directory) in sets.iter_mut().zip([&out, &kept()]) {
        keys(&read(&directory.join("objects.json")), "", set);
    }
    let is_ours = |key: &&String| key.starts_with(".spec") || key.starts_with(".metadata.labels");
    let new: Vec<&String> = sets[0].difference(&sets[1]).filter(is_ours).collect();
    assert!(new.is_empty(), "{new:?}");
}

/// Creates the objects in a cluster. The cluster's uids and revisions replace the kept ones.
fn lay_out(rig: &Rig<'_>) {
    let (node, here) = (&rig.node, &here(rig));
    let mut given = Vec::new();
    for object in read(&kept().join("objects.json")).as_array().unwrap() {
        let mut text = object.to_string();
        here.iter().for_each(|(before, now)| text = text.replace(before, now));
        let mut bare: Value = serde_json::from_str(&text).unwrap();
        bare["metadata"] =
            json!({"name": object["metadata"]["name"], "labels": object["metadata"]["labels"]});
        rig.cluster.apply(&bare.to_string());
        let name = object["metadata"]["name"].as_str().unwrap();
        let made =
            objects(rig.cluster).into_iter().find(|made| made["metadata"]["name"] == name).unwrap();
        for key in ["uid", "resourceVersion"] {
            let quoted = |object: &Value| format!("\"{key}\":{}", object["metadata"][key]);
            given.push((quoted(object), quoted(&made)));
        }
    }
    let states = [kept(), later()].map(|kept| kept.join("node-state"));
    let files = states
        .iter()
        .flat_map(|state| files_below(state).into_iter().map(move |path| (state, path)));
    for (state, path) in files {
        let mut text = std::fs::read_to_string(state.join(&path)).unwrap();
        // A new revision may equal a kept one.
        for (n, (before, _)) in given.iter().chain(here).enumerate() {
            text = text.replace(before, &format!("@{n}@"));
        }
        for (n, (_, now)) in given.iter().chain(here).enumerate() {
            text = text.replace(&format!("@{n}@"), now);
        }
        let to = node.state().join(path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, text).unwrap();
    }
}

/// Returns what belongs to this machine and this boot, in place of the kept values.
fn here(rig: &Rig<'_>) -> Vec<(String, String)> {
    // A call of another node shows them.
    let other = Rig::new(rig.cluster);
    let (before, now) =
        (read(&kept().join("node-state/complete")), read(&other.node.state().join("complete")));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    ["machine", "boot"]
        .iter()
        .filter_map(|key| Some((text(&before[key])?, text(&now[key])?)))
        .collect()
}

#[test]
fn what_was_written_is_read() {
    let Some(cluster) = shared() else { return };
    let name = read(&kept().join("node-state/complete"))["node"].as_str().unwrap().to_owned();
    let rig = Rig::named(cluster, &name);
    let (node, proxy) = (&rig.node, &rig.proxy);
    std::fs::remove_dir_all(node.state()).unwrap();
    lay_out(&rig);
    let before = holders(cluster, &node.scope);
    assert_eq!(before.values().collect::<Vec<_>>(), ["kept", "web_1", "living"], "{before:?}");
    // The pod's new sandbox gets its address through the index by pod. The way to the cluster is
    // another one, so the objects are listed once.
    assert_eq!(
        node.add("web_2").addresses()[0],
        *before.iter().find(|(_, holder)| *holder == "web_1").unwrap().0
    );
    proxy.seen();
    // A DEL names exactly the state that the node knows: one request.
    node.del("kept").succeeded();
    assert_eq!(proxy.methods(), ["DELETE"]);
    // The intent and the tombstone, whose time is over: it is forgotten.
    node.add("open").succeeded();
    for container in ["open", "web_1", "web_2", "gone", "living"] {
        node.del(container).succeeded();
    }
    assert_eq!(holders(cluster, &node.scope), BTreeMap::new());
    let tombstones = std::fs::read_to_string(node.state().join("tombstones")).unwrap_or_default();
    assert!(!tombstones.contains("\"gone\""), "{tombstones}");
    let verified = node.sandbox.command(&["verify"]);
    assert!(!verified.stdout.contains("damaged-state"), "{verified:?}");
}
