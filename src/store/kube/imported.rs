//! Records of sandboxes of any node, written from elsewhere: see `hereabouts import`.

use super::KubeStore;
use super::api::retries::Failed;
use super::api::{Changed, Created};
use super::objects::ip_allocation::IpAllocation;
use super::objects::names;
use crate::ipam::{HeldAddress, Netns, Record, Scope, Version};
use crate::retry::Deadline;
use crate::store::StoreError;
use std::net::IpAddr;

/// The result of an import.
#[derive(Debug)]
pub enum Imported {
    /// The address is recorded now.
    Created,
    /// It was recorded before, for this holder or another one.
    Held(Box<HeldAddress>),
}

impl KubeStore {
    /// Records that a sandbox of another node holds an address. The record has no namespace: its
    /// node completes it. May be repeated.
    ///
    /// # Errors
    /// The API server cannot be asked, or refuses. The address may be recorded.
    pub fn import(
        &self,
        scope: &Scope,
        address: IpAddr,
        record: &Record,
        node_uid: &str,
        deadline: &Deadline,
    ) -> Result<Imported, StoreError> {
        let record = Record { netns: Some(Netns::unseen()), view: None, ..record.clone() };
        let mut object = IpAllocation::new(scope, address, &record, None);
        object.spec.node_uid = Some(node_uid.to_owned()).filter(|uid| !uid.is_empty());
        match self.api.create(&object, deadline) {
            Ok(Created::Made { .. }) => return Ok(Imported::Created),
            Ok(Created::Taken { .. }) => {}
            Err(Failed { error, .. }) => return Err(error),
        }
        let name = names::object(scope, address);
        match self.api.get(&name, deadline)? {
            Some(held) => {
                let held = held.address().map_err(|unreadable| unreadable.of(&name))?;
                Ok(Imported::Held(Box::new(held)))
            }
            // Its holder has ended since.
            None => Err(StoreError::Changed),
        }
    }

    /// Removes a record whose address Whereabouts has seen end, or has taken over, in exactly this
    /// state. Returns false if it is in another one. May be repeated.
    ///
    /// # Errors
    /// The API server cannot be asked, or refuses. The record may be removed.
    pub fn discard(
        &self,
        scope: &Scope,
        address: IpAddr,
        version: &Version,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let name = names::object(scope, address);
        match self.api.delete(&name, version, deadline) {
            Ok(Changed::Done(()) | Changed::Absent { .. }) => Ok(true),
            Ok(Changed::Conflict) => Ok(false),
            Err(Failed { error, .. }) => Err(error),
        }
    }
}
