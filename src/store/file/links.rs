//! Decides what a failed link(2) means. A client may report one errno for everything that a server
//! refuses (sshfs: EPERM), and a filesystem without hard links may report anything (rclone: EIO).
//! So this code examines the names themselves, but only after a failure and never instead of the
//! link.

use super::{below, layout, reason};
use crate::digest::hex;
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use nix::errno::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// Returns whether a name could not be created because it exists. Errors other than EEXIST count if
/// the name exists and the error does not report a fault of the disk.
pub(super) fn is_taken(disk: &dyn Disk, error: &io::Error, name: &Path) -> bool {
    let hides_it = || {
        let errno = error.raw_os_error().map(Errno::from_raw);
        matches!(
            errno,
            Some(Errno::EPERM | Errno::EACCES | Errno::EBUSY | Errno::EINVAL | Errno::EOPNOTSUPP)
        )
    };
    error.kind() == io::ErrorKind::AlreadyExists || (hides_it() && disk.inode(name).is_ok())
}

/// What is at a name that a link could not create.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileAtName {
    /// The same content: the link was made, and its answer was lost.
    Ours,
    /// Another file.
    Anothers,
    /// Nothing that can be read.
    Nothing,
}

/// Compares the content at the name with the file. Two names of one file need not show one inode,
/// so the inodes are not compared.
pub(super) fn file_at_name(disk: &dyn Disk, file: &Path, name: &Path) -> FileAtName {
    let Ok(found) = disk.read(name) else {
        return FileAtName::Nothing;
    };
    match disk.read(file) {
        Ok(ours) if ours.bytes == found.bytes => FileAtName::Ours,
        Ok(_) => FileAtName::Anothers,
        Err(_) => FileAtName::Nothing,
    }
}

/// Returns the error of a link that failed for another reason than a taken name.
pub(super) fn failed_link(
    disk: &dyn Disk,
    action: &'static str,
    name: &Path,
    error: io::Error,
) -> StoreError {
    if may_lack_links(&error) && lacks_links(disk) {
        return StoreError::NoHardLinks {
            path: below(disk, Path::new("")),
            reason: reason(&error),
        };
    }
    failed(disk, action, name, error)
}

/// Returns whether the error is one that filesystems without hard links return, as observed or as
/// documented.
fn may_lack_links(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(
            Errno::EPERM
                | Errno::EOPNOTSUPP
                | Errno::ENOSYS
                | Errno::EIO
                | Errno::EMLINK
                | Errno::EINVAL
        )
    )
}

/// Returns whether two names of one file show one inode; `None` if the names cannot be created.
/// Creates two names in the data directory, and removes them.
pub(super) fn show_one_inode(disk: &dyn Disk) -> Option<bool> {
    with_two_names(disk, |one, two| {
        disk.link(one, two).ok()?;
        Some(disk.inode(one).ok()? == disk.inode(two).ok()?)
    })
}

/// Returns whether a new file in the data directory can be created but cannot get a second name.
fn lacks_links(disk: &dyn Disk) -> bool {
    with_two_names(disk, |one, two| {
        Some(disk.link(one, two).is_err_and(|error| may_lack_links(&error)))
    })
    .unwrap_or(false)
}

/// Runs `work` with a new file and a free name.
fn with_two_names(
    disk: &dyn Disk,
    work: impl FnOnce(&Path, &Path) -> Option<bool>,
) -> Option<bool> {
    let random = disk.random().ok()?;
    let name =
        |which: &str| PathBuf::from(format!("{}link-{}-{which}", layout::ASIDE, hex(&random[..8])));
    let (one, two) = (name("1"), name("2"));
    disk.create(&one, b"").ok()?;
    let done = work(&one, &two);
    for path in [&two, &one] {
        // Every reader ignores a name that could not be removed.
        let _ = disk.unlink(path);
    }
    done
}
