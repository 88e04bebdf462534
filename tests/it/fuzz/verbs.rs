//! Sequences of calls against a plain map of who holds what, on each store: what
//! differs between them is in `world`, `files` and `kube`. An input is text, one
//! step a line, words as numbers are taken modulo what there is, so that every
//! input means something:
//!
//! ```text
//! add <node> <container> <range> <scope> <pod> <more>    as the verb does it
//! more <node> <container> <range> <scope>                one address more
//! del <node> <container>                                 as the verb does it
//! first <node> <container>                               frees the first of several
//! stale <node> <n>                                       frees what the n-th answer said
//! unchanged <node> <n>                                   the same if it says so still
//! rehome <node> <n> <container>                          moves what the n-th answer said
//! gc <node> <n>                                          frees containers up to n
//! reboot <kept>                                          another boot id from now on
//! reopen                                                 new store objects, as a new process has
//! off <node>                                             an operator frees all of a node
//! vanish <n>                                             an operator deletes the n-th that is held
//! edit <n>                                               an operator puts a label on it
//! lose <node>                                            the node's own files are gone
//! ```
//!
//! After each step the listing, what each attachment and pod holds, and
//! whether there is room are the map's, as far as the store promises it.

mod claims;
mod compare;
mod files;
#[cfg(feature = "kube")]
mod kube;
mod world;

use crate::conformance::record;
pub(super) use compare::check_nothing_left;
use files::{Directory, Memory};
use hereabouts::addr::{AddrSet, Range};
use hereabouts::ipam::{Allocation, Attachment, NodeName, Record, Scope};
use hereabouts::plugin::del;
use hereabouts::retry::Deadline;
use hereabouts::store::{Access, Filter, Rehome, Release, Session};
#[cfg(feature = "kube")]
pub(super) use kube::check as check_on_the_api_server;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use world::{Move, World};

/// Longer sequences cost time and show little more.
const MOST_STEPS: usize = 60;
const CONTAINERS: usize = 8;

const PODS: &[Option<&str>] = &[None, Some("web"), Some("db")];
const RANGES: &[(&str, &str)] = &[
    ("10.0.0.1", "10.0.0.6"),
    ("10.0.0.4", "10.0.0.9"),
    ("10.0.0.254", "10.0.1.1"),
    ("2001:db8::1", "2001:db8::3"),
    ("255.255.255.255", "255.255.255.255"),
];

type Key = (Scope, IpAddr);
type Held = BTreeMap<Key, Allocation>;

/// One sequence, on the two stores that need no server.
pub(super) fn check(root: &Path, input: &[u8]) -> String {
    let steps = steps(input);
    let directory = root.join("store");
    let _ = std::fs::remove_dir_all(&directory);
    let file = Run::new(Box::new(Directory::new(directory.clone()))).play(&steps);
    check_nothing_left(&directory);
    let memory = Run::new(Box::new(Memory::new())).play(&steps);
    format!("{file}, in memory {memory}")
}

fn steps(input: &[u8]) -> Vec<Step> {
    String::from_utf8_lossy(input).lines().filter_map(Step::parse).take(MOST_STEPS).collect()
}

struct Step {
    verb: String,
    numbers: Vec<usize>,
}

impl Step {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let verb = words.next()?.to_owned();
        Some(Self { verb, numbers: words.map(|word| word.parse().unwrap_or(0)).collect() })
    }

    /// The n-th number, below `bound`.
    fn at(&self, n: usize, bound: usize) -> usize {
        self.numbers.get(n).map_or(0, |number| number % bound.max(1))
    }
}

struct Run {
    world: Box<dyn World>,
    held: Held,
    /// Every answer that was given, also those that no longer hold.
    answers: Vec<Allocation>,
    boot: usize,
    counts: BTreeMap<&'static str, usize>,
}

fn boot_id(boot: usize) -> String {
    format!("boot{boot}")
}

fn candidates(n: usize) -> AddrSet {
    let (first, last) = RANGES[n];
    AddrSet::from_range(&Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap())
}

