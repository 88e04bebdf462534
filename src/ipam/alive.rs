//! Is this record's sandbox still there? The one definition, for re-homing,
//! GC and sweep alike.
//!
//! A record is alive unless it is shown dead. Doubt means alive: an address
//! kept too long is a leak that an operator can mend, an address freed under
//! a living pod is given to a second one.

use super::Draft;

/// What a look at a record's namespace path showed, on the node that made the
/// record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing there; the nearest existing directory above has this device.
    Gone {
        /// Device of the nearest existing directory.
        directory_device: u64,
    },
    /// A namespace file with this inode.
    Namespace {
        /// Inode on nsfs.
        inode: u64,
        /// Device of the nearest existing directory.
        directory_device: u64,
    },
    /// Something else is there, or the look failed with any error but
    /// "nothing there".
    Unclear,
}

/// Whether the sandbox that holds the record still lives. `seen` is asked for
/// only when the answer depends on it; the record must be of this node.
///
/// Dead are: a record of another boot; one whose ADD could record no
/// namespace; one whose namespace path is gone, or is another namespace by
/// now, as seen from a place where the directory is the recorded one.
pub fn is_alive(record: &Draft, boot_id: &str, seen: impl FnOnce(&super::Netns) -> Seen) -> bool {
    if record.boot_id != boot_id {
        return false;
    }
    let Some(netns) = &record.netns else {
        return false;
    };
    match seen(netns) {
        Seen::Gone { directory_device } => directory_device != netns.directory_device,
        Seen::Namespace { inode, directory_device } => inode == netns.inode || directory_device != netns.directory_device,
        Seen::Unclear => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::{Seen, is_alive};

    fn record(netns: bool) -> Draft {
        Draft {
            attachment: Attachment {
                node: NodeName::parse("n1").unwrap(),
                network: NetworkName::parse("net1").unwrap(),
                container: ContainerId::parse("c1").unwrap(),
                ifname: IfName::parse("eth0").unwrap(),
            },
            pod: None,
            netns: netns.then(|| Netns { path: "/run/netns/x".into(), inode: 7, directory_device: 25 }),
            boot_id: "today".to_owned(),
            since: std::time::UNIX_EPOCH,
            source: Source::Dynamic,
            part: Part { index: 0, of: 1 },
            prefix: 24,
            gateway: None,
        }
    }

    #[test]
    fn another_boot_is_dead_whatever_is_seen() {
        assert!(!is_alive(&record(true), "yesterday", |_| Seen::Namespace { inode: 7, directory_device: 25 }));
    }

    #[test]
    fn no_recorded_namespace_is_dead() {
        assert!(!is_alive(&record(false), "today", |_| Seen::Unclear));
    }

    #[test]
    fn gone_or_replaced_is_dead_only_where_the_directory_is_the_recorded_one() {
        let alive = |seen| is_alive(&record(true), "today", |_| seen);
        assert!(!alive(Seen::Gone { directory_device: 25 }));
        assert!(!alive(Seen::Namespace { inode: 8, directory_device: 25 }));
        assert!(alive(Seen::Namespace { inode: 7, directory_device: 25 }));
        // Seen from another mount namespace, as a DaemonSet's.
        assert!(alive(Seen::Gone { directory_device: 1 }));
        assert!(alive(Seen::Namespace { inode: 8, directory_device: 1 }));
        assert!(alive(Seen::Unclear));
    }
}
