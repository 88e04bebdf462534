//! From where ADD saw a sandbox, and on which hardware. A later call compares
//! this with what it sees itself: see `alive`.

use std::time::Duration;

/// The evidence that an ADD records beside the sandbox's namespace. Each part
/// may be missing: what is missing says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Whether the boot id was a file mounted over the kernel's: one mount
    /// namespace's, then, and another one may see another.
    pub boot_id_is_mounted: bool,
    /// Hash of the hardware's own id.
    pub hardware: Option<String>,
    /// The mount namespace of the ADD.
    pub mounts: Option<MountNamespace>,
    /// The directories above the namespace's path, from the nearest up to `/`.
    pub directories: Vec<Directory>,
    /// Random id of the tmpfs that holds the nearest directory; no other tmpfs
    /// has the same, on no machine and in no boot.
    pub tmpfs: Option<u64>,
    /// Number of the mount in which the namespace's name stands; since Linux 6.8
    /// never used again within one boot.
    pub mount: Option<u64>,
}

/// A mount namespace. The kernel uses inodes again when a namespace is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountNamespace {
    /// Inode on nsfs.
    pub inode: u64,
    /// Its number, which is never used again within one boot; since Linux 6.11.
    pub number: Option<u64>,
    /// How long the machine was up when the ADD looked.
    pub uptime: Duration,
}

/// A directory within one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    /// Device of its filesystem.
    pub device: u64,
    /// Its inode; on procfs, whose inodes do not last and whose devices are used
    /// again, when that was mounted.
    pub inode: u64,
}

impl std::fmt::Display for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

impl std::str::FromStr for Directory {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (device, inode) = text.split_once(':').ok_or(())?;
        Ok(Self { device: device.parse().or(Err(()))?, inode: inode.parse().or(Err(()))? })
    }
}
