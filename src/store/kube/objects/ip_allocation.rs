//! The IPAllocation custom resource: one object per address that is held. The manifest in
//! deploy/crd is generated from these structs.
//!
//! Only this file knows the shape of the object. Labels only select objects; every decision is
//! based on the spec.

use super::names;
use super::unreadable::Unreadable;
pub use super::{FORMAT, FORMAT_OF_CLAIMS, PLURAL};
use crate::ipam::{
    Allocation, Attachment, ContainerId, IfName, MountNamespace, Netns, NetworkName, NodeName,
    Part, PodRef, Record, Scope, Source, Version, View,
};
use crate::store::percent::{decode_path, encode_path};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Keys that a newer version wrote and that this version does not know. They are kept as long as
/// the object is about the same sandbox, also when `repair` recreates it.
type Newer = BTreeMap<String, Value>;

/// The API group.
pub const GROUP: &str = "hereabouts.dev";
/// The version of the resource.
pub const VERSION: &str = "v1alpha1";
/// The kind of the resource.
pub const KIND: &str = "IPAllocation";

/// The keys of the spec that may be absent.
pub(crate) const OPTIONAL: &[&str] =
    &["format", "gateway", "scope", "podRef", "machine", "nodeUID", "netns", "view"];
/// The keys of the view that may be absent.
pub(crate) const OPTIONAL_OF_VIEW: &[&str] = &[
    "hardware",
    "tmpfs",
    "mountNamespace",
    "mountNamespaceNumber",
    "uptimeMilliseconds",
    "directories",
    "mount",
    "bootIDIsMounted",
];

/// One address held by one attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpAllocation {
    /// `hereabouts.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// `IPAllocation`.
    #[serde(default)]
    pub kind: String,
    /// Name, labels, version.
    pub metadata: Metadata,
    /// The record.
    pub spec: Spec,
}

/// The part of an object's metadata that is used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Scope and address.
    pub name: String,
    /// The ID that the server gave. A later object of the same name has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The version that the server gave. It changes with every change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Set while the object is being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// The labels by which lists select.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What else is noted: see `claim_object::HELD_BY_CLAIM`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What must be done before the object may be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
}

/// Who holds the address, and what was known when it was given.
///
/// The `schemars` attributes are rules that the API server itself enforces for every client. It
/// refuses all that [`IpAllocation::allocation`] refuses, and every change other than that of a
/// re-homing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(description = "Who holds the address, and what was known when it was given.")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.prefix <= (self.address.contains(':') ? 128 : 32)", "message": "prefix is longer than the address" },
    {
        "rule": "!has(self.gateway) || self.gateway.contains(':') == self.address.contains(':')",
        "message": "gateway and address are of two families",
    },
    { "rule": "!has(self.part) || !has(self.of) || self.part < self.of", "message": "part counts from 0, it is less than of" },
    {
        "rule": "!has(self.containerID) || !has(oldSelf.containerID) || self.containerID == oldSelf.containerID || (has(self.podRef) && has(oldSelf.podRef) && self.podRef == oldSelf.podRef)",
        "message": "an address moves to another sandbox of the same pod only",
    },
]))]
pub struct Spec {
    /// The format of the record. Absent for format 1, the first one. 2: a claim holds the address.
    #[schemars(range(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u64>,
    /// The address that is held. IPv6 in its short form (RFC 5952).
    #[schemars(length(max = 45), extend("x-kubernetes-validations" = [
        { "rule": "isIP(self) && ip.isCanonical(self)", "message": "expected an IPv4 address, or an IPv6 address in its short form" },
        { "rule": "self == oldSelf", "message": "never changes" },
    ]))]
    pub address: std::net::IpAddr,
    /// The prefix length of the subnet.
    #[schemars(range(max = 128))]
    pub prefix: u8,
    /// The gateway that ADD answered with.
    #[schemars(length(max = 45), extend("x-kubernetes-validations" = [{ "rule": "isIP(self)", "message": "expected an address" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<std::net::IpAddr>,
    /// The name space in which the address is unique (`network_name`). Absent if not configured.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The name of the CNI network configuration.
    #[schemars(length(max = 4096), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    #[schemars(extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    pub network: String,
    /// The pod that the interface is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_ref: Option<PodReference>,
    /// The interface in the pod.
    #[schemars(length(max = 15), regex(pattern = r"^[^/:\s]+$"))]
    #[schemars(extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    pub interface: String,
    /// The container ID of the pod's sandbox (CNI).
    #[serde(rename = "containerID")]
    #[schemars(length(max = 4096), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    pub container_id: String,
    /// The node that created the record. Only this node may change or remove it.
    #[schemars(length(max = 253), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    #[schemars(extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    pub node: String,
    /// A hash of the node's machine ID, which reveals a second machine of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The uid of the Node object that the ADD's token named. Another uid means another machine.
    #[schemars(length(max = 512))]
    #[serde(rename = "nodeUID", default, skip_serializing_if = "Option::is_none")]
    pub node_uid: Option<String>,
    /// The sandbox's network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<Namespace>,
    /// The point of view from which the node saw the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<Viewpoint>,
    /// The boot ID of the node.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// When the address was given (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Why this address was given.
    pub source: SpecSource,
    /// The position of this address among the addresses of its ADD, from 0.
    pub part: u16,
    /// How many addresses the ADD had to get.
    pub of: u16,
    /// Keys of a newer version: see `Newer`.
    #[serde(flatten)]
    #[schemars(skip)]
    pub newer: Newer,
}

