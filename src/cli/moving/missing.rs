//! What is missing for the next step of a move.

use super::pools;
use super::view::{HeldRecord, View};
use crate::addr::parse_address;
use crate::cli::import::report::Outcome;
use crate::cli::import::whereabouts::{Survey, SurveyedNetwork};
use crate::cli::output;
use crate::store::kube::objects::move_object::{Executable, MoveObject};
use crate::whereabouts::names::is_pool_of;
use anyhow::bail;
use serde_json::{Value, json};

/// Something that is missing, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) what: String,
    pub(super) hint: String,
}

impl Missing {
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    pub(super) fn document(&self) -> Value {
        json!({"what": self.what, "hint": self.hint})
    }
}

/// Prints what is missing.
///
/// # Errors
/// Something is missing.
pub(super) fn refuse(missing: &[Missing], step: &str) -> anyhow::Result<()> {
    for one in missing {
        output::say(&format!("missing: {}", output::printable(&one.what)));
        output::say(&format!("  to do: {}", output::printable(&one.hint)));
    }
    match missing.len() {
        0 => Ok(()),
        count => bail!(
            "{step} is not possible yet: {} missing",
            output::count(count, "thing") + if count == 1 { " is" } else { " are" }
        ),
    }
}

/// Returns what is missing for `start`.
pub(super) fn to_start(view: &View, survey: &Survey) -> Vec<Missing> {
    let mut missing = cleaners(view);
    let networks = survey.networks();
    for network in &networks {
        missing.extend(of_network(network));
    }
    missing.extend(overlaps(&networks));
    missing.extend(without_address(survey));
    missing.extend(unshowable(view, survey, &networks));
    missing
}

/// Returns addresses that are held and that Whereabouts cannot see: those of claims, and those that a
/// pool cannot note.
fn unshowable(view: &View, survey: &Survey, networks: &[SurveyedNetwork]) -> Vec<Missing> {
    let mut missing = Vec::new();
    for HeldRecord { scope, address, claim } in view.records.values() {
        let Ok(address) = parse_address(address) else { continue };
        if let Some(claim) =
            claim.as_ref().filter(|_| pools::have(survey, networks, scope, address))
        {
            missing.push(Missing::new(
                format!(
                    "{address} is held by {claim}: Whereabouts cannot see it, and would give it to a pod"
                ),
                "delete the claim, or take the address out of the range of Whereabouts",
            ));
            continue;
        }
        for pool in survey.pools().filter(|pool| is_pool_of(pool.name, scope, pool.text)) {
            let key =
                pool.range.filter(|range| range.contains(address)).map(|range| range.key(address));
            if let Some(Err(why)) = key {
                missing.push(Missing::new(
                    format!(
                        "{address} is held, and the IPPool {}/{} cannot note it: {why}",
                        pool.namespace, pool.name
                    ),
                    "delete its pod, and give the network a range_end near the begin of the range",
                ));
            }
        }
    }
    missing
}

pub(super) fn cleaners(view: &View) -> Vec<Missing> {
    let cleaners = view.cleaners.iter();
    let missing = |(what, hint): &(String, String)| {
        Missing::new(
            format!("{what} removes addresses that Whereabouts does not know to be in use"),
            hint.clone(),
        )
    };
    cleaners.map(missing).collect()
}

fn of_network(network: &SurveyedNetwork) -> Option<Missing> {
    let name = &network.name;
    if let Some(mistake) = &network.mistake {
        return Some(Missing::new(
            format!("the network {name} cannot be read: {mistake}"),
            "correct it, or remove it: hereabouts config check shows its mistakes",
        ));
    }
    network.has_slices.then(|| {
        Missing::new(
            format!("the network {name} has node_slice_size, which no move supports"),
            "move it with \"From Whereabouts: all nodes at once\", or remove node_slice_size while no pod uses the network",
        )
    })
}

