//! Records of this node that were imported from elsewhere, and whose containers no runtime of the node
//! knows. Their pods ended under Whereabouts before the node had hereabouts, so no DEL of hereabouts
//! came for them.

use super::cached;
use super::report::{Outcome, Row};
use crate::cli::output;
use crate::cli::records::PATIENCE;
use crate::ipam::Allocation;
use crate::retry::Deadline;
use crate::store::kube::KubeStore;
use crate::store::{Access, Release, Store, StoreError};
use std::collections::HashSet;
use std::path::PathBuf;

/// What is freed.
const REASON: &str = "its pod has ended under Whereabouts, which has freed the address";

/// Frees the records of pods that have ended: no runtime knows the container, and Whereabouts has
/// nothing of it either, while it keeps that of every pod that runs. A dry run only finds them. Returns
/// the records. May be repeated.
///
/// # Errors
/// The store failed, or a cache directory cannot be listed. What was freed stays freed.
pub(super) fn free(
    whereabouts: &KubeStore,
    store: &dyn Store,
    incomplete: Vec<Allocation>,
    cache_dirs: &[PathBuf],
    is_dry_run: bool,
) -> anyhow::Result<Vec<Allocation>> {
    let files = cached::file_names(cache_dirs)?;
    // Without any result, these may be the wrong directories.
    let is_known = |held: &Allocation| {
        let container = held.record.attachment.container.as_str();
        files.is_empty() || files.iter().any(|name| name.contains(container))
    };
    let unknown: Vec<Allocation> = incomplete.into_iter().filter(|held| !is_known(held)).collect();
    // Usually all are known, and no file need be read for this.
    if unknown.is_empty() {
        return Ok(unknown);
    }
    let mut given = HashSet::new();
    cached::each(cache_dirs, &mut |cached| {
        given.extend(cached.addresses.iter().map(|given| given.address));
        Ok(())
    })?;
    let mut ended = Vec::new();
    for held in unknown {
        let is_given = given.contains(&held.address);
        match free_one(whereabouts, store, &held, is_given, is_dry_run) {
            Ok(true) => ended.push(held),
            Ok(false) => {}
            // Sandboxes that run can be recorded nevertheless. The rest is named at the end, and each
            // further question might wait as long as this one.
            Err(error) => {
                let warning = format!(
                    "warning: {} stays recorded unless its pod has ended under Whereabouts, and that cannot be told now: {error}",
                    held.address
                );
                output::say(&output::printable(&warning));
                break;
            }
        }
    }
    Ok(ended)
}

/// Frees a record of this node if its pod has ended, under the lock of its attachment. A dry run only
/// looks. Returns whether it has ended. May be repeated. `is_given` says whether another sandbox has the
/// address: then Whereabouts must have it for another one, so that nobody gets it before it is recorded.
///
/// # Errors
/// The store or the API server cannot be asked, or refuses. The record may be gone.
pub fn free_one(
    whereabouts: &KubeStore,
    store: &dyn Store,
    held: &Allocation,
    is_given: bool,
    is_dry_run: bool,
) -> Result<bool, StoreError> {
    let deadline = Deadline::after(PATIENCE);
    if is_dry_run {
        return whereabouts.has_ended_under_whereabouts(held, is_given, &deadline);
    }
    let _lock = store.lock_attachment(&held.record.attachment, Access::Allocate, deadline)?;
    if !whereabouts.has_ended_under_whereabouts(held, is_given, &deadline)? {
        return Ok(false);
    }
    let released = store.open(Access::Allocate, deadline)?.release_unchanged(held)?;
    Ok(released == Release::Done)
}

/// Returns rows for records that are or would be freed.
pub(super) fn freed(ended: &[Allocation]) -> impl Iterator<Item = Row> {
    ended.iter().map(|held| row(held, Outcome::Freed(REASON.to_owned())))
}

/// Returns rows for imported records that no other row names: no runtime of this node knows of them.
pub(super) fn left(incomplete: &[Allocation], rows: &[Row], searched: &[PathBuf]) -> Vec<Row> {
    let listed: HashSet<(&str, &str)> =
        rows.iter().map(|row| (row.scope.as_str(), row.address.as_str())).collect();
    let is_listed = |held: &&Allocation| {
        let address = held.address.to_string();
        listed.contains(&(held.scope.name().unwrap_or_default(), address.as_str()))
    };
    let searched: Vec<String> = searched.iter().map(|path| path.display().to_string()).collect();
    let outcome = |held: &Allocation| Outcome::Left {
        reason: format!(
            "it was imported, and no result of a running sandbox below {} has it for container {}",
            searched.join(" and "),
            held.record.attachment.container
        ),
        hint: format!(
            "if its pod has ended under Whereabouts, \"hereabouts import whereabouts --kubeconfig FILE\" with the rights of an administrator ends the record; otherwise pass the cache directory of the runtime with --cache-dir, or, if the container does not run, \"hereabouts release {} --force\"",
            held.address
        ),
    };
    let others = incomplete.iter().filter(|held| !is_listed(held));
    others.map(|held| row(held, outcome(held))).collect()
}

fn row(held: &Allocation, outcome: Outcome) -> Row {
    let attachment = &held.record.attachment;
    Row {
        address: held.address.to_string(),
        scope: held.scope.name().unwrap_or_default().to_owned(),
        network: Some(attachment.network.to_string()),
        pod: held.record.pod.as_ref().map(ToString::to_string),
        container: Some(attachment.container.to_string()),
        interface: Some(attachment.ifname.to_string()),
        node: Some(attachment.node.to_string()),
        source: "an import from elsewhere".to_owned(),
        outcome,
        notes: Vec::new(),
        record: None,
    }
}
