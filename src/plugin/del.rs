//! DEL: frees everything that the attachment holds, whatever the configuration says now. It reads
//! no ranges, and of `CNI_ARGS` only whether they name a pod. An error means that something may
//! still be held; it is then noted as a debt.

use super::call_summary::Report;
use super::debts::answer::{Answer, SOON};
use super::debts::{Account, Owed};
use super::failure::Failure;
use super::{CallContext, Ipam, Ready};
use crate::addr::Subnet;
use crate::cni::{Call, Sandbox};
use crate::config::{CniArgs, Merged, Network};
use crate::ipam::{Allocation, Attachment, Record, Scope, is_of_other_hardware};
use crate::retry::Deadline;
use crate::store::{Access, Store, StoreError};

pub(super) fn del(ipam: &Ipam<'_>, call: &Call, sandbox: &Sandbox) -> Result<(), Failure> {
    let flat = ipam.flat_file(call)?;
    let merged = Merged::to_release(&call.configuration, flat.as_ref());
    let context = ipam.context_to_release(call, &merged, flat.as_ref())?;
    let attachment = context.attachment(call, sandbox);
    let ranges = || ranges(&merged, call);
    let del = Del {
        ranges: &ranges,
        account: context.account(attachment.clone()),
        attachment,
        context: &context,
        sandbox,
        report: &ipam.report,
    };
    let store = match context.open(&ipam.environment.proxy) {
        Ok(store) => store,
        Err(error) => return del.leave(error, None, false),
    };
    del.carry_out(store.as_ref(), Deadline::after(context.settings.deadlines.del))?;
    Ready { context, store }.answered();
    Ok(())
}

/// Returns whether a record must not be freed, whichever call ends the attachment.
type Spares<'a> = &'a dyn Fn(&Record) -> bool;

/// One DEL.
struct Del<'a> {
    account: Account,
    attachment: Attachment,
    context: &'a CallContext,
    sandbox: &'a Sandbox,
    report: &'a Report,
    /// The scope and the ranges of the network, if they can be read.
    ranges: &'a dyn Fn() -> Option<(Scope, Vec<Subnet>)>,
}

/// Returns what another plugin may have given to the attachment: a DEL whose record is not there does
/// not fail because of its configuration.
fn ranges(merged: &Merged<'_>, call: &Call) -> Option<(Scope, Vec<Subnet>)> {
    let network = Network::parse(merged, &CniArgs::parse(&call.args).ok()?).ok()?;
    let ranges = network.sets.iter().flat_map(|set| &set.ranges);
    let ranges = ranges.map(|range| range.subnet).collect();
    Some((network.scope, ranges))
}

impl Del<'_> {
    fn carry_out(&self, store: &dyn Store, deadline: Deadline) -> Result<(), Failure> {
        if let Some(host_local) = self.context.host_local(&self.attachment.network)
            && let Err(error) = host_local.forget(&self.attachment)
        {
            // The file keeps its address from being given, until somebody deletes it.
            tracing::error!(%error, "DEL leaves a file of host-local behind");
        }
        let _lock = match store.lock_attachment(&self.attachment, Access::Release, deadline) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(()),
            Err(error) => return self.leave(error, None, false),
        };
        let spares = |held: &Record| is_of_other_hardware(held, &self.context.machine);
        let mut freed = Vec::new();
        let done = free_locked(
            store,
            &self.attachment,
            &spares,
            &mut freed,
            self.patience(store, deadline),
        )
        .and_then(|()| match freed.is_empty() {
            true => store.forget_shown(&self.attachment, self.ranges, deadline),
            false => Ok(()),
        });
        let noted = self.context.freed();
        for allocation in &freed {
            self.report.names(allocation);
            noted.note(allocation);
        }
        match done {
            Ok(()) => {
                self.account.forget();
                Ok(())
            }
            Err(error) => {
                // What this DEL would have passed over is not owed either.
                let is_ours = |held: &Allocation| !spares(&held.record);
                self.leave(
                    error,
                    store
                        .noted(&self.attachment)
                        .map(|held| held.into_iter().filter(is_ours).collect()),
                    true,
                )
            }
        }
    }

    /// Returns for how long the DEL is tried. It is shortened only for an API server: files are not
    /// away for a while, and a call that waits for their lock keeps its place.
    fn patience(&self, store: &dyn Store, deadline: Deadline) -> Deadline {
        let may_succeed = self.account.is_of_api_server()
            && Answer::may_be_success(store.noted(&self.attachment).as_deref(), true);
        if may_succeed { deadline.or_after(SOON) } else { deadline }
    }

    /// Notes what could not be freed, and returns what the caller is told. Nothing is noted if it
    /// is certain that nothing is held.
    fn leave(
        &self,
        error: StoreError,
        held: Option<Vec<Allocation>>,
        exclusive: bool,
    ) -> Result<(), Failure> {
        let answered = Answer::to_del(&error, held.as_deref(), exclusive);
        if held.as_ref().is_some_and(Vec::is_empty) || matches!(error, StoreError::Foreign { .. }) {
            return if answered == Answer::Success { Ok(()) } else { Err(error.into()) };
        }
        for allocation in held.iter().flatten() {
            self.report.names(allocation);
        }
        let seen = self.context.record(self.attachment.clone(), self.sandbox);
        let noted = self.account.leave(Owed { error: &error, held, exclusive, answered, seen });
        if answered == Answer::Success && noted.is_ok() {
            tracing::warn!(%error, holder = %self.attachment, "DEL is answered with success; this node noted a debt and frees the address when the API server is back");
            return Ok(());
        }
        Err(Failure::Owed { failure: Box::new(error), unnoted: noted.err() })
    }
}

/// Releases everything that an attachment holds; may be repeated.
///
/// # Errors
/// Something may still be held.
pub fn free(
    store: &dyn Store,
    attachment: &Attachment,
    deadline: Deadline,
) -> Result<(), StoreError> {
    let Some(_lock) = store.lock_attachment(attachment, Access::Release, deadline)? else {
        return Ok(());
    };
    free_locked(store, attachment, &|_| false, &mut Vec::new(), deadline)
}

/// Does the same for a call that holds the attachment's lock, except for the records that it
/// `spares`. What was freed is added to `freed`, also if the rest fails.
pub(super) fn free_locked(
    store: &dyn Store,
    attachment: &Attachment,
    spares: Spares<'_>,
    freed: &mut Vec<Allocation>,
    deadline: Deadline,
) -> Result<(), StoreError> {
    let mut session = store.open(Access::Release, deadline)?;
    let mut holdings = session.holdings(attachment)?;
    holdings.held.retain(|allocation| {
        let is_spared = spares(&allocation.record);
        if is_spared {
            tracing::error!(address = %allocation.address, holder = %attachment, "another machine with this node name created the record; DEL skips it");
        }
        !is_spared
    });
    // From the last to the first, because the index is built upwards.
    for held in holdings.held.rchunks(session.at_once().max(1)) {
        session.release_all(held)?;
        freed.extend_from_slice(held);
        for allocation in held {
            tracing::debug!(address = %allocation.address, scope = %allocation.scope, node = %attachment.node, "freed");
        }
    }
    // A dangling entry holds nothing, so a failure to remove it is no reason to fail.
    if holdings.needs_cleanup
        && let Err(error) = session.clean_up(attachment)
    {
        tracing::warn!(%error, "a dangling entry stays until the next sweep");
    }
    for damaged in &holdings.damaged {
        // Its address stays taken, because it is unknown which one it is.
        tracing::error!(damaged = damaged.in_one_line(), "DEL leaves a record behind");
    }
    Ok(())
}
