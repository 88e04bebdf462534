//! One test for every decision of ARCHITECTURE.md.

mod in_use;

use crate::support::living::Living;
use crate::support::sandbox::{Call, Ended, Sandbox, configuration, versioned};
use std::process::{Command, Stdio};

const RANGE: &str = r#""range":"10.1.2.0/24","gateway":"10.1.2.1""#;

fn pod_args(name: &str, uid: &str) -> String {
    format!(
        "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID=;K8S_POD_UID={uid}"
    )
}

fn add_pod(sandbox: &Sandbox, container: &str, args: &str, ipam: &str) -> Ended {
    sandbox
        .call("ADD")
        .set("CNI_CONTAINERID", container)
        .set("CNI_ARGS", args)
        .stdin(configuration(ipam))
        .run()
}

#[test]
fn the_plugin_answers_to_the_types_hereabouts_and_whereabouts() {
    let sandbox = Sandbox::new();
    let whereabouts =
        configuration(RANGE).replace(r#""type":"hereabouts""#, r#""type":"whereabouts""#);
    assert_eq!(sandbox.call("ADD").stdin(whereabouts).run().addresses(), ["10.1.2.2"]);
}

#[test]
fn lowest_free_address_first() {
    let sandbox = Sandbox::new();
    for n in 2..6 {
        assert_eq!(sandbox.add(&format!("c{n}"), RANGE).addresses(), [format!("10.1.2.{n}")]);
    }
    sandbox.del("c3", RANGE).succeeded();
    assert_eq!(sandbox.add("c9", RANGE).addresses(), ["10.1.2.3"]);
}

#[test]
fn on_a_network_with_sticky_statefulset_a_pod_whose_name_ends_in_a_number_gets_the_address_of_the_one_before_it()
 {
    let sandbox = Sandbox::new();
    let run = |verb: &str, pod: &str, number: u8| {
        let args = pod_args(pod, &format!("{pod}-{number}"));
        let mut call = sandbox.call(verb);
        call.set("CNI_CONTAINERID", format!("{pod}.{number}")).set("CNI_ARGS", args);
        let ended = call.stdin(configuration(&format!(r#"{RANGE},"sticky":"statefulSet""#))).run();
        let _ = std::fs::remove_dir_all(sandbox.path("freed"));
        ended.succeeded();
        ended
    };
    let mine = run("ADD", "db-0", 1).addresses();
    run("DEL", "db-0", 1);
    #[cfg(feature = "kube")]
    if let Some(cluster) = sandbox.cluster {
        crate::support::nodes::until_remembered(cluster, &mine[0]);
    }
    assert_ne!(run("ADD", "web-x", 1).addresses(), mine);
    assert_eq!(run("ADD", "db-0", 2).addresses(), mine);
}

#[test]
fn never_handed_out_are_gateway_network_broadcast_and_excluded_addresses() {
    let sandbox = Sandbox::new();
    let ipam = r#""range":"10.1.2.0/29","gateway":"10.1.2.2","exclude":["10.1.2.4/31"]"#;
    let given: Vec<String> =
        (0..3).flat_map(|n| sandbox.add(&format!("c{n}"), ipam).addresses()).collect();
    assert_eq!(given, ["10.1.2.1", "10.1.2.3", "10.1.2.6"]);
    assert_eq!(sandbox.add("c9", ipam).code(), 100);
}

#[test]
fn small_subnets_31_32_127_and_128_are_usable_whole() {
    for (range, count) in
        [("10.0.0.0/31", 2), ("10.0.0.7/32", 1), ("2001:db8::/127", 2), ("2001:db8::7/128", 1)]
    {
        let sandbox = Sandbox::new();
        let ipam = format!(r#""range":"{range}""#);
        for n in 0..count {
            sandbox.add(&format!("c{n}"), &ipam).succeeded();
        }
        assert_eq!(sandbox.add("more", &ipam).code(), 100, "{range}");
    }
}

#[test]
fn the_node_belongs_to_the_attachment() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.add("same", RANGE).addresses(), ["10.1.2.2"]);
    sandbox.become_another_machine("n1", "n2");
    assert_eq!(sandbox.add("same", RANGE).addresses(), ["10.1.2.3"]);
    sandbox.del("same", RANGE).succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.2"], "the DEL of one node frees nothing of another");
}

#[test]
fn node_name_comes_from_the_flat_file_then_nodename_then_the_file_beside_it() {
    let sandbox = Sandbox::new();
    let flat = sandbox.flat("n1").replace(r#""node_name":"n1""#, r#""node_name":"""#);
    let node = |sandbox: &Sandbox| sandbox.list()[0]["node"].as_str().unwrap().to_owned();
    sandbox.write("flat.conf", &flat);
    sandbox.call("ADD").set("NODENAME", "from-env").stdin(configuration(RANGE)).run().succeeded();
    assert_eq!(node(&sandbox), "from-env");
    sandbox.call("DEL").set("NODENAME", "from-env").stdin(configuration(RANGE)).run().succeeded();
    sandbox.write("nodename", "from-file\n");
    sandbox.add("c1", RANGE).succeeded();
    assert_eq!(node(&sandbox), "from-file");
}

#[test]
fn a_node_called_localhost_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        skipped!("needs root for a host name of its own");
        return;
    }
    let sandbox = Sandbox::new();
    let flat = sandbox.flat("n1").replace(r#","node_name":"n1""#, "");
    sandbox.write("flat.conf", &flat.replace(r#""node_name":"n1","#, ""));
    let call = sandbox.call("ADD");
    let mut command = Command::new("unshare");
    let script = format!("hostname localhost && exec {}", crate::support::sandbox::HEREABOUTS);
    command
        .args(["--uts", "sh", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(call.environment);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), configuration(RANGE).as_bytes())
        .unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code(), 7);
    assert!(ended.details().contains("set node_name in the flat file"), "{ended:?}");
}

#[test]
fn a_second_machine_with_the_same_node_name_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    let note = sandbox.store().join("nodes/n1/@machine-id");
    if !note.exists() {
        skipped!("this machine has no /etc/machine-id");
        return;
    }
    std::fs::write(&note, "another machine\n").unwrap();
    for verb in ["ADD", "DEL"] {
        let ended =
            sandbox.call(verb).set("CNI_CONTAINERID", "c1").stdin(configuration(RANGE)).run();
        assert_eq!(ended.code(), 7, "{verb}");
        assert!(ended.details().contains("another machine uses the node name n1"), "{ended:?}");
    }
    sandbox.write("flat.conf", &sandbox.flat("n2"));
    sandbox.command(&["release", "--node", "n1", "--yes"]).succeeded();
    sandbox.write("flat.conf", &sandbox.flat("n1"));
    sandbox.add("c1", RANGE).succeeded();
}

/// Makes an ADD of a pod's sandbox.
fn add_living(living: &Living, sandbox: &Sandbox, container: &str, args: &str) -> Ended {
    let mut call = sandbox.call("ADD");
    call.set("CNI_CONTAINERID", container).set("CNI_NETNS", living.path()).set("CNI_ARGS", args);
    call.stdin(configuration(RANGE)).run()
}

macro_rules! living {
    () => {
        match Living::new() {
            Some(living) => living,
            None => {
                skipped!("needs root for a network namespace");
                return;
            }
        }
    };
}

#[test]
fn rehoming_is_from_the_dead_only() {
    let sandbox = Sandbox::new();
    let (first, second) = (living!(), living!());
    let args = pod_args("web-0", "u1");
    assert_eq!(add_living(&first, &sandbox, "c1", &args).addresses(), ["10.1.2.2"]);
    assert_eq!(
        add_living(&second, &sandbox, "c2", &args).addresses(),
        ["10.1.2.3"],
        "the first sandbox lives"
    );
    sandbox.del("c2", RANGE).succeeded();
    drop(first);
    assert_eq!(
        add_living(&second, &sandbox, "c3", &args).addresses(),
        ["10.1.2.2"],
        "the first sandbox is dead"
    );
    sandbox.del("c1", RANGE).succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.2"], "the old one's DEL finds that it is not its own");
}

#[test]
fn rehoming_needs_namespace_and_name_and_the_same_uid() {
    for (old, new) in [
        ("K8S_POD_NAME=web", "K8S_POD_NAME=web"),
        (&*pod_args("web", "u1"), &*pod_args("web", "u2")),
        (&*pod_args("web", "u1"), &*pod_args("web", "")),
        (&*pod_args("web", "u1"), &*pod_args("db", "u1")),
    ] {
        let sandbox = Sandbox::new();
        // The invented namespace is recorded as missing, so the sandbox is dead.
        assert_eq!(add_pod(&sandbox, "c1", old, RANGE).addresses(), ["10.1.2.2"]);
        assert_eq!(add_pod(&sandbox, "c2", new, RANGE).addresses(), ["10.1.2.3"], "{old} {new}");
    }
}

#[test]
fn rehoming_stays_on_its_node_and_inside_todays_ranges() {
    let sandbox = Sandbox::new();
    let args = pod_args("web", "u1");
    assert_eq!(add_pod(&sandbox, "c1", &args, RANGE).addresses(), ["10.1.2.2"]);
    assert_eq!(
        add_pod(&sandbox, "c2", &args, r#""range":"10.9.0.0/24""#).addresses(),
        ["10.9.0.1"]
    );
    sandbox.write("flat.conf", &sandbox.flat("n2"));
    assert_eq!(add_pod(&sandbox, "c3", &args, RANGE).addresses(), ["10.1.2.3"]);
}

/// Found by sequences of calls (`tests/data/corpus/calls/rehomed-across-scopes`): a pod that was
/// recreated after its network had got a `network_name` was given its old address from the old
/// scope, while in the new scope another pod held it.
#[test]
fn rehoming_stays_in_todays_scope() {
    let sandbox = Sandbox::new();
    let args = pod_args("web", "u1");
    let blue = format!(r#"{RANGE},"network_name":"blue""#);
    assert_eq!(add_pod(&sandbox, "other", "", &blue).addresses(), ["10.1.2.2"]);
    assert_eq!(add_pod(&sandbox, "c1", &args, RANGE).addresses(), ["10.1.2.2"]);
    assert_eq!(
        add_pod(&sandbox, "c2", &args, &blue).addresses(),
        ["10.1.2.3"],
        "another holds 10.1.2.2 there"
    );
}

#[test]
fn a_repeated_add_answers_with_what_is_held_also_if_the_range_has_changed() {
    let sandbox = Sandbox::new();
    let first = sandbox.add("c1", RANGE);
    assert_eq!(sandbox.add("c1", RANGE).stdout, first.stdout);
    assert_eq!(sandbox.add("c1", r#""range":"172.16.0.0/24""#).addresses(), ["10.1.2.2"]);
}

#[test]
fn a_repeated_add_that_asks_for_another_address_is_101() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    let ended = add_pod(&sandbox, "c1", "IP=10.1.2.77", RANGE);
    assert_eq!(ended.code(), 101);
    assert_eq!(add_pod(&sandbox, "c1", "IP=10.1.2.2", RANGE).addresses(), ["10.1.2.2"]);
}

#[test]
fn a_repeat_whose_record_is_no_longer_alive_is_rehomed_to_itself() {
    let sandbox = Sandbox::new();
    let first = living!();
    add_living(&first, &sandbox, "c1", "").succeeded();
    let old = sandbox.list()[0]["netns"].clone();
    drop(first);
    let second = living!();
    assert_eq!(add_living(&second, &sandbox, "c1", "").addresses(), ["10.1.2.2"]);
    let new = sandbox.list();
    assert_eq!(new.len(), 1);
    assert_ne!(new[0]["netns"], old);
    let gc = configuration(RANGE).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1);
    sandbox.call("GC").stdin(gc).run().succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.2"], "GC keeps a living pod's address");
}

#[test]
fn the_store_must_be_named_for_a_pod_or_the_type_whereabouts() {
    let sandbox = Sandbox::new();
    sandbox.write("flat.conf", r#"{"node_name":"n1"}"#);
    for verb in ["ADD", "DEL"] {
        let ended = sandbox
            .call(verb)
            .set("CNI_ARGS", pod_args("web", "u1"))
            .stdin(configuration(RANGE))
            .run();
        assert_eq!(ended.code(), 7, "{verb}: {ended:?}");
        assert!(
            ended
                .details()
                .contains("expected a store for a Kubernetes pod or the type whereabouts"),
            "{ended:?}"
        );
        let whereabouts =
            configuration(RANGE).replace(r#""type":"hereabouts""#, r#""type":"whereabouts""#);
        assert_eq!(sandbox.call(verb).stdin(whereabouts).run().code(), 7, "{verb}");
    }
}

#[test]
fn datastore_beats_a_kubeconfig_and_a_kubeconfig_alone_means_kubernetes() {
    let sandbox = Sandbox::new();
    let kubeconfig = r#","kubernetes":{"kubeconfig":"/etc/x"}"#;
    if sandbox.cluster.is_some() {
        // Files in a directory that the flat file names for node state.
        sandbox.command(&["store", "init", sandbox.store().to_str().unwrap()]).succeeded();
    }
    assert_eq!(
        sandbox.add("c1", &format!(r#"{RANGE},"datastore":"file"{kubeconfig}"#)).status,
        Some(0)
    );
    sandbox.write("flat.conf", r#"{"node_name":"n1","kubernetes":{"kubeconfig":"/etc/x"}}"#);
    let ended = sandbox.add("c1", RANGE);
    assert_eq!(ended.code(), if cfg!(feature = "kube") { 7 } else { 2 });
    assert!(ended.details().contains("/etc/x"), "{ended:?}");
}

#[test]
fn a_network_configuration_may_name_data_dir_only_below_var_lib_cni() {
    let sandbox = Sandbox::new();
    let other = sandbox.path("other");
    let ipam = format!(r#"{RANGE},"data_dir":"{}""#, other.display());
    let ended = sandbox.add("c1", &ipam);
    assert_eq!(ended.code(), 7);
    assert!(ended.details().starts_with("ipam.data_dir: "), "{ended:?}");
    assert!(!other.exists());
    let flat = serde_json::json!({"node_name": "n1", "allowed_paths": [sandbox.root]});
    sandbox.write("flat.conf", &flat.to_string());
    sandbox.add("c1", &ipam).succeeded();
    assert!(other.join("format").exists());
}

#[test]
fn a_flat_file_that_a_network_configuration_chose_elsewhere_has_no_authority() {
    let sandbox = Sandbox::new();
    let other = sandbox.path("other");
    let flat = sandbox.write(
        "planted.conf",
        &serde_json::json!({"data_dir": other, "allowed_paths": ["/"]}).to_string(),
    );
    let ipam = format!(r#"{RANGE},"configuration_path":"{}""#, flat.display());
    let ended = sandbox
        .call("ADD")
        .unset("HEREABOUTS_CONFIG")
        .set("NODENAME", "n1")
        .stdin(configuration(&ipam))
        .run();
    assert_eq!(ended.code(), 7);
    assert!(!other.exists());
}

/// A pod's own volume held a flat file and a `nodename`, and a network named it. The pod's
/// addresses were recorded under the name of another node.
#[test]
fn a_network_configuration_does_not_choose_the_nodes_name() {
    if !nix::unistd::geteuid().is_root() {
        skipped!("needs root for an /etc of its own");
        return;
    }
    let sandbox = Sandbox::new();
    let own = "etc/cni/net.d/hereabouts.d";
    for directory in [own, "volume"] {
        std::fs::create_dir_all(sandbox.path(directory)).unwrap();
    }
    sandbox.write(&format!("{own}/hereabouts.conf"), &sandbox.flat("n1"));
    sandbox.write("volume/nodename", "n3");
    let call = |verb: &str, container: &str, ipam: &str| {
        let mut call = sandbox.call(verb);
        call.unset("HEREABOUTS_CONFIG")
            .set("CNI_CONTAINERID", container)
            .stdin(configuration(ipam))
            .seeing("/etc", &sandbox.path("etc"));
        call.run()
    };
    let volume = sandbox.path("volume");
    for text in ["{}", r#"{"node_name":"n3"}"#] {
        sandbox.write("volume/hereabouts.conf", text);
        for path in [volume.clone(), volume.join("hereabouts.conf")] {
            let ipam = format!(r#"{RANGE},"configuration_path":"{}""#, path.display());
            call("ADD", "c1", &ipam).succeeded();
            assert_eq!(sandbox.list()[0]["node"], "n1", "{text}");
            call("DEL", "c1", &ipam).succeeded();
            assert!(sandbox.list().is_empty());
        }
    }
    // The allowed keys of the file take precedence over the node's own.
    sandbox.write("volume/hereabouts.conf", r#"{"range":"10.7.0.0/24"}"#);
    let chosen = format!(r#""configuration_path":"{}""#, volume.display());
    assert_eq!(call("ADD", "c2", &chosen).addresses(), ["10.7.0.1"]);
    call("DEL", "c2", &chosen).succeeded();
    // A `nodename` counts only next to the node's own flat file.
    sandbox.write(
        &format!("{own}/hereabouts.conf"),
        &sandbox.flat("n1").replace(r#""node_name":"n1""#, r#""node_name":"""#),
    );
    sandbox.write(&format!("{own}/nodename"), "n4");
    call("ADD", "c4", &chosen).succeeded();
    assert_eq!(sandbox.list()[0]["node"], "n4");
}

#[test]
fn a_log_file_elsewhere_is_not_written_and_noted_in_the_nodes_log() {
    let sandbox = Sandbox::new();
    let log = sandbox.path("planted.log");
    let ended = sandbox.add("c1", &format!(r#"{RANGE},"log_file":"{}""#, log.display()));
    assert_eq!(ended.succeeded().stderr, "");
    assert!(!log.exists());
    sandbox.set_in_flat(&[("log_file", serde_json::json!(log))]);
    sandbox.add("c2", RANGE).succeeded();
    assert!(std::fs::read_to_string(&log).unwrap().contains("10.1.2.3"));
}

#[test]
fn a_top_level_gateway_serves_the_ranges_that_contain_it_or_else_all_of_its_family() {
    let sandbox = Sandbox::new();
    let ranges = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"2001:db8::/64"}]"#;
    let ended = sandbox.add("c1", &format!(r#"{ranges},"gateway":"10.1.2.1""#));
    let ips = ended.document()["ips"].clone();
    assert_eq!(ips[0]["gateway"], "10.1.2.1");
    assert_eq!(ips[1]["gateway"], serde_json::Value::Null);
    for (container, gateway, at) in [("c2", "10.9.9.9", 0), ("c3", "2001:db8:9::1", 1)] {
        let ended = sandbox.add(container, &format!(r#"{ranges},"gateway":"{gateway}""#));
        let ips = ended.succeeded().document()["ips"].clone();
        assert_eq!(ips[at]["gateway"], gateway);
        assert_eq!(ips[1 - at]["gateway"], serde_json::Value::Null);
    }
    assert_eq!(sandbox.add("c4", r#""range":"10.1.3.0/24","gateway":"2001:db8::1""#).code(), 7);
}

#[test]
fn host_locals_spelling_takes_all_of_the_outer_list_and_the_first_with_room_of_the_inner() {
    let sandbox = Sandbox::new();
    let ipam = r#""ranges":[[{"subnet":"10.0.0.0/30"},{"subnet":"10.0.1.0/30"}],[{"subnet":"10.2.0.0/24","rangeStart":"10.2.0.9"}]]"#;
    assert_eq!(sandbox.add("c1", ipam).addresses(), ["10.0.0.2", "10.2.0.9"]);
    let second = sandbox.add("c2", ipam);
    assert_eq!(second.addresses(), ["10.0.1.2", "10.2.0.10"]);
    assert_eq!(
        second.document()["ips"][0]["gateway"],
        "10.0.1.1",
        "a missing gateway is the subnet's first address"
    );
    assert_eq!(sandbox.add("c3", ipam).code(), 100);
    assert_eq!(sandbox.held().len(), 4, "all or nothing");
}

#[test]
fn a_data_dir_that_holds_host_locals_own_files_is_refused() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.store().join("net1")).unwrap();
    std::fs::write(sandbox.store().join("net1/last_reserved_ip.0"), "10.1.2.2").unwrap();
    let ended = sandbox.add("c1", RANGE);
    assert_eq!(ended.code(), 7);
    assert!(ended.details().contains("files of host-local"), "{ended:?}");
    assert_eq!(sandbox.files(), ["net1/last_reserved_ip.0"]);
}

#[test]
fn a_bound_on_the_network_or_broadcast_address_is_moved_inwards_and_outside_is_7() {
    let sandbox = Sandbox::new();
    let ipam = r#""range":"10.0.0.0/30","range_start":"10.0.0.0","range_end":"10.0.0.3""#;
    assert_eq!(sandbox.add("c1", ipam).addresses(), ["10.0.0.1"]);
    assert_eq!(sandbox.add("c2", ipam).addresses(), ["10.0.0.2"]);
    assert_eq!(sandbox.add("c3", ipam).code(), 100);
    assert_eq!(sandbox.add("c4", r#""range":"10.0.0.0/30","range_end":"10.0.0.4""#).code(), 7);
}

#[test]
fn the_last_ipv6_address_of_a_prefix_is_not_given_out() {
    let sandbox = Sandbox::new();
    let ipam = r#""range":"2001:db8::/126""#;
    assert_eq!(sandbox.add("c1", ipam).addresses(), ["2001:db8::1"]);
    assert_eq!(sandbox.add("c2", ipam).addresses(), ["2001:db8::2"]);
    assert_eq!(sandbox.add("c3", ipam).code(), 100);
}

#[test]
fn static_addresses_come_after_the_dynamic_ones_are_recorded_and_conflict() {
    let sandbox = Sandbox::new();
    let ipam =
        format!(r#"{RANGE},"addresses":[{{"address":"192.0.2.7/24","gateway":"192.0.2.1"}}]"#);
    assert_eq!(sandbox.add("c1", &ipam).addresses(), ["10.1.2.2", "192.0.2.7"]);
    assert_eq!(sandbox.add("c2", &ipam).code(), 101);
    assert_eq!(sandbox.held(), ["10.1.2.2", "192.0.2.7"], "nothing of the failed ADD stays");
    let alone = r#""addresses":[{"address":"192.0.2.8/24"}]"#;
    assert_eq!(
        sandbox.add("c3", alone).addresses(),
        ["192.0.2.8"],
        "static addresses need no range"
    );
}

#[test]
fn durations_are_strings_with_a_unit() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", &format!(r#"{RANGE},"deadlines":{{"add":"9500ms"}}"#)).succeeded();
    assert_eq!(sandbox.add("c2", &format!(r#"{RANGE},"deadlines":{{"add":"10"}}"#)).code(), 7);
}

#[test]
fn stdin_is_at_most_4_mib_and_nesting_128() {
    let sandbox = Sandbox::new();
    let padded = |bytes: usize| {
        configuration(RANGE).replacen('{', &format!(r#"{{"x":"{}","#, "x".repeat(bytes)), 1)
    };
    sandbox.call("ADD").stdin(padded(4_000_000)).run().succeeded();
    assert_eq!(sandbox.call("ADD").stdin(padded(4_200_000)).run().code(), 5);
    let nested = |depth: usize| {
        configuration(RANGE).replacen(
            '{',
            &format!(r#"{{"x":{}{},"#, "[".repeat(depth), "]".repeat(depth)),
            1,
        )
    };
    sandbox.call("ADD").stdin(nested(120)).run().succeeded();
    assert_eq!(sandbox.call("ADD").stdin(nested(128)).run().code(), 6);
}

#[test]
fn del_validates_as_little_as_it_can_and_frees_everything() {
    let sandbox = Sandbox::new();
    sandbox
        .add("c1", r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"10.1.3.0/24"}]"#)
        .succeeded();
    let broken =
        r#""range":"nonsense","exclude":7,"gatway":1,"log_level":"loud","deadlines":{"del":1}"#;
    sandbox
        .call("DEL")
        .set("CNI_CONTAINERID", "c1")
        .set("CNI_ARGS", "FOO;;")
        .stdin(configuration(broken))
        .run()
        .succeeded();
    assert!(sandbox.held().is_empty());
}

#[test]
fn del_returns_an_error_when_the_store_cannot_be_reached() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.store(), "a file").unwrap();
    let ended = sandbox.del("c1", RANGE);
    assert_eq!(ended.code(), 5);
    for words in ["not found", "no such file or directory"] {
        assert!(
            !ended.stdout.to_lowercase().contains(words),
            "runtimes take these words for success: {ended:?}"
        );
    }
}

#[test]
fn requested_addresses_come_from_runtime_config_else_args_else_cni_args() {
    let request = |sandbox: &Sandbox, extra: &str, args: &str| {
        let text = configuration(RANGE).replacen('{', &format!("{{{extra}"), 1);
        sandbox.call("ADD").set("CNI_ARGS", args).stdin(text).run()
    };
    let all = (
        r#""runtimeConfig":{"ips":["10.1.2.7"]},"#,
        r#""args":{"cni":{"ips":["10.1.2.8/24"]}},"#,
        "IP=10.1.2.9",
    );
    assert_eq!(
        request(&Sandbox::new(), &format!("{}{}", all.0, all.1), all.2).addresses(),
        ["10.1.2.7"]
    );
    assert_eq!(request(&Sandbox::new(), all.1, all.2).addresses(), ["10.1.2.8"]);
    assert_eq!(request(&Sandbox::new(), "", all.2).addresses(), ["10.1.2.9"]);
    let several = r#""runtimeConfig":{"ips":["10.1.2.7","10.1.2.5"]},"#;
    let sandbox = Sandbox::new();
    sandbox
        .write("flat.conf", &sandbox.flat("n1").replacen('{', r#"{"limits":{"requested":2},"#, 1));
    assert_eq!(request(&sandbox, several, "").addresses(), ["10.1.2.7", "10.1.2.5"]);
}

#[test]
fn requested_addresses_are_recorded_and_conflict_checked() {
    let sandbox = Sandbox::new();
    assert_eq!(add_pod(&sandbox, "c1", "IP=10.1.2.2", RANGE).addresses(), ["10.1.2.2"]);
    assert_eq!(add_pod(&sandbox, "c2", "IP=10.1.2.2", RANGE).code(), 101);
    assert_eq!(sandbox.add("c3", RANGE).addresses(), ["10.1.2.3"]);
}

#[test]
fn gc_touches_only_records_of_this_network_and_node_that_are_not_alive() {
    let sandbox = Sandbox::new();
    let living = living!();
    add_living(&living, &sandbox, "alive", "").succeeded();
    sandbox.add("stale", RANGE).succeeded();
    sandbox.add("listed", RANGE).succeeded();
    sandbox
        .call("ADD")
        .set("CNI_CONTAINERID", "other-network")
        .stdin(configuration(RANGE).replace("net1", "net2"))
        .run()
        .succeeded();
    sandbox.write("flat.conf", &sandbox.flat("n2"));
    sandbox.add("other-node", RANGE).succeeded();
    sandbox.become_another_machine("n2", "n1");
    let keys = r#""cni.dev/valid-attachments":[{"containerID":"listed","ifname":"net1"}],"cni.dev/attachments":[],"#;
    sandbox
        .call("GC")
        .stdin(configuration(RANGE).replacen('{', &format!("{{{keys}"), 1))
        .run()
        .succeeded();
    let mut left: Vec<String> = sandbox
        .list()
        .iter()
        .map(|record| record["container"].as_str().unwrap().to_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["alive", "listed", "other-network", "other-node"]);
}

#[test]
fn gc_without_a_list_is_7_and_frees_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    assert_eq!(sandbox.call("GC").stdin(configuration(RANGE)).run().code(), 7);
    assert_eq!(sandbox.held().len(), 1);
}

#[test]
fn version_echoes_a_valid_input_version_and_never_blocks_on_an_open_stdin() {
    let mut call = Call::bare();
    call.set("CNI_COMMAND", "VERSION");
    assert_eq!(
        call.clone().stdin(r#"{"cniVersion":"0.4.0"}"#).run().document()["cniVersion"],
        "0.4.0"
    );
    let (reader, _writer) = std::io::pipe().unwrap();
    let output = call.command().stdin(reader).output().unwrap();
    assert_eq!(Ended::from(output).document()["cniVersion"], "1.1.0");
}

#[test]
fn cni_path_is_required_by_gc_and_nowhere_else() {
    let sandbox = Sandbox::new();
    for verb in ["ADD", "DEL", "STATUS"] {
        sandbox.call(verb).unset("CNI_PATH").stdin(configuration(RANGE)).run().succeeded();
    }
    assert_eq!(sandbox.call("GC").unset("CNI_PATH").stdin(configuration(RANGE)).run().code(), 4);
}

#[test]
fn unknown_keys_are_ignored_but_a_near_miss_in_ipam_is_2_and_names_the_right_spelling() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", &format!(r#"{RANGE},"vlan":7,"my_own_key":{{}}"#)).succeeded();
    for (key, meant) in [
        ("range-start", "range_start"),
        ("RangeStart_", "range_start"),
        ("excludes", "exclude"),
        ("data-dir", "data_dir"),
    ] {
        let ended = sandbox.add("c2", &format!(r#"{RANGE},"{key}":"x""#));
        assert_eq!(ended.code(), 2, "{key}");
        assert!(
            ended.document()["msg"].as_str().unwrap().contains(&format!("ipam.{key}")),
            "{ended:?}"
        );
        assert!(ended.details().ends_with(&format!("did you mean \"{meant}\"?")), "{ended:?}");
    }
    for (inner, meant) in [
        (r#""kubernetes":{"kubeconfg":"/x"}"#, "kubeconfig"),
        (r#""routes":[{"dst":"0.0.0.0/0"},{"dst":"10.0.0.0/8","gww":"10.1.2.1"}]"#, "gw"),
        (r#""dns":{"nameserver":["10.1.2.1"]}"#, "nameservers"),
        (r#""addresses":[{"address":"10.1.2.9/24","gatway":"10.1.2.1"}]"#, "gateway"),
    ] {
        let ended = sandbox.add("c2", &format!("{RANGE},{inner}"));
        assert_eq!(ended.code(), 2, "{inner}");
        assert!(
            ended.document()["details"]
                .as_str()
                .unwrap()
                .ends_with(&format!("did you mean \"{meant}\"?")),
            "{ended:?}"
        );
    }
    assert_eq!(sandbox.add("c2", &format!(r#"{RANGE},"kubernetes":"/x""#)).code(), 7);
    for key in ["sleep_for_race", "leader_lease_duration", "etcd_host"] {
        sandbox.add("c1", &format!(r#"{RANGE},"{key}":1"#)).succeeded();
    }
}

#[test]
fn duplicate_json_keys_at_any_depth_are_an_error() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.add("c1", &format!(r#"{RANGE},"x":[{{"a":1,"a":2}}]"#)).code(), 6);
}

#[test]
fn an_address_is_unique_in_its_scope_whatever_ranges_the_configurations_name() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.add("c1", r#""range":"10.1.2.0/24""#).addresses(), ["10.1.2.1"]);
    assert_eq!(
        sandbox.add("c2", r#""range":"10.1.0.0/16","range_start":"10.1.2.1""#).addresses(),
        ["10.1.2.2"]
    );
    let overlapping = r#""range":"10.1.2.0/25","enable_overlapping_ranges":false"#;
    assert_eq!(sandbox.add("c3", overlapping).addresses(), ["10.1.2.3"], "it stays strict");
    assert_eq!(
        sandbox.add("c4", r#""range":"10.1.2.0/24","network_name":"blue""#).addresses(),
        ["10.1.2.1"]
    );
}

#[test]
fn a_version_with_one_address_a_family_refuses_a_configuration_that_gives_more() {
    let sandbox = Sandbox::new();
    let ipam = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"10.1.3.0/24"}]"#;
    assert_eq!(sandbox.call("ADD").stdin(versioned("0.2.0", ipam)).run().code(), 7);
    assert!(sandbox.is_untouched());
}

#[test]
fn status_calls_a_full_range_not_ready_only_when_asked_to() {
    let sandbox = Sandbox::new();
    let full = r#""range":"10.0.0.0/31""#;
    for n in 0..2 {
        sandbox.add(&format!("c{n}"), full).succeeded();
    }
    sandbox.call("STATUS").stdin(configuration(full)).run().succeeded();
    let strict = configuration(&format!(r#"{full},"status_when_full":"not_ready""#));
    assert_eq!(sandbox.call("STATUS").stdin(strict.clone()).run().code(), 50);
    sandbox.del("c0", full).succeeded();
    sandbox.call("STATUS").stdin(strict).run().succeeded();
}