fn key(allocation: &Allocation) -> Key {
    (allocation.scope.clone(), allocation.address)
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

impl Run {
    fn new(world: Box<dyn World>) -> Self {
        Self { world, held: Held::new(), answers: Vec::new(), boot: 0, counts: BTreeMap::new() }
    }

    fn node_name(&self, node: usize) -> &str {
        &self.world.names().nodes[node]
    }

    fn session(&self, node: usize, access: Access) -> Box<dyn Session + '_> {
        self.world.store(node).open(access, deadline()).unwrap()
    }

    fn record(&self, node: usize, container: usize, pod: Option<&str>) -> Record {
        Record {
            boot_id: boot_id(self.boot),
            ..record(self.node_name(node), &format!("c{container}"), pod)
        }
    }

    fn held_by(&self, attachment: &Attachment) -> Vec<Allocation> {
        let mut held: Vec<_> = self
            .held
            .values()
            .filter(|held| held.record.attachment == *attachment)
            .cloned()
            .collect();
        held.sort_by_key(|held| held.record.part.index);
        held
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn play(mut self, steps: &[Step]) -> String {
        for step in steps {
            let node = self.world.node(step.at(0, self.world.names().nodes.len()));
            self.step(node, step);
            self.compare(node);
        }
        for node in 0..self.world.names().nodes.len() {
            for container in 0..CONTAINERS {
                self.del(node, container);
            }
        }
        assert_eq!(self.held, Held::new(), "all was freed");
        for node in 0..self.world.names().nodes.len() {
            self.compare(node);
        }
        self.world.check_nothing_left();
        self.counts
            .iter()
            .map(|(what, times)| format!("{what} {}", times.ilog2()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn step(&mut self, node: usize, step: &Step) {
        let container = step.at(1, CONTAINERS);
        match step.verb.as_str() {
            "add" => self.add(node, step),
            "more" => self.more(node, step),
            "del" => self.del(node, container),
            "first" => self.first(node, container),
            "stale" => self.stale(node, step, false),
            "unchanged" => self.stale(node, step, true),
            "rehome" => self.rehome(node, step),
            "gc" => self.gc(node, container),
            "reboot" => {
                self.boot += 1;
                self.world.reboot(self.boot, step.at(0, 2) == 1);
                self.count("reboot");
            }
            "reopen" => self.world.reopen(),
            "off" => self.off(node),
            "vanish" => self.vanish(step),
            "edit" => self.edit(step),
            "lose" => self.world.lose(node),
            _ => {}
        }
    }

    fn release(&mut self, node: usize, allocation: &Allocation) {
        self.release_if(node, allocation, false);
    }

    /// Releases, and expects what the map says.
    fn release_if(&mut self, node: usize, allocation: &Allocation, unchanged: bool) {
        let key = key(allocation);
        let attachment = &allocation.record.attachment;
        let ours = attachment.node.as_str() == self.node_name(node)
            && self.held.get(&key).is_some_and(|held| held.record.attachment == *attachment);
        let expected = if ours { Release::Done } else { Release::NotYours };
        assert_eq!(self.session(node, Access::Release).release(allocation).unwrap(), expected);
        if ours {
            self.held.remove(&key);
            self.world.freed(Some(node), allocation);
        } else if !unchanged || !self.held.contains_key(&key) {
            self.world.forgot(node, attachment, Some(&key));
        }
        self.count(if ours { "release" } else { "refused release" });
    }

    fn del(&mut self, node: usize, container: usize) {
        let attachment = self.record(node, container, None).attachment;
        del::free(self.world.store(node), &attachment, deadline()).unwrap();
        self.world.forgot(node, &attachment, None);
        for held in self.held_by(&attachment) {
            self.held.remove(&key(&held));
            self.world.freed(Some(node), &held);
            self.count("release");
        }
    }

    fn first(&mut self, node: usize, container: usize) {
        if let Some(first) = self.held_by(&self.record(node, container, None).attachment).first() {
            self.release(node, first);
        }
    }

    fn answer(&self, n: usize) -> Option<Allocation> {
        (!self.answers.is_empty()).then(|| self.answers[n % self.answers.len()].clone())
    }

    fn stale(&mut self, node: usize, step: &Step, unchanged: bool) {
        if let Some(allocation) = self.answer(step.at(1, usize::MAX)) {
            self.release_if(node, &allocation, unchanged);
        }
    }

    fn rehome(&mut self, node: usize, step: &Step) {
        let Some(old) = self.answer(step.at(1, usize::MAX)) else { return };
        let pod = old.record.pod.as_ref().map(|pod| pod.name.clone());
        let to = Record {
            part: old.record.part,
            ..self.record(node, step.at(2, CONTAINERS), pod.as_deref())
        };
        let standing =
            self.held.get(&key(&old)).filter(|_| old.record.attachment.node == to.attachment.node);
        let expected =
            standing.map_or(Move::Changed, |standing| self.world.moves(standing, &old, &to));
        let moved = self.session(node, Access::Allocate).rehome(&old, &to);
        match moved {
            Ok(Rehome::Done(allocation)) => {
                assert_eq!(expected, Move::Done, "moved what another holds: {old:?}");
                assert_eq!((&allocation.record, allocation.address), (&to, old.address));
                self.held.insert(key(&old), allocation.clone());
                self.answers.push(allocation);
                self.count("re-homed");
            }
            Ok(Rehome::Changed) => {
                assert_eq!(expected, Move::Changed, "not moved: {old:?}");
                self.count("not re-homed");
            }
            Err(error) => {
                assert_eq!(expected, Move::Refused, "{error}");
                self.count("refused move");
            }
        }
    }

    fn gc(&mut self, node: usize, up_to: usize) {
        let filter =
            Filter { node: NodeName::parse(self.node_name(node)).ok(), ..Filter::default() };
        let Ok(listing) = self.world.store(node).list(&filter) else { return };
        let listed: Vec<Allocation> = listing.map(Result::unwrap).collect();
        for allocation in listed
            .iter()
            .filter(|held| held.record.attachment.container.as_str() <= &*format!("c{up_to}"))
        {
            self.release(node, allocation);
        }
        self.count("gc");
    }

    fn off(&mut self, node: usize) {
        let Some(store) = self.world.operator(node) else { return };
        let mut session = store.open(Access::Release, deadline()).unwrap();
        let name = self.node_name(node).to_owned();
        for held in self.held.values().filter(|held| held.record.attachment.node.as_str() == name) {
            assert_eq!(session.release(held).unwrap(), Release::Done);
            self.world.freed(None, held);
        }
        self.held.retain(|_, held| held.record.attachment.node.as_str() != name);
        self.count("off");
    }

    fn vanish(&mut self, step: &Step) {
        let Some(held) = self.held.values().nth(step.at(0, self.held.len())).cloned() else {
            return;
        };
        if self.world.vanish(&held) {
            self.held.remove(&key(&held));
            self.world.freed(None, &held);
            self.count("vanished");
        }
    }

    fn edit(&mut self, step: &Step) {
        let count = self.held.len();
        let Some(held) = self.held.values_mut().nth(step.at(0, count)) else { return };
        if let Some(version) = self.world.edit(held) {
            held.version = Some(version);
            self.count("edited");
        }
    }
}
