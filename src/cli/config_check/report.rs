//! What `config check` found about one network, as text and as JSON.

use super::main_plugins::Remark;
use crate::addr;
use crate::cli::output;
use crate::config::{ConfigError, Mistakes, Origin};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The result of the check of one network or flat file.
#[derive(Default)]
pub(super) struct Report {
    /// The file or server, and the place of the network in it.
    pub(super) file: String,
    place: String,
    /// The object that contains the network.
    pub(super) origin: Origin,
    /// Whether this is a flat file.
    pub(super) is_flat_file: bool,
    /// The name that the network has for the plugin.
    pub(super) name: Option<String>,
    /// Whether that name is in the configuration, and not the one of the object.
    pub(super) is_named: bool,
    /// The reason why the network is not checked.
    pub(super) not_ours: Option<String>,
    /// The store of the network, if it can be determined.
    pub(super) store: Option<Store>,
    /// The scope of its addresses, if its configuration is valid. An inner `None` is the scope
    /// without a name.
    pub(super) scope: Option<Option<String>>,
    /// The range sets. An ADD gives one address from each.
    pub(super) sets: Vec<Vec<Range>>,
    /// The static addresses, with their prefix lengths.
    pub(super) statics: Vec<String>,
    /// The addresses that are reserved, and for which pods.
    pub(super) reservations: Vec<(addr::Range, String)>,
    /// The addresses that are given only on request.
    pub(super) on_request: Vec<addr::Range>,
    /// The addresses that are given dynamically.
    pub(super) dynamic: Vec<addr::Range>,
    /// The routes.
    pub(super) routes: Vec<String>,
    /// The number of pods that use it, if a cluster was asked.
    pub(super) used_by: Option<usize>,
    /// What is valid but suspicious.
    pub(super) notes: Vec<String>,
    /// What the main plugin will do with the answer.
    pub(super) remarks: Vec<Remark>,
    /// What makes it unusable.
    pub(super) mistakes: Mistakes,
}

/// A store in a report.
pub(super) enum Store {
    /// Files.
    File {
        /// The directory.
        data_dir: PathBuf,
        /// The source of this setting.
        origin: String,
    },
    /// The Kubernetes API.
    #[cfg(feature = "kube")]
    Kubernetes {
        /// The path of the kubeconfig on the nodes.
        kubeconfig: PathBuf,
        /// The server, if the kubeconfig can be used on this machine.
        server: Option<String>,
    },
}

/// A range in a report.
pub(super) struct Range {
    /// The first to the last address.
    pub(super) range: String,
    /// The subnet.
    pub(super) subnet: String,
    /// The number of addresses that may be given out.
    pub(super) addresses: u128,
    /// The gateway.
    pub(super) gateway: Option<String>,
}

impl Report {
    /// Returns the report of a place in a file, without any findings.
    pub(super) fn new(file: &str, place: String, origin: Origin) -> Self {
        Self { file: file.to_owned(), place, origin, ..Self::default() }
    }

    /// Adds a note.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Returns the name of the object with its namespace, if it has both.
    pub(super) fn object(&self) -> Option<String> {
        let (namespace, name) = (self.origin.namespace.as_ref()?, self.origin.name.as_ref()?);
        Some(format!("{namespace}/{name}"))
    }

    /// Returns the number of mistakes.
    pub(super) fn count(&self) -> usize {
        self.mistakes.first().len() + self.mistakes.more()
    }

