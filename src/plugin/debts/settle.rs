//! Settles debts, under the lock of their attachment.
//!
//! Why settling a debt never frees what a living sandbox was given:
//!
//! - A record is freed if its own evidence shows that its sandbox is gone. `sweep` frees the same
//!   records, whichever call made them, at whatever time.
//! - Otherwise it is freed only if the runtime was told that the attachment has ended, the DEL had
//!   the attachment's lock, and the record is the very one that the DEL saw. Every ADD of the
//!   attachment takes that lock, and it has settled or removed the debt before it answers. So a
//!   debt that is found under the lock is younger than each answer that was given for the
//!   attachment. A killed ADD has answered nothing. A creation that was on its way to the API
//!   server when the debt was written is not a record that the DEL saw.
//! - A change between the read and the removal is noticed: a removal names exactly the state that
//!   was read (`release_unchanged`).

use super::{Answer, Debt, Debts, Place, is_debt, is_own};
use crate::config::{Settings, StoreSettings};
use crate::ipam::{Allocation, Attachment, NodeName, Record};
use crate::plugin::recently_freed::Freed;
use crate::plugin::{Ready, del};
use crate::retry::Deadline;
use crate::small_file::error_text;
use crate::store::file::record_to_json;
use crate::store::{Access, Release, Store, StoreError};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A function that returns whether the sandbox of a record is shown to be gone.
pub type IsDead<'a> = &'a dyn Fn(&Record) -> bool;

/// A function that opens the store that settings name.
pub type Open<'a> = &'a dyn Fn(&Settings) -> Result<Box<dyn Store>, StoreError>;

/// The maximum number of debts that a call examines.
const MOST_OF_A_CALL: usize = 32;
/// The time for one debt, when no caller waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The time to wait for another call of the debt's attachment.
const LOCK: Duration = Duration::from_millis(200);

/// The result for one debt.
#[derive(Debug)]
pub enum Settlement {
    /// Nothing is owed any more.
    Done,
    /// The sandbox may exist, or a call of it is under way.
    NotYet,
    /// The store is away, or it refuses.
    Failed(String),
}

/// What is needed to settle the debts of a node, for any caller.
pub struct Settler<'a> {
    /// The node. Debts of other nodes are not touched.
    pub node: &'a NodeName,
    /// If set, only the debts in this store.
    pub only: Option<Place>,
    /// Opens the store of a debt.
    pub open: Open<'a>,
    /// Returns whether the sandbox of a record is shown to be gone.
    pub is_dead: IsDead<'a>,
    /// The notes of what was freed, for the pods that had it.
    pub freed: Option<&'a Freed>,
}

/// How one debt is examined.
struct Visit<'a> {
    node: &'a NodeName,
    store: &'a dyn Store,
    is_dead: IsDead<'a>,
    freed: Option<&'a Freed>,
    /// Whether to wait for the attachment's lock.
    waits: bool,
    /// Whether to read the store even if the sandbox may exist.
    reads_store: bool,
}

impl Debt {
    /// Returns whether a record may be freed for this debt.
    fn is_due(&self, current: &Allocation, is_dead: IsDead<'_>) -> bool {
        is_dead(&current.record) || self.has_ended(current)
    }

    /// Returns whether the runtime was told that the attachment which held this very record has
    /// ended.
    pub(super) fn has_ended(&self, current: &Allocation) -> bool {
        let is_told =
            self.answered == Answer::Success && self.exclusive && current.version.is_some();
        is_told && self.held.iter().flatten().any(|known| is_same(known, current))
    }

    /// Returns whether the store must be read, because something may be due.
    fn may_be_due(&self, is_dead: IsDead<'_>) -> bool {
        match &self.held {
            Some(known) => known.iter().any(|known| self.is_due(known, is_dead)),
            // The sandbox that the DEL saw is the one that its records name.
            None => self.seen.netns.is_none() || is_dead(&self.seen),
        }
    }
}

