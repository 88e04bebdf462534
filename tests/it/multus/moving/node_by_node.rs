//! A cluster of the real Whereabouts is moved node by node, and back, while pods start and end on all
//! nodes, and calls of hereabouts are killed. No address has two holders, nothing is left, and the pods
//! that run throughout are always reached.

/// What goes wrong during the move.
mod trouble;

use super::{CRDS, network, node_of_whereabouts};
use crate::multus::rig::{Daemon, Node, Pod, Rig, status_of};
use crate::support::sandbox::Ended;
use hereabouts::retry::{Deadline, Stopwatch, pause};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use trouble::Trouble;

/// The networks: one named, one dual stack, two that overlap.
const NETWORKS: [&str; 4] = ["named", "dual", "wide", "narrow"];

/// Those of the pods that run throughout. Whereabouts v0.9.4 gives one address to both interfaces of a
/// pod that has two networks whose ranges overlap.
const LIVING: [&str; 3] = ["named", "dual", "wide"];

/// How long each state of the move lasts under the storm.
const WHILE: Duration = Duration::from_secs(5);

fn ipam(network: &str) -> Value {
    match network {
        "named" => json!({"range": "10.211.0.0/24", "network_name": "blue"}),
        "dual" => json!({"ipRanges": [{"range": "10.212.0.0/24"}, {"range": "fd12::/64"}]}),
        "wide" => json!({"range": "10.213.0.0/16"}),
        // Both give the lowest first.
        "narrow" => json!({"range": "10.213.0.0/24"}),
        other => panic!("{other}"),
    }
}

fn scope(network: &str) -> &'static str {
    if network == "named" { "blue" } else { "" }
}

/// Who was told to have each address, and what was wrong.
#[derive(Default)]
struct History {
    holders: BTreeMap<(&'static str, String), String>,
    wrong: Vec<String>,
    given: usize,
}

struct World<'rig> {
    rig: &'rig Rig,
    trouble: Trouble,
    /// Held while the test itself asks the API server, which restarts only when nobody holds it.
    asks: RwLock<()>,
    nodes: Vec<Mutex<Node<'rig>>>,
    history: Mutex<History>,
    is_over: AtomicBool,
    /// How many pods of the storm have started.
    started: AtomicUsize,
    failed: AtomicUsize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the network and the addresses of each interface that a pod was told.
fn told(rig: &Rig, pod: &Pod) -> Vec<(&'static str, String)> {
    let known = |name: &str| NETWORKS.into_iter().find(|one| name == format!("default/{one}"));
    status_of(rig, pod)
        .into_iter()
        .flat_map(|(name, _, addresses)| {
            let scope = scope(known(&name).unwrap());
            addresses.into_iter().map(move |address| (scope, address))
        })
        .collect()
}

impl World<'_> {
    /// Asks the API server for something that is no part of the test.
    fn asks<T>(&self, ask: impl FnOnce() -> T) -> T {
        let _held = self.asks.read().unwrap_or_else(PoisonError::into_inner);
        ask()
    }

    /// A pod has got its addresses.
    fn got(&self, pod: &Pod) {
        let told = self.asks(|| told(self.rig, pod));
        let mut history = locked(&self.history);
        for (scope, address) in told {
            history.given += 1;
            let before = history.holders.insert((scope, address.clone()), pod.name.clone());
            if let Some(before) = before.filter(|before| *before != pod.name) {
                history.wrong.push(format!("{address} of {before} was given to {}", pod.name));
            }
        }
    }

    /// A pod ends: from now on, others may get its addresses.
    fn loses(&self, pod: &Pod) {
        locked(&self.history).holders.retain(|_, holder| *holder != pod.name);
    }

