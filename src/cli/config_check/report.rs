//! What `config check` found about one network or pool, as text and as JSON.

use super::main_plugins::Remark;
use super::outline::Outline;
use crate::cli::output;
use crate::config::{ConfigError, Mistakes, Origin};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The result of the check of one network, pool or flat file.
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
    /// What it allocates from, if its configuration is valid: one outline for a network with
    /// ranges, one for each pool that was found for a network with pools.
    pub(super) outlines: Vec<Outline>,
    /// What is known about a pool, if this is one.
    pub(super) pool: Option<PoolSummary>,
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

/// What a report says about a pool besides its outline.
pub(super) struct PoolSummary {
    /// The number of subnets.
    pub(super) subnets: usize,
    /// The number of addresses that can be given, reserved or not.
    pub(super) addresses: u128,
    /// The number of reservations.
    pub(super) reservations: usize,
    /// The namespaces whose pods may use it. If there is none, all may.
    pub(super) namespaces: Vec<String>,
    /// The labels of its nodes, as `key=value`. If there is none, every node may use it.
    pub(super) node_labels: Vec<String>,
}

impl Report {
    /// Returns the report of a place in a file, without any findings.
    pub(super) fn new(file: &str, place: String, origin: Origin) -> Self {
        Self { file: file.to_owned(), place, origin, ..Self::default() }
    }

    /// Returns the report of a mistake that is not inside a network.
    pub(super) fn of_mistake(file: &str, error: ConfigError) -> Self {
        let place = if error.place == "file" { String::new() } else { error.place };
        let mut report = Self::new(file, String::new(), Origin::default());
        report.mistakes.add(ConfigError { place, ..error });
        report
    }

    /// Adds a note. Several pools of a network may give the same one.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Returns the name of the object with its namespace, if it has both.
    pub(super) fn object(&self) -> Option<String> {
        let (namespace, name) = (self.origin.namespace.as_ref()?, self.origin.name.as_ref()?);
        Some(format!("{namespace}/{name}"))
    }

    /// Returns whether this is the report of a pool.
    pub(super) fn is_pool(&self) -> bool {
        self.origin.kind == Some("IPPool")
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
        for outline in &self.outlines {
            let lines = outline.lines();
            match &outline.pool {
                None => lines.iter().for_each(|(what, of)| line(what, of)),
                Some(pool) => {
                    line("pool", &format!("{} ({})", pool.name, pool.file));
                    lines.iter().for_each(|(what, of)| line(&format!("  {what}"), of));
                }
            }
        }
        if let Some(pool) = &self.pool {
            pool.lines().iter().for_each(|(what, of)| line(what, of));
        }
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
        let what = if self.is_pool() { "pool" } else { "network" };
        match (self.is_flat_file, name) {
            (true, _) => format!("flat file ({place})"),
            (false, Some(name)) => format!("{what} {} ({place})", output::printable(name)),
            (false, None) if self.outlines.is_empty() && self.not_ours.is_none() => place,
            (false, None) => format!("{what} ({place})"),
        }
    }

    /// Returns the report for programs. The keys are documented and stable.
    pub(super) fn json(&self) -> Value {
        let mistake = |mistake: &ConfigError| json!({"place": mistake.place, "reason": mistake.reason, "hint": mistake.hint});
        let remarks = self.remarks.iter().map(|remark| &remark.words);
        let notes: Vec<&String> = self.notes.iter().chain(remarks).collect();
        let own = self.outlines.iter().find(|outline| outline.pool.is_none());
        let mut value = json!({
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
            "pool": self.pool.as_ref().map(PoolSummary::json),
            "pools": self.outlines.iter().filter_map(of_pool).collect::<Vec<Value>>(),
            "usedBy": self.used_by,
            "notes": notes,
            "mistakes": self.mistakes.first().iter().map(mistake).collect::<Vec<Value>>(),
            "moreMistakes": self.mistakes.more(),
        });
        for (key, part) in Outline::json(own) {
            value[key] = part;
        }
        value
    }
}

/// Returns what a network gets from a pool, for programs.
fn of_pool(outline: &Outline) -> Option<Value> {
    let pool = outline.pool.as_ref()?;
    let mut value = json!({"name": pool.name, "file": pool.file});
    for (key, part) in Outline::json(Some(outline)) {
        value[key] = part;
    }
    Some(value)
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

impl PoolSummary {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if !self.namespaces.is_empty() {
            lines.push(("only for pods in", self.namespaces.join(", ")));
        }
        if !self.node_labels.is_empty() {
            lines.push(("only on nodes with", self.node_labels.join(", ")));
        }
        let addresses = if self.addresses == 1 { "address" } else { "addresses" };
        let total = format!(
            "{}, {} {addresses} that can be given, {}",
            output::count(self.subnets, "subnet"),
            self.addresses,
            output::count(self.reservations, "reservation")
        );
        lines.push(("in total", total));
        lines
    }

    fn json(&self) -> Value {
        json!({
            "subnets": self.subnets,
            "addresses": output::number(self.addresses),
            "reservations": self.reservations,
            "namespaces": self.namespaces,
            "nodeLabels": self.node_labels,
        })
    }
}
