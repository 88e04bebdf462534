//! `config check`: pools, networks that name them, and what several of them have in common.

use super::check;
use crate::support::sandbox::{Sandbox, configuration};
use expect_test::{Expect, expect};

/// Returns the document of a pool.
fn pool(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: hereabouts.dev/v1alpha1\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// Returns a network whose main plugin causes no notes.
fn network(name: &str, ipam: &str) -> String {
    format!(
        r#"{{"cniVersion":"1.0.0","name":"{name}","type":"bridge","capabilities":{{"ips":true}},"ipam":{{"type":"hereabouts",{ipam}}}}}"#
    )
}

/// Checks files, in the order of their names, and returns the output without the stores.
fn said(sandbox: &Sandbox, files: &[(&str, &str)], expected: &Expect) {
    let directory = sandbox.path("checked");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    for (name, text) in files {
        std::fs::write(directory.join(name), text).unwrap();
    }
    let ended = check(sandbox, &[directory.to_str().unwrap()]);
    let lines = ended.stdout.lines().filter(|line| !line.starts_with("  store: "));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let text = format!("{text}exit {}\n", ended.status.unwrap());
    expected.assert_eq(&text.replace(sandbox.root.to_str().unwrap(), "/S"));
}

const BLUE: &str = "{scope: wire, subnets: [{subnet: 10.1.2.0/24, gateway: 10.1.2.1}]}";

#[test]
fn a_network_is_checked_as_the_pool_of_another_file_serves_it() {
    let sandbox = Sandbox::new();
    let files = [
        ("a.json", &network("net1", r#""pool":"blue","routes":[{"dst":"0.0.0.0/0"}]"#)[..]),
        ("b.yaml", &pool("blue", BLUE)),
    ];
    said(
        &sandbox,
        &files,
        &expect![[r#"
            network net1 (/S/checked/a.json)
              pool: blue (/S/checked/b.yaml)
                scope: wire
                one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (253 addresses, gateway 10.1.2.1)
                route: 0.0.0.0/0
            pool blue (/S/checked/b.yaml)
              scope: wire
              one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (253 addresses, gateway 10.1.2.1)
              in total: 1 subnet, 253 addresses that can be given, 0 reservations
            exit 0
        "#]],
    );
}

/// The notes and mistakes of a network with ranges, and the same with a pool.
#[test]
fn what_is_wrong_with_a_network_and_its_pool_together_is_named() {
    let sandbox = Sandbox::new();
    let blue = pool(
        "blue",
        "{subnets: [{subnet: 10.1.2.0/30, gateway: 10.1.3.1, addresses: [10.1.2.1-10.1.2.1, 10.1.2.2], exclude: [10.1.9.0/24]}, {subnet: 'fd00::/126', exclude: ['fd00::/126']}]}",
    );
    let ipam = r#""pool":"blue","addresses":[{"address":"10.1.2.2/30"}],"reservations":{"default/x":"10.7.0.1"}"#;
    let ptp = network("net1", ipam).replace("bridge", "ptp");
    said(
        &sandbox,
        &[("a.json", &ptp), ("b.yaml", &blue)],
        &expect![[r#"
            network net1 (/S/checked/a.json)
              mistake: pool blue: ipam.reservations: expected addresses that the network's subnets can give, found 10.7.0.1-10.7.0.1
            pool blue (/S/checked/b.yaml)
              scope: (unnamed)
              one address from: 10.1.2.1-10.1.2.2 in 10.1.2.0/30 (2 addresses, gateway 10.1.3.1)
              one address from: fd00::1-fd00::2 in fd00::/126 (0 addresses, no gateway)
              in total: 2 subnets, 2 addresses that can be given, 0 reservations
              note: gateway 10.1.3.1 is outside of 10.1.2.0/30: a pod reaches it only over a route that leads to it
              note: exclude is outside every range: 10.1.9.0-10.1.9.255
              mistake: pool blue: expected an address that may be given out, but all are excluded or gateways: fd00::1-fd00::2
            exit 1
        "#]],
    );
    let ptp = ptp.replace("10.7.0.1", "10.1.2.1");
    said(
        &sandbox,
        &[("a.json", &ptp), ("b.yaml", &blue)],
        &expect![[r#"
            network net1 (/S/checked/a.json)
              pool: blue (/S/checked/b.yaml)
                scope: (unnamed)
                one address from: 10.1.2.1-10.1.2.2 in 10.1.2.0/30 (0 addresses, gateway 10.1.3.1)
                one address from: fd00::1-fd00::2 in fd00::/126 (0 addresses, no gateway)
                static address: 10.1.2.2/30
                reserved: 10.1.2.1 for pod default/x
              note: gateway 10.1.3.1 is outside of 10.1.2.0/30: a pod reaches it only over a route that leads to it
              note: exclude is outside every range: 10.1.9.0-10.1.9.255
              note: ptp needs a gateway for each address: fd00::/126, 10.1.2.2/30 has none; ADD is refused (7) before an address is given (plugins v1.9.1)
              mistake: pool blue: expected an address that may be given out, but all are excluded or gateways: 10.1.2.1-10.1.2.2
              mistake: pool blue: expected an address that may be given out, but all are excluded or gateways: fd00::1-fd00::2
              mistake: pool blue: ipam: expected a gateway for each address, because the main plugin ptp needs it, found none
                hint: set gateway in the range, or in addresses
            pool blue (/S/checked/b.yaml)
              scope: (unnamed)
              one address from: 10.1.2.1-10.1.2.2 in 10.1.2.0/30 (2 addresses, gateway 10.1.3.1)
              one address from: fd00::1-fd00::2 in fd00::/126 (0 addresses, no gateway)
              in total: 2 subnets, 2 addresses that can be given, 0 reservations
              note: gateway 10.1.3.1 is outside of 10.1.2.0/30: a pod reaches it only over a route that leads to it
              note: exclude is outside every range: 10.1.9.0-10.1.9.255
              mistake: pool blue: expected an address that may be given out, but all are excluded or gateways: fd00::1-fd00::2
            exit 1
        "#]],
    );
}

#[test]
fn a_pool_that_is_not_there_is_not_a_mistake_and_the_note_says_what_to_do() {
    let sandbox = Sandbox::new();
    let files = [("a.json", &network("net1", r#""pool":"blue""#)[..])];
    said(
        &sandbox,
        &files,
        &expect![[r#"
            network net1 (/S/checked/a.json)
              note: pool blue was not checked, because this machine does not have it (looked for /S/pools/blue.yaml and /S/store/pools/blue.yaml): check the file of the pool together with this one
            exit 0
        "#]],
    );
    std::fs::create_dir(sandbox.path("pools")).unwrap();
    sandbox.write("pools/blue.yaml", &pool("blue", BLUE));
    said(
        &sandbox,
        &files,
        &expect![[r#"
            network net1 (/S/checked/a.json)
              pool: blue (/S/pools/blue.yaml)
                scope: wire
                one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (253 addresses, gateway 10.1.2.1)
            exit 0
        "#]],
    );
    // As the plugin would answer.
    sandbox.write("pools/blue.yaml", &pool("red", BLUE));
    said(
        &sandbox,
        &files,
        &expect![[r#"
            network net1 (/S/checked/a.json)
              mistake: /S/pools/blue.yaml: metadata.name: expected the name of the file, blue, found red
            exit 1
        "#]],
    );
    sandbox.set_in_flat(&[
        ("datastore", "kubernetes".into()),
        ("kubernetes", serde_json::json!({"kubeconfig": "/nowhere/kubeconfig"})),
    ]);
    said(
        &sandbox,
        &files,
        &expect![[r#"
            network net1 (/S/checked/a.json)
              note: the kubeconfig cannot be used on this machine: kubernetes.kubeconfig: cannot read /nowhere/kubeconfig, the kubeconfig: it is missing (ENOENT)
              note: pool blue was not checked, because it is in the cluster: pass --kubeconfig FILE
            exit 0
        "#]],
    );
}

#[test]
fn the_mistakes_of_a_pool_have_paths() {
    let sandbox = Sandbox::new();
    let bad = pool("bad", "{subnets: [{subnet: 10.0.0.0/33, gateway: x}], x: 1, scope: 7}");
    let none = pool("none", "{subnets: [{subnet: 10.0.0.0/30, exclude: [10.0.0.0/30]}]}");
    let route = pool(
        "route",
        "{subnets: [{subnet: 10.0.0.0/30, gateway: 10.9.0.1}], routes: [{dst: 0.0.0.0/0}]}",
    );
    let text = [bad, none, route, pool("Bad", BLUE)].join("---\n");
    said(
        &sandbox,
        &[("a.yaml", &text)],
        &expect![[r#"
            pool bad (/S/checked/a.yaml)
              mistake: spec.x: unknown key, expected one of subnets, ranges, slices, scope, namespaces, nodeSelector, reservations, avoidBuggyAddresses, routes, ipFamilyPolicy, ipFamilies
              mistake: spec.subnets[0].subnet: expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6), found "10.0.0.0/33"
              mistake: spec.scope: expected a string, found 7
            pool none (/S/checked/a.yaml: document 2)
              scope: (unnamed)
              one address from: 10.0.0.1-10.0.0.2 in 10.0.0.0/30 (0 addresses, no gateway)
              in total: 1 subnet, 0 addresses that can be given, 0 reservations
              mistake: pool none: expected an address that may be given out, but all are excluded or gateways: 10.0.0.1-10.0.0.2
            pool route (/S/checked/a.yaml: document 3)
              mistake: spec.routes: expected gw, because gateway 10.9.0.1 is outside every subnet and the route to 0.0.0.0/0 cannot use it
                hint: write a gw that the pod can reach into the route, or leave the gateway out
            pool Bad (/S/checked/a.yaml: document 4)
              mistake: metadata.name: expected at most 253 lower case letters, digits, "-" and ".", with a letter or digit at both ends of each part, found "Bad"
            exit 1
        "#]],
    );
}

#[test]
fn addresses_that_pools_and_networks_share_are_shown() {
    let sandbox = Sandbox::new();
    let blue =
        pool("blue", "{scope: wire, subnets: [{subnet: 10.1.2.0/24}, {subnet: 'fd00::/120'}]}");
    let red = pool(
        "red",
        "{scope: wire, subnets: [{subnet: 10.1.0.0/16, addresses: [10.1.2.9, 10.1.2.200-10.1.3.1]}]}",
    );
    let other =
        pool("other", "{subnets: [{subnet: 10.1.2.128/25, addresses: [10.1.2.128-10.1.2.199]}]}");
    let files = [
        ("a.yaml", &[blue, red, other].join("---\n")[..]),
        ("b.json", &network("net1", r#""pools":["blue","red"]"#)),
        ("c.json", &network("net2", r#""range":"10.1.2.0/29","network_name":"wire""#)),
        ("d.json", &network("net3", r#""range":"10.1.2.0/29","network_name":"other""#)),
        ("e.json", &network("net4", r#""range":"10.9.2.0/29""#)),
    ];
    let directory = sandbox.path("checked");
    said(
        &sandbox,
        &files,
        &expect![[r#"
            pool blue (/S/checked/a.yaml)
              scope: wire
              one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (254 addresses, no gateway)
              one address from: fd00::1-fd00::fe in fd00::/120 (254 addresses, no gateway)
              in total: 2 subnets, 508 addresses that can be given, 0 reservations
            pool red (/S/checked/a.yaml: document 2)
              scope: wire
              one address from: 10.1.2.9-10.1.3.1 in 10.1.0.0/16 (59 addresses, no gateway)
              in total: 1 subnet, 59 addresses that can be given, 0 reservations
            pool other (/S/checked/a.yaml: document 3)
              scope: (unnamed)
              one address from: 10.1.2.129-10.1.2.199 in 10.1.2.128/25 (71 addresses, no gateway)
              in total: 1 subnet, 71 addresses that can be given, 0 reservations
            network net1 (/S/checked/b.json)
              pool: blue (/S/checked/a.yaml)
                scope: wire
                one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (254 addresses, no gateway)
                one address from: fd00::1-fd00::fe in fd00::/120 (254 addresses, no gateway)
              pool: red (/S/checked/a.yaml)
                scope: wire
                one address from: 10.1.2.9-10.1.3.1 in 10.1.0.0/16 (59 addresses, no gateway)
            network net2 (/S/checked/c.json)
              scope: wire
              one address from: 10.1.2.1-10.1.2.6 in 10.1.2.0/29 (6 addresses, no gateway)
            network net3 (/S/checked/d.json)
              scope: other
              one address from: 10.1.2.1-10.1.2.6 in 10.1.2.0/29 (6 addresses, no gateway)
            network net4 (/S/checked/e.json)
              scope: (unnamed)
              one address from: 10.9.2.1-10.9.2.6 in 10.9.2.0/29 (6 addresses, no gateway)
            note: pool blue and pool red both have 10.1.2.9, 10.1.2.200-10.1.2.254: this is safe, because their scope is the same, and an address has one holder in its scope
            note: pool blue (scope wire) and pool other (unnamed scope) both have 10.1.2.129-10.1.2.199: on one wire, two pods could get the same address, because an address is unique only in its scope; set the same scope in both, unless their wires are separate
            note: pool blue and network net2 both have 10.1.2.1-10.1.2.6: this is safe, because their scope is the same, and an address has one holder in its scope
            note: pool blue (scope wire) and network net3 (scope other) both have 10.1.2.1-10.1.2.6: on one wire, two pods could get the same address, because an address is unique only in its scope; set the same scope in both, unless their wires are separate
            exit 0
        "#]],
    );
    let ended = check(&sandbox, &["-o", "json", directory.to_str().unwrap()]);
    let document: serde_json::Value = serde_json::from_str(&ended.succeeded().stdout).unwrap();
    let count = |name: &str| {
        let mut all = document.as_array().unwrap().iter();
        let one = all.find(|one| one["name"] == name).unwrap();
        one["notes"].as_array().unwrap().len()
    };
    let counts = ["blue", "red", "other", "net1", "net2", "net3", "net4"].map(count);
    assert_eq!(counts, [4, 1, 1, 0, 1, 1, 0], "{document:#}");
    assert_eq!(document[0]["pool"]["addresses"], 508);
    assert_eq!(document[3]["pools"][0]["scope"], "wire");
}

/// A reservation binds the networks that contain it, and those that name its pool.
#[test]
fn a_reservation_that_another_network_or_pool_does_not_know_is_named() {
    let sandbox = Sandbox::new();
    let blue = pool(
        "blue",
        "{subnets: [{subnet: 10.1.2.0/24}], reservations: [{pod: default/p, address: 10.1.2.9}]}",
    );
    let red = pool("red", "{subnets: [{subnet: 10.1.0.0/16, addresses: [10.1.2.9]}]}");
    let files = [
        (
            "a.json",
            &network("knows", r#""pool":"blue","reservations":{"default/x":"10.1.2.40"}"#)[..],
        ),
        ("b.json", &network("same", r#""pool":"blue""#)),
        ("c.json", &network("ranges", r#""range":"10.1.2.0/26""#)),
        ("d.yaml", &[blue, red].join("---\n")),
    ];
    said(
        &sandbox,
        &files,
        &expect![[r#"
            network knows (/S/checked/a.json)
              pool: blue (/S/checked/d.yaml)
                scope: (unnamed)
                one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (252 addresses, no gateway)
                reserved: 10.1.2.40 for pod default/x
                reserved: 10.1.2.9 for pod default/p
            network same (/S/checked/b.json)
              pool: blue (/S/checked/d.yaml)
                scope: (unnamed)
                one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (253 addresses, no gateway)
                reserved: 10.1.2.9 for pod default/p
            network ranges (/S/checked/c.json)
              scope: (unnamed)
              one address from: 10.1.2.1-10.1.2.62 in 10.1.2.0/26 (62 addresses, no gateway)
            pool blue (/S/checked/d.yaml)
              scope: (unnamed)
              one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (253 addresses, no gateway)
              reserved: 10.1.2.9 for pod default/p
              in total: 1 subnet, 254 addresses that can be given, 1 reservation
            pool red (/S/checked/d.yaml: document 2)
              scope: (unnamed)
              one address from: 10.1.2.9-10.1.2.9 in 10.1.0.0/16 (1 address, no gateway)
              in total: 1 subnet, 1 address that can be given, 0 reservations
            note: network ranges gives out addresses that others reserve: 10.1.2.40 for pod default/x (network knows), 10.1.2.9 for pod default/p (pool blue); put the reservations into both, or into their pool, or let their ranges not overlap
            note: network same gives out addresses that others reserve: 10.1.2.40 for pod default/x (network knows); put the reservations into both, or into their pool, or let their ranges not overlap
            note: pool red gives out addresses that others reserve: 10.1.2.9 for pod default/p (pool blue); put the reservations into both, or into their pool, or let their ranges not overlap
            note: pool blue and network ranges both have 10.1.2.1-10.1.2.62: this is safe, because their scope is the same, and an address has one holder in its scope
            note: pool blue and pool red both have 10.1.2.9: this is safe, because their scope is the same, and an address has one holder in its scope
            note: network ranges and pool red both have 10.1.2.9: this is safe, because their scope is the same, and an address has one holder in its scope
            exit 0
        "#]],
    );
}

#[test]
fn two_pools_of_one_name_are_noted() {
    let sandbox = Sandbox::new();
    let files = [("a.yaml", &pool("blue", BLUE)[..]), ("b.yaml", &pool("blue", BLUE))];
    said(
        &sandbox,
        &files,
        &expect![[r#"
            pool blue (/S/checked/a.yaml)
              scope: wire
              one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (253 addresses, gateway 10.1.2.1)
              in total: 1 subnet, 253 addresses that can be given, 0 reservations
              note: another pool has the same name, and one of them would replace the other: /S/checked/b.yaml
            pool blue (/S/checked/b.yaml)
              scope: wire
              one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (253 addresses, gateway 10.1.2.1)
              in total: 1 subnet, 253 addresses that can be given, 0 reservations
              note: another pool has the same name, and one of them would replace the other: /S/checked/a.yaml
            exit 0
        "#]],
    );
    // Standard input is read once, although pools are looked for first.
    let mut call = sandbox.command_call(&["config", "check", "-"]);
    let ended = call
        .stdin(format!("{}---\n{}", pool("blue", BLUE), configuration(r#""pool":"blue""#)))
        .run();
    assert!(ended.succeeded().stdout.contains("  pool: blue (stdin)"), "{ended:?}");
}
