//! The decision on each form of entry, reservation and pod, from objects as the API server has them.
//!
//! - `left`: what is left, and why

mod ended;
mod left;

use super::super::reading::{Noted, Reading};
use super::*;
use crate::ipam::Texts;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

/// The objects of a cluster. It has the node `n1` and some networks.
struct World {
    noted: Noted,
    objects: Vec<Value>,
}

fn pool(name: &str, range: &str, entries: &Value) -> Value {
    json!({"kind": "IPPool", "metadata": {"namespace": "kube-system", "name": name}, "spec": {"range": range, "allocations": entries}})
}

fn entry(container: &str, pod: &str) -> Value {
    json!({"id": container, "podref": pod, "ifname": "net1"})
}

fn reservation(name: &str, pod: &str) -> Value {
    json!({"kind": "OverlappingRangeIPReservation", "metadata": {"namespace": "kube-system", "name": name}, "spec": {"podref": pod, "ifname": "net1"}})
}

fn network(name: &str, ipam: &Value) -> Value {
    let config = json!({"cniVersion": "1.0.0", "type": "macvlan", "ipam": ipam}).to_string();
    json!({"kind": "NetworkAttachmentDefinition", "apiVersion": "k8s.cni.cncf.io/v1", "metadata": {"namespace": "default", "name": name}, "spec": {"config": config}})
}

/// A pod on `n1` with these interfaces: the network, the interface, and its addresses.
fn pod(name: &str, interfaces: &[(&str, &str, &[&str])]) -> Value {
    let mut status = vec![
        json!({"name": "cbr0", "interface": "eth0", "ips": ["10.244.1.5"], "default": true, "dns": {}}),
    ];
    let more = interfaces.iter().map(
        |(name, interface, ips)| json!({"name": name, "interface": interface, "ips": ips, "dns": {}}),
    );
    status.extend(more);
    let status = Value::Array(status).to_string();
    json!({
        "kind": "Pod", "spec": {"nodeName": "n1"}, "status": {"phase": "Running"},
        "metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"), "annotations": {"k8s.v1.cni.cncf.io/network-status": status}},
    })
}

fn record(address: &str, scope: Option<&str>, pod: &str, container: &str) -> Value {
    json!({"kind": "IPAllocation", "metadata": {"name": address}, "spec": {
        "address": address, "scope": scope, "network": "n", "containerID": container, "interface": "net1",
        "podRef": {"namespace": "default", "name": pod},
    }})
}

fn world(objects: impl IntoIterator<Item = Value>) -> World {
    let whereabouts = |more: Value| {
        let mut ipam = json!({"type": "whereabouts"});
        ipam.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ipam
    };
    let mut all = vec![
        json!({"kind": "Node", "metadata": {"name": "n1", "uid": "uid-n1"}, "status": {"nodeInfo": {"bootID": "boot-1"}}}),
        network("n", &whereabouts(json!({"range": "10.0.0.0/24", "gateway": "10.0.0.1"}))),
        network("wide", &whereabouts(json!({"range": "10.0.0.0/16"}))),
        network("blue", &whereabouts(json!({"range": "10.0.0.0/24", "network_name": "blue"}))),
        network(
            "dual",
            &whereabouts(json!({"ipRanges": [{"range": "fd00::/64"}, {"range": "10.3.0.0/24"}]})),
        ),
        network("static", &whereabouts(json!({"addresses": [{"address": "10.9.0.5/24"}]}))),
        network("cut", &whereabouts(json!({"range": "10.1.0.0/16", "node_slice_size": "/24"}))),
    ];
    all.extend(objects);
    let mut world = World { noted: Noted::default(), objects: Vec::new() };
    let mut texts = Texts::default();
    for object in all {
        let text = object.to_string();
        match object["kind"].as_str().unwrap() {
            "IPPool" => world.noted.pool(&text, &mut texts).unwrap(),
            "OverlappingRangeIPReservation" => {
                world.noted.reservation(&text, &mut texts).unwrap();
            }
            _ => world.objects.push(object),
        }
    }
    world
}

