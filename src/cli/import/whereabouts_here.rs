//! `import whereabouts` on a node: records what Whereabouts has given to the sandboxes of this node,
//! and completes what was imported for it from elsewhere.

use super::cached::{self, Cached};
use super::ended;
use super::new_networks::NewNetworks;
use super::report;
use super::sandboxes::{Recorder, Wanted};
use crate::addr::parse_address;
use crate::cli::args::import::ImportArgs;
use crate::cli::locate::{self, Located};
use crate::environment::Environment;
use crate::ipam::Allocation;
use crate::json::Json;

pub(super) fn import(environment: &Environment, args: &ImportArgs) -> anyhow::Result<()> {
    let located = locate::locate(environment, &args.store)?;
    let node = located.own_node()?;
    let networks = NewNetworks::read(&args.network, located.flat.as_ref())?;
    let mut recorder = Recorder::open(&located, &node, &networks, args.dry_run)?;
    // What these pods had may be what other pods have now.
    let ended = free_ended(&located, &recorder, args)?;
    if args.dry_run {
        recorder.assume_free(&ended);
    }
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
    rows.extend(ended::freed(&ended));
    rows.extend(ended::left(&incomplete, &rows, &args.cache_dir));
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

/// Frees what pods of this node had that have ended under Whereabouts.
fn free_ended(
    located: &Located<'_>,
    recorder: &Recorder<'_>,
    args: &ImportArgs,
) -> anyhow::Result<Vec<Allocation>> {
    let Some(kube) = located.kubernetes()? else { return Ok(Vec::new()) };
    let incomplete = recorder.incomplete()?;
    match incomplete.is_empty() {
        true => Ok(Vec::new()),
        false => ended::free(&kube, recorder.store(), incomplete, &args.cache_dir, args.dry_run),
    }
}
