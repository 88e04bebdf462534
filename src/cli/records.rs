//! Reading records for a command, and showing what is long in them.

use super::output;
use crate::ipam::Allocation;
use crate::store::{Filter, Listing, Store, StoreError};
use std::time::Duration;

/// How long a command waits for a lock.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Container ids are long and tell themselves apart early; `show` and JSON
/// have the whole.
pub(super) fn shortened(id: &str) -> String {
    match id.get(..20) {
        Some(head) if 24 < id.len() => format!("{head}..."),
        _ => id.to_owned(),
    }
}

/// Visits what the filter means, as it is read. A record that cannot be read is
/// said, and counted; what keeps the others from being read is an error.
pub(super) fn each(store: &dyn Store, filter: &Filter, visit: &mut dyn FnMut(Allocation) -> anyhow::Result<()>) -> anyhow::Result<usize> {
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

/// The store's listing; a store that is not there yet holds nothing.
pub(super) fn listing<'s>(store: &'s dyn Store, filter: &Filter) -> anyhow::Result<Listing<'s>> {
    match store.list(filter) {
        Err(error @ StoreError::Absent { .. }) => {
            output::say_error(&error);
            Ok(Box::new(std::iter::empty()))
        }
        listing => Ok(listing?),
    }
}
