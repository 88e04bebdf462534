//! Reads records for a command, and shortens long IDs.

use super::output;
use crate::ipam::Allocation;
use crate::store::{Filter, Listing, Store, StoreError};
use std::time::Duration;

/// The time for which a command waits for a lock.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the start of a container ID. IDs are long and differ early. `show` and JSON have the
/// whole ID.
pub(super) fn shortened(id: &str) -> String {
    match id.get(..20) {
        Some(head) if 24 < id.len() => format!("{head}..."),
        _ => id.to_owned(),
    }
}

/// Visits the records that the filter selects, while they are read. A record that cannot be read is
/// reported and counted. Any other failure ends the command. Returns the number of unreadable
/// records.
pub(super) fn each(
    store: &dyn Store,
    filter: &Filter,
    visit: &mut dyn FnMut(Allocation) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let mut unreadable = 0;
    for item in listing(store, filter)? {
        match item {
            Ok(allocation) => visit(allocation)?,
            Err(error) if error.is_of_one_record() => {
                unreadable += 1;
                output::warn(&error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(unreadable)
}

/// Returns the listing of the store. A store that does not exist yet holds nothing.
pub(super) fn listing<'s>(store: &'s dyn Store, filter: &Filter) -> anyhow::Result<Listing<'s>> {
    match store.list(filter) {
        Err(error @ StoreError::Absent { .. }) => {
            output::say_error(&error);
            Ok(Box::new(std::iter::empty()))
        }
        listing => Ok(listing?),
    }
}
