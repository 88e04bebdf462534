//! Requested addresses and `CNI_ARGS`.

use super::RANGE;
use crate::support::sandbox::{Ended, Sandbox, configuration};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

const GATEWAY: &str = r#""range":"10.1.2.0/24","gateway":"10.1.2.1","exclude":["10.1.2.50"],"range_end":"10.1.2.100""#;

fn with_args(sandbox: &Sandbox, verb: &str, args: impl Into<OsString>, ipam: &str) -> Ended {
    sandbox.call(verb).set("CNI_ARGS", args).stdin(configuration(ipam)).run()
}

fn add(args: &str) -> Ended {
    with_args(&Sandbox::new(), "ADD", args, RANGE)
}

#[test]
fn a_requested_address_is_given_with_or_without_its_prefix() {
    for args in ["IP=10.1.2.77", "IP=10.1.2.77/24"] {
        assert_eq!(add(args).document()["ips"][0]["address"], "10.1.2.77/24");
    }
    assert_eq!(add("IP=10.1.2.77/16").code(), 7);
}

#[test]
fn two_requested_addresses_are_both_given_where_the_site_allows_it() {
    let sandbox = Sandbox::new();
    let two = |sandbox: &Sandbox| with_args(sandbox, "ADD", "IP=10.1.2.77,10.1.2.78", RANGE);
    assert_eq!(two(&sandbox).code(), 101);
    let flat = sandbox.flat("n1").replacen('{', r#"{"limits":{"requested":2},"#, 1);
    sandbox.write("flat.conf", &flat);
    assert_eq!(two(&sandbox).addresses(), ["10.1.2.77", "10.1.2.78"]);
}

#[test]
fn an_address_that_the_range_does_not_give_is_101() {
    for (address, why) in [
        ("10.9.9.9", "out of range"),
        ("10.1.2.101", "beyond the end"),
        ("10.1.2.50", "excluded"),
        ("10.1.2.1", "gateway"),
        ("10.1.2.0", "network"),
        ("10.1.2.255", "broadcast"),
    ] {
        let sandbox = Sandbox::new();
        assert_eq!(
            with_args(&sandbox, "ADD", format!("IP={address}"), GATEWAY).code(),
            101,
            "{why}"
        );
        assert!(sandbox.is_untouched());
    }
}

#[test]
fn an_address_that_another_holds_is_refused() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.add("other", RANGE).addresses(), ["10.1.2.1"]);
    assert!(100 <= with_args(&sandbox, "ADD", "IP=10.1.2.1", RANGE).code());
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
}

#[test]
fn an_empty_ip_asks_for_nothing_and_a_lower_case_one_is_unknown() {
    assert_eq!(add("IP=").addresses(), ["10.1.2.1"]);
    assert_eq!(add("ip=10.1.2.77").code(), 4);
    assert_eq!(add("ip=10.1.2.77;IgnoreUnknown=1").addresses(), ["10.1.2.1"]);
}

#[test]
fn an_ipv4_mapped_request_is_7() {
    assert_eq!(add("IP=::ffff:10.1.2.77/120").code(), 7);
}

#[test]
fn unknown_keys_need_ignore_unknown() {
    assert_eq!(add("FOO=BAR").code(), 4);
    for args in
        ["FOO=BAR;IgnoreUnknown=1", "IgnoreUnknown=true;FOO=BAR", "IgnoreUnknown=TRUE;FOO=BAR"]
    {
        add(args).succeeded();
    }
}

#[test]
fn malformed_args_are_4_on_add_and_no_matter_on_del() {
    for args in ["FOO", "A=b=c", "IgnoreUnknown=1;", ";;"] {
        assert_eq!(add(args).code(), 4, "{args}");
        let sandbox = Sandbox::new();
        sandbox.add("abc123", RANGE).succeeded();
        with_args(&sandbox, "DEL", args, RANGE).succeeded();
        assert!(sandbox.held().is_empty());
    }
}

#[test]
fn multus_sends_every_key_twice() {
    let once = "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=;K8S_POD_UID=u1";
    add(&format!("{once};{once}")).succeeded();
}

#[test]
fn a_value_that_is_no_text_is_fine_where_nobody_looks() {
    let args = OsString::from_vec(b"IgnoreUnknown=1;FOO=\xff\xfe".to_vec());
    with_args(&Sandbox::new(), "ADD", args, RANGE).succeeded();
}

fn with_extra(extra: &str, args: &str, ipam: &str) -> Ended {
    let text = configuration(ipam).replacen('{', &format!("{{{extra}"), 1);
    Sandbox::new().call("ADD").set("CNI_ARGS", args).stdin(text).run()
}

#[test]
fn runtime_config_asks_for_both_families() {
    let ipam = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"2001:db8::/64"}]"#;
    let extra = r#""runtimeConfig":{"ips":["2001:db8::77","10.1.2.77/24"]},"#;
    assert_eq!(with_extra(extra, "", ipam).addresses(), ["10.1.2.77", "2001:db8::77"]);
}

#[test]
fn runtime_config_wins_over_the_other_two() {
    let extra = r#""runtimeConfig":{"ips":["10.1.2.7"]},"args":{"cni":{"ips":["10.1.2.8"]}},"#;
    assert_eq!(with_extra(extra, "IP=10.1.2.9", RANGE).addresses(), ["10.1.2.7"]);
}
