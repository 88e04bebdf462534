//! `import whereabouts` on a node: records what Whereabouts has given to the sandboxes of this node,
//! and completes what was imported for it from elsewhere.

use super::cached::{self, Cached};
use super::new_networks::NewNetworks;
use super::report::{self, Outcome, Row};
use super::sandboxes::{Recorder, Wanted};
use crate::addr::parse_address;
use crate::cli::args::import::ImportArgs;
use crate::cli::locate;
use crate::environment::Environment;
use crate::ipam::Allocation;
use crate::json::Json;
use std::collections::HashSet;
use std::path::PathBuf;

pub(super) fn import(environment: &Environment, args: &ImportArgs) -> anyhow::Result<()> {
    let located = locate::locate(environment, &args.store)?;
    let node = located.own_node()?;
    let networks = NewNetworks::read(&args.network, located.flat.as_ref())?;
    let mut recorder = Recorder::open(&located, &node, &networks, args.dry_run)?;
    cached::each(&args.cache_dir, &mut |cached| {
        let Some(configuration) = of_whereabouts(cached) else { return Ok(()) };
        recorder.record(&Wanted {
            cached,
            configuration,
            addresses: &cached.addresses,
            source: &|_| cached.path.display().to_string(),
        })
    })?;
    let incomplete = recorder.incomplete()?;
    let mut rows = recorder.finish()?;
    rows.extend(unseen(&incomplete, &rows, &args.cache_dir));
    rows.sort_by_cached_key(|row| (row.scope.clone(), parse_address(&row.address).ok()));
    report::print(&rows, args.output, args.dry_run)
}

/// Returns the plugin configuration of an attachment to which Whereabouts has given addresses, or
/// hereabouts under its name.
fn of_whereabouts(cached: &Cached) -> Option<&Json> {
    cached.configurations.iter().find(|configuration| {
        let kind = configuration.find("ipam").and_then(|ipam| ipam.find("type"));
        kind.and_then(Json::as_str) == Some("whereabouts")
    })
}

/// Returns rows for imported records of which no runtime of this node knows.
fn unseen(incomplete: &[Allocation], rows: &[Row], searched: &[PathBuf]) -> Vec<Row> {
    let listed: HashSet<(&str, &str)> =
        rows.iter().map(|row| (row.scope.as_str(), row.address.as_str())).collect();
    let is_listed = |held: &&Allocation| {
        let address = held.address.to_string();
        listed.contains(&(held.scope.name().unwrap_or_default(), address.as_str()))
    };
    let searched: Vec<String> = searched.iter().map(|path| path.display().to_string()).collect();
    let row = |held: &Allocation| {
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
            outcome: Outcome::Left {
                reason: format!(
                    "it was imported, and no result below {} has it for container {}",
                    searched.join(" and "),
                    attachment.container
                ),
                hint: format!(
                    "if its pod has ended under Whereabouts, \"hereabouts import whereabouts --kubeconfig FILE\" with the rights of an administrator ends the record; otherwise pass the cache directory of the runtime with --cache-dir, or, if the container does not run, \"hereabouts release {} --force\"",
                    held.address
                ),
            },
            notes: Vec::new(),
            record: None,
        }
    };
    incomplete.iter().filter(|held| !is_listed(held)).map(row).collect()
}
