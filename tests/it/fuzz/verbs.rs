//! Sequences of calls against a plain map of who holds what, on the file store
//! and on the one in memory. An input is text, one step a line, words as
//! numbers are taken modulo what there is, so that every input means something:
//!
//! ```text
//! add <node> <container> <range> <scope> <pod> <more>    as the verb does it
//! del <node> <container>                                 last to first
//! first <node> <container>                               frees the first of several
//! stale <node> <n>                                       frees what the n-th answer said
//! rehome <node> <n> <container>                          moves what the n-th answer said
//! gc <node> <n>                                          frees containers up to n
//! reboot                                                 another boot id from now on
//! reopen                                                 new store objects, as a new process has
//! off <node>                                             an operator frees all of a node
//! ```
//!
//! After each step the listing, what each attachment and pod holds, and
//! whether there is room are the map's.

mod compare;

use crate::conformance::{draft, host};
pub(super) use compare::check_nothing_left;
use hereabouts::addr::{AddrSet, Range};
use hereabouts::ipam::{Allocation, Attachment, Draft, NodeName, Part, Scope};
use hereabouts::store::file::FileStore;
use hereabouts::store::file::disk::RealDisk;
use hereabouts::store::memory::MemoryStore;
use hereabouts::store::retry::Deadline;
use hereabouts::store::{Access, Claim, Filter, Rehome, Release, Session, Store};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer sequences cost time and show little more.
const MOST_STEPS: usize = 60;

const NODES: &[&str] = &["n1", "n2"];
const SCOPES: &[&str] = &["", "blue", "a/b"];
const PODS: &[Option<&str>] = &[None, Some("web"), Some("db")];
const RANGES: &[(&str, &str)] = &[
    ("10.0.0.1", "10.0.0.6"),
    ("10.0.0.4", "10.0.0.9"),
    ("10.0.0.254", "10.0.1.1"),
    ("2001:db8::1", "2001:db8::3"),
    ("255.255.255.255", "255.255.255.255"),
];

type Held = BTreeMap<(Scope, IpAddr), Allocation>;

