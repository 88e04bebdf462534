//! Creates the file store that a flat file names if it does not exist, and writes its ID to the
//! flat file, so that the node recognizes it.

use super::plan::Plan;
use crate::plugin::machine::read_small;
use anyhow::{Context, bail};
use serde_json::{Map, Value};
use std::path::Path;
use std::process::Stdio;

/// Adds `store_id` to the flat file that will be written. If the current flat file has the ID, that
/// one is used, because the filesystem may not be mounted yet. A check creates nothing.
///
/// # Errors
/// The store cannot be created.
pub(super) fn name(plan: &mut Plan, namespace: &Path, dry_run: bool) -> anyhow::Result<()> {
    let mut flat: Map<String, Value> = serde_json::from_str(&plan.flat).unwrap_or_default();
    let Some(data_dir) = flat.get("data_dir").and_then(Value::as_str).map(str::to_owned) else {
        return Ok(());
    };
    if flat.get("datastore").is_none_or(|kind| kind != "file") || flat.contains_key("store_id") {
        return Ok(());
    }
    let present = read_small(&plan.flat_path()).unwrap_or_default();
    let present: Value = serde_json::from_slice(&present).unwrap_or_default();
    let id = match present["store_id"].as_str().filter(|_| present["data_dir"] == *data_dir) {
        Some(id) => id.to_owned(),
        None if dry_run => return Ok(()),
        None => make(&data_dir, namespace)?,
    };
    flat.insert("store_id".to_owned(), Value::String(id));
    plan.flat = format!("{:#}\n", Value::Object(flat));
    Ok(())
}

/// Creates the store in the mount namespace in which the plugin will be called. Returns its ID.
fn make(data_dir: &str, namespace: &Path) -> anyhow::Result<String> {
    let mut command = super::on_the_host(namespace);
    let made = command
        .args(["store", "init", "--first", data_dir])
        .stdin(Stdio::null())
        .output()
        .context("cannot start store init")?;
    let said = String::from_utf8_lossy(&made.stderr);
    if !made.status.success() {
        bail!("{}", super::error_of(&said));
    }
    Ok(String::from_utf8_lossy(&made.stdout).trim().to_owned())
}
