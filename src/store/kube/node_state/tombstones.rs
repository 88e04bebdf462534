//! Tombstones: intents whose object was not there when their attachment ended,
//! and intents that were sent more than once.
//!
//! A creation may be on its way still, in a proxy or in the server's queue, when
//! its ADD has given up and a DEL has found nothing; or when a second attempt
//! has made the object, and a DEL has removed that. So may a re-homing. Who
//! would take it back? The next calls of this node: they look at the name until
//! the server would have given the request up.

use super::Tombstone;
use crate::ipam::{Attachment, Version};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::objects::ip_allocation::IpAllocation;
use crate::store::kube::objects::names;
use crate::store::kube::session::KubeSession;
use std::time::{Duration, UNIX_EPOCH};

/// The API server gives up a request after this time (`--request-timeout`):
/// what has not come by then will not come.
const LATEST: Duration = Duration::from_secs(60);
/// A tombstone is looked at no more often, and no longer.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(2);

impl KubeSession<'_> {
    /// Turns what is left of an attachment that ends into tombstones.
    pub(crate) fn put_tombstones(&self, attachment: &Attachment) -> Result<(), StoreError> {
        let hash = names::of_attachment(attachment);
        for object in self.lost.take() {
            // What the server had confirmed once is gone for good; a creation or a
            // re-homing may still be on its way.
            if object.metadata.resource_version.is_none() {
                self.put_tombstone(&object, None)?;
            }
            self.store.state.drop_object(&hash, &object.metadata.name)?;
        }
        Ok(())
    }

    /// An intent that was sent more than once: one attempt made the object of
    /// this uid, or another holder has the name; the other attempts may be on
    /// their way. The address is given all the same, so that this cannot fail.
    pub(crate) fn track_duplicate_create(&self, intent: &IpAllocation, made: Option<&str>) {
        if let Err(error) = self.put_tombstone(intent, made) {
            tracing::warn!(%error, "an attempt that may come late could not be noted");
        }
    }

    fn put_tombstone(&self, intent: &IpAllocation, made: Option<&str>) -> Result<(), StoreError> {
        let now = self.milliseconds();
        let tombstone = Tombstone { since: now, looked: now, object: intent.clone(), made: made.map(str::to_owned) };
        self.store.state.change_tombstones(&self.deadline, |tombstones| tombstones.push(tombstone))
    }

    /// Since 1970.
    fn milliseconds(&self) -> u64 {
        let since = self.store.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        u64::try_from(since).unwrap_or(0)
    }

    /// Looks once more at creations that had not come when their attachment
    /// ended, until the server would have given them up. A failure keeps the
    /// tombstone, and no verb waits for it.
    pub(crate) fn look_at_tombstones(&self) {
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
        let patience = Deadline::after(LOOK.min(self.deadline.left()));
        let mut settled = Vec::new();
        for (at, tombstone) in due.into_iter().enumerate() {
            if 0 < at && patience.left().is_zero() {
                break;
            }
            // Not while a call of the attachment is under way, and never waited for.
            let hash = tombstone.object.allocation().map(|allocation| names::of_attachment(&allocation.record.attachment));
            let Some((hash, _lock)) = hash.ok().and_then(|hash| state.try_lock_attachment(&hash).map(|lock| (hash, lock))) else {
                continue;
            };
            match self.delete_late_object(&tombstone, &hash, &patience) {
                // Where one attempt came late another may.
                Ok(()) if tombstone.is_old(now) => settled.push(tombstone),
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%error, name = tombstone.object.metadata.name, "a tombstone could not be looked at");
                    break;
                }
            }
        }
        let kept = state.change_tombstones(&self.deadline, |tombstones| {
            tombstones.retain(|one| !settled.iter().any(|other| one.object == other.object));
        });
        if let Err(error) = kept {
            tracing::debug!(%error, "a tombstone could not be removed");
        }
    }

    /// Removes the object of a creation that came late, where there is one.
    fn delete_late_object(&self, tombstone: &Tombstone, hash: &str, patience: &Deadline) -> Result<(), StoreError> {
        let name = &tombstone.object.metadata.name;
        if let Some(version) = self.find_late(tombstone, hash, patience)? {
            tracing::info!(name, "a creation came after its attachment had ended, it is taken back");
            // Who changed it since has it.
            self.store.api.delete(name, &version, patience)?;
        }
        Ok(())
    }

    /// The object of a creation that came late. One whose answer the attachment
    /// has noted did not.
    pub(crate) fn find_late(&self, tombstone: &Tombstone, hash: &str, patience: &Deadline) -> Result<Option<Version>, StoreError> {
        let ours = &tombstone.object;
        let Some(found) = self.store.api.get(&ours.metadata.name, patience)?.filter(|found| found.spec == ours.spec) else {
            return Ok(None);
        };
        let noted = |known: &IpAllocation| known.metadata.uid == found.metadata.uid && known.version().is_some();
        if tombstone.made.is_some() && found.metadata.uid == tombstone.made || self.store.state.objects(hash)?.iter().any(noted) {
            return Ok(None);
        }
        Ok(found.version())
    }

    /// Whether nothing of a tombstone can come any more.
    pub(crate) fn is_over(&self, tombstone: &Tombstone) -> bool {
        tombstone.is_old(self.milliseconds())
    }

    /// Takes back what came late, now, and forgets the tombstone when nothing can
    /// come any more. Under the lock of its attachment.
    pub(crate) fn settle(&self, tombstone: &Tombstone) -> Result<(), StoreError> {
        if let Ok(known) = tombstone.object.allocation() {
            self.delete_late_object(tombstone, &names::of_attachment(&known.record.attachment), &self.deadline)?;
        }
        if !self.is_over(tombstone) {
            return Ok(());
        }
        self.store.state.change_tombstones(&self.deadline, |tombstones| tombstones.retain(|other| other.object != tombstone.object))
    }
}

impl Tombstone {
    fn is_due(&self, now: u64) -> bool {
        now.abs_diff(self.looked) >= u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(0)
    }

    fn is_old(&self, now: u64) -> bool {
        now.abs_diff(self.since) >= u64::try_from(LATEST.as_millis()).unwrap_or(0)
    }
}
