//! The API server is away at DEL.

use super::{living, owed};
use crate::kube_faults::install;
use crate::support::cluster::Cluster;
use crate::support::living::Living;
use crate::support::nodes::{Node, holders, own_name};
use crate::support::proxy::{Act, Proxy};
use crate::support::sandbox::Call;
use hereabouts::retry::Stopwatch;
use std::path::Path;
use std::time::Duration;

/// Returns a node behind a proxy that has made its first call.
fn node() -> Option<(&'static Cluster, Proxy, Node)> {
    let cluster = Cluster::shared().map_err(|reason| skipped!("{reason}")).ok()?;
    install(cluster);
    let proxy = Proxy::new(cluster);
    let name = own_name("debt");
    let node = Node::new(&name, &name, Path::new("/"));
    node.configure(
        &proxy.kubeconfig(&node.sandbox.root),
        r#"{"add":"5s","del":"300ms","gc":"2s"}"#,
    );
    node.del("nobody").succeeded();
    Some((cluster, proxy, node))
}

/// Makes an ADD or DEL of a pod's living sandbox.
fn of(node: &Node, verb: &str, container: &str, uid: &str, living: &Living) -> Call {
    let mut call = node.call(verb, container);
    let args =
        format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID={uid}");
    call.set("CNI_NETNS", living.path()).set("CNI_ARGS", args);
    call
}

/// Cause: kubelet creates no new sandbox until the DEL of the dead one has succeeded. Effect: a pod
/// is down until some time after the end of an outage. Fix: the DEL succeeds and leaves a debt. No
/// pod gets the address before the debt is settled. After the outage it is freed at once, although
/// the namespace still exists.
#[test]
fn a_del_without_the_api_server_succeeds_and_is_settled_when_that_is_back() {
    let (Some((cluster, proxy, node)), Some(living)) = (node(), living()) else { return };
    let address = of(&node, "ADD", "web_1", "u1", &living).run().addresses().remove(0);
    proxy.refuse();
    of(&node, "DEL", "web_1", "u1", &living).run().succeeded();
    let debt = owed(&node.sandbox).remove(0);
    assert_eq!((&debt["answered"], &debt["exclusive"]), (&"success".into(), &true.into()));
    assert_eq!(debt["held"][0]["record"]["address"], *address);
    assert!(debt["held"][0]["revision"].is_string(), "{debt}");
    // A repeat, as kubelet makes it: the same debt. What was never held is not owed.
    of(&node, "DEL", "web_1", "u1", &living).run().succeeded();
    node.del("nobody").succeeded();
    assert_eq!(owed(&node.sandbox).len(), 1);
    let shown = node.sandbox.command(&["list", "--debts"]);
    assert!(shown.succeeded().stdout.contains(&address), "{shown:?}");
    // Before the debt is settled, no pod gets the address.
    let other = Node::new(&own_name("other"), &node.scope, &cluster.kubeconfig());
    let given = other.add("c").addresses().remove(0);
    assert_ne!(given, address);
    assert_eq!(holders(cluster, &node.scope).len(), 2);
    proxy.listen();
    node.sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!(
        holders(cluster, &node.scope).into_iter().collect::<Vec<_>>(),
        [(given, "c".to_owned())]
    );
    assert_eq!(owed(&node.sandbox).len(), 0);
    // The freed address is noted for its pod, as after any DEL.
    assert_eq!(of(&node, "ADD", "web_2", "u2", &living).run().addresses(), ["10.9.0.3"]);
    assert_eq!(of(&node, "ADD", "web_3", "u1", &living).run().addresses(), [address]);
}

/// The new sandbox takes over what the old one owes: one request and no gap. Settling the debt
/// later frees nothing.
#[test]
fn an_add_of_the_same_pod_takes_over_what_is_owed() {
    let (Some((cluster, proxy, node)), Some(old), Some(new)) = (node(), living(), living()) else {
        return;
    };
    let address = of(&node, "ADD", "web_1", "u1", &old).run().addresses().remove(0);
    let outage = |container: &str, living: &Living| {
        proxy.refuse();
        of(&node, "DEL", container, "u1", living).run().succeeded();
        assert_eq!(owed(&node.sandbox)[0]["answered"], "success");
        proxy.listen();
        proxy.seen();
    };
    outage("web_1", &old);
    assert_eq!(of(&node, "ADD", "web_2", "u1", &new).run().addresses()[0], address);
    assert_eq!((proxy.methods(), owed(&node.sandbox).len()), (vec!["PATCH".to_owned()], 0));
    node.sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    // kubelet's late DEL of the old sandbox finds nothing.
    of(&node, "DEL", "web_1", "u1", &old).run().succeeded();
    assert_eq!(
        holders(cluster, &node.scope).into_iter().collect::<Vec<_>>(),
        [(address.clone(), "web_2".to_owned())]
    );
    // Another pod takes over nothing.
    outage("web_2", &new);
    assert_ne!(of(&node, "ADD", "web_3", "u2", &new).run().addresses(), [address]);
}

