//! Shows the debts of this node for `list` and `verify`, and settles them for `sweep`.

use super::locate::Located;
use super::{Format, output, records};
use crate::ipam::{Attachment, NodeName, Record};
use crate::plugin::debts::{Debt, Found, Place, Settlement, Settler, Wrong};
use crate::retry::Deadline;
use crate::store::{Filter, Store};
use anyhow::Context;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The age after which a debt is reported as a problem.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);
const HEADINGS: &[&str] =
    &["DEBT SINCE", "NETWORK", "INTERFACE", "CONTAINER", "HOLDS", "STORE", "REASON"];

/// Returns the files in this node's directory of debts, without the debts of other nodes.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn found(located: &Located<'_>) -> anyhow::Result<Vec<Found>> {
    let Some(node) = &located.node else { return Ok(Vec::new()) };
    let all = located.debts().list().context("cannot read the debts of this node")?;
    let is_own =
        |found: &Found| found.debt.as_ref().map_or(true, |debt| debt.attachment.node == *node);
    Ok(all.into_iter().filter(is_own).collect())
}

/// Returns the same as an addition to the contents of a store. A failure is printed as a warning,
/// and the list is empty.
pub(super) fn beside(located: &Located<'_>) -> Vec<Found> {
    found(located).unwrap_or_else(|error| {
        output::say(&format!("warning: {error:#}"));
        Vec::new()
    })
}

/// Returns the debts that match a filter, limited to one store if `only` is given.
pub(super) fn matching(found: Vec<Found>, filter: &Filter, only: Option<&Place>) -> Vec<Debt> {
    let is_meant = |debt: &Debt| {
        let Attachment { node, network, .. } = &debt.attachment;
        filter.pod.is_none()
            && filter.claim.is_none()
            && filter.node.as_ref().is_none_or(|asked| asked == node)
            && filter.network.as_ref().is_none_or(|asked| asked == network)
    };
    let is_there = |debt: &Debt| only.is_none_or(|only| only.is(&debt.store));
    found
        .into_iter()
        .filter_map(|found| found.debt.ok())
        .filter(|debt| is_meant(debt) && is_there(debt))
        .collect()
}

/// Prints the debts for `list --debts`.
pub(super) fn print(debts: &[Debt], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::print_json(&Value::Array(debts.iter().map(document).collect())),
        Format::Table if debts.is_empty() => {
            output::say("this node has no debts");
            Ok(())
        }
        Format::Table => {
            output::print(&output::table(HEADINGS, &debts.iter().map(row).collect::<Vec<_>>()))
        }
    }
}

/// Returns a debt as JSON. The keys are documented and stable.
pub(super) fn document(debt: &Debt) -> Value {
    let Attachment { node, network, container, ifname } = &debt.attachment;
    json!({
        "node": node.as_str(),
        "network": network.as_str(),
        "containerID": container.as_str(),
        "interface": ifname.as_str(),
        "store": debt.store.to_string(),
        "addresses": debt.addresses(),
        "since": humantime::format_rfc3339_seconds(debt.since.time).to_string(),
        "answered": debt.answered.as_str(),
        "reason": debt.reason,
    })
}

fn row(debt: &Debt) -> Vec<String> {
    let Attachment { network, container, ifname, .. } = &debt.attachment;
    vec![
        humantime::format_rfc3339_seconds(debt.since.time).to_string(),
        network.to_string(),
        output::printable(ifname.as_str()),
        records::shortened(container.as_str()),
        debt.addresses().map_or_else(|| "?".to_owned(), |held| held.join(",")),
        output::printable(&debt.store.to_string()),
        output::printable(&debt.reason),
    ]
}

/// A problem with a debt or with another file in the directory.
pub(super) struct DebtFinding {
    pub(super) problem: &'static str,
    pub(super) meaning: &'static str,
    pub(super) path: PathBuf,
    pub(super) reason: String,
}

/// Returns the debts that should have been settled, and the files that are not debts that can be
/// settled.
pub(super) fn findings(found: &[Found], located: &Located<'_>) -> Vec<DebtFinding> {
    let mut findings: Vec<DebtFinding> =
        found.iter().filter_map(|found| finding(found, located)).collect();
    findings.sort_by_key(|finding| finding.problem);
    findings
}

fn finding(found: &Found, located: &Located<'_>) -> Option<DebtFinding> {
    let (problem, meaning, reason) = match &found.debt {
        Ok(debt) if debt.age(&located.machine) <= OLD => return None,
        Ok(debt) => (
            "old-debt",
            "a DEL failed more than a day ago, and this node could not complete it: the sandbox may exist, or the store is unavailable; \
             end the sandbox, make the store available, or run \"hereabouts release\"",
            format!("{}: {}", debt.attachment, debt.reason),
        ),
        Err(Wrong::Newer(number)) => (
            "newer-debt",
            "written by a newer version; install that version again, and it settles the debt",
            format!("format {number}"),
        ),
        Err(Wrong::Damaged(reason)) => (
            "damaged-debt",
            "a debt is unreadable; remove the file, then \"sweep\" releases what the sandbox held",
            reason.clone(),
        ),
        Err(Wrong::Foreign) => {
            ("foreign-file", "not a file of hereabouts; remove it by hand", String::new())
        }
    };
    Some(DebtFinding { problem, meaning, path: found.path.clone(), reason })
}

/// Returns a number of debts with what they are, for readers who do not know the word.
pub(super) fn count(debts: usize) -> String {
    let of = if debts == 1 { "of a failed DEL" } else { "of failed DELs" };
    format!("{} {of}", output::count(debts, "debt"))
}

/// Settles the debts that can be settled, in the given store or in every store.
///
/// # Errors
/// A debt could not be settled because its store failed.
pub(super) fn settle_all(
    located: &Located<'_>,
    node: &NodeName,
    only: Option<Place>,
) -> anyhow::Result<()> {
    let open = |settings: &crate::config::Settings| located.open_as(settings, node);
    let is_dead = |held: &Record| located.life(held).is_dead();
    let freed = located.freed(node);
    let debts = located.debts();
    let mut failed = 0;
    let mut printed = Ok(());
    debts.settle_all(
        &Settler { node, only, open: &open, is_dead: &is_dead, freed: Some(&freed) },
        &mut |debt, settled| match settled {
            Settlement::Done => {
                let Attachment { container, ifname, network, .. } = &debt.attachment;
                let text = format!(
                    "settled the debt of container {container}, interface {}, network {network}\n",
                    output::printable(ifname.as_str())
                );
                printed =
                    std::mem::replace(&mut printed, Ok(())).and_then(|()| output::print(&text));
            }
            Settlement::NotYet => {}
            Settlement::Failed(reason) => {
                failed += 1;
                output::say(&format!(
                    "warning: cannot settle the debt of {}: {reason}",
                    debt.attachment
                ));
            }
        },
    )?;
    debts.tidy();
    printed?;
    if 0 < failed {
        anyhow::bail!("{} could not be settled", output::count(failed, "debt"));
    }
    Ok(())
}

/// Settles the debts of attachments whose records were released by hand.
pub(super) fn settle_released(
    located: &Located<'_>,
    store: &dyn Store,
    attachments: impl Iterator<Item = Attachment>,
) {
    let is_dead = |held: &Record| located.life(held).is_dead();
    let debts = located.debts();
    for attachment in attachments {
        debts.settle_of(
            &attachment,
            located.store_settings(),
            store,
            &is_dead,
            Deadline::after(records::PATIENCE),
        );
    }
}
