//! Since when nodes are out of service or gone, as a leader saw it first.
//!
//! It is kept in annotations of the controller's own Lease, so that another leader goes on with it.
//! An entry ends only when the API server says that the taint is away, or that the Node is there. So
//! a node that came back while its taint was still there stays on record.

use crate::ipam::off_node::Moment;
use crate::store::kube::objects::ip_allocation_status::OutOfService;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An annotation with first sights.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its name.
    pub key: &'static str,
    /// How many nodes it has at most. An object may have 256 KiB of annotations, and an entry takes
    /// 200 bytes, 600 if all names are as long as they may be.
    pub most: usize,
}

/// The nodes with the taint, by the name of the Node.
pub const TAINTED: Place = Place { key: "hereabouts.dev/out-of-service", most: 256 };
/// The nodes whose Node is gone, by its name and its uid.
pub const DELETED: Place = Place { key: "hereabouts.dev/deleted-nodes", most: 64 };

/// By the words that tell the nodes apart.
pub type FirstSights = BTreeMap<String, FirstSight>;

/// The first sight of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirstSight {
    /// The uid of the Node.
    pub uid: String,
    /// When it was, by the clock of the API server.
    since: Time,
    /// The revision that the IPAllocations had.
    revision: u64,
    /// What the last renewal had left in the Lease of the node.
    pub renewed: String,
    /// Whether the node has renewed its Lease since, or shown otherwise that it is not off.
    #[serde(default)]
    pub has_renewed: bool,
}

impl FirstSight {
    /// Returns the first sight of a Node.
    #[must_use]
    pub fn new(uid: &str, moment: Moment, renewed: &str) -> Self {
        let second = i64::try_from(moment.second).unwrap_or_default();
        Self {
            uid: uid.to_owned(),
            since: Time(Timestamp::from_second(second).unwrap_or_default()),
            revision: moment.revision,
            renewed: renewed.to_owned(),
            has_renewed: false,
        }
    }

    /// Returns when it was.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let second = u64::try_from(self.since.0.as_second()).unwrap_or_default();
        Moment { second, revision: self.revision }
    }

    /// Returns the mark for a generation of a record of the node.
    #[must_use]
    pub fn mark(&self, node: &str, generation: i64) -> OutOfService {
        OutOfService {
            node: node.to_owned(),
            node_uid: self.uid.clone(),
            generation,
            since: self.since.0.to_string(),
        }
    }
}

/// What changes about one node.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is out of service, or gone.
    Begin(FirstSight),
    /// The node whose Node has this uid is not off.
    Renewed(String),
    /// The taint is away from the Node of this uid, or that Node is gone; or it is not gone.
    End(String),
}

/// Makes a change. If another leader was quicker, its first sight counts: it is the earlier one.
pub fn apply(sights: &mut FirstSights, most: usize, node: &str, change: &Change) {
    let has_room = sights.len() < most;
    let known = sights.get_mut(node);
    match change {
        Change::Begin(sight) => match known {
            Some(known) if known.uid == sight.uid => {}
            Some(known) => *known = sight.clone(),
            None if has_room => drop(sights.insert(node.to_owned(), sight.clone())),
            None => {}
        },
        Change::Renewed(uid) => {
            if let Some(known) = known.filter(|known| known.uid == *uid) {
                known.has_renewed = true;
            }
        }
        Change::End(uid) => {
            if known.is_some_and(|known| known.uid == *uid) {
                sights.remove(node);
            }
        }
    }
}

/// Reads an annotation of the Lease.
///
/// # Errors
/// Somebody has written something else there.
pub fn read(lease: Option<&Lease>, key: &str) -> Result<FirstSights, serde_json::Error> {
    let annotations = lease.and_then(|lease| lease.metadata.annotations.as_ref());
    annotations
        .and_then(|all| all.get(key))
        .map_or_else(|| Ok(FirstSights::default()), |text| serde_json::from_str(text))
}