/// A DEL waits for a silent server no longer than the runtime can wait for ten DELs in a row. If
/// the node cannot tell what is held, the DEL is an error, and is tried for longer.
#[test]
fn a_silent_api_server_keeps_a_del_waiting_for_twelve_seconds() {
    let (Some((_, proxy, node)), Some(living)) = (node(), living()) else { return };
    node.configure(&proxy.kubeconfig(&node.sandbox.root), r#"{"add":"10s","del":"25s"}"#);
    for container in ["c1", "c2"] {
        node.call("ADD", container).set("CNI_NETNS", living.path()).run().succeeded();
    }
    proxy.script(|_| Act::Mute);
    let start = Stopwatch::default();
    node.del("c1").succeeded();
    let took = start.elapsed();
    assert!(Duration::from_secs(11) <= took && took < Duration::from_secs(20), "{took:?}");
    assert_eq!(owed(&node.sandbox)[0]["answered"], "success");
    // The state is marked as incomplete: it is unknown what c2 holds.
    std::fs::remove_dir_all(node.state()).unwrap();
    let start = Stopwatch::default();
    assert_eq!(node.del("c2").code(), 11);
    assert!(Duration::from_secs(24) <= start.elapsed());
}

/// If the answer to a creation was lost, it is unknown whether the object exists and in which
/// state. No later call could tell it from a newer object.
#[test]
fn a_del_of_what_may_not_stand_is_an_error_still() {
    let Some((_, proxy, node)) = node() else { return };
    proxy.script(|asked| if asked.method == "POST" { Act::Lose } else { Act::Pass });
    node.configure(&proxy.kubeconfig(&node.sandbox.root), r#"{"add":"1s","del":"300ms"}"#);
    assert_eq!(node.add("c1").code(), 11);
    proxy.refuse();
    assert_eq!(node.del("c1").code(), 11);
    assert_eq!(owed(&node.sandbox)[0]["answered"], "error");
}

/// One request for an ADD and for a DEL, with debts that cannot be settled yet.
#[test]
fn debts_of_living_sandboxes_cost_no_requests() {
    let (Some((cluster, proxy, node)), Some(living)) = (node(), living()) else { return };
    node.call("ADD", "c1").set("CNI_NETNS", living.path()).run().succeeded();
    let refusal = crate::support::proxy::Reply::status(403);
    proxy.script(
        move |asked| {
            if asked.method == "DELETE" { Act::Answer(refusal.clone()) } else { Act::Pass }
        },
    );
    assert_eq!(node.del("c1").code(), 105);
    proxy.pass();
    node.add("c2").succeeded();
    proxy.seen();
    node.add("c3").succeeded();
    node.del("c3").succeeded();
    assert_eq!(proxy.methods(), ["POST", "DELETE"]);
    assert_eq!(
        (&owed(&node.sandbox)[0]["answered"], owed(&node.sandbox).len()),
        (&"error".into(), 1)
    );
    // The interface may be up and use the address, however often a call checks.
    node.sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!((proxy.methods().len(), holders(cluster, &node.scope).len()), (0, 2));
    drop(living);
    node.sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!((holders(cluster, &node.scope).len(), owed(&node.sandbox).len()), (1, 0));
}

/// A missing right is no reason to forget the debt.
#[test]
fn a_del_that_is_refused_is_owed_too() {
    let Some((cluster, proxy, node)) = node() else { return };
    node.add("c1").succeeded();
    let refusal = crate::support::proxy::Reply::status(403);
    proxy.script(
        move |asked| {
            if asked.method == "DELETE" { Act::Answer(refusal.clone()) } else { Act::Pass }
        },
    );
    assert_eq!(node.del("c1").code(), 105);
    assert_eq!(owed(&node.sandbox).len(), 1);
    proxy.pass();
    // Any other call of the node settles the debt, because the sandbox is gone.
    super::until_settled(&node.sandbox, || drop(node.add("c2")));
    assert_eq!((holders(cluster, &node.scope).len(), owed(&node.sandbox).len()), (1, 0));
}

/// Cause: an operator edits a label after the DEL has failed, so that the state in the debt no
/// longer exists. Effect: the debt would stay forever. Fix: what a dead sandbox holds is freed in
/// its current state.
#[test]
fn a_record_that_was_edited_meanwhile_is_freed_all_the_same() {
    let Some((cluster, proxy, node)) = node() else { return };
    let address = node.add("c1").addresses().remove(0);
    proxy.refuse();
    node.del("c1").succeeded();
    proxy.listen();
    cluster.text(&["label", &format!("ipallocations/{}.{address}", node.scope), "edited=yes"]);
    node.sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!((holders(cluster, &node.scope).len(), owed(&node.sandbox).len()), (0, 0));
}

/// Cause: `explain` runs the code of ADD, which would take over the address of a pod whose DEL left a
/// debt, and strike it out there. Effect: nothing would free the address. Fix: an ADD on trial
/// changes no debt.
#[test]
fn an_explanation_changes_no_debt() {
    let (Some((_, proxy, node)), Some(living)) = (node(), living()) else { return };
    let of = |verb: &str| {
        let mut call = node.call(verb, "web_1");
        call.set("CNI_NETNS", living.path());
        call
    };
    of("ADD").run().succeeded();
    proxy.refuse();
    of("DEL").run().succeeded();
    let owed_before = owed(&node.sandbox);
    assert_eq!(owed_before.len(), 1);
    proxy.listen();
    let configuration = String::from_utf8(of("ADD").stdin).unwrap();
    let file = node.sandbox.write("net.json", &configuration);
    let explain = ["explain", "--network", file.to_str().unwrap(), "--pod", "default/web"];
    node.sandbox.command(&explain).succeeded();
    assert_eq!(owed(&node.sandbox), owed_before);
}
