//! Configurations that operators really write: kinds from public repositories that the plugin for
//! which they were written accepts. Each test is one kind, with the answer that its author expects.

use crate::support::sandbox::{Ended, Sandbox, configuration};
use crate::vectors::code_of;
use serde_json::Value;

/// Returns the first address with its prefix length, and the gateway ("" if there is none).
fn answer(ended: &Ended) -> (String, String) {
    let document = ended.succeeded().document();
    let text = |key: &str| document["ips"][0][key].as_str().unwrap_or_default().to_owned();
    (text("address"), text("gateway"))
}

/// Returns the answer to an ADD with these `ipam` keys in a new store.
fn answer_to(ipam: &str) -> (String, String) {
    answer(&Sandbox::new().add("c1", ipam))
}

fn is(found: &(String, String), address: &str, gateway: &str) {
    assert_eq!((found.0.as_str(), found.1.as_str()), (address, gateway));
}

fn with_runtime(ipam: &str, ips: &str) -> String {
    let whole = configuration(ipam);
    let (start, _) = whole.rsplit_once('}').unwrap();
    format!(r#"{start},"capabilities":{{"ips":true}},"runtimeConfig":{{"ips":{ips}}}}}"#)
}

mod a_gateway_outside_the_subnet {
    use super::*;

    #[test]
    fn at_the_top_level_is_answered() {
        is(
            &answer_to(r#""range":"10.0.2.128/26","gateway":"10.0.2.1""#),
            "10.0.2.129/26",
            "10.0.2.1",
        );
    }

    #[test]
    fn in_a_range_is_answered() {
        is(
            &answer_to(r#""ipRanges":[{"range":"10.0.2.128/26","gateway":"10.0.2.1"}]"#),
            "10.0.2.129/26",
            "10.0.2.1",
        );
        is(
            &answer_to(r#""ranges":[[{"subnet":"10.0.2.128/26","gateway":"10.0.2.1"}]]"#),
            "10.0.2.129/26",
            "10.0.2.1",
        );
    }

    #[test]
    fn of_a_static_address_is_answered() {
        is(
            &answer_to(r#""addresses":[{"address":"10.0.2.130/26","gateway":"10.0.2.1"}]"#),
            "10.0.2.130/26",
            "10.0.2.1",
        );
    }

    #[test]
    fn is_that_of_each_range_of_its_family_and_of_no_other() {
        let ipam = r#""gateway":"10.0.2.1","ipRanges":[{"range":"10.0.3.0/24"},{"range":"2001:db8::/64"}]"#;
        let document = Sandbox::new().add("c1", ipam).succeeded().document();
        assert_eq!(document["ips"][0]["gateway"], "10.0.2.1");
        assert_eq!(document["ips"][1]["gateway"], Value::Null);
        assert_eq!(code_of(r#""gateway":"2001:db8::1","range":"10.0.3.0/24""#), 7);
    }

    #[test]
    fn is_refused_where_a_route_without_gw_would_have_to_use_it() {
        let far = r#""range":"10.0.2.128/26","gateway":"10.0.2.1""#;
        let with = |dst: &str| code_of(&format!(r#"{far},"routes":[{{{dst}}}]"#));
        assert_eq!(with(r#""dst":"0.0.0.0/0""#), 7);
        assert_eq!(with(r#""dst":"0.0.0.0/0","gw":"10.0.2.130""#), 0);
        assert_eq!(with(r#""dst":"::/0""#), 0);
        let near =
            r#""range":"10.0.2.128/26","gateway":"10.0.2.129","routes":[{"dst":"0.0.0.0/0"}]"#;
        assert_eq!(code_of(near), 0);
        let second = r#""routes":[{"dst":"0.0.0.0/0"}],"ipRanges":[{"range":"10.0.2.128/26","gateway":"10.0.2.1"},{"range":"10.0.2.0/26"}]"#;
        assert_eq!(code_of(second), 0, "the gateway is in the subnet of the other range");
        let link_local = r#""range":"2001:db8::/64","gateway":"fe80::1","routes":[{"dst":"::/0"}]"#;
        assert_eq!(code_of(link_local), 0);
    }
}

#[test]
fn log_levels_of_other_programs_are_understood_and_none_fails_a_call() {
    for level in ["warning", "DEBUG", "Info", "trace", "loud", ""] {
        let ipam = format!(r#""range":"10.1.2.0/24","log_level":"{level}""#);
        assert_eq!(code_of(&ipam), 0, "{level}");
    }
    assert_eq!(code_of(r#""range":"10.1.2.0/24","log_level":7,"log_file":{}"#), 0);
    let sandbox = Sandbox::new();
    sandbox.set_in_flat(&[("log_level", "warning".into()), ("log_file", "relative".into())]);
    let ended = sandbox.add("c1", r#""range":"10.1.2.0/24""#);
    assert_eq!((ended.succeeded().stderr.as_str(), ended.status), ("", Some(0)));
}

#[test]
fn the_data_directory_has_two_spellings_and_the_network_wins_in_either() {
    let sandbox = Sandbox::new();
    let below = format!("/var/lib/cni/hereabouts-test-{}", std::process::id());
    for key in ["dataDir", "data_dir"] {
        let directory = format!("{below}/{key}");
        let ipam = format!(r#""range":"10.1.2.0/24","datastore":"file","{key}":"{directory}""#);
        sandbox.add("c1", &ipam).succeeded();
        assert!(std::path::Path::new(&directory).join("format").exists(), "{key}");
        sandbox.del("c1", &ipam).succeeded();
    }
    std::fs::remove_dir_all(below).unwrap();
    let both = r#""range":"10.1.2.0/24","data_dir":"/var/lib/cni/a","dataDir":"/var/lib/cni/b""#;
    assert_eq!(sandbox.add("c1", both).code(), 7);
}

mod a_network_that_names_the_kubeconfig_of_whereabouts {
    use super::*;

    const KUBECONFIG: &str = "/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig";

    #[test]
    fn uses_the_store_that_the_nodes_flat_file_names() {
        let sandbox = Sandbox::new();
        let kubernetes = format!(r#""kubernetes":{{"kubeconfig":"{KUBECONFIG}"}}"#);
        for (container, store) in [
            ("c1", kubernetes.clone()),
            ("c2", format!(r#""datastore":"kubernetes",{kubernetes}"#)),
            (
                "c3",
                format!(
                    r#""datastore":"kubernetes",{}"#,
                    kubernetes.replace("/etc/", "/host/etc/")
                ),
            ),
        ] {
            let ipam = format!(r#""range":"10.1.2.0/24",{store}"#);
            sandbox.add(container, &ipam).succeeded();
            sandbox.del(container, &ipam).succeeded();
        }
        let of_type = configuration(r#""range":"10.1.2.0/24","datastore":"kubernetes""#)
            .replace(r#""type":"hereabouts""#, r#""type":"whereabouts""#);
        sandbox.call("ADD").stdin(of_type).run().succeeded();
        assert_eq!(sandbox.held(), ["10.1.2.1"]);
    }

    #[cfg(feature = "kube")]
    #[test]
    fn keeps_every_other_choice_of_a_store() {
        let sandbox = Sandbox::new();
        let other = KUBECONFIG.replace("whereabouts", "other");
        let ipam = format!(
            r#""range":"10.1.2.0/24","datastore":"kubernetes","kubernetes":{{"kubeconfig":"{other}"}}"#
        );
        let ended = sandbox.add("c1", &ipam);
        assert!(ended.details().contains("other.kubeconfig"), "{ended:?}");
    }

    #[cfg(feature = "kube")]
    #[test]
    fn is_followed_on_a_node_that_only_has_the_flat_file_of_whereabouts() {
        let sandbox = Sandbox::new();
        let flat = sandbox.flat("n1");
        let place = sandbox.path("whereabouts.conf");
        std::fs::write(&place, flat).unwrap();
        let ipam = format!(
            r#""range":"10.1.2.0/24","kubernetes":{{"kubeconfig":"{KUBECONFIG}"}},"datastore":"kubernetes""#
        );
        let ended = sandbox
            .call("ADD")
            .set("HEREABOUTS_CONFIG", place.to_str().unwrap())
            .stdin(configuration(&ipam))
            .run();
        assert!(ended.details().contains(KUBECONFIG), "{ended:?}");
    }
}

mod a_network_without_a_range {
    use super::*;

    const ROUTES: &str = r#""routes":[{"dst":"10.9.0.0/16"}]"#;

    #[test]
    fn gives_the_address_that_the_pod_brings_and_records_it() {
        let sandbox = Sandbox::new();
        let add = |container: &str, ipam: &str, ips: &str| {
            let mut call = sandbox.call("ADD");
            call.set("CNI_CONTAINERID", container).stdin(with_runtime(ipam, ips)).run()
        };
        is(&answer(&add("c1", ROUTES, r#"["10.100.100.12/24"]"#)), "10.100.100.12/24", "");
        assert_eq!(sandbox.held(), ["10.100.100.12"]);
        assert_eq!(add("c2", ROUTES, r#"["10.100.100.12/24"]"#).code(), 101);
        let gateway = format!(r#"{ROUTES},"gateway":"10.100.100.1""#);
        is(
            &answer(&add("c3", &gateway, r#"["10.100.100.13/24"]"#)),
            "10.100.100.13/24",
            "10.100.100.1",
        );
        let both = add("c4", ROUTES, r#"["10.100.100.14/24","2001:db8::14/64"]"#);
        assert_eq!(both.addresses(), ["10.100.100.14", "2001:db8::14"]);
    }

    #[test]
    fn needs_a_prefix_length_and_an_address_that_an_interface_can_have() {
        let code =
            |ips: &str| Sandbox::new().call("ADD").stdin(with_runtime(ROUTES, ips)).run().code();
        for ips in [
            r#"["10.100.100.12"]"#,
            r#"["10.100.100.0/24"]"#,
            r#"["10.100.100.255/24"]"#,
            r#"["224.0.0.1/24"]"#,
        ] {
            assert_eq!(code(ips), 101, "{ips}");
        }
        assert_eq!(code(r#"["10.100.100.12/24","10.100.100.13/24"]"#), 101, "limits.requested");
    }

    #[test]
    fn refuses_an_add_without_a_request_and_is_ready_if_it_declares_the_capability() {
        assert_eq!(code_of(ROUTES), 7);
        let sandbox = Sandbox::new();
        sandbox.add("c0", r#""range":"10.8.0.0/24""#).succeeded();
        let status = |text: String| sandbox.call("STATUS").stdin(text).run();
        status(with_runtime(ROUTES, "[]")).succeeded();
        assert_eq!(status(configuration(ROUTES)).code(), 7);
    }
}

#[test]
fn an_unspecified_gateway_means_none_in_all_places() {
    for (none, subnet) in [("0.0.0.0", "10.1.2.0/24"), ("::", "2001:db8::/64")] {
        let first = answer_to(&format!(r#""range":"{subnet}""#)).0;
        for ipam in [
            format!(r#""range":"{subnet}","gateway":"{none}""#),
            format!(r#""subnet":"{subnet}","gateway":"{none}""#),
            format!(r#""ipRanges":[{{"range":"{subnet}","gateway":"{none}"}}]"#),
            format!(r#""ranges":[[{{"subnet":"{subnet}","gateway":"{none}"}}]]"#),
        ] {
            is(&answer_to(&ipam), &first, "");
        }
    }
    let fixed = r#""addresses":[{"address":"10.1.2.5/24","gateway":"0.0.0.0"}]"#;
    is(&answer_to(fixed), "10.1.2.5/24", "");
    let asked = Sandbox::new()
        .call("ADD")
        .set("CNI_ARGS", "IP=10.1.2.9;GATEWAY=0.0.0.0")
        .stdin(configuration(r#""range":"10.1.2.0/24""#))
        .run();
    is(&answer(&asked), "10.1.2.9/24", "");
}

/// Returns the configuration of another main plugin, with these keys next to `ipam`.
fn of_main_plugin(kind: &str, keys: &str, ipam: &str) -> String {
    configuration(ipam).replace(r#""type":"macvlan""#, &format!(r#""type":"{kind}"{keys}"#))
}

mod the_gateway_that_a_main_plugin_needs {
    use super::*;

    fn add(text: String) -> Ended {
        Sandbox::new().call("ADD").stdin(text).run()
    }

    #[test]
    fn is_the_first_address_for_a_bridge_that_takes_it_anyway() {
        for key in [r#","isGateway":true"#, r#","isDefaultGateway":true"#] {
            for (ipam, first, gateway) in [
                (r#""range":"10.1.2.0/24""#, "10.1.2.2/24", "10.1.2.1"),
                (
                    r#""range":"10.1.2.64/26","range_start":"10.1.2.77""#,
                    "10.1.2.77/26",
                    "10.1.2.65",
                ),
                (r#""range":"10.1.2.76/31""#, "10.1.2.76/31", "10.1.2.77"),
                (r#""range":"2001:db8::/64""#, "2001:db8::2/64", "2001:db8::1"),
                (r#""range":"10.1.2.0/24","gateway":"0.0.0.0""#, "10.1.2.2/24", "10.1.2.1"),
                (r#""range":"10.1.2.0/24","gateway":"10.1.2.9""#, "10.1.2.1/24", "10.1.2.9"),
                (r#""addresses":[{"address":"10.1.2.7/24"}]"#, "10.1.2.7/24", "10.1.2.1"),
            ] {
                is(&answer(&add(of_main_plugin("bridge", key, ipam))), first, gateway);
            }
        }
        let own = r#""addresses":[{"address":"10.1.2.1/24"}]"#;
        assert_eq!(add(of_main_plugin("bridge", r#","isGateway":true"#, own)).code(), 7);
        let asked = Sandbox::new()
            .call("ADD")
            .set("CNI_ARGS", "IP=10.1.2.1")
            .stdin(of_main_plugin("bridge", r#","isGateway":true"#, r#""range":"10.1.2.0/24""#))
            .run();
        assert_eq!(asked.code(), 101);
        let plain = of_main_plugin("bridge", r#","isGateway":false"#, r#""range":"10.1.2.0/24""#);
        is(&answer(&add(plain)), "10.1.2.1/24", "");
    }

    #[test]
    fn is_asked_for_before_ptp_gets_an_address() {
        let ptp = |ipam: &str| add(of_main_plugin("ptp", "", ipam));
        assert_eq!(ptp(r#""range":"10.1.2.0/24""#).code(), 7);
        assert_eq!(
            ptp(
                r#""ipRanges":[{"range":"10.1.2.0/24","gateway":"10.1.2.1"},{"range":"2001:db8::/64"}]"#
            )
            .code(),
            7
        );
        assert_eq!(ptp(r#""ipRanges":[{"range":"10.1.2.0/25","gateway":"10.1.2.1"},{"range":"10.1.2.128/25","gateway":"10.1.2.1"}]"#).code(), 7);
        is(
            &answer(&ptp(r#""range":"10.1.2.0/24","gateway":"10.1.2.1""#)),
            "10.1.2.2/24",
            "10.1.2.1",
        );
    }
}

#[test]
fn octets_may_have_any_number_of_leading_zeros() {
    is(
        &answer_to(r#""range":"00192.00168.1.0/24","gateway":"192.168.0001.001""#),
        "192.168.1.2/24",
        "192.168.1.1",
    );
}

#[test]
fn a_key_that_stands_twice_with_one_value_is_one_key() {
    let twice =
        |other: &str| format!(r#""range":"10.1.2.0/24","gateway":"10.1.2.1","gateway":"{other}""#);
    is(&answer_to(&twice("10.1.2.1")), "10.1.2.2/24", "10.1.2.1");
    assert_eq!(code_of(&twice("10.1.2.9")), 6);
    let sandbox = Sandbox::new();
    sandbox.add("c1", r#""range":"10.1.2.0/24""#).succeeded();
    sandbox.del("c1", &twice("10.1.2.9")).succeeded();
    assert!(sandbox.held().is_empty());
}

#[test]
fn keys_are_known_in_any_case() {
    let host_local = r#""subnet":"10.1.2.0/24","rangestart":"10.1.2.10","RANGEEND":"10.1.2.20""#;
    is(&answer_to(host_local), "10.1.2.10/24", "10.1.2.1");
    let nested = r#""Ranges":[[{"Subnet":"10.1.2.0/24","rangestart":"10.1.2.10"}]],"Routes":[{"DST":"10.0.0.0/8","GW":"10.1.2.1"}]"#;
    let document = Sandbox::new().add("c1", nested).succeeded().document();
    assert_eq!(document["ips"][0]["address"], "10.1.2.10/24");
    assert_eq!(document["routes"][0]["gw"], "10.1.2.1");
    assert_eq!(code_of(r#""range":"10.1.2.0/24","Range":"10.1.3.0/24""#), 7);
    assert_eq!(code_of(r#""range":"10.1.2.0/24","Node_Slice_Size":"/28""#), 2);
    assert_eq!(code_of(r#""range":"10.1.2.0/24","range-start":"10.1.2.9""#), 2);
}

#[test]
fn a_type_that_is_no_string_is_a_mistake() {
    let text =
        configuration(r#""range":"10.1.2.0/24""#).replace(r#""type":"hereabouts""#, r#""type":5"#);
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.call("ADD").stdin(text.clone()).run().code(), 7);
    sandbox.call("DEL").stdin(text).run().succeeded();
}

#[test]
fn excludes_may_be_written_as_ranges() {
    let ipam = r#""range":"10.1.2.0/24","exclude":["10.1.2.1-10.1.2.9"]"#;
    is(&answer_to(ipam), "10.1.2.10/24", "");
}

mod del_frees_whatever_the_configuration_has_become {
    use super::*;

    /// Each configuration names the store, or leaves this to the flat file.
    #[test]
    fn in_the_network() {
        let sandbox = Sandbox::new();
        for ipam in [
            r#""range":"no range""#,
            r#""range":7,"gateway":[],"routes":{},"exclude":"x","addresses":5"#,
            r#""rnge":"10.1.2.0/24","node_slice_size":"/28""#,
            r#""deadlines":7,"allocation_order":"none","sticky":4,"log_level":{},"log_file":[]"#,
            r#""status_when_full":"x","network_name":7,"limits":1,"node_name":8"#,
            r#""configuration_path":7,"enable_overlapping_ranges":"maybe","dns":3,"resolvConf":9"#,
            "",
        ] {
            sandbox.add("c1", r#""range":"10.1.2.0/24""#).succeeded();
            sandbox.del("c1", ipam).succeeded();
            assert!(sandbox.held().is_empty(), "{ipam}");
        }
        for whole in [
            r#"{"cniVersion":"1.0.0","name":"net","ipam":7}"#.to_owned(),
            r#"{"cniVersion":"1.0.0","name":"net"}"#.to_owned(),
        ] {
            sandbox.add("c1", r#""range":"10.1.2.0/24""#).succeeded();
            let name = configuration("");
            let name: Value = serde_json::from_str(&name).unwrap();
            let whole = whole.replace("\"net\"", &name["name"].to_string());
            sandbox.call("DEL").set("CNI_CONTAINERID", "c1").stdin(whole.clone()).run().succeeded();
            assert!(sandbox.held().is_empty(), "{whole}");
        }
    }

    #[test]
    fn in_the_flat_file() {
        let sandbox = Sandbox::new();
        for (key, value) in [
            ("log_levell", Value::from("debug")),
            ("node_slice_size", "/28".into()),
            ("deadlines", 7.into()),
            ("limits", 7.into()),
            ("single_node_store", "x".into()),
            ("allowed_paths", 7.into()),
            ("allocation_order", 7.into()),
            ("debts_dir", "relative".into()),
            ("host_local_dir", "relative".into()),
        ] {
            sandbox.write("flat.conf", &sandbox.flat("n1"));
            sandbox.add("c1", r#""range":"10.1.2.0/24""#).succeeded();
            sandbox.set_in_flat(&[(key, value)]);
            assert!(sandbox.add("c2", r#""range":"10.1.2.0/24""#).status != Some(0), "{key}");
            sandbox.del("c1", r#""range":"10.1.2.0/24""#).succeeded();
            sandbox.write("flat.conf", &sandbox.flat("n1"));
            assert!(sandbox.held().is_empty(), "{key}");
        }
    }
}

/// A DEL was lost, and `sweep` was not called since.
mod an_address_whose_holder_the_node_sees_to_be_dead {
    use super::*;
    use crate::support::living::Living;

    const ONE: &str = r#""range":"10.1.2.5/32""#;

    fn add(sandbox: &Sandbox, container: &str, pod: &str, netns: &str, ipam: &str) -> Ended {
        let (name, uid) = pod.split_once('/').unwrap();
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID={uid}"
        );
        let mut call = sandbox.call("ADD");
        call.set("CNI_CONTAINERID", container).set("CNI_ARGS", args).set("CNI_NETNS", netns);
        call.stdin(configuration(ipam)).run()
    }

    #[test]
    fn is_given_to_a_pod_of_the_same_name_with_a_new_uid() {
        let sandbox = Sandbox::new();
        for (container, uid) in [("c1", "u1"), ("c2", "u2"), ("c3", "u3")] {
            let ended = add(&sandbox, container, &format!("web/{uid}"), "/run/netns/none", ONE);
            assert_eq!(ended.addresses(), ["10.1.2.5"]);
        }
        let other = add(&sandbox, "c4", "db/u4", "/run/netns/none", ONE);
        assert_eq!(other.code(), 100, "its namespace was never seen");
        sandbox.del("c1", ONE).succeeded();
        assert_eq!(sandbox.held(), ["10.1.2.5"]);
        assert_eq!(sandbox.list()[0]["container"], "c3");
        assert_eq!(sandbox.command(&["verify"]).status, Some(0));
    }

    #[test]
    fn is_given_to_any_pod_once_its_namespace_is_gone() {
        let sandbox = Sandbox::new();
        let Some(first) = Living::new() else {
            return skipped!("needs root");
        };
        let second = Living::new().unwrap();
        let two = r#""range":"10.1.2.4/31""#;
        assert_eq!(add(&sandbox, "c1", "a/u1", &first.path(), two).addresses(), ["10.1.2.4"]);
        assert_eq!(add(&sandbox, "c2", "b/u2", &first.path(), two).addresses(), ["10.1.2.5"]);
        assert_eq!(add(&sandbox, "c3", "c/u3", &second.path(), two).code(), 100, "both live");
        let asked = |container: &str| {
            let mut call = sandbox.call("ADD");
            call.set("CNI_CONTAINERID", container).set("CNI_NETNS", second.path());
            call.set("CNI_ARGS", "IP=10.1.2.5").stdin(configuration(two)).run()
        };
        assert_eq!(asked("c4").code(), 101, "it lives");
        drop(first);
        assert_eq!(asked("c4").addresses(), ["10.1.2.5"]);
        assert_eq!(add(&sandbox, "c5", "d/u5", &second.path(), two).addresses(), ["10.1.2.4"]);
        assert_eq!(add(&sandbox, "c6", "e/u6", &second.path(), two).code(), 100);
        assert_eq!(sandbox.command(&["verify"]).status, Some(0));
    }

    #[test]
    fn stays_with_its_holder_while_another_address_is_free_or_its_node_is_another() {
        let sandbox = Sandbox::new();
        let wide = r#""range":"10.1.2.0/24""#;
        for (container, uid, address) in [("c1", "u1", "10.1.2.1"), ("c2", "u2", "10.1.2.2")] {
            let ended = add(&sandbox, container, &format!("web/{uid}"), "/run/netns/none", wide);
            assert_eq!(ended.addresses(), [address]);
        }
        let sandbox = Sandbox::new();
        add(&sandbox, "c1", "web/u1", "/run/netns/none", ONE).succeeded();
        sandbox.become_another_machine("n1", "n2");
        assert_eq!(add(&sandbox, "c2", "web/u2", "/run/netns/none", ONE).code(), 100);
    }
}

#[test]
fn a_static_address_in_the_networks_own_range_is_not_given_dynamically() {
    for range in [r#""range":"10.1.2.0/24""#, r#""ranges":[[{"subnet":"10.1.2.0/24"}]]"#] {
        let sandbox = Sandbox::new();
        let lowest = sandbox.add("c0", range).addresses().remove(0);
        sandbox.del("c0", range).succeeded();
        let ipam = format!(r#"{range},"addresses":[{{"address":"{lowest}/24"}}]"#);
        let addresses = sandbox.add("c1", &ipam).addresses();
        assert_ne!(addresses[0], lowest);
        assert_eq!(addresses[1], lowest);
        let second = sandbox.add("c2", &ipam);
        assert_eq!(second.code(), 101);
        assert!(second.details().contains("container c1"), "{second:?}");
        assert_eq!(sandbox.held(), [&*lowest, &*addresses[0]]);
    }
}

mod an_exclude_of_the_flat_file {
    use super::*;

    /// The answer with an `exclude` in the flat file, and with more settings there.
    fn answer_with(ipam: &str, more: &[(&str, Value)]) -> String {
        let sandbox = Sandbox::new();
        let exclude = ("exclude", serde_json::json!(["10.1.2.0/28"]));
        sandbox.set_in_flat(&[&[exclude], more].concat());
        answer(&sandbox.add("c1", ipam)).0
    }

    #[test]
    fn counts_for_a_network_with_its_own_range() {
        assert_eq!(answer_with(r#""range":"10.1.2.0/24""#, &[]), "10.1.2.16/24");
        assert_eq!(answer_with(r#""ranges":[[{"subnet":"10.1.2.0/24"}]]"#, &[]), "10.1.2.16/24");
        assert_eq!(answer_with(r#""range":"10.1.3.0/24""#, &[]), "10.1.3.1/24");
    }

    #[test]
    fn counts_beside_the_networks_own() {
        let own = r#""exclude":["10.1.2.16/28"]"#;
        let whole = format!(r#""range":"10.1.2.0/24",{own}"#);
        assert_eq!(answer_with(&whole, &[]), "10.1.2.32/24");
        let range = ("range", "10.1.2.0/24".into());
        assert_eq!(answer_with(own, &[range]), "10.1.2.32/24", "the range is in the flat file");
    }

    #[test]
    fn is_not_noted_as_one_without_effect_on_a_network() {
        let sandbox = Sandbox::new();
        sandbox.set_in_flat(&[("exclude", serde_json::json!(["10.9.0.0/16"]))]);
        let network = sandbox.write("net.conf", &configuration(r#""range":"10.1.2.0/24""#));
        let checked = sandbox.command(&["config", "check", network.to_str().unwrap()]);
        assert!(!checked.succeeded().stdout.contains("exclude"), "{checked:?}");
    }
}

#[test]
fn a_request_for_the_networks_own_static_address_is_answered_with_it_once() {
    let sandbox = Sandbox::new();
    for (container, ipam, addresses) in [
        (
            "c1",
            r#""range":"10.1.0.0/24","addresses":[{"address":"10.1.0.5/24"}]"#,
            &["10.1.0.1", "10.1.0.5"][..],
        ),
        ("c2", r#""addresses":[{"address":"10.1.0.6/24"}]"#, &["10.1.0.6"]),
    ] {
        let request = format!("IP={}", addresses.last().unwrap());
        let mut call = sandbox.call("ADD");
        call.set("CNI_CONTAINERID", container).set("CNI_ARGS", request);
        assert_eq!(call.stdin(configuration(ipam)).run().addresses(), addresses);
    }
}
