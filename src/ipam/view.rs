//! The view of an ADD: from where it saw the sandbox, and on which hardware. A later call compares
//! it with its own view, see `alive`.

use std::time::Duration;

/// The evidence that an ADD records in addition to the sandbox's namespace. Each part may be
/// missing. A missing part proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Whether the boot ID came from a file that is mounted over the kernel's. Such a file belongs
    /// to one mount namespace, and another one may see another boot ID.
    pub boot_id_is_mounted: bool,
    /// A hash of the hardware's own ID.
    pub hardware: Option<String>,
    /// The mount namespace of the ADD.
    pub mounts: Option<MountNamespace>,
    /// The directories above the path of the namespace, from the nearest one up to `/`.
    pub directories: Vec<Directory>,
    /// The random ID of the tmpfs that contains the nearest directory. No other tmpfs has the same
    /// ID, on any machine and in any boot.
    pub tmpfs: Option<u64>,
    /// The number of the mount that contains the name of the namespace. Since Linux 6.8, it is not
    /// used again within one boot.
    pub mount: Option<u64>,
}

/// A mount namespace. The kernel reuses the inode when a namespace is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountNamespace {
    /// The inode on nsfs.
    pub inode: u64,
    /// The number of the namespace, available since Linux 6.11. It is not used again within one
    /// boot.
    pub number: Option<u64>,
    /// The time since the boot of the machine when ADD examined the namespace.
    pub uptime: Duration,
}

/// A directory within one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    /// The device of its filesystem.
    pub device: u64,
    /// The inode. On procfs, this is the time of its mount instead, because procfs inodes do not
    /// last and its devices are reused.
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
