//! Collects the evidence of which machine this is, which boot this is, and whether a sandbox
//! exists. It decides nothing: `ipam::classify_record` decides.

use super::failure::Failure;
use super::{mount, unmounted};
use crate::digest::hex;
use crate::ipam::{
    Attachment, Directory, Doubt, Examined, Here, Life, MountNamespace, Netns, Part, Record, Seen,
    Source, View, classify_record,
};
use crate::small_file::{error_text, read_system};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag, fstat, stat};
use nix::sys::statfs::{NSFS_MAGIC, PROC_SUPER_MAGIC, TMPFS_MAGIC, fstatfs, statfs};
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const OWN_MOUNTS: &str = "/proc/self/ns/mnt";
/// The files with an ID of the board. The first one that exists is used.
const HARDWARE_IDS: &[&str] = &[
    "/sys/class/dmi/id/product_uuid",
    "/sys/firmware/devicetree/base/serial-number",
    "/sys/hypervisor/uuid",
];
/// The inode of the root of every procfs.
const PROC_ROOT: u64 = 1;
/// IDs that vendors give to every machine.
const DUMMIES: &[&str] = &[
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "12345678-1234-1234-1234-123456789abc",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
    "4c4c4544-0000-2010-8020-80c04f202020",
];

/// What identifies this machine and its boot.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The boot ID, which changes with every boot.
    pub boot_id: String,
    /// Whether `boot_id` is a file mounted over the kernel's.
    pub boot_id_is_mounted: bool,
    /// The machine ID, which stays with the installation. A few machines have none.
    pub machine_id: Option<String>,
    /// The time at which the machine was examined.
    pub now: SystemTime,
    hardware: OnceLock<Option<String>>,
}

/// A sandbox's namespace, and the place from where this process saw it.
#[derive(Debug, Default)]
pub struct Sighting {
    /// The namespace; `None` if nothing is there.
    pub netns: Option<Netns>,
    /// The place, and the process that saw it.
    pub view: View,
}

impl Machine {
    /// Returns a machine that is known by its boot alone, for tests.
    #[must_use]
    pub const fn new(boot_id: String, machine_id: Option<String>, now: SystemTime) -> Self {
        Self { boot_id, boot_id_is_mounted: false, machine_id, now, hardware: OnceLock::new() }
    }

    /// Reads the IDs.
    ///
    /// # Errors
    /// The kernel shows no boot ID.
    #[allow(
        clippy::disallowed_methods,
        reason = "the only read of the clock, passed on with the rest"
    )]
    pub fn read() -> Result<Self, Failure> {
        let path = Path::new(BOOT_ID);
        let word = |path: &Path| {
            read_system(path).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        let boot_id = word(path).map_err(|error| Failure::Machine {
            path: BOOT_ID.to_owned(),
            reason: error_text(&error),
        })?;
        // The filesystem shows a file that is mounted over the kernel's, unless that is a file of
        // procfs as well.
        let boot_id_is_mounted =
            !statfs(path).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC);
        let machine_id = word(Path::new("/etc/machine-id")).ok().filter(|id| is_telling(id));
        Ok(Self {
            boot_id,
            boot_id_is_mounted,
            machine_id,
            now: SystemTime::now(),
            hardware: OnceLock::new(),
        })
    }

    /// Examines the path of a sandbox's namespace once.
    #[must_use]
    pub fn see(&self, path: Option<&Path>) -> Sighting {
        let path = path.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        let examined = path.as_deref().map_or_else(Examined::failed, examine);
        let netns = path.and_then(|path| find_netns(path, &examined));
        let view = View {
            boot_id_is_mounted: self.boot_id_is_mounted,
            hardware: self.hardware().map(str::to_owned),
            mounts: own_mounts(),
            directories: if examined.missing == 0 { examined.directories } else { Vec::new() },
            tmpfs: examined.tmpfs,
            mount: examined.mount,
        };
        Sighting { netns, view }
    }

    /// Returns what a record says about a sandbox that was seen, without its address and pod.
    pub fn record(&self, attachment: Attachment, seen: Sighting) -> Record {
        Record {
            attachment,
            pod: None,
            netns: seen.netns,
            view: Some(seen.view),
            boot_id: self.boot_id.clone(),
            since: self.now,
            source: Source::Dynamic,
            part: Part { index: 0, of: 1 },
            prefix: 0,
            gateway: None,
        }
    }
}

