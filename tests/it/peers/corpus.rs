//! Reads the configurations of `tests/data/peers`, whose README describes the form.

use std::path::Path;

/// The plugin for which a configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    HostLocal,
    Whereabouts,
}

impl Peer {
    pub(super) const ALL: [Self; 2] = [Self::HostLocal, Self::Whereabouts];

    /// Returns the name of its executable, which is the `type` of `ipam`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HostLocal => "host-local",
            Self::Whereabouts => "whereabouts",
        }
    }

    /// Returns the calls of a configuration that lists none. host-local refuses a repeated ADD, so
    /// its usual calls have none.
    fn usual_calls(self) -> &'static str {
        match self {
            Self::HostLocal => "a b -a -b",
            Self::Whereabouts => "a b a -a -b",
        }
    }
}

/// One configuration, and the calls that are made with it.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) peer: Peer,
    /// The title of its entry, and the alternatives that were chosen in it.
    pub(super) name: String,
    /// The document on stdin, with the word `PEER` as `type` of `ipam`.
    pub(super) document: String,
    /// The keys in `CNI_ARGS` beside those of the pod.
    pub(super) args: String,
    /// All of `CNI_ARGS`.
    pub(super) all_args: Option<String>,
    /// The keys in the flat file beside those that a node needs.
    pub(super) flat: String,
    /// The `type` of `ipam` for hereabouts.
    pub(super) ours: String,
    pub(super) calls: Vec<SandboxCall>,
    /// The name of the class of its difference.
    pub(super) differs: Option<String>,
}

/// One ADD or DEL.
#[derive(Debug, Clone)]
pub(super) struct SandboxCall {
    /// As it is written: `a`, `-a`, `a2`, `a.net2`.
    pub(super) text: String,
    pub(super) verb: &'static str,
    pub(super) pod: String,
    pub(super) container: String,
    pub(super) interface: String,
}

impl SandboxCall {
    fn parse(text: &str) -> Self {
        let (verb, sandbox) = text.strip_prefix('-').map_or(("ADD", text), |rest| ("DEL", rest));
        let (container, interface) = sandbox.split_once('.').unwrap_or((sandbox, "net1"));
        Self {
            text: text.to_owned(),
            verb,
            pod: container.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(),
            container: container.to_owned(),
            interface: interface.to_owned(),
        }
    }
}

/// Returns all configurations for a peer, in the order of its file.
pub(super) fn cases(peer: Peer) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/peers").join(peer.name());
    let text = std::fs::read_to_string(path).unwrap();
    entries(&text).iter().flat_map(|entry| entry.cases(peer)).collect()
}

/// An entry of the file: its title, and its keys with their values.
struct Entry {
    title: String,
    keys: Vec<(String, String)>,
}

fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix('[') {
            let title = title.trim_end_matches(']').to_owned();
            entries.push(Entry { title, keys: Vec::new() });
        } else if line.starts_with(' ') {
            let (_, value) = entries.last_mut().unwrap().keys.last_mut().unwrap();
            *value = format!("{value}\n{}", line.trim_start());
        } else if let Some((key, value)) = line.split_once(" =") {
            let key = key.trim().to_owned();
            entries.last_mut().unwrap().keys.push((key, value.trim().to_owned()));
        } else {
            assert!(line.is_empty(), "neither a title nor a key: {line}");
        }
    }
    entries
}

impl Entry {
    fn cases(&self, peer: Peer) -> Vec<Case> {
        const KEYS: [&str; 10] = [
            "ipam", "whole", "beside", "version", "args", "all-args", "flat", "as", "calls",
            "differs",
        ];
        for (key, _) in &self.keys {
            assert!(KEYS.contains(&&**key), "{}: unknown key {key}", self.title);
        }
        alternatives(&self.text())
            .into_iter()
            .map(|(chosen, text)| self.case(peer, &chosen, &text))
            .collect()
    }

    fn key(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Returns the document, the arguments and the flat file's keys, separated by NUL: each may
    /// have alternatives.
    fn text(&self) -> String {
        let document = if let Some(whole) = self.key("whole") {
            whole.to_owned()
        } else {
            let version = self.key("version").unwrap_or("1.1.0");
            let keys = self.key("ipam").unwrap_or_default();
            let comma = if keys.is_empty() { "" } else { "," };
            let beside = self.key("beside").map(|keys| format!(",{keys}")).unwrap_or_default();
            format!(
                r#"{{"cniVersion":"{version}","name":"net1","type":"macvlan","ipam":{{"type":"PEER"{comma}{keys}}}{beside}}}"#
            )
        };
        let [args, all_args, flat] =
            ["args", "all-args", "flat"].map(|name| self.key(name).unwrap_or_default());
        [&document, args, all_args, flat].join("\0")
    }

    fn case(&self, peer: Peer, chosen: &[String], text: &str) -> Case {
        let mut parts = text.split('\0').map(str::to_owned);
        let mut part = || parts.next().unwrap();
        let name = match chosen {
            [] => self.title.clone(),
            _ => format!("{}: {}", self.title, chosen.join(" ")),
        };
        let calls = self.key("calls").unwrap_or_else(|| peer.usual_calls());
        Case {
            peer,
            name,
            document: part(),
            args: part(),
            all_args: Some(part()).filter(|_| self.key("all-args").is_some()),
            flat: part(),
            ours: self.key("as").unwrap_or("hereabouts").to_owned(),
            calls: calls.split(' ').map(SandboxCall::parse).collect(),
            differs: self.key("differs").map(str::to_owned),
        }
    }
}

/// Returns each text that a text with `<one|other>` stands for, with the words that were chosen.
fn alternatives(text: &str) -> Vec<(Vec<String>, String)> {
    let Some((before, rest)) = text.split_once('<') else {
        return vec![(Vec::new(), text.to_owned())];
    };
    let (words, after) = rest.split_once('>').unwrap();
    let behind = alternatives(after);
    let mut all = Vec::new();
    for word in words.split('|') {
        for (chosen, text) in &behind {
            let chosen = std::iter::once(word.to_owned()).chain(chosen.iter().cloned()).collect();
            all.push((chosen, format!("{before}{word}{text}")));
        }
    }
    all
}
