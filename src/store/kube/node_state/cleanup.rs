//! Removes what the node state no longer needs: the occupancy and the list lock of each scope in
//! which this node holds nothing any more, and the ended attachments in the index by pod. Each new
//! `network_name` leaves an occupancy and a lock.

use super::{SCOPES, State};
use crate::digest;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::disk::error::failed;
use crate::store::disk::{Locked, Patience};
use crate::store::kube::KubeStore;
use crate::store::kube::objects::names;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;

/// The name of the lock of a scope's list, before the scope's hash.
pub(crate) const LISTING: &str = "listing-";

impl KubeStore {
    /// Removes all of this and returns how many files were removed or changed. These files are
    /// hints: an ADD that uses the scope again tries addresses of other nodes once more.
    pub(crate) fn remove_unused(&self, deadline: &Deadline) -> Result<usize, StoreError> {
        if self.for_dead_node || !self.remembers()? {
            return Ok(0);
        }
        let mut held = HashSet::new();
        for hash in self.state.hashes()? {
            for object in self.state.objects(&hash).unwrap_or_default() {
                held.extend(
                    object.allocation().ok().map(|allocation| names::of_scope(&allocation.scope)),
                );
            }
        }
        let now = self.now();
        let is_unused = |hash: &str| {
            digest::is_short(hash)
                && !held.contains(hash)
                && self.state.occupancy_of(hash).is_idle(now)
        };
        Ok(self.state.remove_scopes(&is_unused)? + self.state.forget_ended(deadline)?)
    }
}

impl State {
    fn remove_scopes(&self, is_unused: &dyn Fn(&str) -> bool) -> Result<usize, StoreError> {
        let mut removed = 0;
        for hash in texts(self.names(SCOPES)?).filter(|hash| is_unused(hash)) {
            self.remove(&Path::new(SCOPES).join(hash))?;
            removed += 1;
        }
        let top = Path::new("");
        for name in
            texts(self.disk().names(top).map_err(|error| failed(self.disk(), "list", top, error))?)
        {
            if !name.strip_prefix(LISTING).is_some_and(is_unused) {
                continue;
            }
            // A process that waits for the lock checks whether the file that it has locked is still
            // at the path.
            let path = Path::new(&name);
            if let Ok(Locked::Held(_lock)) = self.disk().lock(path, Patience::Try) {
                self.disk()
                    .unlink(path)
                    .map_err(|error| failed(self.disk(), "remove", path, error))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn texts(names: Vec<OsString>) -> impl Iterator<Item = String> {
    names.into_iter().filter_map(|name| name.into_string().ok())
}
