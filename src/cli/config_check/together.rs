//! What concerns several networks: notes that many of them share, and networks of one name in
//! several namespaces, which every plugin takes for one network.

use super::report::Report;
use crate::addr::{Blocks, Range};
use crate::cli::output;
use std::collections::BTreeMap;

/// The maximum number of names in a note.
const MOST: usize = 5;

/// The maximum number of reservations of a scope that are compared with other networks.
const MOST_RESERVED: usize = 100;

/// The networks that were checked.
#[derive(Default)]
pub(super) struct Together {
    /// The general notes, with the networks that they concern.
    general: BTreeMap<String, Names>,
    /// The namespaces of the objects, by the name of their network.
    namespaces: BTreeMap<String, Names>,
    /// The addresses of each scope.
    scopes: BTreeMap<String, Scope>,
}

/// The addresses of one scope, each with the network and the pods that it is for.
#[derive(Default)]
struct Scope {
    reserved: Vec<(Range, String, String)>,
    dynamic: Vec<(Range, String)>,
}

/// Names, of which only the first are kept.
#[derive(Default)]
struct Names {
    first: Vec<String>,
    count: usize,
}

impl Together {
    /// Adds a network.
    pub(super) fn add(&mut self, report: &Report) {
        let name = report.name.as_deref().unwrap_or("a network without a name");
        for remark in report.remarks.iter().filter(|remark| remark.is_general) {
            self.general.entry(remark.words.clone()).or_default().add(name.to_owned());
        }
        if let Some(scope) = &report.scope {
            let scope = self.scopes.entry(scope.clone().unwrap_or_default()).or_default();
            let reserved = report.reservations.iter();
            scope
                .reserved
                .extend(reserved.map(|(range, owner)| (*range, name.to_owned(), owner.clone())));
            scope.dynamic.extend(report.dynamic.iter().map(|range| (*range, name.to_owned())));
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
        for note in self.unbound().values() {
            text.push_str(&format!("note: {}\n", output::printable(note)));
        }
        text
    }

    /// Returns the notes that a network gives out addresses that another one reserves, by the name
    /// of the former.
    pub(super) fn unbound(&self) -> BTreeMap<String, String> {
        let mut found: BTreeMap<String, (Names, String)> = BTreeMap::new();
        for scope in self.scopes.values() {
            let dynamic: Blocks = scope.dynamic.iter().map(|(range, _)| *range).collect();
            let given = scope.reserved.iter().filter(|(range, ..)| dynamic.touches(range));
            for (range, network, owner) in given.take(MOST_RESERVED) {
                for (others, other) in &scope.dynamic {
                    if network != other && others.intersection(range).is_some() {
                        let (names, _) = found
                            .entry(other.clone())
                            .or_insert_with(|| (Names::default(), network.clone()));
                        names.add(format!("{} for {owner}", output::addresses(range)));
                    }
                }
            }
        }
        let note = |(name, (names, network)): (String, (Names, String))| {
            let note = format!(
                "network {name} gives out addresses that network {network} reserves: {}; put the reservations into both, or let their ranges not overlap",
                names.list()
            );
            (name, note)
        };
        found.into_iter().map(note).collect()
    }

    /// Returns the note that a network is one with those of other namespaces.
    pub(super) fn note_on(&self, name: &str) -> Option<String> {
        let objects = self.namespaces.get(name).filter(|objects| 1 < objects.count)?;
        Some(format!(
            "network {name} is one network for every plugin, because its name has no namespace: {}; set \"name\" in each configuration",
            objects.list()
        ))
    }
}

impl Names {
    fn add(&mut self, name: String) {
        self.count += 1;
        if self.first.len() < MOST {
            self.first.push(name);
        }
    }

    fn list(&self) -> String {
        let mut list = self.first.join(", ");
        if self.first.len() < self.count {
            list.push_str(&format!(" and {} more", self.count - self.first.len()));
        }
        list
    }
}
