//! Publishes the state of a running install, and reads it for `--check`.
//!
//! The state is a text in a memfd, whose name shows in the descriptors of its process. A probe runs
//! in the container of the install that it asks, that is, in the same mount namespace. It ignores
//! what another install on the node has written in the meantime. The state is not stored on a disk,
//! and it ends with its process.

use super::super::output;
use crate::retry::{Deadline, until};
use anyhow::Context;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAME: &str = "hereabouts-install";
/// The target of a link to such a descriptor in /proc.
const LINK: &str = "/memfd:hereabouts-install (deleted)";
/// The time for which a text that is being written is read again.
const PATIENCE: Duration = Duration::from_secs(1);
/// The largest size of a text, in bytes. An error has a sentence or two.
const LONGEST: u64 = 64 * 1024;

/// The state that an install publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    /// The directory in which the install has its files.
    directory: PathBuf,
    /// The error that its last check found.
    wrong: Option<String>,
}

/// The published state of the running install.
pub(super) struct ProbeStatus {
    directory: PathBuf,
    said: Option<(Said, File)>,
}

impl ProbeStatus {
    /// Returns the state of an install that has its files in a directory and has not published
    /// anything yet.
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory, said: None }
    }

    /// Publishes the result of the last check.
    pub(super) fn publish<T>(&mut self, ended: &anyhow::Result<T>) {
        let wrong = ended.as_ref().err().map(output::in_one_line);
        let said = Said { directory: self.directory.clone(), wrong };
        if self.said.as_ref().is_none_or(|(before, _)| *before != said) {
            // The earlier text is removed when the new one is complete.
            self.said = write(&said).ok().map(|memory| (said, memory));
        }
    }
}

fn write(said: &Said) -> io::Result<File> {
    let mut memory = File::from(memfd_create(NAME, MFdFlags::MFD_CLOEXEC)?);
    memory.write_all(serde_json::to_string(said)?.as_bytes())?;
    Ok(memory)
}

/// Returns the state of the install that runs in this mount namespace and has its files in a
/// directory: `None` if there is no such install, else success or the error. If there are two, an
/// error takes precedence.
///
/// # Errors
/// /proc cannot be read.
pub(super) fn ask(directory: &Path) -> anyhow::Result<Option<Result<(), String>>> {
    let heard = until(&Deadline::after(PATIENCE), || {
        let texts = texts().context("cannot look for an install in /proc")?;
        let whole: serde_json::Result<Vec<Said>> =
            texts.iter().map(|text| serde_json::from_slice(text)).collect();
        anyhow::Ok(whole.ok())
    })?;
    let ours = heard.unwrap_or_default().into_iter().filter(|said| said.directory == directory);
    Ok(ours.map(|said| said.wrong.map_or(Ok(()), Err)).reduce(|one, other| one.and(other)))
}

/// Returns the texts of this user's processes in this mount namespace. A process that has ended
/// meanwhile is skipped.
fn texts() -> io::Result<Vec<Vec<u8>>> {
    let namespace =
        |process: &Path| process.join("ns/mnt").metadata().map(|found| (found.dev(), found.ino()));
    let (own, user) = (namespace(Path::new("/proc/self"))?, nix::unistd::geteuid().as_raw());
    let mut texts = Vec::new();
    for entry in Path::new("/proc").read_dir()? {
        let process = entry?.path();
        let is_here = process.metadata().is_ok_and(|found| found.uid() == user)
            && namespace(&process).is_ok_and(|found| found == own);
        if !is_here {
            continue;
        }
        if let Ok(descriptors) = process.join("fd").read_dir() {
            let paths = descriptors.flatten().map(|descriptor| descriptor.path());
            texts.extend(
                paths
                    .filter(|path| path.read_link().is_ok_and(|target| target == Path::new(LINK)))
                    .filter_map(|path| read(&path)),
            );
        }
    }
    Ok(texts)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
