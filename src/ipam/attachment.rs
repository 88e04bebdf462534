//! What identifies a holder, and what is recorded about it.

use super::{ContainerId, IfName, NetworkName, NodeName, PodRef, Scope, View};
use crate::addr::Family;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

/// The holder of addresses: one interface of one sandbox on one node. The
/// node belongs to it, because a container id need not be unique beyond its
/// machine (cnitool makes it from a path).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// The machine that made the attachment.
    pub node: NodeName,
    /// The network configuration's name.
    pub network: NetworkName,
    /// The sandbox.
    pub container: ContainerId,
    /// The interface in the sandbox.
    pub ifname: IfName,
}

impl std::fmt::Display for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "container {}, interface {}, network {}, node {}", self.container, self.ifname, self.network, self.node)
    }
}

/// Attachments of one network and node, by container id and interface: as many
/// as a runtime lists, in little room. Whether one is in it is told by a hash:
/// that of another is the same once in 2^64, and then that one is spared.
#[derive(Debug, Clone, Default)]
pub struct AttachmentSet {
    hashes: HashSet<u64>,
    keyed: RandomState,
}

impl AttachmentSet {
    /// Adds one.
    pub fn insert(&mut self, container: &str, ifname: &str) {
        self.hashes.insert(self.keyed.hash_one((container, ifname)));
    }

    /// Whether it is there.
    #[must_use]
    pub fn contains(&self, container: &str, ifname: &str) -> bool {
        self.hashes.contains(&self.keyed.hash_one((container, ifname)))
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// The network namespace of a sandbox as ADD saw it, enough to tell later
/// whether it is still the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netns {
    /// Absolute path of the namespace file.
    pub path: PathBuf,
    /// Its inode on nsfs; 0 where ADD could not look.
    pub inode: u64,
    /// The device of the nearest existing directory above the path. Whoever
    /// sees another device there looks from another mount namespace and
    /// cannot tell.
    pub directory_device: u64,
}

/// Where an address came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The lowest free one of a range.
    Dynamic,
    /// Asked for by the caller (`runtimeConfig.ips`, `args.cni.ips`, `IP=`).
    Requested,
    /// Written in the configuration (`addresses`).
    Static,
}

/// Which of an ADD's addresses this is. An ADD that died half way shows by
/// fewer records than `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// 0 for the first.
    pub index: u16,
    /// How many the ADD was to get.
    pub of: u16,
}

/// All that is recorded with an address but the address itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Who will hold the address.
    pub attachment: Attachment,
    /// The pod, when the runtime named one.
    pub pod: Option<PodRef>,
    /// The sandbox's namespace; `None` when nothing was there.
    pub netns: Option<Netns>,
    /// From where ADD looked; `None` in a record of a version that did not say.
    pub view: Option<View>,
    /// The kernel's boot id when the address was given.
    pub boot_id: String,
    /// When the address was given.
    pub since: SystemTime,
    /// Why this address.
    pub source: Source,
    /// Which of the ADD's addresses.
    pub part: Part,
    /// The prefix length of the result.
    pub prefix: u8,
    /// The gateway of the result.
    pub gateway: Option<IpAddr>,
}

/// One address held by one attachment.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// The name space in which the address is unique.
    pub scope: Scope,
    /// The address.
    pub address: IpAddr,
    /// Who holds it, and since when.
    pub held: Draft,
    /// Which state of the record was read, where the store numbers them.
    pub version: Option<Version>,
}

impl Allocation {
    /// Which of its fields no ADD can have written so: a repeated ADD prints
    /// them as they stand, so that such a record is damage, and never a result.
    #[must_use]
    pub fn impossible(&self) -> Option<&'static str> {
        let (held, family) = (&self.held, Family::of(self.address));
        if family.bits() < held.prefix {
            return Some("prefix");
        }
        if held.gateway.is_some_and(|gateway| Family::of(gateway) != family) {
            return Some("gateway");
        }
        (held.part.of <= held.part.index).then_some("part")
    }
}

/// One state of one record, in a store that numbers them: what is removed or
/// changed can then be the very state that was looked at.
#[derive(Debug, Clone)]
pub struct Version {
    /// The record; a later one of the same address has another.
    pub uid: String,
    /// Its state.
    pub revision: String,
    /// What a newer version wrote into it and this one does not know: the path of
    /// each key, with a slash between two. A record for another sandbox takes it
    /// out.
    pub newer: Vec<String>,
}

/// One state has one content: what was read of it does not count.
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        (&self.uid, &self.revision) == (&other.uid, &other.revision)
    }
}

impl Eq for Version {}
