//! GC: free what is not in the list of valid attachments, of this network and
//! this node, and not alive. A sandbox whose namespace still exists is kept
//! even when it is not listed: its ADD may be in flight, and the list another
//! runtime's.

use super::failure::Failure;
use super::{Ipam, Ready, host};
use crate::cni::{Attachments, Call};
use crate::config::Merged;
use crate::ipam::{self, Allocation};
use crate::store::retry::Deadline;
use crate::store::{Access, Filter, Release, Store, StoreError};

pub(super) fn gc(ipam: &Ipam<'_>, call: &Call, valid: &Attachments) -> Result<(), Failure> {
    let flat = ipam.flat_file(call)?;
    let merged = Merged::new(&call.configuration, flat.as_ref())?;
    let ready = ipam.ready_to_release(call, &merged, flat.as_ref())?;
    let deadline = Deadline::after(ready.settings.deadlines.gc);
    // Whoever may not act for this node shall not list for it either.
    drop(ready.store.open(Access::Release, deadline)?);
    let filter = Filter { node: Some(ready.node.clone()), network: Some(call.network.clone()), ..Filter::default() };
    let listing = match ready.store.list(&filter) {
        Err(StoreError::Absent { .. }) => return Ok(()),
        listing => listing?,
    };
    let mut all = 0;
    let mut failures = Vec::new();
    for allocation in listing {
        match allocation {
            Ok(allocation) if !is_valid(&allocation, valid) && !is_alive(&ready, &allocation) => {
                all += 1;
                failures.extend(free(&ready, &allocation, deadline).err());
            }
            Ok(_) => {}
            // One damaged record costs one address, not the collection.
            Err(damaged @ StoreError::Damaged { .. }) => tracing::error!(%damaged, "GC passes over a damaged record"),
            Err(error) => return Err(error.into()),
        }
    }
    let failed = failures.len();
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Failure::Partly { failed, all, first: Box::new(first.into()) }),
    }
}

fn is_valid(allocation: &Allocation, valid: &Attachments) -> bool {
    let attachment = &allocation.held.attachment;
    valid.contains(&(attachment.container.as_str().to_owned(), attachment.ifname.as_str().to_owned()))
}

fn is_alive(ready: &Ready, allocation: &Allocation) -> bool {
    ipam::is_alive(&allocation.held, &ready.machine.boot_id, |netns| host::look_at_netns(&netns.path))
}

/// One session a record: a long collection must not keep ADDs waiting. The
/// record is read again under the lock, it may have been re-homed to itself.
fn free(ready: &Ready, allocation: &Allocation, deadline: Deadline) -> Result<(), StoreError> {
    let mut session = ready.store.open(Access::Release, deadline)?;
    let holdings = session.holdings(&allocation.held.attachment)?;
    let unchanged = holdings.held.iter().any(|held| held == allocation);
    if unchanged && session.release(allocation)? == Release::Done {
        tracing::info!(address = %allocation.address, holder = %allocation.held.attachment, "GC");
    }
    Ok(())
}
