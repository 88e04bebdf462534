//! Whether a pod has ended under Whereabouts, as Whereabouts' objects say.

use super::calls::Age;
use super::holder::Holder;
use crate::addr::Range;
use crate::ipam::Allocation;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::objects::move_object::MoveState;
use crate::whereabouts::objects::Entry;
use serde_json::value::RawValue;

impl KubeStore {
    /// Returns whether Whereabouts' pools say that the container of an imported record has ended:
    /// a pool has the address, and no entry there is of the container. It may be of another one, which
    /// has got the address since: while the move is `shared`, nodes of hereabouts see that entry, and
    /// do not give the address.
    ///
    /// In any other state it returns false. Then an entry need not stand for a container that runs. With
    /// `is_given`, it returns false unless another container has an entry.
    ///
    /// # Errors
    /// The API server cannot be asked, or refuses.
    pub fn has_ended_under_whereabouts(
        &self,
        held: &Allocation,
        is_given: bool,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        if self.move_state(deadline)? != Some(MoveState::Shared) {
            return Ok(false);
        }
        let holder = Holder::of(held)?;
        let has_address = |range: &Range| range.contains(held.address);
        let pools = self.pools_with(Age::Now, &held.scope, &has_address, deadline)?.pools;
        // One that cannot be read may be of any container.
        let may_be_its = |found: &RawValue| {
            serde_json::from_str::<Entry>(found.get()).is_err() || holder.ends_with(found)
        };
        let keys: Vec<_> =
            pools.iter().filter_map(|pool| Some((pool, pool.key(held.address)?.ok()?))).collect();
        let mut entries = keys.iter().filter_map(|(pool, key)| pool.entries.get(key)).peekable();
        let has_entry = entries.peek().is_some();
        let stands = entries.any(|found| may_be_its(found));
        Ok(!keys.is_empty() && !stands && (has_entry || !is_given))
    }
}
