//! The complete path with real components: Pods with the networks annotation on a real API server,
//! the real Multus called as a runtime calls it, the real macvlan with hereabouts for its
//! addresses, nodes as network namespaces. The test plays kubelet and scheduler. The pods' first
//! network does not matter here.

/// Claims of addresses that outlive a pod.
mod claims;
/// Moving in from Whereabouts.
mod moving;
/// The nodes, and the part of the kubelet.
mod rig;
/// The rows of docs/main-plugins.md that are about Multus.
mod rows;

use crate::support::mounted::tmpfs_of_a_high_device;
use hereabouts::retry::{Attempt, Deadline, Pace, until_paced};
use rig::{Rig, status_of};
use std::time::Duration;

/// Returns the rig, or prints why this test is skipped.
fn rig() -> Option<&'static Rig> {
    Rig::shared().map_err(|reason| skipped!("{reason}")).ok()
}

fn row(address: &str, pod: &str, interface: &str, node: &str) -> [String; 4] {
    [address, pod, interface, node].map(str::to_owned)
}

fn status(network: &str, interface: &str, addresses: &[&str]) -> (String, String, Vec<String>) {
    (
        format!("default/{network}"),
        interface.to_owned(),
        addresses.iter().map(|a| (*a).to_owned()).collect(),
    )
}

#[test]
fn pods_of_two_nodes_reach_each_other() {
    let Some(rig) = rig() else { return };
    rig.cluster.text(&[
        "apply",
        "-f",
        concat!(env!("CARGO_MANIFEST_DIR"), "/conf-examples/macvlan-conf.yaml"),
    ]);
    let (one, two) = (rig.node("reach-1"), rig.node("reach-2"));
    let pods = [(&one, "reach-a"), (&one, "reach-b"), (&two, "reach-c")]
        .map(|(node, name)| (node, rig.pod(name, "macvlan-conf")));
    let mut addresses = Vec::new();
    for (node, pod) in &pods {
        node.start(pod);
        let [(network, interface, ips)] = &status_of(rig, pod)[..] else { panic!("{}", pod.name) };
        assert_eq!((&**network, &**interface, ips.len()), ("default/macvlan-conf", "net1", 1));
        assert_eq!(node.on_interface(pod, "net1"), *ips);
        addresses.push(ips[0].clone());
    }
    // The first node has no neighbor yet; two nodes at once may spread.
    assert_eq!(addresses[..2], ["192.168.20.10", "192.168.20.11"]);
    for ((node, pod), own) in pods.iter().zip(&addresses) {
        for address in addresses.iter().filter(|address| *address != own) {
            node.pings(pod, "net1", address);
        }
    }
    let held: Vec<_> = pods
        .iter()
        .zip(&addresses)
        .map(|((node, pod), address)| row(address, &pod.name, "net1", &node.name))
        .collect();
    assert_eq!(rig.held("macvlan-conf"), held);

    for (node, pod) in &pods {
        node.check(pod).succeeded();
    }
    let (node, pod) = &pods[1];
    node.stop(pod).succeeded();
    assert_eq!(rig.held("macvlan-conf"), [held[0].clone(), held[2].clone()]);
    // Runtimes repeat a DEL, and the Pod may be gone from the API by then.
    rig.cluster.text(&[
        "delete",
        "pod",
        &pods[0].1.name,
        "--wait=false",
        "--grace-period=0",
        "--force",
    ]);
    for _ in 0..2 {
        one.stop(&pods[0].1).succeeded();
    }
    two.stop(&pods[2].1).succeeded();
    assert_eq!(rig.held("macvlan-conf"), [[""; 4]; 0]);
}

