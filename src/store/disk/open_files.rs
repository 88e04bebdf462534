//! Whether a mount moves files that are open.
//!
//! libfuse's interface by paths ("high-level") has no path for an open file whose name is gone. So if
//! rename(2) would replace a file that is open, it first renames that file to `.fuse_hidden...`: two
//! renames, and in between the name is free for every other mount. A file also counts as open for
//! some time after its last close(2), because the kernel does not wait for the release. The mount
//! option `hard_remove` ends this where a filesystem has it: bindfs has it, sshfs 3.7.3 has not. The table
//! of mounts does not show it, so it is tried.

use super::{Disk, Patience};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The names that libfuse gives.
const MOVED: &[u8] = b".fuse_hidden";

/// Replaces an open file in a directory and looks whether it was moved. Only FUSE does this.
pub(super) fn are_moved(
    disk: &dyn Disk,
    opened: BorrowedFd<'_>,
    directory: &Path,
) -> io::Result<bool> {
    if fstatfs(opened)?.filesystem_type() != FUSE_SUPER_MAGIC {
        return Ok(false);
    }
    let unique = u128::from_ne_bytes(disk.random()?);
    let open = directory.join(format!("{unique:x}.open"));
    let next = directory.join(format!("{unique:x}.next"));
    disk.create(&open, b"")?;
    let seen = replace_while_open(disk, directory, &open, &next);
    let _ = disk.unlink(&open);
    seen
}

fn replace_while_open(
    disk: &dyn Disk,
    directory: &Path,
    open: &Path,
    next: &Path,
) -> io::Result<bool> {
    // The lock keeps the file open. Whether it locks does not matter.
    let before = moved(disk, directory)?;
    let held = disk.lock(open, Patience::Try)?;
    disk.create(next, b"")?;
    if let Err(error) = disk.rename(next, open) {
        let _ = disk.unlink(next);
        return Err(error);
    }
    let after = moved(disk, directory)?;
    drop(held);
    Ok(!after.is_subset(&before))
}

/// Returns the files in a directory that were moved.
fn moved(disk: &dyn Disk, directory: &Path) -> io::Result<BTreeSet<OsString>> {
    let mut names = disk.names(directory)?;
    names.retain(|name| name.as_bytes().starts_with(MOVED));
    Ok(names.into_iter().collect())
}
