//! Workers on both nodes that add and delete their own containers, compared with a model: which
//! address was printed for which container.
//!
//! An address enters the model when it was printed, and leaves it before its DEL begins. So an
//! address that is printed while it is in the model has two holders, whatever the order of the
//! calls was.

use super::nodes::{Draws, Locks, Nodes};
use crate::support::living::Living;
use crate::support::sandbox::{Ended, configuration};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The work of the workers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Churn {
    pub(super) locks: Locks,
    /// The number of workers on each node.
    pub(super) workers: usize,
    /// The number of steps of each worker.
    pub(super) steps: usize,
    /// The node whose processes are killed at random moments.
    pub(super) kill: Option<usize>,
    /// Whether DELs run twice at once, and again when others hold the address.
    pub(super) repeat_del: bool,
    /// Whether both nodes run GC. Sandboxes are then alive, and in addition there are some that no
    /// caller deletes.
    pub(super) gc: bool,
    pub(super) seed: u64,
}

/// The results, which the test prints.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// address -> "node container".
    held: BTreeMap<String, String>,
    pub(super) adds: usize,
    pub(super) dels: usize,
    pub(super) late_dels: usize,
    pub(super) checks: usize,
    pub(super) collections: usize,
    pub(super) abandoned: usize,
    pub(super) killed: usize,
    pub(super) slowest: Duration,
    wrong: Vec<String>,
    /// Every call, in the order of their ends. Printed if something is wrong.
    calls: Vec<String>,
}

/// The state of a worker's container.
enum Container {
    /// ADD printed this result.
    Printed(String, Value),
    /// A call was killed: it is unknown what the store holds.
    Unsure(String),
}

struct Worker<'w> {
    nodes: &'w Nodes,
    seen: &'w Mutex<Seen>,
    churn: Churn,
    node: usize,
    name: String,
    draws: Draws,
    containers: Vec<Container>,
    /// Deleted already, and to be deleted once more.
    late: Vec<String>,
    /// The namespace of sandboxes that must be alive for GC.
    netns: Option<String>,
}

