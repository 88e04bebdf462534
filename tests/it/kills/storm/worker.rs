//! One of the 64: a node's runtime for one pod, whose calls are often killed.
//!
//! It creates sandboxes of its pod one after the other, repeats or gives up killed calls, and
//! remembers the answers. A sandbox is alive as long as the path of its namespace exists.

use super::Tally;
use super::victim::{self, Aim, Fate};
use crate::kills::scene::printed;
use crate::support::cached::Draw;
use crate::support::checker::Printed;
use crate::support::sandbox::{Call, Sandbox, configuration};
use std::collections::BTreeSet;
use std::path::PathBuf;

const ONE: &str = r#""range":"10.1.2.0/24""#;
/// The second range is small: 6 addresses for 16 pods and what killed calls leak.
const TWO: &str = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"10.1.3.0/29"}]"#;

pub(super) struct Worker<'s> {
    sandbox: &'s Sandbox,
    number: usize,
    draw: Draw,
    /// The number of sandboxes so far.
    made: usize,
    now: Now,
    /// The answers that it got and has not ended since.
    pub(super) printed: Printed,
    /// Containers for which a DEL answered that they hold nothing.
    pub(super) freed: BTreeSet<String>,
    pub(super) tally: Tally,
}

/// The error of a call after its deadline: others had the lock, or there was more to do. This may
/// happen on a busy machine.
const OUT_OF_TIME: [&str; 2] = [" was not free within ", "the deadline of "];

/// Returns whether a call gave up for that reason.
fn gave_up(fate: &Fate) -> bool {
    let said = [&fate.ended.stdout, &fate.ended.stderr];
    fate.ended.status == Some(1)
        && OUT_OF_TIME.iter().any(|words| said.iter().any(|said| said.contains(words)))
}

/// What the runtime knows about its newest sandbox.
#[derive(Debug, Clone)]
enum Now {
    /// There is none.
    Nothing,
    /// Its ADD did not answer.
    Asked(String),
    /// Its ADD answered.
    Holds(String),
    /// Its DEL did not answer.
    Leaving(String),
}

impl<'s> Worker<'s> {
    pub(super) fn new(sandbox: &'s Sandbox, number: usize) -> Self {
        let draw = Draw(number as u64);
        Self {
            sandbox,
            number,
            draw,
            made: 0,
            now: Now::Nothing,
            printed: Printed::new(),
            freed: BTreeSet::new(),
            tally: Tally::default(),
        }
    }

    /// Makes the next call.
    pub(super) fn turn(&mut self) {
        match (self.now.clone(), self.draw.below(32)) {
            (_, 0..=1) => self.collect(),
            (_, 2) => self.sweep(),
            (Now::Asked(container), 3..=14) | (Now::Holds(container), 3..=8) => self.add(container),
            (Now::Asked(container) | Now::Holds(container) | Now::Leaving(container), 9..=20) => {
                self.del(&container)
            }
            // The next sandbox belongs to the same pod, and finds this one dead.
            _ => {
                self.give_up();
                self.made += 1;
                self.add(format!("w{}n{}", self.number, self.made));
            }
        }
    }

    fn netns(&self, container: &str) -> PathBuf {
        self.sandbox.path(&format!("netns/{container}"))
    }

