//! Tombstones: intents whose object did not exist when their attachment ended, and intents that
//! were sent more than once.
//!
//! A creation may still be under way, in a proxy or in the server's queue, when its ADD has given
//! up and a DEL has found nothing. It may also be under way when a second attempt has created the
//! object and a DEL has removed it. The same is true of a re-homing. The next calls of this node
//! delete such a late object: they check its name until the server would have given the request up.

use super::Tombstone;
use crate::ipam::{Allocation, Attachment, Version};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::objects::ip_allocation::IpAllocation;
use crate::store::kube::objects::names;
use crate::store::kube::session::KubeSession;
use std::time::{Duration, UNIX_EPOCH};

/// The time after which the API server gives up a request (`--request-timeout`). An object that
/// does not exist by then will not be created.
const LATEST: Duration = Duration::from_secs(60);
/// The shortest time between two checks of a tombstone, and the longest time of one round of
/// checks.
const CHECK_EVERY: Duration = Duration::from_secs(5);
const CHECK: Duration = Duration::from_secs(2);

impl KubeSession<'_> {
    /// Turns the intents of an attachment that ends into tombstones, if their objects are missing.
    pub(crate) fn put_tombstones(&self, attachment: &Attachment) -> Result<(), StoreError> {
        let hash = names::of_attachment(attachment);
        for object in self.lost.take() {
            // An object that the server had confirmed is gone for good. A creation or a re-homing
            // may still be under way.
            if object.metadata.resource_version.is_none() {
                self.put_tombstone(&object, None)?;
            }
            self.store.state.drop_object(&hash, &object.metadata.name)?;
        }
        Ok(())
    }

    /// Leaves a tombstone for an intent that was sent more than once. One attempt created the
    /// object of this uid, or another attachment holds the name; the other attempts may be under
    /// way. The address is given in any case, so this cannot fail.
    pub(crate) fn track_duplicate_create(&self, intent: &IpAllocation, made: Option<&str>) {
        if let Err(error) = self.put_tombstone(intent, made) {
            tracing::warn!(%error, "cannot note a request that may arrive late");
        }
    }

    fn put_tombstone(&self, intent: &IpAllocation, made: Option<&str>) -> Result<(), StoreError> {
        let now = self.milliseconds();
        let tombstone = Tombstone {
            since: now,
            looked: now,
            object: intent.clone(),
            made: made.map(str::to_owned),
        };
        self.store.state.change_tombstones(&self.deadline, |tombstones| tombstones.push(tombstone))
    }

    /// Returns the time in milliseconds since 1970.
    fn milliseconds(&self) -> u64 {
        let since =
            self.store.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        u64::try_from(since).unwrap_or(0)
    }

    /// Checks again for creations that had not come when their attachment ended, until the server
    /// would have given them up. A failure keeps the tombstone, and no verb waits for it.
    pub(crate) fn check_tombstones(&self) {
        let state = &self.store.state;
        if self.store.for_dead_node || state.tombstones().is_empty() {
            return;
        }
        let now = self.milliseconds();
        let mut due = Vec::new();
        let looked = state.change_tombstones(&self.deadline, |tombstones| {
            for tombstone in tombstones.iter_mut().filter(|tombstone| tombstone.is_due(now)) {
                tombstone.looked = now;
                due.push(tombstone.clone());
            }
        });
        if looked.is_err() {
            return;
        }
        let patience = Deadline::after(CHECK.min(self.deadline.left()));
        let mut finished = Vec::new();
        for (at, tombstone) in due.into_iter().enumerate() {
            if 0 < at && patience.left().is_zero() {
                break;
            }
            // Not while a call of the attachment is under way. This never waits for the lock.
            let hash = tombstone
                .object
                .allocation()
                .map(|allocation| names::of_attachment(&allocation.record.attachment));
            let Some((hash, _lock)) = hash
                .ok()
                .and_then(|hash| state.try_lock_attachment(&hash).map(|lock| (hash, lock)))
            else {
                continue;
            };
            match self.delete_late_object(&tombstone, &hash, &patience) {
                // If one attempt came late, another may follow.
                Ok(()) if tombstone.is_old(now) => finished.push(tombstone),
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%error, name = tombstone.object.metadata.name, "a tombstone could not be looked at");
                    break;
                }
            }
        }
        let kept = state.change_tombstones(&self.deadline, |tombstones| {
            tombstones.retain(|one| !finished.iter().any(|other| one.object == other.object));
        });
        if let Err(error) = kept {
            tracing::debug!(%error, "a tombstone could not be removed");
        }
    }

    /// Deletes the object of a creation that came late, if there is one.
    fn delete_late_object(
        &self,
        tombstone: &Tombstone,
        hash: &str,
        patience: &Deadline,
    ) -> Result<(), StoreError> {
        let name = &tombstone.object.metadata.name;
        if let Some(version) = self.find_late(tombstone, hash, patience)? {
            tracing::info!(
                name,
                "an object was created after its attachment had ended; it is deleted"
            );
            // An earlier record of the same object may be shown to Whereabouts.
            let late = tombstone.object.allocation();
            let late = late.map_err(|unreadable| unreadable.of(name))?;
            let is_late = |now: &Allocation| now.version.as_ref() == Some(&version);
            self.withdraw_first(&late, &version, &is_late, patience)?;
            // If the object was changed since, its new holder keeps it.
            self.store.api.delete(name, &version, patience)?;
        }
        Ok(())
    }

    /// Returns the version of an object whose creation came late. If the attachment has noted the
    /// answer to a creation, that object did not come late.
    pub(crate) fn find_late(
        &self,
        tombstone: &Tombstone,
        hash: &str,
        patience: &Deadline,
    ) -> Result<Option<Version>, StoreError> {
        let ours = &tombstone.object;
        let Some(found) = self
            .store
            .api
            .get_of_attachment(&ours.metadata.name, patience)?
            .filter(|found| found.spec == ours.spec)
        else {
            return Ok(None);
        };
        let noted = |known: &IpAllocation| {
            known.metadata.uid == found.metadata.uid && known.version().is_some()
        };
        if tombstone.made.is_some() && found.metadata.uid == tombstone.made
            || self.store.state.objects(hash)?.iter().any(noted)
        {
            return Ok(None);
        }
        Ok(found.version())
    }

    /// Returns whether no object of a tombstone can come any more.
    pub(crate) fn is_over(&self, tombstone: &Tombstone) -> bool {
        tombstone.is_old(self.milliseconds())
    }

    /// Deletes a late object now, and removes the tombstone when no object can come any more. The
    /// caller holds the lock of the tombstone's attachment.
    pub(crate) fn repair_tombstone(&self, tombstone: &Tombstone) -> Result<(), StoreError> {
        if let Ok(known) = tombstone.object.allocation() {
            self.delete_late_object(
                tombstone,
                &names::of_attachment(&known.record.attachment),
                &self.deadline,
            )?;
        }
        if !self.is_over(tombstone) {
            return Ok(());
        }
        self.store.state.change_tombstones(&self.deadline, |tombstones| {
            tombstones.retain(|other| other.object != tombstone.object)
        })
    }
}

impl Tombstone {
    fn is_due(&self, now: u64) -> bool {
        now.abs_diff(self.looked) >= u64::try_from(CHECK_EVERY.as_millis()).unwrap_or(0)
    }

    fn is_old(&self, now: u64) -> bool {
        now.abs_diff(self.since) >= u64::try_from(LATEST.as_millis()).unwrap_or(0)
    }
}