/// The pod that an interface is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PodReference {
    /// Its namespace.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Keys of a newer version: see `Newer`.
    #[serde(flatten)]
    #[schemars(skip)]
    pub newer: Newer,
}

/// A network namespace as ADD saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// The absolute path of the namespace file. Bytes that are not text are written as %XX.
    pub path: String,
    /// Its inode.
    pub inode: u64,
    /// The device of the directory that contains the file.
    pub directory_device: u64,
    /// Keys of a newer version: see `Newer`.
    #[serde(flatten)]
    #[schemars(skip)]
    pub newer: Newer,
}

impl Namespace {
    /// Returns whether it is [`Netns::unseen`]: the node has not completed this imported record.
    pub(crate) fn is_unseen(&self) -> bool {
        self.netns().is_unseen()
    }

    fn netns(&self) -> Netns {
        Netns {
            path: decode_path(&self.path).into(),
            inode: self.inode,
            directory_device: self.directory_device,
        }
    }
}

/// The point of view from which the node saw the sandbox. A later call compares it with its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Viewpoint {
    /// Whether the boot ID came from a file that was mounted over the kernel's file.
    #[serde(rename = "bootIDIsMounted", default, skip_serializing_if = "std::ops::Not::not")]
    pub boot_id_is_mounted: bool,
    /// A hash of the hardware's own ID.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// The inode of the mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_namespace: Option<u64>,
    /// The number of the mount namespace. The kernel does not use it again within one boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_namespace_number: Option<u64>,
    /// How long the node had been up, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_milliseconds: Option<u64>,
    /// The device and inode of each directory above the namespace file, the nearest first.
    #[schemars(length(max = 32), inner(length(max = 41)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<String>,
    /// The random ID of the tmpfs that contains the nearest directory, in hexadecimal digits.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<String>,
    /// The number of the mount that contains the namespace file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<u64>,
    /// Keys of a newer version: see `Newer`.
    #[serde(flatten)]
    #[schemars(skip)]
    pub newer: Newer,
}

