//! The checks after each step of a sequence: listings, holdings and room agree with the map, and at
//! the end nothing is left.

use super::claims::Asked;
use super::{CONTAINERS, PODS, RANGES, Run, key};
use hereabouts::ipam::{Allocation, NodeName, PodRef};
use hereabouts::store::{Access, Filter, Session};
use std::path::Path;

impl Run {
    /// Checks that the store of a node agrees with the map.
    pub(super) fn compare(&self, node: usize) {
        self.compare_listings(node);
        for (range, _) in RANGES.iter().enumerate() {
            let asked = Asked {
                node,
                boot: super::boot_id(self.boot),
                attachment: None,
                scope: &self.world.names().scopes[0],
                range,
            };
            let expected = self.world.room(&self.held, &asked);
            let room = self.world.store(node).has_room(asked.scope, &asked.candidates()).unwrap();
            assert!(
                expected.is_none_or(|expected| room == expected),
                "room in range {range}: {room}"
            );
        }
        let session = self.session(node, Access::Allocate);
        for container in 0..CONTAINERS {
            self.compare_holdings(node, session.as_ref(), container);
        }
        for name in PODS.iter().flatten() {
            let of = self.record(node, 0, Some(name));
            let pod: PodRef = of.pod.unwrap();
            let mut held = session
                .holdings_of_pod(&of.attachment.network, &pod, &of.attachment.ifname)
                .unwrap();
            held.retain(|held| self.stands(node, held));
            let of_pod = |held: &&Allocation| {
                held.record.pod.as_ref() == Some(&pod)
                    && held.record.attachment.node == of.attachment.node
            };
            assert_eq!(held.len(), self.held.values().filter(of_pod).count(), "of pod {name}");
        }
    }

    fn compare_listings(&self, node: usize) {
        let names = self.world.names();
        let mut filters: Vec<_> = names
            .nodes
            .iter()
            .map(|node| Filter { node: NodeName::parse(node).ok(), ..Filter::default() })
            .collect();
        let scope = &names.scopes[self.held.len() % names.scopes.len()];
        filters.push(Filter { scope: Some(scope.clone()), ..Filter::default() });
        filters.extend(self.world.is_alone().then(Filter::default));
        for filter in filters {
            let listing = self.world.store(node).list(&filter);
            let mut listed: Vec<Allocation> =
                listing.into_iter().flatten().map(Result::unwrap).collect();
            listed.sort_by_key(key);
            let expected: Vec<Allocation> =
                self.held.values().filter(|held| filter.matches(held)).cloned().collect();
            assert_eq!(listed, expected, "{filter:?}");
        }
    }

    fn compare_holdings(&self, node: usize, session: &dyn Session, container: usize) {
        let attachment = self.record(node, container, None).attachment;
        let mut found = session.holdings(&attachment).unwrap();
        let mut expected = self.held_by(&attachment);
        // Re-homing can result in two records with one number.
        for list in [&mut found.held, &mut expected] {
            list.sort_by_key(key);
        }
        assert_eq!((found.held, found.damaged.len()), (expected, 0));
    }

    /// Returns whether a record is in the map. A node may remember one that is gone.
    fn stands(&self, node: usize, known: &Allocation) -> bool {
        let stands = self.held.get(&key(known)).is_some_and(|held| held.record == known.record);
        assert!(stands || self.world.remembers(node, known), "nobody holds {known:?}");
        stands
    }
}

/// Checks that no record, index entry or temporary file is left when nothing is held.
pub(crate) fn check_nothing_left(directory: &Path) {
    fn walk(directory: &Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found)
            } else {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned())
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, &mut found);
    found.retain(|name| {
        !["format", "lock", "@machine-id", "full", "looking", "exhausted"].contains(&&**name)
    });
    assert!(found.is_empty(), "left over: {found:?}");
}
