//! Network namespaces for one test: a node, and other hosts that cables connect to it.

use super::forward::Forward;
use crate::support::sandbox::Ended;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A network namespace that lives as long as this value.
pub(super) struct Host {
    process: String,
    holder: Child,
    /// The way to the API server, if the tests run on the Kubernetes store.
    #[expect(dead_code, reason = "kept until it is dropped")]
    server: Option<Forward>,
}

impl Host {
    /// Makes an empty namespace, or prints why the test is skipped.
    pub(super) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skipped!("needs root, for network namespaces");
            return None;
        }
        let script = "ip link set lo up && echo $$ && read _";
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut process).unwrap();
        let process = process.trim().to_owned();
        if process.is_empty() {
            skipped!("no network namespace: {:?}", holder.wait_with_output());
            return None;
        }
        let server = Forward::to_the_store(&process);
        Some(Self { process, holder, server })
    }

    /// Returns the process in it.
    pub(super) fn process(&self) -> &str {
        &self.process
    }

    /// Returns the words that start a program in it.
    pub(super) fn inside(&self) -> [String; 5] {
        ["nsenter", "--target", &self.process, "--net", "--"].map(str::to_owned)
    }

    /// Runs the commands of a script, each of which must succeed.
    pub(super) fn run(&self, script: &str) -> Ended {
        let [program, args @ ..] = self.inside();
        let output = Command::new(program).args(args).args(["sh", "-ec", script]).output().unwrap();
        let ended = Ended::from(output);
        ended.succeeded();
        ended
    }

    /// Lays a cable to another host. Its ends have these names.
    pub(super) fn connect(&self, here: &str, other: &Self, there: &str) {
        // The IPv6 addresses of a cable are usable at once.
        for host in [self, other] {
            host.run("echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad");
        }
        let there_in = &other.process;
        self.run(&format!("ip link add {here} type veth peer name {there} netns {there_in}"));
        self.run(&format!("ip link set {here} up"));
        other.run(&format!("ip link set {there} up"));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