impl Viewpoint {
    fn of(view: &View) -> Self {
        Self {
            boot_id_is_mounted: view.boot_id_is_mounted,
            hardware: view.hardware.clone(),
            mount_namespace: view.mounts.map(|mounts| mounts.inode),
            mount_namespace_number: view.mounts.and_then(|mounts| mounts.number),
            uptime_milliseconds: view
                .mounts
                .and_then(|mounts| u64::try_from(mounts.uptime.as_millis()).ok()),
            directories: view.directories.iter().map(ToString::to_string).collect(),
            tmpfs: view.tmpfs.map(|id| format!("{id:x}")),
            mount: view.mount,
            newer: Newer::new(),
        }
    }

    fn view(&self) -> View {
        let mounts = self.mount_namespace.zip(self.uptime_milliseconds);
        View {
            boot_id_is_mounted: self.boot_id_is_mounted,
            hardware: self.hardware.clone(),
            mounts: mounts.map(|(inode, uptime)| MountNamespace {
                inode,
                number: self.mount_namespace_number,
                uptime: std::time::Duration::from_millis(uptime),
            }),
            // After an unreadable entry, the depth of the following ones is unknown.
            directories: self.directories.iter().map_while(|text| text.parse().ok()).collect(),
            tmpfs: self.tmpfs.as_deref().and_then(|id| u64::from_str_radix(id, 16).ok()),
            mount: self.mount,
        }
    }
}

/// Why this address was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SpecSource {
    /// A free address of a range.
    Dynamic,
    /// An address that the pod requested.
    Requested,
    /// An address written in the network configuration.
    Static,
}

impl SpecSource {
    pub(super) fn of(source: Source) -> Self {
        match source {
            Source::Dynamic => Self::Dynamic,
            Source::Requested => Self::Requested,
            Source::Static => Self::Static,
        }
    }
}

impl From<SpecSource> for Source {
    fn from(source: SpecSource) -> Self {
        match source {
            SpecSource::Dynamic => Self::Dynamic,
            SpecSource::Requested => Self::Requested,
            SpecSource::Static => Self::Static,
        }
    }
}

impl IpAllocation {
    /// Returns the object for a new record.
    #[must_use]
    pub fn new(
        scope: &Scope,
        address: std::net::IpAddr,
        held: &Record,
        machine: Option<&str>,
    ) -> Self {
        let attachment = &held.attachment;
        Self {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND.to_owned(),
            metadata: Metadata {
                name: names::object(scope, address),
                labels: names::labels(scope, address, held),
                ..Metadata::default()
            },
            spec: Spec {
                format: None,
                address,
                prefix: held.prefix,
                gateway: held.gateway,
                scope: scope.name().map(str::to_owned),
                network: attachment.network.to_string(),
                pod_ref: held.pod.as_ref().map(|pod| PodReference {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    uid: pod.uid.clone(),
                    newer: Newer::new(),
                }),
                interface: attachment.ifname.to_string(),
                container_id: attachment.container.to_string(),
                node: attachment.node.to_string(),
                machine: machine.map(str::to_owned),
                node_uid: None,
                netns: held.netns.as_ref().map(|netns| Namespace {
                    path: encode_path(netns.path.as_os_str()),
                    inode: netns.inode,
                    directory_device: netns.directory_device,
                    newer: Newer::new(),
                }),
                view: held.view.as_ref().map(Viewpoint::of),
                boot_id: held.boot_id.clone(),
                since: humantime::format_rfc3339_micros(held.since).to_string(),
                source: SpecSource::of(held.source),
                part: held.part.index,
                of: held.part.of,
                newer: Newer::new(),
            },
        }
    }

