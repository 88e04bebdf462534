//! Decides whether the sandbox of a record still exists. Re-homing, GC, `sweep`, `repair`, `verify`
//! and `release` all use this one definition.
//!
//! A record is dead only if the evidence shows it, and alive only if its sandbox is seen.
//! Everything between is doubt. Code that frees addresses treats doubt as alive. An address that is
//! kept too long is a leak, which an operator can end. An address that is freed while its pod runs
//! gets a second holder. ARCHITECTURE.md has the table of the evidence.

use super::{Directory, MountNamespace, Netns, Record, View};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The largest difference between two times that is not evidence: the wall clock may be off by this
/// much.
const CLOCK_MARGIN: Duration = Duration::from_secs(5);

/// Whether the sandbox that holds a record exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// The namespace of the sandbox is seen.
    Alive,
    /// The namespace is not seen, and nothing shows that it is gone.
    Doubted(Doubt),
    /// The evidence shows that the sandbox is gone.
    Dead,
}

impl Life {
    /// Returns whether the address may be freed.
    #[must_use]
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Dead)
    }

    /// Returns whether the sandbox was seen.
    #[must_use]
    pub const fn is_seen(self) -> bool {
        matches!(self, Self::Alive)
    }
}

/// The reasons why it is unknown whether a sandbox exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The hardware of the record is not this machine's.
    #[error("another machine with this node name created the record")]
    Hardware,
    /// One of the two boot IDs comes from a mounted file, the other one from the kernel.
    #[error("the boot id was read in another mount namespace")]
    View,
    /// A record of another boot is younger than this boot.
    #[error("the record is from another boot, but newer than this one")]
    Clock,
    /// A record of another boot, but its namespace is seen.
    #[error("the record is from another boot, but its namespace still exists")]
    Seen,
    /// The record was imported from elsewhere.
    #[error("the record was imported, and the node has not looked for the namespace yet")]
    Unseen,
    /// ADD could not examine the namespace.
    #[error("ADD could not access the namespace")]
    NeverSeen,
    /// The path of the namespace cannot be examined.
    #[error("the namespace is not accessible")]
    Unclear,
    /// The directory of the namespace is not the one that ADD saw.
    #[error("the directory of the namespace is a different one here")]
    Directory,
    /// Another file is at the path, and the view is from another mount namespace.
    #[error(
        "the namespace is not mounted here, and ADD saw it in another mount namespace or did not record in which one"
    )]
    Mounts,
}

/// The file at the path of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// There is no file.
    Gone,
    /// A namespace file with this inode on nsfs.
    Namespace(u64),
    /// A file that is not a namespace: it was the mount point of one.
    File,
    /// The path cannot be examined, or its file is not one that a runtime creates.
    Unclear,
}

/// The result of examining the path of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The file at the path.
    pub seen: Seen,
    /// The existing directories above the path, up to `/`. Empty if they cannot be examined.
    pub directories: Vec<Directory>,
    /// The number of missing directories in the path, below the first entry of `directories`.
    pub missing: usize,
    /// The random ID of the tmpfs that contains the first entry of `directories`.
    pub tmpfs: Option<u64>,
    /// Whether the path is on procfs. It is a link of a process then, not a mount.
    pub on_procfs: bool,
    /// The mount that contains the name itself. If a namespace is mounted on the name in this
    /// mount, it is seen. `None` if the mount is unknown.
    pub mount: Option<u64>,
}

impl Examined {
    /// Returns the result of an examination that failed.
    #[must_use]
    pub const fn failed() -> Self {
        Self {
            seen: Seen::Unclear,
            directories: Vec::new(),
            missing: 0,
            tmpfs: None,
            on_procfs: false,
            mount: None,
        }
    }
}