    fn call(&self, verb: &str, container: &str, stdin: &str) -> Call {
        let mut call = self.sandbox.call(verb);
        call.set("CNI_CONTAINERID", container)
            .set("CNI_NETNS", self.netns(container))
            .set("CNI_NETNS_OVERRIDE", "true")
            .set("CNI_ARGS", format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME=p{}", self.number))
            .stdin(stdin);
        call
    }

    fn configuration(&self) -> String {
        configuration(if self.number.is_multiple_of(4) { TWO } else { ONE })
    }

    fn add(&mut self, container: String) {
        let netns = self.netns(&container);
        if !netns.is_symlink() {
            // A namespace that certainly exists as long as the path.
            std::os::unix::fs::symlink(format!("/proc/{}/ns/net", std::process::id()), &netns)
                .unwrap();
        }
        let fate = self.run("ADD", &self.call("ADD", &container, &self.configuration()), 8);
        let Some(addresses) = printed_whole(&fate) else {
            let refused = !fate.killed && fate.ended.status != Some(0);
            // Exhausted by leaks, or waited too long among the others.
            assert!(fate.killed || refused && [11, 100].contains(&fate.ended.code()), "{fate:?}");
            if refused {
                *self.tally.refused.entry(fate.ended.code()).or_default() += 1;
            }
            if !self.printed.contains_key(&container) {
                self.now = Now::Asked(container);
            }
            return;
        };
        let before = self.printed.insert(container.clone(), addresses.clone());
        assert!(
            before.as_ref().is_none_or(|before| *before == addresses),
            "another answer than {before:?}: {fate:?}"
        );
        self.now = Now::Holds(container);
    }

    fn del(&mut self, container: &str) {
        self.end(container);
        let fate = self.run("DEL", &self.call("DEL", container, &self.configuration()), 6);
        if fate.killed || gave_up(&fate) {
            self.now = Now::Leaving(container.to_owned());
            return;
        }
        fate.ended.succeeded();
        self.freed.insert(container.to_owned());
        self.now = Now::Nothing;
    }

    /// Makes a GC. The list contains only this worker's own containers. All others are spared
    /// because they are alive.
    fn collect(&mut self) {
        let valid: Vec<String> = self
            .printed
            .keys()
            .map(|container| format!(r#"{{"containerID":"{container}","ifname":"net1"}}"#))
            .collect();
        let list = format!(r#"{{"cni.dev/valid-attachments":[{}],"#, valid.join(","));
        let mut call = self.call("GC", "", &self.configuration().replacen('{', &list, 1));
        call.unset("CNI_CONTAINERID");
        let fate = self.run("GC", &call, 40);
        assert!(fate.killed || fate.ended.status == Some(0) || gave_up(&fate), "{fate:?}");
    }

    fn sweep(&mut self) {
        let mut call = self.sandbox.command_call(&["sweep", "--yes"]);
        call.set("CNI_NETNS_OVERRIDE", "true");
        let fate = self.run("sweep", &call, 40);
        assert!(fate.killed || fate.ended.status == Some(0) || gave_up(&fate), "{fate:?}");
    }

    /// Ends the sandbox without a DEL.
    fn give_up(&mut self) {
        if let Now::Asked(container) | Now::Holds(container) | Now::Leaving(container) =
            std::mem::replace(&mut self.now, Now::Nothing)
        {
            self.end(&container);
        }
    }

    /// Gives up everything that holds nothing, at the end of a round.
    pub(super) fn give_up_what_is_open(&mut self) {
        if !matches!(self.now, Now::Holds(_)) {
            self.give_up();
        }
    }

    fn end(&mut self, container: &str) {
        self.printed.remove(container);
        let netns = self.netns(container);
        if netns.is_symlink() {
            std::fs::remove_file(netns).unwrap();
        }
    }

    /// Runs a call. Most are killed soon after their first write, some anywhere, some not.
    fn run(&mut self, verb: &'static str, call: &Call, reach: usize) -> Fate {
        let aim = match self.draw.below(8) {
            0 => Aim::Never,
            1 => Aim::Call(self.draw.below(40)),
            _ => Aim::AfterWrite(self.draw.below(reach)),
        };
        let fate = victim::run(call, aim);
        self.tally.note(verb, &fate);
        fate
    }
}

/// Returns what an ADD printed, if it printed everything.
fn printed_whole(fate: &Fate) -> Option<Vec<std::net::IpAddr>> {
    // The result is one write, so it is complete or missing.
    if fate.ended.stdout.contains(r#""ips""#) { printed(&fate.ended) } else { None }
}
