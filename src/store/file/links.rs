//! What a link(2) that failed means. A client may have one errno for all that a
//! server refuses (sshfs: EPERM), and a filesystem without hard links says anything
//! (rclone: EIO). So the names themselves are looked at: only after a failure, and
//! never instead of the link.

use super::{below, layout, reason};
use crate::digest::hex;
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
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

/// Whether two names of one file show one inode; `None` where nothing can be made. Makes
/// two names in the data directory, and removes them.
pub(super) fn show_one_inode(disk: &dyn Disk) -> Option<bool> {
    with_two_names(disk, |one, two| {
        disk.link(one, two).ok()?;
        Some(disk.inode(one).ok()? == disk.inode(two).ok()?)
    })
}

/// Whether a fresh file in the data directory can be made and cannot get a second
/// name beside its own.
fn lacks_links(disk: &dyn Disk) -> bool {
    with_two_names(disk, |one, two| Some(disk.link(one, two).is_err_and(|error| may_lack_links(&error)))).unwrap_or(false)
}

/// Does something with a fresh file and a name that is free.
fn with_two_names(disk: &dyn Disk, work: impl FnOnce(&Path, &Path) -> Option<bool>) -> Option<bool> {
    let random = disk.random().ok()?;
    let name = |which: &str| PathBuf::from(format!("{}link-{}-{which}", layout::ASIDE, hex(&random[..8])));
    let (one, two) = (name("1"), name("2"));
    disk.create(&one, b"").ok()?;
    let done = work(&one, &two);
    for path in [&two, &one] {
        // What stays is passed over by every reader.
        let _ = disk.unlink(path);
    }
    done
}
