//! What is stale on a node, and freeing it: for GC, which is told who is
//! valid, and for the command `sweep`, which is not.

use crate::ipam::{Allocation, Life, NetworkName, NodeName, Record};
use crate::retry::Deadline;
use crate::store::{Access, Filter, Listing, Release, Spared, Store, StoreError};

/// What to look for: records of this node that are not alive.
pub struct Sweep<'a> {
    /// This node; another's records are never touched.
    pub node: &'a NodeName,
    /// Only of this network.
    pub network: Option<&'a NetworkName>,
    /// Attachments that are valid whatever is seen of them.
    pub spared: Option<Spared>,
    /// Whether to look alone.
    pub only_look: bool,
    /// Whether a record's sandbox is there.
    pub is_alive: &'a dyn Fn(&Record) -> Life,
}

impl Sweep<'_> {
    /// The stale records, as they are read; a damaged one is an error item.
    ///
    /// # Errors
    /// The store cannot be read, or another machine acts for this node.
    pub fn find<'s>(&'s self, store: &'s dyn Store, deadline: Deadline) -> Result<Listing<'s>, StoreError> {
        // Whoever may not act for this node shall not list for it either.
        drop(store.open(if self.only_look { Access::Read } else { Access::Release }, deadline)?);
        let filter = Filter {
            node: Some(self.node.clone()),
            earlier_names: true,
            network: self.network.cloned(),
            spared: self.spared.clone(),
            deadline: Some(deadline),
            ..Filter::default()
        };
        let listing = match store.list(&filter) {
            Err(StoreError::Absent { .. }) => return Ok(Box::new(std::iter::empty())),
            listing => listing?,
        };
        Ok(Box::new(listing.filter(|item| item.as_ref().map_or(true, |allocation| (self.is_alive)(&allocation.record).is_dead()))))
    }
}

/// Frees one stale record; whether it was still there, unchanged, and no call of
/// its attachment was under way: that call decides. A session for each, because
/// a long sweep must not keep ADDs waiting; the record is read again under the
/// lock, it may have been re-homed to itself.
///
/// # Errors
/// It may be held still; a repeat is safe.
pub fn free(store: &dyn Store, stale: &Allocation, deadline: Deadline) -> Result<bool, StoreError> {
    let Some(_lock) = store.try_lock_attachment(&stale.record.attachment)? else {
        return Ok(false);
    };
    let mut session = store.open(Access::Release, deadline)?;
    let freed = session.release_unchanged(stale)? == Release::Done;
    if freed {
        tracing::info!(address = %stale.address, holder = %stale.record.attachment, of = stale.record.pod.as_ref().map(display), "swept");
    }
    Ok(freed)
}