impl World {
    fn facts(self) -> Facts {
        let mut reading = Reading::new(self.noted);
        let of = |kind: &str| {
            let of_kind = self.objects.iter().filter(move |object| object["kind"] == kind);
            of_kind.map(Value::to_string).collect::<Vec<_>>()
        };
        of("NodeSlicePool").iter().for_each(|item| reading.slice_pool(item).unwrap());
        of("NetworkAttachmentDefinition").iter().for_each(|item| reading.network(item).unwrap());
        of("Node").iter().for_each(|item| reading.node(item).unwrap());
        of("Pod").iter().for_each(|item| reading.pod(item).unwrap());
        reading.expect_records();
        of("IPAllocation").iter().for_each(|item| reading.record(item).unwrap());
        reading.facts
    }
}

/// What is decided about each address, in lines.
fn told(facts: &Facts) -> String {
    let line = |Decision { row, task }: Decision| {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let outcome = match &row.outcome {
            Outcome::Known => "known".to_owned(),
            Outcome::Completed => "completed".to_owned(),
            Outcome::New => "new".to_owned(),
            Outcome::Freed(reason) => format!("freed: {reason}"),
            Outcome::Gone(reason) => format!("gone: {reason}"),
            Outcome::Left { reason, hint } => format!("left: {reason} => {hint}"),
        };
        let mut line = format!(
            "{} {:?} {} {} {} {} {}\n  {outcome}\n  {}\n",
            row.address,
            row.scope,
            text(&row.network),
            text(&row.pod),
            text(&row.interface),
            text(&row.container),
            text(&row.node),
            row.source
        );
        let replaces = match &task {
            Some(Task::Record(found)) => found.replaces.clone(),
            Some(Task::Free(_, _, version)) => Some(version.clone()),
            None => None,
        };
        if let Some(Task::Record(found)) = task {
            let gateway = found.gateway.map_or_else(|| "none".to_owned(), |one| one.to_string());
            line += &format!(
                "  /{} gateway {gateway}, {}, {}, {} {}, {} of {}\n",
                found.prefix,
                found.attachment,
                found.pod.uid.as_deref().unwrap_or("-"),
                found.node_uid,
                found.boot_id,
                found.part.index,
                found.part.of
            );
        }
        if let Some(version) = replaces {
            line += &format!("  instead of {}\n", version.uid);
        }
        row.notes.iter().for_each(|note| line += &format!("  note: {note}\n"));
        line
    };
    decide(facts).into_iter().map(line).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "the lists of objects are written in place")]
fn check(objects: Vec<Value>, expected: Expect) {
    expected.assert_eq(&told(&world(objects).facts()));
}

