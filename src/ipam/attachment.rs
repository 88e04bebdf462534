//! The holder of an address and the record about it: types for attachments, records and
//! allocations.

use super::{ContainerId, IfName, NetworkName, NodeName, PodRef, Scope, View};
use crate::addr::Family;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

/// The holder of addresses: one interface of one sandbox on one node. The node is a part of it,
/// because a container ID need not be unique beyond its machine. cnitool derives it from a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// The node that made the attachment.
    pub node: NodeName,
    /// The name of the network configuration.
    pub network: NetworkName,
    /// The sandbox.
    pub container: ContainerId,
    /// The interface in the sandbox.
    pub ifname: IfName,
}

impl std::fmt::Display for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "container {}, interface {}, network {}, node {}",
            self.container, self.ifname, self.network, self.node
        )
    }
}

/// A set of attachments of one network and node, by container ID and interface name. It is small
/// even for all attachments that a runtime lists, because it stores only a hash of each. Two
/// attachments have the same hash once in 2^64. In that case, an attachment that is not in the set
/// is kept.
#[derive(Debug, Clone, Default)]
pub struct AttachmentSet {
    hashes: HashSet<u64>,
    keyed: RandomState,
}

impl AttachmentSet {
    /// Adds an attachment.
    pub fn insert(&mut self, container: &str, ifname: &str) {
        self.hashes.insert(self.keyed.hash_one((container, ifname)));
    }

    /// Returns whether an attachment is in the set.
    #[must_use]
    pub fn contains(&self, container: &str, ifname: &str) -> bool {
        self.hashes.contains(&self.keyed.hash_one((container, ifname)))
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// The network namespace of a sandbox as ADD saw it. A later call can tell whether the namespace is
/// still the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netns {
    /// The absolute path of the namespace file.
    pub path: PathBuf,
    /// The inode on nsfs, or 0 if ADD could not examine it.
    pub inode: u64,
    /// The device of the nearest existing directory above the path. A process that sees another
    /// device there is in another mount namespace and cannot tell.
    pub directory_device: u64,
}

impl Netns {
    /// Returns the namespace of a sandbox that the node has not looked for yet: the record was
    /// imported from elsewhere. No process has this path, and no directory this device, so that
    /// versions that do not know of imports are in doubt about it, too.
    #[must_use]
    pub fn unseen() -> Self {
        Self { path: "/proc/0/ns/net".into(), inode: 0, directory_device: 0 }
    }

    /// Returns whether it is [`Self::unseen`].
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        *self == Self::unseen()
    }
}

/// The reason why an address was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It was free in a range.
    Dynamic,
    /// The caller requested it (`runtimeConfig.ips`, `args.cni.ips`, `IP=`).
    Requested,
    /// The configuration assigns it (`addresses`).
    Static,
}

/// The position of an address among the addresses of an ADD. If there are fewer records than `of`,
/// the ADD was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The position. The first one is 0.
    pub index: u16,
    /// The number of addresses that the ADD was to get.
    pub of: u16,
}

/// The record of an address, without the address itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The holder of the address.
    pub attachment: Attachment,
    /// The pod, if the runtime named one.
    pub pod: Option<PodRef>,
    /// The namespace of the sandbox, or `None` if there was none.
    pub netns: Option<Netns>,
    /// The view of the ADD, or `None` in a record of a version that did not store it.
    pub view: Option<View>,
    /// The kernel's boot ID at the time of the ADD.
    pub boot_id: String,
    /// The time of the ADD.
    pub since: SystemTime,
    /// The reason why this address was chosen.
    pub source: Source,
    /// The position among the addresses of the ADD.
    pub part: Part,
    /// The prefix length of the result.
    pub prefix: u8,
    /// The gateway of the result.
    pub gateway: Option<IpAddr>,
}

/// One address that an attachment holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// The scope in which the address is unique.
    pub scope: Scope,
    /// The address.
    pub address: IpAddr,
    /// The record of the address.
    pub record: Record,
    /// The version of the record that was read, if the store has versions.
    pub version: Option<Version>,
}

impl Allocation {
    /// Returns the name of a field with a value that no ADD can have written. A repeated ADD prints
    /// the fields as they are stored. Such a record is damaged, and must never become a result.
    #[must_use]
    pub fn impossible(&self) -> Option<&'static str> {
        let (held, family) = (&self.record, Family::of(self.address));
        if family.bits() < held.prefix {
            return Some("prefix");
        }
        if held.gateway.is_some_and(|gateway| Family::of(gateway) != family) {
            return Some("gateway");
        }
        (held.part.of <= held.part.index).then_some("part")
    }

    /// Returns who holds the address, for people: the pod, and the attachment.
    #[must_use]
    pub fn holder(&self) -> String {
        let attachment = &self.record.attachment;
        match &self.record.pod {
            Some(pod) => format!("pod {pod}, {attachment}"),
            None => attachment.to_string(),
        }
    }
}

/// One version of a record, in a store that has versions. A removal or a change can then apply to
/// exactly the version that was read.
#[derive(Debug, Clone)]
pub struct Version {
    /// The UID of the record. A later record of the same address has another UID.
    pub uid: String,
    /// The revision of the record.
    pub revision: String,
    /// The keys that a newer version of the plugin wrote and this one does not know. Each is a path
    /// with slashes between the keys. They are removed when the record is written for another
    /// sandbox.
    pub newer: Vec<String>,
}

/// A revision has only one content, so `newer` is not compared.
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        (&self.uid, &self.revision) == (&other.uid, &other.revision)
    }
}

impl Eq for Version {}
