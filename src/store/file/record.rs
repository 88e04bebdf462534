//! A record as JSON, format 1. Only this file knows its shape. Readers ignore keys that they do not
//! know. `docs/store.md` describes it.

use crate::ipam::{
    Allocation, Attachment, ContainerId, IfName, MountNamespace, Netns, NetworkName, NodeName,
    Part, PodRef, Record, Scope, Source, Version, View,
};
use crate::store::StoreError;
use crate::store::disk::{Content, Inode};
use crate::store::percent::{decode_path, encode_path};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// The format that this version writes, and the newest that it reads.
pub(super) const FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
struct StoredRecord {
    /// No version writes this key yet. A later version may change single records.
    #[serde(default, skip_serializing)]
    format: u64,
    address: IpAddr,
    prefix: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    scope: String,
    network: String,
    container_id: String,
    ifname: String,
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Pod>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<Namespace>,
    /// Present since 0.1.0. A reader that does not know it decides by the other keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    view: Option<Viewpoint>,
    boot_id: String,
    since: String,
    source: String,
    part: u16,
    of: u16,
}

#[derive(Serialize, Deserialize)]
struct Pod {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Namespace {
    path: String,
    inode: u64,
    directory_device: u64,
}

#[derive(Serialize, Deserialize)]
struct Viewpoint {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    boot_id_is_mounted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hardware: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mounts: Option<Mounts>,
    /// One `device:inode` pair per directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    directories: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tmpfs: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mount: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Mounts {
    inode: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    /// In milliseconds.
    uptime: u64,
}

impl Viewpoint {
    fn of(view: &View) -> Self {
        Self {
            boot_id_is_mounted: view.boot_id_is_mounted,
            hardware: view.hardware.clone(),
            mounts: view.mounts.map(|mounts| Mounts {
                inode: mounts.inode,
                number: mounts.number,
                uptime: u64::try_from(mounts.uptime.as_millis()).unwrap_or(0),
            }),
            directories: view.directories.iter().map(ToString::to_string).collect(),
            tmpfs: view.tmpfs,
            mount: view.mount,
        }
    }

    fn view(self) -> View {
        let mounts = |Mounts { inode, number, uptime }| MountNamespace {
            inode,
            number,
            uptime: std::time::Duration::from_millis(uptime),
        };
        View {
            boot_id_is_mounted: self.boot_id_is_mounted,
            hardware: self.hardware,
            mounts: self.mounts.map(mounts),
            // An entry that follows an unreadable one has no known depth.
            directories: self.directories.iter().map_while(|text| text.parse().ok()).collect(),
            tmpfs: self.tmpfs,
            mount: self.mount,
        }
    }
}

/// Returns the bytes of a record.
pub(super) fn encode(allocation: &Allocation) -> Result<Vec<u8>, serde_json::Error> {
    let Allocation { scope, address, record: held, version: _ } = allocation;
    let record = StoredRecord {
        format: FORMAT,
        address: *address,
        prefix: held.prefix,
        gateway: held.gateway,
        scope: scope.name().unwrap_or_default().to_owned(),
        network: held.attachment.network.to_string(),
        container_id: held.attachment.container.to_string(),
        ifname: held.attachment.ifname.to_string(),
        node: held.attachment.node.to_string(),
        pod: held.pod.as_ref().map(|pod| Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        }),
        netns: held.netns.as_ref().map(|netns| Namespace {
            path: encode_path(netns.path.as_os_str()),
            inode: netns.inode,
            directory_device: netns.directory_device,
        }),
        view: held.view.as_ref().map(Viewpoint::of),
        boot_id: held.boot_id.clone(),
        since: humantime::format_rfc3339_micros(held.since).to_string(),
        source: match held.source {
            Source::Dynamic => "dynamic",
            Source::Requested => "requested",
            Source::Static => "static",
        }
        .to_owned(),
        part: held.part.index,
        of: held.part.of,
    };
    let mut bytes = serde_json::to_vec(&record)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Returns a record as JSON for notes outside of a store, without its version.
pub(crate) fn record_to_json(
    allocation: &Allocation,
) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_slice(&encode(allocation)?)
}

/// Reads such a note.
///
/// # Errors
/// The reason why it is not valid.
pub(crate) fn record_from_json(value: &serde_json::Value) -> Result<Allocation, String> {
    decode(value.to_string().as_bytes()).map_err(|error| error.to_string())
}

