//! What was read of a cluster, as far as the decision needs it. An object of the API takes many
//! times its memory.

use super::networks::Definition;
use crate::ipam::Version;
use crate::whereabouts::names::{Names, Serves, SlicePool};
use crate::whereabouts::range::{NoAddress, PoolRange};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) pools: Vec<Pool>,
    pub(super) entries: Vec<Entry>,
    pub(super) reservations: Vec<Reservation>,
    /// What nodes of hereabouts have written for Whereabouts.
    pub(super) ours: Vec<Ours>,
    pub(super) our_reservations: Vec<OurReservation>,
    pub(super) slice_pools: Vec<SlicePool>,
    /// By `namespace/name` of the NetworkAttachmentDefinition.
    pub(super) networks: HashMap<Rc<str>, Definition>,
    pub(super) nodes: HashMap<Rc<str>, Node>,
    /// By `namespace/name`. Only pods that an entry or a reservation names, pods with an interface
    /// in one of the networks, and pods of which Multus has written nothing that can be read.
    pub(super) pods: HashMap<Rc<str>, Pod>,
    /// Who has an address by a record of hereabouts: by scope, which may be empty, and address.
    pub(super) recorded: HashMap<Rc<str>, HashMap<IpAddr, Recorded>>,
    /// The addresses that had an entry when the entries were read again, after the records.
    pub(super) noted_again: Option<HashSet<IpAddr>>,
}

/// An IPPool of Whereabouts.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) namespace: Rc<str>,
    pub(super) name: String,
    /// The range as it is written.
    pub(super) text: String,
    /// `None` if it is not readable.
    pub(super) range: Option<PoolRange>,
}

/// An entry of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    /// The position of the pool.
    pub(super) pool: usize,
    pub(super) key: Box<str>,
    pub(super) address: Result<IpAddr, NoAddress>,
    pub(super) holder: Option<EntryHolder>,
}

/// The holder that an entry names. It is `None` in [`Entry`] if the entry is not readable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EntryHolder {
    pub(super) container: Box<str>,
    /// The reference to the pod, as it is written.
    pub(super) pod: Rc<str>,
    /// Versions of Whereabouts before v0.8 do not write it.
    pub(super) interface: Option<Rc<str>>,
}

/// An entry of a pool that a node of hereabouts wrote, so that Whereabouts sees the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ours {
    /// The position of the pool.
    pub(super) pool: usize,
    pub(super) key: Box<str>,
    /// The uid of the IPAllocation.
    pub(super) uid: Box<str>,
    pub(super) pod: Rc<str>,
}

/// A reservation that a node of hereabouts wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OurReservation {
    pub(super) namespace: Rc<str>,
    pub(super) name: Box<str>,
    /// The uid of the IPAllocation.
    pub(super) uid: Box<str>,
}

/// An OverlappingRangeIPReservation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Reservation {
    pub(super) namespace: Rc<str>,
    pub(super) name: String,
    pub(super) pod: Rc<str>,
    pub(super) interface: Option<Rc<str>>,
}

/// A node.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) uid: Rc<str>,
    /// Empty if it has reported none.
    pub(super) boot_id: Rc<str>,
}

/// A pod.
#[derive(Debug, Default)]
pub(super) struct Pod {
    /// The uid that the runtime knows.
    pub(super) uid: Rc<str>,
    pub(super) node: Option<Rc<str>>,
    /// Whether all its containers have ended for good.
    pub(super) has_ended: bool,
    /// Whether it is being deleted.
    pub(super) is_ending: bool,
    pub(super) status: NetworkStatus,
}

/// The interfaces of a pod, as Multus has written them.
#[derive(Debug, Default)]
pub(super) enum NetworkStatus {
    /// It has written nothing yet.
    #[default]
    Absent,
    /// The annotation is not a list of interfaces.
    Unreadable,
    Read(Box<[Interface]>),
}

/// An interface of a pod.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) name: Rc<str>,
    /// `namespace/name` of the NetworkAttachmentDefinition, or the name of the default network.
    pub(super) network: Rc<str>,
    /// Whether it is in the default network of the pod.
    pub(super) is_default: bool,
    pub(super) addresses: Box<[IpAddr]>,
}

/// The holder of an address by a record of hereabouts.
#[derive(Debug)]
pub(super) struct Recorded {
    /// `namespace/name`. `None` if no pod holds it, as far as the record says.
    pub(super) pod: Option<Rc<str>>,
    pub(super) container: Box<str>,
    pub(super) interface: Rc<str>,
    pub(super) node: Rc<str>,
    /// Present if the record was imported and its node has not completed it. Until then the node
    /// may still be one of Whereabouts, and what Whereabouts has noted is the truth.
    pub(super) incomplete: Option<Version>,
}

impl Facts {
    /// Returns what each pool is for, in the order of the pools.
    pub(super) fn serves(&self) -> Vec<Serves> {
        let names = Names {
            slice_pools: &self.slice_pools,
            network_names: self
                .networks
                .values()
                .filter_map(Definition::network_name)
                .filter(|name| !name.is_empty())
                .collect(),
            nodes: self.nodes.keys().map(|name| &**name).collect(),
        };
        self.pools.iter().map(|pool| names.serves(&pool.name, &pool.text)).collect()
    }

    /// Returns a pod that has not ended.
    pub(super) fn living(&self, pod: &str) -> Option<&Pod> {
        self.pods.get(pod).filter(|pod| !pod.has_ended)
    }
}

impl Pod {
    /// Returns its interfaces, as far as they are known.
    pub(super) fn interfaces(&self) -> &[Interface] {
        match &self.status {
            NetworkStatus::Read(interfaces) => interfaces,
            NetworkStatus::Absent | NetworkStatus::Unreadable => &[],
        }
    }
}
