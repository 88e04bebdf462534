//! Since when nodes are out of service, as a leader saw it first.
//!
//! It is kept in an annotation of the controller's own Lease, so that another leader goes on with
//! it. An entry ends only when the API server says that the taint is away. So a node that came back
//! while its taint was still there stays on record.

use crate::ipam::off_node::Moment;
use crate::store::kube::objects::ip_allocation_status::OutOfService;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The annotation.
pub const KEY: &str = "hereabouts.dev/out-of-service";
/// How many nodes it has at most. An object may have 256 KiB of annotations, and an entry takes
/// 200 bytes, 500 if all names are as long as they may be.
pub const MOST: usize = 256;

/// By the name of the Node.
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
    /// Whether the node has renewed its Lease since: then it is not off.
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
    /// It is out of service.
    Begin(FirstSight),
    /// The Node of this uid has renewed its Lease.
    Renewed(String),
    /// The taint is away from the Node of this uid, or that Node is gone.
    End(String),
}

/// Makes a change. If another leader was quicker, its first sight counts: it is the earlier one.
pub fn apply(sights: &mut FirstSights, node: &str, change: &Change) {
    let has_room = sights.len() < MOST;
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

/// Reads the annotation of the Lease.
///
/// # Errors
/// Somebody has written something else there.
pub fn read(lease: Option<&Lease>) -> Result<FirstSights, serde_json::Error> {
    let annotations = lease.and_then(|lease| lease.metadata.annotations.as_ref());
    annotations
        .and_then(|all| all.get(KEY))
        .map_or_else(|| Ok(FirstSights::default()), |text| serde_json::from_str(text))
}

/// Writes the annotation of the Lease.
pub fn write(lease: &mut Lease, sights: &FirstSights) {
    let annotations = lease.metadata.annotations.get_or_insert_default();
    if sights.is_empty() {
        annotations.remove(KEY);
    } else {
        annotations.insert(KEY.to_owned(), serde_json::json!(sights).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(uid: &str, second: u64) -> FirstSight {
        FirstSight::new(uid, Moment { second, revision: 7 }, "lease 1")
    }

    #[test]
    fn the_annotation_keeps_what_was_written() {
        let mut lease = Lease::default();
        assert_eq!(read(None).unwrap(), FirstSights::default());
        assert_eq!(read(Some(&lease)).unwrap(), FirstSights::default());
        let sights = FirstSights::from([("n1".to_owned(), sight("a", 1_795_970_000))]);
        write(&mut lease, &sights);
        assert_eq!(read(Some(&lease)).unwrap(), sights);
        let text = &lease.metadata.annotations.as_ref().unwrap()[KEY];
        let expected = r#"{"n1":{"hasRenewed":false,"renewed":"lease 1","revision":7,"since":"2026-11-29T16:33:20Z","uid":"a"}}"#;
        assert_eq!(text, expected);
        assert_eq!(sights["n1"].moment(), Moment { second: 1_795_970_000, revision: 7 });
        let mark = serde_json::json!(sights["n1"].mark("n1", 3)).to_string();
        let expected =
            r#"{"generation":3,"node":"n1","nodeUID":"a","since":"2026-11-29T16:33:20Z"}"#;
        assert_eq!(mark, expected);
        lease.metadata.annotations.get_or_insert_default().insert(KEY.to_owned(), "{".to_owned());
        assert!(read(Some(&lease)).is_err());
        write(&mut lease, &FirstSights::default());
        assert_eq!(read(Some(&lease)).unwrap(), FirstSights::default());
    }

    #[test]
    fn the_first_sight_stays_until_the_taint_is_away() {
        let mut sights = FirstSights::default();
        let first = sight("a", 10);
        apply(&mut sights, "n1", &Change::Begin(first.clone()));
        // Another leader, which has seen it later.
        apply(&mut sights, "n1", &Change::Begin(sight("a", 20)));
        assert_eq!(sights["n1"], first);
        // What was found out about an earlier Node of the name.
        apply(&mut sights, "n1", &Change::Renewed("b".to_owned()));
        apply(&mut sights, "n1", &Change::End("b".to_owned()));
        assert_eq!(sights["n1"], first);
        apply(&mut sights, "n1", &Change::Renewed("a".to_owned()));
        apply(&mut sights, "n1", &Change::Begin(sight("a", 30)));
        assert!(sights["n1"].has_renewed);
        apply(&mut sights, "n1", &Change::End("a".to_owned()));
        assert!(sights.is_empty());
        apply(&mut sights, "n1", &Change::Begin(sight("a", 40)));
        apply(&mut sights, "n1", &Change::Begin(sight("c", 50)));
        assert_eq!(sights["n1"], sight("c", 50));
    }

    #[test]
    fn the_number_of_nodes_is_bounded_and_fits_into_an_object() {
        let mut sights = FirstSights::default();
        let uid = "0".repeat(36);
        for number in 0..MOST + 10 {
            let name = format!("{number:0>253}");
            let renewed = format!("{uid} 2026-11-29T14:33:20.123456Z");
            let moment = Moment { second: 1_795_970_000, revision: u64::MAX };
            apply(&mut sights, &name, &Change::Begin(FirstSight::new(&uid, moment, &renewed)));
        }
        assert_eq!(sights.len(), MOST);
        let mut lease = Lease::default();
        write(&mut lease, &sights);
        assert!(lease.metadata.annotations.unwrap()[KEY].len() < 200 * 1024);
    }
}
