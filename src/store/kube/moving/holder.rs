//! What stands in Whereabouts' objects for a record of ours, and whose an entry is.
//!
//! Whereabouts takes over the entry of any pod of the same name and interface, and removes the entry
//! of any container of the same ID and interface. So the entries of a node of hereabouts have an
//! `ifname` that no interface can have, and the uid of the IPAllocation in place of a container ID.

use crate::ipam::{Allocation, Attachment};
use crate::store::StoreError;
use crate::whereabouts::names;
use crate::whereabouts::objects::{Entry, ReservationSpec};
use serde_json::value::RawValue;
use std::net::IpAddr;

/// What stands behind the name of the interface in an entry of ours.
const GUARD: &str = "/hereabouts";

/// How a record stands in Whereabouts' objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Whereabouts neither takes it over nor removes it: the node is one of hereabouts.
    Guarded,
    /// With the true container ID and interface: Whereabouts has the node.
    AsWhereabouts,
}

/// Whose an entry or a reservation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// It is exactly what is wanted.
    Right,
    /// It is of this record in the other form, or of an earlier record of ours at this address. There
    /// is one IPAllocation of an address, so there is no other record.
    Ours,
    /// Whereabouts wrote it for this container and interface.
    OfContainer,
    /// Somebody else holds it, in words.
    Other(String),
}

/// A record as Whereabouts' objects name it.
#[derive(Debug)]
pub(super) struct Holder<'a> {
    held: &'a Allocation,
    uid: &'a str,
}

impl<'a> Holder<'a> {
    /// Returns the holder of a record whose object exists.
    pub(super) fn of(held: &'a Allocation) -> Result<Self, StoreError> {
        let version = held.version.as_ref().ok_or(StoreError::Changed)?;
        Ok(Self { held, uid: &version.uid })
    }

    pub(super) const fn address(&self) -> IpAddr {
        self.held.address
    }

    pub(super) fn scope(&self) -> &'a str {
        self.held.scope.name().unwrap_or_default()
    }

    pub(super) fn reservation_name(&self) -> String {
        names::reservation(self.scope(), self.held.address)
    }

    pub(super) const fn held(&self) -> &'a Allocation {
        self.held
    }

    pub(super) const fn prefix(&self) -> u8 {
        self.held.record.prefix
    }

    pub(super) const fn uid(&self) -> &'a str {
        self.uid
    }

    fn container(&self) -> &'a str {
        self.held.record.attachment.container.as_str()
    }

    fn interface(&self) -> &'a str {
        self.held.record.attachment.ifname.as_str()
    }

    /// Returns `namespace/name` of the pod. Whereabouts needs one; a sandbox without a pod is named by
    /// its container ID.
    fn podref(&self) -> String {
        match &self.held.record.pod {
            Some(pod) => format!("{}/{}", pod.namespace, pod.name),
            None => format!("hereabouts/{}", self.container()),
        }
    }

    /// Returns the entry of the record.
    pub(super) fn entry(&self, shown: Shown) -> Entry {
        let interface = self.interface();
        match shown {
            Shown::Guarded => Entry {
                id: self.uid.to_owned(),
                podref: self.podref(),
                ifname: format!("{interface}{GUARD}"),
            },
            Shown::AsWhereabouts => Entry {
                id: self.container().to_owned(),
                podref: self.podref(),
                ifname: interface.to_owned(),
            },
        }
    }

    /// Returns the reservation of the record.
    pub(super) fn reservation(&self, shown: Shown) -> ReservationSpec {
        let Entry { id, podref, ifname } = self.entry(shown);
        // Whereabouts itself writes no container ID.
        let containerid = Some(id).filter(|_| shown == Shown::Guarded);
        ReservationSpec { podref: Some(podref), containerid, ifname: Some(ifname) }
    }

    /// Says whose an entry is that stands where `wanted` is to stand.
    pub(super) fn of_entry(&self, found: &RawValue, wanted: &Entry) -> Whose {
        let Ok(entry) = serde_json::from_str::<Entry>(found.get()) else {
            return Whose::Other("an entry that cannot be read".to_owned());
        };
        if entry == *wanted {
            return Whose::Right;
        }
        if is_guarded(&entry.ifname) {
            return Whose::Ours;
        }
        if self.is_of_container(&entry) {
            return Whose::OfContainer;
        }
        Whose::Other(in_words(&entry.podref, &entry.ifname))
    }

    fn is_of_container(&self, entry: &Entry) -> bool {
        is_of(entry, &self.held.record.attachment)
    }

    /// Says whether Whereabouts wrote an entry for the record's container and interface.
    pub(super) fn is_theirs_for_it(&self, found: &RawValue) -> bool {
        is_theirs_for(found, &self.held.record.attachment)
    }

    /// Says whether a record's end removes an entry.
    pub(super) fn ends_with(&self, found: &RawValue) -> bool {
        let Ok(entry) = serde_json::from_str::<Entry>(found.get()) else { return false };
        if is_guarded(&entry.ifname) {
            return entry.id == self.uid;
        }
        self.is_of_container(&entry)
    }

    /// Says whose a reservation is that stands where `wanted` is to stand. One that Whereabouts wrote
    /// names no container: it is of this container only if the entry of the address is.
    pub(super) fn of_reservation(
        &self,
        found: &ReservationSpec,
        wanted: &ReservationSpec,
        has_entry: bool,
    ) -> Whose {
        let ifname = found.ifname.as_deref().unwrap_or_default();
        let podref = found.podref.as_deref().unwrap_or_default();
        if found == wanted {
            return Whose::Right;
        }
        if is_guarded(ifname) {
            return Whose::Ours;
        }
        let is_interface = ifname.is_empty() || ifname == self.interface();
        let is_of_container = match found.containerid.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => id == self.container(),
            None => has_entry && podref == self.podref(),
        };
        if is_interface && is_of_container {
            return Whose::OfContainer;
        }
        Whose::Other(in_words(podref, ifname))
    }

    /// Says whether a record's end removes a reservation. `has_entry` says whether Whereabouts wrote an
    /// entry of the address for this container.
    pub(super) fn ends_with_reservation(&self, found: &ReservationSpec, has_entry: bool) -> bool {
        if found.ifname.as_deref().is_some_and(is_guarded) {
            return found.containerid.as_deref() == Some(self.uid);
        }
        let nothing = ReservationSpec::default();
        self.of_reservation(found, &nothing, has_entry) == Whose::OfContainer
    }
}

/// Returns whether an entry names the very container and interface, as Whereabouts does.
fn is_of(entry: &Entry, attachment: &Attachment) -> bool {
    let is_interface = entry.ifname.is_empty() || entry.ifname == attachment.ifname.as_str();
    is_interface && entry.id == attachment.container.as_str()
}

/// Says whether Whereabouts wrote an entry for the container and interface of an attachment.
pub(super) fn is_theirs_for(found: &RawValue, attachment: &Attachment) -> bool {
    // A pool can have many entries, and nearly all of them are of others.
    found.get().contains(attachment.container.as_str())
        && serde_json::from_str::<Entry>(found.get()).is_ok_and(|entry| is_of(&entry, attachment))
}

/// Returns whether a node of hereabouts wrote an entry with this `ifname`.
pub(crate) fn is_guarded(ifname: &str) -> bool {
    ifname.ends_with(GUARD)
}

fn in_words(podref: &str, ifname: &str) -> String {
    let pod = if podref.is_empty() { "an unnamed pod" } else { podref };
    match ifname {
        "" => format!("pod {pod}"),
        ifname => format!("interface {ifname} of pod {pod}"),
    }
}
