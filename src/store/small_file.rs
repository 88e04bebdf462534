//! Reads small files that belong to the machine, not to a store: kubeconfigs,
//! tokens, certificates, /etc/hosts, the flat file. Never waits for a FIFO and
//! never reads without end; says what failed in words that no runtime takes for
//! success.

use nix::errno::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A file of more bytes than this is none of those.
const LARGEST: u64 = 1024 * 1024;

/// Reads a small regular file; never waits for a FIFO.
///
/// # Errors
/// As the kernel says.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?;
    if !kind.is_file() {
        return Err(io::Error::other(if kind.is_dir() { "it is a directory" } else { "it is no regular file" }));
    }
    // Room for all of it and the look at its end, in one read each; /proc says
    // that its files are empty.
    let mut bytes = Vec::with_capacity(usize::try_from(kind.len().min(LARGEST)).unwrap_or(0) + 64);
    Read::by_ref(&mut file).take(LARGEST + 1).read_to_end(&mut bytes)?;
    if LARGEST < bytes.len() as u64 {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// An I/O error without the words that runtimes take for success of a DEL.
#[must_use]
pub fn words(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => "it is missing (ENOENT)".to_owned(),
        Some(errno) => format!("{} ({errno:?})", errno.desc().to_lowercase()),
        None => error.to_string(),
    }
}
