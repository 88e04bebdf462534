//! Reservations: fixed addresses for certain pods, together with dynamic ones.

use crate::support::living::Living;
use crate::support::sandbox::{Ended, Sandbox, configuration};

const RANGE: &str = r#""range":"10.0.0.0/24","gateway":"10.0.0.1""#;

/// A network that reserves addresses for a pod and for a StatefulSet, and keeps some for callers
/// that ask.
fn network(more: &str) -> String {
    format!(
        r#"{RANGE},"reservations":[{{"default/db":"10.0.0.2"}},{{"statefulSet":"default/web","addresses":"10.0.0.3-10.0.0.5"}}],"reserved":["10.0.0.6","10.0.0.7-10.0.0.8"]{more}"#
    )
}

/// Makes an ADD of a pod (`name/uid`, or "" for none), with additional `CNI_ARGS`.
fn add(sandbox: &Sandbox, container: &str, pod: &str, args: &str, ipam: &str) -> Ended {
    in_namespace(sandbox, container, pod, args, ipam, "/run/netns/none")
}

fn in_namespace(
    sandbox: &Sandbox,
    container: &str,
    pod: &str,
    args: &str,
    ipam: &str,
    netns: &str,
) -> Ended {
    let pod = pod.split_once('/').map_or_else(String::new, |(name, uid)| {
        format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID={uid};")
    });
    let mut call = sandbox.call("ADD");
    call.set("CNI_CONTAINERID", container).set("CNI_NETNS", netns);
    call.set("CNI_ARGS", format!("{pod}{args}IgnoreUnknown=1"));
    call.stdin(configuration(ipam)).run()
}

#[test]
fn a_reserved_address_is_given_to_its_pod_and_never_dynamically() {
    let sandbox = Sandbox::new();
    let ipam = network("");
    assert_eq!(add(&sandbox, "c1", "other/u1", "", &ipam).addresses(), ["10.0.0.9"]);
    assert_eq!(add(&sandbox, "c2", "", "", &ipam).addresses(), ["10.0.0.10"]);
    for (container, pod, address) in [
        ("c3", "db/u3", "10.0.0.2"),
        ("c4", "web-0/u4", "10.0.0.3"),
        ("c5", "web-2/u5", "10.0.0.5"),
        ("c6", "web-3/u6", "10.0.0.11"),
        ("c7", "db-0/u7", "10.0.0.12"),
    ] {
        assert_eq!(add(&sandbox, container, pod, "", &ipam).addresses(), [address], "{pod}");
    }
    let listed = sandbox.list();
    let of_db = listed.iter().find(|held| held["address"] == "10.0.0.2").unwrap();
    assert_eq!(of_db["source"], "static");
}

#[test]
fn a_pod_gets_its_reserved_address_whatever_it_asks_for_and_after_every_restart() {
    let sandbox = Sandbox::new();
    let ipam = network("");
    for (n, args) in ["", "IP=10.0.0.50;", "IP=10.0.0.3;", "IP=10.0.0.1;"].iter().enumerate() {
        let container = format!("c{n}");
        let ended = add(&sandbox, &container, &format!("db/u{n}"), args, &ipam);
        assert_eq!(ended.addresses(), ["10.0.0.2"], "{args}");
        if n % 2 == 0 {
            sandbox.del(&container, &ipam).succeeded();
        }
    }
}

