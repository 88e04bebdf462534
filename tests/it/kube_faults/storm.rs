//! Eight nodes behind proxies that fail, processes that are killed, servers that are killed and
//! restarted. The history of all answers is replayed and compared with the objects: no address has
//! two holders at any time, what was printed exists, what was freed is gone.

/// The callers.
mod worker;

use super::node_state::seconds_later;
use super::rig::install;
use crate::support::cached::Draw;
use crate::support::cluster::{Cluster, Options, Server};
use crate::support::history::{History, Outcome};
use crate::support::nodes::{Node, objects};
use crate::support::proxy::{Act, Asked, Proxy, Reply};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use worker::{RANGE, Sandbox, Worker};

const NODES: usize = 8;
const WORKERS_A_NODE: usize = 2;
const SCOPE: &str = "storm";
/// No call takes longer: the longest deadline, and what a busy machine adds.
const LONGEST: Duration = Duration::from_secs(40);

/// The pool of the storm on slices.
const POOL: &str = "storm";

/// What all workers share.
struct Storm {
    /// What each network says about its addresses.
    ipam: String,
    history: History,
    /// The number of calls that are still to be made.
    left: AtomicUsize,
    calm: AtomicBool,
}

impl Storm {
    fn kills(&self) -> bool {
        !self.calm.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_err()
    }
}

/// Chooses what happens to a request.
fn fault(draw: &mut Draw, asked: &Asked) -> Act {
    let writes = asked.method != "GET";
    match draw.below(100) {
        0 => Act::Answer(Reply::status(429)),
        1 => Act::Answer(Reply::retry_after(503, 1)),
        2 => Act::Answer(Reply::status(500)),
        3 | 4 => Act::AnswerAfter(Reply::status(504)),
        5 => Act::AnswerAfter(Reply::status(500)),
        6 => Act::Reset,
        7 | 8 => Act::ResetAfter,
        9 => Act::ResetWithin,
        10 => Act::Delay(Duration::from_millis(300)),
        11 | 12 if writes => Act::HoldBackAfter(Reply::status(504)),
        13 if writes => Act::HoldBack,
        14 if writes => Act::Lose,
        _ => Act::Pass,
    }
}

/// Sends requests that were held back, and sometimes stops a server, until it is told to end.
fn disturb(
    cluster: &Cluster,
    proxies: &[Proxy],
    mut draw: Draw,
    restarts: usize,
    storm: &Storm,
    end: &Receiver<()>,
) {
    let all = storm.left.load(Ordering::Relaxed);
    let mut done = 0;
    while end.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout) {
        for proxy in proxies {
            if draw.below(3) == 0 {
                proxy.send_held_back();
            }
        }
        // Spread evenly over the calls.
        let left = storm.left.load(Ordering::Relaxed);
        if done < restarts && left < all - all * (done + 1) / (restarts + 1) {
            done += 1;
            match draw.below(3) {
                0 => cluster.kill(Server::Etcd),
                1 => cluster.kill(Server::ApiServer),
                _ => cluster.stop(Server::ApiServer),
            }
            cluster.start(Server::Etcd);
            cluster.start(Server::ApiServer);
        }
    }
}

/// Where the addresses come from.
#[derive(Clone, Copy, PartialEq)]
enum From {
    /// Each is an object.
    Objects,
    /// Slices of four addresses, which nodes claim and give back.
    Slices,
}

