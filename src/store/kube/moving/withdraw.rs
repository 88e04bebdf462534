//! Takes an address out of what Whereabouts sees: the reservation first, then the entries. The
//! IPAllocation ends last, so that every repeat goes on from it.

use super::calls::{Age, Changed, Place, Reservation};
use super::holder::{self, Holder};
use super::pools::{Pool, Pools};
use crate::addr::{Range, Subnet};
use crate::ipam::{Allocation, Attachment, Scope};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::whereabouts::names;
use crate::whereabouts::objects::{Entry, ReservationSpec};
use serde_json::{Value, json, value::RawValue};
use std::time::Duration;

/// How long a removal waits for a turn under the Lease, at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often an entry may change between the reading and the writing.
const ROUNDS: usize = 16;

impl KubeStore {
    /// Removes what a record has in Whereabouts' objects: what was written for it, and what
    /// Whereabouts itself wrote for its container and interface. Nothing else is touched. May be
    /// repeated. The caller has made sure that no other record has the object of this uid.
    ///
    /// # Errors
    /// Something may be left: the call may be repeated.
    pub fn withdraw(&self, held: &Allocation, deadline: &Deadline) -> Result<(), StoreError> {
        let holder = Holder::of(held)?;
        let is_near = |range: &Range| range.contains(held.address);
        let Some(pools) = self.pools_if_any(&held.scope, &is_near, deadline)? else {
            return Ok(());
        };
        let namespace = self.home(&pools, deadline)?;
        let ends = |value: &RawValue| holder.ends_with(value);
        let key = |pool: &Pool| pool.key(held.address)?.ok();
        let name = holder.reservation_name();
        if let Some(found) = self.api.reservation(&namespace, &name, deadline)?
            && (holder.ends_with_reservation(&found.spec, false)
                || holder.ends_with_reservation(&found.spec, true)
                    && self.has_entry_of_container(&pools, &holder, deadline)?)
        {
            self.api.remove_reservation(&found, deadline)?;
        }
        let mut left: Vec<(Pool, String)> = Vec::new();
        for pool in pools.pools {
            left.extend(key(&pool).map(|key| (pool, key)));
        }
        self.remove_entries(&namespace, left, holder.scope(), &ends, deadline)
    }

