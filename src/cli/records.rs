//! Reads records for a command, and shortens long IDs.

use super::output;
use crate::ipam::HeldAddress;
use crate::store::{Filter, HeldListing, Listing, Store, StoreError};
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

/// Visits the addresses that the filter selects, of both kinds of holder, while they are read. A
/// record that cannot be read is reported and counted. Any other failure ends the command. Returns the number of unreadable
/// records.
pub(super) fn each(
    store: &dyn Store,
    filter: &Filter,
    visit: &mut dyn FnMut(HeldAddress) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let mut unreadable = 0;
    for item in held(store, filter)? {
        match item {
            Ok(held) => visit(held)?,
            Err(error) if error.is_of_one_record() => {
                unreadable += 1;
                output::warn(&error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(unreadable)
}

/// Says that what was printed is not complete if the reading has failed. A node can read the
/// addresses in its slices while the API server is away.
pub(super) fn complete<T>(read: anyhow::Result<T>) -> anyhow::Result<T> {
    if read.is_err() {
        output::say("warning: this is not complete: it shows what was read before the error");
    }
    read
}

/// Returns the addresses of the store, of both kinds of holder. A store that does not exist yet
/// holds nothing.
pub(super) fn held<'s>(store: &'s dyn Store, filter: &Filter) -> anyhow::Result<HeldListing<'s>> {
    or_absent(store.list_held(filter))
}

/// Returns the attachments' records of the store. A store that does not exist yet holds nothing.
pub(super) fn listing<'s>(store: &'s dyn Store, filter: &Filter) -> anyhow::Result<Listing<'s>> {
    or_absent(store.list(filter))
}

type Items<'s, T> = Box<dyn Iterator<Item = Result<T, StoreError>> + 's>;

fn or_absent<'s, T: 's>(listing: Result<Items<'s, T>, StoreError>) -> anyhow::Result<Items<'s, T>> {
    match listing {
        Err(error @ StoreError::Absent { .. }) => {
            output::say_error(&error);
            Ok(Box::new(std::iter::empty()))
        }
        listing => Ok(listing?),
    }
}
