//! Removes what install wrote, in the opposite order, and nothing else: not the custom resource,
//! not the store, no files of others. Refuses while this node holds addresses, because nothing
//! could release them afterwards.

use super::super::output::{count, in_one_line};
use super::super::{HintedError, debts, slices};
use super::atomic_write::{self, InstallLock};
use super::executables_aside::{self, ExecutablesAside};
use super::plan::Plan;
use super::{flat_file, kubeconfig};
use crate::config::{Chosen, FlatFile, StoreKind};
use crate::ipam::NodeName;
use crate::plugin::debts::Place;
use crate::plugin::machine::{CONFIG_VARIABLE, read_small};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Removes the files, and returns the messages to print.
///
/// # Errors
/// An install is running here; this node holds addresses, or the store does not answer; or a file
/// cannot be removed.
pub(super) fn remove(plan: &Plan, namespace: &Path, force: bool) -> anyhow::Result<Vec<String>> {
    let mut changes = Vec::new();
    let presence = if plan.directory.is_dir() {
        let Some(alone) = InstallLock::alone(&plan.directory)? else {
            let message = "\"hereabouts install --watch\" is running on this node and would install everything again";
            return Err(HintedError::new(
                message,
                "end it first; in a cluster, deploy/uninstall does",
            )
            .into());
        };
        Some(alone)
    } else {
        None
    };
    if presence.is_some() {
        executables_aside::end_others(&plan.bin_dir)?;
    }
    let installed = installed_files(plan)?;
    let flat = plan.flat_path();
    let mut quiet = ExecutablesAside::default();
    if !force && flat.exists() {
        quiet = quiet_node(plan, namespace)?;
    } else if !force
        && installed.iter().any(|(path, is_ours)| {
            *is_ours && plan.executables().any(|executable| *path == executable)
        })
    {
        return Err(cannot_tell(&format!(
            "no store is configured, because the flat file is missing: {}",
            flat.display()
        )));
    }
    if flat.exists() {
        match return_slices(&flat, namespace) {
            Ok(said) => changes.extend(said),
            Err(error) if force => changes.push(format!("warning: {}", in_one_line(&error))),
            Err(error) => return Err(error),
        }
    }
    for (path, is_ours) in installed {
        if !is_ours {
            changes.push(format!("kept {}: hereabouts install did not write it", path.display()));
        } else if quiet.remove(&path)? || atomic_write::remove(&path)? {
            changes.push(format!("removed {}", path.display()));
        }
    }
    // The directory stays if it contains files of others.
    if presence.is_some() && std::fs::remove_dir(&plan.directory).is_ok() {
        changes.push(format!("removed {}", plan.directory.display()));
    }
    Ok(changes)
}