    /// Starts and ends pods on a node until the test is over.
    fn storm(&self, node: usize) {
        let mut living: Vec<Pod> = Vec::new();
        for number in node.. {
            let is_over = self.is_over.load(Ordering::Relaxed);
            while (if is_over { 0 } else { 1 }) < living.len() {
                self.end(node, &living.remove(0));
            }
            if is_over {
                return;
            }
            let name = format!("storm{node}-{number}");
            let network = NETWORKS[number % NETWORKS.len()];
            let on = locked(&self.nodes[node]);
            let pod = self.asks(|| self.rig.pod_on(&on, &name, network));
            drop(on);
            let started = locked(&self.nodes[node]).try_start(&pod);
            if started.status == Some(0) {
                self.got(&pod);
                self.started.fetch_add(1, Ordering::Relaxed);
                living.push(pod);
            } else {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.end(node, &pod);
            }
        }
    }

    /// Ends a pod. The runtime repeats a DEL until it succeeds.
    fn end(&self, node: usize, pod: &Pod) {
        self.loses(pod);
        let deadline = Deadline::after(Duration::from_secs(120));
        loop {
            let ended = locked(&self.nodes[node]).stop(pod);
            if ended.status == Some(0) {
                break;
            }
            assert!(!deadline.left().is_zero(), "{ended:?}");
            pause(&deadline, Duration::from_millis(200));
        }
        self.asks(|| {
            self.rig.cluster.text(&["delete", "pod", &pod.name, "--force", "--grace-period=0"])
        });
    }

    /// Kills calls of hereabouts until the test is over.
    fn kill(&self) {
        let forever = Deadline::after(Duration::from_secs(3600));
        while !self.is_over.load(Ordering::Relaxed) {
            locked(&self.nodes[0]).run(&[
                "pkill",
                "-9",
                "-o",
                "-f",
                "/rig/bin/(whereabouts|hereabouts)$",
            ]);
            pause(&forever, Duration::from_millis(1700));
        }
    }

    /// Waits until the storm has started some more pods.
    fn rages(&self) {
        let clock = Stopwatch::default();
        let before = self.started.load(Ordering::Relaxed);
        let deadline = Deadline::after(Duration::from_secs(180));
        while clock.elapsed() < WHILE
            || self.started.load(Ordering::Relaxed) < before + self.nodes.len()
        {
            assert!(!deadline.left().is_zero(), "the storm is too slow");
            pause(&deadline, Duration::from_millis(100));
        }
        self.check();
    }

    fn check(&self) {
        let history = locked(&self.history);
        assert_eq!(history.wrong, Vec::<String>::new());
    }

    /// Runs a step of the move on a workstation, again while something is missing.
    fn step(&self, office: &Node<'_>, args: &[&str]) -> Ended {
        let kubeconfig = self.rig.cluster.kubeconfig();
        let words = [&["move"], args, &["--kubeconfig", kubeconfig.to_str().unwrap()]].concat();
        let deadline = Deadline::after(Duration::from_secs(240));
        std::thread::scope(|scope| {
            if self.trouble == Trouble::ServerRestarts {
                scope.spawn(|| self.restart());
            }
            loop {
                let ended = office.hereabouts(&words);
                println!("{words:?}: {:?}\n{}{}", ended.status, ended.stdout, ended.stderr);
                if ended.status != Some(1) || deadline.left().is_zero() {
                    return ended.succeeded().clone();
                }
                pause(&deadline, Duration::from_secs(2));
            }
        })
    }