    /// Returns the version of the object as the server gave it; `None` for an object that is still
    /// being created.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let uid = self.metadata.uid.clone()?;
        let revision = self.metadata.resource_version.clone()?;
        Some(Version { uid, revision, newer: self.newer() })
    }

    fn newer(&self) -> Vec<String> {
        let spec = &self.spec;
        let below = |key: &str, newer: &Newer| {
            newer.keys().map(|name| format!("{key}/{name}")).collect::<Vec<_>>()
        };
        // Newer keys below podRef are kept: a re-homing does not change the pod.
        let nested = [
            spec.netns.as_ref().map(|netns| below("netns", &netns.newer)),
            spec.view.as_ref().map(|view| below("view", &view.newer)),
        ];
        spec.newer.keys().cloned().chain(nested.into_iter().flatten().flatten()).collect()
    }

    /// Returns whether two objects are the same record, ignoring keys that a newer version added to
    /// one of them.
    #[must_use]
    pub fn is_same_record(&self, other: &Self) -> bool {
        let held = |object: &Self| object.allocation().map(|allocation| allocation.record).ok();
        self.spec.machine == other.spec.machine
            && self.metadata.name == other.metadata.name
            && held(self).is_some_and(|ours| held(other) == Some(ours))
    }

    /// Returns whether the object's name matches its scope and address.
    #[must_use]
    pub fn is_named_right(&self) -> bool {
        names::is_of(&self.metadata.name, self.spec.scope.as_deref(), self.spec.address)
    }

    /// Returns whether the object's labels match the record.
    #[must_use]
    pub fn is_labelled(&self, allocation: &Allocation) -> bool {
        let labels = names::labels(&allocation.scope, allocation.address, &allocation.record);
        names::LABELS.iter().all(|key| self.metadata.labels.get(*key) == labels.get(*key))
    }

    /// Returns the record in the object.
    ///
    /// # Errors
    /// [`Unreadable::Damaged`] with the reason for content that no ADD of hereabouts can have
    /// written; [`Unreadable::Newer`] for the format of a later version.
    pub fn allocation(&self) -> Result<Allocation, Unreadable> {
        match self.spec.format {
            Some(found) if FORMAT < found => Err(Unreadable::Newer(found)),
            // No version writes an attachment with the format of claims: a later format of the
            // attachments' records has a higher number.
            Some(FORMAT_OF_CLAIMS) => Err(Unreadable::Damaged(format!(
                "format {FORMAT_OF_CLAIMS} is the format of claims, and an attachment holds it"
            ))),
            _ if self.spec.newer.contains_key("claim") => {
                Err(Unreadable::Damaged("a claim and an attachment both hold it".to_owned()))
            }
            _ => self.understand().map_err(Unreadable::Damaged),
        }
    }

    fn understand(&self) -> Result<Allocation, String> {
        let invalid = |key: &str| format!("invalid spec.{key}");
        let spec = &self.spec;
        let scope =
            Scope::parse(spec.scope.as_deref().unwrap_or_default()).or(Err(invalid("scope")))?;
        if names::object(&scope, spec.address) != self.metadata.name {
            return Err("its name does not match its scope and address".to_owned());
        }
        let attachment = Attachment {
            node: NodeName::parse(&spec.node).or(Err(invalid("node")))?,
            network: NetworkName::parse(&spec.network).or(Err(invalid("network")))?,
            container: ContainerId::parse(&spec.container_id).or(Err(invalid("containerID")))?,
            ifname: IfName::parse(&spec.interface).or(Err(invalid("interface")))?,
        };
        let held = Record {
            attachment,
            pod: spec.pod_ref.as_ref().map(|pod| PodRef {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
            }),
            netns: spec.netns.as_ref().map(Namespace::netns),
            view: spec.view.as_ref().map(Viewpoint::view),
            boot_id: spec.boot_id.clone(),
            since: humantime::parse_rfc3339(&spec.since).or(Err(invalid("since")))?,
            source: spec.source.into(),
            part: Part { index: spec.part, of: spec.of },
            prefix: spec.prefix,
            gateway: spec.gateway,
        };
        let allocation =
            Allocation { scope, address: spec.address, record: held, version: self.version() };
        allocation.impossible().map_or(Ok(()), |key| Err(invalid(key)))?;
        Ok(allocation)
    }
}