fn storm(from: From, calls: usize, restarts: usize, seed: u64) {
    let cluster = match Cluster::own(Options::default()) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    install(&cluster);
    println!("seed {seed}");
    let ipam = match from {
        From::Objects => format!(r#""range":"{RANGE}","network_name":"{SCOPE}""#),
        From::Slices => {
            let pool = serde_json::json!({
                "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": POOL},
                "spec": {"ranges": [{"ipv4": "10.9.0.0/24"}], "slices": {"ipv4": {"perNodeMaskSize": 30}}},
            });
            cluster.apply(&pool.to_string());
            format!(r#""pool":"{POOL}""#)
        }
    };
    let proxies: Vec<Proxy> = (0..NODES).map(|_| Proxy::new(&cluster)).collect();
    let nodes: Vec<Node> =
        proxies.iter().enumerate().map(|(n, proxy)| node(&format!("n{n}"), proxy)).collect();
    for (n, proxy) in proxies.iter().enumerate() {
        let mut draw = Draw(seed + 7 * n as u64);
        proxy.script(move |asked| fault(&mut draw, asked));
    }
    let storm = Storm {
        ipam,
        history: History::default(),
        left: AtomicUsize::new(calls),
        calm: AtomicBool::new(false),
    };
    let mut workers: Vec<Worker<'_>> = (0..NODES * WORKERS_A_NODE)
        .map(|number| Worker::new(&storm, &nodes[number % NODES], number, seed))
        .collect();
    let (over, end) = channel();
    std::thread::scope(|scope| {
        let (cluster, proxies, storm) = (&cluster, &proxies, &storm);
        scope.spawn(move || disturb(cluster, proxies, Draw(seed), restarts, storm, &end));
        let running: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                scope.spawn(move || {
                    while !storm.is_over() {
                        worker.turn();
                    }
                })
            })
            .collect();
        let ended: Vec<_> = running.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.send(()).unwrap();
        assert!(ended.iter().all(Result::is_ok), "seed {seed}");
    });
    storm.calm.store(true, Ordering::Relaxed);
    for proxy in &proxies {
        proxy.pass();
        proxy.wait_for_what_was_sent();
        proxy.send_held_back();
    }
    tell(&workers);
    let outcome = storm.history.replay().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let held = || match from {
        From::Objects => held(&cluster),
        From::Slices => held_in_slices(&nodes),
    };
    check_freed(&held, &storm, &nodes, &outcome);
    settle(&mut workers);
    let outcome = storm.history.replay().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    for node in &nodes {
        collect(node, &storm.ipam, &outcome);
    }
    assert_eq!(held(), outcome.held, "seed {seed}");
    if from == From::Slices {
        check_slices(&cluster, &nodes, &outcome);
    }
}

/// Returns who holds what in the slices of all nodes, as each node lists it.
fn held_in_slices(nodes: &[Node]) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut held: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for node in nodes {
        // Without what other nodes publish.
        let list = node.sandbox.command(&["list", "--node", &node.name, "-o", "json"]).document();
        for record in list.as_array().unwrap() {
            let text = |key: &str| record[key].as_str().unwrap().to_owned();
            let holder = format!("{}/{}", text("node"), text("container"));
            held.entry(holder).or_default().insert(text("address").parse().unwrap());
        }
    }
    held
}

/// Checks that each address is in a slice of its node, that slices were given back, and that no
/// slice is left that no node knows.
fn check_slices(cluster: &Cluster, nodes: &[Node], outcome: &Outcome) {
    let owners = || -> BTreeMap<ipnet::IpNet, String> {
        let list = cluster.text(&["get", "ipslices.hereabouts.dev", "-o", "json"]);
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let slices = list["items"].as_array().unwrap().iter().map(|object| &object["spec"]);
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        slices.map(|spec| (text(&spec["ipv4"]).parse().unwrap(), text(&spec["node"]))).collect()
    };
    let found = owners();
    for (holder, addresses) in &outcome.held {
        for address in addresses {
            let owner = found.iter().find(|(block, _)| block.contains(address));
            let node = holder.split('/').next().unwrap();
            assert_eq!(owner.map(|(_, owner)| owner.as_str()), Some(node), "{holder} {address}");
        }
    }
    for node in nodes {
        node.sandbox.command(&["slices", "sync"]).succeeded();
        let list = node.sandbox.command(&["slices", "list", "--node", &node.name, "-o", "json"]);
        for slice in list.document().as_array().unwrap() {
            assert!(slice["held"].is_u64() && slice["state"] == "owned", "{slice}");
        }
    }
    println!("{} slices after the storm, {} when empty ones are back", found.len(), owners().len());
}

