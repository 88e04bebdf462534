//! A file of notes of this node: one line for each note, the newest at the end. It is a hint for
//! later calls and decides nothing, so it is never synced, and a call that cannot write it
//! continues.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The number of bytes that are read at the end: some 800 lines.
pub(super) const READ: u64 = 64 * 1024;
/// The number of bytes above which a file is written again with only its end.
pub(super) const LARGEST: u64 = 4 * READ;

/// A file of notes, see the module.
#[derive(Debug)]
pub(super) struct NoteLines {
    pub(super) path: PathBuf,
}

impl NoteLines {
    /// Adds a line with one write to the end of the file, so that concurrent lines stay whole.
    ///
    /// # Errors
    /// The line was not written.
    pub(super) fn add(&self, line: &str) -> io::Result<()> {
        let open = || File::options().create(true).append(true).mode(0o600).open(&self.path);
        let mut file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = self.path.parent().unwrap_or(Path::new("/"));
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                open()?
            }
            opened => opened?,
        };
        file.write_all(line.as_bytes())?;
        if LARGEST < file.metadata()?.len() { self.shorten() } else { Ok(()) }
    }

    /// Writes the file again with only its end. What another call adds in the meantime is lost,
    /// which costs a hint.
    fn shorten(&self) -> io::Result<()> {
        let aside = self.path.with_extension(std::process::id().to_string());
        let end = self.end();
        File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?
            .write_all(end.as_bytes())?;
        std::fs::rename(aside, &self.path)
    }

    /// Returns the last lines; none if the file does not exist or cannot be read.
    pub(super) fn end(&self) -> String {
        let read = || {
            let file = File::open(&self.path)?;
            let length = file.metadata()?.len();
            let from = length.saturating_sub(READ);
            let mut bytes = vec![0; usize::try_from(length - from).unwrap_or(0)];
            let read = file.read_at(&mut bytes, from)?;
            bytes.truncate(read);
            // The first line may be cut off.
            let whole = if from == 0 {
                0
            } else {
                bytes.iter().position(|byte| *byte == b'\n').map_or(read, |at| at + 1)
            };
            io::Result::Ok(String::from_utf8_lossy(&bytes[whole..]).into_owned())
        };
        read().unwrap_or_default()
    }
}

/// Returns a time as milliseconds since 1970, as notes have it.
pub(super) fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
