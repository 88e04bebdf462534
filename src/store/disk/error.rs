//! The texts for failed system calls.

use super::Disk;
use crate::store::StoreError;
use std::io;
use std::path::{Path, PathBuf};

/// Returns a path for a message; the empty path is the data directory.
pub(crate) fn below(disk: &dyn Disk, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { disk.root().to_owned() } else { disk.root().join(path) }
}

/// Returns whether a file was removed between the listing of its directory and the access to it. A
/// client of a network filesystem may open a file from its cache that the server no longer has, and
/// notice that only when it reads. Do not use this for the caller's own entry: a caller that looks
/// for one must see the error.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

/// Returns the error for a failed system call, with its path.
pub(in crate::store) fn failed(
    disk: &dyn Disk,
    action: &'static str,
    path: &Path,
    error: io::Error,
) -> StoreError {
    StoreError::Io { action, path: below(disk, path), reason: reason(&error), source: error }
}

/// Returns our text for the kernel's error. Runtimes take "no such file or directory" and "not
/// found" in a DEL's error for success, so those words never appear.
pub(crate) fn reason(error: &io::Error) -> String {
    use nix::errno::Errno;
    let Some(errno) = error.raw_os_error().map(Errno::from_raw) else {
        return match error.kind() {
            io::ErrorKind::NotFound => "it is missing".to_owned(),
            _ => error.to_string(),
        };
    };
    let words = match errno {
        Errno::ENOENT => "it is missing",
        Errno::ENOSPC => "the filesystem is full (bytes or inodes)",
        Errno::EDQUOT => "the quota is used up",
        Errno::EROFS => "the filesystem is mounted read-only",
        Errno::EACCES | Errno::EPERM => "permission denied",
        Errno::EIO => "the medium reports an input/output error",
        Errno::EMFILE | Errno::ENFILE => "too many open files",
        Errno::ENOTDIR => "a part of the path is not a directory",
        Errno::ELOOP => "a part of the path below the data directory is a symbolic link",
        Errno::EXDEV => "the data directory spans two filesystems",
        Errno::EMLINK => "the filesystem allows no more links",
        Errno::EINVAL => "the kernel refuses it, or it is not a regular file",
        other => return format!("{} ({other:?})", other.desc().to_lowercase()),
    };
    format!("{words} ({errno:?})")
}
