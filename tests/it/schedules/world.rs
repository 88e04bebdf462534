//! All that a schedule happens in: disks, the API server, and what callers were
//! told and did.

use super::disk::Tree;
use super::server::Objects;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// See the module. A copy is another world.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct World {
    /// By name.
    pub(super) disks: BTreeMap<String, Tree>,
    pub(super) objects: Objects,
    pub(super) events: Vec<Event>,
    /// Flushes that a call's fault counts, by thread.
    pub(super) flushes: BTreeMap<usize, usize>,
}

/// A record that `release` shows: whose, which address, and which record: its
/// inode, or its object's uid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Shown {
    pub(super) holder: Holder,
    pub(super) address: IpAddr,
    pub(super) record: Option<String>,
}

/// A node and a container.
pub(super) type Holder = (&'static str, String);

/// What happened between callers and calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Event {
    /// An ADD's result was read, from these records.
    Told(Vec<Shown>),
    /// A DEL begins; until it ends the addresses may go.
    Ending(Holder),
    /// A DEL has answered with success.
    Ended(Holder),
    /// An operator was shown these records and said to free them.
    Shown(Vec<Shown>),
    /// A node was given up.
    GivenUp(&'static str),
}

impl World {
    /// Which record stands at an address.
    pub(super) fn record_at(&self, address: IpAddr) -> Option<String> {
        let file = self.disks.get("store").and_then(|tree| tree.inode_named(&address.to_string()));
        file.map(|inode| inode.to_string()).or_else(|| self.objects.uid_of(&address.to_string()))
    }
}
