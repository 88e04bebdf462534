//! `repair`: mends what `verify` finds, as far as it is this node's.

use super::{Lookup, RepairArgs, StoreArgs, confirm, list, locate, output, verify};
use crate::ipam::Draft;
use crate::store::StoreError;
use crate::store::retry::Deadline;
use crate::store::upkeep::{Extent, Repaired};
use anyhow::bail;

pub(super) fn repair(lookup: Lookup<'_>, store: &StoreArgs, args: &RepairArgs) -> anyhow::Result<()> {
    let located = locate::locate(lookup, store)?;
    let node = located.own_node()?;
    let store = located.store_of(&node)?;
    let is_alive = |held: &Draft| located.is_alive(held);
    let extent = if args.all { Extent::Whole } else { Extent::Own };
    let found = match store.verify(extent, &is_alive, Deadline::after(list::PATIENCE)) {
        Err(error @ StoreError::Absent { .. }) => {
            output::say(&error.to_string());
            Vec::new()
        }
        verified => verified?.findings,
    };
    let (mendable, left): (Vec<_>, Vec<_>) = found.into_iter().partition(|finding| finding.is_repairable && finding.is_ours);
    if !left.is_empty() {
        output::say("not to be repaired here:");
        output::say(verify::describe(&left).trim_end());
    }
    if mendable.is_empty() {
        output::say("nothing to repair");
        return Ok(());
    }
    output::say("will repair:");
    output::say(verify::describe(&mendable).trim_end());
    if !confirm::confirmed(args.yes, "repair")? {
        bail!("nothing was repaired");
    }
    let mut failed = 0;
    for finding in &mendable {
        let path = output::plain(&finding.path.to_string_lossy());
        match store.repair(finding, &is_alive, Deadline::after(list::PATIENCE)) {
            Ok(Repaired::Done) => output::print(&format!("repaired {path}\n"))?,
            Ok(Repaired::Gone | Repaired::NotYours | Repaired::ByHand) => output::say(&format!("{path} is no longer so")),
            Ok(Repaired::GivenAway(holder)) => {
                failed += 1;
                output::say(&format!("warning: {path} is held by another now, \"verify\" tells what to do: {}", output::plain(&holder)));
            }
            Err(error) => {
                failed += 1;
                output::say(&format!("warning: {error}"));
            }
        }
    }
    if 0 < failed {
        bail!("{} could not be repaired", verify::count(failed, "thing"));
    }
    Ok(())
}
