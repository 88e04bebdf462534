//! Keeps a node quiet: no call of the plugin begins or is under way, because its executables are
//! moved away from their names. Only then does "this node holds no addresses" stay true until the
//! caller has acted on it.

use super::atomic_write;
use super::plan::NAMES;
use crate::cli::output;
use crate::retry::{Deadline, until};
use anyhow::{Context, bail};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The prefix of the temporary names of the executables.
const RESTING: &str = ".hereabouts-resting-";

/// The time to wait for calls. A call ends at its deadline, which is shorter by default.
const LONGEST: Duration = Duration::from_secs(60);

/// A quiet node. Its drop ends the quiet: an executable whose name is free is moved back.
#[derive(Debug, Default)]
pub(super) struct ExecutablesAside {
    executables: Vec<Resting>,
}

#[derive(Debug)]
struct Resting {
    place: PathBuf,
    aside: PathBuf,
    identity: (u64, u64),
}

impl ExecutablesAside {
    /// Moves our executables away from their names.
    ///
    /// # Errors
    /// A file cannot be moved. In this case, all files are where they were.
    pub(super) fn begin(bin_dir: &Path) -> anyhow::Result<Self> {
        let mut quiet = Self::default();
        for (place, aside) in places(bin_dir) {
            if !place.is_file()
                || !atomic_write::is_our_executable(&place)
                    .with_context(|| format!("cannot read {}", place.display()))?
            {
                continue;
            }
            let found =
                place.metadata().with_context(|| format!("cannot look at {}", place.display()))?;
            std::fs::rename(&place, &aside)
                .with_context(|| format!("cannot move {}", place.display()))?;
            quiet.executables.push(Resting { place, aside, identity: identity(&found) });
        }
        Ok(quiet)
    }

    /// Waits until no call is under way. Returns whether there was one.
    ///
    /// # Errors
    /// A call does not end.
    pub(super) fn await_calls(&self) -> anyhow::Result<bool> {
        let deadline = Deadline::after(LONGEST);
        let (mut running, mut any) = (Vec::new(), false);
        let ended = until(&deadline, || {
            running = self.running().context("cannot read /proc")?;
            any |= !running.is_empty();
            anyhow::Ok(running.is_empty().then_some(()))
        })?;
        match ended {
            Some(()) => Ok(any),
            None => bail!(
                "calls of the plugin are still running after {}: process {}",
                output::duration(LONGEST),
                running.join(", ")
            ),
        }
    }

    /// Returns the processes that run one of the executables, without this process. Processes that
    /// /proc does not show are not found: a pod needs hostPID for that.
    fn running(&self) -> io::Result<Vec<String>> {
        let own = std::process::id().to_string();
        let mut found = Vec::new();
        for entry in Path::new("/proc").read_dir()? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            // A process that has ended meanwhile, or a thread of the kernel, has no executable.
            let Ok(runs) = Path::new("/proc").join(&name).join("exe").metadata() else { continue };
            if self.executables.iter().any(|resting| resting.identity == identity(&runs)) {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Removes the executable that was at a place. Returns whether there was one.
    ///
    /// # Errors
    /// The errors of the kernel.
    pub(super) fn remove(&mut self, place: &Path) -> anyhow::Result<bool> {
        let Some(at) = self.executables.iter().position(|resting| resting.place == place) else {
            return Ok(false);
        };
        atomic_write::remove(&self.executables[at].aside)?;
        self.executables.remove(at);
        Ok(true)
    }
}

impl Drop for ExecutablesAside {
    fn drop(&mut self) {
        for Resting { place, aside, .. } in &self.executables {
            if let Err(error) = put_back(place, aside) {
                output::say(&format!("error: cannot put {} back: {error}", place.display()));
            }
        }
    }
}

/// Moves back the executables that a killed install or uninstall has left aside. No other install
/// may be running.
///
/// # Errors
/// The errors of the kernel.
pub(super) fn end_others(bin_dir: &Path) -> anyhow::Result<()> {
    for (place, aside) in places(bin_dir) {
        put_back(&place, &aside).with_context(|| format!("cannot put {} back", place.display()))?;
    }
    Ok(())
}

/// Returns the name of each executable, and its temporary name.
fn places(bin_dir: &Path) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    NAMES.iter().map(|name| (bin_dir.join(name), bin_dir.join(format!("{RESTING}{name}"))))
}

/// Moves an executable back, unless its name exists again. That file is newer.
fn put_back(place: &Path, aside: &Path) -> io::Result<()> {
    if aside.symlink_metadata().is_err() {
        return Ok(());
    }
    if place.symlink_metadata().is_ok() {
        std::fs::remove_file(aside)
    } else {
        std::fs::rename(aside, place)
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