/// The machine and the view of the current process.
pub trait Here {
    /// Returns the boot ID as this process sees it.
    fn boot_id(&self) -> &str;
    /// Returns whether the boot ID comes from a file that is mounted over the kernel's.
    fn boot_id_is_mounted(&self) -> bool;
    /// Returns the time at which the kernel was started, by the wall clock.
    fn started(&self) -> Option<SystemTime>;
    /// Returns a hash of the hardware's own ID.
    fn hardware(&self) -> Option<&str>;
    /// Examines the path of a namespace.
    fn examine(&self, path: &Path) -> Examined;
    /// Returns whether it is certain that a recorded mount namespace is the one of this process.
    fn is_in(&self, mounts: &MountNamespace) -> bool;
    /// Returns whether it is certain that a tmpfs is unmounted everywhere.
    fn is_unmounted(&self, device: u64, tmpfs: u64) -> bool;
}

/// The result of comparing two boot IDs.
enum Boot {
    Same,
    Another,
    /// Both boot IDs come from mounted files, and the kernel has not restarted: a container was
    /// restarted, or this is another view.
    Masked,
    Unsure(Doubt),
}

/// Returns whether the sandbox of a record of this node exists.
pub fn classify_record(record: &Record, here: &dyn Here) -> Life {
    let boot = compare_boots(record, here);
    let Some(netns) = &record.netns else {
        return match boot {
            Boot::Same | Boot::Another | Boot::Masked => Life::Dead,
            Boot::Unsure(doubt) => Life::Doubted(doubt),
        };
    };
    if netns.is_unseen() {
        return match boot {
            Boot::Another => Life::Dead,
            Boot::Unsure(doubt) => Life::Doubted(doubt),
            Boot::Same | Boot::Masked => Life::Doubted(Doubt::Unseen),
        };
    }
    let examined = here.examine(&netns.path);
    let is_there = netns.inode != 0 && examined.seen == Seen::Namespace(netns.inode);
    match boot {
        Boot::Same | Boot::Masked => classify_in_boot(netns, record.view.as_ref(), &examined, here),
        // The same namespace at the same place: the boot ID is probably shown differently.
        Boot::Another if is_there && is_recorded_place(netns, record.view.as_ref(), &examined) => {
            Life::Doubted(Doubt::Seen)
        }
        Boot::Another => Life::Dead,
        Boot::Unsure(Doubt::Hardware) => Life::Doubted(Doubt::Hardware),
        Boot::Unsure(_)
            if is_there && is_recorded_place(netns, record.view.as_ref(), &examined) =>
        {
            Life::Alive
        }
        // The same tmpfs, so this is the kernel that ran when the record was written.
        Boot::Unsure(_)
            if examined.tmpfs.is_some()
                && record.view.as_ref().is_some_and(|view| view.tmpfs == examined.tmpfs) =>
        {
            classify_in_boot(netns, record.view.as_ref(), &examined, here)
        }
        Boot::Unsure(doubt) => Life::Doubted(doubt),
    }
}

/// The relation between this machine and the record of a machine with another machine ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRelation {
    /// This machine is another Node object than the record names.
    AnotherNode,
    /// This machine is the same Node object, but has another machine ID.
    SameNode,
}

/// Returns whether a record of another machine ID under this node's name was left behind by a
/// machine that is gone. The answer is no if the boot ID is the current one, if only one of the two
/// boot IDs comes from a mounted file, or if the namespace is seen. For the same Node object, other
/// hardware and a record that is younger than this boot are evidence against it, too.
pub fn is_left_behind(record: &Record, here: &dyn Here, relation: NodeRelation) -> bool {
    let boot = match relation {
        NodeRelation::AnotherNode => compare_boot_ids(record, here),
        NodeRelation::SameNode => compare_boots(record, here),
    };
    let is_earlier = matches!(boot, Boot::Another | Boot::Masked)
        || relation == NodeRelation::AnotherNode && matches!(boot, Boot::Unsure(Doubt::Clock));
    let is_seen = record.netns.as_ref().is_some_and(|netns| {
        let examined = here.examine(&netns.path);
        netns.inode != 0
            && examined.seen == Seen::Namespace(netns.inode)
            && is_recorded_place(netns, record.view.as_ref(), &examined)
    });
    is_earlier && !is_seen
}

