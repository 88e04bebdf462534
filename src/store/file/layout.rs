//! The paths below the data directory, and the file names for ids.
//!
//! ```text
//! format                                     version and random id
//! lock                                       flock, on shared filesystems
//! scopes/<scope>/<shard>/<ip>                the record: THE TRUTH
//! scopes/<scope>/full                        shards known to be full; a hint
//! scopes/<scope>/exhausted                   which candidates ran out, and when
//! scopes/<scope>/looking                     flock of the process that makes sure
//! scopes/<scope>/gateway-<ip>                a record that names the gateway; a hint
//! scopes/<scope>/sticky-<ip>                 which pod had the address last; a hint
//! nodes/<node>/@machine-id                   which machine uses the node name
//! nodes/<node>/@tmp/<unique>                 hints being written
//! nodes/<node>/<network>/<attachment>.<n>    the index
//! nodes/<node>/@pods/<network>/<pod>.<n>     the same by pod; a hint
//! ```
//!
//! A name on disk is an escaped id: letters, digits, `.`, `_`, `-` and `:` stand for themselves;
//! every other character, and a leading dot, is `%XX`. Bookkeeping names begin with `@` or contain
//! no `_`, so they never equal the name of an id or a shard. A name that is too long for a file is
//! cut and ends in `~` and a hash.

use crate::addr::{Family, Shard};
use crate::ipam::{Attachment, IfName, NetworkName, NodeName, PodRef, Scope};
use crate::store::attachment_hash::of_attachment;
use crate::store::percent::escape;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub(super) const FORMAT: &str = "format";
pub(super) const LOCK: &str = "lock";
pub(super) const SCOPES: &str = "scopes";
pub(super) const NODES: &str = "nodes";
/// The directory of the pools of a store that machines share. Operators write it, and the store
/// itself does not read it.
pub(crate) const POOLS: &str = "pools";

/// The prefix of names that `store test` and `store init` create next to the store for a while.
pub(super) const ASIDE: &str = ".hereabouts-";
/// Names that filesystems and their servers create in a directory by themselves.
const OF_FILESYSTEMS: &[&str] = &[
    "lost+found",
    ".snapshot",
    ".snapshots",
    ".snap",
    ".zfs",
    ".glusterfs",
    ".trashcan",
    ".trash",
    ".accesslog",
    ".config",
    ".stats",
    ".lustre",
    "@eaDir",
    "#snapshot",
    "#recycle",
];
/// Prefixes of such names: files that were removed while a client had them open.
const OF_CLIENTS: &[&str] = &[".nfs", ".fuse_hidden", ".smb", ASIDE];

/// Names in the directory of a scope.
pub(super) const FULL: &str = "full";
const EXHAUSTED: &str = "exhausted";
const LOOKING: &str = "looking";
/// The prefix of a gateway's address.
const GATEWAY: &str = "gateway-";
/// The prefix of an address that a pod gets again.
const STICKY: &str = "sticky-";
/// The names there that are not shards, in addition to the notes of gateways.
const HINTS: &[&str] = &[FULL, EXHAUSTED, LOOKING];
/// The hints that may claim that a free address is held.
pub(super) const HINTS_OF_FULL: &[&str] = &[FULL, EXHAUSTED];

/// Names in the directory of a node.
pub(super) const MACHINE_ID: &str = "@machine-id";
pub(super) const TMP: &str = "@tmp";
pub(super) const PODS: &str = "@pods";

/// Returns the byte of the file `format` that keeps calls of an attachment apart. Its offset is a
/// hash, from a range so large that two attachments never share a byte.
pub(super) fn lock_byte(attachment: &Attachment) -> u64 {
    // File offsets are signed.
    of_attachment(attachment).iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
        >> 2
}

/// Returns whether a name is one that filesystems create by themselves. No escaped id and no
/// address equals such a name.
pub(super) fn is_of_filesystem(name: &str) -> bool {
    OF_FILESYSTEMS.contains(&name) || OF_CLIENTS.iter().any(|start| name.starts_with(start))
}

pub(super) fn scope(scope: &Scope) -> PathBuf {
    Path::new(SCOPES).join(scope.name().map_or_else(|| "@".to_owned(), escape))
}

fn shard_name(shard: Shard) -> String {
    format!("{}_{}", shard.base(), shard.family().bits() - 8)
}

/// Returns the directory of a shard, in the directory of its scope.
pub(super) fn shard_in(scope: &Path, shard: Shard) -> PathBuf {
    scope.join(shard_name(shard))
}

/// Returns the name whose creation is the commit.
pub(super) fn record(of: &Scope, address: IpAddr) -> PathBuf {
    record_in(&scope(of), address)
}

/// Returns the same, if the scope's directory is known.
pub(super) fn record_in(scope: &Path, address: IpAddr) -> PathBuf {
    shard_in(scope, Shard::of(address)).join(address.to_string())
}

