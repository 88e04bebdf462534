//! CHECK: checks that what ADD gave is still recorded, and that prevResult says the same. It looks
//! only at its own addresses: prevResult may hold those of other plugins, and routes that Multus
//! rewrote.

use super::Ipam;
use super::failure::Failure;
use crate::cni::{Call, Ip, Sandbox};
use crate::config::Merged;
use crate::ipam::Allocation;
use crate::retry::Deadline;
use crate::store::Access;

pub(super) fn check(
    ipam: &Ipam<'_>,
    call: &Call,
    sandbox: &Sandbox,
    previous: &[Ip],
) -> Result<(), Failure> {
    let flat = ipam.flat_file(call)?;
    let merged = Merged::new(&call.configuration, flat.as_ref())?;
    let ready = ipam.ready(call, &merged, flat.as_ref())?;
    let attachment = ready.attachment(call, sandbox);
    let session = ready.store.open(Access::Read, Deadline::after(ready.settings.deadlines.add))?;
    let holdings = session.holdings(&attachment)?;
    if let Some(damaged) = holdings.damaged.into_iter().next() {
        return Err(damaged.into());
    }
    let expected = holdings.held.iter().map(|allocation| allocation.record.part.of).max();
    let found = holdings.held.len();
    if expected.is_none_or(|of| found < usize::from(of)) {
        let expected = expected.map_or_else(|| "one or more".to_owned(), |of| of.to_string());
        return Err(Failure::NotRecorded { expected, found, attachment: attachment.to_string() });
    }
    holdings.held.iter().for_each(|allocation| ipam.report.names(allocation));
    holdings.held.iter().try_for_each(|allocation| compare(allocation, previous))?;
    drop(session);
    ready.answered();
    Ok(())
}

fn compare(allocation: &Allocation, previous: &[Ip]) -> Result<(), Failure> {
    let recorded = format!("{}/{}", allocation.address, allocation.record.prefix);
    let Some(ip) = previous
        .iter()
        .find(|ip| ip.address == allocation.address && ip.prefix == allocation.record.prefix)
    else {
        let list: Vec<String> =
            previous.iter().map(|ip| format!("{}/{}", ip.address, ip.prefix)).collect();
        let previous = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        return Err(Failure::Differs { recorded, previous });
    };
    match (allocation.record.gateway, ip.gateway) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(Failure::Differs {
            recorded: format!("{recorded} with gateway {ours}"),
            previous: format!("{recorded} with gateway {theirs}"),
        }),
        _ => Ok(()),
    }
}