/// Returns whether another machine made the record, such as the original of an image. The runtime
/// of a clone removes the sandboxes that were copied with the image. Therefore not even a DEL
/// proves that the sandbox is gone.
pub fn is_of_other_hardware(record: &Record, here: &dyn Here) -> bool {
    let theirs = record.view.as_ref().and_then(|view| view.hardware.as_deref());
    theirs.is_some_and(|theirs| here.hardware().is_some_and(|ours| ours != theirs))
}

fn compare_boots(record: &Record, here: &dyn Here) -> Boot {
    if is_of_other_hardware(record, here) {
        Boot::Unsure(Doubt::Hardware)
    } else {
        compare_boot_ids(record, here)
    }
}

fn compare_boot_ids(record: &Record, here: &dyn Here) -> Boot {
    let view = record.view.as_ref();
    if record.boot_id == here.boot_id() {
        return Boot::Same;
    }
    if view.is_some_and(|view| view.boot_id_is_mounted != here.boot_id_is_mounted()) {
        return Boot::Unsure(Doubt::View);
    }
    let started = here.started();
    // The time at which the kernel that ran the ADD was started.
    let of_record = view.and_then(|view| record.since.checked_sub(view.mounts?.uptime));
    let is_one_run = started.zip(of_record).is_some_and(|(ours, theirs)| is_near(ours, theirs));
    if here.boot_id_is_mounted() && is_one_run {
        return Boot::Masked;
    }
    // A record that was made after the start of this kernel is not from an earlier boot of this
    // machine.
    let is_younger = started.is_some_and(|started| started + CLOCK_MARGIN < record.since);
    if is_younger { Boot::Unsure(Doubt::Clock) } else { Boot::Another }
}

fn is_near(one: SystemTime, other: SystemTime) -> bool {
    let apart = one.duration_since(other).unwrap_or_else(|error| error.duration());
    apart <= CLOCK_MARGIN
}

/// Classifies a record of the current boot, from any view.
fn classify_in_boot(
    netns: &Netns,
    view: Option<&View>,
    examined: &Examined,
    here: &dyn Here,
) -> Life {
    if netns.inode != 0 && examined.seen == Seen::Namespace(netns.inode) {
        return Life::Alive;
    }
    if examined.seen == Seen::Unclear {
        return Life::Doubted(Doubt::Unclear);
    }
    if !is_recorded_place(netns, view, examined) {
        let unmounted = view.and_then(|view| Some((view.directories.first()?.device, view.tmpfs?)));
        let gone = unmounted.is_some_and(|(device, tmpfs)| here.is_unmounted(device, tmpfs));
        return if gone { Life::Dead } else { Life::Doubted(Doubt::Directory) };
    }
    match examined.seen {
        // A directory has the same entries for every process. The name is gone, and with it every
        // mount on it.
        Seen::Gone => Life::Dead,
        _ if netns.inode == 0 => Life::Doubted(Doubt::NeverSeen),
        _ if examined.on_procfs => Life::Dead,
        // A mount exists in one mount namespace only, so its absence counts only there. Within a
        // mount namespace, it is attached to one mount: if a directory is bind-mounted at two
        // places, the namespace may be mounted at one of them only.
        _ => match view {
            Some(View { mounts: Some(mounts), mount: Some(mount), .. })
                if examined.mount == Some(*mount) && here.is_in(mounts) =>
            {
                Life::Dead
            }
            // The previous version recorded no more than this.
            None if examined.seen != Seen::File => Life::Dead,
            _ => Life::Doubted(Doubt::Mounts),
        },
    }
}

