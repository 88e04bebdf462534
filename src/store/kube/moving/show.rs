//! Makes an address visible to Whereabouts: an entry in each pool that has it, then the reservation.
//!
//! ```text
//! read the pools . whose are the entries there? . under the Lease: patch each pool, with the old
//! value as a condition . create the reservation . read the names of the pools again
//! ```
//!
//! It may be repeated, and goes on where it ended. Nobody prints an address before it is done.

use super::calls::{Age, Changed, Place};
use super::holder::{Holder, Shown, Whose};
use super::pools::{Pool, Pools};
use crate::ipam::Allocation;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::objects::ip_allocation::PLURAL;
use crate::store::kube::objects::names;
use crate::store::kube::{KubeStore, api};
use serde_json::{Value, json};
use std::time::Duration;

/// How an address is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Showing {
    /// Whereabouts sees it as this record's.
    Done,
    /// Somebody else has it in Whereabouts' objects, in words. What this record has there stays: see
    /// [`KubeStore::withdraw`].
    Taken(String),
}

/// How long a call waits for a turn under the Lease, at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an entry may change between the reading and the writing.
const ROUNDS: usize = 16;

/// A change of one pool.
struct Change<'p> {
    pool: &'p Pool,
    key: String,
    /// The entry that it replaces.
    old: Value,
}

/// What the pools say about an address.
enum Seen<'p> {
    /// The pools that lack the entry, or have another form of it. The second value is whether
    /// Whereabouts wrote one of the entries for this very container.
    Lacking(Vec<Change<'p>>, bool),
    Taken(String),
}

impl KubeStore {
    /// Makes an address visible to Whereabouts as this record's. May be repeated.
    ///
    /// # Errors
    /// It may be visible in part: the call may be repeated, and [`Self::withdraw`] takes it back.
    pub fn show(
        &self,
        held: &Allocation,
        shown: Shown,
        deadline: &Deadline,
    ) -> Result<Showing, StoreError> {
        let address = held.address;
        let is_near = |range: &crate::addr::Range| range.contains(address);
        let pools = self.pools_with(Age::Cached, &held.scope, &is_near, deadline)?;
        self.show_in(pools, held, shown, deadline)
    }

    /// Makes an address visible only while the record exists, for who is not its node: a DEL may have
    /// looked before the entry was there, and remove the record afterwards. So the object gets another
    /// version: that DEL reads it again, and looks again. Returns `None` if the record has ended. May be
    /// repeated.
    ///
    /// # Errors
    /// Those of [`Self::show`].
    pub fn show_while_held(
        &self,
        held: &Allocation,
        shown: Shown,
        deadline: &Deadline,
    ) -> Result<Option<Showing>, StoreError> {
        if let taken @ Showing::Taken(_) = self.show(held, shown, deadline)? {
            return Ok(Some(taken));
        }
        let name = names::object(&held.scope, held.address);
        let mut version = held.version.clone().ok_or(StoreError::Changed)?;
        for _ in 0..ROUNDS {
            match self.api.touch(&name, &version, deadline)? {
                api::Changed::Done(_) => return Ok(Some(Showing::Done)),
                api::Changed::Absent { .. } => {}
                api::Changed::Conflict => {
                    let now = self.api.get_of_attachment(&name, deadline)?;
                    let now = now.and_then(|now| now.allocation().ok()?.version);
                    if let Some(now) = now.filter(|now| now.uid == version.uid) {
                        version = now;
                        continue;
                    }
                }
            }
            self.withdraw(held, deadline)?;
            return Ok(None);
        }
        let reason = format!("{name} changed before each attempt");
        Err(self.api.contended("patch", PLURAL, &reason, deadline))
    }

    /// Does what [`Self::show`] does with pools that were read before. Each change has the entry as a condition that
    /// was read.
    pub(super) fn show_in(
        &self,
        mut pools: Pools,
        held: &Allocation,
        shown: Shown,
        deadline: &Deadline,
    ) -> Result<Showing, StoreError> {
        let holder = Holder::of(held)?;
        let is_near = |range: &crate::addr::Range| range.contains(held.address);
        let others = pools_of_others(&pools, &holder, shown);
        for round in 0..ROUNDS {
            if 0 < round && deadline.left().is_zero() {
                break;
            }
            let (mut changes, of_container) = match self.see(&pools, &holder, shown, deadline)? {
                Seen::Lacking(changes, of_container) => (changes, of_container),
                Seen::Taken(who) => return Ok(Showing::Taken(who)),
            };
            changes.retain(|change| !others.contains(&change.pool.place));
            let namespace = self.home(&pools, deadline)?;
            // While the entry names the container, the reservation is known to be its own.
            if of_container
                && let Some(who) =
                    self.reserve(&namespace, &holder, shown, Some(&pools), deadline)?
            {
                return Ok(Showing::Taken(who));
            }
            let missed = self.write(&namespace, &changes, &holder, shown, deadline)?;
            if !missed.is_empty() {
                for place in missed {
                    let pool = self.read_pool_of(&place, holder.scope(), deadline)?;
                    pools.pools.retain(|pool| pool.place != place);
                    pools.pools.extend(pool);
                }
                continue;
            }
            if !of_container
                && let Some(who) = self.reserve(&namespace, &holder, shown, None, deadline)?
            {
                return Ok(Showing::Taken(who));
            }
            pools.pools.clear();
            if !self.add_new_pools(&mut pools, &held.scope, &is_near, deadline)? {
                self.remove_from(&namespace, &others, &holder, deadline)?;
                return Ok(Showing::Done);
            }
        }
        let reason = format!(
            "the entry of {} in Whereabouts' pools changed before each attempt",
            held.address
        );
        Err(self.api.contended("patch", super::calls::POOLS, &reason, deadline))
    }