#[test]
fn what_is_kept_for_callers_that_ask_is_given_to_them() {
    let sandbox = Sandbox::new();
    // The range is elsewhere in the subnet.
    let ipam = network(r#","range_start":"10.0.0.100""#);
    let asks = |container: &str, pod: &str, address: &str| {
        add(&sandbox, container, pod, &format!("IP={address};"), &ipam)
    };
    assert_eq!(asks("c1", "x/u1", "10.0.0.7").addresses(), ["10.0.0.7"]);
    assert_eq!(asks("c2", "", "10.0.0.6").addresses(), ["10.0.0.6"]);
    let other = asks("c3", "x/u3", "10.0.0.2");
    assert_eq!(other.code(), 101);
    assert!(other.details().contains("10.0.0.2 is reserved for pod default/db"), "{other:?}");
    assert_eq!(asks("c4", "x/u4", "10.0.0.50").code(), 101, "outside the range");
    assert_eq!(add(&sandbox, "c5", "x/u5", "", &ipam).addresses(), ["10.0.0.100"]);
    assert_eq!(add(&sandbox, "c6", "web-1/u6", "", &ipam).addresses(), ["10.0.0.4"]);
}

#[test]
fn both_families_are_reserved_and_the_other_sets_stay_dynamic() {
    let sandbox = Sandbox::new();
    let ipam = r#""ipRanges":[{"range":"10.0.0.0/24"},{"range":"2001:db8::/64"}],"reservations":{"default/a":["10.0.0.9","2001:db8::9"],"default/b":"2001:db8::1"}"#;
    assert_eq!(add(&sandbox, "c1", "a/u1", "", ipam).addresses(), ["10.0.0.9", "2001:db8::9"]);
    assert_eq!(add(&sandbox, "c2", "b/u2", "", ipam).addresses(), ["10.0.0.1", "2001:db8::1"]);
    assert_eq!(add(&sandbox, "c3", "c/u3", "", ipam).addresses(), ["10.0.0.2", "2001:db8::2"]);
}

/// With two ranges in one subnet, it replaces the address of the range that contains it.
#[test]
fn a_reservation_belongs_to_the_range_that_contains_it() {
    let sandbox = Sandbox::new();
    let ipam = r#""ipRanges":[{"range":"10.0.0.10-10.0.0.20/24"},{"range":"10.0.0.30-10.0.0.40/24"}],"reservations":{"default/a":"10.0.0.35","default/b":"10.0.0.5"}"#;
    assert_eq!(add(&sandbox, "c1", "a/u1", "", ipam).addresses(), ["10.0.0.10", "10.0.0.35"]);
    assert_eq!(add(&sandbox, "c2", "b/u2", "", ipam).addresses(), ["10.0.0.5", "10.0.0.30"]);
}

#[test]
fn a_holder_that_lives_keeps_the_address_and_is_named() {
    let sandbox = Sandbox::new();
    let Some(living) = Living::new() else {
        return skipped!("needs root");
    };
    let (ipam, netns) = (network(""), living.path());
    // Before it was reserved.
    in_namespace(&sandbox, "c1", "old/u1", "", RANGE, &netns).succeeded();
    let refused = in_namespace(&sandbox, "c2", "db/u2", "", &ipam, &netns);
    assert_eq!(refused.code(), 101);
    for words in ["reserved address 10.0.0.2 is held by", "pod default/old", "node n1", "c1"] {
        assert!(refused.details().contains(words), "{words}: {refused:?}");
    }
    // A repeat of the holder is answered, although the address is now reserved for another pod.
    let again = in_namespace(&sandbox, "c1", "old/u1", "", &ipam, &netns);
    assert_eq!(again.addresses(), ["10.0.0.2"]);
    // Its sandbox has ended: the address need not wait for a DEL.
    drop(living);
    assert_eq!(add(&sandbox, "c2", "db/u2", "", &ipam).addresses(), ["10.0.0.2"]);
    assert_eq!(sandbox.command(&["verify"]).status, Some(0));
}

#[test]
fn on_another_node_it_is_given_once_the_first_is_released() {
    let sandbox = Sandbox::new();
    let ipam = network("");
    add(&sandbox, "c1", "web-0/u1", "", &ipam).succeeded();
    sandbox.become_another_machine("n1", "n2");
    let refused = add(&sandbox, "c2", "web-0/u2", "", &ipam);
    assert_eq!(refused.code(), 101);
    assert!(refused.details().contains("hereabouts release --node n1"), "{refused:?}");
    sandbox.command(&["release", "--node", "n1", "--yes"]).succeeded();
    assert_eq!(add(&sandbox, "c2", "web-0/u2", "", &ipam).addresses(), ["10.0.0.3"]);
}

#[test]
fn a_second_interface_of_the_pod_gets_a_dynamic_address() {
    let sandbox = Sandbox::new();
    let ipam = network("");
    let interface = |name: &str| of_interface(&sandbox, name, "", &ipam);
    assert_eq!(interface("net1").addresses(), ["10.0.0.2"]);
    assert_eq!(interface("net2").addresses(), ["10.0.0.9"]);
    assert_eq!(interface("net1").addresses(), ["10.0.0.2"]);
}

/// Makes an ADD of an interface of the pod default/db.
fn of_interface(sandbox: &Sandbox, name: &str, args: &str, ipam: &str) -> Ended {
    let mut call = sandbox.call("ADD");
    call.set("CNI_CONTAINERID", "c1").set("CNI_IFNAME", name);
    call.set("CNI_ARGS", format!("K8S_POD_NAMESPACE=default;{args}K8S_POD_NAME=db;K8S_POD_UID=u1"));
    call.stdin(configuration(ipam)).run()
}

#[test]
fn a_reservation_may_name_the_interface() {
    let named = r#"{"pod":"default/db","interface":"net2","address":"10.0.0.2"}"#;
    let of_set = r#"{"statefulSet":"default/web","interface":"net1","addresses":"10.0.0.4/31"}"#;
    for (entries, net1) in [
        (format!("{named},{of_set}"), "10.0.0.3"),
        (format!("{named},{of_set},{{\"default/db\":\"10.0.0.9\"}}"), "10.0.0.9"),
    ] {
        let sandbox = Sandbox::new();
        let ipam = format!(r#"{RANGE},"reservations":[{entries}]"#);
        let refused = of_interface(&sandbox, "net1", "IP=10.0.0.2;", &ipam);
        if net1 == "10.0.0.3" {
            assert_eq!(refused.code(), 101);
            let words = "10.0.0.2 is reserved for interface net2 of pod default/db";
            assert!(refused.details().contains(words), "{refused:?}");
        }
        assert_eq!(of_interface(&sandbox, "net1", "", &ipam).addresses(), [net1]);
        assert_eq!(of_interface(&sandbox, "net2", "", &ipam).addresses(), ["10.0.0.2"]);
    }
}

#[test]
fn what_cannot_be_reserved_is_a_mistake_of_add_and_of_no_other_call() {
    let sandbox = Sandbox::new();
    for (reservations, words) in [
        (r#"{"default/a":"10.0.1.9"}"#, "subnets can give"),
        (r#"{"default/a":"10.0.0.255"}"#, "subnets can give"),
        (r#"{"default/a":"10.0.0.1"}"#, "neither excluded nor a gateway"),
        (r#"{"default/a":"10.0.0.9","default/b":"10.0.0.9"}"#, "reserved for pod default/a and"),
        (r#"{"a":"10.0.0.9"}"#, "expected NAMESPACE/NAME"),
        (r#"{"default/a":[]}"#, "at least one address"),
        (r#"{"default/a":"10.0.0.9-10.0.0.10"}"#, "expected an IPv4 or IPv6 address"),
        (r#"{"statefulSet":"default/web"}"#, "the key addresses"),
        (r#"{"statefulSet":"default/web","addresses":"10.0.0.9-10.0.0.3"}"#, "not above the last"),
        (r#"["default/a"]"#, "NAMESPACE/POD"),
        (
            r#"{"pod":"default/a","address":"10.0.0.9","interface":"net 1"}"#,
            "expected the name of an interface",
        ),
        (r#""x""#, "NAMESPACE/POD"),
    ] {
        let ipam = format!(r#"{RANGE},"reservations":{reservations}"#);
        let ended = add(&sandbox, "c1", "a/u1", "", &ipam);
        assert_eq!(ended.code(), 7, "{reservations}");
        assert!(ended.details().contains(words), "{reservations}: {ended:?}");
        sandbox.del("c1", &ipam).succeeded();
    }
    let mistyped = r#"{"pod":"default/a","address":"10.0.0.9","interfaces":"net1"}"#;
    let ended = add(&sandbox, "c1", "a/u1", "", &format!(r#"{RANGE},"reservations":{mistyped}"#));
    assert_eq!(ended.code(), 2);
    assert!(ended.details().contains("ipam.reservations.interfaces"), "{ended:?}");
}

#[test]
fn usage_counts_what_is_reserved() {
    let sandbox = Sandbox::new();
    let ipam = network("");
    add(&sandbox, "c1", "db/u1", "", &ipam).succeeded();
    add(&sandbox, "c2", "x/u2", "", &ipam).succeeded();
    let file = sandbox.write("net.json", &configuration(&ipam));
    let usage = sandbox.command(&["usage", file.to_str().unwrap(), "-o", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&usage.succeeded().stdout).unwrap();
    let count = |key: &str| rows[0][key].as_u64().unwrap();
    assert_eq!(
        ["held", "free", "reserved", "excluded", "total"].map(count),
        [2, 245, 7, 1, 254],
        "one of the held ones is reserved"
    );
}

#[test]
fn show_says_for_whom_a_network_reserves_the_address() {
    let sandbox = Sandbox::new();
    let ipam = network("");
    add(&sandbox, "c1", "db/u1", "", &ipam).succeeded();
    add(&sandbox, "c2", "x/u2", "", &ipam).succeeded();
    let file = sandbox.write("net.json", &configuration(&ipam));
    let show = |address: &str, more: &[&str]| {
        let args = [&["show", address, "--network", file.to_str().unwrap()], more].concat();
        sandbox.command(&args)
    };
    let last_line = |address: &str| {
        show(address, &[]).succeeded().stdout.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(last_line("10.0.0.2"), "Reserved:  for pod default/db, by network net1");
    assert_eq!(last_line("10.0.0.9"), "Source:    dynamic", "not reserved");
    let document: serde_json::Value =
        serde_json::from_str(&show("10.0.0.2", &["-o", "json"]).succeeded().stdout).unwrap();
    assert_eq!(document[0]["reservedFor"][0]["owner"], "pod default/db");

    let not_held = |address: &str| show(address, &[]).stderr;
    assert!(not_held("10.0.0.4").contains(
        "not held: 10.0.0.4; it is reserved for StatefulSet default/web, by network net1"
    ),);
    assert!(not_held("10.0.0.7").contains("reserved for callers that ask for it, by network net1"));
    assert!(!not_held("10.0.0.20").contains("reserved"));
}