    /// Starts a pod on each node that runs throughout.
    fn starts_living(&self) -> Vec<Pod> {
        let one = |node: &Mutex<Node<'_>>| {
            let node = locked(node);
            let pod = self.rig.pod_on(&node, &format!("lives-{}", node.name), &LIVING.join(","));
            node.start(&pod);
            self.got(&pod);
            pod
        };
        self.nodes.iter().map(one).collect()
    }

    /// Lets each of these pods ping the next one. See [`lost`].
    fn starts_pings(&self, living: &[Pod]) -> Vec<JoinHandle<(Vec<u64>, u64)>> {
        let addresses: Vec<String> =
            living.iter().map(|pod| told(self.rig, pod).swap_remove(0).1).collect();
        let one = |(number, pod): (usize, &Pod)| {
            let to = &addresses[(number + 1) % addresses.len()];
            let words = ["ping", "-n", "-i", "0.2", "-I", "net1", to];
            let pinging = locked(&self.nodes[number]).start_within(pod, &words);
            std::thread::spawn(|| lost(pinging))
        };
        living.iter().enumerate().map(one).collect()
    }

    fn each_node_gets_hereabouts(&self) -> Vec<Daemon> {
        let one = |node: &Mutex<Node<'_>>| {
            let mut node = locked(node);
            node.install();
            node.use_common_plugins();
            let daemon = node.daemon_that_sweeps("1h");
            drop(node);
            self.rages();
            daemon
        };
        self.nodes.iter().map(one).collect()
    }

    fn each_node_gets_whereabouts(&self, office: &Node<'_>, daemons: Vec<Daemon>, plugins: &Path) {
        for (node, daemon) in self.nodes.iter().zip(daemons) {
            let mut node = locked(node);
            drop(daemon);
            node.bin = plugins.to_owned();
            self.step(office, &["back", "--wait", "10s", "--node", &node.name]);
            drop(node);
            self.rages();
        }
    }

    fn state(&self) -> String {
        let words = ["get", "moves", "whereabouts", "-o", "jsonpath={.spec.state}"];
        self.asks(|| self.rig.cluster.text(&words))
    }
}

/// Reads what a ping prints, until it has been told to end. Returns the numbers of those that had no
/// answer, and how many there were. The last one was on its way when the ping ended.
fn lost(mut pinging: Child) -> (Vec<u64>, u64) {
    let (mut sent, mut answered) = (0, BTreeSet::new());
    for line in BufReader::new(pinging.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let sequence = line.split_once("icmp_seq=").and_then(|(_, rest)| rest.split_once(' '));
        if let Some((sequence, _)) = sequence.filter(|_| line.contains("bytes from")) {
            answered.insert(sequence.parse::<u64>().unwrap());
        } else if let Some((count, _)) = line.split_once(" packets transmitted") {
            sent = count.parse().unwrap();
        }
    }
    let _ = pinging.wait();
    ((1..sent).filter(|sequence| !answered.contains(sequence)).collect(), sent)
}

#[test]
fn pods_run_on_and_no_address_is_given_twice() {
    is_moved(&["m1", "m2"], Trouble::None);
}

#[test]
#[ignore = "scripts/test --long"]
fn long_pods_of_four_nodes_run_on_and_no_address_is_given_twice() {
    is_moved(&["m1", "m2", "m3", "m4"], Trouble::None);
}

#[test]
#[ignore = "scripts/test --long"]
fn long_an_api_server_that_restarts_in_each_step_costs_no_address() {
    is_moved(&["m1", "m2"], Trouble::ServerRestarts);
}

#[test]
#[ignore = "scripts/test --long"]
fn long_a_move_that_was_deleted_costs_no_address() {
    is_moved(&["m1", "m2"], Trouble::MoveDeleted);
}

#[test]
#[ignore = "scripts/test --long"]
fn long_a_node_that_is_off_for_good_is_given_up() {
    is_moved(&["m1", "m2"], Trouble::NodeOff);
}

