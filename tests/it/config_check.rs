//! `config check`: what it reads, what it prints, and its exit status.

/// The networks of a cluster.
#[cfg(feature = "kube")]
mod cluster;
/// The same files as read by `kubectl`.
#[cfg(feature = "kube")]
mod kubectl;
/// Pools, and networks that name them.
mod pools;

use crate::support::sandbox::{Ended, Sandbox, configuration};
#[cfg(feature = "kube")]
use crate::support::transcript::assert_file;
use expect_test::{Expect, expect};

const RANGE: &str = r#""range":"10.1.2.0/24","gateway":"10.1.2.1""#;

fn check(sandbox: &Sandbox, arguments: &[&str]) -> Ended {
    sandbox.command(&[&["config", "check"], arguments].concat())
}

/// Returns what is printed about one network, without its store and range, and without notes that
/// are printed once for all networks.
fn said(sandbox: &Sandbox, name: &str, text: &str) -> String {
    let file = sandbox.write(name, text);
    let ended = check(sandbox, &[file.to_str().unwrap()]);
    let lines = ended.stdout.lines().filter_map(|line| {
        let line = line.strip_prefix("  ")?;
        let is_about = ["note: ", "mistake: ", "  hint: ", "not ours"]
            .iter()
            .any(|word| line.starts_with(word));
        is_about.then(|| format!("{}\n", line.replace(sandbox.root.to_str().unwrap(), "/S")))
    });
    lines.collect()
}

/// Checks what is printed about these `ipam` keys of a macvlan network.
fn said_of(ipam: &str, expected: &Expect) {
    let sandbox = Sandbox::new();
    expected.assert_eq(&said(&sandbox, "net.json", &configuration(ipam)));
}

#[test]
fn it_tells_every_mistake_with_its_path() {
    let sandbox = Sandbox::new();
    let ipam = r#""range":"10.0.0.0/33","exclude":["x","10.0.0.0/8"],"routes":[{"dst":"default"},{"gw":"1.2.3.4"}],"gatway":"10.0.0.1","log_level":"loud""#;
    let file = sandbox.write("bad.json", &configuration(ipam));
    let ended = sandbox.command(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(ended.status, Some(1));
    let mistakes: Vec<&str> =
        ended.stdout.lines().filter_map(|line| line.trim().strip_prefix("mistake: ")).collect();
    let paths: Vec<&str> =
        mistakes.iter().map(|mistake| mistake.split(": ").next().unwrap()).collect();
    assert_eq!(
        paths,
        ["ipam.gatway", "ipam.range", "ipam.exclude[0]", "ipam.routes[0].dst", "ipam.routes[1]"],
        "{mistakes:#?}"
    );
}

#[test]
fn it_shows_what_would_be_allocated_from() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("good.json", &configuration(RANGE));
    let ended = sandbox.command(&["config", "check", file.to_str().unwrap()]);
    assert!(
        ended.succeeded().stdout.contains(
            "one address from: 10.1.2.1-10.1.2.254 in 10.1.2.0/24 (253 addresses, gateway 10.1.2.1)"
        ),
        "{}",
        ended.stdout
    );
}

