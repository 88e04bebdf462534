//! Pools with slices: what the controller says about them.

use crate::support::cluster::{Cluster, Options};
use crate::support::controller::Replica;
use crate::support::nodes::{Node, own_name};
use crate::support::sandbox::{Sandbox, configuration};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// Returns a cluster whose pools no other test knows: a replica writes into all of them.
fn cluster() -> Option<&'static Cluster> {
    static OWN: LazyLock<Result<Cluster, String>> =
        LazyLock::new(|| Cluster::own(Options::default()));
    OWN.as_ref().map_err(|reason| skipped!("{reason}")).ok()
}

fn replica(sandbox: &Sandbox, cluster: &Cluster) -> Replica {
    let mut replica = Replica::start(sandbox, &cluster.kubeconfig(), &[]);
    replica.wait(20, "readiness", |replica| (replica.get("/readyz").status == 200).then_some(()));
    replica
}

/// Writes a pool of four slices with 16 addresses each.
fn make_pool(cluster: &Cluster, name: &str, range: &str) {
    let spec = json!({"ranges": [{"ipv4": range}], "slices": {"ipv4": {"perNodeMaskSize": 28}}});
    let object = json!({
        "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec,
    });
    cluster.apply(&object.to_string());
}

/// Lets a node claim a slice.
fn claim(cluster: &Cluster, node: &str, pool: &str) -> Node {
    let node = Node::new(node, "", &cluster.kubeconfig());
    let mut call = node.call("ADD", "a_0");
    call.stdin(configuration(&format!(r#""pool":"{pool}""#))).run().succeeded();
    node
}

fn get(cluster: &Cluster, kind: &str, name: &str) -> Value {
    let ended = cluster.kubectl(&["get", kind, name, "-o", "json"]);
    serde_json::from_slice(&ended.stdout).unwrap_or_default()
}

fn status(cluster: &Cluster, pool: &str) -> Value {
    get(cluster, "ippools.hereabouts.dev", pool)["status"].take()
}

/// Returns the reason and the message of a condition.
fn condition(cluster: &Cluster, pool: &str, kind: &str) -> String {
    let status = status(cluster, pool);
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.map_or_else(String::new, |found| {
        let text = |key: &str| found[key].as_str().unwrap_or_default();
        format!("{} {}", text("reason"), text("message"))
    })
}

/// Returns the names of the slices of a pool.
fn slices(cluster: &Cluster, pool: &str) -> Vec<String> {
    let list = cluster.text(&["get", "ipslices.hereabouts.dev", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let of_pool = |object: &&Value| object["spec"]["pool"] == pool;
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().filter(of_pool).map(name).collect()
}

fn release(cluster: &Cluster, node: &Node) {
    let kubeconfig = cluster.kubeconfig();
    let file = kubeconfig.to_str().unwrap();
    let args = ["release", "--node", &node.name, "--yes", "--kubeconfig", file];
    node.sandbox.command(&args).succeeded();
}

#[test]
fn the_status_of_a_pool_says_how_many_slices_have_owners() {
    let Some(cluster) = cluster() else { return };
    let (sandbox, pool) = (Sandbox::new(), own_name("counted"));
    make_pool(cluster, &pool, "10.64.0.0/26");
    let [one, two, _] =
        ["one", "two", "three"].map(|name| claim(cluster, &format!("{pool}-{name}"), &pool));
    let mut replica = replica(&sandbox, cluster);
    let is = |expected: Value| (status(cluster, &pool)["slices"] == expected).then_some(());
    replica.wait(30, "three owners", |_| {
        is(json!({"total": 4, "owned": 3, "released": 0, "free": 1}))
    });
    let found = status(cluster, &pool);
    assert_eq!(found["total"], "62");
    for key in ["held", "free", "reserved", "outOfRange"] {
        assert_eq!(found[key], Value::Null, "{key}: only nodes know it");
    }
    assert_eq!(condition(cluster, &pool, "Full"), "Room nodes own 3 of 4 slices");
    assert_eq!(condition(cluster, &pool, "Draining"), "");
    let table = cluster.text(&["get", "ippools.hereabouts.dev", &pool]);
    let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[..4], [pool.as_str(), "10.64.0.0/26", "62", "1"], "{table}");
    assert!(table.lines().next().unwrap().contains("FREE SLICES"), "{table}");

    let labels = format!(r#"kind="IPPool",pool_namespace="",pool="{pool}""#);
    for (state, count) in [("owned", 3.0), ("released", 0.0), ("free", 1.0)] {
        let metric = format!(r#"hereabouts_pool_slices{{{labels},state="{state}"}}"#);
        assert_eq!(replica.metric(&metric), Some(count), "{state}");
    }
    assert_eq!(replica.metric(&format!("hereabouts_pool_addresses_free{{{labels}}}")), None);
    let page = replica.get(&format!("/pool/IPPool/{pool}")).body;
    assert!(page.contains("slices: 3 owned, 0 released, 1 free"), "{page}");
    let row = format!("/28</code></td><td><bdi>{}</bdi></td><td>owned</td>", one.name);
    assert!(page.contains(&row), "{row}: {page}");
    assert!(page.contains("3 slices are not free"), "{page}");

    let four = claim(cluster, &format!("{pool}-four"), &pool);
    release(cluster, &one);
    release(cluster, &two);
    replica.wait(60, "two released", |_| {
        is(json!({"total": 4, "owned": 2, "released": 2, "free": 0}))
    });
    assert_eq!(
        condition(cluster, &pool, "Full"),
        "Full nodes own 2 of 4 slices; released, and not removed yet: 2; a node gives only what is free in its own slices"
    );
    assert!(replica.get("/").body.contains("no slice is free"));
    release(cluster, &four);
    for name in slices(cluster, &pool) {
        cluster.text(&["delete", "ipslice", &name]);
    }
    replica
        .wait(60, "free slices", |_| is(json!({"total": 4, "owned": 0, "released": 0, "free": 4})));
}

#[test]
fn metrics_page_and_search_show_what_nodes_publish() {
    let Some(cluster) = cluster() else { return };
    let (sandbox, pool) = (Sandbox::new(), own_name("published"));
    make_pool(cluster, &pool, "10.64.5.0/26");
    let [one, two] = ["one", "two"].map(|name| claim(cluster, &format!("{pool}-{name}"), &pool));
    let mut replica = replica(&sandbox, cluster);
    let labels = format!(r#"{{kind="IPPool",pool_namespace="",pool="{pool}"}}"#);
    let metric =
        |replica: &Replica, name: &str| replica.metric(&format!("hereabouts_{name}{labels}"));
    replica.wait(30, "two silent nodes", |replica| {
        (metric(replica, "pool_slices_unpublished") == Some(2.0)).then_some(())
    });
    assert_eq!(metric(&replica, "pool_addresses_held"), Some(0.0));
    one.sandbox.command(&["slices", "sync"]).succeeded();
    replica.wait(30, "what one of them publishes", |replica| {
        (metric(replica, "pool_addresses_held") == Some(1.0)).then_some(())
    });
    assert_eq!(metric(&replica, "pool_slices_unpublished"), Some(1.0));

    let page = replica.get(&format!("/pool/IPPool/{pool}")).body;
    let link = page.split_once("<a href=\"?slice=").unwrap().1;
    let (first, rest) = link.split_once("\">").unwrap();
    assert!(rest.starts_with("1</a></td><td>") && rest.contains("s ago</td>"), "{page}");
    assert!(page.contains("not published"), "{page}");
    assert!(page.contains("1 address held"), "{page}");
    let page = replica.get(&format!("/pool/IPPool/{pool}?slice={first}")).body;
    assert!(page.contains("<bdi>pod default/a</bdi>") && page.contains(&one.name), "{page}");
    let address = one.sandbox.command(&["list", "-o", "json"]).document()[0]["address"].take();
    let address = address.as_str().unwrap();
    assert!(page.contains(&format!("<code>{address}</code>")), "{page}");

    let search = |replica: &Replica, text: &str| replica.get(&format!("/search?q={text}")).body;
    for text in [address, "10.64.5.0/26", one.name.as_str(), "default/a"] {
        let found = search(&replica, text);
        assert!(found.contains(&format!("<code>{address}</code>")), "{text}: {found}");
        assert!(found.contains("as of ") && found.contains("s ago</span>"), "{text}: {found}");
        assert!(found.contains(&format!("IPPool/{pool}?slice={first}")), "{text}: {found}");
    }
    assert!(!search(&replica, &two.name).contains("Held addresses"), "it has published nothing");
    assert!(!search(&replica, "10.64.6.0/24").contains("Held addresses"));

    // A text that is no status hides nothing, and an address of others is not shown.
    let slice = slices(cluster, &pool).into_iter().find(|slice| slice.ends_with(first)).unwrap();
    let lies = json!({"status": {"held": ["x", "192.0.2.1 default/z net1 net1 2026-11-01T00:00:00Z"], "count": 2}});
    let args = ["patch", "ipslice", &slice, "--subresource=status", "--type=merge", "-p"];
    cluster.text(&[&args[..], &[&lies.to_string()]].concat());
    replica.wait(30, "the lies", |replica| {
        (metric(replica, "pool_addresses_held") == Some(2.0)).then_some(())
    });
    assert!(!search(&replica, "192.0.2.1").contains("Held addresses"));
}

#[test]
fn a_pool_that_is_deleted_waits_for_its_slices() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new();
    let [owned, empty] = ["owned", "empty"].map(own_name);
    make_pool(cluster, &owned, "10.64.1.0/26");
    make_pool(cluster, &empty, "10.64.2.0/26");
    claim(cluster, &format!("{owned}-one"), &owned);
    let mut replica = replica(&sandbox, cluster);
    for pool in [&owned, &empty] {
        replica.wait(30, "a status", |_| {
            condition(cluster, pool, "Ready").starts_with("Ready").then_some(())
        });
        cluster.text(&["delete", "--wait=false", "ippools.hereabouts.dev", pool]);
    }
    let waits = replica.wait(60, "what it waits for", |_| {
        Some(condition(cluster, &owned, "Ready")).filter(|text| text.starts_with("Deleting"))
    });
    let expected =
        "Deleting is being deleted, and waits: 1 slice of it is not given back: 10.64.1.";
    assert!(waits.starts_with(expected), "{waits}");
    assert!(waits.ends_with(&format!("/28 ({owned}-one)")), "{waits}");
    let is_gone = |pool: &str| get(cluster, "ippools.hereabouts.dev", pool).is_null().then_some(());
    replica.wait(200, "end of the pool without owners", |_| is_gone(&empty));
    assert_eq!(is_gone(&owned), None);
    cluster.text(&["delete", "ipslice", &slices(cluster, &owned)[0]]);
    replica.wait(200, "end of the other pool", |_| is_gone(&owned));
}

#[test]
fn a_cluster_without_the_resource_of_slices_works_as_before() {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let sandbox = Sandbox::new();
    let text = cluster.text(&["get", "crd", "ipslices.hereabouts.dev", "-o", "json"]);
    let mut resource: Value = serde_json::from_str(&text).unwrap();
    cluster.text(&["delete", "crd", "ipslices.hereabouts.dev"]);
    make_pool(&cluster, "blue", "10.64.3.0/26");
    let mut replica = replica(&sandbox, &cluster);
    let is = |expected: Value| (status(&cluster, "blue")["slices"] == expected).then_some(());
    replica
        .wait(30, "the status", |_| is(json!({"total": 4, "owned": 0, "released": 0, "free": 4})));
    assert!(!replica.log().contains("cannot watch Slices"), "{}", replica.log());

    // It is installed later.
    resource["metadata"] = json!({"name": "ipslices.hereabouts.dev"});
    resource.as_object_mut().unwrap().remove("status");
    cluster.apply(&resource.to_string());
    cluster.text(&["wait", "--for=condition=Established", "crd/ipslices.hereabouts.dev"]);
    claim(&cluster, "one", "blue");
    replica
        .wait(60, "one owner", |_| is(json!({"total": 4, "owned": 1, "released": 0, "free": 3})));
}

#[test]
fn a_running_controller_removes_released_slices_of_a_node_that_has_booted() {
    let Some(cluster) = cluster() else { return };
    let (sandbox, pool) = (Sandbox::new(), own_name("booted"));
    make_pool(cluster, &pool, "10.64.4.0/26");
    let node = claim(cluster, &format!("{pool}-one"), &pool);
    release(cluster, &node);
    crate::leaks::make_node(cluster, &node.name, "another-boot");
    let mut replica = replica(&sandbox, cluster);
    replica.wait(60, "removal", |_| slices(cluster, &pool).is_empty().then_some(()));
}
