//! Re-homing in the Kubernetes API: an existing object gets another record, under the condition
//! that it is still in the state that was read.

use super::api::Changed;
use super::api::retries::Failed;
use super::objects::ip_allocation::{IpAllocation, PLURAL};
use super::objects::names;
use super::session::KubeSession;
use crate::ipam::{Allocation, Record, Version};
use crate::store::{Rehome, StoreError};

impl KubeSession<'_> {
    /// Gives another record to an existing object.
    pub(super) fn change(
        &self,
        held: &Allocation,
        to: &Record,
        mut version: Version,
    ) -> Result<Rehome, StoreError> {
        let store = self.store;
        let hash = names::of_attachment(&to.attachment);
        let mut object = IpAllocation::new(&held.scope, held.address, to, store.machine.as_deref());
        object.spec.node_uid.clone_from(&store.node_uid);
        object.metadata.uid = Some(version.uid.clone());
        let name = object.metadata.name.clone();
        let known = store.state.put(&hash, &object)?;
        loop {
            let changed = store.api.patch(&object, &version, &self.deadline);
            match changed {
                Ok(Changed::Done(moved)) => return self.moved(held, to, &moved),
                Ok(Changed::Conflict) => {
                    let Some(found) = store
                        .api
                        .get_of_attachment(&name, &self.deadline)?
                        .filter(|found| found.metadata.deletion_timestamp.is_none())
                    else {
                        break;
                    };
                    // It is ours if the answer to an earlier attempt was lost.
                    if found.is_same_record(&object) {
                        return self.moved(held, to, &found);
                    }
                    let still = !store.is_of_another_machine(&found)
                        && found.allocation().is_ok_and(|found| found.record == held.record);
                    match found
                        .version()
                        .filter(|now| still && *now != version && now.uid == version.uid)
                    {
                        Some(_) if self.deadline.left().is_zero() => {
                            self.take_back_intent(&hash, &name, known)?;
                            let reason = format!("{name} has changed before each attempt");
                            return Err(store.api.contended(
                                "patch",
                                PLURAL,
                                &reason,
                                &self.deadline,
                            ));
                        }
                        Some(now) => version = now,
                        None => break,
                    }
                }
                Ok(Changed::Absent { .. }) => break,
                // It is not known whether the object was changed: the intent stays.
                Err(Failed { error, outcome_unknown: true }) => return Err(error),
                Err(Failed { error, outcome_unknown: false }) => {
                    self.take_back_intent(&hash, &name, known)?;
                    return Err(error);
                }
            }
        }
        self.take_back_intent(&hash, &name, known)?;
        Ok(Rehome::Changed)
    }

    /// Undoes an intent that was not carried out and restores what was known before. The attachment
    /// may hold exactly that address since an earlier call.
    pub(super) fn take_back_intent(
        &self,
        hash: &str,
        name: &str,
        known: Option<IpAllocation>,
    ) -> Result<(), StoreError> {
        match known {
            Some(known) => self.store.state.put(hash, &known).map(drop),
            None => self.store.state.drop_object(hash, name),
        }
    }

    fn moved(
        &self,
        held: &Allocation,
        to: &Record,
        object: &IpAllocation,
    ) -> Result<Rehome, StoreError> {
        self.note_answer(object, to);
        if held.record.attachment != to.attachment {
            self.forget(held, false);
        }
        object
            .allocation()
            .map(Rehome::Done)
            .map_err(|unreadable| unreadable.of(&object.metadata.name))
    }
}
