//! How many flushes the kernel counts.

use crate::machine::device;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel counts the flushes that the disk below a directory was
/// asked for; `None` where there is no such count.
pub(crate) fn flush_counter(directory: &Path) -> Option<PathBuf> {
    let device = device(directory)?;
    // Those of a partition are counted with its disk.
    let disk = if device.join("partition").exists() { device.parent()?.to_owned() } else { device };
    let counter = disk.join("stat");
    flushes(&counter).map(|_| counter)
}

/// The count: field 16 of Documentation/admin-guide/iostats.rst.
pub(crate) fn flushes(counter: &Path) -> Option<u64> {
    fs::read_to_string(counter).ok()?.split_whitespace().nth(15)?.parse().ok()
}
