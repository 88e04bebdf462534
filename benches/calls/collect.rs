//! Measures GC of a few stale records in a large store.
//!
//! 40,000 of 100,000 records belong to this node. A list of valid attachments of about that size
//! fits into the 4 MiB that standard input may have. All except the stale records are in the list.
//! No record has a network namespace, so that only the list decides which records are stale.

use crate::call::Plugin;
use crate::process::Verb;
use crate::times::Times;
use crate::{NODE, RECORDED_BY_OTHERS, loaded_container};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The number of records in the store.
pub(crate) const RECORDS: u32 = 100_000;
/// The number of records that GC must free.
pub(crate) const STALE: u32 = 500;
/// The number of the first record of this node.
const FIRST: u32 = 60_000;

/// Runs GC of the stale records `rounds` times.
///
/// # Errors
/// Fails if GC fails, or if it did not free exactly the stale records.
pub(crate) fn collect(program: &Path, store: &Path, rounds: u32) -> Result<Times> {
    fs::create_dir(store)?;
    let data = store.join("data");
    fill(&data, RECORDED_BY_OTHERS, 0..FIRST)?;
    fill(&data, NODE, FIRST..RECORDS - STALE)?;
    let plugin = Plugin::hereabouts(program, store)?;
    let input = store.join("input");
    fs::write(&input, with_valid(&plugin.input, FIRST..RECORDS - STALE)?)?;
    let mut times = Times::default();
    for _ in 0..rounds {
        // This fails if the previous round did not free exactly the stale records.
        fill(&data, NODE, RECORDS - STALE..RECORDS)?;
        let mut command = plugin.command(&[], Verb::Del, "");
        command
            .env_remove("CNI_CONTAINERID")
            .env_remove("CNI_IFNAME")
            .env_remove("CNI_NETNS")
            .env("CNI_COMMAND", "GC");
        command.stdin(File::open(&input)?);
        let start = Instant::now();
        let ended = command.output()?;
        times.push(start.elapsed());
        ensure!(
            ended.status.success(),
            "GC ended with {}: {}",
            ended.status,
            String::from_utf8_lossy(&ended.stdout)
        );
    }
    // The same check for the last round.
    fill(&data, NODE, RECORDS - STALE..RECORDS)?;
    Ok(times)
}

/// Returns a network configuration with the list of valid attachments.
fn with_valid(input: &str, valid: Range<u32>) -> Result<String> {
    let mut configuration: serde_json::Value = serde_json::from_str(input)?;
    let valid: Vec<_> = valid.map(|number| serde_json::json!({ "containerID": loaded_container(number), "ifname": "net1" })).collect();
    let keys = configuration.as_object_mut().context("a network configuration")?;
    keys.insert("cniVersion".to_owned(), "1.1.0".into());
    keys.insert("cni.dev/valid-attachments".to_owned(), valid.into());
    Ok(configuration.to_string())
}

/// Adds records of containers to a store, in a separate process.
pub(crate) fn fill(data: &Path, node: &str, containers: Range<u32>) -> Result<()> {
    let mut loader = Command::new(std::env::current_exe()?);
    loader
        .arg("--load")
        .arg(containers.end.to_string())
        .arg("--load-from")
        .arg(containers.start.to_string());
    loader.arg("--load-node").arg(node).arg("--dir").arg(data);
    ensure!(loader.status()?.success(), "the store could not be filled");
    Ok(())
}
