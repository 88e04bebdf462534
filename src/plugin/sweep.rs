//! Finds the stale records of a node and frees them: for GC, which is given a list of valid
//! attachments, and for the command `sweep`, which is not.

use crate::ipam::{Allocation, Life, NetworkName, NodeName, Record};
use crate::retry::Deadline;
use crate::store::{Access, Filter, Listing, Release, Spared, Store, StoreError};

/// The records to find: those of this node whose sandboxes are not alive.
pub struct Sweep<'a> {
    /// This node. Records of other nodes are never touched.
    pub node: &'a NodeName,
    /// If set, only the records of this network.
    pub network: Option<&'a NetworkName>,
    /// Attachments that are valid, whatever the evidence shows.
    pub spared: Option<Spared>,
    /// Whether to find the records without freeing them.
    pub dry_run: bool,
    /// Returns whether a record's sandbox exists.
    pub is_alive: &'a dyn Fn(&Record) -> Life,
}

impl Sweep<'_> {
    /// Returns the stale records as they are read; a damaged record is an error item.
    ///
    /// # Errors
    /// The store cannot be read, or another machine acts for this node.
    pub fn find<'s>(
        &'s self,
        store: &'s dyn Store,
        deadline: Deadline,
    ) -> Result<Listing<'s>, StoreError> {
        // A caller that may not act for this node must not list for it either.
        drop(store.open(if self.dry_run { Access::Read } else { Access::Release }, deadline)?);
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
        Ok(Box::new(listing.filter(|item| {
            item.as_ref().map_or(true, |allocation| (self.is_alive)(&allocation.record).is_dead())
        })))
    }
}

/// Frees one stale record. Returns whether it was freed. It is not if it is gone or changed, or if
/// a call of its attachment is under way, because that call decides. Each record has a session of
/// its own, because a long sweep must not keep ADDs waiting. The record is read again under the
/// lock, because it may have been re-homed to itself.
///
/// # Errors
/// The record may still be held; a repeat is safe.
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
