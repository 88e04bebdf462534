//! Each row of docs/main-plugins.md with the real main plugin: a new release that behaves
//! differently is noticed here. The rows about Multus are in `multus::rows`.

use crate::real_parts::{kernel_has, tools};
use crate::support::sandbox::{HEREABOUTS, Sandbox, make_store};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const MACVLAN: &str = r#""type":"macvlan","master":"eth0","mode":"bridge""#;
const BRIDGE: &str = r#""type":"bridge","bridge":"br0""#;
const PTP: &str = r#""type":"ptp""#;
const HOST_DEVICE: &str = r#""type":"host-device","device":"dev0""#;
const TAP: &str = r#""type":"tap""#;

const V4: &str = r#""range":"10.0.0.0/24","gateway":"10.0.0.1""#;
const V6: &str = r#""range":"fd00::/64","gateway":"fd00::1""#;

/// Returns the folder of the plugins, or why this machine does not have them.
fn plugins() -> Option<PathBuf> {
    let built = tools().and_then(|found| {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(root.join("scripts/tools")).arg("plugins").output();
        let output = output.map_err(|error| error.to_string())?;
        let reason = || String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(found).ok_or_else(reason)
    });
    match built {
        Ok(found) => Some(found),
        Err(reason) => {
            skipped!("{reason}");
            None
        }
    }
}

/// Runs steps with a list of one main plugin and other plugins after it. Returns what they print.
fn play(plugin: &str, ipam: &str, behind: &str, steps: &str) -> Option<String> {
    let tools = plugins()?;
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("net.d")).unwrap();
    std::fs::create_dir(sandbox.path("bin")).unwrap();
    std::os::unix::fs::symlink(HEREABOUTS, sandbox.path("bin/hereabouts")).unwrap();
    let list = format!(
        r#"{{"cniVersion":"1.1.0","name":"test","plugins":[{{{plugin},"ipam":{{"type":"hereabouts",{ipam}}}}}{behind}]}}"#
    );
    sandbox.write("net.d/test.conflist", &list);
    make_store(&sandbox.store());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/main_plugins/play.sh");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", script]);
    command.args([tools.to_str().unwrap(), HEREABOUTS, sandbox.root.to_str().unwrap(), steps]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some(format!("{out}{err}"))
}

/// Runs steps with one main plugin, and requires words in what they print.
fn seen(plugin: &str, ipam: &str, steps: &str, words: &[&str]) {
    seen_in_list(plugin, ipam, "", steps, words);
}

fn seen_in_list(plugin: &str, ipam: &str, behind: &str, steps: &str, words: &[&str]) {
    if let Some(printed) = play(plugin, ipam, behind, steps) {
        for word in words {
            assert!(printed.contains(word), "{plugin}: no {word:?} in:\n{printed}");
        }
    }
}

