//! `sweep`: releases this node's addresses whose sandboxes are gone, and removes what killed calls
//! left behind.

use super::{
    Format, StoreArgs, SweepArgs, confirm, debts, locate, output, records, repair, selectors,
};
use crate::environment::Environment;
use crate::ipam::{Allocation, NodeName, Record};
use crate::plugin::sweep::{self, Sweep};
use crate::retry::Deadline;
use crate::store::upkeep::{Extent, Finding, IsAlive, Upkeep};
use crate::store::{Filter, StoreError};
use anyhow::bail;

pub(super) fn sweep(
    environment: &Environment,
    store: &StoreArgs,
    args: &SweepArgs,
) -> anyhow::Result<()> {
    let located = locate::locate(environment, store)?;
    let node = located.own_node()?;
    // The debts are read even if the store is unavailable.
    let swept = if args.debts { Ok(()) } else { sweep_store(&located, &node, args) };
    let only = Some(located.place()).filter(|_| !args.debts);
    if args.dry_run {
        swept?;
        let owed = debts::matching(debts::found(&located)?, &Filter::default(), only.as_ref());
        return if owed.is_empty() && !args.debts {
            Ok(())
        } else {
            debts::print(&owed, Format::Table)
        };
    }
    if swept.is_err() && !args.yes {
        return swept;
    }
    swept.and(debts::settle_all(&located, &node, only))
}

fn sweep_store(
    located: &locate::Located<'_>,
    node: &NodeName,
    args: &SweepArgs,
) -> anyhow::Result<()> {
    let network = args.network.as_deref().map(selectors::parse_network).transpose()?;
    let store = located.store_of(node)?;
    let boot_id = &located.machine.boot_id;
    let is_alive = |held: &Record| located.life(held);
    let all = Sweep {
        node,
        network: network.as_ref(),
        spared: None,
        dry_run: args.dry_run,
        is_alive: &is_alive,
    };
    let (stale, orphans) = find(store.as_ref(), &all)?;
    if !args.dry_run && store.set_back().is_some() {
        output::say(
            "the store was restored to an older state; this node's lost records are repaired first",
        );
        if let Err(error) = repair::repair_all(store.as_ref(), Extent::Own, &is_alive, args.yes) {
            output::say(&format!("warning: {}", output::in_one_line(&error)));
        }
    }
    if stale.is_empty() && orphans.is_empty() {
        output::say("nothing to sweep");
        if !args.dry_run {
            tidy(store.as_ref());
        }
        return Ok(());
    }
    announce(&stale, &orphans, boot_id, args.dry_run)?;
    if args.dry_run {
        return Ok(());
    }
    if !confirm::confirmed(args.yes, "sweep")? {
        bail!("nothing was swept");
    }
    let noted = located.freed(node);
    let swept = carry_out(store.as_ref(), &stale, &orphans, &is_alive, &mut |allocation, done| {
        if done {
            noted.note(allocation);
        }
        output::released(&allocation.address, done)
    });
    tidy(store.as_ref());
    swept
}

/// Removes empty directories. A directory that remains only costs inodes, so a failure does not
/// fail the sweep.
fn tidy(store: &dyn Upkeep) {
    if let Err(error) = store.tidy(Deadline::after(records::PATIENCE)) {
        output::warn(&error);
    }
}

/// Finds the stale records, and what killed calls left behind.
///
/// # Errors
/// The store cannot be read.
pub fn find(
    store: &dyn Upkeep,
    all: &Sweep<'_>,
) -> anyhow::Result<(Vec<Allocation>, Vec<Finding>)> {
    let mut stale = Vec::new();
    for item in all.find(store, Deadline::after(records::PATIENCE))? {
        match item {
            Ok(allocation) => stale.push(allocation),
            Err(error) if error.is_of_one_record() => output::warn(&error),
            Err(error) => return Err(error.into()),
        }
    }
    let orphans = store.orphans(all.is_alive, Deadline::after(records::PATIENCE))?;
    Ok((stale, orphans))
}

fn announce(
    stale: &[Allocation],
    orphans: &[Finding],
    boot_id: &str,
    dry_run: bool,
) -> anyhow::Result<()> {
    let mut text = String::new();
    for allocation in stale {
        let held = &allocation.record;
        let why = if held.boot_id != boot_id {
            "from before the last boot"
        } else if held.netns.is_none() {
            "no namespace was recorded"
        } else {
            "its sandbox is gone"
        };
        text.push_str(&format!("  {}: {why}\n", output::holder(allocation)));
    }
    for finding in orphans {
        text.push_str(&format!(
            "  {}: {}\n",
            output::printable(&finding.path.to_string_lossy()),
            finding.problem
        ));
    }
    if dry_run {
        output::say("would release and remove:");
        return output::print(&text);
    }
    output::say("will release and remove:");
    output::say(text.trim_end());
    Ok(())
}

/// A callback that gets each record, and whether it was freed.
pub type Report<'r> = &'r mut dyn FnMut(&Allocation, bool) -> anyhow::Result<()>;

/// Frees and removes what was found. Continues after a failure, and counts the failures.
///
/// # Errors
/// Some records or files may still exist. A repeat is safe.
pub fn carry_out(
    store: &dyn Upkeep,
    stale: &[Allocation],
    orphans: &[Finding],
    is_alive: IsAlive<'_>,
    report: Report<'_>,
) -> anyhow::Result<()> {
    let mut failed = 0;
    let mut failure = |error: &StoreError| {
        failed += 1;
        output::warn(error);
    };
    for allocation in stale {
        match sweep::free(store, allocation, Deadline::after(records::PATIENCE)) {
            Ok(done) => report(allocation, done)?,
            Err(error) => failure(&error),
        }
    }
    for finding in orphans {
        match store.repair(finding, is_alive, Deadline::after(records::PATIENCE)) {
            Ok(_) => {}
            Err(error) => failure(&error),
        }
    }
    if 0 < failed {
        bail!("{} could not be swept", output::count(failed, "item"));
    }
    Ok(())
}