/// Returns the files that exist at the places of a plan, in the order of their removal, and whether
/// install wrote each of them.
///
/// # Errors
/// An executable cannot be read, or the place of the flat file cannot be checked. The second is an
/// error because it does not mean that there is no flat file.
pub(super) fn installed_files(plan: &Plan) -> anyhow::Result<Vec<(PathBuf, bool)>> {
    plan.flat_path()
        .try_exists()
        .with_context(|| format!("cannot look at {}", plan.flat_path().display()))?;
    let mut found = Vec::new();
    for path in plan.executables().filter(|path| path.symlink_metadata().is_ok()) {
        let is_ours = path.is_file()
            && atomic_write::is_our_executable(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
        found.push((path, is_ours));
    }
    let mut add = |path: PathBuf, is_ours: fn(&[u8]) -> bool| {
        if path.symlink_metadata().is_ok() {
            let is_ours = read_small(&path).is_ok_and(|bytes| is_ours(&bytes));
            found.push((path, is_ours));
        }
    };
    add(plan.flat_path(), flat_file::is_our_flat_file);
    add(plan.kubeconfig_path(), kubeconfig::is_our_kubeconfig);
    Ok(found)
}

/// Returns the error for a node whose addresses are unknown. Without an answer, the files stay.
fn cannot_tell(reason: &str) -> anyhow::Error {
    let message = format!("cannot determine whether pods on this node hold addresses: {reason}");
    HintedError::new(message, "fix the cause, or pass --force").into()
}

/// Returns a quiet node: it holds no addresses, and no call of the plugin begins before the caller
/// has acted on that.
///
/// # Errors
/// The node holds addresses, the store does not answer, or a call does not end.
pub(super) fn quiet_node(plan: &Plan, namespace: &Path) -> anyhow::Result<ExecutablesAside> {
    // The first check does not disturb any call. In most cases, it already refuses.
    refuse_while_held(&plan.flat_path(), &plan.node, namespace)?;
    let quiet = ExecutablesAside::begin(&plan.bin_dir)?;
    quiet.await_calls()?;
    loop {
        refuse_while_held(&plan.flat_path(), &plan.node, namespace)?;
        // A call that was about to start is visible now.
        if !quiet.await_calls()? {
            return Ok(quiet);
        }
    }
}

/// Checks that a node holds no addresses in the store that a flat file names. The flat file also
/// names the node; `node` is used if it does not.
///
/// # Errors
/// The node holds addresses there, or the store does not answer.
pub(super) fn refuse_while_held(
    flat: &Path,
    node: &NodeName,
    namespace: &Path,
) -> anyhow::Result<()> {
    let named =
        read_small(flat).ok().and_then(|bytes| flat_file::read_flat(flat, &bytes).ok()?.node_name);
    let node = named.as_ref().unwrap_or(node);
    let held =
        items(&["list", "--output", "json", "--node", node.as_str()], flat, namespace)?.len();
    if 0 < held {
        let hint = format!("delete those pods first; \"hereabouts list --node {node}\" lists them");
        return Err(HintedError::new(
            format!("pods on this node hold {}", count(held, "address")),
            hint,
        )
        .into());
    }
    // A debt may be in a store other than that of the flat file, or in one that lists nothing.
    let owed =
        items(&["list", "--debts", "--output", "json", "--node", node.as_str()], flat, namespace)?;
    match owed.iter().filter(|debt| is_used(debt, flat)).count() {
        0 => Ok(()),
        owed => {
            let hint = "\"hereabouts sweep --debts\" settles a debt when the sandbox is gone and the store is available; \
                        \"hereabouts list --debts\" lists the debts";
            Err(HintedError::new(format!("this node has {}", debts::count(owed)), hint).into())
        }
    }
}

/// Returns whether a debt is in a store that networks of this flat file may use. For a test, one
/// machine may be several nodes of the same name.
fn is_used(debt: &serde_json::Value, flat: &Path) -> bool {
    let bytes = read_small(flat).unwrap_or_default();
    let (Some(store), Ok(settings)) = (debt["store"].as_str(), flat_file::read_flat(flat, &bytes))
    else {
        return true;
    };
    let allowed = FlatFile::parse(flat.to_owned(), &bytes, Chosen::ByNode)
        .map(|flat| flat.allowed_paths())
        .unwrap_or_default();
    let open = ["/var/lib/cni", "/etc"]
        .into_iter()
        .map(Path::new)
        .chain(allowed.iter().map(PathBuf::as_path));
    Place::of(&settings.store).to_string() == store
        || open.into_iter().any(|root| Path::new(store).starts_with(root))
}

/// Gives back the slices of this node, which nobody could do afterwards. Returns the messages to
/// print: a slice stays while pods hold addresses of it.
///
/// # Errors
/// Some slices may not be given back.
fn return_slices(flat: &Path, namespace: &Path) -> anyhow::Result<Vec<String>> {
    let bytes = read_small(flat).unwrap_or_default();
    let has_slices = flat_file::read_flat(flat, &bytes)
        .is_ok_and(|settings| settings.store.kind != StoreKind::File);
    if !has_slices {
        return Ok(Vec::new());
    }
    let returned = super::on_the_host(namespace)
        .args(["slices", "return"])
        .env(CONFIG_VARIABLE, flat)
        .stdin(Stdio::null())
        .output()
        .context("cannot start the return of this node's slices")?;
    let said = String::from_utf8_lossy(&returned.stderr);
    if !returned.status.success() {
        let message =
            format!("cannot give back the slices of this node: {}", super::error_of(&said));
        return Err(HintedError::new(message, "fix the cause, or pass --force").into());
    }
    let nothing = slices::gave_back(0);
    Ok(said.lines().filter(|line| *line != nothing).map(str::to_owned).collect())
}

/// Returns the items of a listing of the plugin, run on the host.
fn items(args: &[&str], flat: &Path, namespace: &Path) -> anyhow::Result<Vec<serde_json::Value>> {
    let listed = super::on_the_host(namespace)
        .args(args)
        .env(CONFIG_VARIABLE, flat)
        .stdin(Stdio::null())
        .output()
        .context("cannot start the listing of this node's addresses")?;
    let items: Option<Vec<serde_json::Value>> = serde_json::from_slice(&listed.stdout).ok();
    match items {
        Some(items) if listed.status.success() => Ok(items),
        _ => {
            let said = String::from_utf8_lossy(&listed.stderr);
            Err(cannot_tell(&super::error_of(&said)))
        }
    }
}
