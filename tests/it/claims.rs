//! Addresses that claims of Cluster API hold, as the verbs on a node see them: no pod gets one, and
//! nothing on a node changes one.

use crate::support::claims::{self, held};
use crate::support::cluster::{Cluster, Options};
use crate::support::nodes::{Node, holders, objects, own_name};
use crate::support::sandbox::{Ended, configuration};
use serde_json::{Value, json};

fn shared() -> Option<&'static Cluster> {
    Cluster::shared().map_err(|reason| skipped!("{reason}")).ok()
}

/// Returns a node with a scope of its own in which the claim `default/machine-0` holds these
/// addresses.
fn node(cluster: &'static Cluster, addresses: &[&str]) -> Node {
    let name = own_name("claims");
    for address in addresses {
        cluster.apply(&claims::object(&held(&name, address)).to_string());
    }
    Node::new(&name, &name, &cluster.kubeconfig())
}

/// Returns the objects of a scope, without what changes with every write.
fn of_scope(cluster: &Cluster, scope: &str) -> Vec<Value> {
    let mut found = objects(cluster);
    found.retain(|object| object["spec"]["scope"] == scope);
    found
}

/// Makes an ADD with these further keys of `ipam` and this `CNI_ARGS`.
fn add(node: &Node, container: &str, ipam: &str, args: &str) -> Ended {
    let mut call = node.call("ADD", container);
    call.set("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;{args}"));
    call.stdin(configuration(&format!(r#""network_name":"{}",{ipam}"#, node.scope))).run()
}

#[test]
fn no_pod_gets_an_address_of_a_claim() {
    let Some(cluster) = shared() else { return };
    let range = "10.9.0.0/29";
    let node = node(cluster, &["10.9.0.1", "10.9.0.3", "10.9.0.4", "10.9.0.6"]);
    let add = |container: &str| node.call_in("ADD", container, range).run();
    assert_eq!(add("a").addresses(), ["10.9.0.2"]);
    node.status().succeeded();
    assert_eq!(add("b").addresses(), ["10.9.0.5"]);
    let full = add("c");
    assert_eq!(full.code(), 100, "{full:?}");
    let mut status = node.status_call();
    let ipam = format!(
        r#""range":"{range}","network_name":"{}","status_when_full":"not_ready""#,
        node.scope
    );
    assert_eq!(status.stdin(configuration(&ipam)).run().code(), 50);
    node.call_in("DEL", "a", range).run().succeeded();
    assert_eq!(add("c").addresses(), ["10.9.0.2"]);
}

#[test]
fn a_fixed_address_that_a_claim_holds_is_refused_and_the_claim_is_named() {
    let Some(cluster) = shared() else { return };
    let node = node(cluster, &["10.9.0.7"]);
    let reservation =
        r#""range":"10.9.0.0/24","reservations":[{"pod":"default/db-0","address":"10.9.0.7"}]"#;
    for (what, ipam, args) in [
        ("requested", r#""range":"10.9.0.0/24""#, "K8S_POD_NAME=a;IP=10.9.0.7"),
        ("static", r#""addresses":[{"address":"10.9.0.7/24"}]"#, "K8S_POD_NAME=a"),
        ("reserved", reservation, "K8S_POD_NAME=db-0"),
    ] {
        let refused = add(&node, "a", ipam, args);
        assert_eq!(refused.code(), 101, "{what}: {refused:?}");
        let text = refused.details();
        let said = format!(
            "the {what} address 10.9.0.7 is held by IPAddressClaim default/machine-0 of GlobalInClusterIPPool pool-a since 2026-01-01T00:00:00Z"
        );
        assert!(text.contains(&said), "{what}: {text}");
        let hint = "delete IPAddressClaim default/machine-0 when nothing uses the address";
        assert!(text.contains(hint), "{what}: {text}");
    }
    let network = json!({
        "cniVersion": "1.0.0", "name": "net1", "type": "hereabouts",
        "ipam": {"type": "hereabouts", "range": "10.9.0.0/24", "network_name": node.scope},
    });
    let file = node.sandbox.write("net.json", &network.to_string()).display().to_string();
    let told = node.sandbox.command(&["explain", "--network", &file, "--ip", "10.9.0.7"]);
    assert!(
        told.status == Some(1) && told.stderr.contains("IPAddressClaim default/machine-0"),
        "{told:?}"
    );
}

#[test]
fn nothing_on_a_node_changes_the_object_of_a_claim() {
    // Its own cluster: other tests ask `verify` whether the shared one is as it should be.
    let cluster: &'static Cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => Box::leak(Box::new(cluster)),
        Err(reason) => return skipped!("{reason}"),
    };
    let node = node(cluster, &["10.9.0.9"]);
    // As if a mistaken hand had given it the node's label: lists by the node have it then.
    node.add("a").succeeded();
    let of_node = of_scope(cluster, &node.scope)
        .iter()
        .find_map(|object| {
            object["metadata"]["labels"]["hereabouts.dev/node"].as_str().map(str::to_owned)
        })
        .unwrap();
    let name = format!("{}.10.9.0.9", node.scope);
    cluster.text(&["label", "ipa", &name, &format!("hereabouts.dev/node={of_node}")]);
    let of_claim = || {
        of_scope(cluster, &node.scope)
            .into_iter()
            .find(|object| object["metadata"]["name"] == name.as_str())
    };
    let before = of_claim();
    node.gc_call(&[]).run().succeeded();
    // The node knows nothing of the cluster any more, and compares its state with its objects.
    std::fs::remove_dir_all(node.state()).unwrap();
    node.add("b").succeeded();
    for command in [&["sweep", "--yes"][..], &["repair", "--yes"]] {
        let ended = node.sandbox.command(command);
        assert!(!ended.succeeded().stderr.contains("10.9.0.9"), "{ended:?}");
    }
    let listed = node.sandbox.command(&["list", "--node", &node.name, "-o", "json"]);
    assert!(!listed.succeeded().stdout.contains("10.9.0.9"), "{listed:?}");
    node.sandbox.command(&["release", "--node", &node.name, "--yes"]).succeeded();
    assert_eq!(of_claim(), before);
    assert_eq!(holders(cluster, &node.scope).len(), 1);
}

/// An earlier version let a network have any name. Pods of such a network keep what they hold.
#[test]
fn a_name_that_is_kept_for_cluster_api_gives_nothing_to_new_pods() {
    let Some(cluster) = shared() else { return };
    let mut node = node(cluster, &[]);
    let own = std::mem::replace(&mut node.scope, format!("capi:{}", node.name));
    let refused = node.add("a");
    assert_eq!(refused.code(), 2, "{refused:?}");
    let said = format!(
        r#"ipam.network_name: expected a name that does not begin with "capi:", found "{}"; hint: these names are kept for pools of Cluster API"#,
        node.scope
    );
    assert!(refused.details().contains(&said), "{said}: {refused:?}");
    assert_eq!(node.status().code(), 2);
    // The record of an earlier version.
    let kept = std::mem::replace(&mut node.scope, own);
    node.add("a").succeeded();
    let mut object = of_scope(cluster, &node.scope).remove(0);
    cluster.text(&["delete", "ipa", object["metadata"]["name"].as_str().unwrap()]);
    let named = claims::object(&held(&kept, "10.9.0.1"))["metadata"].take();
    let mut labels = object["metadata"]["labels"].take();
    labels["hereabouts.dev/scope"] = named["labels"]["hereabouts.dev/scope"].clone();
    object["metadata"] = json!({"name": named["name"], "labels": labels});
    object["spec"]["scope"] = json!(kept);
    cluster.apply(&object.to_string());
    std::fs::remove_dir_all(node.state()).unwrap();
    node.scope.clone_from(&kept);
    let added = node.add("a");
    assert_eq!(added.addresses(), ["10.9.0.1"], "a repeat");
    node.check("a", &added).succeeded();
    let verified = node.sandbox.command(&["verify"]);
    let line =
        format!("scope {kept} is kept for a pool of Cluster API, and pods hold 1 address there");
    assert!(verified.stdout.contains(&line), "{verified:?}");
    let document = node.sandbox.command(&["verify", "-o", "json"]).document();
    let scopes = document["keptScopes"].as_array().unwrap();
    assert!(scopes.contains(&json!({"scope": kept, "records": 1})), "{document}");
    node.del("a").succeeded();
    assert!(of_scope(cluster, &kept).is_empty());
}

/// An object that was lost, and whose address a claim got since.
#[test]
fn a_pod_whose_address_a_claim_got_frees_nothing() {
    let Some(cluster) = shared() else { return };
    let node = node(cluster, &[]);
    let added = node.add("a");
    assert_eq!(added.addresses(), ["10.9.0.1"]);
    cluster.text(&["delete", "ipa", &format!("{}.10.9.0.1", node.scope)]);
    cluster.apply(&claims::object(&held(&node.scope, "10.9.0.1")).to_string());
    let before = of_scope(cluster, &node.scope);
    assert_ne!(node.check("a", &added).status, Some(0));
    node.gc_call(&[]).run().succeeded();
    node.del("a").succeeded();
    assert_eq!(of_scope(cluster, &node.scope), before);
    assert_eq!(node.add("a").addresses(), ["10.9.0.2"]);
}
