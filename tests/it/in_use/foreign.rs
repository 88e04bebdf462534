//! Addresses of other hosts on the wire, where the network asks for a probe.

use super::wire::Host;
use super::{call, verb};
use crate::support::living::Living;
use crate::support::sandbox::{Sandbox, configuration};
use hereabouts::retry::{Deadline, Stopwatch};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

const BOTH: &str = r#""ipRanges":[{"range":"10.0.0.0/24"},{"range":"fd00::/120"}]"#;

/// Returns a whole configuration with a probe of this wait, on the bridge or on macvlan's master.
fn probing(main: &str, ipam: &str, wait: &str) -> String {
    let probe = format!(r#"{ipam},"probe":{{"wait":"{wait}"}}"#);
    configuration(&probe).replace(r#""type":"macvlan""#, main)
}

const BRIDGE: &str = r#""type":"bridge","bridge":"br0""#;
const MACVLAN: &str = r#""type":"macvlan","master":"uplink""#;

/// A node whose bridge and whose macvlan master are connected by two cables to a host that has the
/// first addresses.
struct Scene {
    node: Host,
    foreign: Host,
    sandbox: Sandbox,
}

impl Scene {
    fn new() -> Option<Self> {
        let (node, foreign) = (Host::new()?, Host::new()?);
        node.run("ip link add br0 type bridge && ip link set br0 up");
        node.connect("port0", &foreign, "eth0");
        node.run("ip link set port0 master br0");
        node.connect("uplink", &foreign, "eth1");
        for interface in ["eth0", "eth1"] {
            foreign.run(&format!(
                "ip link set {interface} address 02:00:00:00:00:0{}",
                &interface[3..]
            ));
        }
        Some(Self { node, foreign, sandbox: Sandbox::new() })
    }

    /// Gives the host the first address of each family on one interface.
    fn has_first(&self, interface: &str) {
        self.foreign.run(&format!(
            "ip address add 10.0.0.1/24 dev {interface}; ip address add fd00::1/120 dev {interface} nodad"
        ));
    }

    fn add(&self, container: &str, whole: &str) -> Vec<String> {
        call(&self.node, &self.sandbox, "ADD", container, whole).addresses()
    }

    /// Returns what `list` shows as set aside.
    fn set_aside(&self) -> Vec<Value> {
        let ended = self.sandbox.command(&["list", "--set-aside", "-o", "json"]);
        serde_json::from_str(&ended.succeeded().stdout).unwrap()
    }
}

#[test]
fn an_address_of_another_host_is_set_aside_and_the_next_is_given() {
    for (main, interface, mac) in
        [(BRIDGE, "eth0", "02:00:00:00:00:00"), (MACVLAN, "eth1", "02:00:00:00:00:01")]
    {
        let Some(scene) = Scene::new() else { return };
        scene.has_first(interface);
        let whole = probing(main, BOTH, "400ms");
        assert_eq!(scene.add("c1", &whole), ["10.0.0.2", "fd00::2"], "{main}");
        let aside = scene.set_aside();
        assert_eq!(aside.len(), 2, "{aside:?}");
        for (found, address) in aside.iter().zip(["10.0.0.1", "fd00::1"]) {
            assert_eq!((&found["address"], &found["mac"]), (&address.into(), &mac.into()));
            assert!(found["since"].as_str() < found["until"].as_str(), "{found}");
        }
        let listed = scene.sandbox.command(&["list"]).succeeded().stdout.clone();
        let line = listed.lines().find(|line| line.starts_with("fd00::1 ")).unwrap_or_default();
        assert!(line.contains(&format!("the host {mac}")), "{listed}");
        let file = scene.sandbox.write("net.json", &whole);
        let usage = ["usage", file.to_str().unwrap(), "-o", "json"];
        let rows: Value =
            serde_json::from_str(&scene.sandbox.command(&usage).succeeded().stdout).unwrap();
        assert_eq!((&rows[0]["held"], &rows[0]["free"]), (&1.into(), &252.into()), "{rows}");
        assert_eq!(rows[0]["setAside"], Value::Array(vec![aside[0].clone()]));
        // It stays set aside, also for networks of the scope without a probe.
        scene.foreign.run(&format!("ip link set {interface} down"));
        assert_eq!(verb(&scene.node, &scene.sandbox, "ADD", "c2", BOTH).addresses()[0], "10.0.0.3");
        assert_eq!(scene.sandbox.list().len(), 4);
        scene.sandbox.command(&["verify"]).succeeded();
    }
}

#[test]
fn an_address_of_another_host_that_is_asked_for_is_an_error_that_names_its_mac_address() {
    let Some(scene) = Scene::new() else { return };
    scene.has_first("eth0");
    for address in ["10.0.0.1/24", "fd00::1/120"] {
        let fixed = format!(r#""addresses":[{{"address":"{address}"}}]"#);
        let ended =
            call(&scene.node, &scene.sandbox, "ADD", "c1", &probing(BRIDGE, &fixed, "400ms"));
        assert_eq!(ended.code(), 101, "{ended:?}");
        assert!(ended.details().contains("02:00:00:00:00:00"), "{ended:?}");
    }
    assert!(scene.sandbox.held().is_empty());
    assert!(scene.set_aside().is_empty());
}

/// macvlan on a VLAN's interface: the probe goes out with the VLAN's tag.
#[test]
fn hosts_in_a_vlan_are_heard_and_those_outside_are_not() {
    let Some(scene) = Scene::new() else { return };
    for (host, interface) in [(&scene.node, "uplink"), (&scene.foreign, "eth1")] {
        let add = format!("ip link add link {interface} name {interface}.7 type vlan id 7");
        let [program, args @ ..] = host.inside();
        let made = Command::new(program).args(args).args(["sh", "-c", &add]).output().unwrap();
        if !made.status.success() {
            return skipped!("no VLAN: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        host.run(&format!("ip link set {interface}.7 up"));
    }
    scene.has_first("eth1.7");
    // Linux answers for an address on any interface, unless told otherwise.
    scene.foreign.run("echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore");
    scene.foreign.run("ip address add 10.0.0.2/24 dev eth1");
    let whole = probing(r#""type":"macvlan","master":"uplink.7""#, BOTH, "400ms");
    assert_eq!(scene.add("c1", &whole), ["10.0.0.2", "fd00::2"]);
    assert_eq!(scene.set_aside().len(), 2);
}

#[test]
fn status_does_not_count_what_is_set_aside_as_room() {
    let Some(scene) = Scene::new() else { return };
    scene.has_first("eth0");
    let ipam = r#""range":"10.0.0.1-10.0.0.2/24","status_when_full":"not_ready""#;
    let whole = probing(BRIDGE, ipam, "400ms");
    let status = || call(&scene.node, &scene.sandbox, "STATUS", "", &whole);
    // The store is there from its first ADD on.
    scene.sandbox.add("c0", r#""range":"10.8.0.0/24""#).succeeded();
    status().succeeded();
    assert_eq!(scene.add("c1", &whole), ["10.0.0.2"]);
    assert_eq!(status().code(), 50);
    call(&scene.node, &scene.sandbox, "DEL", "c1", &whole).succeeded();
    status().succeeded();
}

#[test]
fn what_is_set_aside_comes_back_after_its_time() {
    let Some(scene) = Scene::new() else { return };
    scene.has_first("eth0");
    let whole = probing(BRIDGE, r#""range":"10.0.0.0/24""#, "400ms\",\"set_aside\":\"1s");
    assert_eq!(scene.add("c1", &whole), ["10.0.0.2"]);
    scene.foreign.run("ip address flush dev eth0");
    let deadline = Deadline::after(Duration::from_secs(30));
    while !scene.set_aside().is_empty() {
        assert!(!deadline.left().is_zero(), "it stays set aside");
    }
    assert_eq!(scene.add("c2", &whole), ["10.0.0.1"]);
}

/// Adds the address to an interface, as the main plugin does after the answer.
fn plug(scene: &Scene, pods: &Host, main: &str, name: &str, addresses: &[String]) {
    if main == BRIDGE {
        scene.node.connect(name, pods, name);
        scene.node.run(&format!("ip link set {name} master br0"));
    } else {
        let process = pods.process();
        scene.node.run(&format!(
            "ip link add link uplink name {name} netns {process} type macvlan mode bridge"
        ));
    }
    pods.run(&format!("ip link set {name} up"));
    for address in addresses {
        pods.run(&format!("ip address add {address} dev {name}"));
    }
}

/// Makes ADDs of pods that keep their interfaces, repeats each once, and makes some DELs between
/// them.
fn no_false_alarm(main: &str, adds: usize) {
    let (Some(scene), Some(pods)) = (Scene::new(), Host::new()) else { return };
    let ranges = r#""ipRanges":[{"range":"10.0.0.0/20"},{"range":"fd00::/116"}]"#;
    let whole = probing(main, ranges, "20ms");
    for number in 0..adds {
        let name = format!("p{number}");
        let addresses = scene.add(&name, &whole);
        plug(&scene, &pods, main, &name, &addresses);
        assert_eq!(scene.add(&name, &whole), addresses);
        if number % 3 == 2 {
            let gone = format!("p{}", number - 1);
            call(&scene.node, &scene.sandbox, "DEL", &gone, &whole).succeeded();
            pods.run(&format!("ip link delete {gone}"));
        }
    }
    assert_eq!(scene.set_aside(), Vec::<Value>::new());
}

#[test]
fn no_false_alarm_in_100_adds() {
    no_false_alarm(BRIDGE, 50);
    no_false_alarm(MACVLAN, 50);
}

#[test]
#[ignore = "takes minutes"]
fn long_no_false_alarm_in_1000_adds() {
    no_false_alarm(BRIDGE, 500);
    no_false_alarm(MACVLAN, 500);
}

#[test]
fn a_dead_sandboxs_address_moves_to_the_same_pod_although_its_interface_answers() {
    let (Some(scene), Some(old), Some(new)) = (Scene::new(), Living::new(), Living::new()) else {
        return skipped!("needs root");
    };
    let whole = probing(BRIDGE, BOTH, "100ms");
    let add = |container: &str, netns: &str| {
        let mut call = scene.sandbox.call("ADD");
        call.set("CNI_CONTAINERID", container).set("CNI_NETNS", netns).stdin(&whole);
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;K8S_POD_UID=u";
        call.set("CNI_ARGS", args).through(&scene.node.inside()).run().addresses()
    };
    assert_eq!(add("old", &old.path()), ["10.0.0.1", "fd00::1"]);
    scene.has_first("eth0");
    drop(old);
    assert_eq!(add("new", &new.path()), ["10.0.0.1", "fd00::1"]);
}

#[test]
fn while_an_add_waits_only_its_attachment_is_locked() {
    let Some(scene) = Scene::new() else { return };
    let mut slow = scene.sandbox.call("ADD");
    slow.set("CNI_CONTAINERID", "slow").stdin(probing(BRIDGE, BOTH, "4s"));
    let slow = slow
        .through(&scene.node.inside())
        .command()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut slow = slow.unwrap();
    let mut stdin = slow.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, probing(BRIDGE, BOTH, "4s").as_bytes()).unwrap();
    drop(stdin);
    let deadline = Deadline::after(Duration::from_secs(30));
    while scene.sandbox.list().len() < 2 {
        assert!(!deadline.left().is_zero(), "it claims nothing");
    }
    let began = Stopwatch::default();
    let other = verb(&scene.node, &scene.sandbox, "ADD", "other", BOTH);
    assert_eq!(other.addresses(), ["10.0.0.2", "fd00::2"]);
    verb(&scene.node, &scene.sandbox, "DEL", "other", BOTH).succeeded();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(slow.try_wait().unwrap().is_none(), "it has not waited");
    assert!(slow.wait().unwrap().success());
}

#[test]
fn an_add_that_cannot_probe_fails_and_holds_nothing() {
    let Some(scene) = Scene::new() else { return };
    let add = |main: &str, wait: &str| {
        call(&scene.node, &scene.sandbox, "ADD", "c1", &probing(main, BOTH, wait))
    };
    let gone = add(r#""type":"macvlan","master":"gone""#, "50ms");
    assert_eq!((gone.code(), gone.details().contains("gone")), (5, true), "{gone:?}");
    scene.node.run("ip link set uplink down");
    assert_eq!(add(MACVLAN, "50ms").code(), 5);
    assert_eq!(add(r#""type":"ptp""#, "50ms").code(), 7);
    let flat = scene.sandbox.flat("n1").replacen('{', r#"{"deadlines":{"add":"1s"},"#, 1);
    scene.sandbox.write("flat.conf", &flat);
    assert_eq!(add(BRIDGE, "900ms").code(), 11);
    assert!(scene.sandbox.held().is_empty());
}

#[test]
fn without_a_probe_no_packet_socket_is_opened() {
    let Some(scene) = Scene::new() else { return };
    let trace = scene.sandbox.path("trace");
    let strace = ["strace", "-f", "-qq", "-e", "trace=socket", "-o", trace.to_str().unwrap()];
    let sockets = |verb: &str, whole: &str| {
        let mut call = scene.sandbox.call(verb);
        call.stdin(whole).through(&scene.node.inside()).through(&strace).run().succeeded();
        std::fs::read_to_string(&trace).unwrap_or_default()
    };
    let on = sockets("ADD", &probing(BRIDGE, BOTH, "10ms"));
    if on.is_empty() {
        return skipped!("strace is missing or may not trace");
    }
    assert_eq!(on.matches("AF_PACKET").count(), 2, "{on}");
    // Neither a repeated ADD nor a DEL probes.
    let repeated = sockets("ADD", &probing(BRIDGE, BOTH, "10ms"));
    assert!(!repeated.contains("AF_PACKET") && !repeated.contains("AF_NETLINK"), "{repeated}");
    let deleted = sockets("DEL", &probing(BRIDGE, BOTH, "10ms"));
    assert!(!deleted.contains("AF_PACKET") && !deleted.contains("AF_NETLINK"), "{deleted}");
    // The kernel is asked about both addresses over one socket.
    let off = sockets("ADD", &configuration(BOTH));
    assert_eq!(["AF_PACKET", "AF_NETLINK"].map(|kind| off.matches(kind).count()), [0, 1], "{off}");
}
