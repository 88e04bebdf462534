//! Calls exactly as the real Multus 4.3.0 makes them, except for names: what can be relied on in a
//! DEL, a GC and a repeat.

use super::{living, owed};
use crate::support::living::Living;
use crate::support::sandbox::{Call, Sandbox};
use serde_json::json;

/// Returns the `CNI_ARGS` of every call: Multus' own keys, then the runtime's again.
fn args(pod: &str, uid: &str) -> String {
    let named =
        format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID=sb-{pod}");
    let again = if uid.is_empty() { named.clone() } else { format!("{named};K8S_POD_UID={uid}") };
    format!("IgnoreUnknown=true;{named};K8S_POD_UID={uid};IgnoreUnknown=1;{again}")
}

/// Returns a call for an interface of a pod's sandbox.
fn call(
    sandbox: &Sandbox,
    verb: &str,
    pod: &str,
    interface: &str,
    stdin: &serde_json::Value,
) -> Call {
    let mut call = sandbox.call(verb);
    call.set("CNI_CONTAINERID", format!("sb-{pod}")).set("CNI_IFNAME", interface);
    call.set("CNI_ARGS", args(pod, "")).stdin(stdin.to_string());
    call
}

fn whole(name: &str) -> serde_json::Value {
    json!({
        "capabilities": {"ips": true}, "cniVersion": "1.0.0", "master": "m0", "name": name, "type": "macvlan",
        "ipam": {"type": "hereabouts", "range": "10.1.2.0/24"},
    })
}

/// Multus rewrites a list when it adds the missing version.
fn stripped(name: &str) -> serde_json::Value {
    json!({"cniVersion": "1.0.0", "ipam": {"type": "hereabouts"}, "name": name, "type": "macvlan"})
}

#[test]
fn a_del_with_no_more_than_the_type_frees_what_the_whole_configuration_was_given() {
    let sandbox = Sandbox::new();
    let added = call(&sandbox, "ADD", "p1", "net1", &whole("n")).run();
    let mut del = stripped("n");
    del["prevResult"] = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.1/24"}]});
    assert_eq!((added.addresses(), sandbox.held().len()), (vec!["10.1.2.1".to_owned()], 1));
    call(&sandbox, "DEL", "p1", "net1", &del).run().succeeded();
    assert_eq!(sandbox.held().len(), 0);
}

/// An ADD of three networks, of which the second fails: Multus makes DELs for net2 and net1, and
/// then the runtime makes DELs for all of them, without prevResult.
#[test]
fn dels_of_interfaces_that_were_never_added_succeed_and_leave_nothing() {
    let sandbox = Sandbox::new();
    call(&sandbox, "ADD", "p1", "net1", &whole("a")).run().succeeded();
    let mut full = whole("b");
    full["ipam"]["range"] = "10.1.2.1/32".into();
    assert_eq!(call(&sandbox, "ADD", "p1", "net2", &full).run().code(), 100);
    let dels = [("net2", "b"), ("net1", "a"), ("net3", "c"), ("net2", "b"), ("net1", "a")];
    for (interface, network) in dels {
        call(&sandbox, "DEL", "p1", interface, &stripped(network)).run().succeeded();
    }
    assert_eq!((sandbox.held().len(), owed(&sandbox).len()), (0, 0));
}

/// The same for a busy store: only an attachment that holds something leaves a debt.
#[test]
fn of_the_dels_that_fail_those_are_owed_that_have_something_to_free() {
    let sandbox = Sandbox::new();
    call(&sandbox, "ADD", "p1", "net1", &whole("a")).run().succeeded();
    let lock = super::lock(&sandbox);
    for (interface, network) in [("net3", "c"), ("net2", "b"), ("net1", "a")] {
        let mut del = stripped(network);
        del["ipam"]["deadlines"] = json!({"del": "50ms"});
        assert_eq!(call(&sandbox, "DEL", "p1", interface, &del).run().code(), 11);
    }
    drop(lock);
    let owed: Vec<_> = owed(&sandbox).iter().map(|debt| debt["ifname"].clone()).collect();
    assert_eq!(owed, ["net1"]);
}

/// Two interfaces of one network in one sandbox differ only in the name.
#[test]
fn every_key_comes_twice_and_the_uid_is_empty() {
    let sandbox = Sandbox::new();
    for (pod, interface, address) in
        [("p1", "net1", "10.1.2.1"), ("p1", "net2", "10.1.2.2"), ("p2", "net1", "10.1.2.3")]
    {
        assert_eq!(call(&sandbox, "ADD", pod, interface, &whole("n")).run().addresses(), [address]);
    }
    let mut check = whole("n");
    check["prevResult"] = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.2/24"}]});
    call(&sandbox, "CHECK", "p1", "net2", &check).run().succeeded();
    // Another pod with the same empty uid keeps its address.
    for interface in ["net1", "net2"] {
        call(&sandbox, "DEL", "p1", interface, &whole("n")).run().succeeded();
    }
    assert_eq!(sandbox.held(), ["10.1.2.3"]);
}

/// GC as Multus passes it on: it drops the runtime's list, and both keys contain what Multus has
/// cached of all networks, or nothing.
fn gc(sandbox: &Sandbox, listed: &serde_json::Value) {
    let mut stdin = whole("n");
    stdin["cniVersion"] = "1.1.0".into();
    stdin["cni.dev/attachments"] = listed.clone();
    stdin["cni.dev/valid-attachments"] = listed.clone();
    let mut call = sandbox.call("GC");
    call.unset("CNI_CONTAINERID")
        .unset("CNI_IFNAME")
        .unset("CNI_NETNS")
        .stdin(stdin.to_string())
        .run()
        .succeeded();
}

#[test]
fn no_list_of_gc_frees_the_living_or_keeps_what_is_owed() {
    let (sandbox, Some(lives)) = (Sandbox::new(), living()) else { return };
    let add = |pod: &str, living: &Living| {
        let mut add = call(&sandbox, "ADD", pod, "net1", &whole("n"));
        add.set("CNI_NETNS", living.path()).run().succeeded();
    };
    let all = json!([{"containerID": "sb-p1", "ifname": "eth0"}, {"containerID": "sb-p1", "ifname": "net1"}, {"containerID": "sb-p2", "ifname": "net1"}]);
    add("p1", &lives);
    // Nothing is cached: no record of a living sandbox is freed.
    gc(&sandbox, &json!([]));
    assert_eq!(sandbox.held().len(), 1);
    let Some(dies) = living() else { return };
    add("p2", &dies);
    let lock = super::lock(&sandbox);
    let mut del = stripped("n");
    del["ipam"]["deadlines"] = json!({"del": "50ms"});
    assert_eq!(call(&sandbox, "DEL", "p2", "net1", &del).run().code(), 11);
    drop(lock);
    drop(dies);
    // All are listed as valid, including one whose DEL failed and whose sandbox is gone. GC spares
    // it, and the debt is settled all the same.
    super::until_settled(&sandbox, || gc(&sandbox, &all));
    assert_eq!((sandbox.held(), owed(&sandbox).len()), (vec!["10.1.2.1".to_owned()], 0));
}
