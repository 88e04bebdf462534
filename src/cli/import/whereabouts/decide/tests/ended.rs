//! Records of pods that Whereabouts has seen end since they were imported.

use super::{check, entry, pod, pool, record, told, world};
use expect_test::expect;
use serde_json::{Value, json};
use std::collections::HashSet;

/// A record that was imported, and that its node has not completed.
fn imported(address: &str, pod: &str, container: &str) -> Value {
    let mut record = record(address, None, pod, container);
    record["metadata"]["uid"] = json!(format!("uid-of-{pod}"));
    record["metadata"]["resourceVersion"] = json!("7");
    record["spec"]["node"] = json!("n1");
    record["spec"]["netns"] = json!({"path": "/proc/0/ns/net", "inode": 0, "directoryDevice": 0});
    record
}

#[test]
fn an_imported_record_gives_way_to_the_pod_that_whereabouts_gave_the_address_to() {
    let mut complete = imported("10.0.0.6", "old", "c6");
    complete["spec"]["netns"]["inode"] = json!(4711);
    check(
        vec![
            pool(
                "10.0.0.0-24",
                "10.0.0.0/24",
                &json!({"5": entry("c5", "default/a"), "6": entry("c16", "default/b"), "7": entry("c7", "default/c")}),
            ),
            pod("a", &[("default/n", "net1", &["10.0.0.5"])]),
            pod("b", &[("default/n", "net1", &["10.0.0.6"])]),
            pod("c", &[("default/n", "net1", &["10.0.0.7"])]),
            pod("living", &[("default/n", "net1", &["10.0.0.7"])]),
            imported("10.0.0.5", "old", "c4"),
            complete,
            imported("10.0.0.7", "living", "c17"),
        ],
        expect![[r#"
            10.0.0.5 "" n default/a net1 c5 n1
              new
              IPPool kube-system/10.0.0.0-24 key 5
              /24 gateway 10.0.0.1, container c5, interface net1, network n, node n1, uid-a, uid-n1 boot-1, 0 of 1
              instead of uid-of-old
            10.0.0.6 "" n default/b net1 c16 n1
              left: hereabouts has recorded it for pod default/old, container c6, interface net1 => find out which of them has the address; "hereabouts show 10.0.0.6" shows the record
              IPPool kube-system/10.0.0.0-24 key 6
            10.0.0.7 "" n default/c net1 c7 n1
              left: pod default/living has it, too, on net1 => find out which of them has the address, and remove what names the other one
              IPPool kube-system/10.0.0.0-24 key 7
        "#]],
    );
}

#[test]
fn an_imported_record_is_freed_when_nothing_names_its_address() {
    let mut starting = pod("starting", &[]);
    starting["metadata"]["annotations"] = json!({});
    check(
        vec![
            pool(
                "10.0.0.0-24",
                "10.0.0.0/24",
                &json!({"7": {"id": "c9", "podref": "default/other"}}),
            ),
            pod("moved", &[("default/n", "net1", &["10.0.0.99"])]),
            pod("shown", &[("default/n", "net1", &["10.0.0.8"])]),
            starting,
            imported("10.0.0.5", "old", "c5"),
            imported("10.0.0.6", "moved", "c6"),
            imported("10.0.0.7", "old", "c7"),
            imported("10.0.0.8", "shown", "c8"),
            imported("10.0.0.9", "starting", "c9"),
            record("10.0.0.10", None, "old", "c10"),
        ],
        expect![[r#"
            10.0.0.7 "" - default/other - c9 -
              gone: the pod is gone; Whereabouts keeps its entry until its own cleanup
              IPPool kube-system/10.0.0.0-24 key 7
            10.0.0.99 "" n default/moved net1 - n1
              left: the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod => run "hereabouts import whereabouts" on the node
              network-status of pod default/moved
            10.0.0.5 "" - default/old net1 c5 n1
              freed: its pod has ended, and Whereabouts has freed it
              IPAllocation
              instead of uid-of-old
            10.0.0.6 "" - default/moved net1 c6 n1
              freed: its pod has ended, and Whereabouts has freed it
              IPAllocation
              instead of uid-of-moved
        "#]],
    );
}

/// The pod was imported by somebody else after the entries were read here.
#[test]
fn an_address_with_an_entry_in_the_second_reading_is_not_freed() {
    let mut facts = world([imported("10.0.0.5", "new", "c5")]).facts();
    assert!(told(&facts).contains("freed"));
    facts.noted_again = Some(HashSet::from(["10.0.0.5".parse().unwrap()]));
    assert_eq!(told(&facts), "");
}