#[test]
fn a_pod_with_two_interfaces_has_two_addresses() {
    let Some(rig) = rig() else { return };
    rig.network("twice", r#""ipam": {"type": "hereabouts", "allocation_order": "lowest", "range": "192.168.40.0/24"}"#);
    rig.network("other", r#""ipam": {"type": "hereabouts", "allocation_order": "lowest", "range": "192.168.41.0/24"}"#);
    let node = rig.node("twice-1");
    // The same network twice, and another one under an interface name that the pod gives.
    let pod = rig.pod("twice-a", "twice,twice,default/other@data0");
    node.start(&pod);
    let expected = [
        status("twice", "net1", &["192.168.40.1"]),
        status("twice", "net2", &["192.168.40.2"]),
        status("other", "data0", &["192.168.41.1"]),
    ];
    assert_eq!(status_of(rig, &pod), expected);
    let held = [
        row("192.168.40.1", "twice-a", "net1", "twice-1"),
        row("192.168.40.2", "twice-a", "net2", "twice-1"),
    ];
    assert_eq!(rig.held("twice"), held);
    node.stop(&pod).succeeded();
    for network in ["twice", "other"] {
        assert_eq!(rig.held(network), [[""; 4]; 0], "{network}");
    }
}

#[test]
fn a_pod_that_cannot_have_both_networks_keeps_no_address() {
    let Some(rig) = rig() else { return };
    for (name, range) in [("room", "192.168.47.0/24"), ("single", "192.168.48.1/32")] {
        rig.network(name, &format!(r#""ipam": {{"type": "hereabouts", "range": "{range}"}}"#));
    }
    let node = rig.node("both-1");
    let (first, second) = (rig.pod("both-a", "single"), rig.pod("both-b", "room,single"));
    node.start(&first);
    let refused = node.try_start(&second);
    assert!(refused.status == Some(1) && refused.stdout.contains("no free address"), "{refused:?}");
    assert_eq!(rig.held("room"), [[""; 4]; 0]);
    assert_eq!(rig.held("single"), [row("192.168.48.1", "both-a", "net1", "both-1")]);
    node.stop(&second).succeeded();
    node.stop(&first).succeeded();
}

#[test]
fn a_dual_stack_pod_is_reached_by_both() {
    let Some(rig) = rig() else { return };
    let keys = r#""ipam": {"type": "hereabouts", "allocation_order": "lowest", "ipRanges": [{"range": "192.168.42.0/24"}, {"range": "fd00:42::/64"}]}"#;
    rig.network("dual", keys);
    let (one, two) = (rig.node("dual-1"), rig.node("dual-2"));
    let (a, b) = (rig.pod("dual-a", "dual"), rig.pod("dual-b", "dual"));
    one.start(&a);
    two.start(&b);
    assert_eq!(status_of(rig, &a), [status("dual", "net1", &["192.168.42.1", "fd00:42::1"])]);
    assert_eq!(status_of(rig, &b), [status("dual", "net1", &["192.168.42.2", "fd00:42::2"])]);
    for address in ["192.168.42.2", "fd00:42::2"] {
        one.pings(&a, "net1", address);
    }
    one.stop(&a).succeeded();
    assert_eq!(
        rig.held("dual"),
        [
            row("192.168.42.2", "dual-b", "net1", "dual-2"),
            row("fd00:42::2", "dual-b", "net1", "dual-2")
        ]
    );
    two.stop(&b).succeeded();
}

#[test]
fn a_pod_asks_for_its_address_in_the_annotation() {
    let Some(rig) = rig() else { return };
    rig.network(
        "asked",
        r#""capabilities": {"ips": true}, "ipam": {"type": "hereabouts", "allocation_order": "lowest", "range": "192.168.43.0/24"}"#,
    );
    let node = rig.node("asked-1");
    let wish = r#"[{"name": "asked", "ips": ["192.168.43.77/24"]}]"#;
    let (first, second) = (rig.pod("asked-a", wish), rig.pod("asked-b", wish));
    node.start(&first);
    assert_eq!(status_of(rig, &first), [status("asked", "net1", &["192.168.43.77"])]);

    // The second pod's error names the holder, and nothing of the pod stays.
    let refused = node.try_start(&second);
    assert_ne!(refused.status, Some(0), "{refused:?}");
    assert!(refused.stdout.contains("is held by pod default/asked-a"), "{refused:?}");
    assert!(
        node.hereabouts(&["show", "192.168.43.77"]).succeeded().stdout.contains("default/asked-a")
    );
    assert_eq!(rig.held("asked"), [row("192.168.43.77", "asked-a", "net1", "asked-1")]);

    // When it is tried again, as a kubelet does, it has the address after the first one is gone.
    node.stop(&first).succeeded();
    node.stop(&second).succeeded();
    let second = second.again();
    node.start(&second);
    assert_eq!(status_of(rig, &second), [status("asked", "net1", &["192.168.43.77"])]);
    node.stop(&second).succeeded();
}

#[test]
fn what_a_dead_node_held_is_seen_and_released() {
    let Some(rig) = rig() else { return };
    rig.network("dead", r#""ipam": {"type": "hereabouts", "allocation_order": "lowest", "range": "192.168.44.0/30"}"#);
    let (lives, dies) = (rig.node("dead-1"), rig.node("dead-2"));
    let pods = ["dead-a", "dead-b"].map(|name| rig.pod(name, "dead"));
    dies.start(&pods[0]);
    dies.start(&pods[1]);
    drop(dies.dies());

    // The range is full of addresses that no pod uses any more: the error names the holders.
    let waiting = rig.pod("dead-c", "dead");
    let refused = lives.try_start(&waiting);
    assert_ne!(refused.status, Some(0), "{refused:?}");
    lives.stop(&waiting).succeeded();
    let held = [
        row("192.168.44.1", "dead-a", "net1", "dead-2"),
        row("192.168.44.2", "dead-b", "net1", "dead-2"),
    ];
    assert_eq!(rig.held("dead"), held);

    // A node's token frees nothing of another node; an administrator's does.
    let refused = lives.hereabouts(&["release", "--node", "dead-2", "--yes"]);
    assert!(
        refused.status == Some(1) && refused.stderr.contains("with an administrator's kubeconfig"),
        "{refused:?}"
    );
    assert_eq!(rig.held("dead"), held);
    let administrator = rig.cluster.kubeconfig().display().to_string();
    lives
        .hereabouts(&["release", "--node", "dead-2", "--yes", "--kubeconfig", &administrator])
        .succeeded();
    assert_eq!(rig.held("dead"), [[""; 4]; 0]);
    // A full range is believed for some seconds, and a kubelet keeps trying.
    let waiting = lives.start_in_the_end(&waiting);
    assert_eq!(status_of(rig, &waiting), [status("dead", "net1", &["192.168.44.1"])]);
    lives.stop(&waiting).succeeded();
}

#[test]
fn after_a_reboot_a_pod_has_its_address_again() {
    let Some(rig) = rig() else { return };
    rig.network("boot", r#""ipam": {"type": "hereabouts", "allocation_order": "lowest", "range": "192.168.45.0/24"}"#);
    let (other, node) = (rig.node("boot-1"), rig.node("boot-2"));
    let (neighbor, pod, gone) =
        (rig.pod("boot-a", "boot"), rig.pod("boot-b", "boot"), rig.pod("boot-c", "boot"));
    node.run(&["sh", "-c", &tmpfs_of_a_high_device("/run/netns")]).succeeded();
    other.start(&neighbor);
    node.start(&pod);
    node.start(&gone);
    let node = node.dies().boots();

    // The kubelet finds no sandbox and creates another one for the same Pod.
    let again = pod.again();
    node.start(&again);
    assert_eq!(status_of(rig, &again), [status("boot", "net1", &["192.168.45.2"])]);
    node.pings(&again, "net1", "192.168.45.1");
    // The runtime removes what it remembers, which no longer belongs to the Pod.
    node.stop(&pod).succeeded();
    let held = |pods: &[(&str, &str, &str)]| {
        pods.iter().map(|(a, pod, node)| row(a, pod, "net1", node)).collect::<Vec<_>>()
    };
    let both = [("192.168.45.1", "boot-a", "boot-1"), ("192.168.45.2", "boot-b", "boot-2")];
    assert_eq!(rig.held("boot"), held(&[both[0], both[1], ("192.168.45.3", "boot-c", "boot-2")]));
    // A sandbox whose DEL never comes is swept, on its own node only.
    other.hereabouts(&["sweep", "--yes"]).succeeded();
    assert_eq!(rig.held("boot").len(), 3);
    node.hereabouts(&["sweep", "--yes"]).succeeded();
    assert_eq!(rig.held("boot"), held(&both));

    node.stop(&again).succeeded();
    other.stop(&neighbor).succeeded();
    assert_eq!(rig.held("boot"), [[""; 4]; 0]);
}

/// Without `retryDeleteOnError`, Multus forgets the pod with its first DEL, and answers the next
/// one with success without calling any plugin. If no debt can be noted, a DEL without the API
/// server fails.
#[test]
fn a_del_that_could_not_be_done_is_done_when_it_is_repeated() {
    let Some(rig) = rig() else { return };
    rig.network(
        "cut",
        r#""ipam": {"type": "hereabouts", "range": "192.168.46.0/24", "deadlines": {"del": "1s"}}"#,
    );
    for (name, keeps) in [("cut-1", true), ("cut-2", false)] {
        let mut node = rig.node(name);
        node.multus_keeps = keeps;
        let pod = rig.pod(&format!("{name}-a"), "cut");
        node.start(&pod);
        rig.cluster.text(&["delete", "pod", &pod.name, "--grace-period=0", "--force"]);
        node.run(&[
            "sh",
            "-c",
            "mkdir -p /run/hereabouts/debts && mount -t tmpfs -o ro none /run/hereabouts/debts",
        ])
        .succeeded();
        node.plugged(false);
        let failed = node.stop(&pod);
        assert!(
            failed.status == Some(1) && failed.stdout.contains("did not serve the request"),
            "{failed:?}"
        );
        assert!(failed.stdout.contains("this node cannot note a debt for the DEL"), "{failed:?}");
        node.plugged(true);
        node.stop(&pod).succeeded();
        let left = rig.held("cut");
        assert_eq!(left.is_empty(), keeps, "{left:?}");
        // The remaining record is found because its sandbox is gone.
        node.hereabouts(&["sweep", "--yes"]).succeeded();
        assert_eq!(rig.held("cut"), [[""; 4]; 0]);
    }
}

/// Kubelet creates no new sandbox until the DEL of the dead one has succeeded, and Multus repeats
/// no DEL of a pod that was force-deleted. So a DEL without the API server succeeds, and its node
/// frees the address as soon as the server is back.
#[test]
fn what_a_del_without_the_api_server_left_is_freed_without_a_further_call() {
    let Some(rig) = rig() else { return };
    rig.network(
        "owed",
        r#""ipam": {"type": "hereabouts", "range": "192.168.49.0/24", "deadlines": {"del": "1s"}}"#,
    );
    let mut node = rig.node("owed-1");
    node.multus_keeps = false;
    let _daemon = node.daemon();
    let pods = [1, 2].map(|number| rig.pod(&format!("owed-{number}"), "owed"));
    pods.iter().for_each(|pod| node.start(pod));
    rig.cluster.text(&["delete", "pod", &pods[0].name, "--grace-period=0", "--force"]);
    node.plugged(false);
    node.stop(&pods[0]).succeeded();
    let owed = node.hereabouts(&["list", "--debts", "-o", "json"]).succeeded().document();
    assert_eq!((owed.as_array().unwrap().len(), &owed[0]["answered"]), (1, &"success".into()));
    let is_held = || rig.held("owed").iter().any(|[_, pod, ..]| *pod == pods[0].name);
    assert!(is_held());
    node.plugged(true);
    // Within 10 s, and later on a busy machine.
    let deadline = Deadline::after(Duration::from_secs(60));
    let freed = until_paced(&deadline, Pace::SERVER, || {
        Ok::<_, ()>(if is_held() { Attempt::Again(Duration::ZERO) } else { Attempt::Done(()) })
    });
    assert_eq!(freed, Ok(Some(())), "{:?}", rig.held("owed"));
    println!("freed after {:.1?}", Duration::from_secs(60) - deadline.left());
    assert_eq!(rig.held("owed").len(), 1);
    node.stop(&pods[1]).succeeded();
    assert_eq!(rig.held("owed"), [[""; 4]; 0]);
}
