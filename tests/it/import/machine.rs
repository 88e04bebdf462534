//! A machine with the real cnitool, macvlan and host-local.

use crate::real_parts::{kernel_has, tools};
use crate::support::sandbox::{Ended, HEREABOUTS, Sandbox, make_store};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A machine in network and mount namespaces of its own, with one network, `net`. Its pods are named
/// namespaces.
pub(super) struct Machine {
    pub(super) sandbox: Sandbox,
    tools: PathBuf,
    process: String,
    holder: Child,
}

impl Machine {
    /// Makes a machine whose network uses host-local, with these keys of `ipam`, or prints why the
    /// test is skipped.
    pub(super) fn new(ipam: &Value) -> Option<Self> {
        let tools = tools().map_err(|reason| skipped!("{reason}")).ok()?;
        if !kernel_has("macvlan") {
            skipped!("this kernel has no macvlan");
            return None;
        }
        let sandbox = Sandbox::new();
        make_store(&sandbox.store());
        let script = "mount -t tmpfs none /var/lib && mount -t tmpfs none /run && mkdir /run/netns \
            && ip link set lo up \
            && ip link add up0 type veth peer name up1 && ip link set up0 up \
            && ip link set up1 up && echo $$ && read _";
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-ec", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut process).unwrap();
        let process = process.trim().to_owned();
        for directory in ["net.d", "bin"] {
            std::fs::create_dir(sandbox.path(directory)).unwrap();
        }
        std::os::unix::fs::symlink(HEREABOUTS, sandbox.path("bin/hereabouts")).unwrap();
        let machine = Self { sandbox, tools, process, holder };
        machine.serve("host-local", ipam);
        Some(machine)
    }

    /// Writes the configuration of a network.
    pub(super) fn write_network(&self, name: &str, plugin: &str, ipam: &Value) -> PathBuf {
        let mut ipam = ipam.clone();
        ipam["type"] = json!(plugin);
        let list = json!({"cniVersion": "1.0.0", "name": name, "plugins": [
            {"type": "macvlan", "master": "up0", "ipam": ipam},
        ]});
        self.sandbox.write(&format!("net.d/{name}.conflist"), &list.to_string())
    }

    /// Lets another IPAM plugin serve the network `net`.
    pub(super) fn serve(&self, plugin: &str, ipam: &Value) {
        self.write_network("net", plugin, ipam);
    }

    fn inside(&self) -> [String; 7] {
        ["nsenter", "--target", &self.process, "--net", "--mount", "--wd=/", "--"]
            .map(str::to_owned)
    }

    /// Runs a script on the machine, which must succeed.
    pub(super) fn run(&self, script: &str) -> Ended {
        let [program, args @ ..] = self.inside();
        let output = Command::new(program).args(args).args(["sh", "-ec", script]).output().unwrap();
        let ended = Ended::from(output);
        ended.succeeded();
        ended
    }

    /// Calls cnitool for a pod of a network.
    pub(super) fn cni_of(&self, network: &str, verb: &str, pod: &str) -> Ended {
        let [program, args @ ..] = self.inside();
        let output = Command::new(program)
            .args(args)
            .arg(self.tools.join("cnitool"))
            .args([verb, network, &format!("/run/netns/{pod}")])
            .env("CNI_PATH", format!("{}:{}", self.sandbox.path("bin").display(), self.tools.display()))
            .env("NETCONFPATH", self.sandbox.path("net.d"))
            .env("CNI_IFNAME", "eth0")
            .env("HEREABOUTS_CONFIG", self.sandbox.path("flat.conf"))
            .env(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_UID=u-{pod}"),
            )
            .output()
            .unwrap();
        Ended::from(output)
    }

    pub(super) fn cni(&self, verb: &str, pod: &str) -> Ended {
        self.cni_of("net", verb, pod)
    }

    /// Starts a pod, and returns its addresses.
    pub(super) fn start(&self, pod: &str) -> Vec<String> {
        // The addresses are usable at once: IPv6 looks for no duplicates.
        self.run(&format!(
            "ip netns add {pod}
             ip netns exec {pod} sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'"
        ));
        let ended = self.cni("add", pod);
        ended.succeeded().addresses()
    }

    /// Runs a command of hereabouts on the machine.
    pub(super) fn command(&self, args: &[&str]) -> Ended {
        self.sandbox.command_call(args).through(&self.inside()).run()
    }

    /// Imports from host-local. Returns the state of each address, and the whole end.
    pub(super) fn import(&self, more: &[&str]) -> (Vec<(String, String)>, Ended) {
        let ended = self.command(&[&["import", "host-local", "-o", "json"], more].concat());
        let rows: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let rows = rows["addresses"].as_array().unwrap();
        (rows.iter().map(|row| (text(row, "address"), text(row, "state"))).collect(), ended)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
