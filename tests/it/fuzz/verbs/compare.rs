//! What is looked at after each step of a sequence: listings, holdings and
//! room are the map's; and at its end nothing is left.

use super::{NODES, PODS, RANGES, Run, candidates};
use crate::conformance::open;
use hereabouts::ipam::{Allocation, NodeName, PodRef, Scope};
use hereabouts::store::Filter;
use std::path::Path;

impl Run {
    /// The store says what the map says.
    pub(super) fn compare(&self) {
        let all: Vec<Allocation> = self.model.values().cloned().collect();
        let list = |filter: &Filter| -> Vec<Allocation> {
            let mut listed: Vec<Allocation> =
                self.store(0).list(filter).map(|listing| listing.map(Result::unwrap).collect()).unwrap_or_default();
            listed.sort_by(|one, other| (&one.scope, one.address).cmp(&(&other.scope, other.address)));
            listed
        };
        assert_eq!(list(&Filter::default()), all);
        for node in NODES {
            let filter = Filter { node: NodeName::parse(node).ok(), ..Filter::default() };
            assert_eq!(list(&filter), all.iter().filter(|held| filter.matches(held)).cloned().collect::<Vec<_>>(), "of {node}");
        }
        for (n, _) in RANGES.iter().enumerate() {
            let room = self.store(0).has_room(&Scope::default(), &candidates(n)).unwrap();
            assert_eq!(room, self.free(&Scope::default(), &candidates(n)).is_some(), "room in range {n}");
        }
        let session = open(self.store(0));
        for container in 0..8 {
            let attachment = self.draft(0, container, None).attachment;
            let mut held = session.holdings(&attachment).unwrap();
            let mut expected = self.held_by(&attachment);
            // Re-homing can bring two with one number.
            for list in [&mut held.held, &mut expected] {
                list.sort_by(|one, other| (&one.scope, one.address).cmp(&(&other.scope, other.address)));
            }
            assert_eq!((held.held, held.damaged.len()), (expected, 0));
        }
        for name in PODS.iter().flatten() {
            let of = self.draft(0, 0, Some(name));
            let pod: PodRef = of.pod.unwrap();
            let held = session.holdings_of_pod(&of.attachment.network, &pod, &of.attachment.ifname).unwrap();
            let of_pod = |held: &&Allocation| held.held.pod.as_ref() == Some(&pod) && held.held.attachment.node.as_str() == NODES[0];
            assert_eq!(held.len(), self.model.values().filter(of_pod).count(), "of pod {name}");
        }
    }
}

/// When nothing is held no record, index entry or temporary file is left.
pub(crate) fn check_nothing_left(directory: &Path) {
    fn walk(directory: &Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path.file_name().unwrap().to_string_lossy().into_owned()) }
        }
    }
    let mut found = Vec::new();
    walk(directory, &mut found);
    found.retain(|name| !["format", "lock", "@machine-id", "full", "looking", "exhausted"].contains(&&**name));
    assert!(found.is_empty(), "left over: {found:?}");
}
