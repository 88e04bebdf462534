//! Sequences of the plugin's verbs on two nodes against a plain map. An input
//! is text, one call a line, numbers taken modulo what there is:
//!
//! ```text
//! add <node> <container> <configuration> <pod> <asks for>
//! del <node> <container>
//! check <node> <container>     with what its last ADD answered
//! gc <node> <bits>             the containers that are valid
//! status <node> <configuration>
//! dies <node> <container>      its network namespace goes
//! lives <node> <container>     and comes
//! ```
//!
//! The map knows the rules of ARCHITECTURE.md, section "Decisions": who is
//! alive, what is re-homed, what a repeat answers, that an ADD is all or
//! nothing. Where they leave open which of a pod's addresses moves, any may.

mod map;

use super::verbs::check_nothing_left;
use crate::support::in_process::{Answer, InProcess};
use hereabouts::ipam::NodeName;
use hereabouts::store::file::FileStore;
use hereabouts::store::node_identity::NodeIdentity;
use hereabouts::store::{Filter, Store};
use map::{CONFIGURATIONS, CONTAINERS, Ended, Held, Map, PODS, Record};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Longer sequences cost time and show little more.
const MOST_STEPS: usize = 60;

const NODES: [&str; 2] = ["n1", "n2"];

/// What a caller may ask for; the first is nothing.
const ASKS: &[Option<&str>] =
    &[None, None, None, Some("10.0.0.2"), Some("10.0.0.5"), Some("10.0.0.9"), Some("10.0.0.7")];

struct Run {
    root: PathBuf,
    plugins: Vec<InProcess>,
    map: Map,
    /// What was printed last, by node and container.
    printed: BTreeMap<(usize, usize), Vec<IpAddr>>,
    counts: BTreeMap<String, usize>,
}

