//! What is left for the node or for an operator, with the reason and the hint.

use super::super::super::cluster::settle;
use super::*;

#[test]
fn an_offset_that_stands_for_no_address_is_listed() {
    check(
        vec![
            pool(
                "10.0.0.0-24",
                "10.0.0.0/24",
                &json!({
                    "18446463705355360228": entry("c1", "default/a"), "-3": entry("c2", "default/b"),
                    "x": entry("c3", "default/gone"), "9": {"id": 7},
                }),
            ),
            pool("10.5.0.0-24", "10.5.0.0", &json!({"5": entry("c4", "default/a")})),
            pool("other", "10.6.0.0/24", &json!({"5": entry("c5", "default/a")})),
            pod("a", &[("default/n", "net1", &["10.0.0.5"])]),
            pod("b", &[]),
        ],
        expect![[r#"
            10.0.0.5 "" n default/a net1 - n1
              left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
              network-status of pod default/a
            10.0.0.9 "" - - - - -
              left: its entry is not readable => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 9
            key -3 "" - default/b net1 c2 n1
              left: its offset -3 is negative => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key -3
            key 18446463705355360228 "" - default/a net1 c1 n1
              left: its offset 18446463705355360228 is outside of 10.0.0.0/24 => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 18446463705355360228
            key x "" - default/gone net1 c3 -
              left: its offset "x" is not a decimal number => its pod is gone: remove the key from the IPPool
              IPPool kube-system/10.0.0.0-24 key x
            key 5 "" - default/a net1 c4 n1
              left: the range of its pool is not readable: "10.5.0.0" => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.5.0.0-24 key 5
            10.6.0.5 "" - default/a net1 c5 n1
              left: the name of its pool does not fit the range of the pool => run "hereabouts import whereabouts" on the node
              IPPool kube-system/other key 5
        "#]],
    );
}

#[test]
fn a_pod_without_node_status_or_interface_is_left() {
    let mut young = pod("young", &[]);
    young["metadata"]["annotations"] = json!({});
    let mut broken = pod("broken", &[]);
    broken["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"] = json!("[");
    let mut unscheduled = pod("unscheduled", &[("default/n", "net1", &["10.0.0.12"])]);
    unscheduled["spec"] = json!({});
    let mut lost = pod("lost", &[("default/n", "net1", &["10.0.0.13"])]);
    lost["spec"]["nodeName"] = json!("n9");
    let mut fresh = pod("fresh", &[("default/n", "net1", &["10.0.0.14"])]);
    fresh["spec"]["nodeName"] = json!("n2");
    check(
        vec![
            pool(
                "10.0.0.0-24",
                "10.0.0.0/24",
                &json!({
                    "10": entry("c", "default/young"), "11": entry("c", "default/broken"),
                    "12": entry("c", "default/unscheduled"), "13": entry("c", "default/lost"),
                    "14": entry("c", "default/fresh"), "15": entry("c", "default/moved"),
                    "16": entry("c", "default/other"), "17": entry("!", "default/odd"),
                }),
            ),
            json!({"kind": "Node", "metadata": {"name": "n2"}}),
            young,
            broken,
            unscheduled,
            lost,
            fresh,
            pod("moved", &[("default/n", "net1", &["10.0.0.99"])]),
            pod("other", &[("default/n", "net9", &["10.0.0.16"])]),
            pod("odd", &[("default/n", "net1", &["10.0.0.17"])]),
        ],
        expect![[r#"
            10.0.0.10 "" - default/young net1 c n1
              left: the pod has no network-status yet => repeat it when the pod runs
              IPPool kube-system/10.0.0.0-24 key 10
            10.0.0.11 "" - default/broken net1 c n1
              left: the network-status of the pod is not readable => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 11
            10.0.0.12 "" n default/unscheduled net1 c -
              left: the pod has no node yet => repeat it when the pod runs
              IPPool kube-system/10.0.0.0-24 key 12
            10.0.0.13 "" n default/lost net1 c n9
              left: the cluster does not have the node n9 => if the machine is off for good, delete the pod
              IPPool kube-system/10.0.0.0-24 key 13
            10.0.0.14 "" n default/fresh net1 c n2
              left: the node n2 has not reported its boot ID => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 14
            10.0.0.15 "" n default/moved net1 c n1
              left: the pod has other addresses on net1 => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 15
            10.0.0.16 "" - default/other net1 c n1
              left: the pod does not show an interface net1 => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 16
            10.0.0.16 "" n default/other net9 - n1
              left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
              network-status of pod default/other
            10.0.0.17 "" n default/odd net1 ! n1
              left: its container ID is not valid: "!" => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 17
            10.0.0.99 "" n default/moved net1 - n1
              left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
              network-status of pod default/moved
        "#]],
    );
}

#[test]
fn a_network_whose_name_is_not_known_is_left() {
    let mut default = pod("default", &[]);
    let status =
        json!([{"name": "cbr0", "interface": "net1", "ips": ["10.0.0.13"], "default": true}]);
    default["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"] =
        json!(status.to_string());
    let mut file = network("file", &json!({}));
    file["spec"] = json!({});
    check(
        vec![
            pool(
                "10.0.0.0-24",
                "10.0.0.0/24",
                &json!({
                    "10": entry("c", "default/gone"), "11": entry("c", "default/file"),
                    "12": entry("c", "default/other"), "13": entry("c", "default/default"),
                    "14": entry("c", "default/pooled"),
                }),
            ),
            file,
            network("other", &json!({"type": "host-local", "subnet": "10.0.0.0/24"})),
            network("pooled", &json!({"type": "hereabouts", "pool": "p"})),
            pod("gone", &[("default/gone", "net1", &["10.0.0.10"])]),
            pod("file", &[("default/file", "net1", &["10.0.0.11"])]),
            pod("other", &[("default/other", "net1", &["10.0.0.12"])]),
            default,
            pod("pooled", &[("default/pooled", "net1", &["10.0.0.14"])]),
        ],
        expect![[r#"
            10.0.0.10 "" - default/gone net1 c n1
              left: the NetworkAttachmentDefinition default/gone, which names the network, is gone => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 10
            10.0.0.11 "" - default/file net1 c n1
              left: the configuration of network default/file is not known: no spec.config; Multus uses a file of that name on the node => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 11
            10.0.0.12 "" - default/other net1 c n1
              left: network default/other has other addresses now: type host-local => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 12
            10.0.0.13 "" - default/default net1 c n1
              left: the interface is in the default network, whose configuration is on the nodes => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 13
            10.0.0.14 "" pooled default/pooled net1 c n1
              left: network default/pooled takes its addresses from pools now => run "hereabouts import whereabouts" on the node
              IPPool kube-system/10.0.0.0-24 key 14
        "#]],
    );
}

#[test]
fn an_address_that_its_network_does_not_give_is_recorded_with_a_note() {
    let mistaken = json!({"type": "whereabouts", "range": "10.0.0.0/24", "range_end": "10.1.0.9", "gateway": "10.0.0.1"});
    check(
        vec![
            pool("10.0.0.0-16", "10.0.0.0/16", &json!({"300": entry("c1", "default/a")})),
            pool("10.0.0.0-24", "10.0.0.0/24", &json!({"9": entry("c2", "default/b")})),
            network("mistaken", &mistaken),
            pod("a", &[("default/n", "net1", &["10.0.1.44"])]),
            pod("b", &[("default/mistaken", "net1", &["10.0.0.9"])]),
        ],
        expect![[r#"
            10.0.0.9 "" mistaken default/b net1 c2 n1
              new
              IPPool kube-system/10.0.0.0-24 key 9
              /24 gateway none, container c2, interface net1, network mistaken, node n1, uid-b, uid-n1 boot-1, 0 of 1
              note: not compared with the ranges of network default/mistaken, and recorded without gateway: ipam.range_end: expected an address inside subnet 10.0.0.0/24, found "10.1.0.9"
            10.0.1.44 "" n default/a net1 c1 n1
              new
              IPPool kube-system/10.0.0.0-16 key 300
              /16 gateway 10.0.0.1, container c1, interface net1, network n, node n1, uid-a, uid-n1 boot-1, 0 of 1
              note: it is outside of the ranges of network default/n
        "#]],
    );
}

#[test]
fn slices_are_left_to_their_nodes() {
    let slices = |name: &str| {
        json!({"kind": "NodeSlicePool", "metadata": {"namespace": "kube-system", "name": name},
            "spec": {"range": "10.1.0.0/16", "sliceSize": "/24"},
            "status": {"allocations": [{"nodeName": "n1", "sliceRange": "10.1.0.0/24"}, {"nodeName": "", "sliceRange": "10.1.1.0/24"}]}})
    };
    let objects = |more: Option<Value>| {
        let mut objects = vec![
            pool(
                "n1-10.1.0.0-24",
                "10.1.0.0/24",
                &json!({"5": entry("c1", "default/a"), "6": entry("c2", "default/gone")}),
            ),
            pod("a", &[("default/cut", "net1", &["10.1.0.5"])]),
        ];
        objects.extend(more);
        objects
    };
    check(
        objects(Some(slices("cut"))),
        expect![[r#"
        10.1.0.5 "" cut default/a net1 c1 n1
          left: its network has node_slice_size, and such networks cannot be imported yet => delete the pods of this network before the move
          IPPool kube-system/n1-10.1.0.0-24 key 5
        10.1.0.6 "" - default/gone net1 c2 -
          gone: the pod is gone; Whereabouts keeps its entry until its own cleanup
          IPPool kube-system/n1-10.1.0.0-24 key 6
    "#]],
    );
    // The NodeSlicePool is gone.
    check(
        objects(None),
        expect![[r#"
            10.1.0.5 "" - default/a net1 c1 n1
              left: its pool is probably the slice of a node, and no NodeSlicePool has it => run "hereabouts import whereabouts" on the node
              IPPool kube-system/n1-10.1.0.0-24 key 5
            10.1.0.6 "" - default/gone net1 c2 -
              gone: the pod is gone; Whereabouts keeps its entry until its own cleanup
              IPPool kube-system/n1-10.1.0.0-24 key 6
        "#]],
    );
}

#[test]
fn addresses_without_an_entry_are_left_to_the_node() {
    check(
        vec![
            pool("10.0.0.0-24", "10.0.0.0/24", &json!({})),
            reservation("10.0.0.5", "default/a"),
            reservation("fd00--5", "default/a"),
            // Two meanings, and nothing tells them apart.
            reservation("ab-fd00--5", "default/a"),
            reservation("10.0.0.6", "web-0"),
            reservation("10.0.0.7", "default/recorded"),
            record("10.0.0.7", None, "recorded", "c"),
            record("10.0.0.9", None, "ours", "c"),
            pod("a", &[("default/n", "net1", &["10.0.0.5"])]),
            pod("b", &[("default/n", "net1", &["10.0.0.8"])]),
            pod("ours", &[("default/n", "net1", &["10.0.0.9"])]),
            pod("recorded", &[]),
            pod("s1", &[("default/static", "net1", &["10.9.0.5"])]),
        ],
        expect![[r#"
            10.0.0.5 "" n default/a net1 - n1
              left: no pool has an entry for it, only this reservation => run "hereabouts import whereabouts" on the node
              OverlappingRangeIPReservation kube-system/10.0.0.5
            10.0.0.6 "" - web-0 net1 - -
              left: its reference to a pod is not namespace/name: "web-0" => run "hereabouts import whereabouts" on the node
              OverlappingRangeIPReservation kube-system/10.0.0.6
            10.0.0.7 "" - default/recorded net1 - n1
              known
              OverlappingRangeIPReservation kube-system/10.0.0.7
            10.0.0.8 "" n default/b net1 - n1
              left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
              network-status of pod default/b
            10.9.0.5 "" static default/s1 net1 - n1
              left: it is a static address of its network, which Whereabouts does not note => run "hereabouts import whereabouts" on the node
              network-status of pod default/s1
            fd00::5 "" n default/a net1 - n1
              left: no pool has an entry for it, only this reservation => run "hereabouts import whereabouts" on the node
              OverlappingRangeIPReservation kube-system/fd00--5
            ab-fd00--5 "" - default/a net1 - -
              left: the name of the reservation does not say which address of which network_name it is => compare it with the network-status of the pod
              OverlappingRangeIPReservation kube-system/ab-fd00--5
        "#]],
    );
}

#[test]
fn what_changes_while_it_is_read_is_no_defect() {
    // web-0 was replaced between the lists, and b has come.
    let before = world([
        pool(
            "10.0.0.0-24",
            "10.0.0.0/24",
            &json!({"5": entry("c1", "default/web-0"), "7": entry("c3", "default/x")}),
        ),
        reservation("10.0.0.5", "default/web-0"),
        pod("web-0", &[("default/n", "net1", &["10.0.0.6"])]),
        pod("b", &[("default/n", "net1", &["10.0.0.8"])]),
        pod("x", &[("default/n", "net1", &["10.0.0.99"])]),
    ]);
    let now = world([
        pool(
            "10.0.0.0-24",
            "10.0.0.0/24",
            &json!({
                "6": entry("c2", "default/web-0"), "7": entry("c3", "default/x"), "8": entry("c4", "default/b"), "9": entry("c5", "default/later"),
            }),
        ),
        reservation("10.0.0.6", "default/web-0"),
    ]);
    let mut facts = before.facts();
    settle(&mut facts, now.noted);
    expect![[r#"
        10.0.0.6 "" n default/web-0 net1 c2 n1
          new
          IPPool kube-system/10.0.0.0-24 key 6
          /24 gateway 10.0.0.1, container c2, interface net1, network n, node n1, uid-web-0, uid-n1 boot-1, 0 of 1
        10.0.0.7 "" n default/x net1 c3 n1
          left: the pod has other addresses on net1 => run "hereabouts import whereabouts" on the node
          IPPool kube-system/10.0.0.0-24 key 7
        10.0.0.8 "" n default/b net1 c4 n1
          new
          IPPool kube-system/10.0.0.0-24 key 8
          /24 gateway 10.0.0.1, container c4, interface net1, network n, node n1, uid-b, uid-n1 boot-1, 0 of 1
        10.0.0.99 "" n default/x net1 - n1
          left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
          network-status of pod default/x
    "#]].assert_eq(&told(&facts));
}
