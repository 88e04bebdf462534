//! `repair`: repairs the problems `verify` finds that belong to this node.

use super::{RepairArgs, StoreArgs, confirm, locate, output, records, verify};
use crate::environment::Environment;
use crate::ipam::Record;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::upkeep::{Extent, Finding, IsAlive, Repaired, Upkeep};
use anyhow::bail;

pub(super) fn repair(
    environment: &Environment,
    store: &StoreArgs,
    args: &RepairArgs,
) -> anyhow::Result<()> {
    let located = locate::locate(environment, store)?;
    let store = located.store_of(&located.own_node()?)?;
    let extent = if args.all { Extent::Whole } else { Extent::Own };
    let is_alive = |held: &Record| located.life(held);
    repair_all(store.as_ref(), extent, &is_alive, args.yes)
}

/// Finds problems and repairs them. The note of a call that the cluster was restored to an older
/// state is deleted when every repair could be tried.
pub(super) fn repair_all(
    store: &dyn Upkeep,
    extent: Extent,
    is_alive: IsAlive<'_>,
    yes: bool,
) -> anyhow::Result<()> {
    store.complete(Deadline::after(records::PATIENCE))?;
    // A note that is written after this read is left for the next run.
    let set_back = store.set_back();
    let forget = || set_back.iter().for_each(|known| store.forget_set_back(known));
    let found = match store.verify(extent, is_alive, Deadline::after(records::PATIENCE)) {
        Err(error @ StoreError::Absent { .. }) => {
            output::say_error(&error);
            Vec::new()
        }
        verified => verified?.findings,
    };
    let (mendable, left): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|finding| finding.is_repairable && finding.is_ours);
    if !left.is_empty() {
        output::say("cannot be repaired here:");
        output::say(verify::describe(&left).trim_end());
    }
    if mendable.is_empty() {
        output::say("nothing to repair");
        forget();
        return Ok(());
    }
    output::say("will repair:");
    output::say(verify::describe(&mendable).trim_end());
    if !confirm::confirmed(yes, "repair")? {
        bail!("nothing was repaired");
    }
    let mut was_tried = true;
    let failed = carry_out(store, &mendable, is_alive, &mut |finding, ended| {
        was_tried &= ended.is_ok();
        say(finding, ended)
    })?;
    if was_tried {
        forget();
    }
    if 0 < failed {
        bail!("{} could not be repaired", output::count(failed, "problem"));
    }
    Ok(())
}

/// A callback that gets each finding and the outcome of its repair.
pub type Report<'r> =
    &'r mut dyn FnMut(&Finding, &Result<Repaired, StoreError>) -> anyhow::Result<()>;

/// Repairs each finding, and calls `report` with the outcome. Continues after a failure, and
/// returns the number of failures.
///
/// # Errors
/// Those of `report`.
pub fn carry_out(
    store: &dyn Upkeep,
    findings: &[Finding],
    is_alive: IsAlive<'_>,
    report: Report<'_>,
) -> anyhow::Result<usize> {
    let mut failed = 0;
    for finding in findings {
        let ended = store.repair(finding, is_alive, Deadline::after(records::PATIENCE));
        failed += usize::from(matches!(ended, Ok(Repaired::GivenAway(_)) | Err(_)));
        report(finding, &ended)?;
    }
    Ok(failed)
}

fn say(finding: &Finding, ended: &Result<Repaired, StoreError>) -> anyhow::Result<()> {
    let path = output::printable(&finding.path.to_string_lossy());
    match ended {
        Ok(Repaired::Done) => output::print(&format!("{} {path}\n", finding.done))?,
        Ok(Repaired::Gone | Repaired::NotYours | Repaired::ByHand) => {
            output::say(&format!("{path} no longer needs a repair"))
        }
        Ok(Repaired::GivenAway(holder)) => {
            output::say(&format!(
                "warning: {path} now has another holder: {}",
                output::printable(holder)
            ));
            output::say("hint: \"hereabouts verify\" shows what to do");
        }
        Err(error) => output::warn(error),
    }
    Ok(())
}
