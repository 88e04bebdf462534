//! Showing that a slice that this node has noted is its own: after a reboot, after a lost disk, after
//! the cluster was restored.
//!
//! The object names the boot in which the node uses the slice. It is changed with the uid that was
//! noted, so a slice that was given back and claimed by another node is found out. A slice whose
//! object names another boot is empty, and one that names this boot may not be.

use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::Changed;
use crate::store::kube::node_state::slices::{NotedSlice, SliceState};
use crate::store::kube::objects::ip_slice::{self, IpSlice};
use serde_json::json;

/// The result of showing that a noted slice is this node's own.
enum Confirmed {
    Usable,
    Lost,
}

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
                // A note of an earlier boot asks for this one: an object with the earlier boot is
                // taken up as empty like any other.
                if slice.object.spec.boot_id == self.host.boot_id {
                    self.create_asked(&slice.object, deadline)?;
                } else {
                    self.state.forget_slice(slice.name(), deadline)?;
                }
                continue;
            }
            let name = slice.name().to_owned();
            if let Confirmed::Lost = self.confirm_slice(slice, deadline)? {
                tracing::error!(
                    slice = name,
                    "another node owns a slice of this node; nothing is given from it any more"
                );
            }
        }
        Ok(())
    }

    /// Shows that this node owns a noted slice in this boot: the object names the boot, and it is
    /// the object that was noted.
    fn confirm_slice(
        &self,
        noted: NotedSlice,
        deadline: &Deadline,
    ) -> Result<Confirmed, StoreError> {
        let name = noted.name().to_owned();
        let (uid, mut version) = match noted.object.version() {
            Some(version) => (version.uid.clone(), Some(version)),
            None => (String::new(), None),
        };
        loop {
            let changed = match &version {
                Some(version) => {
                    let boot = json!({"spec": {"bootID": self.host.boot_id}});
                    self.api.patch_object::<IpSlice>(
                        ip_slice::PLURAL,
                        &name,
                        boot,
                        version,
                        deadline,
                    )?
                }
                None => Changed::Conflict,
            };
            match changed {
                Changed::Done(object) => {
                    let slice = NotedSlice::new(object, SliceState::Owned);
                    self.state.note_slice(&slice, deadline)?;
                    return Ok(Confirmed::Usable);
                }
                // The cluster was set back, or somebody removed the object. It is created again,
                // unless another node is faster.
                Changed::Absent { .. } => {
                    let mut again = noted.object.clone();
                    again.metadata.uid = None;
                    again.metadata.resource_version = None;
                    again.spec.boot_id.clone_from(&self.host.boot_id);
                    let asked = NotedSlice::new(again.clone(), SliceState::Asked);
                    self.state.note_slice(&asked, deadline)?;
                    if self.create_asked(&again, deadline)? {
                        return Ok(Confirmed::Usable);
                    }
                    return self.lose(noted, deadline);
                }
                Changed::Conflict => {
                    let found: Option<IpSlice> =
                        self.api.get_object(ip_slice::PLURAL, &name, deadline)?;
                    let Some(found) = found else {
                        version = None;
                        if deadline.left().is_zero() {
                            let reason = format!("{name} changed before each attempt");
                            return Err(self.api.contended("patch", &reason, deadline));
                        }
                        continue;
                    };
                    let is_own = found.is_of(&self.host.node, self.machine.as_deref())
                        && found.metadata.uid.as_deref() == Some(&*uid);
                    if !is_own {
                        return self.lose(noted, deadline);
                    }
                    version = found.version();
                    if deadline.left().is_zero() {
                        let reason = format!("{name} changed before each attempt");
                        return Err(self.api.contended("patch", &reason, deadline));
                    }
                }
            }
        }
    }

    /// Notes that a slice is not this node's own any more.
    fn lose(&self, noted: NotedSlice, deadline: &Deadline) -> Result<Confirmed, StoreError> {
        let lost = NotedSlice { state: SliceState::Lost, ..noted };
        self.state.note_slice(&lost, deadline)?;
        Ok(Confirmed::Lost)
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
        for object in found {
            let name = &object.metadata.name;
            let is_known = noted.slices.iter().any(|slice| slice.name() == name);
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
