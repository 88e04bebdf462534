//! Networks that are cut into slices by `node_slice_size`, as Whereabouts spells it.

use super::{Slices, proxy, seen};
use crate::support::living::Living;
use crate::support::proxy::Act;
use crate::support::sandbox::{Sandbox, configuration};
use base64::Engine;
use serde_json::{Value, json};

fn delete_geometry(slices: &Slices) {
    let kind = "ipslicegeometries.hereabouts.dev";
    let list: Value =
        serde_json::from_str(&slices.cluster.text(&["get", kind, "-o", "json"])).unwrap();
    let is_own = |item: &&Value| item["spec"]["pool"] == json!(slices.pool);
    let own = list["items"].as_array().unwrap().iter().find(is_own).unwrap();
    slices.cluster.text(&["delete", kind, own["metadata"]["name"].as_str().unwrap()]);
}

#[test]
fn nodes_own_slices_of_a_network_in_both_spellings_of_the_size() {
    let Some(slices) = Slices::of_network("10.62.0.0/24", "/28") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    let proxy = proxy(&slices, &one);
    let first = slices.add(&one, "a_0");
    let [at] = &first.addresses()[..] else { panic!("{first:?}") };
    assert!(at.starts_with("10.62.0."), "{at}");
    assert_eq!(first.document()["ips"][0]["address"], json!(format!("{at}/24")));
    slices.cut("28").add(&two, "b_0").succeeded();
    assert_eq!(slices.owners().len(), 2);
    assert_eq!(slices.single_objects(), 0);
    // From here on nobody is asked.
    seen(&proxy);
    slices.add(&one, "c_0").succeeded();
    assert_eq!(slices.add(&one, "a_0").addresses(), first.addresses());
    slices.del(&one, "c_0");
    assert_eq!(seen(&proxy), Vec::<String>::new());
    // The last slice is kept for ten minutes, as one of a pool.
    slices.del(&one, "a_0");
    one.sandbox.command(&["slices", "sync"]).succeeded();
    assert_eq!(slices.owners().len(), 2);
    let requests = seen(&proxy);
    assert!(!requests.iter().any(|request| request.contains("ippools")), "{requests:?}");
    let list = one.sandbox.command(&["slices", "list", "--pool", &slices.pool]);
    assert!(list.succeeded().stdout.contains(&slices.pool), "{}", list.stdout);
}

#[test]
fn another_size_is_refused_while_a_node_owns_a_slice() {
    let Some(slices) = Slices::of_network("10.62.1.0/24", "/28") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    slices.add(&one, "a_0").succeeded();
    let other = slices.cut("/26");
    let refused = other.add(&two, "b_0");
    assert_eq!(refused.code(), 7, "{refused:?}");
    assert!(refused.details().contains("found slices of /28 in 10.62.1.0/24"), "{refused:?}");
    // Somebody deletes the geometry too early.
    delete_geometry(&slices);
    let refused = other.add(&two, "b_0");
    assert_eq!(refused.code(), 7, "{refused:?}");
    assert!(refused.details().contains("-one owns 10.62.1."), "{refused:?}");
    assert_eq!(slices.owners().len(), 1);
}

/// The other half: a node that has read the geometry just before it was deleted, and creates its
/// slice after that.
#[test]
fn a_slice_that_was_cut_by_a_deleted_geometry_is_not_used() {
    let Some(slices) = Slices::of_network("10.62.2.0/24", "/28") else { return };
    let one = slices.node("one");
    let proxy = proxy(&slices, &one);
    let other = slices.cut(slices.size);
    let mut is_first = true;
    proxy.script(move |asked| {
        if asked.method == "POST" && asked.path.ends_with("/ipslices") && is_first {
            is_first = false;
            delete_geometry(&other);
        }
        Act::Pass
    });
    let refused = slices.add(&one, "a_0");
    assert_eq!(refused.code(), 11, "{refused:?}");
    proxy.pass();
    // The next ADD cuts the network again. What the first one claimed goes back.
    slices.add(&one, "b_0").succeeded();
    one.sandbox.command(&["sweep", "--yes"]).succeeded();
    let owners = slices.owners();
    assert_eq!(owners.len(), 1, "{owners:?}");
}

/// The DaemonSet imports with each sweep, also if nothing of Whereabouts was ever there.
#[test]
fn an_import_on_the_node_knows_what_hereabouts_gave_under_the_name_of_whereabouts() {
    let Some(slices) = Slices::of_network("10.62.5.0/27", "/28") else { return };
    let Some(living) = Living::new() else { return skipped!("needs root") };
    let one = slices.node("one");
    let configuration = configuration(&slices.ipam()).replace("hereabouts", "whereabouts");
    let mut call = slices.call(&one, "ADD", "a_0");
    let given = call.set("CNI_NETNS", living.path()).run().addresses();
    let cached = json!({
        "kind": "cniCacheV1", "containerId": "a_0", "ifName": "net1", "networkName": "net1",
        "config": base64::engine::general_purpose::STANDARD.encode(configuration),
        "netns": living.path(), "result": {"ips": [{"address": format!("{}/27", given[0])}]},
    });
    std::fs::create_dir_all(one.sandbox.path("cache/results")).unwrap();
    one.sandbox.write("cache/results/net1-a_0-net1", &cached.to_string());
    let cache = one.sandbox.path("cache").display().to_string();
    for more in [&["--dry-run"][..], &[]] {
        let words = ["import", "whereabouts", "--cache-dir", &cache, "-o", "json"];
        let ended = one.sandbox.command(&[&words[..], more].concat());
        let rows = ended.succeeded().document()["addresses"].clone();
        assert_eq!(
            (&rows[0]["address"], &rows[0]["state"]),
            (&json!(given[0]), &json!("recorded"))
        );
    }
}

/// Pods hold addresses of a network when it is cut into slices, also those that were imported.
#[test]
fn the_pods_of_a_network_go_on_when_it_is_cut_into_slices() {
    let Some(slices) = Slices::of_network("10.62.4.0/27", "/28") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    let whole = slices.cut("");
    let held = whole.add(&one, "a_0").addresses();
    let block = |at: &str| {
        let last: u8 = at.rsplit('.').next().unwrap().parse().unwrap();
        last / 16
    };
    // A new pod gets an address of another block.
    let new = slices.add(&one, "b_0").addresses();
    assert_ne!(block(&held[0]), block(&new[0]));
    assert_eq!(slices.add(&one, "a_0").addresses(), held);
    let full = slices.add(&two, "c_0");
    assert_eq!(full.code(), 101, "{full:?}");
    assert!(full.details().contains(&held[0]), "{full:?}");
    slices.del(&one, "a_0");
    assert_eq!(block(&slices.add(&two, "c_0").addresses()[0]), block(&held[0]));
    assert_eq!(slices.owners().len(), 2);
}

#[test]
fn the_file_store_has_no_slices() {
    let Some(slices) = Slices::of_network("10.62.3.0/24", "/28") else { return };
    let refused = Sandbox::new().add("a_0", &slices.ipam());
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(refused.details().contains("ipam.node_slice_size"), "{refused:?}");
}