    /// Returns whether Whereabouts' entry for the record's container still stands in a pool that had it.
    ///
    /// A reservation of Whereabouts names no container. If the entry stands after the reservation was
    /// read, the reservation is that of this container. Before, the container may have ended since,
    /// and the reservation be that of another one of the same pod.
    pub(super) fn has_entry_of_container(
        &self,
        pools: &Pools,
        holder: &Holder<'_>,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let has_entry = |pool: &Pool| {
            let key = pool.key(holder.address()).and_then(Result::ok);
            let found = key.and_then(|key| pool.entries.get(&key));
            found.is_some_and(|found| holder.is_theirs_for_it(found))
        };
        for pool in pools.pools.iter().filter(|pool| has_entry(pool)) {
            let now = self.read_pool_of(&pool.place, holder.scope(), deadline)?;
            if now.is_some_and(|now| has_entry(&now)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the pools, or `None` if the resource is gone, and everything that stood there.
    fn pools_if_any(
        &self,
        scope: &Scope,
        wanted: &dyn Fn(&Range) -> bool,
        deadline: &Deadline,
    ) -> Result<Option<Pools>, StoreError> {
        match self.pools_with(Age::Now, scope, wanted, deadline) {
            Err(StoreError::NoResource { .. }) => Ok(None),
            pools => pools.map(Some),
        }
    }

    /// Removes what a record has in these pools.
    pub(super) fn remove_from(
        &self,
        namespace: &str,
        places: &[Place],
        holder: &Holder<'_>,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let mut left = Vec::new();
        for place in places {
            let Some(pool) = self.read_pool_of(place, holder.scope(), deadline)? else { continue };
            let key = pool.key(holder.address()).and_then(Result::ok);
            left.extend(key.map(|key| (pool, key)));
        }
        let ends = |value: &RawValue| holder.ends_with(value);
        self.remove_entries(namespace, left, holder.scope(), &ends, deadline)
    }

    /// Removes the entries with these keys for which `ends` holds.
    fn remove_entries(
        &self,
        namespace: &str,
        mut left: Vec<(Pool, String)>,
        scope: &str,
        ends: &dyn Fn(&RawValue) -> bool,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let mut turn = None;
        for _ in 0..ROUNDS {
            left.retain(|(pool, key)| pool.entries.get(key).is_some_and(|found| ends(found)));
            if left.is_empty() {
                return Ok(());
            }
            if turn.is_none() {
                let patience = Deadline::after(PATIENCE.min(deadline.left() / 3));
                turn = Some(self.turn(namespace, &patience));
            }
            let mut missed = Vec::new();
            for (pool, key) in left {
                let Some(found) = pool.entries.get(&key) else { continue };
                let value: Value = serde_json::from_str(found.get()).unwrap_or_default();
                let path = format!("/spec/allocations/{key}");
                let patch = json!([
                    {"op": "test", "path": path, "value": value},
                    {"op": "remove", "path": path},
                ]);
                if self.api.patch_pool(&pool.place, &patch, deadline)? == Changed::Not {
                    let now = self.read_pool_of(&pool.place, scope, deadline)?;
                    missed.extend(now.map(|pool| (pool, key)));
                }
            }
            left = missed;
        }
        let reason = "an entry in Whereabouts' pools changed before each attempt";
        Err(self.api.contended("patch", super::calls::POOLS, reason, deadline))
    }

    /// Removes what Whereabouts itself wrote for a container and its interface, as its own DEL does,
    /// from the pools of these ranges. For a DEL that finds no record.
    pub(crate) fn forget_container(
        &self,
        attachment: &Attachment,
        scope: &Scope,
        ranges: &[Subnet],
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let is_near =
            |range: &Range| ranges.iter().any(|one| one.whole().intersection(range).is_some());
        let Some(pools) = self.pools_if_any(scope, &is_near, deadline)? else { return Ok(()) };
        let namespace = self.home(&pools, deadline)?;
        let of_scope = scope.name().unwrap_or_default();
        let ends = |value: &RawValue| holder::is_theirs_for(value, attachment);
        let mut left = Vec::new();
        for Pool { place, text, range, entries } in pools.pools {
            for (key, value) in entries {
                if !ends(&value) {
                    continue;
                }
                let found = serde_json::from_str::<Entry>(value.get()).ok();
                if let (Ok(address), Some(found)) = (range.address(&key), found)
                    && let Some(reservation) =
                        self.reservation_of(&namespace, of_scope, address, &found, deadline)?
                {
                    // Only now it is known to be that of this container.
                    let now = self.read_pool_of(&place, of_scope, deadline)?;
                    if now.is_some_and(|now| now.entries.get(&key).is_some_and(|now| ends(now))) {
                        self.api.remove_reservation(&reservation, deadline)?;
                    }
                }
                let entries = [(key.clone(), value)].into_iter().collect();
                left.push((Pool { place: place.clone(), text: text.clone(), range, entries }, key));
            }
        }
        self.remove_entries(&namespace, left, of_scope, &ends, deadline)
    }

    /// Returns the reservation that Whereabouts wrote together with an entry, if it is there. It may be
    /// that of another container of the same pod, unless the entry stands.
    fn reservation_of(
        &self,
        namespace: &str,
        scope: &str,
        address: std::net::IpAddr,
        entry: &Entry,
        deadline: &Deadline,
    ) -> Result<Option<Reservation>, StoreError> {
        let name = names::reservation(scope, address);
        let found = self.api.reservation(namespace, &name, deadline)?;
        Ok(found.filter(|found| {
            let ReservationSpec { podref, containerid, ifname } = &found.spec;
            let is_absent_or = |value: &Option<String>, wanted: &str| {
                value.as_deref().is_none_or(|value| value.is_empty() || value == wanted)
            };
            podref.as_deref() == Some(&*entry.podref)
                && is_absent_or(containerid, &entry.id)
                && (entry.ifname.is_empty() || is_absent_or(ifname, &entry.ifname))
        }))
    }
}
