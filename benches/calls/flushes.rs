//! Reads the kernel's count of disk flushes.

use crate::machine::device;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the file with the kernel's count of flushes for the disk below a directory, or `None` if
/// there is no such count.
pub(crate) fn flush_counter(directory: &Path) -> Option<PathBuf> {
    let device = device(directory)?;
    // The flushes of a partition are counted for its disk.
    let disk = if device.join("partition").exists() { device.parent()?.to_owned() } else { device };
    let counter = disk.join("stat");
    flushes(&counter).map(|_| counter)
}

/// Reads the count: field 16 of Documentation/admin-guide/iostats.rst.
pub(crate) fn flushes(counter: &Path) -> Option<u64> {
    fs::read_to_string(counter).ok()?.split_whitespace().nth(15)?.parse().ok()
}
