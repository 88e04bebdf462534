//! Giving slices back. Only the node itself does it, because only its files tell that a slice is
//! empty.
//!
//! The mark CLOSING comes first, and then the second look. A call that claims an address writes its
//! record first, and then reads the marks. So either the second look finds the record and the slice
//! stays, or the call finds the mark and takes its record back.

use crate::ipam::Block;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::Changed;
use crate::store::kube::node_state::slices::{NotedSlice, SliceState};
use crate::store::kube::objects::ip_slice::{self, IpSlice};
use crate::store::slices::Keeps;
use std::collections::HashSet;
use std::time::Duration;

/// For how long a node keeps the last empty slice of a pool: pods that are replaced need one again.
pub(super) const KEPT: Duration = Duration::from_secs(600);

/// Returns whether no address of a block of a pool is held.
pub(crate) type IsEmpty<'a> = &'a dyn Fn(&str, &Block) -> Result<bool, StoreError>;

impl KubeStore {
    /// Gives back each empty slice, but the last one of a pool that may stay only after [`KEPT`].
    /// Finishes what a killed call began. Returns how many slices were given back.
    pub(crate) fn give_back_slices(
        &self,
        is_empty: IsEmpty<'_>,
        keeps: Keeps<'_>,
        deadline: &Deadline,
    ) -> Result<usize, StoreError> {
        if self.for_dead_node {
            return Ok(0);
        }
        self.make_complete(deadline)?;
        if self.state.slices()?.slices.is_empty() {
            return Ok(0);
        }
        let _lock = self.state.lock_slices(deadline)?;
        self.note_emptiness(is_empty, deadline)?;
        let now = self.now_since_boot();
        let mut given_back = 0;
        let mut kept = HashSet::new();
        let mut noted = self.state.slices()?.slices;
        // The slice that is empty for the shortest time is the one that is kept.
        noted.sort_by_key(|slice| std::cmp::Reverse(slice.empty_since));
        for slice in noted {
            let is_due = match (slice.state, slice.empty_since) {
                (SliceState::Closing, _) => true,
                (SliceState::Owned, Some(since)) => {
                    let is_old = KEPT <= Duration::from_millis(now.abs_diff(since));
                    let pool = &slice.object.spec.pool;
                    !kept.insert(pool.clone()) || is_old || !keeps(pool)
                }
                (SliceState::Lost, Some(_)) => {
                    let uid = slice.object.metadata.uid.as_deref();
                    self.state.note_given_back(uid, deadline)?;
                    self.remove_own_released(&slice, deadline)?;
                    self.state.forget_slice(slice.name(), deadline)?;
                    false
                }
                _ => false,
            };
            if is_due && self.give_back(slice, is_empty, deadline)? {
                given_back += 1;
            }
        }
        Ok(given_back)
    }

    /// Removes the object of an empty slice that was released although this node was only cut off:
    /// nobody else could tell before the next boot that it is not used.
    fn remove_own_released(
        &self,
        slice: &NotedSlice,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let found: Option<IpSlice> =
            self.api.get_object(ip_slice::PLURAL, slice.name(), deadline)?;
        let is_own = |found: &IpSlice| {
            found.metadata.uid == slice.object.metadata.uid
                && found.spec.boot_id == self.host.boot_id
                && found.spec.released.is_some()
        };
        if let Some(version) = found.filter(is_own).and_then(|found| found.version()) {
            // After a change in the meantime, an operator removes it.
            self.api.delete_object(ip_slice::PLURAL, slice.name(), &version, deadline)?;
        }
        Ok(())
    }

    /// Notes which slices are empty, and since when.
    fn note_emptiness(&self, is_empty: IsEmpty<'_>, deadline: &Deadline) -> Result<(), StoreError> {
        let mut empty = HashSet::new();
        for slice in self.state.slices()?.slices {
            if is_empty(&slice.object.spec.pool, &slice.object.block())? {
                empty.insert(slice.name().to_owned());
            }
        }
        let now = self.now_since_boot();
        self.state.change_slices(deadline, |noted| {
            for slice in &mut noted.slices {
                let since = slice.empty_since.filter(|since| *since <= now).unwrap_or(now);
                slice.empty_since = empty.contains(slice.name()).then_some(since);
            }
        })
    }

    /// Gives one slice back. Returns false if it is not empty any more.
    fn give_back(
        &self,
        slice: NotedSlice,
        is_empty: IsEmpty<'_>,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let was_closing = slice.state == SliceState::Closing;
        let closing = NotedSlice { state: SliceState::Closing, ..slice };
        self.state.note_slice(&closing, deadline)?;
        let (pool, name) = (&closing.object.spec.pool, closing.name());
        let uid = closing.object.metadata.uid.as_deref();
        if !is_empty(pool, &closing.object.block())? {
            let mut owned =
                NotedSlice { state: SliceState::Owned, empty_since: None, ..closing.clone() };
            // An earlier attempt may have removed the object, so the slice is used only after the
            // API server has confirmed it, as in another boot.
            if was_closing {
                self.state.forget_given_back(uid, deadline)?;
                owned.object.spec.boot_id.clear();
            }
            self.state.note_slice(&owned, deadline)?;
            return Ok(false);
        }
        // An older state of the cluster has the object again: see `restored`.
        self.state.note_given_back(uid, deadline)?;
        let mut version = closing.object.version();
        while let Some(known) = version.take() {
            match self.api.delete_object(ip_slice::PLURAL, name, &known, deadline)? {
                Changed::Done(()) | Changed::Absent { .. } => break,
                // The boot was written, or the object is another one.
                Changed::Conflict => {
                    let found: Option<IpSlice> =
                        self.api.get_object(ip_slice::PLURAL, name, deadline)?;
                    version = found
                        .and_then(|found| found.version())
                        .filter(|found| found.uid == known.uid);
                    if version.is_some() && deadline.left().is_zero() {
                        let reason = format!("{name} changed before each attempt");
                        return Err(self.api.contended(
                            "delete",
                            ip_slice::PLURAL,
                            &reason,
                            deadline,
                        ));
                    }
                }
            }
        }
        self.state.forget_slice(name, deadline)?;
        Ok(true)
    }

    /// Returns the time since the boot in milliseconds.
    pub(super) fn now_since_boot(&self) -> i64 {
        i64::try_from(self.state.disk().since_boot().as_millis()).unwrap_or(i64::MAX)
    }
}