impl Here for Machine {
    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn boot_id_is_mounted(&self) -> bool {
        self.boot_id_is_mounted
    }

    fn started(&self) -> Option<SystemTime> {
        self.now.checked_sub(uptime()?)
    }

    fn hardware(&self) -> Option<&str> {
        self.hardware.get_or_init(hardware).as_deref()
    }

    fn examine(&self, path: &Path) -> Examined {
        // /proc/self is a different process for each reader, so what ADD saw there cannot be seen
        // again.
        if is_of_own_process(path) { Examined::failed() } else { examine(path) }
    }

    fn is_in(&self, mounts: &MountNamespace) -> bool {
        let Some(own) = own_mounts() else { return false };
        match (own.number, mounts.number) {
            (Some(own), Some(recorded)) => own == recorded,
            _ => own.inode == mounts.inode && is_older(own.inode, mounts.uptime),
        }
    }

    fn is_unmounted(&self, device: u64, tmpfs: u64) -> bool {
        unmounted::is_unmounted(device, tmpfs)
    }
}

/// Returns whether an ID identifies one machine. An ID that vendors, images and installers give to
/// many machines does not.
fn is_telling(id: &str) -> bool {
    let digits: Vec<char> = id.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let varies = digits.iter().skip(1).any(|digit| digits.first() != Some(digit));
    // "0" and "f" alone stand for "not set"; a machine ID of any other single digit may have been
    // chosen.
    let is_blank = !varies && digits.first().is_none_or(|digit| "0fF".contains(*digit));
    !is_blank && id != "uninitialized" && !DUMMIES.contains(&id.to_ascii_lowercase().as_str())
}

fn hardware() -> Option<String> {
    let bytes = HARDWARE_IDS.iter().find_map(|path| read_system(Path::new(path)).ok())?;
    let id = String::from_utf8(bytes).ok()?.trim_matches(['\0', '\n', ' ']).to_ascii_lowercase();
    let is_id = (8..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_id || !is_telling(&id) {
        return None;
    }
    Some(hex(&Sha256::digest(format!("hardware {id}"))[..8]))
}

/// Returns the time since the boot, including the time asleep.
pub(super) fn uptime() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}

nix::ioctl_read!(
    /// Reads the number of a mount namespace: `NS_GET_MNTNS_ID`.
    read_mount_namespace,
    0xb7,
    5,
    u64
);

fn own_mounts() -> Option<MountNamespace> {
    let file = File::open(OWN_MOUNTS).ok()?;
    let inode = fstat(&file).ok()?.st_ino;
    let mut number = 0;
    #[allow(unsafe_code, reason = "the kernel writes one u64, and the reference is to one")]
    // SAFETY: the descriptor is open, and `number` lives as long as the call.
    let read =
        unsafe { read_mount_namespace(std::os::fd::AsRawFd::as_raw_fd(&file), &raw mut number) };
    Some(MountNamespace { inode, number: read.ok().map(|_| number), uptime: uptime()? })
}

/// Returns whether this mount namespace has existed since before an instant, as far as the
/// processes that began it show: its inode may have been that of another namespace.
fn is_older(inode: u64, than: Duration) -> bool {
    let lives_there = |process: i32, started: Duration| {
        started <= than
            && stat(Path::new(&format!("/proc/{process}/ns/mnt")))
                .is_ok_and(|found| found.st_ino == inode)
    };
    let first = process(1).is_some_and(|(_, started)| lives_there(1, started));
    let mut next = Some(nix::unistd::getppid().as_raw());
    let mut parents = std::iter::from_fn(|| {
        let current = next.filter(|process| 1 < *process)?;
        let (parent, started) = process(current)?;
        next = Some(parent);
        Some((current, started))
    });
    first || parents.by_ref().take(64).any(|(process, started)| lives_there(process, started))
}

/// Returns the parent of a process, and its start as time since the boot.
fn process(id: i32) -> Option<(i32, Duration)> {
    let text = String::from_utf8_lossy(&read_system(Path::new(&format!("/proc/{id}/stat"))).ok()?)
        .into_owned();
    // The name in parentheses may contain anything; field 3 comes after it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(19)?.parse().ok()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let started = Duration::from_millis(
        ticks.checked_mul(1000)?.checked_div(u64::try_from(per_second).ok()?)?,
    );
    Some((fields.get(1)?.parse().ok()?, started))
}