/// Returns the shard that a directory name stands for.
pub(super) fn parse_shard(name: &str) -> Option<Shard> {
    let (base, bits) = name.split_once('_')?;
    let base: IpAddr = base.parse().ok()?;
    (bits.parse() == Ok(Family::of(base).bits() - 8)).then(|| Shard::of(base))
}

pub(super) fn full_hint(of: &Scope) -> PathBuf {
    scope(of).join(FULL)
}

pub(super) fn exhausted(of: &Scope) -> PathBuf {
    scope(of).join(EXHAUSTED)
}

/// Returns the note of a gateway that records of the scope name.
pub(super) fn gateway(of: &Scope, address: IpAddr) -> PathBuf {
    scope(of).join(format!("{GATEWAY}{address}"))
}

/// Returns the note that says which pod of a StatefulSet had an address.
pub(super) fn sticky(of: &Scope, address: IpAddr) -> PathBuf {
    scope(of).join(format!("{STICKY}{address}"))
}

/// Returns the address that such a note is about.
pub(super) fn parse_sticky(name: &str) -> Option<IpAddr> {
    name.strip_prefix(STICKY)?.parse().ok()
}

/// Returns whether a name in a scope's directory is bookkeeping that serves only the records there.
pub(super) fn is_bookkeeping(name: &str) -> bool {
    HINTS.contains(&name)
        || name.strip_prefix(GATEWAY).is_some_and(|address| address.parse::<IpAddr>().is_ok())
}

pub(super) fn looking(of: &Scope) -> PathBuf {
    scope(of).join(LOOKING)
}

pub(super) fn node(node: &NodeName) -> PathBuf {
    Path::new(NODES).join(escape(node.as_str()))
}

/// Returns the directory name of the node that a path belongs to.
pub(super) fn node_of(path: &Path) -> Option<&OsStr> {
    let mut parts = path.strip_prefix(NODES).ok()?.iter();
    parts.next()
}

pub(super) fn machine_id(of: &NodeName) -> PathBuf {
    node(of).join(MACHINE_ID)
}

pub(super) fn temporary(of: &NodeName) -> PathBuf {
    node(of).join(TMP)
}

pub(super) fn network(of: &NodeName, network: &NetworkName) -> PathBuf {
    node(of).join(escape(network.as_str()))
}

/// A directory, and a file name in it without the number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Stem {
    pub(super) directory: PathBuf,
    pub(super) name: String,
}

impl Stem {
    pub(super) fn entry(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{}.{number}", self.name))
    }
}

/// Returns the stem and the number of an index entry; `None` for any other path.
pub(super) fn parse_entry(path: &Path) -> Option<(Stem, u32)> {
    let (name, digits) = path.file_name()?.to_str()?.rsplit_once('.')?;
    let number: u32 = digits.parse().ok()?;
    let stem = Stem { directory: path.parent()?.to_owned(), name: name.to_owned() };
    (name.contains('@') && stem.entry(number) == path).then_some((stem, number))
}

/// Returns the stem of the index entries of an attachment.
pub(super) fn attachment(of: &Attachment) -> Stem {
    Stem {
        directory: network(&of.node, &of.network),
        name: attachment_name(of.container.as_str(), of.ifname.as_str()),
    }
}

/// Returns the name of an attachment's entries, without the number.
pub(super) fn attachment_name(container: &str, ifname: &str) -> String {
    format!("{}@{}", escape(container), escape(ifname))
}

/// Returns the stem of the index entries of a pod.
pub(super) fn pod(of: &NodeName, network: &NetworkName, pod: &PodRef, ifname: &IfName) -> Stem {
    let text = format!("{}/{}", pod.namespace, pod.name);
    Stem {
        directory: node(of).join(PODS).join(escape(network.as_str())),
        name: format!("{}@{}", escape(&text), escape(ifname.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_back_and_nothing_else() {
        let stem = Stem { directory: "nodes/n1/net1".into(), name: "c.1@net1.20".to_owned() };
        assert_eq!(parse_entry(&stem.entry(7)), Some((stem, 7)));
        for name in [
            "c1@net1",
            "c1.0",
            "c1@net1.07",
            "c1@net1.+7",
            "c1@net1.",
            "c1@net1.4294967296",
            "@tmp",
        ] {
            assert_eq!(parse_entry(&Path::new("nodes/n1/net1").join(name)), None, "{name}");
        }
    }

    #[test]
    fn shard_names_are_read_back() {
        for text in ["10.1.2.3", "2001:db8::1:7", "::", "255.255.255.255"] {
            let shard = Shard::of(text.parse().unwrap());
            let path = shard_in(&scope(&Scope::default()), shard);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(parse_shard(name), Some(shard), "{name}");
        }
        for name in ["full", "exhausted", "looking", "10.0.0.0_8", "x_24"] {
            assert_eq!(parse_shard(name), None, "{name}");
        }
    }
}
