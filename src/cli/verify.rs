//! `verify`: checks the store for problems.

use super::{Format, StoreArgs, VerifyArgs, census, debts, locate, output, published, records};
use crate::environment::Environment;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::census::Census;
use crate::store::slices::{Compared, Slices};
use crate::store::upkeep::{Extent, Finding, Upkeep, Verified};
use anyhow::bail;
use serde_json::json;
use std::fmt::Write;

pub(super) fn verify(
    environment: &Environment,
    store: &StoreArgs,
    args: &VerifyArgs,
) -> anyhow::Result<()> {
    let located = locate::locate(environment, store)?;
    let store =
        located.node.as_ref().map_or_else(|| located.store(), |node| located.store_of(node))?;
    let verified = match store.verify(
        Extent::Whole,
        &|held| located.life(held),
        Deadline::after(records::PATIENCE),
    ) {
        Err(error @ StoreError::Absent { .. }) => {
            let (findings, census) = (Vec::new(), Census::default());
            Verified {
                format: None,
                records: 0,
                entries: 0,
                findings,
                unseen: Some(output::with_hint(&error)),
                census,
            }
        }
        verified => verified?,
    };
    let Verified { format, records, entries, findings, unseen, census } = &verified;
    let now = located.machine.now;
    if let Some(unseen) = unseen {
        output::say(unseen);
    }
    let compared = compare(store.as_ref());
    let found = debts::beside(&located);
    let wrong = debts::findings(&found, &located);
    let here = located.place();
    let owed = found
        .iter()
        .filter_map(|found| found.debt.as_ref().ok())
        .filter(|debt| debt.store.is(&here));
    let owed: Vec<_> = owed.map(debts::document).collect();
    if args.output == Format::Json {
        let findings: Vec<_> = findings
            .iter()
            .map(document)
            .chain(wrong.iter().map(|finding| of_debt(finding, &located)))
            .collect();
        let (doubted, nodes) = census::document(census, now);
        output::print_json(&json!({
            "store": located.name, "format": format, "records": records, "indexEntries": entries, "findings": findings, "debts": owed,
            "doubted": doubted, "moreDoubted": census.more_doubted, "nodes": nodes, "claims": census.claims,
            "keptScopes": census::kept_scopes(census), "published": published::compared(&compared, now),
        }))?;
    } else {
        output::print(&describe(findings))?;
        output::print(&describe_debts(&wrong))?;
        if !owed.is_empty() {
            output::print(&format!(
                "{}: \"hereabouts list --debts\" shows details\n",
                debts::count(owed.len())
            ))?;
        }
        output::print(&published::describe(&compared, now))?;
        output::print(&census::describe(census, now))?;
        let format = format.map_or_else(String::new, |number| format!(", format {number}"));
        let is_well = findings.is_empty() && wrong.is_empty() && unseen.is_none();
        let verdict = if is_well { "no problems: " } else { "" };
        output::print(&format!(
            "{verdict}read {} and {}{format}\n",
            output::count(*records, "record"),
            output::count(*entries, "index entry")
        ))?;
    }
    match findings.len() + wrong.len() {
        0 => Ok(()),
        found => bail!("{} found", output::count(found, "problem")),
    }
}

/// Compares what this node has published about its slices with its files. A failure is only printed:
/// what is published decides nothing.
fn compare(store: &dyn Upkeep) -> Vec<Compared> {
    let compare = |slices: &dyn Slices| {
        slices.compare(&Deadline::after(records::PATIENCE)).map_err(|error| {
            output::warn(&error);
        })
    };
    store.slices().and_then(|slices| compare(slices).ok()).unwrap_or_default()
}

fn document(finding: &Finding) -> serde_json::Value {
    json!({
        "problem": finding.problem,
        "path": finding.path,
        "other": finding.other,
        "reason": Some(&finding.reason).filter(|reason| !reason.is_empty()),
        "node": finding.node,
        "repairable": finding.is_repairable,
    })
}

fn of_debt(finding: &debts::DebtFinding, located: &locate::Located<'_>) -> serde_json::Value {
    json!({
        "problem": finding.problem,
        "path": finding.path,
        "other": null,
        "reason": Some(&finding.reason).filter(|reason| !reason.is_empty()),
        "node": located.node.as_ref().map(ToString::to_string),
        "repairable": false,
    })
}

fn describe_debts(findings: &[debts::DebtFinding]) -> String {
    let mut text = String::new();
    for group in findings.chunk_by(|a, b| a.problem == b.problem) {
        let _ = writeln!(text, "{} x {}: {}", group.len(), group[0].problem, group[0].meaning);
        for finding in group {
            let reason = if finding.reason.is_empty() {
                String::new()
            } else {
                format!(": {}", output::printable(&finding.reason))
            };
            let _ =
                writeln!(text, "  {}{reason}", output::printable(&finding.path.to_string_lossy()));
        }
    }
    text
}

/// Returns the sorted findings as text, grouped under their meaning.
pub(super) fn describe(findings: &[Finding]) -> String {
    let mut text = String::new();
    for group in findings.chunk_by(|a, b| a.problem == b.problem) {
        // A write to a String cannot fail.
        let _ = writeln!(text, "{} x {}: {}", group.len(), group[0].problem, group[0].meaning);
        for finding in group {
            let path = |path: &std::path::Path| output::printable(&path.to_string_lossy());
            let other = finding
                .other
                .as_deref()
                .map_or_else(String::new, |other| format!(" ({})", path(other)));
            let reason = if finding.reason.is_empty() {
                String::new()
            } else {
                format!(": {}", output::printable(&finding.reason))
            };
            let _ = writeln!(text, "  {}{other}{reason}", path(&finding.path));
        }
    }
    text
}