/// Returns whether both are exactly the same state of a record, as a store writes it.
fn is_same(one: &Allocation, other: &Allocation) -> bool {
    let text = |allocation| record_to_json(allocation).ok();
    one.version == other.version && text(one).is_some_and(|one| Some(one) == text(other))
}

/// Frees what is due. The caller holds the attachment's lock. Returns whether nothing is owed any
/// more.
pub(super) fn settle(
    store: &dyn Store,
    debt: &Debt,
    is_dead: IsDead<'_>,
    freed: Option<&Freed>,
    deadline: Deadline,
) -> Result<bool, StoreError> {
    // The records as they are in the store, not as this node remembers them.
    let current = store.open(Access::Read, deadline)?.holdings(&debt.attachment)?;
    let mut all = true;
    for allocation in current.held.iter().rev() {
        let is_free = debt.is_due(allocation, is_dead) && free(store, allocation, freed, deadline)?;
        all &= is_free;
    }
    // A record that this node has forgotten in the meantime may still exist.
    let is_there = |known: &Allocation| {
        current.held.iter().any(|held| held.scope == known.scope && held.address == known.address)
    };
    for known in debt.held.iter().flatten().filter(|known| !is_there(known)) {
        if debt.is_due(known, is_dead) {
            free(store, known, freed, deadline)?;
        }
    }
    // No record is left. What remains is cleaned up as in every DEL.
    if all {
        del::free_locked(store, &debt.attachment, &|_| false, &mut Vec::new(), deadline)?;
    }
    Ok(all)
}

fn free(
    store: &dyn Store,
    allocation: &Allocation,
    noted: Option<&Freed>,
    deadline: Deadline,
) -> Result<bool, StoreError> {
    let freed =
        store.open(Access::Release, deadline)?.release_unchanged(allocation)? == Release::Done;
    if freed {
        let held = &allocation.record;
        tracing::info!(address = %allocation.address, holder = %held.attachment, of = held.pod.as_ref().map(display), "freed for a debt");
        if let Some(noted) = noted {
            noted.note(allocation);
        }
    }
    Ok(freed)
}

impl Debts {
    /// Settles one debt of a store, unless a call of its attachment is under way.
    fn settle_named(&self, name: &Path, visit: &Visit<'_>, deadline: Deadline) -> Settlement {
        let Visit { node, store, is_dead, freed, waits, reads_store } = *visit;
        let due = |found: &Debt| is_own(found, node) && (reads_store || found.may_be_due(is_dead));
        let Some((debt, _)) = self.read(name).ok().flatten().filter(|(debt, _)| due(debt)) else {
            return Settlement::NotYet;
        };
        let lock = match waits {
            true => store.lock_attachment(&debt.attachment, Access::Release, Deadline::after(LOCK)),
            false => store.try_lock_attachment(&debt.attachment),
        };
        let settled: Result<Settlement, StoreError> = lock.and_then(|lock| {
            let Some(_lock) = lock else { return Ok(Settlement::NotYet) };
            // Another call may have settled the debt while this one waited.
            let Some((debt, inode)) = self.read(name).ok().flatten() else {
                return Ok(Settlement::Done);
            };
            if !settle(store, &debt, is_dead, freed, deadline)? {
                return Ok(Settlement::NotYet);
            }
            if let Err(error) = self.remove(name, inode) {
                tracing::warn!(error = %error_text(&error), "cannot remove a settled debt");
            }
            Ok(Settlement::Done)
        });
        match settled {
            Ok(settled) => settled,
            Err(StoreError::AttachmentBusy { .. }) => Settlement::NotYet,
            Err(error) => Settlement::Failed(error.to_string()),
        }
    }

    /// Returns the names of the debts in the store that a call has just used. Another store may
    /// hang.
    pub(in crate::plugin) fn of_store(&self, settings: &StoreSettings) -> Vec<PathBuf> {
        let names = self.names().unwrap_or_default();
        if names.is_empty() {
            return names;
        }
        let key = Place::of(settings).key();
        let is_of_store = |name: &PathBuf| {
            is_debt(name) && name.to_str().is_some_and(|name| name.ends_with(&key))
        };
        names.into_iter().filter(is_of_store).collect()
    }