/// One sequence, on both stores.
pub(super) fn check(root: &Path, input: &[u8]) -> String {
    let steps: Vec<Step> = String::from_utf8_lossy(input).lines().filter_map(Step::parse).take(MOST_STEPS).collect();
    let directory = root.join("store");
    let _ = std::fs::remove_dir_all(&directory);
    let file = Run::new(Some(directory.clone())).play(&steps);
    check_nothing_left(&directory);
    let memory = Run::new(None).play(&steps);
    format!("{file}, in memory {memory}")
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

enum Stores {
    /// One for each node, on one directory.
    File(Vec<FileStore<RealDisk>>),
    /// Of the first node alone.
    Memory(MemoryStore),
}

struct Run {
    directory: Option<PathBuf>,
    stores: Stores,
    model: Held,
    /// Every answer that was given, also those that no longer hold.
    answers: Vec<Allocation>,
    boot: usize,
    counts: BTreeMap<&'static str, usize>,
}

fn stores(directory: Option<&PathBuf>) -> Stores {
    match directory {
        Some(path) => Stores::File(NODES.iter().map(|node| FileStore::new(path.clone(), host(node))).collect()),
        None => Stores::Memory(MemoryStore::new(NodeName::parse(NODES[0]).unwrap())),
    }
}

fn scope(n: usize) -> Scope {
    Scope::parse(SCOPES[n]).unwrap()
}

fn candidates(n: usize) -> AddrSet {
    let (first, last) = RANGES[n];
    AddrSet::from_range(&Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap())
}

impl Run {
    fn new(directory: Option<PathBuf>) -> Self {
        let stores = stores(directory.as_ref());
        Self { directory, stores, model: Held::new(), answers: Vec::new(), boot: 0, counts: BTreeMap::new() }
    }

    fn store(&self, node: usize) -> &dyn Store {
        match &self.stores {
            Stores::File(stores) => &stores[node],
            Stores::Memory(store) => store,
        }
    }

    fn node(&self, step: &Step) -> usize {
        match self.stores {
            Stores::File(_) => step.at(0, NODES.len()),
            Stores::Memory(_) => 0,
        }
    }

    fn session(&self, node: usize, access: Access) -> Box<dyn Session + '_> {
        self.store(node).open(access, Deadline::after(Duration::from_secs(20))).unwrap()
    }

    fn draft(&self, node: usize, container: usize, pod: Option<&str>) -> Draft {
        Draft { boot_id: format!("boot{}", self.boot), ..draft(NODES[node], &format!("c{container}"), pod) }
    }

    fn held_by(&self, attachment: &Attachment) -> Vec<Allocation> {
        let mut held: Vec<_> = self.model.values().filter(|held| held.held.attachment == *attachment).cloned().collect();
        held.sort_by_key(|held| held.held.part.index);
        held
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn play(mut self, steps: &[Step]) -> String {
        for step in steps {
            self.step(step);
            self.compare();
        }
        for node in 0..NODES.len() {
            for container in 0..8 {
                self.del(node, container, false);
            }
        }
        assert_eq!(self.model, Held::new(), "all was freed");
        self.compare();
        self.counts.iter().map(|(what, times)| format!("{what} {}", times.ilog2())).collect::<Vec<_>>().join(" ")
    }

    fn step(&mut self, step: &Step) {
        let node = self.node(step);
        match step.verb.as_str() {
            "add" => self.add(node, step),
            "del" => self.del(node, step.at(1, 8), false),
            "first" => self.del(node, step.at(1, 8), true),
            "stale" => self.stale(node, step),
            "rehome" => self.rehome(node, step),
            "gc" => self.gc(node, step.at(1, 8)),
            "reboot" => self.reboot(),
            "reopen" if self.directory.is_some() => self.stores = stores(self.directory.as_ref()),
            "off" => self.off(node),
            _ => {}
        }
    }

    fn add(&mut self, node: usize, step: &Step) {
        let draft = self.draft(node, step.at(1, 8), PODS[step.at(4, PODS.len())]);
        let held = self.held_by(&draft.attachment);
        if !held.is_empty() {
            let mut session = self.session(node, Access::Allocate);
            assert_eq!(session.holdings(&draft.attachment).unwrap().held.len(), held.len());
            held.iter().for_each(|held| session.confirm(held).unwrap());
            drop(session);
            return self.count("repeat");
        }
        let (scope, candidates) = (scope(step.at(3, SCOPES.len())), candidates(step.at(2, RANGES.len())));
        let of = u16::try_from(1 + step.at(5, 3)).unwrap();
        let mut made = Vec::new();
        for index in 0..of {
            let part = Draft { part: Part { index, of }, ..draft.clone() };
            let expected = self.lowest_free(node, &scope, &candidates);
            let claimed = self.session(node, Access::Allocate).claim(&scope, &candidates, &part).unwrap();
            match claimed {
                Claim::Claimed(allocation) => {
                    assert_eq!(Some(allocation.address), expected, "the lowest free one");
                    assert_eq!((&allocation.scope, &allocation.held), (&scope, &part));
                    self.model.insert((scope.clone(), allocation.address), allocation.clone());
                    self.answers.push(allocation.clone());
                    made.push(allocation);
                    self.count("claim");
                }
                Claim::Full => {
                    assert_eq!(expected, None, "full, though an address is free");
                    // All or nothing.
                    made.iter().rev().for_each(|allocation| self.release(node, allocation));
                    return self.count("full");
                }
            }
        }
    }

    /// The file store frees what this node made before its last boot, in every
    /// scope, before it says "full"; but another node's word "exhausted" is
    /// believed for 5 s.
    fn lowest_free(&mut self, node: usize, scope: &Scope, candidates: &AddrSet) -> Option<IpAddr> {
        let found = self.free(scope, candidates);
        if found.is_some() || matches!(self.stores, Stores::Memory(_)) || self.is_said_exhausted(scope, candidates) {
            return found;
        }
        let boot = format!("boot{}", self.boot);
        self.model.retain(|_, held| held.held.boot_id == boot || held.held.attachment.node.as_str() != NODES[node]);
        self.free(scope, candidates)
    }

    /// Whether the hint names these candidates; they are one range each.
    fn is_said_exhausted(&self, scope: &Scope, candidates: &AddrSet) -> bool {
        let folder = scope.name().map_or("@", |name| if name == "a/b" { "a%2Fb" } else { name });
        let path = self.directory.iter().map(|path| path.join("scopes").join(folder).join("exhausted"));
        let text: String = path.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        let named = candidates.ranges().map(|range| range.to_string()).collect::<String>();
        text.lines().any(|line| line.ends_with(&format!(" {named}")))
    }

    fn free(&self, scope: &Scope, candidates: &AddrSet) -> Option<IpAddr> {
        let mut left = candidates.clone();
        for (_, address) in self.model.keys().filter(|(of, _)| of == scope) {
            left.remove(&Range::single(*address));
        }
        left.ranges().next().map(|range| range.first_address())
    }

    /// Releases, and expects what the map says.
    fn release(&mut self, node: usize, allocation: &Allocation) {
        let key = (allocation.scope.clone(), allocation.address);
        let ours = allocation.held.attachment.node.as_str() == NODES[node]
            && self.model.get(&key).is_some_and(|held| held.held.attachment == allocation.held.attachment);
        let expected = if ours { Release::Done } else { Release::NotYours };
        assert_eq!(self.session(node, Access::Release).release(allocation).unwrap(), expected);
        if ours {
            self.model.remove(&key);
        }
        self.count(if ours { "release" } else { "refused release" });
    }

    fn del(&mut self, node: usize, container: usize, first_alone: bool) {
        let mut held = self.held_by(&self.draft(node, container, None).attachment);
        if first_alone {
            held.truncate(1);
        }
        held.iter().rev().for_each(|allocation| self.release(node, allocation));
    }

    fn answer(&self, n: usize) -> Option<Allocation> {
        (!self.answers.is_empty()).then(|| self.answers[n % self.answers.len()].clone())
    }

    fn stale(&mut self, node: usize, step: &Step) {
        if let Some(allocation) = self.answer(step.at(1, usize::MAX)) {
            self.release(node, &allocation);
        }
    }

    fn rehome(&mut self, node: usize, step: &Step) {
        let Some(old) = self.answer(step.at(1, usize::MAX)) else { return };
        let pod = old.held.pod.as_ref().map(|pod| pod.name.clone());
        let to = Draft { part: old.held.part, ..self.draft(node, step.at(2, 8), pod.as_deref()) };
        let key = (old.scope.clone(), old.address);
        let ours = old.held.attachment.node == to.attachment.node
            && self.model.get(&key).is_some_and(|held| held.held.attachment == old.held.attachment);
        let moved = self.session(node, Access::Allocate).rehome(&old, &to).unwrap();
        match moved {
            Rehome::Done(allocation) => {
                assert!(ours, "moved what another holds: {old:?}");
                assert_eq!((&allocation.held, allocation.address), (&to, old.address));
                self.model.insert(key, allocation.clone());
                self.answers.push(allocation);
                self.count("re-homed");
            }
            Rehome::Changed => {
                assert!(!ours, "not moved: {old:?}");
                self.count("not re-homed");
            }
        }
    }

    fn gc(&mut self, node: usize, up_to: usize) {
        let filter = Filter { node: NodeName::parse(NODES[node]).ok(), ..Filter::default() };
        let Ok(listing) = self.store(node).list(&filter) else { return };
        let listed: Vec<Allocation> = listing.map(Result::unwrap).collect();
        for allocation in listed.iter().filter(|held| held.held.attachment.container.as_str() <= &*format!("c{up_to}")) {
            self.release(node, allocation);
        }
        self.count("gc");
    }

    /// A machine takes longer to boot than "exhausted" is believed.
    fn reboot(&mut self) {
        self.boot += 1;
        for scope in self.directory.iter().flat_map(|path| std::fs::read_dir(path.join("scopes"))).flatten() {
            let _ = std::fs::remove_file(scope.unwrap().path().join("exhausted"));
        }
        self.count("reboot");
    }

    fn off(&mut self, node: usize) {
        let Some(path) = &self.directory else { return };
        let store = FileStore::new(path.clone(), host(NODES[node])).for_dead_node();
        let mut session = store.open(Access::Release, Deadline::after(Duration::from_secs(20))).unwrap();
        for held in self.model.values().filter(|held| held.held.attachment.node.as_str() == NODES[node]) {
            assert_eq!(session.release(held).unwrap(), Release::Done);
        }
        self.model.retain(|_, held| held.held.attachment.node.as_str() != NODES[node]);
        self.count("off");
    }
}