fn with_routes(range: &str, routes: &str) -> String {
    format!(r#"{range},"routes":[{routes}]"#)
}

#[test]
fn dns_dropped() {
    let ipam = format!(r#"{V4},"dns":{{"nameservers":["10.0.0.53"]}}"#);
    let steps = r#"cni add | jq -c '"dns", .dns.nameservers // []' | tr '\n' ' '"#;
    for plugin in [MACVLAN, HOST_DEVICE, TAP] {
        seen(plugin, &ipam, steps, &[r#""dns" []"#]);
    }
    for plugin in [BRIDGE, PTP] {
        seen(plugin, &ipam, steps, &[r#""dns" ["10.0.0.53"]"#]);
    }
}

#[test]
fn route_mtu() {
    let ipam = with_routes(V4, r#"{"dst":"10.9.0.0/16","mtu":1400,"advmss":1300,"priority":7}"#);
    let steps = "cni add | jq -c .routes; echo in the kernel: $(pod route show 10.9.0.0/16)";
    let kernel = "10.9.0.0/16 via 10.0.0.1 dev net1 metric 7";
    for plugin in [MACVLAN, BRIDGE, HOST_DEVICE, TAP] {
        let Some(printed) = play(plugin, &ipam, "", steps) else { return };
        let (result, kernels) = printed.split_once("in the kernel: ").unwrap();
        assert!(result.contains(r#""mtu":1400"#) && result.contains(r#""advmss":1300"#));
        assert!(kernels.contains(kernel) && !kernels.contains("mtu 1400"), "{kernels}");
    }
}

#[test]
fn route_unreachable() {
    let steps = "cni add; echo after: $(pod -br address show net1); cni del; echo held: $(held)";
    let outside = with_routes(V4, r#"{"dst":"10.9.0.0/16","gw":"10.7.0.1"}"#);
    for plugin in [MACVLAN, BRIDGE, HOST_DEVICE, TAP] {
        seen(plugin, &outside, steps, &["network is unreachable", "after: net1", "10.0.0.2/24"]);
    }
    seen(PTP, &outside, steps, &["network is unreachable"]);
    let outside = with_routes(V6, r#"{"dst":"fd09::/64","gw":"fd07::1"}"#);
    seen(MACVLAN, &outside, steps, &["no route to host"]);
    // Unless an earlier route leads to the gateway.
    let on_link = r#"{"dst":"10.7.0.1/32","scope":253},{"dst":"10.9.0.0/16","gw":"10.7.0.1"}"#;
    let on_link = with_routes(r#""range":"10.0.0.0/24""#, on_link);
    let steps = "cni add >/dev/null && pod route show 10.9.0.0/16";
    seen(MACVLAN, &on_link, steps, &["via 10.7.0.1 dev net1"]);
}

#[test]
fn route_twice() {
    let ipam = with_routes(V4, r#"{"dst":"10.9.0.0/16"},{"dst":"10.9.0.0/16","gw":"10.0.0.1"}"#);
    let steps = "cni add; echo after: $(pod -br address show net1)";
    for plugin in [MACVLAN, BRIDGE, HOST_DEVICE, TAP] {
        seen(plugin, &ipam, steps, &["file exists", "10.0.0.2/24"]);
    }
    let ipam = with_routes(V6, r#"{"dst":"fd09::/64"},{"dst":"fd09::/64","gw":"fd00::1"}"#);
    seen(BRIDGE, &ipam, steps, &["file exists"]);
}

#[test]
fn route_family() {
    let steps = "cni add >/dev/null && echo added; pod route show; pod -6 route show";
    let (v4, v6) = (r#""range":"10.0.0.0/24""#, r#""range":"fd00::/64""#);
    for plugin in [MACVLAN, BRIDGE] {
        let words = ["added", "fd09::/64 dev net1"];
        seen(plugin, &with_routes(v4, r#"{"dst":"fd09::/64"}"#), steps, &words);
        let words = ["added", "10.9.0.0/16 dev net1"];
        seen(plugin, &with_routes(v6, r#"{"dst":"10.9.0.0/16"}"#), steps, &words);
        // With a gateway, it is out of reach.
        let route = r#"{"dst":"fd09::/64","gw":"fd00::1"}"#;
        seen(plugin, &with_routes(v4, route), steps, &["no route to host"]);
        let route = r#"{"dst":"10.9.0.0/16","gw":"10.0.0.1"}"#;
        seen(plugin, &with_routes(v6, route), steps, &["network is unreachable"]);
    }
}

#[test]
fn ptp_gateway() {
    let steps = "cni add; echo held: $(held)";
    for range in [r#""range":"10.0.0.0/24""#, r#""range":"fd00::/64""#] {
        seen(PTP, range, steps, &["because the main plugin ptp needs it"]);
    }
    seen(PTP, V4, "cni add >/dev/null && echo added", &["added"]);
}

#[test]
fn last_gateway() {
    let ipam = with_routes(
        V4,
        r#"{"dst":"10.9.0.0/16","gw":"10.0.0.5"},{"dst":"10.9.0.0/16","gw":"10.0.0.6"},{"dst":"10.9.0.0/16","gw":"10.0.0.7"}"#,
    );
    let steps = "cni add >/dev/null; pod route get 10.9.0.1; cni check && echo checked";
    for plugin in [MACVLAN, BRIDGE, HOST_DEVICE] {
        seen(plugin, &ipam, steps, &["via 10.0.0.7", "checked"]);
    }
}

#[test]
fn multipath() {
    let ipam =
        with_routes(V6, r#"{"dst":"fd09::/64","gw":"fd00::5"},{"dst":"fd09::/64","gw":"fd00::6"}"#);
    let steps = "cni add >/dev/null; echo $(pod -6 route show fd09::/64); cni check";
    let multipath = "nexthop via fd00::5 dev net1 weight 1 nexthop via fd00::6 dev net1 weight 1";
    for plugin in [MACVLAN, BRIDGE] {
        seen(plugin, &ipam, steps, &[multipath, "not found in routing table"]);
    }
}

#[test]
fn check_table() {
    let ipam = with_routes(V4, r#"{"dst":"10.9.0.0/16","gw":"10.0.0.1","table":100}"#);
    let steps = "cni add >/dev/null; pod route show table 100; cni check";
    for plugin in [MACVLAN, BRIDGE, HOST_DEVICE] {
        let words = ["10.9.0.0/16 via 10.0.0.1 dev net1", "not found in routing table"];
        seen(plugin, &ipam, steps, &words);
    }
}

#[test]
fn check_32() {
    let steps = "cni add >/dev/null && echo added; cni check";
    for plugin in [MACVLAN, BRIDGE, HOST_DEVICE, TAP] {
        seen(plugin, r#""range":"10.0.0.5/32""#, steps, &["added", "Failed to find Gateway"]);
    }
}

#[test]
fn ptp_32() {
    let steps = "cni add >/dev/null && echo added";
    let fixed = |address: &str, gateway: &str| {
        format!(r#""addresses":[{{"address":"{address}","gateway":"{gateway}"}}]"#)
    };
    seen(PTP, &fixed("10.0.0.5/32", "10.0.0.1"), steps, &["failed to delete route"]);
    seen(PTP, &fixed("fd00::5/128", "fd00::1"), steps, &["added"]);
}

#[test]
fn sbr_link_local() {
    let ipam = with_routes(V6, r#"{"dst":"fd09::/64","gw":"fe80::1"},{"dst":"fd08::/64"}"#);
    let steps = "cni add >/dev/null && echo added; echo kept: $(pod -6 route show table all fd08::/64), lost: $(pod -6 route show table all fd09::/64).";
    let sbr = r#",{"type":"sbr"}"#;
    seen_in_list(MACVLAN, &ipam, sbr, steps, &["added", "kept: fd08::/64 via fd00::1", "lost: ."]);
}

#[test]
fn sbr_check() {
    let steps = "cni add >/dev/null && echo added; pod route show table 100; cni check";
    let words = ["added", "default via 10.0.0.1 dev net1", "Failed to find Gateway"];
    seen_in_list(MACVLAN, V4, r#",{"type":"sbr"}"#, steps, &words);
}

/// Prints how long ADD took, in ms.
const TIMED: &str = r#"start=$(date +%s%N); cni add >/dev/null && took=$((($(date +%s%N) - start) / 1000000)); ((took > 900)) && echo slow || echo "quick: $took""#;

#[test]
fn slow_ipv6() {
    for plugin in [MACVLAN, HOST_DEVICE, TAP, PTP] {
        seen(plugin, V6, TIMED, &["slow"]);
    }
    seen(BRIDGE, V6, TIMED, &["quick"]);
}

#[test]
fn duplicate_ipv6() {
    // The foreign host is at the other end of the cable.
    let steps = "ip netns add foreign; ip link set eth1 netns foreign; ip -n foreign link set eth1 up; ip -n foreign address add fd00::1/64 dev eth1 nodad; cni add >/dev/null && echo added; sleep 2; pod address show net1 | grep -o dadfailed; cni check && echo checked";
    let range = r#""range":"fd00::/64""#;
    seen(MACVLAN, range, steps, &["added", "dadfailed", "checked"]);
}

#[test]
fn host_device_del() {
    let steps = "cni add >/dev/null && echo added; ip netns delete pod; cni del; echo held: $(held). && \"$hereabouts\" sweep --yes >/dev/null; echo swept: $(held).";
    seen(HOST_DEVICE, V4, steps, &["added", "held: 10.0.0.2.", "swept: ."]);
    let steps =
        "cni add >/dev/null && echo added; ip netns delete pod; cni del; echo held: $(held).";
    seen(MACVLAN, V4, steps, &["added", "held: ."]);
}

/// Calls GC of the main plugin, with no attachment in the list of the runtime.
const COLLECT: &str = r#"
    collect() {
        jq -c '.plugins[0] + {cniVersion, name, "cni.dev/valid-attachments": []}' "$work/net.d/test.conflist" |
            CNI_COMMAND=GC "$tools/$(jq -r '.plugins[0].type' "$work/net.d/test.conflist")" && echo collected
    }"#;

#[test]
fn gc() {
    let steps = format!(
        "{COLLECT}\ncni add >/dev/null && echo added; ip netns delete pod; collect; echo held: $(held)."
    );
    for plugin in [MACVLAN, BRIDGE, PTP, HOST_DEVICE, TAP] {
        seen(plugin, V4, &steps, &["added", "collected", "held: 10.0.0.2."]);
    }
}

/// Runs the rows of a plugin whose device many kernels lack; only up to the device if the kernel
/// lacks it.
fn rows_of(plugin: &str, device: &str, keeps_dns: bool) {
    let ipam = format!(r#"{V4},"dns":{{"nameservers":["10.0.0.53"]}}"#);
    if !kernel_has(device) {
        let steps = format!("{COLLECT}\ncollect; cni add; echo held: $(held).");
        seen(plugin, &ipam, &steps, &["collected", "not supported"]);
        return skipped!("this kernel has no {device}");
    }
    let dns = r#"cni add | jq -c '"dns", .dns.nameservers // []' | tr '\n' ' '"#;
    seen(plugin, &ipam, dns, &[if keeps_dns { r#""dns" ["10.0.0.53"]"# } else { r#""dns" []"# }]);
    let check = "cni add >/dev/null && echo added; cni check";
    seen(plugin, r#""range":"10.0.0.5/32""#, check, &["added", "Failed to find Gateway"]);
    seen(plugin, V6, TIMED, &["slow"]);
    let steps = format!(
        "{COLLECT}\ncni add >/dev/null && echo added; ip netns delete pod; collect; echo held: $(held)."
    );
    seen(plugin, V4, &steps, &["added", "collected", "held: 10.0.0.2."]);
}

#[test]
fn rows_of_ipvlan() {
    rows_of(r#""type":"ipvlan","master":"eth0""#, "ipvlan", false);
}

#[test]
fn rows_of_vlan() {
    rows_of(r#""type":"vlan","master":"eth0","vlanId":7"#, "vlan id 7", false);
}

#[test]
fn rows_of_dummy() {
    rows_of(r#""type":"dummy""#, "dummy", true);
}

/// Checks a list item below the table.
#[test]
fn del_that_fails() {
    let steps = r#"cni add >/dev/null && echo added; mv "$work/bin/hereabouts" "$work/bin/away"; printf '#!/bin/sh\ncat >/dev/null; echo "{\"code\":11,\"msg\":\"busy\"}"; exit 1\n' >"$work/bin/hereabouts"; chmod +x "$work/bin/hereabouts"; cni del; echo after: $(pod -br address show net1 2>&1)"#;
    for plugin in [MACVLAN, HOST_DEVICE] {
        seen(plugin, V4, steps, &["added", "busy", "10.0.0.2/24"]);
    }
    seen(BRIDGE, V4, steps, &["added", "busy", "does not exist"]);
}

/// The names of these tests are the rows of the table.
#[test]
fn every_row_is_played() {
    let document = include_str!("../../docs/main-plugins.md");
    let sources = [include_str!("main_plugins.rs"), include_str!("multus/rows.rs")];
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for row in rows {
        let test = format!("fn {}()", row.replace('-', "_"));
        assert!(sources.iter().any(|source| source.contains(&test)), "no test plays {row}");
    }
}

/// What a runtime other than Multus does. Multus is in `multus::rows`.
#[test]
fn ips_undeclared_elsewhere() {
    let steps = r#"export CAP_ARGS='{"ips":["10.0.0.77/24"]}'; cni add | jq -c '.ips[].address'"#;
    seen(MACVLAN, V4, steps, &["10.0.0.2/24"]);
    let declared = format!(r#"{MACVLAN},"capabilities":{{"ips":true}}"#);
    seen(&declared, V4, steps, &["10.0.0.77/24"]);
}
