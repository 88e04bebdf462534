//! The API server is away at DEL.

use super::{living, owed};
use crate::kube_faults::install;
use crate::support::cluster::Cluster;
use crate::support::nodes::{Node, holders, own_name};
use crate::support::proxy::{Act, Proxy};
use std::path::Path;

/// A node behind a proxy that has made its first call.
fn node(test: &str) -> Option<(&'static Cluster, Proxy, Node)> {
    let cluster = Cluster::shared().map_err(|reason| println!("SKIPPED debts::kube::{test}: {reason}")).ok()?;
    install(cluster);
    let proxy = Proxy::new(cluster);
    let name = own_name("debt");
    let node = Node::new(&name, &name, Path::new("/"));
    node.configure(&proxy.kubeconfig(&node.sandbox.root), r#"{"add":"5s","del":"300ms","gc":"2s"}"#);
    node.del("nobody").succeeded();
    Some((cluster, proxy, node))
}

#[test]
fn a_del_without_the_api_server_is_owed_and_paid_when_both_are_so() {
    let test = "a_del_without_the_api_server_is_owed_and_paid_when_both_are_so";
    let (Some((cluster, proxy, node)), Some(living)) = (node(test), living(test)) else { return };
    let mut add = node.call("ADD", "c1");
    add.set("CNI_NETNS", living.path());
    let address = add.run().addresses().remove(0);
    proxy.refuse();
    let failed = node.del("c1");
    assert_eq!(failed.code(), 11, "{failed:?}");
    let debt = owed(&node.sandbox).remove(0);
    assert_eq!(debt["held"][0]["record"]["address"], *address);
    assert!(debt["held"][0]["revision"].is_string(), "{debt}");
    // Nothing is held, so nothing is owed.
    node.del("nobody").succeeded();
    assert_eq!(owed(&node.sandbox).len(), 1);
    // Not yet: first the one, then the other.
    proxy.listen();
    node.sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!(holders(cluster, &node.scope).len(), 1);
    assert!(proxy.methods().iter().all(|method| method != "DELETE"), "a living sandbox's is not asked for");
    drop(living);
    node.sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!((holders(cluster, &node.scope).len(), owed(&node.sandbox).len()), (0, 0));
}

/// One request for an ADD and for a DEL, with debts that cannot be paid yet.
#[test]
fn debts_of_living_sandboxes_cost_no_requests() {
    let test = "debts_of_living_sandboxes_cost_no_requests";
    let (Some((_, proxy, node)), Some(living)) = (node(test), living(test)) else { return };
    node.call("ADD", "c1").set("CNI_NETNS", living.path()).run().succeeded();
    proxy.refuse();
    assert_eq!(node.del("c1").code(), 11);
    proxy.listen();
    node.add("c2").succeeded();
    proxy.seen();
    node.add("c3").succeeded();
    node.del("c3").succeeded();
    assert_eq!(proxy.methods(), ["POST", "DELETE"]);
    assert_eq!(owed(&node.sandbox).len(), 1);
}

/// A right that is missing is no reason to forget.
#[test]
fn a_del_that_is_refused_is_owed_too() {
    let Some((cluster, proxy, node)) = node("a_del_that_is_refused_is_owed_too") else { return };
    node.add("c1").succeeded();
    let refusal = crate::support::proxy::Reply::status(403);
    proxy.script(move |asked| if asked.method == "DELETE" { Act::Answer(refusal.clone()) } else { Act::Pass });
    assert_eq!(node.del("c1").code(), 105);
    assert_eq!(owed(&node.sandbox).len(), 1);
    proxy.pass();
    // Any other call of the node pays, its sandbox is gone.
    super::until_paid(&node.sandbox, || drop(node.add("c2")));
    assert_eq!((holders(cluster, &node.scope).len(), owed(&node.sandbox).len()), (1, 0));
}

/// Cause: an operator edits a label after the DEL has failed, so that the state
/// which the debt names stands no more. Effect: it would be owed for ever. Fix:
/// what a dead sandbox holds is freed as it stands.
#[test]
fn a_record_that_was_edited_meanwhile_is_freed_all_the_same() {
    let Some((cluster, proxy, node)) = node("a_record_that_was_edited_meanwhile_is_freed_all_the_same") else { return };
    let address = node.add("c1").addresses().remove(0);
    proxy.refuse();
    assert_eq!(node.del("c1").code(), 11);
    proxy.listen();
    cluster.text(&["label", &format!("ipallocations/{}.{address}", node.scope), "edited=yes"]);
    node.sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!((holders(cluster, &node.scope).len(), owed(&node.sandbox).len()), (0, 0));
}
