//! What an install that stays says of itself, and how `--check` hears it: a text
//! in memory, under a name that its process's descriptors show. A probe runs in the
//! container of the install that it asks, which is to say in its mount namespace:
//! what another install on the node has written meanwhile is not its business.
//! Nothing of it is on a disk, and it ends with who said it.

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
/// How a descriptor of it looks in /proc.
const LINK: &str = "/memfd:hereabouts-install (deleted)";
/// What is being written is read again.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is wrong is a sentence or two.
const LONGEST: u64 = 64 * 1024;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    /// Where the install has its files.
    directory: PathBuf,
    /// What its last look found wrong.
    wrong: Option<String>,
}

/// Of the install that runs.
pub(super) struct ProbeStatus {
    directory: PathBuf,
    said: Option<(Said, File)>,
}

impl ProbeStatus {
    /// One that has its files in a directory, and has said nothing yet.
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory, said: None }
    }

    /// Says how its last look has ended.
    pub(super) fn say<T>(&mut self, ended: &anyhow::Result<T>) {
        let wrong = ended.as_ref().err().map(output::in_one_line);
        let said = Said { directory: self.directory.clone(), wrong };
        if self.said.as_ref().is_none_or(|(before, _)| *before != said) {
            // What was said before goes when the new text is whole.
            self.said = write(&said).ok().map(|memory| (said, memory));
        }
    }
}

fn write(said: &Said) -> io::Result<File> {
    let mut memory = File::from(memfd_create(NAME, MFdFlags::MFD_CLOEXEC)?);
    memory.write_all(serde_json::to_string(said)?.as_bytes())?;
    Ok(memory)
}

/// What the install says that stays in this mount namespace and has its files in
/// a directory: `None` where there is none, else whether all is in place, or what
/// is wrong. Of two the one that is not content counts.
///
/// # Errors
/// /proc cannot be read.
pub(super) fn ask(directory: &Path) -> anyhow::Result<Option<Result<(), String>>> {
    let heard = until(&Deadline::after(PATIENCE), || {
        let texts = texts().context("cannot look for an install in /proc")?;
        let whole: serde_json::Result<Vec<Said>> = texts.iter().map(|text| serde_json::from_slice(text)).collect();
        anyhow::Ok(whole.ok())
    })?;
    let ours = heard.unwrap_or_default().into_iter().filter(|said| said.directory == directory);
    Ok(ours.map(|said| said.wrong.map_or(Ok(()), Err)).reduce(|one, other| one.and(other)))
}

/// What this user's processes in this mount namespace say. Of one that has ended
/// meanwhile nothing is heard.
fn texts() -> io::Result<Vec<Vec<u8>>> {
    let namespace = |process: &Path| process.join("ns/mnt").metadata().map(|found| (found.dev(), found.ino()));
    let (own, user) = (namespace(Path::new("/proc/self"))?, nix::unistd::geteuid().as_raw());
    let mut texts = Vec::new();
    for entry in Path::new("/proc").read_dir()? {
        let process = entry?.path();
        let is_here = process.metadata().is_ok_and(|found| found.uid() == user) && namespace(&process).is_ok_and(|found| found == own);
        if !is_here {
            continue;
        }
        if let Ok(descriptors) = process.join("fd").read_dir() {
            let paths = descriptors.flatten().map(|descriptor| descriptor.path());
            texts
                .extend(paths.filter(|path| path.read_link().is_ok_and(|target| target == Path::new(LINK))).filter_map(|path| read(&path)));
        }
    }
    Ok(texts)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