/// Runs all workers to their end, and frees everything that they hold. If something is wrong, the
/// test fails with everything that was seen.
pub(super) fn run(nodes: &Nodes, churn: Churn) -> Seen {
    let seen = Mutex::new(Seen::default());
    let living = churn.gc.then(|| Living::new().expect("a namespace, made by root"));
    let run_all = |finish: bool, held: Vec<Vec<Container>>| -> Vec<Vec<Container>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = held
                .into_iter()
                .enumerate()
                .map(|(n, containers)| {
                    let mut worker = Worker::new(nodes, &seen, churn, n);
                    worker.containers = containers;
                    worker.netns = living.as_ref().map(Living::path);
                    scope.spawn(move || if finish { worker.finish() } else { worker.play() })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    let containers = run_all(false, (0..2 * churn.workers).map(|_| Vec::new()).collect());
    compare(nodes, &seen);
    if churn.gc {
        collect_the_rest(nodes, &seen);
    }
    run_all(true, containers);
    let seen = seen.into_inner().unwrap();
    println!(
        "{churn:?}: {} ADDs, {} DELs, {} repeated DELs, {} CHECKs, {} GCs, {} abandoned, {} killed, slowest call {:?}",
        seen.adds,
        seen.dels,
        seen.late_dels,
        seen.checks,
        seen.collections,
        seen.abandoned,
        seen.killed,
        seen.slowest
    );
    if !seen.wrong.is_empty() {
        for call in &seen.calls {
            println!("{call}");
        }
    }
    assert!(
        seen.wrong.is_empty(),
        "{} are wrong: {:#?}",
        seen.wrong.len(),
        &seen.wrong[..seen.wrong.len().min(20)]
    );
    for node in 0..2 {
        assert_eq!(nodes.held(node), Vec::<String>::new(), "held on n{node} when all was freed");
    }
    seen
}

/// Checks, while no worker runs, that both nodes see every printed result, and that no address has
/// two records.
fn compare(nodes: &Nodes, seen: &Mutex<Seen>) {
    let mut seen = seen.lock().unwrap();
    for node in 0..2 {
        let held = nodes.held(node);
        for (address, holder) in &seen.held.clone() {
            if !held.contains(&format!("{address} {holder}")) {
                seen.wrong
                    .push(format!("n{node} does not see the printed result {address} {holder}"));
            }
        }
        for pair in held.windows(2) {
            if pair[0].split(' ').next() == pair[1].split(' ').next() {
                seen.wrong.push(format!("two records: {pair:?}"));
            }
        }
    }
}

/// Checks, while no worker runs, that a GC on each node frees what was abandoned, and nothing else.
fn collect_the_rest(nodes: &Nodes, seen: &Mutex<Seen>) {
    for node in 0..2 {
        let ended = nodes.gc(node, &listed(node)).run();
        assert_eq!(ended.status, Some(0), "{ended:?}");
    }
    compare(nodes, seen);
    for held in nodes.held(0) {
        assert!(!held.ends_with(ABANDONED), "GC left what nobody needs: {held}");
    }
}

/// The end of the names of containers that no caller deletes.
const ABANDONED: &str = "-abandoned";

/// Returns the names of the containers in GC's list: the first of each worker. Their namespace is
/// invented, so nothing else keeps them.
fn listed(node: usize) -> Vec<String> {
    (0..64).filter(|n| n % 2 == node).map(|n| format!("w{n}-0")).collect()
}

impl<'w> Worker<'w> {
    fn new(nodes: &'w Nodes, seen: &'w Mutex<Seen>, churn: Churn, number: usize) -> Self {
        let draws = Draws::new(churn.seed.wrapping_mul(1000).wrapping_add(number as u64));
        let node = number % 2;
        Self {
            nodes,
            seen,
            churn,
            node,
            name: format!("w{number}"),
            draws,
            containers: Vec::new(),
            late: Vec::new(),
            netns: None,
        }
    }

    fn play(mut self) -> Vec<Container> {
        for step in 0..self.churn.steps {
            let some = self.containers.len();
            match self.draws.below(if self.churn.gc { 14 } else { 10 }) {
                10 => self.abandon(&format!("{}-{step}", self.name)),
                11.. => self.collect(),
                0..5 if some < 4 => self.add(&format!("{}-{step}", self.name)),
                _ if some == 0 => self.add(&format!("{}-{step}", self.name)),
                0..2 => self.check(),
                2 if !self.late.is_empty() => self.del_late(),
                _ => self.del(),
            }
        }
        self.containers
    }

    /// Deletes every container. No call is killed any more.
    fn finish(mut self) -> Vec<Container> {
        self.churn.kill = None;
        while !self.containers.is_empty() {
            self.del();
        }
        self.containers
    }

    fn wrong(&self, what: String) {
        self.seen.lock().unwrap().wrong.push(what);
    }

    /// Runs a call, which may be killed. Returns `None` if it was.
    fn call(&mut self, verb: &str, container: &str, previous: Option<&Value>) -> Option<Ended> {
        let mut call = self.nodes.call(self.node, verb, container);
        if verb == "GC" {
            call = self.nodes.gc(self.node, &listed(self.node));
        } else if let Some(netns) = self
            .netns
            .as_ref()
            .filter(|_| !container.ends_with("-0") && !container.ends_with(ABANDONED))
        {
            call.set("CNI_NETNS", netns);
        }
        let mut front = self.nodes.front(self.node, self.churn.locks);
        if self.churn.kill == Some(self.node) && self.draws.below(10) < 6 {
            let after =
                format!("0.{:03}", 1 + self.draws.below(if front.is_empty() { 25 } else { 60 }));
            front.extend(["timeout", "-s", "KILL", &after].map(str::to_owned));
        }
        if let Some(previous) = previous {
            call.stdin(configuration(super::nodes::RANGE).replacen(
                '{',
                &format!(r#"{{"prevResult":{previous},"#),
                1,
            ));
        }
        #[allow(clippy::disallowed_methods, reason = "a test measures")]
        let start = Instant::now();
        let ended = call.through(&front).run();
        let mut seen = self.seen.lock().unwrap();
        seen.slowest = seen.slowest.max(start.elapsed());
        let end = match ended.status {
            Some(0) => ended
                .stdout
                .split("\"address\":")
                .nth(1)
                .map_or("done", |rest| &rest[..rest.len().min(16)])
                .to_owned(),
            _ => format!("{:?} {}", ended.status, ended.stdout),
        };
        seen.calls.push(format!("n{} {verb} {container}, {:?}: {end}", self.node, start.elapsed()));
        if matches!(ended.status, None | Some(137)) {
            seen.killed += 1;
            // What was printed counts, whatever happened to the process.
            return ended.stdout.ends_with("}\n").then_some(Ended { status: Some(0), ..ended });
        }
        Some(ended)
    }

    fn add(&mut self, container: &str) {
        match self.call("ADD", container, None) {
            None => self.containers.push(Container::Unsure(container.to_owned())),
            Some(ended) if ended.status == Some(0) => {
                let address = ended.addresses().concat();
                let holder = format!("n{} {container}", self.node);
                let mut seen = self.seen.lock().unwrap();
                seen.adds += 1;
                if let Some(other) = seen.held.insert(address.clone(), holder.clone()) {
                    seen.wrong
                        .push(format!("{address} was printed to {holder} and is held by {other}"));
                }
                self.containers.push(Container::Printed(container.to_owned(), ended.document()));
            }
            Some(ended) => self.wrong(format!("ADD of {container}: {ended:?}")),
        }
    }

    /// Makes an ADD of a container whose DEL never comes and whose sandbox is gone. Any GC may free
    /// its address from now on, so the model does not contain it.
    fn abandon(&mut self, container: &str) {
        let container = format!("{container}{ABANDONED}");
        match self.call("ADD", &container, None) {
            Some(ended) if ended.status == Some(0) => {
                let mut seen = self.seen.lock().unwrap();
                seen.abandoned += 1;
                let address = ended.addresses().concat();
                if let Some(other) = seen.held.get(&address).cloned() {
                    seen.wrong.push(format!(
                        "{address} was printed to {container} and is held by {other}"
                    ));
                }
            }
            Some(ended) => self.wrong(format!("ADD of {container}: {ended:?}")),
            None => {}
        }
    }

    /// Makes a GC, as a runtime does while other calls run.
    fn collect(&mut self) {
        match self.call("GC", "", None) {
            Some(ended) if ended.status != Some(0) => self.wrong(format!("GC: {ended:?}")),
            Some(_) => self.seen.lock().unwrap().collections += 1,
            None => {}
        }
    }

    /// Makes a CHECK of a container whose result was printed.
    fn check(&mut self) {
        let at = self.draws.below(self.containers.len());
        let Container::Printed(container, result) = &self.containers[at] else { return };
        let (container, result) = (container.clone(), result.clone());
        match self.call("CHECK", &container, Some(&result)) {
            Some(ended) if ended.status != Some(0) => {
                self.wrong(format!("CHECK of {container}: {ended:?}"))
            }
            Some(_) => self.seen.lock().unwrap().checks += 1,
            None => {}
        }
    }

    /// Makes a DEL of one container. If its ADD was killed, also repeats the ADD, as runtimes do
    /// both.
    fn del(&mut self) {
        let at = self.draws.below(self.containers.len());
        let container = match self.containers.swap_remove(at) {
            Container::Unsure(container)
                if self.churn.kill.is_some() && self.draws.below(2) == 0 =>
            {
                // It starts again: a DEL of it would be like any other.
                self.late.retain(|late| *late != container);
                return self.add(&container);
            }
            Container::Unsure(container) => container,
            Container::Printed(container, result) => {
                let address = result["ips"][0]["address"]
                    .as_str()
                    .unwrap()
                    .split('/')
                    .next()
                    .unwrap()
                    .to_owned();
                let mut seen = self.seen.lock().unwrap();
                seen.held.remove(&address);
                container
            }
        };
        let twin = self.churn.repeat_del.then(|| {
            let call = self
                .nodes
                .call(self.node, "DEL", &container)
                .through(&self.nodes.front(self.node, self.churn.locks))
                .clone();
            std::thread::spawn(move || call.run())
        });
        match self.call("DEL", &container, None) {
            None => self.containers.push(Container::Unsure(container.clone())),
            Some(ended) if ended.status != Some(0) => {
                self.wrong(format!("DEL of {container}: {ended:?}"))
            }
            Some(_) => self.seen.lock().unwrap().dels += 1,
        }
        if let Some(ended) = twin.map(|twin| twin.join().unwrap()) {
            self.seen.lock().unwrap().late_dels += 1;
            if ended.status != Some(0) {
                self.wrong(format!("DEL at once of {container}: {ended:?}"));
            }
            self.late.push(container);
        }
    }

    /// Makes the runtime's late repeat: another container may hold the address now.
    fn del_late(&mut self) {
        let container = self.late[self.draws.below(self.late.len())].clone();
        match self.call("DEL", &container, None) {
            Some(ended) if ended.status != Some(0) => {
                self.wrong(format!("late DEL of {container}: {ended:?}"))
            }
            Some(_) => self.seen.lock().unwrap().late_dels += 1,
            None => {}
        }
    }
}
