//! What nodes publish about the addresses in their slices: when, to whom it is shown, and that it
//! decides nothing.

use super::review::{as_operator, change, name, sync};
use super::{Slices, proxy};
use crate::install::node::{Node as Installed, Watching};
use crate::support::nodes::Node;
use crate::support::proxy::Proxy;
use hereabouts::retry::{Deadline, until};
use serde_json::{Value, json};
use std::time::Duration;

/// Writes the status of a slice, as its node would.
fn write_status(slices: &Slices, slice: &str, status: &Value) {
    let patch = json!({"status": status}).to_string();
    let args = ["patch", "ipslices", slice, "--subresource=status", "--type=merge", "-p", &patch];
    slices.cluster.text(&args);
}

/// Makes the status of a slice an old one.
fn age(slices: &Slices, slice: &str) {
    write_status(slices, slice, &json!({"published": "2026-11-01T00:00:00Z"}));
}

fn status(slices: &Slices) -> Value {
    slices.objects()[0]["status"].take()
}

fn listed(slices: &Slices) -> Vec<String> {
    let lines = status(slices)["held"].take();
    lines.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// Returns the requests since the last time that change slices, with the ends of their paths.
fn changes(proxy: &Proxy) -> Vec<String> {
    let of_slices = |path: &str| {
        let rest = path.split_once("/ipslices")?.1.split('?').next()?;
        Some(if rest.ends_with("/status") { "status" } else { "slice" })
    };
    let seen = proxy.seen();
    let changes = seen.iter().filter(|seen| seen.method != "GET");
    changes.filter_map(|seen| Some(format!("{} {}", seen.method, of_slices(&seen.path)?))).collect()
}

#[test]
fn a_node_publishes_what_is_held_once_a_minute_and_only_what_is_new() {
    let Some(slices) = Slices::new("10.69.0.0/24") else { return };
    let node = slices.node("one");
    let proxy = proxy(&slices, &node);
    let first = slices.add(&node, "a_0").addresses().remove(0);
    slices.add(&node, "b_0").succeeded();
    changes(&proxy);
    sync(&node).succeeded();
    assert_eq!(changes(&proxy), ["PATCH status"]);
    assert_eq!(status(&slices)["count"], json!(2));
    let lines = listed(&slices);
    assert!(lines[0].starts_with(&format!("{first} default/a net1 net1 20")), "{lines:?}");
    let table = slices.cluster.text(&["get", "ipslices.hereabouts.dev", &name(&slices)]);
    let words: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((words[0][5], words[1][4]), ("HELD", "2"), "{table}");

    // A change within the minute waits, and one look tells the same as the next.
    slices.del(&node, "b_0");
    assert_eq!(changes(&proxy), Vec::<String>::new());
    sync(&node).succeeded();
    assert_eq!((changes(&proxy).len(), status(&slices)["count"].take()), (0, json!(2)));
    age(&slices, &name(&slices));
    sync(&node).succeeded();
    assert_eq!(
        (changes(&proxy), status(&slices)["count"].take()),
        (vec!["PATCH status".to_owned()], json!(1))
    );
    age(&slices, &name(&slices));
    sync(&node).succeeded();
    assert_eq!(changes(&proxy), Vec::<String>::new());

    // The node's notes have the new revision: the next boot costs one request, as ever.
    slices.add(&node, "c_0").succeeded();
    age(&slices, &name(&slices));
    sync(&node).succeeded();
    proxy.seen();
    slices.call_in(1, &node, "ADD", "d_0").run().succeeded();
    let seen = proxy.seen();
    let of_object = |method: &str| {
        let path = format!("/ipslices/{}", name(&slices));
        seen.iter().filter(|seen| seen.method == method && seen.path.contains(&path)).count()
    };
    assert_eq!((of_object("PATCH"), of_object("GET")), (1, 0));
}

#[test]
fn a_workstation_sees_what_nodes_publish_with_its_age() {
    let Some(slices) = Slices::new("10.69.1.0/24") else { return };
    let [one, two] = ["one", "two"].map(|name| slices.node(name));
    let [first, second] = [&one, &two].map(|node| slices.add(node, "a_0").addresses().remove(0));
    let pool = slices.pool.clone();
    let workstation = |args: &[&str]| as_operator(&slices, &one, args);
    let list = workstation(&["list", "--pool", &pool]);
    assert!(!list.succeeded().stdout.contains(&first), "{list:?}");
    assert!(list.stderr.contains("2 slices publish nothing"), "{list:?}");
    sync(&one).succeeded();

    let list = workstation(&["list", "--pool", &pool]);
    let row = list.succeeded().stdout.lines().find(|row| row.contains(&first)).unwrap().to_owned();
    assert!(row.contains("default/a") && row.contains(&one.name), "{row}");
    assert!(row.ends_with("s ago") && list.stdout.contains("AS OF"), "{list:?}");
    let silent = format!("of node {}", two.name);
    assert!(list.stderr.contains("1 slice publishes nothing"), "{list:?}");
    assert!(list.stderr.contains(&silent), "{list:?}");
    let found = |args: &[&str]| workstation(args).document().as_array().unwrap().clone();
    let of_pod = found(&["list", "--pod", "default/a", "-o", "json", "--pool", &pool]);
    assert_eq!(of_pod[0]["address"], json!(first));
    assert_eq!(of_pod[0]["published"]["slice"].as_str(), Some(one_name(&slices, &one).as_str()));
    for other in [["--pod", "default/b"], ["--network", "other"], ["--node", &two.name]] {
        let args = [&["list", "-o", "json", "--pool", &pool], &other[..]].concat();
        assert_eq!(found(&args), Vec::<Value>::new(), "{other:?}");
    }
    let shown = workstation(&["show", &first]);
    assert!(shown.succeeded().stdout.contains("Pod:       default/a"), "{shown:?}");
    assert!(shown.stdout.contains("s ago: node"), "{shown:?}");
    let unknown = workstation(&["show", &second]);
    assert_eq!(unknown.status, Some(1));
    assert!(unknown.stderr.contains("is known on its node only"), "{unknown:?}");
    let usage = found(&["usage", "--pool", &pool, "-o", "json"]);
    assert_eq!((&usage[0]["held"], &usage[0]["slices"]["unpublished"]), (&json!(1), &json!(1)));
    let usage = workstation(&["usage", "--pool", &pool]);
    assert!(usage.stderr.contains("HELD counts what nodes have published"), "{usage:?}");

    // The other node sees the same, and knows its own addresses by itself.
    let list = two.sandbox.command(&["list", "--pool", &pool, "-o", "json"]).document();
    let of = |address: &str| {
        let found = list.as_array().unwrap().iter();
        found.filter(|held| held["address"] == address).cloned().collect::<Vec<_>>()
    };
    assert_eq!((of(&first).len(), of(&second).len()), (1, 1), "{list}");
    assert!(of(&first)[0]["published"].is_object() && of(&second)[0]["published"].is_null());
    slices.del(&one, "a_0");
    let list = one.sandbox.command(&["list", "--pool", &pool]);
    assert!(!list.succeeded().stdout.contains(&first), "its own files say more: {list:?}");

    // A node that has stopped publishes nothing any more, and the age grows.
    age(&slices, &one_name(&slices, &one));
    let list = workstation(&["list", "--pool", &pool]);
    let row = list.stdout.lines().find(|row| row.contains(&first)).unwrap().to_owned();
    assert!(row.contains("d ") && row.ends_with(" ago") && !row.contains("s ago"), "{row}");
    let slices_list = workstation(&["slices", "list", "--pool", &pool]);
    let row = slices_list.stdout.lines().find(|row| row.contains(&one.name)).unwrap().to_owned();
    assert!(row.contains("owned  1 ") && row.ends_with(" ago"), "{row}");
}

/// Returns the name of the slice of a node.
fn one_name(slices: &Slices, node: &Node) -> String {
    let objects = slices.objects();
    let object = objects.iter().find(|object| object["spec"]["node"] == json!(node.name)).unwrap();
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// A node that was only cut off: its slice was released, and its pods still hold addresses of it.
#[test]
fn what_pods_hold_of_a_released_slice_is_published_too() {
    let Some(slices) = Slices::new("10.69.6.0/28") else { return };
    let node = slices.node("one");
    for pod in ["a_0", "b_0"] {
        slices.add(&node, pod).succeeded();
    }
    sync(&node).succeeded();
    assert_eq!(status(&slices)["count"], json!(2));
    change(&slices, &json!({"released": "2026-11-30T00:00:00Z"}));
    assert!(sync(&node).stderr.contains("is not this node's slice any more"));
    slices.del(&node, "b_0");
    age(&slices, &name(&slices));
    sync(&node);
    assert_eq!(status(&slices)["count"], json!(1));
}

/// Whatever stands in the status: the files of the node say who holds an address.
#[test]
fn a_status_decides_nothing() {
    let Some(slices) = Slices::with(&json!({
        "ranges": [{"ipv4": "10.69.2.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 29}},
    })) else {
        return;
    };
    let node = slices.node("one");
    let given: Vec<String> =
        (0..9).map(|pod| slices.add(&node, &format!("a-{pod}_0")).addresses().remove(0)).collect();
    sync(&node).succeeded();
    let owners = slices.owners();
    assert_eq!(owners.len(), 2, "of two slices, an empty one goes back at once");
    let line = |address: &str| format!("{address} default/x net1 net1 2026-11-01T00:00:00Z");
    let everything: Vec<String> = (0..=255).map(|last| line(&format!("10.69.2.{last}"))).collect();
    let now = status(&slices)["published"].take();
    for (count, held) in
        [(0, json!([])), (256, json!(everything)), (3, json!(["x", line("192.0.2.1"), ""]))]
    {
        for object in slices.objects() {
            let name = object["metadata"]["name"].as_str().unwrap();
            write_status(&slices, name, &json!({"count": count, "held": held, "published": now}));
        }
        sync(&node).succeeded();
        assert_eq!(slices.owners(), owners, "addresses of both are held");
        let container = format!("b-{count}_0");
        assert!(!given.contains(&slices.add(&node, &container).addresses()[0]));
        let list = as_operator(&slices, &node, &["list", "--pool", &slices.pool]);
        assert!(!list.succeeded().stdout.contains("192.0.2.1"), "{list:?}");
        slices.del(&node, &container);
    }
}

#[test]
fn verify_names_what_differs_from_the_files_and_does_not_fail_for_it() {
    let Some(slices) = Slices::new("10.69.3.0/24") else { return };
    let node = slices.node("one");
    slices.add(&node, "a_0").succeeded();
    let second = slices.add(&node, "b_0").addresses().remove(0);
    let verify = || node.sandbox.command(&["verify"]).succeeded().stdout.clone();
    assert!(verify().contains("nothing has been published yet"), "{}", verify());
    sync(&node).succeeded();
    assert!(!verify().contains("publish"), "{}", verify());
    let third = slices.add(&node, "c_0").addresses().remove(0);
    slices.del(&node, "b_0");
    let text = verify();
    assert!(text.contains(&format!("not published: {third} of default/c")), "{text}");
    assert!(text.contains(&format!("published, not held so: {second} of default/b")), "{text}");
    assert!(!text.contains("default/a"), "{text}");
    let found = node.sandbox.command(&["verify", "-o", "json"]).document()["published"].take();
    assert_eq!(found[0]["unpublished"], json!([third]));
    assert_eq!(found[0]["outdated"], json!([second]));
    // A command for another machine compares nothing.
    let text = as_operator(&slices, &node, &["verify"]).stdout;
    assert!(!text.contains("publish"), "{text}");
}

/// The object of a slice beside one object for each address, which has 2,067 bytes.
#[test]
fn a_held_address_of_a_slice_has_at_most_an_eighth_of_the_bytes_of_a_single_object() {
    let spec =
        json!({"ranges": [{"ipv4": "10.69.5.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 27}}});
    let Some(slices) = Slices::with(&spec) else { return };
    let node = slices.node("one");
    for number in 10..30 {
        slices.add(&node, &format!("checkout-7d4b9c8f5d-x2x{number}_0")).succeeded();
    }
    sync(&node).succeeded();
    assert_eq!((slices.objects().len(), status(&slices)["count"].take()), (1, json!(20)));
    let bytes = slices.cluster.bytes_in_etcd("ipslices", &name(&slices));
    println!("{bytes} bytes, {} for each address", bytes / 20);
    assert!(bytes / 20 <= 258, "{bytes}");
}

/// The complete path: the process of the DaemonSet, with a token of its node.
#[test]
fn the_daemonset_publishes_the_first_change_after_a_quiet_minute_at_once() {
    let Some(slices) = Slices::new("10.69.4.0/24") else { return };
    let node = slices.node("one");
    let installed = Installed::new();
    let token = installed.sandbox.write("node-token", &slices.cluster.node_token(&node.name));
    let authority = installed.path("pod/ca.crt");
    std::fs::copy(slices.cluster.directory().join("pki/ca.crt"), &authority).unwrap();
    let settings = json!({"data_dir": node.sandbox.store()}).to_string();
    let words = ["install", "--watch", "--sweep-every=1h", "--node-name", &node.name];
    let mut call = installed.call(&[&words[..], &["--settings", &settings]].concat());
    call.args.retain(|arg| !arg.starts_with("--token-file"));
    call.args.extend([
        format!("--token-file={}", token.display()),
        format!("--server={}", slices.cluster.server()),
    ]);
    let mut watching = Watching::start(&call, &installed.path("said"));
    watching.until("its files", || installed.flat().exists());
    slices.add(&node, "a_0").succeeded();
    // Nothing but its own clock wakes it.
    let is_there = || (status(&slices)["count"] == json!(1)).then_some(());
    let published = until(&Deadline::after(Duration::from_secs(15)), || Ok::<_, ()>(is_there()));
    assert_eq!(published, Ok(Some(())), "{}", watching.said());
}