fn node(name: &str, proxy: &Proxy) -> Node {
    let node = Node::new(name, SCOPE, Path::new("/"));
    node.configure(&proxy.kubeconfig(&node.sandbox.root), r#"{"add":"4s","del":"3s","gc":"3s"}"#);
    std::fs::create_dir(node.sandbox.path("netns")).unwrap();
    node
}

/// Returns who holds what, from the objects themselves.
fn held(cluster: &Cluster) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut held: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for object in objects(cluster) {
        let text = |key: &str| object["spec"][key].as_str().unwrap().to_owned();
        held.entry(format!("{}/{}", text("node"), text("containerID")))
            .or_default()
            .insert(text("address").parse().unwrap());
    }
    held
}

/// Checks that what was printed exists, and that what a DEL freed is gone after the node has
/// checked for late creations.
fn check_freed(
    held: &dyn Fn() -> BTreeMap<String, BTreeSet<IpAddr>>,
    storm: &Storm,
    nodes: &[Node],
    outcome: &Outcome,
) {
    for node in nodes {
        seconds_later(node, 61);
        node.del("nobody").succeeded();
    }
    let held = held();
    for (holder, addresses) in &outcome.held {
        assert_eq!(held.get(holder), Some(addresses), "{}", storm.history.of(&[holder]));
    }
    for holder in held.keys() {
        assert!(
            !outcome.freed.contains(holder),
            "leaked {:?}; {}",
            held[holder],
            storm.history.of(&[holder])
        );
    }
}

/// Ends what is undecided. What was given up is left to GC.
fn settle(workers: &mut [Worker<'_>]) {
    for worker in workers {
        let open: Vec<String> = worker
            .sandboxes
            .iter()
            .filter(|(_, state)| matches!(state, Sandbox::Asked | Sandbox::Leaving))
            .map(|(container, _)| container.clone())
            .collect();
        for container in open {
            worker.del(&container);
            assert!(!worker.sandboxes.contains_key(&container), "{container}");
        }
    }
}

fn collect(node: &Node, ipam: &str, outcome: &Outcome) {
    let prefix = format!("{}/", node.name);
    let valid: Vec<&str> =
        outcome.held.keys().filter_map(|holder| holder.strip_prefix(&prefix)).collect();
    let mut call = node.gc_call(&valid);
    worker::with_ipam(&mut call, ipam);
    call.set("CNI_NETNS_OVERRIDE", "true").run().succeeded();
}

/// Prints how long calls took, and how they failed.
fn tell(workers: &[Worker<'_>]) {
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut failed: BTreeMap<(&str, Option<u64>), usize> = BTreeMap::new();
    for worker in workers {
        worker.times.iter().for_each(|(verb, took)| times.entry(verb).or_default().push(*took));
        worker.failed.iter().for_each(|(key, count)| *failed.entry(*key).or_default() += count);
    }
    for (verb, mut times) in times {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        println!(
            "{verb:<5} {:>5} answered: median {:.1?}, p90 {:.1?}, p99 {:.1?}, slowest {:.1?}",
            times.len(),
            at(50),
            at(90),
            at(99),
            at(100)
        );
        assert!(at(100) < LONGEST, "{verb}");
    }
    println!("failed, by verb and code (none: killed): {failed:?}");
}

#[test]
fn a_storm_of_faults_gives_no_address_twice_and_loses_none() {
    storm(From::Objects, 400, 1, 1);
}

#[test]
fn a_storm_of_faults_on_slices_gives_no_address_twice_and_loses_none() {
    storm(From::Slices, 400, 1, 1);
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_storm_of_10_000_calls_gives_no_address_twice_and_loses_none() {
    for seed in [2, 3] {
        storm(From::Objects, 10_000, 8, seed);
    }
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_storm_of_10_000_calls_on_slices_gives_no_address_twice_and_loses_none() {
    for seed in [2, 3] {
        storm(From::Slices, 10_000, 8, seed);
    }
}
