//! One worker: a node's runtime for one pod after the other. It creates sandboxes, repeats or gives
//! up what failed, and writes down the answers.

use super::Storm;
use crate::support::cached::Draw;
use crate::support::history::What;
use crate::support::nodes::Node;
use crate::support::sandbox::{Call, Ended};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Large enough for all, small enough that nodes want the same addresses.
pub(super) const RANGE: &str = "10.9.0.0/25";

/// Lets a call say this about its addresses.
pub(super) fn with_ipam(call: &mut Call, ipam: &str) {
    let mut stdin: Value = serde_json::from_slice(&call.stdin).unwrap();
    let mut ipam: Value = serde_json::from_str(&format!("{{{ipam}}}")).unwrap();
    ipam["type"] = "hereabouts".into();
    stdin["ipam"] = ipam;
    call.stdin(stdin.to_string());
}

/// What a runtime knows about a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sandbox {
    /// Its ADD did not answer.
    Asked,
    /// Its ADD answered.
    Holds,
    /// Its DEL did not answer.
    Leaving,
    /// No DEL comes.
    GivenUp,
}

pub(super) struct Worker<'s> {
    storm: &'s Storm,
    node: &'s Node,
    number: usize,
    draw: Draw,
    made: usize,
    pub(super) sandboxes: BTreeMap<String, Sandbox>,
    results: BTreeMap<String, Value>,
    pub(super) times: Vec<(&'static str, Duration)>,
    /// By verb: the code, or none for a kill.
    pub(super) failed: BTreeMap<(&'static str, Option<u64>), usize>,
}

impl<'s> Worker<'s> {
    pub(super) fn new(storm: &'s Storm, node: &'s Node, number: usize, seed: u64) -> Self {
        let draw = Draw(seed.wrapping_mul(1000).wrapping_add(number as u64));
        let (sandboxes, results) = (BTreeMap::new(), BTreeMap::new());
        Self {
            storm,
            node,
            number,
            draw,
            made: 0,
            sandboxes,
            results,
            times: Vec::new(),
            failed: BTreeMap::new(),
        }
    }

    pub(super) fn holder(&self, container: &str) -> String {
        format!("{}/{container}", self.node.name)
    }

    /// Makes the next call.
    pub(super) fn turn(&mut self) {
        let known: Vec<String> = self.sandboxes.keys().cloned().collect();
        let one = (!known.is_empty()).then(|| known[self.draw.below(known.len())].clone());
        match (one, self.draw.below(20)) {
            (_, 0) => self.collect(),
            // As the DaemonSet does each minute.
            (_, 1) => drop(self.node.sandbox.command(&["slices", "sync"])),
            (Some(container), 2..=14) => self.go_on(&container),
            (None, _) | (Some(_), _) if self.sandboxes.len() < 5 => self.start(),
            (Some(container), _) => self.go_on(&container),
            (None, _) => self.start(),
        }
    }

    /// Starts a sandbox of a new pod, or the next one of a pod whose last sandbox has ended.
    fn start(&mut self) {
        let last =
            (self.draw.below(3) == 0).then(|| self.sandboxes.keys().next().cloned()).flatten();
        self.made += 1;
        let container = match &last {
            Some(last) => {
                self.end(last);
                self.sandboxes.insert(last.clone(), Sandbox::GivenUp);
                format!("{}_{}", last.split('_').next().unwrap(), self.made)
            }
            None => format!("w{}p{}_0", self.number, self.made),
        };
        self.add(&container);
    }

    fn go_on(&mut self, container: &str) {
        match (self.sandboxes[container], self.draw.below(8)) {
            (Sandbox::Asked, 0..=3) | (Sandbox::Holds, 0..=1) => self.add(container),
            (Sandbox::Holds, 2..=4) => self.check(container),
            _ => self.del(container),
        }
    }

    fn netns(&self, container: &str) -> std::path::PathBuf {
        self.node.sandbox.path(&format!("netns/{container}"))
    }

    fn call(&self, mut call: Call, container: &str) -> Call {
        with_ipam(&mut call, &self.storm.ipam);
        call.set("CNI_NETNS", self.netns(container)).set("CNI_NETNS_OVERRIDE", "true").clone()
    }

    fn add(&mut self, container: &str) {
        let (netns, holder) = (self.netns(container), self.holder(container));
        if !netns.is_symlink() {
            // A namespace that certainly exists as long as the path.
            std::os::unix::fs::symlink(format!("/proc/{}/ns/net", std::process::id()), &netns)
                .unwrap();
        }
        let call = self.call(self.node.call_in("ADD", container, RANGE), container);
        let ended = self.run("ADD", &holder, &call);
        if ended.stdout.contains(r#""ips""#) {
            let addresses: Vec<IpAddr> = Ended { status: Some(0), ..ended.clone() }
                .addresses()
                .iter()
                .map(|a| a.parse().unwrap())
                .collect();
            self.storm.history.note(&holder, What::Printed(addresses));
            self.results.insert(container.to_owned(), ended.document());
            self.sandboxes.insert(container.to_owned(), Sandbox::Holds);
            return;
        }
        self.fail("ADD", &holder, &ended, &[11, 100]);
        self.sandboxes.entry(container.to_owned()).or_insert(Sandbox::Asked);
    }

    fn check(&mut self, container: &str) {
        let holder = self.holder(container);
        let mut call = self.call(self.node.call_in("CHECK", container, RANGE), container);
        let mut stdin: Value = serde_json::from_slice(&call.stdin).unwrap();
        stdin["prevResult"] = self.results[container].clone();
        call.stdin(stdin.to_string());
        let ended = self.run("CHECK", &holder, &call);
        if ended.status == Some(0) {
            self.storm.history.note(&holder, What::Checked);
        } else {
            self.fail("CHECK", &holder, &ended, &[11, 102, 103]);
        }
    }

    pub(super) fn del(&mut self, container: &str) {
        let holder = self.holder(container);
        self.end(container);
        let call = self.call(self.node.call_in("DEL", container, RANGE), container);
        let ended = self.run("DEL", &holder, &call);
        if ended.status == Some(0) {
            self.storm.history.note(&holder, What::Freed);
            self.sandboxes.remove(container);
        } else {
            self.fail("DEL", &holder, &ended, &[11]);
            self.sandboxes.insert(container.to_owned(), Sandbox::Leaving);
        }
    }

    /// Makes a GC that lists this worker's own containers. All others are spared because they are
    /// alive.
    fn collect(&mut self) {
        let holder = self.holder(&format!("gc{}", self.number));
        let valid: Vec<&str> = self.results.keys().map(String::as_str).collect();
        let mut call = self.node.gc_call(&valid);
        with_ipam(&mut call, &self.storm.ipam);
        call.set("CNI_NETNS_OVERRIDE", "true");
        let ended = self.run("GC", &holder, &call);
        if ended.status != Some(0) {
            self.fail("GC", &holder, &ended, &[11]);
        }
    }

    fn end(&mut self, container: &str) {
        self.storm.history.note(&self.holder(container), What::Ended);
        self.results.remove(container);
        let netns = self.netns(container);
        if netns.is_symlink() {
            std::fs::remove_file(netns).unwrap();
        }
    }

    fn fail(&mut self, verb: &'static str, holder: &str, ended: &Ended, expected: &[u64]) {
        let code = ended.status.map(|_| ended.code());
        assert!(code.is_none_or(|code| expected.contains(&code)), "{verb} {holder}: {ended:?}");
        self.storm.history.note(holder, What::Failed(verb, code));
        *self.failed.entry((verb, code)).or_default() += 1;
    }

    /// Runs a call. Some are killed.
    #[allow(clippy::disallowed_methods, reason = "a test measures time")]
    fn run(&mut self, verb: &'static str, holder: &str, call: &Call) -> Ended {
        self.storm.history.note(holder, What::Invoked(verb));
        let kill = self.storm.kills() && self.draw.below(10) == 0;
        let patience = PollTimeout::from(u8::try_from(self.draw.below(40)).unwrap());
        let start = Instant::now();
        let mut child = call
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It was killed already and reads no more.
        let _ = child.stdin.take().unwrap().write_all(&call.stdin);
        let mut stdout = child.stdout.take().unwrap();
        if kill {
            let _ = poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)], patience);
            child.kill().unwrap();
        }
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        let status = child.wait().unwrap().code();
        if status.is_some() {
            self.times.push((verb, start.elapsed()));
        }
        Ended { status, stdout: text, stderr: String::new() }
    }
}
