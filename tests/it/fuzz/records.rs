//! Stored bytes: an input names files of a small store and their content, damaged, forged or
//! foreign. Every verb and the listings are called on it.
//!
//! Invariants: every answer is one document. No address with a name is given to another holder. No
//! two attachments get the same address. What is printed can be configured. One damaged record
//! costs one address, not the whole range.

use super::{outline, sections};
use crate::support::in_process::{Answer, InProcess};
use hereabouts::addr::parse_prefixed;
use hereabouts::ipam::NodeName;
use hereabouts::store::file::FileStore;
use hereabouts::store::node_identity::NodeIdentity;
use hereabouts::store::{Filter, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const RANGE: &str = r#"{"cniVersion":"1.1.0","name":"net1","type":"x","ipam":{"type":"hereabouts","range":"10.1.2.0/28"}}"#;
const POD: &[u8] = b"K8S_POD_NAMESPACE=default;K8S_POD_NAME=web";

/// The name of a section and the file that it is written to. `record` is written to both names of
/// the file. The others become separate files, as in a copied tree.
const FILES: &[(&str, &str)] = &[
    ("record", "scopes/@/10.1.2.0_24/10.1.2.2"),
    ("name", "scopes/@/10.1.2.0_24/10.1.2.2"),
    ("entry", "nodes/n1/net1/c2@net1.0"),
    ("second-entry", "nodes/n1/net1/c2@net1.1"),
    ("pod", "nodes/n1/@pods/net1/default%2Fweb@net1.0"),
    ("foreign", "scopes/@/10.1.2.0_24/foreign"),
    ("free", "scopes/@/10.1.2.0_24/10.1.2.4"),
    ("full", "scopes/@/full"),
    ("exhausted", "scopes/@/exhausted"),
    ("machine", "nodes/n1/@machine-id"),
    ("format", "format"),
];

pub(super) struct Target {
    root: PathBuf,
    plugin: InProcess,
}

impl Target {
    pub(super) fn new(root: &Path) -> Self {
        let plugin = InProcess { flat: root.join("flat.conf") };
        let flat = serde_json::json!({"data_dir": root.join("store"), "node_name": "n1", "deadlines": {"add": "2s", "del": "2s"}});
        std::fs::write(&plugin.flat, flat.to_string()).unwrap();
        Self { root: root.to_owned(), plugin }
    }

    fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    pub(super) fn check(&mut self, input: &[u8]) -> String {
        let _ = std::fs::remove_dir_all(self.store());
        crate::support::sandbox::make_store(&self.store());
        for container in ["c1", "c2", "c3"] {
            assert_eq!(self.add(container, if container == "c3" { POD } else { b"" }).code, 0);
        }
        let mut garbled = BTreeSet::new();
        for (name, bytes) in sections(input) {
            if let Some((name, file)) = FILES.iter().find(|(known, _)| *known == name) {
                self.write(name, file, bytes.strip_suffix(b"\n").unwrap_or(&bytes));
                garbled.insert(*name);
            }
        }
        let listed = self.list();
        let behavior = self.verbs(&garbled);
        self.list();
        format!("{listed} {behavior}")
    }

    fn write(&self, name: &str, file: &str, bytes: &[u8]) {
        let path = self.store().join(file);
        // In place, so that both names still belong to one file; or a new file.
        if !["record", "machine", "format"].contains(&name) {
            let _ = std::fs::remove_file(&path);
        }
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn call(&self, verb: &str, container: &str, args: &[u8], stdin: &str) -> Answer {
        self.plugin.call(
            verb,
            &[("CNI_CONTAINERID", container.as_bytes()), ("CNI_ARGS", args)],
            stdin.as_bytes(),
        )
    }

    fn add(&self, container: &str, args: &[u8]) -> Answer {
        self.call("ADD", container, args, RANGE)
    }

    /// Returns the addresses that have names, and the record of each as text. Read without the
    /// library.
    fn names(&self) -> BTreeMap<IpAddr, String> {
        let Ok(entries) = std::fs::read_dir(self.store().join("scopes/@/10.1.2.0_24")) else {
            return BTreeMap::new();
        };
        let read = |path: PathBuf| {
            String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
        };
        entries
            .map(|entry| entry.unwrap().path())
            .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, read(path))))
            .collect()
    }

    /// Lists in every way. Returns the numbers of records and of damaged records.
    fn list(&self) -> String {
        let host = NodeIdentity {
            node: NodeName::parse("n1").unwrap(),
            machine_id: None,
            boot_id: String::new(),
        };
        let store = FileStore::new(self.store(), host);
        let filters = [
            Filter::default(),
            Filter { node: NodeName::parse("n1").ok(), ..Filter::default() },
            Filter { address: "10.1.2.2".parse().ok(), ..Filter::default() },
        ];
        let mut counts = Vec::new();
        for filter in filters {
            let Ok(listing) = store.list(&filter) else { return "unlisted".to_owned() };
            let (good, bad): (Vec<_>, Vec<_>) = listing.partition(Result::is_ok);
            let good: Vec<_> = good.into_iter().map(Result::unwrap).collect();
            let addresses: BTreeSet<_> =
                good.iter().map(|held| (&held.scope, held.address)).collect();
            assert_eq!(addresses.len(), good.len(), "an address is listed twice: {good:?}");
            for held in &good {
                let _ = humantime::format_rfc3339_seconds(held.record.since).to_string();
            }
            counts.push(format!("{}+{}", good.len(), bad.len()));
        }
        counts.join(" ")
    }

    fn verbs(&self, garbled: &BTreeSet<&str>) -> String {
        let mut told: BTreeMap<IpAddr, &str> = BTreeMap::new();
        let mut behavior = Vec::new();
        let status = self.call("STATUS", "", b"", RANGE);
        behavior.push(outline(status.code, &status.details()));
        self.call("CHECK", "c2", b"", RANGE);
        for (container, args) in [("c9", b"".as_slice()), ("c1", b""), ("c2", b""), ("c8", POD)] {
            let before = self.names();
            let answer = self.add(container, args);
            behavior.push(outline(answer.code, &answer.details()));
            for ip in answer.document()["ips"].as_array().into_iter().flatten() {
                let text = ip["address"].as_str().unwrap();
                let (address, _) = parse_prefixed(text)
                    .unwrap_or_else(|error| panic!("{container} was told {text}: {error}"));
                let stood = before.get(&address);
                assert!(
                    container != "c9" || stood.is_none(),
                    "{address} stood, and was given to c9"
                );
                // A record that names this pod may move: its sandbox is gone.
                if container == "c8" && stood.is_some_and(|record| record.contains("web")) {
                    told.remove(&address);
                }
                assert!(
                    told.insert(address, container).is_none_or(|other| other == container),
                    "{address} was told twice: {told:?}"
                );
                assert!(
                    self.names().contains_key(&address),
                    "{address} was told and is not recorded"
                );
            }
            // Hints, format and machine concern every call; a record concerns its holder.
            let pool = ["format", "machine", "exhausted"].iter().any(|name| garbled.contains(name));
            if container == "c9" && !pool {
                assert_eq!(
                    answer.code,
                    0,
                    "one damaged record cost the pool: {}",
                    answer.details()
                );
            }
        }
        self.frees(told, &mut behavior);
        behavior.join(", ")
    }

    /// Checks that DEL and GC free what belongs to them, and nothing else.
    fn frees(&self, mut told: BTreeMap<IpAddr, &str>, behavior: &mut Vec<String>) {
        let deleted = self.call("DEL", "c2", b"", RANGE);
        behavior.push(outline(deleted.code, &deleted.details()));
        if deleted.code == 0 {
            told.retain(|_, container| *container != "c2");
        }
        let left = self.names();
        for (address, container) in &told {
            assert!(left.contains_key(address), "DEL of c2 freed {address} of {container}");
        }
        let again = self.add("c7", b"");
        for ip in again.document()["ips"].as_array().into_iter().flatten() {
            let (address, _) = parse_prefixed(ip["address"].as_str().unwrap()).unwrap();
            assert!(!left.contains_key(&address), "{address} stood, and was given to c7");
        }
        let valid = r#"{"cni.dev/valid-attachments":[{"containerID":"c9","ifname":"net1"}],"#;
        let collected = self.call("GC", "", b"", &RANGE.replacen('{', valid, 1));
        behavior.push(outline(collected.code, &collected.details()));
        for (address, _) in told.iter().filter(|(_, container)| **container == "c9") {
            assert!(self.names().contains_key(address), "GC freed {address}, which is valid");
        }
    }
}
