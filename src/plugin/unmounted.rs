//! Detects that a tmpfs is unmounted everywhere, in whatever mount namespace it was. The /run of a
//! container is unmounted when the container has ended. What was mounted in it, such as a sandbox's
//! namespace, has then gone with it.

use nix::sys::stat::stat;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use std::io::Read;
use std::path::Path;

/// The maximum number of bytes that are read of the table of mounts.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Returns the ID that the kernel draws for a tmpfs. Older kernels draw none.
pub(super) fn random_id(path: &Path) -> Option<u64> {
    statvfs(path).ok().map(|found| found.filesystem_id()).filter(|id| *id != 0)
}

/// Returns whether it is certain that the tmpfs which had this device and this random ID is
/// unmounted everywhere: no filesystem has the device, or another filesystem has it.
pub(super) fn is_unmounted(device: u64, tmpfs: u64) -> bool {
    is_free(device) || is_anothers(device, tmpfs).unwrap_or(false)
}

/// Returns whether no mounted filesystem has this device, in any mount namespace.
#[cfg(target_arch = "x86_64")]
fn is_free(device: u64) -> bool {
    use nix::libc;
    let Ok(device) = u32::try_from(device) else { return false };
    // struct ustat has 32 bytes here.
    let mut answer = [0u64; 8];
    #[allow(
        unsafe_code,
        reason = "the only call that asks the kernel about a device that has no path"
    )]
    // SAFETY: the kernel writes one struct ustat, and there is room for two.
    let asked =
        unsafe { libc::syscall(libc::SYS_ustat, libc::c_ulong::from(device), answer.as_mut_ptr()) };
    asked != 0 && nix::errno::Errno::last() == nix::errno::Errno::EINVAL
}

/// Returns false: other architectures cannot ask.
#[cfg(not(target_arch = "x86_64"))]
const fn is_free(_: u64) -> bool {
    false
}

/// Returns whether this mount namespace shows another filesystem with this device.
fn is_anothers(device: u64, tmpfs: u64) -> Option<bool> {
    let mut bytes = Vec::new();
    std::fs::File::open("/proc/self/mountinfo").ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    let number = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let table = String::from_utf8_lossy(&bytes);
    Some(table.lines().any(|line| {
        let mut fields = line.split(' ');
        let (Some(found), Some(point)) = (fields.nth(2), fields.nth(1)) else { return false };
        found == number && holds_another(Path::new(&unescape(point)), device, tmpfs)
    }))
}

/// Returns whether a filesystem with the device is another one than that tmpfs. A filesystem that
/// is mounted over the place hides it.
fn holds_another(point: &Path, device: u64, tmpfs: u64) -> bool {
    if !stat(point).is_ok_and(|found| found.st_dev == device) {
        return false;
    }
    match statfs(point) {
        Ok(found) if found.filesystem_type() == TMPFS_MAGIC => {
            random_id(point).is_some_and(|id| id != tmpfs)
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Decodes spaces and backslashes, which are written as `\` and three octal digits.
fn unescape(text: &str) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_no_filesystem_has_is_unmounted_and_that_of_the_root_is_not() {
        let root = stat("/proc").unwrap().st_dev;
        assert!(!is_free(root));
        // This filesystem is not a tmpfs, so the tmpfs that had the device is gone.
        assert!(is_unmounted(root, 1));
        if cfg!(target_arch = "x86_64") {
            assert!(is_free(nix::sys::stat::makedev(0, 1_000_003)));
        }
    }

    #[test]
    fn places_in_the_table_of_mounts_are_read_back() {
        assert_eq!(unescape(r"/run/a\040b\134c"), std::ffi::OsString::from(r"/run/a b\c"));
    }
}
