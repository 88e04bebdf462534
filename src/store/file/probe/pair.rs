//! The two who test together: how they meet, and how they tell each other, all
//! by files.
//!
//! A message is a file with a name of its own, written once, whole or not at
//! all. Names hold random ids, so that what a killed run has left is never
//! taken for an answer.

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

/// For a partner that was met, and that is at most one round behind.
const PATIENCE: Duration = Duration::from_secs(40);

/// The message of one whose test failed.
const FAILED: &str = "failed";

/// Who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// The host's name.
    pub host: String,
    /// The process.
    pub process: u32,
    /// The kernel's boot id: two of one are on one machine.
    pub boot_id: String,
}

/// Two who have met.
pub(super) struct Pair<'d> {
    pub(super) disk: &'d dyn Disk,
    pub(super) me: String,
    /// The other's id.
    pub(super) you: String,
    pub(super) other: Guest,
    /// What all names of this meeting begin with.
    session: String,
}

/// Waits for the other: each answers every greeting that it finds, and an
/// answer to one's own comes from somebody who is there.
pub(super) fn meet<'d>(disk: &'d dyn Disk, me: &str, guest: &Guest, wait: Duration) -> Result<Option<Pair<'d>>, StoreError> {
    let greeting = own(&format!("hello.{me}"));
    let bytes = serde_json::to_vec(guest).map_err(|error| failed(disk, "encode", &greeting, error.into()))?;
    make(disk, &greeting, &bytes)?;
    let mut answered: Vec<PathBuf> = Vec::new();
    let found = retry::until(&Deadline::after(wait), || {
        look_anew(disk, me)?;
        let names = disk.names(Path::new(PLACE)).map_err(|error| failed(disk, "list", Path::new(PLACE), error))?;
        let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
        for other in names.iter().filter_map(|name| name.strip_prefix("hello.")).filter(|other| *other != me) {
            let answer = own(&format!("answer.{me}.{other}"));
            if !answered.contains(&answer) {
                make(disk, &answer, b"")?;
                answered.push(answer);
            }
        }
        let other = names.iter().find_map(|name| name.strip_prefix("answer.")?.strip_suffix(me)?.strip_suffix('.'));
        Ok::<_, StoreError>(other.and_then(|other| Some((other.to_owned(), read(disk, &own(&format!("hello.{other}")))?))))
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

/// Changes the directory, so that a client that caches its names (NFS) asks the
/// server when it is looked at next.
fn look_anew(disk: &dyn Disk, me: &str) -> Result<(), StoreError> {
    let path = own(&format!("look.{me}"));
    disk.create(&path, b"").map_err(|error| failed(disk, "write", &path, error))?;
    remove(disk, &path)
}

/// What a file holds, if it is there and whole.
fn read<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> Option<T> {
    serde_json::from_slice(&disk.read(path).ok()?.bytes).ok()
}

impl Pair<'_> {
    /// Whether this is the first of the two, where they take turns.
    pub(super) fn is_first(&self) -> bool {
        self.me < self.you
    }

    /// A name of this meeting.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        own(&format!("{}.{name}", self.session))
    }

    /// The same in the directory itself.
    pub(super) fn path_beside(&self, name: &str) -> PathBuf {
        beside(&format!("{}.{name}", self.session))
    }

    /// A name of this meeting and one of the two.
    pub(super) fn path_of(&self, id: &str, name: &str) -> PathBuf {
        self.path(&format!("{name}.{id}"))
    }

    /// Tells the other.
    pub(super) fn tell<T: Serialize>(&self, step: &str, body: &T) -> Result<(), StoreError> {
        let (draft, path) = (self.path_of(&self.me, "draft"), self.path_of(&self.me, step));
        let bytes = serde_json::to_vec(body).map_err(|error| failed(self.disk, "encode", &path, error.into()))?;
        make(self.disk, &draft, &bytes)?;
        self.disk.rename(&draft, &path).map_err(|error| failed(self.disk, "rename to", &path, error))
    }

    /// What the other has told, if it has.
    pub(super) fn heard<T: DeserializeOwned>(&self, step: &str) -> Result<Option<T>, StoreError> {
        let path = self.path_of(&self.you, step);
        look_anew(self.disk, &self.me)?;
        match self.disk.read(&path) {
            Ok(content) => Ok(serde_json::from_slice(&content.bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                tracing::debug!(reason = reason(&error), "a message cannot be read yet");
                Ok(None)
            }
        }
    }

    /// Waits for what the other tells.
    pub(super) fn hear<T: DeserializeOwned>(&self, step: &str) -> Result<T, ProbeError> {
        let partner = || format!("{} (process {})", self.other.host, self.other.process);
        let heard = retry::until(&Deadline::after(PATIENCE), || match self.heard(step)? {
            Some(word) => Ok(Some(word)),
            None => match self.heard::<String>(FAILED)? {
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

    /// Both are here.
    pub(super) fn line_up(&self, step: &str) -> Result<(), ProbeError> {
        self.tell(step, &())?;
        self.hear(step)
    }

    /// Removes what this meeting has left: the second says goodbye, the first
    /// sweeps. A file that cannot be removed harms nobody.
    pub(super) fn part(&self) {
        if !self.is_first() {
            let _ = self.tell("bye", &());
            return;
        }
        let _: Result<(), _> = self.hear("bye");
        self.sweep();
    }

    /// Goes because of an error: leaves a word of it, and all files, which the other
    /// is using. Whoever has heard such a word is the last, and sweeps.
    pub(super) fn leave(&self, error: &ProbeError) {
        let has_heard = matches!(error, ProbeError::PartnerFailed { .. });
        if !has_heard && self.tell(FAILED, &error.to_string()).is_ok() {
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
