//! Refuses to create a store inside another store or node state, or around one of them. A nested
//! store that already exists stops no verb.

use super::FileStore;
use crate::store::StoreError;
use crate::store::disk::Disk;

impl<D: Disk> FileStore<D> {
    /// Checks that the directory is not nested.
    ///
    /// # Errors
    /// [`StoreError::Foreign`], with what is in the way.
    pub(super) fn check_not_nested(&self) -> Result<(), StoreError> {
        let own = self.terms.as_ref().map(|terms| &*terms.own).unwrap_or_default();
        match self.disk.nested(own) {
            Some(found) => Err(StoreError::Foreign { path: self.disk.root().to_owned(), found }),
            None => Ok(()),
        }
    }
}