/// The reason why a record cannot be read.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Unreadable {
    /// The record has content that no version writes.
    #[error("{0}")]
    Damaged(String),
    /// A later version wrote the record.
    #[error("format {0}, but this version reads only up to {FORMAT}")]
    Newer(u64),
}

impl Unreadable {
    /// Returns the store's error for the unreadable record at a path.
    pub(super) fn at(self, path: PathBuf) -> StoreError {
        match self {
            Self::Damaged(reason) => StoreError::Damaged { path, reason },
            Self::Newer(found) => StoreError::Newer { path, found, known: FORMAT },
        }
    }
}

/// Reads a record.
///
/// # Errors
/// The reason why it cannot be read.
pub(super) fn decode(bytes: &[u8]) -> Result<Allocation, Unreadable> {
    if bytes.is_empty() {
        return Err(Unreadable::Damaged("empty file".to_owned()));
    }
    if crate::store::disk::LARGEST < bytes.len() as u64 {
        return Err(Unreadable::Damaged("larger than any record".to_owned()));
    }
    let record: StoredRecord = match serde_json::from_slice(bytes) {
        Ok(StoredRecord { format, .. }) if FORMAT < format => {
            return Err(Unreadable::Newer(format));
        }
        Ok(record) => record,
        Err(error) => {
            return Err(newer(bytes).unwrap_or_else(|| Unreadable::Damaged(error.to_string())));
        }
    };
    understand(record).map_err(Unreadable::Damaged)
}

/// Returns the format of a later version's record; nothing else of such a record is known.
fn newer(bytes: &[u8]) -> Option<Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        format: u64,
    }
    let head: Head = serde_json::from_slice(bytes).ok()?;
    (FORMAT < head.format).then_some(Unreadable::Newer(head.format))
}

fn understand(record: StoredRecord) -> Result<Allocation, String> {
    let invalid = |key: &str| format!("invalid {key}");
    let source = match record.source.as_str() {
        "dynamic" => Source::Dynamic,
        "requested" => Source::Requested,
        "static" => Source::Static,
        _ => return Err(invalid("source")),
    };
    let attachment = Attachment {
        node: NodeName::parse(&record.node).or(Err(invalid("node")))?,
        network: NetworkName::parse(&record.network).or(Err(invalid("network")))?,
        container: ContainerId::parse(&record.container_id).or(Err(invalid("container_id")))?,
        ifname: IfName::parse(&record.ifname).or(Err(invalid("ifname")))?,
    };
    let held = Record {
        attachment,
        pod: record.pod.map(|pod| PodRef {
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid,
        }),
        netns: record.netns.map(|netns| Netns {
            path: decode_path(&netns.path).into(),
            inode: netns.inode,
            directory_device: netns.directory_device,
        }),
        view: record.view.map(Viewpoint::view),
        boot_id: record.boot_id,
        since: humantime::parse_rfc3339(&record.since).or(Err(invalid("since")))?,
        source,
        part: Part { index: record.part, of: record.of },
        prefix: record.prefix,
        gateway: record.gateway,
    };
    let scope = Scope::parse(&record.scope).or(Err(invalid("scope")))?;
    let allocation = Allocation { scope, address: record.address, record: held, version: None };
    allocation.impossible().map_or(Ok(()), |key| Err(invalid(key)))?;
    Ok(allocation)
}

/// Returns the record in a file, with the file as its version.
pub(super) fn read(content: &Content) -> Result<Allocation, Unreadable> {
    let decoded = decode(&content.bytes)?;
    Ok(Allocation { version: Some(version(content.inode)), ..decoded })
}

/// Returns the file of a record as its version: a later record of the same address is another file,
/// or has other content.
pub(super) fn version(inode: Inode) -> Version {
    Version { uid: inode.number.to_string(), revision: String::new(), newer: Vec::new() }
}

/// Returns whether both are the same file with the same content.
pub(super) fn is_same(one: &Allocation, other: &Allocation) -> bool {
    let bytes = |allocation| encode(allocation).ok();
    one.version == other.version && bytes(one).is_some_and(|one| Some(one) == bytes(other))
}

