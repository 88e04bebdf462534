//! Records of pods that Whereabouts has seen end. While the node of an imported record may still be one
//! of Whereabouts, no DEL of hereabouts comes for its pod: Whereabouts removes its own entry, and
//! may give the address again.

use super::super::super::report::{Outcome, Row};
use super::super::facts::{Facts, NetworkStatus, Pod, Recorded};
use super::super::found::{Decision, Task};
use super::super::index::Index;
use crate::ipam::Scope;
use std::collections::HashSet;
use std::net::IpAddr;
use std::rc::Rc;

/// Returns a row for each imported record that its node has not completed, whose address nothing
/// of Whereabouts and no living pod names any more.
pub(super) fn ended(facts: &Facts, index: &Index<'_>) -> Vec<Decision> {
    // Entries in pools whose scope is unknown, and entries that came after the first reading.
    let mut noted: HashSet<IpAddr> =
        facts.entries.iter().filter_map(|entry| entry.address.ok()).collect();
    noted.extend(facts.noted_again.iter().flatten());
    let mut found: Vec<(&Rc<str>, IpAddr, &Recorded)> = facts
        .recorded
        .iter()
        .flat_map(|(scope, all)| all.iter().map(move |(address, one)| (scope, *address, one)))
        .filter(|(scope, address, _)| !index.claims.contains_key(&(Rc::clone(scope), *address)))
        .filter(|(_, address, _)| !noted.contains(address))
        .filter(|(_, address, record)| has_lost(facts, record, *address))
        .collect();
    found.sort_by_key(|(scope, address, _)| (Rc::clone(scope), *address));
    found
        .into_iter()
        .filter_map(|(scope, address, record)| decision(scope, address, record))
        .collect()
}

/// Returns whether the pod of a record does not have the address any more, as far as the API server
/// says. A pod of which Multus has written nothing yet may get it.
fn has_lost(facts: &Facts, record: &Recorded, address: IpAddr) -> bool {
    let pod = record.pod.as_deref().and_then(|pod| facts.living(pod));
    pod.is_none_or(|pod| {
        matches!(pod.status, NetworkStatus::Read(_))
            && Pod::interfaces(pod).iter().all(|one| !one.addresses.contains(&address))
    })
}

fn decision(scope: &str, address: IpAddr, record: &Recorded) -> Option<Decision> {
    let version = record.incomplete.clone()?;
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let row = Row {
        address: address.to_string(),
        scope: scope.to_owned(),
        network: None,
        pod: record.pod.as_deref().map(str::to_owned),
        container: text(&record.container),
        interface: text(&record.interface),
        node: text(&record.node),
        source: "IPAllocation".to_owned(),
        outcome: Outcome::Freed("its pod has ended, and Whereabouts has freed it".to_owned()),
        notes: Vec::new(),
        record: None,
    };
    Some(Decision { row, task: Some(Task::Free(Scope::parse(scope).ok()?, address, version)) })
}