/// One sequence.
pub(super) fn check(root: &Path, input: &[u8]) -> String {
    let _ = std::fs::remove_dir_all(root.join("store"));
    let _ = std::fs::remove_dir_all(root.join("ns"));
    std::fs::create_dir_all(root.join("ns")).unwrap();
    let plugins = NODES.iter().map(|node| {
        let flat = root.join(format!("{node}.conf"));
        let debts = root.join("debts");
        let text = serde_json::json!({"datastore": "file", "data_dir": root.join("store"), "node_name": node, "debts_dir": debts});
        std::fs::write(&flat, text.to_string()).unwrap();
        crate::support::sandbox::make_store(&root.join("store"));
        InProcess { flat }
    });
    let mut run = Run {
        root: root.to_owned(),
        plugins: plugins.collect(),
        map: Map::default(),
        printed: BTreeMap::new(),
        counts: BTreeMap::new(),
    };
    for line in String::from_utf8_lossy(input).lines().take(MOST_STEPS) {
        let mut words = line.split_whitespace();
        let Some(verb) = words.next() else { continue };
        let numbers: Vec<usize> = words.map(|word| word.parse().unwrap_or(0)).collect();
        run.step(verb, &|n, bound| numbers.get(n).map_or(0, |number| number % bound));
        run.compare();
    }
    for node in 0..NODES.len() {
        (0..CONTAINERS).for_each(|container| run.del(node, container));
    }
    run.compare();
    check_nothing_left(&root.join("store"));
    run.counts
        .iter()
        .map(|(what, times)| format!("{what} {}", times.ilog2()))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Run {
    fn step(&mut self, verb: &str, number: &dyn Fn(usize, usize) -> usize) {
        let (node, container) = (number(0, NODES.len()), number(1, CONTAINERS));
        match verb {
            "add" => self.add(
                node,
                container,
                number(2, CONFIGURATIONS.len()),
                number(3, PODS.len()),
                ASKS[number(4, ASKS.len())],
            ),
            "del" => self.del(node, container),
            "check" => self.check(node, container),
            "gc" => self.gc(node, number(1, 1 << CONTAINERS)),
            "status" => {
                let stdin =
                    configuration(CONFIGURATIONS[number(1, CONFIGURATIONS.len())].ipam, &[]);
                let answer = self.call(node, "STATUS", 0, "", &stdin);
                assert_eq!(answer.code, 0, "{}", answer.details());
            }
            "dies" => drop(std::fs::remove_file(self.namespace(node, container))),
            // Any namespace but the plugin's own network.
            "lives" => drop(std::os::unix::fs::symlink(
                "/proc/self/ns/uts",
                self.namespace(node, container),
            )),
            _ => {}
        }
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    fn namespace(&self, node: usize, container: usize) -> PathBuf {
        namespace(&self.root, node, container)
    }

    fn call(&self, node: usize, verb: &str, container: usize, args: &str, stdin: &str) -> Answer {
        let (id, netns) = (format!("c{container}"), self.namespace(node, container));
        let variables = [
            ("CNI_CONTAINERID", id.as_bytes()),
            ("CNI_ARGS", args.as_bytes()),
            ("CNI_NETNS", netns.to_str().unwrap().as_bytes()),
        ];
        self.plugins[node].call(verb, &variables, stdin.as_bytes())
    }

    fn add(&mut self, node: usize, container: usize, of: usize, pod: usize, asked: Option<&str>) {
        // The map knows no time: what pods had is as long ago as can be.
        let _ = std::fs::remove_dir_all(self.root.join("freed"));
        let asks = asked.map(|address| format!("IP={address}"));
        let args: Vec<&str> = asks
            .as_deref()
            .into_iter()
            .chain([PODS[pod]])
            .filter(|args| !args.is_empty())
            .collect();
        let answer = self.call(
            node,
            "ADD",
            container,
            &args.join(";"),
            &configuration(CONFIGURATIONS[of].ipam, &[]),
        );
        let given: Result<Vec<IpAddr>, u64> =
            if answer.code == 0 { Ok(addresses(&answer)) } else { Err(answer.code) };
        let paths = self.root.clone();
        let exists = move |node, container| namespace(&paths, node, container).exists();
        let asked = asked.map(|address| address.parse().unwrap());
        let ended =
            self.map.add(&exists, (node, container), &CONFIGURATIONS[of], PODS[pod], asked, &given);
        match ended {
            Ended::Right(what) => self.count(what),
            Ended::Wrong(why) => panic!(
                "ADD of c{container} on {}: {why}, not {given:?} {}",
                NODES[node],
                answer.details()
            ),
        }
        if let Ok(given) = given {
            self.printed.insert((node, container), given);
        }
    }

    fn del(&mut self, node: usize, container: usize) {
        let answer =
            self.call(node, "DEL", container, "", &configuration(CONFIGURATIONS[0].ipam, &[]));
        assert_eq!(answer.code, 0, "{}", answer.details());
        self.map.held.retain(|_, record| (record.node, record.container) != (node, container));
        self.count("del");
    }

    fn check(&mut self, node: usize, container: usize) {
        let printed = self.printed.get(&(node, container)).cloned().unwrap_or_default();
        let ips: Vec<_> =
            printed.iter().map(|ip| serde_json::json!({"address": format!("{ip}/{}", self.map.prefix(*ip, node, container))})).collect();
        let previous = serde_json::json!({"cniVersion": "1.1.0", "ips": ips});
        let stdin = configuration(CONFIGURATIONS[0].ipam, &[("prevResult", previous)]);
        let answer = self.call(node, "CHECK", container, "", &stdin);
        let expected = self.map.check(node, container, &printed);
        assert_eq!(
            answer.code,
            expected,
            "CHECK of c{container} on {} {}",
            NODES[node],
            answer.details()
        );
        self.count(format!("check {expected}"));
    }

    fn gc(&mut self, node: usize, valid: usize) {
        let listed = (0..CONTAINERS).filter(|container| valid >> container & 1 == 1);
        let listed = listed.map(|container| serde_json::json!({"containerID": format!("c{container}"), "ifname": "net1"})).collect();
        let stdin = configuration(CONFIGURATIONS[0].ipam, &[("cni.dev/valid-attachments", listed)]);
        let answer = self.call(node, "GC", 0, "", &stdin);
        assert_eq!(answer.code, 0, "{}", answer.details());
        let before = self.map.held.len();
        let exists: Vec<bool> =
            (0..CONTAINERS).map(|container| self.namespace(node, container).exists()).collect();
        self.map.held.retain(|_, record| {
            let alive = record.has_namespace && exists[record.container];
            record.node != node || alive || valid >> record.container & 1 == 1
        });
        self.count(if self.map.held.len() < before { "gc frees" } else { "gc" });
    }

    /// The store says what the map says, by name and by node.
    fn compare(&self) {
        let host = NodeIdentity {
            node: NodeName::parse("n1").unwrap(),
            machine_id: None,
            boot_id: String::new(),
        };
        let store = FileStore::new(self.root.join("store"), host);
        let read = |filter: &Filter| -> Held {
            let records =
                store.list(filter).into_iter().flatten().map(Result::unwrap).map(|held| {
                    let attachment = &held.record.attachment;
                    let record = Record {
                        node: NODES
                            .iter()
                            .position(|node| *node == attachment.node.as_str())
                            .unwrap(),
                        container: attachment.container.as_str()[1..].parse().unwrap(),
                        pod: held.record.pod.as_ref().map_or_else(String::new, |pod| {
                            format!(
                                "K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
                                pod.namespace,
                                pod.name,
                                pod.uid.as_deref().unwrap_or("")
                            )
                        }),
                        has_namespace: held.record.netns.is_some(),
                        index: held.record.part.index.into(),
                        of: held.record.part.of.into(),
                        prefix: held.record.prefix,
                    };
                    ((held.scope.name().unwrap_or_default().to_owned(), held.address), record)
                });
            records.collect()
        };
        assert_eq!(read(&Filter::default()), self.map.held);
        for (number, node) in NODES.iter().enumerate() {
            let filter = Filter { node: NodeName::parse(node).ok(), ..Filter::default() };
            let of_node: Held = self
                .map
                .held
                .clone()
                .into_iter()
                .filter(|(_, record)| record.node == number)
                .collect();
            assert_eq!(read(&filter), of_node, "of {node}");
        }
    }
}

fn namespace(root: &Path, node: usize, container: usize) -> PathBuf {
    root.join(format!("ns/{node}.{container}"))
}

fn configuration(ipam: &str, more: &[(&str, serde_json::Value)]) -> String {
    let mut text = format!(
        r#"{{"cniVersion":"1.1.0","name":"net1","type":"x","ipam":{{"type":"hereabouts",{ipam}}}"#
    );
    for (key, value) in more {
        text.push_str(&format!(",\"{key}\":{value}"));
    }
    text + "}"
}

fn addresses(answer: &Answer) -> Vec<IpAddr> {
    let document = answer.document();
    let ips = document["ips"].as_array().cloned().unwrap_or_default();
    ips.iter()
        .map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap())
        .collect()
}
