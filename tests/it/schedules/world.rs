//! Everything in which a schedule happens: disks, the API server, and what callers were told and
//! did.

use super::disk::Tree;
use super::server::{HeldUp, Objects};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

/// See the module. A copy is another world.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    /// By name.
    pub(super) disks: BTreeMap<String, Tree>,
    pub(super) objects: Objects,
    pub(super) events: Vec<Event>,
    /// Requests to the API server that are held up.
    pub(super) held_up: Vec<HeldUp>,
    /// The threads whose calls have begun and not ended, during a move, and whether these are calls
    /// of Whereabouts.
    pub(super) running: BTreeMap<usize, bool>,
    /// Whether such a call of Whereabouts was killed.
    pub(super) is_theirs_killed: bool,
    /// Whether the operator of the move is done.
    pub(super) is_operated: bool,
    /// Whether the operator has exported the records.
    pub(super) is_exported: bool,
    /// Whether Whereabouts serves the node n1 again.
    pub(super) is_given: bool,
}

/// A record that `release` shows: its holder, its address, and its inode or its object's uid.
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
    /// The result of an ADD was read, from these records.
    Told(Vec<Shown>),
    /// A DEL by this call begins. Until it ends, the addresses may be freed.
    Ending(usize, Holder),
    /// It has answered with success.
    Ended(usize, Holder),
    /// It has answered with an error, and may have freed what it found.
    Broken(usize, Holder),
    /// A call was killed.
    Killed(usize),
    /// An operator was shown these records and said to free them.
    Shown(Vec<Shown>),
    /// A node was given up.
    GivenUp(&'static str),
}

impl World {
    /// Returns a hash of everything that calls can see.
    pub(super) fn state(&self) -> u64 {
        // Only debts contain the numbers of files.
        let is_owing =
            |(disk, tree): (&String, &Tree)| disk.starts_with("debts") && !tree.files().is_empty();
        let numbered = self.disks.iter().any(is_owing);
        let mut hasher = DefaultHasher::new();
        for (name, tree) in &self.disks {
            name.hash(&mut hasher);
            tree.hash_into(&mut hasher, numbered);
        }
        self.objects.hash(&mut hasher);
        hasher.finish()
    }

    /// Returns everything that calls can see, as text.
    pub(super) fn tell(&self) -> String {
        let disks: Vec<String> = self
            .disks
            .iter()
            .flat_map(|(name, tree)| {
                tree.tell().into_iter().map(move |line| format!("{name}:{line}"))
            })
            .collect();
        format!("{}\n{:?}", disks.join("\n"), self.objects)
    }

    /// Returns the record at an address.
    pub(super) fn record_at(&self, address: IpAddr) -> Option<String> {
        let disks = self
            .disks
            .iter()
            .filter(|(name, _)| *name == "store" || name.starts_with("slices of "));
        let file = { disks }.find_map(|(_, tree)| tree.inode_named(&address.to_string()));
        file.map(|inode| inode.to_string()).or_else(|| self.objects.uid_of(&address.to_string()))
    }
}
