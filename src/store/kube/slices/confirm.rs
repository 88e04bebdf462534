//! Showing that a slice that this node has noted is its own: after a reboot, after a lost disk, after
//! the cluster was restored.
//!
//! The object names the boot in which the node uses the slice. It is changed with the uid that was
//! noted, so a slice that was given back and claimed by another node is found out. A slice whose
//! object names another boot is empty, and one that names this boot may not be.

use super::Asked;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::Changed;
use crate::store::kube::node_state::slices::{NotedSlice, SliceState};
use crate::store::kube::objects::ip_slice::{self, IpSlice};
use serde_json::json;

impl KubeStore {
    /// Finds out about each noted slice of a pool that is not usable in this boot.
    pub(super) fn settle_noted(&self, pool: &str, deadline: &Deadline) -> Result<(), StoreError> {
        for slice in self.state.slices()?.slices {
            let is_settled = match slice.state {
                SliceState::Lost | SliceState::Closing => true,
                SliceState::Owned => slice.is_usable(&self.host.boot_id),
                SliceState::Asked => false,
            };
            if is_settled || !slice.is_of(pool) {
                continue;
            }
            if slice.state == SliceState::Asked {
                self.settle_asked(&slice, deadline)?;
                continue;
            }
            self.confirm_slice(slice, deadline)?;
        }
        Ok(())
    }

    /// Sends the request of a note again.
    pub(super) fn settle_asked(
        &self,
        asked: &NotedSlice,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        // A note of an earlier boot asks for that one: an object with the earlier boot is taken up
        // as empty like any other.
        if asked.object.spec.boot_id != self.host.boot_id {
            return self.state.forget_slice(asked.name(), deadline).map(|()| false);
        }
        if !asked.again {
            self.refuse_after_set_back()?;
        }
        Ok(matches!(self.create_asked(asked, deadline)?, Asked::Owned))
    }

    /// Shows that this node owns a noted slice in this boot: the object names the boot, and it is
    /// the object that was noted.
    pub(super) fn confirm_slice(
        &self,
        noted: NotedSlice,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let is_own = |object: &IpSlice| {
            object.is_of(&self.host.node, self.machine.as_deref())
                && object.metadata.uid == noted.object.metadata.uid
        };
        let name = noted.name().to_owned();
        // The disk may be that of another machine.
        let mut current = Some(noted.object.clone()).filter(is_own);
        while let Some(version) = current.as_ref().and_then(IpSlice::version) {
            let boot = json!({"spec": {"bootID": self.host.boot_id}});
            let changed: Changed<IpSlice> =
                self.api.patch_object(ip_slice::PLURAL, &name, boot, &version, deadline)?;
            current = match changed {
                Changed::Done(object) => {
                    let before = &noted.object.spec.boot_id;
                    let is_other = !before.is_empty() && *before != self.host.boot_id;
                    let boot_before =
                        if is_other { Some(before.clone()) } else { noted.boot_before.clone() };
                    let owned =
                        NotedSlice { boot_before, ..NotedSlice::new(object, SliceState::Owned) };
                    return self.note_owned(owned, deadline);
                }
                Changed::Conflict => self.api.get_object(ip_slice::PLURAL, &name, deadline)?,
                Changed::Absent { .. } => None,
            };
            if current.is_none() {
                // The cluster was set back, or somebody removed the object.
                return self.create_again(&noted, deadline).map(drop);
            }
            current = current.filter(is_own);
            if current.is_some() && deadline.left().is_zero() {
                let reason = format!("{name} changed before each attempt");
                return Err(self.api.contended("patch", ip_slice::PLURAL, &reason, deadline));
            }
        }
        self.lose(noted, deadline)
    }

    /// Notes that a slice is not this node's own any more.
    pub(super) fn lose(&self, noted: NotedSlice, deadline: &Deadline) -> Result<(), StoreError> {
        let lost = NotedSlice { state: SliceState::Lost, again: false, ..noted };
        tracing::error!(
            slice = lost.name(),
            "another node owns a slice of this node, or it was released; nothing is given from it any more"
        );
        self.state.note_slice(&lost, deadline)
    }

    /// Lists this node's slices once in each boot, and takes up those that the notes do not have:
    /// the disk is a new one, or an older copy. Only a slice whose object names another boot is
    /// taken up: from one that names this boot, a call may have given addresses that were recorded
    /// on a disk that is gone.
    pub(super) fn take_up_own_slices(&self, deadline: &Deadline) -> Result<(), StoreError> {
        let boot = &self.host.boot_id;
        let noted = self.state.slices()?;
        if noted.listed_in == *boot {
            return Ok(());
        }
        let found: Vec<IpSlice> =
            self.api.list_objects(ip_slice::PLURAL, &self.own_selector(), deadline)?;
        for object in self.without_given_back(found, deadline)? {
            let name = &object.metadata.name;
            let is_known = noted.slices.iter().any(|slice| {
                // What an earlier boot has asked for was never used.
                let was_asked =
                    slice.state == SliceState::Asked && slice.object.spec.boot_id != *boot;
                slice.name() == name && !was_asked
            });
            if is_known || !object.is_of(&self.host.node, self.machine.as_deref()) {
                continue;
            }
            if object.spec.boot_id == *boot {
                tracing::warn!(
                    slice = name,
                    "a slice of this node that its disk does not know is not used until the next boot"
                );
                continue;
            }
            self.state.note_slice(&NotedSlice::new(object, SliceState::Owned), deadline)?;
        }
        self.state.change_slices(deadline, |noted| noted.listed_in.clone_from(boot))
    }
}
