//! The real cnitool makes ADD, CHECK, DEL and STATUS through the real main plugins, with conflists
//! of every version. Two nodes share one directory.

use super::{kernel_has, tools};
use crate::support::sandbox::{HEREABOUTS, Sandbox, configuration, make_store};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Uses one attachment with each version. Prints the reason if this is impossible.
fn drive(plugin: &str, kernel: Option<&str>) {
    let tools = match tools() {
        Ok(tools) => tools,
        Err(reason) => return skipped!("{reason}"),
    };
    if let Some(kind) = kernel.filter(|kind| !kernel_has(kind)) {
        return skipped!("this kernel has no {kind}");
    }
    for version in VERSIONS {
        let sandbox = Sandbox::new();
        std::fs::create_dir(sandbox.path("net.d")).unwrap();
        std::fs::create_dir(sandbox.path("bin")).unwrap();
        std::os::unix::fs::symlink(HEREABOUTS, sandbox.path("bin/hereabouts")).unwrap();
        let list = format!(
            r#"{{"cniVersion":"{version}","name":"test","plugins":[{{{plugin},"ipam":{{"type":"hereabouts","range":"10.88.0.0/24","gateway":"10.88.0.1"}}}}]}}"#
        );
        sandbox.write("net.d/test.conflist", &list);
        make_store(&sandbox.store());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/real_parts/drive.sh");
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            script,
        ]);
        command.args([
            tools.to_str().unwrap(),
            HEREABOUTS,
            sandbox.root.to_str().unwrap(),
            version,
        ]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn macvlan_of_every_version() {
    drive(r#""type":"macvlan","master":"eth0","mode":"bridge""#, Some("macvlan"));
}

#[test]
fn ipvlan_of_every_version() {
    drive(r#""type":"ipvlan","master":"eth0""#, Some("ipvlan"));
}

#[test]
fn bridge_of_every_version() {
    drive(r#""type":"bridge","bridge":"br0","isGateway":true"#, Some("macvlan"));
}

#[test]
fn ptp_of_every_version() {
    drive(r#""type":"ptp""#, Some("macvlan"));
}

/// Each node has its own network and mount namespaces and its own flat file, on one directory: 32
/// processes each, all at once.
#[test]
fn two_nodes_at_once_share_one_directory() {
    if !nix::unistd::geteuid().is_root() {
        return skipped!("needs root");
    }
    let sandbox = Sandbox::new();
    let stdin = sandbox.write("stdin", &configuration(r#""range":"10.1.0.0/16""#));
    let nodes: Vec<_> = ["n1", "n2"]
        .iter()
        .map(|node| {
            sandbox.write(&format!("{node}.conf"), &sandbox.flat(node));
            let script = format!(
                "for n in $(seq 32); do CNI_CONTAINERID=c$n {HEREABOUTS} < {} > {}/{node}.$n & done; wait",
                stdin.display(),
                sandbox.root.display()
            );
            let call = sandbox.call("ADD").set("HEREABOUTS_CONFIG", sandbox.path(&format!("{node}.conf"))).clone();
            let mut command = Command::new("unshare");
            command.args(["--net", "--mount", "bash", "-c", &script]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            command.envs(call.environment).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut node in nodes {
        node.wait().unwrap();
    }
    let mut given = BTreeSet::new();
    for (node, n) in ["n1", "n2"].iter().flat_map(|node| (1..=32).map(move |n| (node, n))) {
        let text = std::fs::read_to_string(sandbox.path(&format!("{node}.{n}"))).unwrap();
        let document: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        given.insert(
            document["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("{text}")).to_owned(),
        );
    }
    assert_eq!(given, (1..=64).map(|n| format!("10.1.0.{n}/16")).collect());
    assert_eq!(sandbox.held().len(), 64);
}
