//! Node state: what this node has asked the API server for, kept on the node's own disk.
//!
//! It decides nothing: the objects do. It has three uses. It saves requests: a DEL knows what to
//! delete without asking. It shows what a killed call began: an intent is written before each
//! creation. It restores records of living sandboxes that the cluster has lost.
//!
//! ```text
//! complete                the cluster, node and boot of the state: see `cluster_identity`
//! clusters/<hash>/        the same for each further cluster, see `clusters`; locks
//!                         and @tmp are at the top for all of them
//! lock                    flock, held for a moment, around pods, scopes, tombstones, gateways
//! turn                    flock for Whereabouts' Lease
//! rebuild                 flock of the process that lists this node's objects
//! attachments/<hash>      the attachment's objects: as sent (intents), or as
//!                         the server answered (with a resourceVersion)
//! calls                   locks of attachments: one byte each, at the hash
//! pods/<hash>             attachments of a pod's interface, one per line
//! scopes/<scope>          addresses believed to be taken: see `occupancy`
//! given-back              slices that this node has given back: see `given_back`
//! move                    the state of the move from Whereabouts: see `moving/note`
//! gateways-<scope>        each gateway with an object that names it: see `gateways`
//! revision                the highest revision of the cluster that was seen
//! set-back                the mark that a lower revision came: see `revision`
//! pool-<hash>             the last answer about a pool: see `pools`
//! node-labels             the last answer about this node's labels
//! listing-<scope>         flock of the process that lists a scope
//! ready                   the last successful readiness check: see `rebuild`
//! tombstones              intents of attachments that have ended
//! @tmp/<unique>           files that are being written
//! @aside.<unique>         something that is not a file, found in the place of one of these
//! ```
//!
//! Only `given-back` and `move` are synced. A power loss ends every sandbox of the node, and after a boot the state is
//! compared with one list of the node's objects: see `rebuild`.

pub(crate) mod cleanup;
pub(crate) mod cluster_identity;
pub(crate) mod clusters;
pub(crate) mod gateways;
pub(crate) mod given_back;
mod locks;
pub(crate) mod occupancy;
pub(crate) mod rebuild;
pub(crate) mod renamed;
pub(crate) mod revision;
pub(crate) mod slices;
pub(crate) mod tombstones;

use super::objects::ip_allocation::IpAllocation;
use super::objects::names;
use crate::digest;
use crate::ipam::{Attachment, IfName, NetworkName, PodRef, Scope};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use locks::CALLS;
use occupancy::Occupancy;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ATTACHMENTS: &str = "attachments";
const PODS: &str = "pods";
pub(super) const SCOPES: &str = "scopes";
pub(super) const TOMBSTONES: &str = "tombstones";
const TMP: &str = "@tmp";
/// The largest size of one of our files, in bytes. The file of an ADD with as many addresses as
/// `limits` allows has two million bytes.
const LARGEST: u64 = 64 * 1024 * 1024;
/// The maximum number of tombstones that are kept. Beyond that the oldest are dropped, and their
/// late objects are left to the next sweep.
const MOST_TOMBSTONES: usize = 8192;
const DIRECTORIES: &[&str] = &[ATTACHMENTS, PODS, SCOPES, TMP];

/// An intent whose object did not exist when its attachment ended: the creation may still be under
/// way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    /// When it was written, in milliseconds since 1970.
    pub(super) since: u64,
    /// When its object was last checked, in milliseconds since 1970.
    pub(super) looked: u64,
    pub(super) object: IpAllocation,
    /// The uid of the object that another attempt of the same intent created, and that is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made: Option<String>,
}

/// The node state, see the module.
pub(super) struct State {
    disk: Box<dyn Disk>,
    /// The directory of the selected cluster: see `clusters`.
    cluster: RefCell<PathBuf>,
}

