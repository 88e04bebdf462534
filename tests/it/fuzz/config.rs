//! Configuration bytes: stdin, `CNI_ARGS`, the flat file, container and interface names, each as a
//! section of the input. All verbs are called with them in turn, on a store in which another
//! attachment holds an address.
//!
//! Invariants: every answer is one document. An ADD that fails leaves the store as it was. An ADD
//! that succeeds took only free addresses, printed what it recorded, can be repeated with the same
//! answer, and agrees with CHECK, STATUS and GC. Its DEL succeeds and frees everything.

use super::{outline, sections};
use crate::support::in_process::{Answer, InProcess};
use hereabouts::addr::{Subnet, parse_prefixed};
use hereabouts::config::{
    Chosen, CniArgs, FlatFile, Merged, Network, Settings, plugin_configurations,
};
use hereabouts::ipam::{Allocation, NodeName, slots};
use hereabouts::json::Json;
use hereabouts::store::file::FileStore;
use hereabouts::store::node_identity::NodeIdentity;
use hereabouts::store::{Filter, Store};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const BYSTANDER: &str = r#"{"cniVersion":"1.1.0","name":"net1","type":"x","ipam":{"type":"hereabouts","range":"10.1.2.0/24"}}"#;

/// An input, split into the parts that the plugin gets.
struct Parts {
    stdin: Vec<u8>,
    args: Vec<u8>,
    flat: Vec<u8>,
    container: Vec<u8>,
    ifname: Vec<u8>,
}

impl Parts {
    /// Splits an input. `$DIR` is the directory of the run. Missing parts get usual values.
    fn parse(input: &[u8], root: &Path) -> Self {
        let mut parts = Self {
            stdin: Vec::new(),
            args: Vec::new(),
            flat: br#"{"datastore":"file","data_dir":"$DIR/store","node_name":"n1"}"#.to_vec(),
            container: b"abc123".to_vec(),
            ifname: b"net1".to_vec(),
        };
        for (name, bytes) in sections(input) {
            match name.as_str() {
                "" | "stdin" => parts.stdin.extend(bytes),
                "args" => parts.args = bytes,
                "flat" => parts.flat = bytes,
                "container" => parts.container = bytes,
                "ifname" => parts.ifname = bytes,
                _ => {}
            }
        }
        for bytes in [&mut parts.stdin, &mut parts.flat] {
            let text = root.to_str().unwrap();
            while let Some(at) = bytes.windows(4).position(|window| window == b"$DIR") {
                bytes.splice(at..at + 4, text.bytes());
            }
        }
        parts
    }

    fn json(&self) -> Option<Json> {
        Json::parse(&self.stdin).ok().filter(|json| matches!(json, Json::Object(_)))
    }

    /// Returns the configuration with one more key at the start.
    fn with(&self, key: &str, value: &serde_json::Value) -> Vec<u8> {
        let at = self.stdin.iter().position(|byte| *byte == b'{').unwrap();
        let rest = &self.stdin[at + 1..];
        [format!("{{\"{key}\":{value},").as_bytes(), rest].concat()
    }

    fn mentions(&self, word: &str) -> bool {
        // An escape may stand for any letter.
        self.stdin.windows(word.len()).any(|window| window == word.as_bytes())
            || self.stdin.contains(&b'\\')
    }
}

pub(super) struct Target {
    root: PathBuf,
    plugin: InProcess,
}

