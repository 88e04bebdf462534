//! Finds the mount that contains a name. A directory can be bound to several places, and a mount on
//! a name in one of these places does not appear in the others.

use nix::libc;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Returns the number of the mount that contains the name of a path. `is_plain` says that a plain
/// file is seen there, which must then be in the same mount. Returns `None` if the mount is
/// unknown, or if the name is a link, which may lead elsewhere later.
pub(super) fn holds(directory: &Path, path: &Path, is_plain: bool) -> Option<u64> {
    if path.symlink_metadata().is_ok_and(|found| found.file_type().is_symlink()) {
        return None;
    }
    let mount = number(directory)?;
    (!is_plain || number(path) == Some(mount)).then_some(mount)
}

/// Returns the number of the mount that a path is in. Since Linux 6.8 this number is never used
/// again; since 5.8 it is the number in the table of mounts; older kernels give none.
fn number(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let asked = libc::STATX_MNT_ID | libc::STATX_MNT_ID_UNIQUE;
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    #[allow(unsafe_code, reason = "nix has no statx, and nothing else tells the mount")]
    // SAFETY: the path ends with a zero byte, and there is room for one struct, in
    // which every pattern of bits is a value.
    let found = unsafe {
        let answer = libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_NO_AUTOMOUNT,
            asked,
            found.as_mut_ptr(),
        );
        (answer == 0).then(|| found.assume_init())
    }?;
    (found.stx_mask & asked != 0).then_some(found.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_filesystems_are_two_mounts_and_one_directory_is_in_one() {
        let [proc, root] = ["/proc", "/"].map(|path| number(Path::new(path)));
        assert_ne!(proc, root);
        assert_eq!(number(Path::new("/proc/self/status")), proc);
        assert_eq!(holds(Path::new("/proc"), Path::new("/proc/self"), false), None, "a link");
        assert_eq!(holds(Path::new("/"), Path::new("/proc"), false), root);
        assert_eq!(
            holds(Path::new("/"), Path::new("/proc"), true),
            None,
            "what is seen is in another mount"
        );
        assert_eq!(number(Path::new("/no such place")), None);
    }
}