/// Returns the reason why a record does not belong at the name where it was found.
pub(super) fn of_another_name(found: &Allocation) -> String {
    format!("it is the record of {} in scope {}", found.address, found.scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    fn allocation() -> Allocation {
        Allocation {
            scope: Scope::parse("blue").unwrap(),
            address: "2001:db8::7".parse().unwrap(),
            record: Record {
                attachment: Attachment {
                    node: NodeName::parse("n1").unwrap(),
                    network: NetworkName::parse("net1").unwrap(),
                    container: ContainerId::parse("c1").unwrap(),
                    ifname: IfName::parse("a@b").unwrap(),
                },
                pod: Some(PodRef {
                    namespace: "default".to_owned(),
                    name: "web".to_owned(),
                    uid: None,
                }),
                netns: Some(Netns {
                    path: OsString::from_vec(b"/run/netns/100%25\xff".to_vec()).into(),
                    inode: 4_026_532_000,
                    directory_device: 25,
                }),
                view: Some(View {
                    boot_id_is_mounted: true,
                    hardware: Some("0123456789abcdef".to_owned()),
                    mounts: Some(MountNamespace {
                        inode: 4_026_532_001,
                        number: Some(7),
                        uptime: std::time::Duration::from_millis(1234),
                    }),
                    directories: vec![
                        crate::ipam::Directory { device: 25, inode: 2 },
                        crate::ipam::Directory { device: 25, inode: 1 },
                    ],
                    tmpfs: Some(u64::MAX),
                    mount: Some(77),
                }),
                boot_id: "b".to_owned(),
                since: std::time::UNIX_EPOCH
                    + std::time::Duration::from_micros(1_700_000_000_123_456),
                source: Source::Requested,
                part: Part { index: 1, of: 2 },
                prefix: 64,
                gateway: Some("fe80::1".parse().unwrap()),
            },
            version: None,
        }
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        assert_eq!(decode(&encode(&allocation()).unwrap()), Ok(allocation()));
    }

    #[test]
    fn keys_of_a_later_version_are_passed_over() {
        let text = String::from_utf8(encode(&allocation()).unwrap()).unwrap().replacen(
            '{',
            r#"{"later":[1],"#,
            1,
        );
        assert_eq!(decode(text.as_bytes()), Ok(allocation()));
    }

    #[test]
    fn a_record_of_a_newer_format_is_told_from_a_damaged_one() {
        let text = String::from_utf8(encode(&allocation()).unwrap()).unwrap();
        assert!(!text.contains("format"), "{text}");
        let of = |format: &str| {
            decode(text.replacen('{', &format!("{{\"format\":{format},"), 1).as_bytes())
        };
        assert_eq!(of("1"), Ok(allocation()));
        assert_eq!(of("2"), Err(Unreadable::Newer(2)));
        assert_eq!(
            decode(br#"{"format":3,"address":{"ip":"10.0.0.1"}}"#),
            Err(Unreadable::Newer(3))
        );
        assert!(matches!(
            decode(br#"{"format":1,"address":{"ip":"10.0.0.1"}}"#),
            Err(Unreadable::Damaged(_))
        ));
        assert!(matches!(of("-1"), Err(Unreadable::Damaged(_))));
    }

    /// Found by garbling records: a repeated ADD printed "10.0.0.2/300" and a gateway of the other
    /// family, and an attachment of "part 3 of 2" was never complete.
    #[test]
    fn what_no_add_can_have_written_is_damaged() {
        let text = String::from_utf8(encode(&allocation()).unwrap()).unwrap();
        let cases = [
            (r#""prefix":64"#, r#""prefix":129"#, "invalid prefix"),
            (r#""gateway":"fe80::1""#, r#""gateway":"10.0.0.1""#, "invalid gateway"),
            (r#""part":1,"of":2"#, r#""part":2,"of":2"#, "invalid part"),
            (r#""part":1,"of":2"#, r#""part":0,"of":0"#, "invalid part"),
        ];
        for (whole, garbled, reason) in cases {
            assert!(text.contains(whole), "{text}");
            assert_eq!(
                decode(text.replace(whole, garbled).as_bytes()),
                Err(Unreadable::Damaged(reason.to_owned()))
            );
        }
    }

    #[test]
    fn a_record_cut_anywhere_is_damaged_and_never_half_read() {
        let bytes = encode(&allocation()).unwrap();
        for length in 0..bytes.len() - 1 {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
    }
}