/// Writes an annotation of the Lease.
pub fn write(lease: &mut Lease, key: &str, sights: &FirstSights) {
    let annotations = lease.metadata.annotations.get_or_insert_default();
    if sights.is_empty() {
        annotations.remove(key);
    } else {
        annotations.insert(key.to_owned(), serde_json::json!(sights).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = TAINTED.key;

    fn change(sights: &mut FirstSights, node: &str, change: &Change) {
        apply(sights, TAINTED.most, node, change);
    }

    fn sight(uid: &str, second: u64) -> FirstSight {
        FirstSight::new(uid, Moment { second, revision: 7 }, "lease 1")
    }

    #[test]
    fn the_annotation_keeps_what_was_written() {
        let mut lease = Lease::default();
        assert_eq!(read(None, KEY).unwrap(), FirstSights::default());
        assert_eq!(read(Some(&lease), KEY).unwrap(), FirstSights::default());
        let sights = FirstSights::from([("n1".to_owned(), sight("a", 1_795_970_000))]);
        write(&mut lease, KEY, &sights);
        assert_eq!(read(Some(&lease), KEY).unwrap(), sights);
        let text = &lease.metadata.annotations.as_ref().unwrap()[KEY];
        let expected = r#"{"n1":{"hasRenewed":false,"renewed":"lease 1","revision":7,"since":"2026-11-29T16:33:20Z","uid":"a"}}"#;
        assert_eq!(text, expected);
        assert_eq!(sights["n1"].moment(), Moment { second: 1_795_970_000, revision: 7 });
        let mark = serde_json::json!(sights["n1"].mark("n1", 3)).to_string();
        let expected =
            r#"{"generation":3,"node":"n1","nodeUID":"a","since":"2026-11-29T16:33:20Z"}"#;
        assert_eq!(mark, expected);
        lease.metadata.annotations.get_or_insert_default().insert(KEY.to_owned(), "{".to_owned());
        assert!(read(Some(&lease), KEY).is_err());
        write(&mut lease, KEY, &FirstSights::default());
        assert_eq!(read(Some(&lease), KEY).unwrap(), FirstSights::default());
    }

    #[test]
    fn the_first_sight_stays_until_the_taint_is_away() {
        let mut sights = FirstSights::default();
        let first = sight("a", 10);
        change(&mut sights, "n1", &Change::Begin(first.clone()));
        // Another leader, which has seen it later.
        change(&mut sights, "n1", &Change::Begin(sight("a", 20)));
        assert_eq!(sights["n1"], first);
        // What was found out about an earlier Node of the name.
        change(&mut sights, "n1", &Change::Renewed("b".to_owned()));
        change(&mut sights, "n1", &Change::End("b".to_owned()));
        assert_eq!(sights["n1"], first);
        change(&mut sights, "n1", &Change::Renewed("a".to_owned()));
        change(&mut sights, "n1", &Change::Begin(sight("a", 30)));
        assert!(sights["n1"].has_renewed);
        change(&mut sights, "n1", &Change::End("a".to_owned()));
        assert!(sights.is_empty());
        change(&mut sights, "n1", &Change::Begin(sight("a", 40)));
        change(&mut sights, "n1", &Change::Begin(sight("c", 50)));
        assert_eq!(sights["n1"], sight("c", 50));
    }

    #[test]
    fn the_number_of_nodes_is_bounded_and_fits_into_an_object() {
        let mut lease = Lease::default();
        let uid = "0".repeat(36);
        for place in [TAINTED, DELETED] {
            let mut sights = FirstSights::default();
            for number in 0..place.most + 10 {
                let name = format!("{number:0>253}/{uid}");
                let renewed = format!("{uid} 2026-11-29T14:33:20.123456Z");
                let moment = Moment { second: 1_795_970_000, revision: u64::MAX };
                let begin = Change::Begin(FirstSight::new(&uid, moment, &renewed));
                apply(&mut sights, place.most, &name, &begin);
            }
            assert_eq!(sights.len(), place.most);
            write(&mut lease, place.key, &sights);
        }
        let annotations = lease.metadata.annotations.unwrap();
        let size: usize = annotations.iter().map(|(key, text)| key.len() + text.len()).sum();
        assert!(annotations.len() == 2 && size < 256 * 1024, "{size}");
    }
}
