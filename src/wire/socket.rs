//! A socket of a family that the standard library does not know. It never blocks: a reader
//! waits with poll(2) for as long as it may.

use nix::libc;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Opens a socket. As a file it is written and read one message at a time.
///
/// # Errors
/// The kernel does not have the family, or this process lacks the right.
pub(super) fn open(family: i32, kind: i32, protocol: i32) -> io::Result<File> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    #[allow(unsafe_code, reason = "a system call with three numbers, which reads no memory")]
    // SAFETY: see the reason.
    let descriptor = unsafe { libc::socket(family, kind, protocol) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(
        unsafe_code,
        reason = "socket returns a new descriptor as a number; nothing else owns it"
    )]
    // SAFETY: see the reason.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}
