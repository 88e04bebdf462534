//! How the two sides of a filesystem test meet and exchange messages. They use files for
//! everything.
//!
//! A message is a file with its own name, written once, completely or not at all. Names contain
//! random ids, so that a file of a killed run is never taken for an answer.

use super::super::{reason, remove};
use super::{PLACE, ProbeError, beside, make, own};
use crate::retry::{self, Deadline};
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The wait for a partner that was met. It is at most one round behind.
const PATIENCE: Duration = Duration::from_secs(40);

/// The message of a side whose test failed.
const FAILED: &str = "failed";

/// One side of the test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// The name of the host.
    pub host: String,
    /// The process ID.
    pub process: u32,
    /// The kernel's boot ID: two sides with the same one are on one machine.
    pub boot_id: String,
}

/// Two sides that have met.
pub(super) struct Pair<'d> {
    pub(super) disk: &'d dyn Disk,
    pub(super) me: String,
    /// The other side's id.
    pub(super) you: String,
    pub(super) other: Participant,
    /// The prefix of all names of this meeting.
    session: String,
}

/// Waits for the other side. Each side answers every greeting that it finds. An answer to one's own
/// greeting comes from a side that is running now.
pub(super) fn meet<'d>(
    disk: &'d dyn Disk,
    me: &str,
    guest: &Participant,
    wait: Duration,
) -> Result<Option<Pair<'d>>, StoreError> {
    let greeting = own(&format!("hello.{me}"));
    let bytes = serde_json::to_vec(guest)
        .map_err(|error| failed(disk, "encode", &greeting, error.into()))?;
    make(disk, &greeting, &bytes)?;
    let mut answered: Vec<PathBuf> = Vec::new();
    let found = retry::until(&Deadline::after(wait), || {
        invalidate_cache(disk, me)?;
        let names = disk
            .names(Path::new(PLACE))
            .map_err(|error| failed(disk, "list", Path::new(PLACE), error))?;
        let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
        for other in
            names.iter().filter_map(|name| name.strip_prefix("hello.")).filter(|other| *other != me)
        {
            let answer = own(&format!("answer.{me}.{other}"));
            if !answered.contains(&answer) {
                make(disk, &answer, b"")?;
                answered.push(answer);
            }
        }
        let other = names
            .iter()
            .find_map(|name| name.strip_prefix("answer.")?.strip_suffix(me)?.strip_suffix('.'));
        Ok::<_, StoreError>(other.and_then(|other| {
            Some((other.to_owned(), read(disk, &own(&format!("hello.{other}")))?))
        }))
    })?;
    let Some((you, other)) = found else {
        for path in answered.iter().chain([&greeting]) {
            remove(disk, path)?;
        }
        return Ok(None);
    };
    let session = if *me < *you { format!("{me}-{you}") } else { format!("{you}-{me}") };
    Ok(Some(Pair { disk, me: me.to_owned(), you, other, session }))
}

/// Changes the directory, so that a client that caches its names (NFS) asks the server at the next
/// read.
fn invalidate_cache(disk: &dyn Disk, me: &str) -> Result<(), StoreError> {
    let path = own(&format!("look.{me}"));
    disk.create(&path, b"").map_err(|error| failed(disk, "write", &path, error))?;
    remove(disk, &path)
}

/// Returns the content of a file, if the file exists and is complete.
fn read<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> Option<T> {
    serde_json::from_slice(&disk.read(path).ok()?.bytes).ok()
}

impl Pair<'_> {
    /// Returns whether this is the first of the two sides, for the rounds in which they take turns.
    pub(super) fn is_first(&self) -> bool {
        self.me < self.you
    }

    /// Returns a path of this meeting.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        own(&format!("{}.{name}", self.session))
    }

    /// Returns the same in the tested directory itself.
    pub(super) fn path_beside(&self, name: &str) -> PathBuf {
        beside(&format!("{}.{name}", self.session))
    }

    /// Returns a path of this meeting that belongs to one of the two sides.
    pub(super) fn path_of(&self, id: &str, name: &str) -> PathBuf {
        self.path(&format!("{name}.{id}"))
    }

    /// Sends a message to the other side.
    pub(super) fn send<T: Serialize>(&self, step: &str, body: &T) -> Result<(), StoreError> {
        let (draft, path) = (self.path_of(&self.me, "draft"), self.path_of(&self.me, step));
        let bytes = serde_json::to_vec(body)
            .map_err(|error| failed(self.disk, "encode", &path, error.into()))?;
        make(self.disk, &draft, &bytes)?;
        self.disk
            .rename(&draft, &path)
            .map_err(|error| failed(self.disk, "rename to", &path, error))
    }

    /// Returns the other side's message, if it has been sent.
    pub(super) fn try_receive<T: DeserializeOwned>(
        &self,
        step: &str,
    ) -> Result<Option<T>, StoreError> {
        let path = self.path_of(&self.you, step);
        invalidate_cache(self.disk, &self.me)?;
        match self.disk.read(&path) {
            Ok(content) => Ok(serde_json::from_slice(&content.bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                tracing::debug!(reason = reason(&error), "a message cannot be read yet");
                Ok(None)
            }
        }
    }

    /// Waits for a message of the other side.
    pub(super) fn receive<T: DeserializeOwned>(&self, step: &str) -> Result<T, ProbeError> {
        let partner = || format!("{} (process {})", self.other.host, self.other.process);
        let heard = retry::until(&Deadline::after(PATIENCE), || match self.try_receive(step)? {
            Some(word) => Ok(Some(word)),
            None => match self.try_receive::<String>(FAILED)? {
                Some(reason) => Err(ProbeError::PartnerFailed { partner: partner(), reason }),
                None => Ok(None),
            },
        })?;
        heard.ok_or_else(|| ProbeError::Silent {
            partner: partner(),
            step: step.to_owned(),
            waited: humantime::format_duration(PATIENCE).to_string(),
        })
    }

    /// Waits until both sides have reached this step.
    pub(super) fn barrier(&self, step: &str) -> Result<(), ProbeError> {
        self.send(step, &())?;
        self.receive(step)
    }

    /// Removes the files of this meeting: the second side sends its last message, then the first
    /// removes the files. A file that cannot be removed does no harm.
    pub(super) fn end(&self) {
        if !self.is_first() {
            let _ = self.send("bye", &());
            return;
        }
        let _: Result<(), _> = self.receive("bye");
        self.sweep();
    }

    /// Ends the meeting because of an error. Leaves a message about it, and all files, which the
    /// other side is using. The side that has received such a message is the last one and cleans
    /// up.
    pub(super) fn abort(&self, error: &ProbeError) {
        let has_heard = matches!(error, ProbeError::PartnerFailed { .. });
        if !has_heard && self.send(FAILED, &error.to_string()).is_ok() {
            return;
        }
        self.sweep();
    }

    fn sweep(&self) {
        let ours = |name: &str| name.contains(&self.me) || name.contains(&self.you);
        for place in ["", PLACE].map(Path::new) {
            for name in self.disk.names(place).unwrap_or_default() {
                if name.to_str().is_some_and(ours) {
                    let _ = self.disk.unlink(&place.join(&name));
                }
            }
        }
    }
}