    /// Settles these debts, as far as they can be settled at once.
    pub(in crate::plugin) fn settle_after(
        &self,
        ready: &Ready,
        mut names: Vec<PathBuf>,
        deadline: Deadline,
    ) {
        rotate(&mut names);
        let freed = ready.freed();
        for name in names.iter().take(MOST_OF_A_CALL) {
            if deadline.left().is_zero() {
                return;
            }
            let is_dead = |held: &Record| ready.life(held).is_dead();
            let visit = Visit {
                node: &ready.node,
                store: ready.store.as_ref(),
                is_dead: &is_dead,
                freed: Some(&freed),
                waits: false,
                reads_store: false,
            };
            if let Settlement::Failed(reason) = self.settle_named(name, &visit, deadline) {
                tracing::debug!(reason, "a debt could not be settled");
                return;
            }
        }
    }

    /// Settles the debt of an attachment after some of its addresses were freed by other means.
    pub fn settle_of(
        &self,
        attachment: &Attachment,
        settings: &StoreSettings,
        store: &dyn Store,
        is_dead: IsDead<'_>,
        deadline: Deadline,
    ) {
        if self.are_there() {
            let visit = Visit {
                node: &attachment.node,
                store,
                is_dead,
                freed: None,
                waits: false,
                reads_store: true,
            };
            self.settle_named(&super::name_of(attachment, &Place::of(settings)), &visit, deadline);
        }
    }

    /// Settles everything that this node owes and that can be settled. `report` is called for each
    /// debt. A store that fails is not asked again.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn settle_all(
        &self,
        settler: &Settler<'_>,
        report: &mut dyn FnMut(&Debt, Settlement),
    ) -> std::io::Result<()> {
        let mut found: Vec<Debt> =
            self.list()?.into_iter().filter_map(|found| found.debt.ok()).collect();
        found.retain(|debt| {
            is_own(debt, settler.node)
                && settler.only.as_ref().is_none_or(|only| only.is(&debt.store))
        });
        // A store that hangs keeps the others waiting once, not each time.
        rotate(&mut found);
        let mut away: Vec<(Place, String)> = Vec::new();
        for debt in found {
            let known = away
                .iter()
                .find(|(place, _)| place.is(&debt.store))
                .map(|(_, reason)| Settlement::Failed(reason.clone()));
            let settled = known.unwrap_or_else(|| self.settle_in_its_store(&debt, settler));
            if let Settlement::Failed(reason) = &settled {
                away.push((debt.store.clone(), reason.clone()));
            }
            report(&debt, settled);
        }
        Ok(())
    }

    fn settle_in_its_store(&self, debt: &Debt, settler: &Settler<'_>) -> Settlement {
        if !debt.may_be_due(settler.is_dead) {
            return Settlement::NotYet;
        }
        let settings = match debt.store.settings() {
            Ok(settings) => settings,
            Err(error) => return Settlement::Failed(error.to_string()),
        };
        match (settler.open)(&settings) {
            Ok(store) => {
                let name = super::name_of(&debt.attachment, &debt.store);
                let Settler { node, is_dead, freed, .. } = *settler;
                let visit = Visit {
                    node,
                    store: store.as_ref(),
                    is_dead,
                    freed,
                    waits: true,
                    reads_store: false,
                };
                self.settle_named(&name, &visit, Deadline::after(PATIENCE))
            }
            Err(error) => Settlement::Failed(error.to_string()),
        }
    }
}

/// Begins at another place each time, so that no debt is always behind the others.
fn rotate<T>(all: &mut [T]) {
    let drawn = RandomState::new().hash_one(all.len());
    let count = u64::try_from(all.len()).unwrap_or(1).max(1);
    all.rotate_left(usize::try_from(drawn % count).unwrap_or(0));
}