impl State {
    pub(super) fn new(disk: Box<dyn Disk>) -> Self {
        Self { disk, cluster: RefCell::default() }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Returns the directory of the selected cluster.
    pub(super) fn cluster(&self) -> PathBuf {
        self.cluster.borrow().clone()
    }

    /// Selects another cluster.
    pub(super) fn go_to(&self, directory: &Path) {
        self.cluster.replace(directory.to_owned());
    }

    /// Returns the path of a file of the selected cluster.
    fn at(&self, path: &Path) -> PathBuf {
        self.cluster.borrow().join(path)
    }

    /// Returns the names in a directory of the selected cluster.
    pub(super) fn names(&self, directory: &str) -> Result<Vec<OsString>, StoreError> {
        let directory = self.at(Path::new(directory));
        self.disk.names(&directory).map_err(|error| self.failed("list", &directory, error))
    }

    /// Creates the directories.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        self.disk
            .make_root()
            .map_err(|error| self.failed("make directory", Path::new(""), error))?;
        DIRECTORIES.iter().try_for_each(|directory| self.make_directory(Path::new(directory)))?;
        let cluster = self.cluster();
        if let Some(above) = cluster.parent() {
            self.make_directory(above)?;
            self.make_directory(&cluster)?;
            [ATTACHMENTS, PODS, SCOPES]
                .iter()
                .try_for_each(|directory| self.make_directory(&cluster.join(directory)))?;
        }
        match self.disk.create(Path::new(CALLS), b"") {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(self.failed("make", Path::new(CALLS), error))
            }
            _ => Ok(()),
        }
    }

    fn make_directory(&self, path: &Path) -> Result<(), StoreError> {
        match self.disk.make_directory(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(self.failed("make directory", path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what is believed about scopes and pods, and the temporary files of killed calls.
    /// Anything that is not ours to remove stays, and it stops no verb.
    pub(super) fn tidy(&self) {
        let below = |directory: &str| {
            self.names(directory)
                .unwrap_or_default()
                .into_iter()
                .map(|name| Path::new(directory).join(name))
                .collect()
        };
        let hints: Vec<PathBuf> = [PODS, SCOPES]
            .into_iter()
            .flat_map(|directory| -> Vec<PathBuf> { below(directory) })
            .collect();
        let removed = hints.iter().try_for_each(|path| self.remove(path));
        let temporaries = self.temporaries().unwrap_or_default();
        if let Err(error) = removed
            .and_then(|()| temporaries.iter().try_for_each(|path| self.remove_temporary(path)))
        {
            tracing::warn!(%error, "cannot remove old hints and temporary files of the node state");
        }
    }

    /// Returns the objects of an attachment, by its hash. A damaged file is an error of this
    /// attachment alone: its objects are then listed.
    pub(super) fn objects(&self, hash: &str) -> Result<Vec<IpAllocation>, StoreError> {
        let path = attachment(hash);
        let damaged = |reason: String| StoreError::Damaged {
            path: self.disk.root().join(self.at(&path)),
            reason,
        };
        match self.read(&path) {
            Ok(None) => Ok(Vec::new()),
            Ok(Some(bytes)) => {
                serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
            }
            Err(StoreError::Io { source, reason, .. }) if is_no_file(&source) => {
                Err(damaged(reason))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the object of a name that an attachment has.
    pub(super) fn object(
        &self,
        hash: &str,
        name: &str,
    ) -> Result<Option<IpAllocation>, StoreError> {
        let mut objects = self.objects(hash)?.into_iter();
        Ok(objects.find(|known| known.metadata.name == name))
    }

    /// Returns the hashes of all attachments.
    pub(super) fn hashes(&self) -> Result<Vec<String>, StoreError> {
        Ok(self
            .names(ATTACHMENTS)?
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .filter(|name| digest::is_short(name))
            .collect())
    }

    /// Puts an object in the place of the one of the same name, which it returns, or after the
    /// others. The caller holds the attachment's lock.
    pub(super) fn put(
        &self,
        hash: &str,
        object: &IpAllocation,
    ) -> Result<Option<IpAllocation>, StoreError> {
        let mut objects = self.objects(hash)?;
        let known = objects.iter_mut().find(|known| known.metadata.name == object.metadata.name);
        let known = known.map(|known| std::mem::replace(known, object.clone()));
        if known.is_none() {
            objects.push(object.clone());
        }
        self.write(&attachment(hash), &objects)?;
        Ok(known)
    }

    /// Replaces all that is known of an attachment by these objects. The caller holds the
    /// attachment's lock.
    pub(super) fn replace_objects(
        &self,
        hash: &str,
        objects: &[IpAllocation],
    ) -> Result<(), StoreError> {
        if objects.is_empty() {
            self.remove(&attachment(hash))
        } else {
            self.write(&attachment(hash), &objects)
        }
    }

    /// Returns the files that are being written, or that a killed call was writing.
    pub(super) fn temporaries(&self) -> Result<Vec<PathBuf>, StoreError> {
        let directory = Path::new(TMP);
        let names =
            self.disk.names(directory).map_err(|error| self.failed("list", directory, error))?;
        Ok(names.into_iter().map(|name| directory.join(name)).collect())
    }

    /// Returns whether such a file exists and was begun at least `age` ago, so that it is not being
    /// written any more.
    pub(super) fn is_abandoned(&self, temporary: &Path, age: Duration) -> bool {
        let name = temporary
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.split_once('.'));
        let begun = name
            .and_then(|(_, nanos)| u64::from_str_radix(nanos, 16).ok())
            .map(Duration::from_nanos);
        let now = self.disk.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.disk.inode(temporary).is_ok() && begun.is_none_or(|begun| now.abs_diff(begun) >= age)
    }

    /// Removes an object of an attachment from the state. The caller holds the attachment's lock.
    pub(super) fn drop_object(&self, hash: &str, name: &str) -> Result<(), StoreError> {
        let mut objects = self.objects(hash)?;
        objects.retain(|object| object.metadata.name != name);
        let path = attachment(hash);
        if objects.is_empty() { self.remove(&path) } else { self.write(&path, &objects) }
    }

    /// Returns the hashes of the attachments of a pod's interface.
    pub(super) fn attachments_of(
        &self,
        network: &NetworkName,
        pod: &PodRef,
        ifname: &IfName,
    ) -> Result<Vec<String>, StoreError> {
        self.lines(&pod_file(network, pod, ifname))
    }

    /// Adds an attachment of a pod to the index by pod, or removes it. A failure of this index
    /// fails no verb: its loss costs a re-homing and nothing else.
    pub(super) fn note_pod(
        &self,
        attachment: &Attachment,
        pod: Option<&PodRef>,
        stands: bool,
        deadline: &Deadline,
    ) {
        let Some(pod) = pod.filter(|pod| pod.is_whole()) else {
            return;
        };
        let path = pod_file(&attachment.network, pod, &attachment.ifname);
        let hash = names::of_attachment(attachment);
        let noted = self.lock_briefly(deadline).and_then(|_lock| {
            let mut lines = self.lines(&path)?;
            if lines.contains(&hash) == stands {
                return Ok(());
            }
            lines.retain(|line| *line != hash);
            lines.extend(stands.then_some(hash));
            self.write_lines(&path, &lines)
        });
        if let Err(error) = noted {
            tracing::debug!(%error, "the index by pod could not be written");
        }
    }

    /// Removes from the index by pod the attachments whose file no longer exists: a call was killed
    /// in between, or could not wait for the lock. A call that adds an attachment to the index has
    /// written the attachment's file before. Returns the number of changed index files.
    pub(super) fn forget_ended(&self, deadline: &Deadline) -> Result<usize, StoreError> {
        let has_ended = |hash: &String| {
            let looked = self.disk.inode(&self.at(&attachment(hash)));
            looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let mut changed = 0;
        for name in self.names(PODS)? {
            let path = Path::new(PODS).join(name);
            if !self.lines(&path)?.iter().any(has_ended) {
                continue;
            }
            let _lock = self.lock_briefly(deadline)?;
            let mut lines = self.lines(&path)?;
            lines.retain(|line| !has_ended(line));
            self.write_lines(&path, &lines)?;
            changed += 1;
        }
        Ok(changed)
    }

    fn write_lines(&self, path: &Path, lines: &[String]) -> Result<(), StoreError> {
        if lines.is_empty() {
            self.remove(path)
        } else {
            self.replace(path, format!("{}\n", lines.join("\n")).as_bytes())
        }
    }

    fn lines(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        let bytes = self.read_unless_damaged(path)?.unwrap_or_default();
        // A damaged line names no attachment.
        Ok(String::from_utf8_lossy(&bytes)
            .lines()
            .filter(|line| digest::is_short(line))
            .map(str::to_owned)
            .collect())
    }

    /// Returns what is believed about a scope.
    pub(super) fn occupancy(&self, scope: &Scope) -> Occupancy {
        self.occupancy_of(&names::of_scope(scope))
    }

    /// Returns the same by the scope's hash.
    pub(super) fn occupancy_of(&self, hash: &str) -> Occupancy {
        let path = Path::new(SCOPES).join(hash);
        self.read(&path)
            .ok()
            .flatten()
            .map_or_else(Occupancy::default, |bytes| Occupancy::decode(&bytes))
    }

    /// Changes what is believed about a scope, one process at a time. A failure to write it does
    /// not fail the verb.
    pub(super) fn change_occupancy<T>(
        &self,
        scope: &Scope,
        deadline: &Deadline,
        change: impl FnOnce(&mut Occupancy) -> T,
    ) -> Result<T, StoreError> {
        let _lock = self.lock_briefly(deadline)?;
        let mut occupancy = self.occupancy(scope);
        let before = occupancy.clone();
        let result = change(&mut occupancy);
        if occupancy != before
            && let Err(error) = self.replace(&scope_file(scope), occupancy.encode().as_bytes())
        {
            tracing::debug!(%error, "what is believed of a scope could not be written");
        }
        Ok(result)
    }

    /// Returns the tombstones; nearly always there are none. One that cannot be read does not hide
    /// the others.
    pub(super) fn tombstones(&self) -> Vec<Tombstone> {
        let bytes = self.read(Path::new(TOMBSTONES)).ok().flatten().unwrap_or_default();
        let found: Vec<Box<RawValue>> = serde_json::from_slice(&bytes).unwrap_or_default();
        found.iter().filter_map(|tombstone| serde_json::from_str(tombstone.get()).ok()).collect()
    }

    /// Changes the tombstones, one process at a time.
    pub(super) fn change_tombstones(
        &self,
        deadline: &Deadline,
        change: impl FnOnce(&mut Vec<Tombstone>),
    ) -> Result<(), StoreError> {
        let _lock = self.lock_briefly(deadline)?;
        let mut tombstones = self.tombstones();
        change(&mut tombstones);
        tombstones.drain(..tombstones.len().saturating_sub(MOST_TOMBSTONES));
        let path = Path::new(TOMBSTONES);
        if tombstones.is_empty() { self.remove(path) } else { self.write(path, &tombstones) }
    }

    /// Reads a file of the selected cluster. Returns `None` if it does not exist.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.at(path);
        match self.disk.read_large(&path, LARGEST) {
            Ok(content) => Ok(Some(content.bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", &path, error)),
        }
    }

    /// Reads a file like `read`. Returns `None` also if something that is not a file is in its
    /// place.
    pub(super) fn read_unless_damaged(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match self.read(path) {
            Err(StoreError::Io { source, .. }) if is_no_file(&source) => Ok(None),
            read => read,
        }
    }

    /// Writes a value as JSON, in one piece.
    pub(super) fn write<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), StoreError> {
        let bytes =
            serde_json::to_vec(value).map_err(|error| self.failed("encode", path, error.into()))?;
        self.replace(path, &bytes)
    }

    /// Replaces a file. Readers see the old bytes or the new ones.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let (temporary, path) = (Path::new(TMP).join(self.unique()), &self.at(path));
        let written = self.disk.create(&temporary, bytes).and_then(|_| {
            match self.disk.rename(&temporary, path) {
                Err(error) if is_no_file(&error) => {
                    self.disk.rename(path, &self.aside())?;
                    self.disk.rename(&temporary, path)
                }
                renamed => renamed,
            }
        });
        written.map_err(|error| {
            let _ = self.disk.unlink(&temporary);
            self.failed("write", path, error)
        })
    }

    /// Writes a value as JSON, durably.
    pub(super) fn write_durably<T: Serialize>(
        &self,
        path: &Path,
        value: &T,
    ) -> Result<(), StoreError> {
        self.write(path, value)?;
        let path = self.at(path);
        let directory = path.parent().unwrap_or(Path::new(""));
        let synced = self.disk.sync(&path).and_then(|()| self.disk.sync(directory));
        synced.map_err(|error| self.failed("sync", &path, error))
    }

    /// Moves something that is not a file out of the place of one of our files, to where it stops
    /// no verb. Somebody may have created a store here.
    fn put_aside(&self, path: &Path) -> Result<(), StoreError> {
        tracing::warn!(path = %self.disk.root().join(path).display(), "a foreign file in the node state is moved aside");
        self.disk
            .rename(path, &self.aside())
            .map_err(|error| self.failed("move aside", path, error))
    }

    fn aside(&self) -> PathBuf {
        format!("@aside.{}", self.unique()).into()
    }

    fn unique(&self) -> String {
        let nanos = self
            .disk
            .now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_nanos();
        format!("{}.{nanos:x}", std::process::id())
    }

    /// Removes a file of the selected cluster.
    pub(super) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.remove_at(&self.at(path))
    }

    /// Removes a file that was being written.
    pub(super) fn remove_temporary(&self, path: &Path) -> Result<(), StoreError> {
        self.remove_at(path)
    }

    fn remove_at(&self, path: &Path) -> Result<(), StoreError> {
        match self.disk.unlink(path) {
            Err(error) if is_no_file(&error) => self.put_aside(path),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, path: &Path, error: io::Error) -> StoreError {
        failed(self.disk.as_ref(), action, path, error)
    }
}

/// Returns whether the error means that something that is not a file is in a file's place. For a
/// directory that is read as a file, the disk reports an invalid file.
fn is_no_file(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::IsADirectory
            | io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::InvalidInput
    )
}

fn pod_file(network: &NetworkName, pod: &PodRef, ifname: &IfName) -> PathBuf {
    Path::new(PODS).join(names::of_pod_interface(network, pod, ifname))
}

/// Returns the path of the file of an attachment.
pub(super) fn attachment(hash: &str) -> PathBuf {
    Path::new(ATTACHMENTS).join(hash)
}

fn scope_file(scope: &Scope) -> PathBuf {
    Path::new(SCOPES).join(names::of_scope(scope))
}