/// Returns whether the sandbox of a record of this node exists, as seen from this process. A
/// machine that does not show its identity proves nothing.
#[must_use]
pub fn life_here(held: &Record) -> Life {
    Machine::read().map_or(Life::Doubted(Doubt::Unclear), |machine| classify_record(held, &machine))
}

/// Returns the namespace of a sandbox as ADD sees it. If nothing is there, there is none; if ADD
/// cannot tell, it has the inode 0.
fn find_netns(path: PathBuf, examined: &Examined) -> Option<Netns> {
    let directory_device = examined.directories.first().map_or(0, |directory| directory.device);
    match examined.seen {
        Seen::Namespace(inode) => Some(Netns { path, inode, directory_device }),
        Seen::File | Seen::Unclear => Some(Netns { path, inode: 0, directory_device }),
        Seen::Gone => None,
    }
}

fn is_of_own_process(path: &Path) -> bool {
    let mut names = path.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    names.next() == Some("proc") && matches!(names.next(), Some("self" | "thread-self"))
}

/// Examines a path. Opens nothing whose opening has an effect.
fn examine(path: &Path) -> Examined {
    let seen = see(path);
    let mut above = path.ancestors().skip(1).peekable();
    let mut missing = 0;
    while let Some(directory) = above.peek() {
        match stat(*directory) {
            Err(Errno::ENOENT) => missing += 1,
            Err(_) => return Examined { seen: Seen::Unclear, ..Examined::failed() },
            Ok(_) => break,
        }
        above.next();
    }
    let above: Vec<PathBuf> = above.map(Path::to_owned).collect();
    let filesystem = above.first().and_then(|nearest| statfs(nearest.as_path()).ok());
    let is_on = |kind: nix::sys::statfs::FsType| {
        filesystem.as_ref().is_some_and(|found| found.filesystem_type() == kind)
    };
    let on_procfs = is_on(PROC_SUPER_MAGIC);
    let procfs = if on_procfs { Procfs::above(&above) } else { None };
    let directory =
        |path: &PathBuf| stat(path.as_path()).ok().map(|found| identify(&found, procfs.as_ref()));
    // No runtime uses a deeper path.
    let directories = above.iter().take(32).map_while(directory).collect();
    let nearest = above.first().filter(|_| missing == 0);
    let tmpfs = above
        .first()
        .filter(|_| is_on(TMPFS_MAGIC))
        .and_then(|nearest| unmounted::random_id(nearest));
    let mount = nearest.and_then(|nearest| mount::holds(nearest, path, seen == Seen::File));
    Examined { seen, directories, missing, tmpfs, on_procfs, mount }
}

/// A procfs. After it is unmounted its device is used again, and its inodes do not last; the change
/// time of its root shows when it was mounted.
struct Procfs {
    device: u64,
    mounted: u64,
}

impl Procfs {
    /// Returns the procfs that holds the nearest of these directories; `None` if its root is not
    /// among them.
    fn above(directories: &[PathBuf]) -> Option<Self> {
        let device = stat(directories.first()?.as_path()).ok()?.st_dev;
        let mut found = directories.iter().filter_map(|path| stat(path.as_path()).ok());
        let root = found.find(|found| (found.st_dev, found.st_ino) == (device, PROC_ROOT))?;
        let since = Duration::new(
            u64::try_from(root.st_ctime).ok()?,
            u32::try_from(root.st_ctime_nsec).ok()?,
        );
        Some(Self { device, mounted: u64::try_from(since.as_nanos()).ok()? })
    }
}

fn identify(found: &FileStat, procfs: Option<&Procfs>) -> Directory {
    let procfs = procfs.filter(|procfs| procfs.device == found.st_dev);
    Directory { device: found.st_dev, inode: procfs.map_or(found.st_ino, |procfs| procfs.mounted) }
}

fn see(path: &Path) -> Seen {
    let flags = OFlag::O_PATH.bits();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        // The link of a process whose first thread has ended exists and leads nowhere; the other
        // threads may be alive.
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {
            let is_link = path.symlink_metadata().is_ok();
            return if is_link { Seen::Unclear } else { Seen::Gone };
        }
        Err(_) => return Seen::Unclear,
    };
    let Ok(found) = fstat(&file) else { return Seen::Unclear };
    if fstatfs(file.as_fd()).is_ok_and(|filesystem| filesystem.filesystem_type() == NSFS_MAGIC) {
        return Seen::Namespace(found.st_ino);
    }
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFREG { Seen::File } else { Seen::Unclear }
}