fn is_moved(names: &[&str], trouble: Trouble) {
    let rig = match Rig::new() {
        Ok(rig) => rig,
        Err(reason) => return skipped!("{reason}"),
    };
    rig.cluster.apply(CRDS);
    rig.cluster.text(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    rig.cluster.text(&["apply", "-k", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/moving")]);
    let token = rig.cluster.text(&[
        "create",
        "token",
        "whereabouts",
        "--namespace",
        "kube-system",
        "--duration=24h",
    ]);
    for name in NETWORKS {
        network(&rig, name, &ipam(name));
    }
    let kubeconfig = rig.cluster.directory().join("whereabouts.kubeconfig");
    std::fs::write(&kubeconfig, rig.cluster.kubeconfig_with(token.trim())).unwrap();
    let nodes =
        names.iter().map(|name| node_of_whereabouts(&rig, name, &kubeconfig).map(Mutex::new));
    let Some(nodes) = nodes.collect::<Option<Vec<_>>>() else { return };
    let plugins = locked(&nodes[0]).bin.clone();
    let office = rig.bare_node("office");
    let world = World {
        rig: &rig,
        trouble,
        asks: RwLock::default(),
        nodes,
        history: Mutex::default(),
        is_over: AtomicBool::new(false),
        started: AtomicUsize::new(0),
        failed: AtomicUsize::new(0),
    };
    let living = world.starts_living();
    let pings = world.starts_pings(&living);

    std::thread::scope(|scope| {
        let world = &world;
        for node in 0..names.len() {
            scope.spawn(move || world.storm(node));
        }
        let _over = Over(&world.is_over);
        world.rages();
        let off = (trouble == Trouble::NodeOff).then(|| {
            let node = node_of_whereabouts(&rig, "m-off", &kubeconfig).unwrap();
            let pod = rig.pod_on(&node, "on-m-off", &LIVING.join(","));
            node.start(&pod);
            world.got(&pod);
            (node, pod)
        });
        world.step(&office, &["start"]);
        assert_eq!(world.state(), "shared");
        let off = off.map(|(node, pod)| {
            drop(node.dies());
            pod
        });
        scope.spawn(|| world.kill());
        let daemons = world.each_node_gets_hereabouts();
        world.the_move_is_deleted(&office);
        if let Some(pod) = &off {
            world.the_node_is_given_up(&office, pod);
        }
        world.step(&office, &["finish", "--wait", "5s"]);
        assert_eq!(world.state(), "finished");
        world.rages();
        world.step(&office, &["back", "--wait", "20s"]);
        assert_eq!(world.state(), "shared");
        world.rages();
        world.each_node_gets_whereabouts(&office, daemons, &plugins);
        world.step(&office, &["back"]);
        assert_eq!(world.state(), "ended");
        world.rages();
    });
    // All processes of the rig are in one PID namespace, and this is the rig of this test.
    office.run(&["pkill", "-INT", "-x", "ping"]).succeeded();
    for (pinging, name) in pings.into_iter().zip(names) {
        let (lost, sent) = pinging.join().unwrap();
        println!("{name}: {lost:?} of {sent} pings lost");
        assert!(lost.is_empty() && 100 < sent, "{name}: {lost:?} of {sent} pings lost");
    }
    for (node, pod) in living.iter().enumerate() {
        world.end(node, pod);
    }
    world.check();
    println!(
        "{} addresses given, {} pods started, {} did not start at once",
        locked(&world.history).given,
        world.started.load(Ordering::Relaxed),
        world.failed.load(Ordering::Relaxed)
    );
    nothing_is_left(&rig);
}

/// Checks that no holder is recorded any more.
fn nothing_is_left(rig: &Rig) {
    for what in
        ["ipallocations.hereabouts.dev", "overlappingrangeipreservations.whereabouts.cni.cncf.io"]
    {
        let path = "jsonpath={range .items[*]}{.metadata.name} {.spec}{'\\n'}{end}";
        let left = rig.cluster.text(&["get", what, "--all-namespaces", "-o", path]);
        assert_eq!(left, "", "{what}");
    }
    let pools = rig.cluster.text(&[
        "get",
        "ippools.whereabouts.cni.cncf.io",
        "--all-namespaces",
        "-o",
        "jsonpath={.items[*].spec.allocations}",
    ]);
    assert_eq!(pools.replace("{}", "").trim(), "", "entries are left");
}

/// Ends the storm, also if the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
