//! DEL: free all that the attachment holds, whatever the configuration says
//! by now. Reads no ranges and no more of `CNI_ARGS` than whether they name a
//! pod. An error means that something may be held still.

use super::failure::Failure;
use super::{Ipam, attachment};
use crate::cni::{Call, Sandbox};
use crate::config::Merged;
use crate::ipam::Attachment;
use crate::store::retry::Deadline;
use crate::store::{Access, Store, StoreError};

pub(super) fn del(ipam: &Ipam<'_>, call: &Call, sandbox: &Sandbox) -> Result<(), Failure> {
    let flat = ipam.flat_file(call)?;
    let merged = Merged::new(&call.configuration, flat.as_ref())?;
    let ready = ipam.ready_to_release(call, &merged, flat.as_ref())?;
    let attachment = attachment(&ready, call, sandbox);
    Ok(free(ready.store.as_ref(), &attachment, Deadline::after(ready.settings.deadlines.del))?)
}

/// Releases all that an attachment holds; may be repeated.
///
/// # Errors
/// Something may be held still.
pub fn free(store: &dyn Store, attachment: &Attachment, deadline: Deadline) -> Result<(), StoreError> {
    let Some(_lock) = store.lock_attachment(attachment, Access::Release, deadline)? else {
        return Ok(());
    };
    let mut session = store.open(Access::Release, deadline)?;
    let holdings = session.holdings(attachment)?;
    // From the last to the first: the index is made upwards.
    for allocation in holdings.held.iter().rev() {
        let released = session.release(allocation)?;
        tracing::info!(address = %allocation.address, scope = %allocation.scope, holder = %attachment, ?released, "DEL");
    }
    // It holds nothing, so that what cannot be removed is no reason to fail.
    if holdings.left_over
        && let Err(error) = session.mend(attachment)
    {
        tracing::warn!(%error, "a left-over stays until the next sweep");
    }
    for damaged in &holdings.damaged {
        // Its address stays taken: nobody can tell which it is.
        tracing::error!(%damaged, "DEL leaves a record behind");
    }
    Ok(())
}
