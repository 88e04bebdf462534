//! How slices are given back.

use super::review::sync;
use super::{Slices, proxy, seen};
use crate::support::living::Living;
use crate::support::nodes::Node;
use crate::support::proxy::Proxy;
use serde_json::{Value, json};

pub(super) fn sweep(node: &Node) {
    node.sandbox.command(&["sweep", "--yes"]).succeeded();
}

/// Changes the notes of a node about its slices.
pub(super) fn change_notes(node: &Node, change: impl Fn(&mut Value)) {
    change_all_notes(node, |notes| {
        notes["slices"].as_array_mut().unwrap().iter_mut().for_each(&change);
    });
}

pub(super) fn change_all_notes(node: &Node, change: impl Fn(&mut Value)) {
    let path = node.state().join("slices");
    let mut notes: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut notes);
    std::fs::write(&path, notes.to_string()).unwrap();
}

pub(super) fn states(node: &Node) -> Vec<String> {
    let notes: Value =
        serde_json::from_slice(&std::fs::read(node.state().join("slices")).unwrap()).unwrap();
    let slices = notes["slices"].as_array().unwrap().iter();
    slices.map(|slice| slice["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_node_keeps_one_empty_slice_for_ten_minutes_and_no_second_one() {
    let Some(slices) = Slices::with(&json!({
        "ranges": [{"ipv4": "10.62.0.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 30}},
    })) else {
        return;
    };
    let node = slices.node("one");
    let Some(living) = Living::new() else { return skipped!("a network namespace needs root") };
    let containers: Vec<String> = (0..9).map(|number| format!("p-{number}_0")).collect();
    for container in &containers {
        let mut call = slices.call(&node, "ADD", container);
        call.set("CNI_NETNS", living.path()).run().succeeded();
    }
    assert_eq!(slices.owners().len(), 3);
    sweep(&node);
    assert_eq!(slices.owners().len(), 3, "none is empty");
    containers.iter().for_each(|container| slices.del(&node, container));
    sweep(&node);
    assert_eq!(slices.owners().len(), 1);
    sweep(&node);
    assert_eq!(slices.owners().len(), 1);
    change_notes(&node, |slice| {
        let since = slice["empty_since"].as_i64().unwrap();
        slice["empty_since"] = json!(since - 601_000);
    });
    sweep(&node);
    assert_eq!(slices.owners(), Vec::<String>::new());
    slices.add(&node, "q-0_0").succeeded();
    assert_eq!(slices.owners().len(), 1);
}

#[test]
fn a_return_that_was_killed_is_finished_and_nothing_is_given_meanwhile() {
    let Some(slices) = Slices::new("10.62.1.0/24") else { return };
    let node = slices.node("one");
    let first = slices.add(&node, "a_0").addresses();
    slices.del(&node, "a_0");
    node.sandbox.forget_freed();
    // Marked, and killed before the object was deleted.
    change_notes(&node, |slice| slice["state"] = json!("closing"));
    let second = slices.add(&node, "b_0").addresses();
    assert_ne!(first, second);
    assert_eq!(slices.owners().len(), 2);
    sweep(&node);
    assert_eq!(slices.owners().len(), 1);
    assert_eq!(states(&node), ["owned"]);
    // Deleted, and killed before the note was removed.
    slices.del(&node, "b_0");
    change_notes(&node, |slice| slice["state"] = json!("closing"));
    let name = slices.objects()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    slices.cluster.text(&["delete", "ipslices", &name]);
    sweep(&node);
    assert_eq!(states(&node), Vec::<String>::new());
}

#[test]
fn a_slice_in_which_an_address_was_given_meanwhile_stays() {
    let Some(slices) = Slices::new("10.62.2.0/24") else { return };
    let node = slices.node("one");
    let Some(living) = Living::new() else { return skipped!("a network namespace needs root") };
    let mut call = slices.call(&node, "ADD", "a_0");
    call.set("CNI_NETNS", living.path()).run().succeeded();
    change_notes(&node, |slice| slice["state"] = json!("closing"));
    sweep(&node);
    assert_eq!((slices.owners().len(), states(&node)), (1, vec!["owned".to_owned()]));
}

#[test]
fn a_return_costs_one_request_and_a_sweep_of_a_node_without_slices_none() {
    let Some(slices) = Slices::new("10.62.3.0/24") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    let [of_one, of_two] = [&one, &two].map(|node| proxy(&slices, node));
    slices.add(&one, "a_0").succeeded();
    slices.del(&one, "a_0");
    sweep(&one);
    change_notes(&one, |slice| slice["empty_since"] = json!(-600_000));
    let requests = |node: &Node, proxy: &Proxy| {
        seen(proxy);
        sweep(node);
        let all = seen(proxy);
        all.into_iter().filter(|asked| asked.contains("slice")).collect::<Vec<_>>()
    };
    assert_eq!(requests(&two, &of_two), Vec::<String>::new());
    assert_eq!(requests(&one, &of_one), ["DELETE ipslices"]);
    assert_eq!(slices.owners(), Vec::<String>::new());
}

#[test]
fn the_look_of_each_minute_settles_what_a_killed_call_has_asked_for() {
    let Some(slices) = Slices::new("10.62.9.0/24") else { return };
    let node = slices.node("one");
    slices.add(&node, "a_0").succeeded();
    for change in [json!({"state": "asked"}), json!({"object": {"spec": {"bootID": ""}}})] {
        // Killed after the request, or after a return whose answer was lost.
        change_notes(&node, |slice| match change.get("state") {
            Some(state) => {
                slice["state"] = state.clone();
                let metadata = slice["object"]["metadata"].as_object_mut().unwrap();
                metadata.retain(|key, _| !["uid", "resourceVersion"].contains(&key.as_str()));
            }
            None => slice["object"]["spec"]["bootID"] = json!(""),
        });
        node.sandbox.command(&["slices", "sync"]).succeeded();
        assert_eq!(states(&node), ["owned"]);
        let list = ["slices", "list", "--node", &node.name, "-o", "json"];
        assert_eq!(node.sandbox.command(&list).document()[0]["state"], json!("owned"));
        assert_eq!(slices.owners().len(), 1);
    }
}

#[test]
fn an_uninstall_gives_the_slices_of_its_node_back_and_names_those_with_pods() {
    let Some(slices) = Slices::new("10.62.4.0/24") else { return };
    let node = slices.node("one");
    let Some(living) = Living::new() else { return skipped!("a network namespace needs root") };
    slices.call(&node, "ADD", "a_0").set("CNI_NETNS", living.path()).run().succeeded();
    let own = node.sandbox.path("net.d/hereabouts.d");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(node.sandbox.path("flat.conf"), own.join("hereabouts.conf")).unwrap();
    let uninstall = |args: &[&str]| {
        let args = [&["uninstall", "--mount-namespace", "/proc/self/ns/mnt"], args].concat();
        let mut call = node.sandbox.command_call(&args);
        call.set("CNI_CONF_DIR", node.sandbox.path("net.d"))
            .set("CNI_BIN_DIR", node.sandbox.path("bin"))
            .set("NODENAME", &node.name);
        call.run()
    };
    let said = uninstall(&["--force"]).succeeded().stderr.clone();
    assert!(said.contains(": pods hold 1 address of it"), "{said}");
    assert_eq!(slices.owners().len(), 1);
    slices.del(&node, "a_0");
    let said = uninstall(&[]).succeeded().stderr.clone();
    assert!(said.contains("gave back 1 empty slice"), "{said}");
    assert_eq!(slices.owners(), Vec::<String>::new());
    assert_eq!(states(&node), Vec::<String>::new());
    let again = node.sandbox.command(&["slices", "return"]);
    assert!(again.succeeded().stderr.contains("gave back 0 empty slices"), "{again:?}");
}

#[test]
fn a_node_for_which_the_pool_is_not_any_more_keeps_no_empty_slice() {
    let spec = json!({
        "ranges": [{"ipv4": "10.62.5.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 28}},
        "nodeSelector": {"matchLabels": {"rack": "a"}},
    });
    let Some(slices) = Slices::with(&spec) else { return };
    let node = slices.node("one");
    let flat = node.sandbox.path("flat.conf");
    let label = |rack: &str| {
        let mut settings: Value = serde_json::from_slice(&std::fs::read(&flat).unwrap()).unwrap();
        settings["node_labels"] = json!({"rack": rack});
        std::fs::write(&flat, settings.to_string()).unwrap();
    };
    for ends in [
        |_: &Slices| (),
        |slices: &Slices| {
            slices.cluster.text(&["delete", "ippools.hereabouts.dev", &slices.pool]);
        },
    ] {
        label("a");
        slices.add(&node, "a_0").succeeded();
        slices.del(&node, "a_0");
        sync(&node).succeeded();
        assert_eq!(slices.owners().len(), 1, "the last one stays for ten minutes");
        ends(&slices);
        if slices.cluster.text(&["get", "ippools.hereabouts.dev"]).contains(&slices.pool) {
            label("b");
        }
        sync(&node).succeeded();
        assert_eq!(slices.owners(), Vec::<String>::new());
    }
}