    /// Returns the report for people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.heading());
        let mut line = |what: &str, of: &str| {
            text.push_str(&format!("  {what}: {}\n", output::printable(of)));
        };
        match &self.store {
            None => {}
            Some(Store::File { data_dir, origin }) => {
                line("store", &format!("{} ({origin})", data_dir.display()));
            }
            #[cfg(feature = "kube")]
            Some(Store::Kubernetes { kubeconfig, server }) => {
                line("store", &format!("Kubernetes ({})", kubeconfig.display()));
                server.iter().for_each(|server| line("API server", server));
            }
        }
        if let Some(scope) = &self.scope {
            line("scope", scope.as_deref().unwrap_or("(unnamed)"));
        }
        for set in &self.sets {
            let ranges: Vec<String> = set.iter().map(Range::outline).collect();
            line("one address from", &ranges.join(", else "));
        }
        self.statics.iter().for_each(|fixed| line("static address", fixed));
        for (range, owner) in &self.reservations {
            line("reserved", &format!("{} for {owner}", output::addresses(range)));
        }
        self.on_request.iter().for_each(|range| line("only on request", &output::addresses(range)));
        self.routes.iter().for_each(|route| line("route", route));
        if let Some(pods) = self.used_by {
            line("used by", &output::count(pods, "pod"));
        }
        self.notes.iter().for_each(|note| line("note", note));
        let own = self.remarks.iter().filter(|remark| !remark.is_general);
        own.for_each(|remark| line("note", &remark.words));
        for mistake in self.mistakes.first() {
            let is_of_file = mistake.place.is_empty();
            line("mistake", &if is_of_file { mistake.reason.clone() } else { mistake.to_string() });
            mistake.hint.iter().for_each(|hint| line("  hint", hint));
        }
        if 0 < self.mistakes.more() {
            line("mistake", &format!("and {} more", self.mistakes.more()));
        }
        if let Some(why) = &self.not_ours {
            text.push_str(&format!("  not ours ({})\n", output::printable(why)));
        }
        text
    }

    fn heading(&self) -> String {
        let name = self.name.as_deref().or(self.origin.name.as_deref());
        let mut parts = vec![self.file.clone()];
        parts.extend(self.object());
        parts.extend(Some(&self.place).filter(|place| !place.is_empty()).cloned());
        let place = output::printable(&parts.join(": "));
        match (self.is_flat_file, name) {
            (true, _) => format!("flat file ({place})"),
            (false, Some(name)) => format!("network {} ({place})", output::printable(name)),
            (false, None) if self.scope.is_none() && self.not_ours.is_none() => place,
            (false, None) => format!("network ({place})"),
        }
    }

    /// Returns the report for programs. The keys are documented and stable.
    pub(super) fn json(&self) -> Value {
        let mistake = |mistake: &ConfigError| json!({"place": mistake.place, "reason": mistake.reason, "hint": mistake.hint});
        let remarks = self.remarks.iter().map(|remark| &remark.words);
        let notes: Vec<&String> = self.notes.iter().chain(remarks).collect();
        json!({
            "file": self.file,
            "place": self.place,
            "kind": self.origin.kind,
            "namespace": self.origin.namespace,
            "object": self.origin.name,
            "name": self.name,
            "nameIsOwn": self.is_named,
            "flatFile": self.is_flat_file,
            "ours": self.not_ours.is_none(),
            "notOurs": self.not_ours,
            "store": self.store.as_ref().map(Store::json),
            "scope": self.scope.as_ref().map(|scope| scope.as_deref().unwrap_or_default()),
            "ranges": self.sets.iter().map(|set| set.iter().map(Range::json).collect()).collect::<Vec<Value>>(),
            "addresses": self.statics,
            "reservations": self.reservations.iter().map(|(range, owner)| json!({"addresses": output::addresses(range), "for": owner})).collect::<Vec<Value>>(),
            "reserved": self.on_request.iter().map(output::addresses).collect::<Vec<String>>(),
            "routes": self.routes,
            "usedBy": self.used_by,
            "notes": notes,
            "mistakes": self.mistakes.first().iter().map(mistake).collect::<Vec<Value>>(),
            "moreMistakes": self.mistakes.more(),
        })
    }
}

impl Store {
    fn json(&self) -> Value {
        match self {
            Self::File { data_dir, origin } => {
                json!({"kind": "file", "dataDir": data_dir.display().to_string(), "origin": origin})
            }
            #[cfg(feature = "kube")]
            Self::Kubernetes { kubeconfig, server } => json!({
                "kind": "kubernetes", "kubeconfig": kubeconfig.display().to_string(), "server": server,
            }),
        }
    }
}

impl Range {
    fn outline(&self) -> String {
        let addresses = if self.addresses == 1 { "address" } else { "addresses" };
        let gateway = match &self.gateway {
            Some(gateway) => format!("gateway {gateway}"),
            None => "no gateway".to_owned(),
        };
        format!("{} in {} ({} {addresses}, {gateway})", self.range, self.subnet, self.addresses)
    }

    fn json(&self) -> Value {
        json!({
            "range": self.range,
            "subnet": self.subnet,
            "addresses": output::number(self.addresses),
            "gateway": self.gateway,
        })
    }
}
