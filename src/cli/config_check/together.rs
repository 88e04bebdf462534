//! What concerns several networks and pools: notes that many of them share, networks of one name in
//! several namespaces, which every plugin takes for one network, and addresses that several have.

use super::overlaps::Overlaps;
use super::party::{Names, Note, Party};
use super::report::Report;
use super::reserved::Reserved;
#[cfg(feature = "kube")]
use crate::addr::Blocks;
use crate::cli::output;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The networks and pools that were checked.
#[derive(Default)]
pub(super) struct Together {
    /// The general notes, with the networks that they concern.
    general: BTreeMap<String, Names>,
    /// The namespaces of the objects, by the name of their network.
    namespaces: BTreeMap<String, Names>,
    reserved: Reserved,
    overlaps: Overlaps,
    /// The names of the pools that have a report of their own.
    pools: BTreeSet<String>,
}

impl Together {
    /// Adds a network or a pool.
    pub(super) fn add(&mut self, report: &Report) {
        let name = report.name.as_deref().unwrap_or("a network without a name");
        for remark in report.remarks.iter().filter(|remark| remark.is_general) {
            self.general.entry(remark.words.clone()).or_default().add(name.to_owned());
        }
        for outline in &report.outlines {
            let pool = match report.is_pool() {
                true => report.name.as_deref(),
                false => outline.pool.as_ref().map(|pool| pool.name.as_str()),
            };
            let network = Some(name).filter(|_| !report.is_pool());
            self.reserved.add(network, pool, outline);
            self.overlaps.add(network, pool, outline);
        }
        if report.is_pool() {
            self.pools.extend(report.name.clone());
            return;
        }
        if report.not_ours.is_none()
            && !report.is_named
            && let (Some(name), Some(object)) = (&report.name, report.object())
        {
            let held = self.namespaces.entry(name.clone()).or_default();
            if !held.first.contains(&object) {
                held.add(object);
            }
        }
    }

    /// Returns whether there are pools to compare with others.
    #[cfg(feature = "kube")]
    pub(super) fn has_pools(&self) -> bool {
        self.overlaps.has_pools()
    }

    /// Adds the podCIDRs of nodes, by the name of the node.
    #[cfg(feature = "kube")]
    pub(super) fn add_nodes(&mut self, nodes: Vec<(String, Blocks)>) {
        self.overlaps.nodes = nodes;
    }

    /// Returns the notes for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (words, names) in &self.general {
            text.push_str(&format!("note on {}: {words}\n", output::printable(&names.list())));
        }
        for name in self.namespaces.keys() {
            if let Some(note) = self.note_on(name) {
                text.push_str(&format!("note: {}\n", output::printable(&note)));
            }
        }
        for note in self.between() {
            text.push_str(&format!("note: {}\n", output::printable(&note.words)));
        }
        text
    }

    /// Returns the notes about addresses of several networks and pools.
    fn between(&self) -> Vec<Note> {
        self.reserved.notes().into_iter().chain(self.overlaps.notes()).collect()
    }

    /// Adds the notes to the reports for programs. A note about a pool that has no report of its own
    /// is added to the networks that name it.
    pub(super) fn complete(&self, reports: &mut [Value]) {
        let between = self.between();
        for report in reports {
            let Some(name) = report["name"].as_str() else { continue };
            let mut parties = Vec::new();
            let mut notes: Vec<String> = Vec::new();
            if report["kind"] == "IPPool" {
                parties.push(Party::Pool(name.to_owned()));
            } else {
                parties.push(Party::Network(name.to_owned()));
                let pools = report["pools"].as_array().into_iter().flatten();
                let pools = pools.filter_map(|pool| pool["name"].as_str());
                let without_report = pools.filter(|pool| !self.pools.contains(*pool));
                parties.extend(without_report.map(|pool| Party::Pool(pool.to_owned())));
                notes.extend(self.note_on(name).filter(|_| report["nameIsOwn"] == false));
            }
            let is_concerned = |note: &&Note| note.about.iter().any(|one| parties.contains(one));
            notes.extend(between.iter().filter(is_concerned).map(|note| note.words.clone()));
            if let Some(all) = report["notes"].as_array_mut() {
                all.extend(notes.into_iter().map(Value::from));
            }
        }
    }

    /// Returns the note that a network is one with those of other namespaces.
    fn note_on(&self, name: &str) -> Option<String> {
        let objects = self.namespaces.get(name).filter(|objects| 1 < objects.count)?;
        Some(format!(
            "network {name} is one network for every plugin, because its name has no namespace: {}; set \"name\" in each configuration",
            objects.list()
        ))
    }
}