#[test]
fn a_living_pod_that_shows_its_address_is_recorded() {
    check(
        vec![
            pool("10.0.0.0-24", "10.0.0.0/24", &json!({"5": entry("c1", "default/a")})),
            reservation("10.0.0.5", "default/a"),
            pod("a", &[("default/n", "net1", &["10.0.0.5"])]),
        ],
        expect![[r#"
            10.0.0.5 "" n default/a net1 c1 n1
              new
              IPPool kube-system/10.0.0.0-24 key 5
              /24 gateway 10.0.0.1, container c1, interface net1, network n, node n1, uid-a, uid-n1 boot-1, 0 of 1
        "#]],
    );
}

#[test]
fn the_fork_of_telekom_writes_more_fields() {
    let mut of_fork = pool("10.0.0.0-24", "10.0.0.0/24", &json!({"5": entry("c1", "default/a")}));
    of_fork["metadata"]["annotations"] = json!({"whereabouts.cni.cncf.io/x": "y"});
    of_fork["status"] = json!({"totalIPs": "254", "allocatedIPs": {"10.0.0.5": {"podRef": "default/a"}}, "conditions": [{"type": "Ready"}]});
    let mut reserved = reservation("10.0.0.5", "default/a");
    reserved["spec"]["podUID"] = json!("uid-a");
    reserved["status"] = json!({"conditions": null});
    check(
        vec![of_fork, reserved, pod("a", &[("default/n", "net1", &["10.0.0.5"])])],
        expect![[r#"
            10.0.0.5 "" n default/a net1 c1 n1
              new
              IPPool kube-system/10.0.0.0-24 key 5
              /24 gateway 10.0.0.1, container c1, interface net1, network n, node n1, uid-a, uid-n1 boot-1, 0 of 1
        "#]],
    );
}

#[test]
fn an_old_entry_without_interface_has_that_of_the_address() {
    let old = |pod: &str| json!({"id": "c1", "podref": pod});
    check(
        vec![
            pool(
                "10.0.0.0-24",
                "10.0.0.0/24",
                &json!({"5": old("default/a"), "6": old("default/b"), "7": old("web-0"), "8": old("")}),
            ),
            pod(
                "a",
                &[("default/n", "net7", &["10.0.0.5"]), ("default/n", "net8", &["10.0.0.15"])],
            ),
            pod(
                "b",
                &[("default/n", "net1", &["10.0.0.6"]), ("default/blue", "net2", &["10.0.0.6"])],
            ),
            pod("web-0", &[("default/n", "net1", &["10.0.0.7"])]),
        ],
        expect![[r#"
            10.0.0.5 "" n default/a net7 c1 n1
              new
              IPPool kube-system/10.0.0.0-24 key 5
              /24 gateway 10.0.0.1, container c1, interface net7, network n, node n1, uid-a, uid-n1 boot-1, 0 of 1
            10.0.0.6 "" - default/b - c1 n1
              left: the entry names no interface, and not exactly one interface of the pod has the address => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 6
            10.0.0.7 "" - web-0 - c1 -
              left: its reference to a pod is not namespace/name: "web-0" => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 7
            10.0.0.8 "" - - - c1 -
              left: its reference to a pod is not namespace/name: "" => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 8
            10.0.0.15 "" n default/a net8 - n1
              left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
              network-status of pod default/a
            10.0.0.6 "blue" blue default/b net2 - n1
              left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
              network-status of pod default/b
        "#]],
    );
}

#[test]
fn both_families_of_an_interface_are_one_add() {
    check(
        vec![
            pool("10.3.0.0-24", "10.3.0.0/24", &json!({"5": entry("c1", "default/a")})),
            pool(
                "fd00---64",
                "fd00::/64",
                &json!({"9223372036854775813": entry("c1", "default/a")}),
            ),
            pod("a", &[("default/dual", "net1", &["fd00::8000:0:0:5", "10.3.0.5"])]),
        ],
        expect![[r#"
            10.3.0.5 "" dual default/a net1 c1 n1
              new
              IPPool kube-system/10.3.0.0-24 key 5
              /24 gateway none, container c1, interface net1, network dual, node n1, uid-a, uid-n1 boot-1, 1 of 2
            fd00::8000:0:0:5 "" dual default/a net1 c1 n1
              new
              IPPool kube-system/fd00---64 key 9223372036854775813
              /64 gateway none, container c1, interface net1, network dual, node n1, uid-a, uid-n1 boot-1, 0 of 2
        "#]],
    );
    // One of them is noted nowhere.
    check(
        vec![
            pool("10.3.0.0-24", "10.3.0.0/24", &json!({"5": entry("c1", "default/a")})),
            pod("a", &[("default/dual", "net1", &["fd00::5", "10.3.0.5"])]),
        ],
        expect![[r#"
            10.3.0.5 "" dual default/a net1 c1 n1
              new
              IPPool kube-system/10.3.0.0-24 key 5
              /24 gateway none, container c1, interface net1, network dual, node n1, uid-a, uid-n1 boot-1, 0 of 1
              note: 1 of the 2 addresses of the interface would not be recorded
            fd00::5 "" dual default/a net1 - n1
              left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
              network-status of pod default/a
        "#]],
    );
}

#[test]
fn a_named_network_has_a_scope_of_its_own() {
    check(
        vec![
            pool("10.0.0.0-24", "10.0.0.0/24", &json!({"5": entry("c1", "default/a")})),
            pool("blue-10.0.0.0-24", "10.0.0.0/24", &json!({"5": entry("c2", "default/b")})),
            reservation("blue-10.0.0.5", "default/b"),
            pod("a", &[("default/n", "net1", &["10.0.0.5"])]),
            pod("b", &[("default/blue", "net1", &["10.0.0.5"])]),
            // The network was given another name since.
            pool("red-10.0.0.0-24", "10.0.0.0/24", &json!({"6": entry("c3", "default/c")})),
            pod("c", &[("default/blue", "net1", &["10.0.0.6"])]),
        ],
        expect![[r#"
            10.0.0.5 "" n default/a net1 c1 n1
              new
              IPPool kube-system/10.0.0.0-24 key 5
              /24 gateway 10.0.0.1, container c1, interface net1, network n, node n1, uid-a, uid-n1 boot-1, 0 of 1
            10.0.0.5 "blue" blue default/b net1 c2 n1
              new
              IPPool kube-system/blue-10.0.0.0-24 key 5
              /24 gateway none, container c2, interface net1, network blue, node n1, uid-b, uid-n1 boot-1, 0 of 1
            10.0.0.6 "blue" blue default/c net1 - n1
              left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
              network-status of pod default/c
            10.0.0.6 "red" blue default/c net1 c3 n1
              left: network default/blue has the network_name "blue" now, and the pool is of "red" => set the network_name of the network to that of the pool
              IPPool kube-system/red-10.0.0.0-24 key 6
        "#]],
    );
}

#[test]
fn two_entries_for_one_address_are_left_if_both_pods_live() {
    let of = |pod_b: Option<Value>| {
        let mut objects = vec![
            pool("10.0.0.0-24", "10.0.0.0/24", &json!({"5": entry("c1", "default/a")})),
            pool("10.0.0.0-16", "10.0.0.0/16", &json!({"5": entry("c2", "default/b")})),
            pod("a", &[("default/n", "net1", &["10.0.0.5"])]),
        ];
        objects.extend(pod_b);
        objects
    };
    check(
        of(Some(pod("b", &[("default/wide", "net1", &["10.0.0.5"])]))),
        expect![[r#"
        10.0.0.5 "" wide default/b net1 c2 n1
          left: IPPool kube-system/10.0.0.0-24 key 5 names it, too: for pod default/a, container c1 => find out which of them has the address, and remove what names the other one
          IPPool kube-system/10.0.0.0-16 key 5
        10.0.0.5 "" n default/a net1 c1 n1
          left: IPPool kube-system/10.0.0.0-16 key 5 names it, too: for pod default/b, container c2 => find out which of them has the address, and remove what names the other one
          IPPool kube-system/10.0.0.0-24 key 5
    "#]],
    );
    // The API server has no pod for one of them.
    check(
        of(None),
        expect![[r#"
        10.0.0.5 "" - default/b net1 c2 -
          gone: the pod is gone; Whereabouts keeps its entry until its own cleanup
          IPPool kube-system/10.0.0.0-16 key 5
        10.0.0.5 "" n default/a net1 c1 n1
          new
          IPPool kube-system/10.0.0.0-24 key 5
          /24 gateway 10.0.0.1, container c1, interface net1, network n, node n1, uid-a, uid-n1 boot-1, 0 of 1
    "#]],
    );
    // One holder, noted twice, in pools that overlap.
    check(
        vec![
            pool("10.0.0.0-24", "10.0.0.0/24", &json!({"5": entry("c1", "default/a")})),
            pool("10.0.0.0-16", "10.0.0.0/16", &json!({"5": entry("c1", "default/a")})),
            pod("a", &[("default/n", "net1", &["10.0.0.5"])]),
        ],
        expect![[r#"
            10.0.0.5 "" n default/a net1 c1 n1
              new
              IPPool kube-system/10.0.0.0-16 key 5, IPPool kube-system/10.0.0.0-24 key 5
              /24 gateway 10.0.0.1, container c1, interface net1, network n, node n1, uid-a, uid-n1 boot-1, 0 of 1
        "#]],
    );
}

#[test]
fn another_pod_that_has_the_address_is_a_reason_to_leave_it() {
    check(
        vec![
            pool(
                "10.0.0.0-24",
                "10.0.0.0/24",
                &json!({"5": entry("c1", "default/a"), "6": entry("c2", "default/a2")}),
            ),
            reservation("10.0.0.6", "default/c"),
            pod("a", &[("default/n", "net1", &["10.0.0.5"])]),
            pod("b", &[("default/wide", "net1", &["10.0.0.5"])]),
            pod("a2", &[("default/n", "net1", &["10.0.0.6"])]),
            pod("c", &[]),
        ],
        expect![[r#"
            10.0.0.5 "" n default/a net1 c1 n1
              left: pod default/b has it, too, on net1 => find out which of them has the address, and remove what names the other one
              IPPool kube-system/10.0.0.0-24 key 5
            10.0.0.5 "" wide default/b net1 - n1
              left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
              network-status of pod default/b
            10.0.0.6 "" n default/a2 net1 c2 n1
              left: OverlappingRangeIPReservation kube-system/10.0.0.6 reserves it for pod default/c => find out which of them has the address, and remove what names the other one
              IPPool kube-system/10.0.0.0-24 key 6
            10.0.0.6 "" - default/c net1 - n1
              left: the entry of the pool is for another pod than this reservation => run "hereabouts import whereabouts" on the node
              OverlappingRangeIPReservation kube-system/10.0.0.6
        "#]],
    );
}

#[test]
fn what_hereabouts_has_recorded_is_known_or_in_the_way() {
    check(
        vec![
            pool(
                "10.0.0.0-24",
                "10.0.0.0/24",
                &json!({
                    "5": entry("c5", "default/a"), "6": entry("c6", "default/b"), "7": entry("c7", "default/c"),
                    "8": {"id": "c8", "podref": "default/d"},
                }),
            ),
            pod("a", &[("default/n", "net1", &["10.0.0.5"])]),
            pod("b", &[("default/n", "net1", &["10.0.0.6"])]),
            record("10.0.0.5", None, "a", "c5"),
            record("10.0.0.6", None, "other", "c6"),
            record("10.0.0.7", None, "c", "another"),
            record("10.0.0.8", None, "d", "c8"),
            record("10.0.0.5", Some("blue"), "other", "c5"),
        ],
        expect![[r#"
            10.0.0.5 "" n default/a net1 c5 n1
              known
              IPPool kube-system/10.0.0.0-24 key 5
            10.0.0.6 "" n default/b net1 c6 n1
              left: hereabouts has recorded it for pod default/other, container c6, interface net1 => find out which of them has the address; "hereabouts show 10.0.0.6" shows the record
              IPPool kube-system/10.0.0.0-24 key 6
            10.0.0.7 "" - default/c net1 c7 -
              gone: the pod is gone; Whereabouts keeps its entry until its own cleanup
              IPPool kube-system/10.0.0.0-24 key 7
            10.0.0.8 "" - default/d - c8 -
              known
              IPPool kube-system/10.0.0.0-24 key 8
        "#]],
    );
}

#[test]
fn a_pod_that_is_gone_or_has_ended_needs_nothing() {
    let mut ended = pod("ended", &[("default/n", "net1", &["10.0.0.6"])]);
    ended["status"]["phase"] = json!("Succeeded");
    let mut ending = pod("ending", &[("default/n", "net1", &["10.0.0.7"])]);
    ending["metadata"]["deletionTimestamp"] = json!("2026-11-30T10:00:00Z");
    check(
        vec![
            pool(
                "10.0.0.0-24",
                "10.0.0.0/24",
                &json!({"5": entry("c5", "default/gone"), "6": entry("c6", "default/ended"), "7": entry("c7", "default/ending")}),
            ),
            reservation("10.0.0.8", "default/gone"),
            ended,
            ending,
        ],
        expect![[r#"
            10.0.0.5 "" - default/gone net1 c5 -
              gone: the pod is gone; Whereabouts keeps its entry until its own cleanup
              IPPool kube-system/10.0.0.0-24 key 5
            10.0.0.6 "" n default/ended net1 c6 n1
              gone: the pod has ended; Whereabouts keeps its entry until its own cleanup
              IPPool kube-system/10.0.0.0-24 key 6
            10.0.0.7 "" n default/ending net1 c7 n1
              new
              IPPool kube-system/10.0.0.0-24 key 7
              /24 gateway 10.0.0.1, container c7, interface net1, network n, node n1, uid-ending, uid-n1 boot-1, 0 of 1
              note: the pod is being deleted
            10.0.0.8 "" - default/gone net1 - -
              gone: the pod is gone; Whereabouts keeps its reservation until its own cleanup
              OverlappingRangeIPReservation kube-system/10.0.0.8
        "#]],
    );
}