    /// Compares the pools with what is wanted.
    fn see<'p>(
        &self,
        pools: &'p Pools,
        holder: &Holder<'_>,
        shown: Shown,
        deadline: &Deadline,
    ) -> Result<Seen<'p>, StoreError> {
        let wanted = holder.entry(shown);
        let (mut changes, mut of_container, mut is_checked) = (Vec::new(), false, false);
        for pool in &pools.pools {
            let key = match pool.key(holder.address()) {
                None => continue,
                Some(Ok(key)) => key,
                Some(Err(why)) => return Err(unshowable(holder, pool, &why.to_string())),
            };
            let found = pool.entries.get(&key);
            match found.map(|found| holder.of_entry(found, &wanted)) {
                None => changes.push(Change { pool, key, old: Value::Null }),
                Some(Whose::Right) => of_container |= shown == Shown::AsWhereabouts,
                Some(Whose::Other(who)) => return Ok(Seen::Taken(who)),
                Some(whose) => {
                    of_container |= whose == Whose::OfContainer;
                    if whose == Whose::Ours && !is_checked {
                        self.check_current(holder, deadline)?;
                        is_checked = true;
                    }
                    let old = found.and_then(|found| serde_json::from_str(found.get()).ok());
                    changes.push(Change { pool, key, old: old.unwrap_or_default() });
                }
            }
        }
        Ok(Seen::Lacking(changes, of_container))
    }

    /// Checks that the record's object is the one of its name. Entries of ours at this address are
    /// then its own, or remains of an earlier one.
    fn check_current(&self, holder: &Holder<'_>, deadline: &Deadline) -> Result<(), StoreError> {
        let name = names::object(&holder.held().scope, holder.address());
        let now = self.api.get_of_attachment(&name, deadline)?;
        let is_current = now.is_some_and(|now| now.metadata.uid.as_deref() == Some(holder.uid()));
        if is_current { Ok(()) } else { Err(StoreError::Changed) }
    }

    /// Writes the entries, in a turn. Returns the pools in which something else stood.
    fn write(
        &self,
        namespace: &str,
        changes: &[Change<'_>],
        holder: &Holder<'_>,
        shown: Shown,
        deadline: &Deadline,
    ) -> Result<Vec<Place>, StoreError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let entry = json!(holder.entry(shown));
        let turn = self.turn(namespace, &Deadline::after(PATIENCE.min(deadline.left() / 3)));
        let mut missed = Vec::new();
        for Change { pool, key, old } in changes {
            let path = format!("/spec/allocations/{key}");
            // An absent key is a null for a `test`, and an `add` replaces what is there.
            let patch = json!([
                {"op": "test", "path": "/spec/range", "value": pool.text},
                {"op": "test", "path": path, "value": old},
                {"op": "add", "path": path, "value": entry},
            ]);
            if self.api.patch_pool(&pool.place, &patch, deadline)? != Changed::Done {
                missed.push(pool.place.clone());
            }
        }
        drop(turn);
        Ok(missed)
    }

    /// Creates the reservation, or gives it the wanted form. Returns who else has it, in words. `pools`
    /// are those that have Whereabouts' entry for this container.
    fn reserve(
        &self,
        namespace: &str,
        holder: &Holder<'_>,
        shown: Shown,
        pools: Option<&Pools>,
        deadline: &Deadline,
    ) -> Result<Option<String>, StoreError> {
        let (name, wanted) = (holder.reservation_name(), holder.reservation(shown));
        for _ in 0..ROUNDS {
            match self.api.reserve(namespace, &name, &wanted, deadline) {
                Ok(true) => return Ok(None),
                Ok(false) => {}
                // Old versions of Whereabouts have no reservations.
                Err(StoreError::NoResource { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
            let Some(found) = self.api.reservation(namespace, &name, deadline)? else { continue };
            let whose = |has_entry| holder.of_reservation(&found.spec, &wanted, has_entry);
            let of_container = match pools.filter(|_| whose(true) == Whose::OfContainer) {
                Some(pools) => self.has_entry_of_container(pools, holder, deadline)?,
                None => false,
            };
            match whose(of_container) {
                Whose::Right => return Ok(None),
                Whose::Other(who) => return Ok(Some(format!("{who}, by a reservation"))),
                Whose::Ours => self.check_current(holder, deadline)?,
                Whose::OfContainer => {}
            }
            self.api.remove_reservation(&found, deadline)?;
        }
        let reason = format!("{name} changed before each attempt");
        Err(self.api.contended("create", super::calls::RESERVATIONS, &reason, deadline))
    }
}

/// Returns the pools that Whereabouts would not have put the address into, though their ranges have it:
/// those of other networks. Its DEL looks only at the pool of the pod's own network, and the
/// reservation keeps the address from the others. Empty if no pool is of the own network.
fn pools_of_others(pools: &Pools, holder: &Holder<'_>, shown: Shown) -> Vec<Place> {
    let near = pools.pools.iter().filter(|pool| pool.range.contains(holder.address()));
    let (own, others): (Vec<&Pool>, Vec<&Pool>) =
        near.partition(|pool| pool.range.length() == holder.prefix());
    if shown == Shown::Guarded || own.is_empty() {
        return Vec::new();
    }
    others.into_iter().map(|pool| pool.place.clone()).collect()
}

fn unshowable(holder: &Holder<'_>, pool: &Pool, why: &str) -> StoreError {
    StoreError::Unshowable {
        what: format!("the address {}", holder.address()),
        reason: format!("the IPPool {} of Whereabouts cannot note it: {why}", pool.place),
    }
}