/// Returns whether the examined directory is one that ADD saw above the namespace, on the same
/// filesystem as the nearest directory. A filesystem that is mounted on a directory may also be
/// mounted elsewhere.
fn is_recorded_place(netns: &Netns, view: Option<&View>, examined: &Examined) -> bool {
    let Some(found) = examined.directories.first() else {
        return false;
    };
    let Some(view) = view else {
        return found.device == netns.directory_device;
    };
    let is_same_tmpfs =
        view.tmpfs.is_none() || examined.tmpfs.is_none() || view.tmpfs == examined.tmpfs;
    let nearest = view.directories.first();
    is_same_tmpfs
        && nearest.is_some_and(|nearest| nearest.device == found.device)
        && view.directories.get(examined.missing) == Some(found)
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    /// A machine with the properties that a test sets.
    struct Told {
        boot: &'static str,
        mounted: bool,
        started: Option<SystemTime>,
        hardware: Option<&'static str>,
        examined: Examined,
        unmounted: bool,
    }

    impl Here for Told {
        fn boot_id(&self) -> &str {
            self.boot
        }
        fn boot_id_is_mounted(&self) -> bool {
            self.mounted
        }
        fn started(&self) -> Option<SystemTime> {
            self.started
        }
        fn hardware(&self) -> Option<&str> {
            self.hardware
        }
        fn examine(&self, _: &Path) -> Examined {
            self.examined.clone()
        }
        fn is_in(&self, mounts: &MountNamespace) -> bool {
            mounts.inode == 1
        }
        fn is_unmounted(&self, _: u64, _: u64) -> bool {
            self.unmounted
        }
    }

    fn place(inode: u64) -> Directory {
        Directory { device: 25, inode }
    }

    fn told(seen: Seen, nearest: u64) -> Told {
        let examined = Examined {
            seen,
            directories: vec![place(nearest), place(1)],
            missing: 0,
            tmpfs: None,
            on_procfs: false,
            mount: Some(9),
        };
        Told {
            boot: "today",
            mounted: false,
            started: None,
            hardware: None,
            examined,
            unmounted: false,
        }
    }

    fn record(mounts: u64) -> Record {
        let mounts = Some(MountNamespace { inode: mounts, number: None, uptime: Duration::ZERO });
        let (hardware, directories) = (Some("a".to_owned()), vec![place(2), place(1)]);
        let view = View { mounts, hardware, directories, mount: Some(9), ..View::default() };
        Record {
            attachment: Attachment {
                node: NodeName::parse("n1").unwrap(),
                network: NetworkName::parse("net1").unwrap(),
                container: ContainerId::parse("c1").unwrap(),
                ifname: IfName::parse("eth0").unwrap(),
            },
            pod: None,
            netns: Some(Netns { path: "/run/netns/x".into(), inode: 7, directory_device: 25 }),
            view: Some(view),
            boot_id: "today".to_owned(),
            since: std::time::UNIX_EPOCH,
            source: Source::Dynamic,
            part: Part { index: 0, of: 1 },
            prefix: 24,
            gateway: None,
        }
    }

    #[test]
    fn only_the_recorded_directory_shows_that_a_name_is_gone() {
        assert_eq!(classify_record(&record(1), &told(Seen::Gone, 2)), Life::Dead);
        assert_eq!(
            classify_record(&record(1), &told(Seen::Gone, 3)),
            Life::Doubted(Doubt::Directory)
        );
        let restarted = Told { unmounted: true, ..told(Seen::Gone, 3) };
        let mut on_tmpfs = record(1);
        on_tmpfs.view.as_mut().unwrap().tmpfs = Some(5);
        assert_eq!(classify_record(&on_tmpfs, &restarted), Life::Dead);
    }

    #[test]
    fn a_mount_that_is_not_there_counts_in_its_own_mount_namespace() {
        for seen in [Seen::File, Seen::Namespace(8)] {
            assert_eq!(classify_record(&record(1), &told(seen.clone(), 2)), Life::Dead);
            assert_eq!(classify_record(&record(2), &told(seen, 2)), Life::Doubted(Doubt::Mounts));
        }
        assert_eq!(classify_record(&record(2), &told(Seen::Namespace(7), 2)), Life::Alive);
        for mount in [None, Some(8)] {
            let mut here = told(Seen::File, 2);
            here.examined.mount = mount;
            assert_eq!(
                classify_record(&record(1), &here),
                Life::Doubted(Doubt::Mounts),
                "the same directory in another mount"
            );
        }
    }

    #[test]
    fn a_record_of_the_version_before_is_judged_by_its_device() {
        let old = Record { view: None, ..record(1) };
        assert_eq!(classify_record(&old, &told(Seen::Gone, 3)), Life::Dead);
        assert_eq!(classify_record(&old, &told(Seen::Namespace(7), 3)), Life::Alive);
        assert_eq!(classify_record(&old, &told(Seen::File, 3)), Life::Doubted(Doubt::Mounts));
    }

    #[test]
    fn an_imported_record_is_in_doubt_until_the_node_has_looked_or_has_booted() {
        let imported = Record { netns: Some(Netns::unseen()), view: None, ..record(1) };
        for seen in [Seen::Gone, Seen::Unclear] {
            assert_eq!(classify_record(&imported, &told(seen, 2)), Life::Doubted(Doubt::Unseen));
        }
        let here = Told { boot: "tomorrow", ..told(Seen::Gone, 2) };
        assert_eq!(classify_record(&imported, &here), Life::Dead);
        // A version that does not know of imports compares the place.
        let netns = Netns::unseen();
        let life =
            classify_in_boot(&netns, None, &told(Seen::Gone, 2).examined, &told(Seen::Gone, 2));
        assert_eq!(life, Life::Doubted(Doubt::Directory));
    }

    #[test]
    fn another_boot_is_dead_unless_something_speaks_against_it() {
        let boot = |change: fn(&mut Told), seen| {
            let mut here = Told { boot: "tomorrow", ..told(seen, 2) };
            change(&mut here);
            classify_record(&record(1), &here)
        };
        assert_eq!(boot(|_| {}, Seen::Gone), Life::Dead);
        assert_eq!(boot(|here| here.hardware = Some("a"), Seen::Gone), Life::Dead);
        assert_eq!(
            boot(|here| here.hardware = Some("b"), Seen::Gone),
            Life::Doubted(Doubt::Hardware)
        );
        assert_eq!(boot(|here| here.mounted = true, Seen::Gone), Life::Doubted(Doubt::View));
        assert_eq!(boot(|_| {}, Seen::Namespace(7)), Life::Doubted(Doubt::Seen));
        let mut younger = record(1);
        younger.since += Duration::from_secs(60);
        let here =
            Told { boot: "tomorrow", started: Some(std::time::UNIX_EPOCH), ..told(Seen::Gone, 2) };
        assert_eq!(classify_record(&younger, &here), Life::Doubted(Doubt::Clock));
    }

    /// Two containers on one kernel, each with its own boot ID: either one container was restarted,
    /// or there is a second view.
    #[test]
    fn of_two_mounted_boot_ids_of_one_kernel_the_place_decides() {
        let mut masked = record(1);
        masked.view.as_mut().unwrap().boot_id_is_mounted = true;
        masked.since += Duration::from_secs(60);
        let classify = |record: &Record, seen, nearest, started: u64| {
            let started = Some(std::time::UNIX_EPOCH + Duration::from_secs(started));
            classify_record(
                record,
                &Told { boot: "tomorrow", mounted: true, started, ..told(seen, nearest) },
            )
        };
        masked.view.as_mut().unwrap().mounts.as_mut().unwrap().uptime = Duration::from_secs(50);
        assert_eq!(classify(&masked, Seen::Gone, 2, 12), Life::Dead, "the name is gone");
        assert_eq!(
            classify(&masked, Seen::Gone, 3, 12),
            Life::Doubted(Doubt::Directory),
            "another view"
        );
        assert_eq!(classify(&masked, Seen::Namespace(7), 2, 12), Life::Alive);
        assert_eq!(
            classify(&masked, Seen::Gone, 2, 30),
            Life::Doubted(Doubt::Clock),
            "another kernel, which was there before the record"
        );
        assert_eq!(classify(&masked, Seen::Gone, 2, 70), Life::Dead, "a reboot");
        let nothing = Record { netns: None, ..masked };
        assert_eq!(classify(&nothing, Seen::Gone, 2, 12), Life::Dead);
    }
}
