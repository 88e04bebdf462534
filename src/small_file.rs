//! Reads small files that belong to the machine and not to a store: kubeconfigs, tokens,
//! certificates, /etc/hosts, the flat file.
//!
//! It never waits for a FIFO, never opens a device, and never reads without a limit. Its error
//! texts contain no words that a runtime takes for success.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// The maximum size of a file, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// Reads a small regular file. Checks the file type first, because opening a device can already
/// have an effect.
///
/// # Errors
/// Returns the kernel's error, or an error for a file that is not regular or too large.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    read_within(path, LARGEST)
}

/// Reads a regular file of at most `largest` bytes, a number of whole MiB. Works like
/// [`read_small`].
///
/// # Errors
/// Returns the kernel's error, or an error for a file that is not regular or too large.
pub fn read_within(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    read_unopened(&open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?, largest)
}

/// Reads a small regular file that was opened with O_PATH.
///
/// # Errors
/// Returns the kernel's error, or an error for a file that is not regular or too large.
pub(crate) fn read_found(found: &(impl AsFd + AsRawFd)) -> io::Result<Vec<u8>> {
    read_unopened(found, LARGEST)
}

fn read_unopened(found: &(impl AsFd + AsRawFd), largest: u64) -> io::Result<Vec<u8>> {
    let size = regular(found)?;
    read_opened(File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?, size, largest)
}

/// Reads a small regular file at a system path that no configuration can choose. Opens it without
/// checking its type first.
///
/// # Errors
/// Returns the kernel's error, or an error for a file that is not regular or too large.
pub(crate) fn read_system(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    let size = regular(&file)?;
    read_opened(file, size, LARGEST)
}

fn read_opened(mut file: File, size: u64, largest: u64) -> io::Result<Vec<u8>> {
    // One read for the content and one for the end of the file. The extra bytes are for /proc,
    // which reports a size of 0 for its files.
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(largest)).unwrap_or(0) + 64);
    Read::by_ref(&mut file).take(largest + 1).read_to_end(&mut bytes)?;
    if largest < bytes.len() as u64 {
        return Err(io::Error::other(format!("it is larger than {} MiB", largest >> 20)));
    }
    Ok(bytes)
}

/// Returns the size of a regular file. Refuses everything else.
pub(crate) fn regular(found: &impl AsFd) -> io::Result<u64> {
    let stat = fstat(found.as_fd())?;
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        SFlag::S_IFDIR => Err(Errno::EISDIR.into()),
        _ => Err(io::Error::other("it is not a regular file")),
    }
}

/// Returns the text of an I/O error, without words that runtimes take for the success of a DEL.
#[must_use]
pub fn error_text(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => "it is missing (ENOENT)".to_owned(),
        Some(Errno::EISDIR) => "it is a directory (EISDIR)".to_owned(),
        Some(errno) => format!("{} ({errno:?})", errno.desc().to_lowercase()),
        None => error.to_string(),
    }
}
