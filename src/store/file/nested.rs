//! A store is not made where it would lie in another one, in node state, or around
//! them. What stands there already stops no verb.

use super::FileStore;
use crate::store::StoreError;
use crate::store::disk::Disk;

impl<D: Disk> FileStore<D> {
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