#[test]
fn it_notes_excludes_without_effect() {
    let sandbox = Sandbox::new();
    let notes = |ipam: &str| {
        let file = sandbox.write("net.json", &configuration(ipam));
        let ended = sandbox.command(&["config", "check", file.to_str().unwrap()]);
        let lines =
            ended.succeeded().stdout.lines().filter_map(|line| line.strip_prefix("  note: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let outside = r#""exclude":["10.1.3.0/25","10.1.3.0/25","10.1.2.8/29"]"#;
    assert_eq!(
        notes(&format!(r#""range":"10.1.2.0/24",{outside}"#)),
        ["exclude is outside every range: 10.1.3.0-10.1.3.127"]
    );
    // It belongs to one range, and is inside the other.
    let (one, other) =
        (format!(r#"{{"range":"10.1.2.0/24",{outside}}}"#), r#"{"range":"10.1.3.0/24"}"#);
    assert_eq!(
        notes(&format!(r#""ipRanges":[{one},{other}]"#)),
        ["exclude is outside every range: 10.1.3.0-10.1.3.127"]
    );
    assert!(
        notes(&format!(r#""ipRanges":[{{"range":"10.1.2.0/24"}},{other}],{outside}"#)).is_empty()
    );
    for quiet in [
        r#""range":"10.1.2.0/24","exclude":["10.1.2.0/32","10.1.2.255/32"]"#,
        r#""range":"10.1.2.0/24","gateway":"10.1.2.1","range_start":"10.1.2.9""#,
        r#""range":"fd00::/64","gateway":"fe80::1""#,
    ] {
        assert!(notes(quiet).is_empty(), "{quiet}");
    }
}

#[test]
fn keys_that_nothing_reads_are_named() {
    said_of(
        r#""range":"10.0.0.0/24","range_v6":"fd00::/64","poolName":"x","sleep_for_race":1,"routes":[{"dst":"10.9.0.0/16","via":"10.0.0.1"},{"dst":"10.8.0.0/16","gateway":"10.0.0.1"}]"#,
        &expect![[r#"
            note: ignored: ipam.range_v6 (did you mean "ipRanges"?)
            note: ignored: ipam.poolName
            note: ignored: ipam.routes[0].via (did you mean "gw"?)
            note: ignored: ipam.routes[1].gateway (did you mean "gw"?)
            note: without effect here: ipam.sleep_for_race
        "#]],
    );
}

#[test]
fn words_of_other_programs_for_the_last_address_are_explained() {
    said_of(
        r#""range":"10.0.0.0/24","range_stop":"10.0.0.9""#,
        &expect![[r#"
            note: ignored: ipam.range_stop (did you mean "range_end"?)
        "#]],
    );
}

#[test]
fn gateways_outside_of_the_subnet_are_noted() {
    said_of(
        r#""range":"10.0.2.128/26","gateway":"10.0.2.1""#,
        &expect![[r#"
            note: gateway 10.0.2.1 is outside of 10.0.2.128/26: a pod reaches it only over a route that leads to it
        "#]],
    );
    said_of(r#""range":"fd00::/64","gateway":"fe80::1""#, &expect![[""]]);
    said_of(r#""range":"10.0.2.128/26","gateway":"10.0.2.129""#, &expect![[""]]);
}

#[test]
fn host_bits_are_explained() {
    said_of(
        r#""range":"192.168.100.200/28","exclude":["192.168.100.197/30"]"#,
        &expect![[r#"
        note: ipam.range: 192.168.100.200/28 means the subnet 192.168.100.192/28, with the addresses 192.168.100.193-192.168.100.206; range_start sets the first address
        note: ipam.exclude[0]: 192.168.100.197/30 excludes 192.168.100.196-192.168.100.199; for one address write 192.168.100.197/32
    "#]],
    );
    said_of(
        r#""ipRanges":[{"range":"10.1.2.3/23"},{"range":"10.8.0.9/24","range_start":"10.8.0.9"}]"#,
        &expect![[r#"
            note: ipam.ipRanges[0].range: 10.1.2.3/23 means the subnet 10.1.2.0/23, with the addresses 10.1.2.1-10.1.3.254; range_start sets the first address
        "#]],
    );
}

#[test]
fn no_address_left_is_a_mistake() {
    said_of(
        r#""range":"10.1.2.0/30","gateway":"10.1.2.1","exclude":["10.1.2.2/32"]"#,
        &expect![[r#"
            mistake: ipam.range: expected an address that may be given out, but all are excluded or gateways: 10.1.2.1-10.1.2.2
        "#]],
    );
    // host-local's implied gateway is the only address.
    said_of(
        r#""ranges":[[{"subnet":"10.1.2.0/24"}],[{"subnet":"10.1.3.0/30","rangeEnd":"10.1.3.1"}]]"#,
        &expect![[r#"
            mistake: ipam.ranges[1]: expected an address that may be given out, but all are excluded or gateways: 10.1.3.1-10.1.3.1
        "#]],
    );
    // Another range of the set has free addresses.
    said_of(
        r#""ranges":[[{"subnet":"10.1.3.0/30","rangeEnd":"10.1.3.1"},{"subnet":"10.1.2.0/24"}]]"#,
        &expect![[r#"
            note: no usable address in 10.1.3.1-10.1.3.1: every address is excluded or a gateway
        "#]],
    );
}

#[test]
fn what_the_flat_file_has_and_the_network_does_not_use_is_named() {
    let sandbox = Sandbox::new();
    let flat =
        sandbox.flat("n1").replacen('{', r#"{"range":"10.9.0.0/24","gateway":"10.9.0.1","#, 1);
    sandbox.write("flat.conf", &flat);
    expect![[r#"
        note: not used, because the network has its own addresses: range, gateway of the flat file /S/flat.conf
    "#]].assert_eq(&said(&sandbox, "net.json", &configuration(RANGE)));
    expect![[r#""#]].assert_eq(&said(&sandbox, "net.json", &configuration("")));
}

#[test]
fn the_main_plugin_is_known() {
    let sandbox = Sandbox::new();
    let of = |plugin: &str, ipam: &str| {
        let text = configuration(ipam).replace(r#""type":"macvlan""#, plugin);
        said(&sandbox, "net.json", &text)
    };
    let dns = r#""range":"10.0.0.0/24","dns":{"nameservers":["10.0.0.2"]}"#;
    let routes = r#""range":"10.0.0.0/24","gateway":"10.0.0.1","routes":[{"dst":"10.9.0.0/16","gw":"10.7.0.1"},
        {"dst":"10.8.0.0/16","mtu":1400},{"dst":"10.8.0.0/16","gw":"10.0.0.1"},{"dst":"10.6.0.0/16","gw":"10.0.0.3"},{"dst":"10.6.0.0/16","gw":"10.0.0.4"},
        {"dst":"10.5.0.0/16","table":100},{"dst":"fd00:9::/64"}]"#;
    let v6 = r#""range":"fd00::/64","gateway":"fd00::1","routes":[{"dst":"::/0","gw":"fd00::2"},{"dst":"::/0","gw":"fd00::3"},{"dst":"fd01::/64","gw":"fe80::1"}]"#;
    let on_link = r#""range":"10.0.0.5/32","routes":[{"dst":"169.254.1.1/32","scope":253},{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]"#;
    expect![[r#"
        note: macvlan drops dns of ipam and answers with its own dns: put dns beside ipam (plugins v1.9.1)
    "#]].assert_eq(&of(r#""type":"macvlan""#, dns));
    expect![[r#"
        note: ipvlan drops dns of ipam and answers with its own dns: put dns beside ipam (plugins v1.9.1, by its source)
    "#]].assert_eq(&of(r#""type":"ipvlan""#, dns));
    assert_eq!(of(r#""type":"bridge""#, dns), "");
    expect![[r#"
        note: bridge prints mtu and advmss of a route but does not set them: 10.8.0.0/16 (plugins v1.9.1)
        note: bridge cannot set a route whose gateway is outside every subnet: 10.9.0.0/16 via 10.7.0.1; ADD fails ("network is unreachable" or "no route to host") after the address was given, and the interface stays up with it (plugins v1.9.1)
        note: bridge cannot set the same route twice: 10.8.0.0/16; ADD fails ("file exists") after the address was given, and the interface stays up with it (plugins v1.9.1)
        note: bridge sets a route of a family in which the network has no address: fd00:9::/64; no packet of the pod can use it (plugins v1.9.1)
        note: bridge uses only the gateway that is listed last, of IPv4 routes to one destination: 10.6.0.0/16 (plugins v1.9.1)
        note: bridge looks for a route with a table in the main table: 10.5.0.0/16; every CHECK fails (plugins v1.9.1)
    "#]].assert_eq(&of(r#""type":"bridge""#, routes));
    expect![[r#"
        note: bridge makes one multipath route of IPv6 routes to one destination: ::/0; every CHECK fails (plugins v1.9.1)
    "#]].assert_eq(&of(r#""type":"bridge""#, v6));
    expect![[r#"
        note: ptp needs a gateway for each address: 10.0.0.0/24 has none; ADD is refused (7) before an address is given (plugins v1.9.1)
        mistake: ipam: expected a gateway for each address, because the main plugin ptp needs it, found none
          hint: set gateway in the range, or in addresses
    "#]].assert_eq(&of(r#""type":"ptp""#, r#""range":"10.0.0.0/24""#));
    expect![[r#"
        note: macvlan cannot check an IPv4 address with the prefix length 32: 10.0.0.5/32; every CHECK fails ("Failed to find Gateway") (plugins v1.9.1)
    "#]].assert_eq(&of(r#""type":"macvlan""#, on_link));
    let list = format!(
        r#"{{"name":"l","cniVersion":"1.0.0","plugins":[{},{{"type":"sbr"}}]}}"#,
        configuration(v6)
    );
    expect![[r#"
        note: macvlan makes one multipath route of IPv6 routes to one destination: ::/0; every CHECK fails (plugins v1.9.1)
        note: macvlan is followed by sbr, which removes routes through link-local gateways: fd01::/64 (plugins v1.9.1)
    "#]].assert_eq(&said(&sandbox, "net.json", &list));
}

#[test]
fn networks_of_others_are_named_and_never_fail() {
    let sandbox = Sandbox::new();
    for (network, expected) in [
        (r#"{"name":"a","type":"macvlan","ipam":{"type":"dhcp"}}"#, "not ours (type dhcp)\n"),
        (r#"{"name":"a","type":"macvlan","ipam":{}}"#, "not ours (empty ipam)\n"),
        (r#"{"name":"a","type":"macvlan"}"#, "not ours (no ipam)\n"),
        (r#"{"name":"a","plugins":[{"type":"bridge"},{"type":"tuning"}]}"#, "not ours (no ipam)\n"),
    ] {
        assert_eq!(said(&sandbox, "net.json", network), expected);
        let file = sandbox.path("net.json");
        check(&sandbox, &[file.to_str().unwrap()]).succeeded();
    }
    let mistaken = r#"{"name":"a","type":"macvlan","ipam":{"range":"10.0.0.0/24"}}"#;
    assert_eq!(
        said(&sandbox, "net.json", mistaken),
        "mistake: ipam.type: expected hereabouts or whereabouts, found none\n"
    );
    let host_local = r#"{"name":"a","cniVersion":"1.0.0","type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/33"}}"#;
    expect![[r#"
        note: type host-local: checked as if the type were hereabouts
        mistake: ipam.subnet: expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6), found "10.0.0.0/33"
    "#]].assert_eq(&said(&sandbox, "net.json", host_local));
}

#[test]
fn a_flat_file_is_checked_as_the_plugin_reads_it() {
    let sandbox = Sandbox::new();
    for (text, expected) in [
        (
            r#"{"datastore":"file","data_dir":"/x","reconciler_cron_expression":"x","colour":"red"}"#,
            expect![[r#"
                note: ignored: flat file.colour
                note: without effect here: flat file.reconciler_cron_expression
            "#]],
        ),
        (
            r#"{"datastore":"etcd"}"#,
            expect![[r#"
                mistake: /S/hereabouts.conf: datastore: expected "file" or "kubernetes": "etcd"
            "#]],
        ),
        (
            r#"{"datastor":"file"}"#,
            expect![[r#"
                mistake: /S/hereabouts.conf: datastor: unknown key with the value "file"
                  hint: did you mean "datastore"?
            "#]],
        ),
        (
            r#"{"range":"10.0.0.0/33"}"#,
            expect![[r#"
                mistake: /S/hereabouts.conf: range: expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6), found "10.0.0.0/33"
            "#]],
        ),
        ("{}", expect![[r#""#]]),
        (
            "datastore: file\n",
            expect![[r#"
            mistake: /S/hereabouts.conf: expected JSON: expected value at line 1 column 1
        "#]],
        ),
    ] {
        expected.assert_eq(&said(&sandbox, "hereabouts.conf", text));
    }
}

#[test]
fn it_reads_several_files_stdin_and_directories() {
    let sandbox = Sandbox::new();
    let network = |name: &str| configuration(RANGE).replace("net1", name);
    for (file, name) in [
        ("d/b.json", "b"),
        ("d/a.conflist", "a"),
        ("d/sub/c.conf", "c"),
        ("d/.hidden/x.json", "x"),
        ("d/.x.json", "x"),
        ("d/notes.txt", "x"),
    ] {
        std::fs::create_dir_all(sandbox.path(file).parent().unwrap()).unwrap();
        sandbox.write(file, &network(name));
    }
    sandbox.write("d/pod.yaml", "kind: Pod\n");
    std::os::unix::fs::symlink(sandbox.path("d"), sandbox.path("d/circle")).unwrap();
    let one = sandbox.write("one.json", &network("one"));
    let mut call = sandbox.command_call(&[
        "config",
        "check",
        one.to_str().unwrap(),
        sandbox.path("d").to_str().unwrap(),
        "-",
    ]);
    let ended = call.stdin(network("in")).run();
    let headings: Vec<String> = ended
        .succeeded()
        .stdout
        .lines()
        .filter(|line| line.starts_with("network "))
        .map(|line| line.replace(sandbox.root.to_str().unwrap(), "/S"))
        .collect();
    assert_eq!(
        headings,
        [
            "network one (/S/one.json)",
            "network a (/S/d/a.conflist)",
            "network b (/S/d/b.json)",
            "network c (/S/d/sub/c.conf)",
            "network in (stdin)"
        ]
    );
    assert!(ended.stderr.contains("1 file without a network"), "{ended:?}");
}

#[test]
fn it_ends_with_0_1_or_2() {
    let sandbox = Sandbox::new();
    let good = sandbox.write("good.json", &configuration(RANGE));
    let bad = sandbox.write("bad.json", &configuration(r#""range":"10.0.0.0/33""#));
    let none = sandbox.write("pod.yaml", "kind: Pod\n");
    let torn = sandbox.write("torn.json", "{");
    let missing = sandbox.path("missing.json");
    let status = |files: &[&std::path::Path]| {
        let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
        check(&sandbox, &files).status
    };
    assert_eq!(status(&[&good]), Some(0));
    assert_eq!(status(&[&good, &bad]), Some(1));
    assert_eq!(status(&[&none]), Some(1));
    assert_eq!(status(&[&torn]), Some(1));
    assert_eq!(status(&[]), Some(2));
    let ended = check(&sandbox, &[missing.to_str().unwrap(), bad.to_str().unwrap()]);
    assert_eq!(ended.status, Some(2));
    assert!(
        ended.stderr.contains("missing.json: it is missing")
            && ended.stdout.contains("mistake: ipam.range"),
        "{ended:?}"
    );
}

#[cfg(feature = "kube")]
#[test]
fn the_document_for_programs() {
    let sandbox = Sandbox::new();
    let nad = |namespace: &str, ipam: &str| {
        let config = format!(
            r#"{{"cniVersion":"1.0.0","type":"macvlan","capabilities":{{"ips":true}},"ipam":{{"type":"hereabouts",{ipam}}}}}"#
        );
        serde_json::json!({"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"a","namespace":namespace},"spec":{"config":config}})
    };
    let list = serde_json::json!({"apiVersion":"v1","kind":"List","items":[
        nad("one", r#""range":"fd00::/64","routes":[{"dst":"fd01::/64"}],"addresses":[{"address":"10.0.0.9/24"}],"network_name":"blue""#),
        nad("two", r#""range":"10.0.0.0/33","gatway":"x""#),
        {"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"file"},"spec":{}},
    ]});
    let file = sandbox.write("list.json", &list.to_string());
    let ended = check(&sandbox, &["-o", "json", file.to_str().unwrap()]);
    assert_eq!(ended.status, Some(1));
    let text = ended.stdout.replace(sandbox.root.to_str().unwrap(), "/S");
    assert_file("config-check.json", &text);
}

#[test]
fn networks_of_one_name_in_two_namespaces_are_one() {
    let sandbox = Sandbox::new();
    let nad = |namespace: &str, name: &str| {
        format!(
            "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n  name: a\n  namespace: {namespace}\nspec:\n  config: '{{{name}\"type\":\"bridge\",\"ipam\":{{\"type\":\"hereabouts\",\"range\":\"10.0.0.0/24\"}}}}'\n"
        )
    };
    let shared = "network a is one network for every plugin";
    let file = sandbox.write("two.yaml", &format!("{}---\n{}", nad("one", ""), nad("two", "")));
    let ended = check(&sandbox, &[file.to_str().unwrap()]);
    assert!(
        ended
            .succeeded()
            .stdout
            .contains(&format!("note: {shared}, because its name has no namespace: one/a, two/a")),
        "{ended:?}"
    );
    let own = r#""name":"x","#;
    let file = sandbox.write("two.yaml", &format!("{}---\n{}", nad("one", ""), nad("two", own)));
    assert!(!check(&sandbox, &[file.to_str().unwrap()]).succeeded().stdout.contains(shared));
}

/// The author of a network is not trusted.
#[test]
fn no_file_stops_the_check() {
    let sandbox = Sandbox::new();
    let deep = sandbox.write("deep.yaml", &"[".repeat(1_000_000));
    let tag = sandbox.write("tag.yaml", "a: [!b,c]\n");
    let large = sandbox.write("large.yaml", &"#".repeat(17 << 20));
    let good = sandbox.write("good.json", &configuration(RANGE));
    let files = [&deep, &tag, &large, &good].map(|file| file.to_str().unwrap());
    let ended = check(&sandbox, &files);
    assert_eq!(ended.status, Some(2));
    assert_eq!(ended.stdout.matches("mistake: ").count(), 2, "{ended:?}");
    assert!(
        ended.stdout.contains("network net1") && ended.stderr.contains("larger than 16 MiB"),
        "{ended:?}"
    );
}

/// A reservation binds the networks that contain it, and no others.
#[test]
fn a_network_that_gives_out_what_another_reserves_is_named() {
    let sandbox = Sandbox::new();
    let network = |name: &str, more: &str| {
        let ipam = format!(r#""range":"10.0.0.0/24"{more}"#);
        configuration(&ipam).replace(r#""name":"net1""#, &format!(r#""name":"{name}""#))
    };
    let reserves = r#","reservations":{"default/db-0":"10.0.0.10"},"reserved":["10.0.0.20"]"#;
    let one = sandbox.write("one.json", &network("one", reserves));
    let same = sandbox.write("same.json", &network("same", reserves));
    let scope = format!(r#"{},"network_name":"blue""#, "");
    let blue = sandbox.write("blue.json", &network("blue", &scope));
    let other = sandbox.write("other.json", &network("other", ""));
    let check = |files: &[&std::path::PathBuf]| {
        let mut args = vec!["config", "check"];
        args.extend(files.iter().map(|file| file.to_str().unwrap()));
        sandbox.command(&args).succeeded().stdout.clone()
    };
    let text = check(&[&one, &same, &blue]);
    assert!(text.contains("reserved: 10.0.0.10 for pod default/db-0"), "{text}");
    assert!(text.contains("only on request: 10.0.0.20"), "{text}");
    assert!(!text.contains("gives out"), "{text}");
    let text = check(&[&one, &other]);
    assert!(
        text.contains("network other gives out addresses that others reserve: 10.0.0.10 for pod default/db-0 (network one)"),
        "{text}"
    );
}

/// With the memory of a small container. The release build takes a tenth of a second on the machine
/// on which this was written.
#[test]
fn a_thousand_networks_need_little_memory() {
    let sandbox = Sandbox::new();
    let network = |n: u32| {
        format!(
            "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n  name: net-{n}\n  namespace: ns-{}\n  annotations:\n    text: |\n      {}\nspec:\n  config: '{}'\n",
            n % 20,
            "x".repeat(500),
            configuration(&format!(
                r#""range":"10.{}.{}.0/24","exclude":["10.{}.{}.0/28"]"#,
                n / 250,
                n % 250,
                n / 250,
                n % 250
            )),
        )
    };
    let texts: Vec<String> = (0..1000).map(network).collect();
    let file = sandbox.write("all.yaml", &texts.join("---\n"));
    let limit = format!("--data={}", 32 << 20);
    let mut call = sandbox.command_call(&["config", "check", file.to_str().unwrap()]);
    let ended = call.through(&["prlimit", &limit]).run();
    let networks = ended.succeeded().stdout.lines().filter(|line| line.starts_with("network "));
    assert_eq!(networks.count(), 1000);
    // The limit counts here.
    let limit = format!("--data={}", 512 << 10);
    assert_ne!(call.through(&["prlimit", &limit]).run().status, Some(0));
}
