//! GC: frees the records of this network and this node that are not in the list of valid
//! attachments and not alive. A sandbox whose namespace still exists is kept even if it is not
//! listed: its ADD may be in progress, and the list may be of another runtime.

use super::call_summary::Report;
use super::failure::Failure;
use super::sweep::{self, Sweep};
use super::{Ipam, Ready};
use crate::cni::{Attachments, Call};
use crate::config::Merged;
use crate::ipam::Record;
use crate::retry::Deadline;
use crate::store::StoreError;
use std::sync::Arc;

pub(super) fn gc(ipam: &Ipam<'_>, call: &Call, valid: &Attachments) -> Result<(), Failure> {
    let flat = ipam.flat_file(call)?;
    let merged = Merged::to_release(&call.configuration, flat.as_ref());
    let ready = ipam.ready_to_release(call, &merged, flat.as_ref())?;
    let is_alive = |held: &Record| ready.life(held);
    let spared = Some(Arc::new(valid.clone()));
    let sweep = Sweep {
        node: &ready.node,
        network: Some(&call.network),
        spared,
        dry_run: false,
        is_alive: &is_alive,
    };
    collect(&ready, &sweep, &ipam.report)?;
    ready.answered();
    Ok(())
}

fn collect(ready: &Ready, sweep: &Sweep<'_>, report: &Report) -> Result<(), Failure> {
    let deadline = Deadline::after(ready.settings.deadlines.gc);
    let store = ready.store.as_ref();
    let (mut all, mut late) = (0, 0);
    let mut failures = Vec::new();
    let noted = ready.freed();
    for item in sweep.find(store, deadline)? {
        match item {
            Ok(_) if 0 < all && deadline.left().is_zero() => late += 1,
            Ok(stale) => {
                all += 1;
                match sweep::free(store, &stale, deadline) {
                    Ok(true) => {
                        report.names(&stale);
                        noted.note(&stale);
                        ready.settle_debt(&stale.record.attachment, deadline);
                    }
                    Ok(false) => {}
                    Err(error) => failures.push(error),
                }
            }
            // A record that cannot be read costs one address, not the collection. The same is true
            // of a record that another machine made under this node's name.
            Err(
                passed_over @ (StoreError::Damaged { .. }
                | StoreError::DamagedObject { .. }
                | StoreError::Newer { .. }
                | StoreError::SecondMachine { .. }),
            ) => {
                tracing::error!(passed_over = passed_over.in_one_line(), "GC skips a record");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (found, failed) = (all + late, failures.len() + late);
    if 0 < late {
        let limit = humantime::format_duration(deadline.limit()).to_string();
        failures.push(StoreError::OutOfTime { limit, done: all, all: found });
    }
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Failure::Partly { failed, all: found, first: Box::new(first.into()) }),
    }
}
