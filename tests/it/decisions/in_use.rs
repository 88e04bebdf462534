//! The decisions about addresses that are in use although no record says so.

use crate::support::sandbox::{Ended, Sandbox, configuration};

const RANGE: &str = r#""range":"10.1.2.0/24""#;

/// Makes an ADD on a node whose network namespace the script prepares.
fn add_on(sandbox: &Sandbox, script: &str, whole: &str) -> Ended {
    let script = format!(r#"{script} && exec "$@""#);
    let mut call = sandbox.call("ADD");
    call.stdin(whole).through(&["unshare", "--net", "sh", "-c", &script, "sh"]).run()
}

#[test]
fn an_address_that_an_interface_of_the_node_has_is_passed_over() {
    if !nix::unistd::geteuid().is_root() {
        return skipped!("needs root, for a network namespace");
    }
    let sandbox = Sandbox::new();
    let script = "ip address add 10.1.2.1/24 dev lo && ip link set lo up";
    assert_eq!(add_on(&sandbox, script, &configuration(RANGE)).addresses(), ["10.1.2.2"]);
    sandbox.del("abc123", RANGE).succeeded();
    let fixed = configuration(r#""addresses":[{"address":"10.1.2.1/24"}]"#);
    let asked = add_on(&sandbox, script, &fixed);
    assert_eq!(asked.code(), 101, "{asked:?}");
}

#[test]
fn on_a_network_with_probe_an_address_that_another_host_answers_for_is_set_aside() {
    if !nix::unistd::geteuid().is_root() {
        return skipped!("needs root, for network namespaces");
    }
    let sandbox = Sandbox::new();
    // The other host is an inner namespace, which ends with its process.
    let script = "ip link add eth1 type veth peer name other && ip link set eth1 up \
        && { unshare --net sleep 5 >/dev/null 2>&1 & } && sleep 0.3 && ip link set other netns $! \
        && nsenter --net --target $! ip address add 10.1.2.1/24 dev other \
        && nsenter --net --target $! ip link set other up";
    let probed = |ipam: &str| {
        let probe = r#","probe":{"wait":"400ms"}"#;
        configuration(&format!("{ipam}{probe}")).replacen(
            r#""type":"macvlan""#,
            r#""type":"macvlan","master":"eth1""#,
            1,
        )
    };
    assert_eq!(add_on(&sandbox, script, &probed(RANGE)).addresses(), ["10.1.2.2"]);
    let fixed = r#""addresses":[{"address":"10.1.2.1/24"}]"#;
    sandbox.del("abc123", RANGE).succeeded();
    let asked = add_on(&sandbox, script, &probed(fixed));
    assert_eq!(asked.code(), 101, "{asked:?}");
}