impl Target {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), plugin: InProcess { flat: root.join("flat.conf") } }
    }

    pub(super) fn check(&mut self, input: &[u8]) -> String {
        let parts = Parts::parse(input, &self.root);
        let flat = FlatFile::parse(self.plugin.flat.clone(), &parts.flat, Chosen::ByNode);
        let _ = plugin_configurations(&parts.stdin);
        check_network(&parts, flat.as_ref().ok());
        let data_dir = match data_dir(&parts, flat.as_ref().ok()) {
            // Nothing below reaches a store, because there is none.
            None => self.root.join("store"),
            Some(data_dir) if data_dir.starts_with(&self.root) => data_dir,
            // A place that is not ours to write to.
            Some(_) => return "a store elsewhere".to_owned(),
        };
        self.prepare();
        std::fs::write(&self.plugin.flat, &parts.flat).unwrap();
        let behavior = self.life_cycle(&parts, &data_dir);
        for entry in std::fs::read_dir(&self.root).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path != self.root.join("store") {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
        behavior
    }

    /// Creates a store in which a bystander holds 10.1.2.1, and nothing else.
    fn prepare(&self) {
        let store = self.root.join("store");
        if self.held(&store).len() == 1 {
            return;
        }
        let _ = std::fs::remove_dir_all(&store);
        crate::support::sandbox::make_store(&store);
        let flat = serde_json::json!({"data_dir": store, "node_name": "n1"}).to_string();
        std::fs::write(&self.plugin.flat, flat).unwrap();
        let answer =
            self.plugin.call("ADD", &[("CNI_CONTAINERID", b"bystander")], BYSTANDER.as_bytes());
        assert_eq!(answer.code, 0, "{}", answer.details());
    }

    fn held(&self, data_dir: &Path) -> BTreeMap<String, Allocation> {
        let host = NodeIdentity {
            node: NodeName::parse("n1").unwrap(),
            machine_id: None,
            boot_id: String::new(),
        };
        let store = FileStore::new(data_dir.to_owned(), host);
        let Ok(listing) = store.list(&Filter::default()) else {
            return BTreeMap::new();
        };
        listing
            .map(Result::unwrap)
            .map(|held| (format!("{} {}", held.scope, held.address), held))
            .collect()
    }

    fn life_cycle(&self, parts: &Parts, data_dir: &Path) -> String {
        let variables: &[(&str, &[u8])] = &[
            ("CNI_ARGS", &parts.args),
            ("CNI_CONTAINERID", &parts.container),
            ("CNI_IFNAME", &parts.ifname),
        ];
        let call = |verb: &str, stdin: &[u8]| self.plugin.call(verb, variables, stdin);
        assert_eq!(call("VERSION", &parts.stdin).code, 0);
        let before = self.held(data_dir);
        let status = call("STATUS", &parts.stdin);
        let added = call("ADD", &parts.stdin);
        let after = self.held(data_dir);
        if added.code != 0 {
            assert_eq!(after, before, "an ADD that failed changed what is held");
            for verb in ["CHECK", "GC", "DEL"] {
                call(verb, &parts.stdin);
            }
            return outline(added.code, &added.details());
        }
        assert!(
            before.iter().all(|(key, held)| after.get(key) == Some(held)),
            "what another held was changed"
        );
        let took: Vec<&Allocation> = after
            .iter()
            .filter(|(key, _)| !before.contains_key(*key))
            .map(|(_, held)| held)
            .collect();
        check_printed(&added, &took);
        // 1 is a version without STATUS, 50 what an operator asked for. Without a range, an ADD may
        // bring its own address.
        assert!(
            [0, 1, 50].contains(&status.code) || status.details().contains("found none"),
            "ADD succeeds, but not STATUS: {}",
            status.details()
        );
        assert_eq!(
            call("ADD", &parts.stdin).stdout,
            added.stdout,
            "a repeated ADD answered differently"
        );
        if !parts.mentions("prevResult") {
            let checked = call("CHECK", &parts.with("prevResult", &added.document()));
            assert!([0, 1].contains(&checked.code), "{}", checked.details());
        }
        if !parts.mentions("attachments") {
            let ours = serde_json::json!([
                {"containerID": String::from_utf8_lossy(&parts.container), "ifname": String::from_utf8_lossy(&parts.ifname)},
                {"containerID": "bystander", "ifname": "net1"}]);
            let collected = call("GC", &parts.with("cni.dev/valid-attachments", &ours));
            assert!([0, 1].contains(&collected.code), "{}", collected.details());
            assert_eq!(self.held(data_dir), after, "GC freed what is valid");
        }
        let deleted = call("DEL", &parts.stdin);
        assert_eq!(deleted.code, 0, "{}", deleted.details());
        if parts.container != b"bystander" {
            assert_eq!(
                self.held(data_dir),
                before
                    .into_iter()
                    .filter(|(_, held)| held.record.attachment.container.as_str().as_bytes()
                        != parts.container)
                    .collect(),
                "DEL left something"
            );
        }
        format!(
            "given {} of {:?}",
            took.len(),
            took.iter()
                .map(|held| (
                    held.record.source,
                    held.scope.name().is_some(),
                    held.record.pod.is_some(),
                    held.record.gateway.is_some(),
                    held.address.is_ipv4()
                ))
                .collect::<Vec<_>>()
        )
    }
}