/// Returns networks whose ranges overlap, and whose addresses need not be unique in both.
fn overlaps(networks: &[SurveyedNetwork]) -> Vec<Missing> {
    let mut missing = Vec::new();
    for (at, one) in networks.iter().enumerate() {
        for other in networks.iter().skip(at.saturating_add(1)) {
            if one.scope != other.scope || !(one.may_repeat || other.may_repeat) {
                continue;
            }
            let overlap = one.subnets.iter().find_map(|subnet| {
                let with = other.subnets.iter().find(|other| {
                    *other != subnet && subnet.whole().intersection(&other.whole()).is_some()
                })?;
                Some((subnet, with))
            });
            if let Some((subnet, with)) = overlap {
                missing.push(Missing::new(
                    format!(
                        "the ranges {subnet} of {} and {with} of {} overlap, and enable_overlapping_ranges is false: an address may have two holders there",
                        one.name, other.name
                    ),
                    "if the networks are on different wires, give each its own network_name while no pod uses it; otherwise remove enable_overlapping_ranges",
                ));
            }
        }
    }
    missing
}

/// Returns entries that stand for no address that Whereabouts and hereabouts both read.
fn without_address(survey: &Survey) -> Vec<Missing> {
    let rows = survey.rows().filter(|row| row.address.starts_with("key "));
    let missing = rows.filter_map(|row| match &row.outcome {
        Outcome::Left { reason, hint } => {
            Some(Missing::new(format!("{}: {reason}", row.source), hint.clone()))
        }
        _ => None,
    });
    missing.collect()
}

/// Returns what is missing before Whereabouts loses its rights: each node is one of hereabouts.
pub(super) fn to_close(view: &View, object: &MoveObject) -> Vec<Missing> {
    let mut missing = Vec::new();
    for (name, node) in &view.nodes {
        missing.extend(match &node.answer {
            None => Some(Missing::new(
                format!("node {name} has not answered"),
                "run the DaemonSet of hereabouts on it; if the machine is off for good, delete the Node and run \"hereabouts release --node NODE --kubeconfig FILE\"",
            )),
            Some(answer) if answer.executable == Executable::Other => Some(Missing::new(
                format!("node {name} still has the executable of Whereabouts"),
                "run the DaemonSet of hereabouts on it, installed with --whereabouts",
            )),
            Some(answer) if answer.generation < object.spec.generation => Some(Missing::new(
                format!(
                    "node {name} has answered generation {}, and not {}",
                    answer.generation, object.spec.generation
                ),
                "it answers within a minute; if not, look at the log of its pod of hereabouts; if the machine is off for good, delete the Node and run \"hereabouts release --node NODE --kubeconfig FILE\"",
            )),
            Some(_) => None,
        });
    }
    missing
}

/// Returns what is missing before nodes write nothing for Whereabouts any more.
pub(super) fn to_finish(view: &View, survey: &Survey, object: &MoveObject) -> Vec<Missing> {
    let mut missing = to_close(view, object);
    for (name, node) in &view.nodes {
        if 0 < node.not_completed {
            missing.push(Missing::new(
                format!(
                    "{} on node {name} {} imported and not completed",
                    output::count(node.not_completed, "record"),
                    if node.not_completed == 1 { "is" } else { "are" }
                ),
                "its DaemonSet completes them; \"hereabouts import whereabouts --kubeconfig FILE\" ends those of pods that have ended",
            ));
        }
    }
    missing.extend(survey.rows().filter_map(|row| match &row.outcome {
        Outcome::Left { reason, hint } => {
            Some(Missing::new(format!("{} is left: {reason}", row.address), hint.clone()))
        }
        _ => None,
    }));
    missing.extend(strays(view, survey));
    missing
}

/// Returns what Whereabouts has given since the last import. One line: on the way back, these are all
/// addresses of the nodes that Whereabouts has again.
pub(super) fn not_recorded(survey: &Survey) -> Option<Missing> {
    match survey.rows().filter(|row| row.outcome == Outcome::New).count() {
        0 => None,
        count => Some(Missing::new(
            format!(
                "{} of Whereabouts {} not recorded",
                output::count(count, "address"),
                if count == 1 { "is" } else { "are" }
            ),
            "\"hereabouts move finish\" imports what is not recorded",
        )),
    }
}

/// Returns entries of nodes of hereabouts without a record.
pub(super) fn strays(view: &View, survey: &Survey) -> Vec<Missing> {
    let strays = survey.ours().filter(|entry| !view.records.contains_key(entry.uid));
    strays
        .map(|entry| {
            Missing::new(
                format!(
                    "{}: a node of hereabouts wrote it for pod {}, and has no record",
                    entry.place, entry.pod
                ),
                "\"hereabouts export whereabouts\" removes it",
            )
        })
        .collect()
}
