//! What a link(2) that failed means. A client may have one errno for all that a
//! server refuses (sshfs: EPERM), and a filesystem without hard links says anything
//! (rclone: EIO). So the names themselves are looked at: only after a failure, and
//! never instead of the link.

use super::disk::Disk;
use super::{below, failed, layout, reason};
use crate::store::StoreError;
use crate::store::digest::hex;
use nix::errno::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// Whether a name could not be made because it is there. Other errors than EEXIST
/// count where the name stands and they tell of no fault of the disk.
pub(super) fn is_taken(disk: &dyn Disk, error: &io::Error, name: &Path) -> bool {
    let hides_it = || {
        let errno = error.raw_os_error().map(Errno::from_raw);
        matches!(errno, Some(Errno::EPERM | Errno::EACCES | Errno::EBUSY | Errno::EINVAL | Errno::EOPNOTSUPP))
    };
    error.kind() == io::ErrorKind::AlreadyExists || (hides_it() && disk.inode(name).is_ok())
}

/// What stands at a name that a link could not give to a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// That very content: the link was made, and its answer lost.
    Ours,
    /// Another's.
    Anothers,
    /// Nothing that can be read.
    Nothing,
}

/// Looks what stands there, by content: two names of one file need not show one inode.
pub(super) fn standing(disk: &dyn Disk, file: &Path, name: &Path) -> Standing {
    let Ok(found) = disk.read(name) else {
        return Standing::Nothing;
    };
    match disk.read(file) {
        Ok(ours) if ours.bytes == found.bytes => Standing::Ours,
        Ok(_) => Standing::Anothers,
        Err(_) => Standing::Nothing,
    }
}

/// The error of a link that failed for another reason than that the name is taken.
pub(super) fn failed_link(disk: &dyn Disk, action: &'static str, name: &Path, error: io::Error) -> StoreError {
    if may_lack_links(&error) && lacks_links(disk) {
        return StoreError::NoHardLinks { path: below(disk, Path::new("")), reason: reason(&error) };
    }
    failed(disk, action, name, error)
}

/// What filesystems without hard links were seen to answer, or are said to.
fn may_lack_links(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EIO | Errno::EMLINK | Errno::EINVAL))
}

/// Whether a fresh file in the data directory can be made and cannot get a second
/// name beside its own.
fn lacks_links(disk: &dyn Disk) -> bool {
    let Ok(random) = disk.random() else {
        return false;
    };
    let name = |which: &str| PathBuf::from(format!("{}link-{}-{which}", layout::ASIDE, hex(&random[..8])));
    let (one, two) = (name("1"), name("2"));
    if disk.create(&one, b"").is_err() {
        return false;
    }
    let lacks = disk.link(&one, &two).is_err_and(|error| may_lack_links(&error));
    for path in [&two, &one] {
        // What stays is passed over by every reader.
        let _ = disk.unlink(path);
    }
    lacks
}