/// Checks that what was printed is what was recorded, and can be configured.
fn check_printed(added: &Answer, took: &[&Allocation]) {
    let document = added.document();
    let legacy = [&document["ip4"]["ip"], &document["ip6"]["ip"]];
    let listed = document["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let printed: Vec<&str> = listed.chain(legacy).filter_map(serde_json::Value::as_str).collect();
    for text in &printed {
        let (address, _) = parse_prefixed(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(
            !address.is_unspecified() && !address.is_multicast() && !address.is_loopback(),
            "{text}"
        );
    }
    for held in took {
        let text = format!("{}/{}", held.address, held.record.prefix);
        assert!(printed.contains(&&*text), "{text} was recorded, and not printed: {document}");
    }
    assert!(!printed.is_empty(), "nothing was given: {document}");
    assert!(took.is_empty() || took.len() == printed.len(), "{document}");
}

/// Returns the place of the store, by every way in which the settings are read, or `None` if they
/// name none.
fn data_dir(parts: &Parts, flat: Option<&FlatFile>) -> Option<PathBuf> {
    let json = parts.json()?;
    let merged = Merged::new(&json, Some(flat?)).ok()?;
    let ways = [
        Settings::parse(&merged, false),
        Settings::parse(&merged, true),
        Settings::parse_to_release(&merged, false),
    ];
    let mut found: Vec<PathBuf> =
        ways.into_iter().flatten().map(|settings| settings.store.data_dir).collect();
    found.dedup();
    assert!(found.len() < 2, "ADD and DEL would use two stores: {found:?}");
    found.pop()
}

/// Checks that what a parsed network gives out is in its subnets and is no gateway.
fn check_network(parts: &Parts, flat: Option<&FlatFile>) {
    let args = CniArgs::parse(&parts.args).unwrap_or_default();
    let Some(json) = parts.json() else { return };
    let Ok(network) =
        Merged::new(&json, flat).and_then(|merged| Ok(Network::parse(&merged, &args)?))
    else {
        return;
    };
    let Ok(slots) =
        slots(&network.sets, &network.requested, &network.statics, &network.reservations)
    else {
        return;
    };
    let ranges: Vec<_> = network.sets.iter().flat_map(|set| &set.ranges).collect();
    let gateways: Vec<IpAddr> = ranges.iter().filter_map(|range| range.gateway).collect();
    for (at, slot) in slots.iter().enumerate() {
        assert_eq!((usize::from(slot.part.index), usize::from(slot.part.of)), (at, slots.len()));
        for candidates in &slot.candidates {
            let first = candidates.addresses.ranges().next().map(|range| range.first_address());
            assert!(first.is_none_or(|first| Subnet::new(first, candidates.prefix).is_ok()));
            assert!(
                gateways.iter().all(|gateway| !candidates.addresses.contains(*gateway)),
                "a gateway would be given out"
            );
            let _ = candidates.addresses.count();
            // Without a range, a pod brings its own address.
            if slot.source == hereabouts::ipam::Source::Static || ranges.is_empty() {
                continue;
            }
            for part in candidates.addresses.ranges() {
                let inside = |subnet: &Subnet| {
                    subnet.contains(part.first_address()) && subnet.contains(part.last_address())
                };
                assert!(ranges.iter().any(|range| inside(&range.subnet)), "{part} is in no subnet");
            }
        }
    }
}
