//! The file store: one file an address, below one directory, for one machine
//! or a filesystem that several share.
//!
//! link(2) decides who holds an address: it is exclusive whatever locks do.
//! The lock keeps two calls of one attachment, and two looks at one candidate,
//! apart. `docs/store.md` states format, orders and assumptions.
//!
//! ```text
//! claim    write INDEX ENTRY . sync it . sync its directory .
//!          link NAME to it (commit) . sync its directory . link @pods
//! release  unlink NAME (commit) . sync its directory . unlink @pods . unlink entry
//! ```
//!
//! Killed anywhere, this leaves at worst an index entry without a name: ignored
//! by every reader, mended on the way.

mod claim;
pub mod disk;
pub mod finding;
mod hint;
mod index;
mod layout;
mod listing;
mod lock;
pub mod probe;
mod record;
pub mod repair;
mod session;
pub mod verify;

use super::retry::{self, Deadline};
use super::{Access, Filter, Listing, Session, Store, StoreError};
use crate::addr::AddrSet;
use crate::ipam::{NodeName, Scope};
use disk::{Disk, Held, Locked, Patience};
use session::FileSession;
use std::io;
use std::path::{Path, PathBuf};

/// Where locks of this machine alone are kept.
const LOCAL_LOCKS: &str = "/run/hereabouts";

/// What may be in the data directory.
const OURS: &[&str] = &[layout::LOCK, layout::SCOPES, layout::NODES, layout::FORMAT, "lost+found"];

/// On whose behalf the store is used.
#[derive(Debug, Clone)]
pub struct Host {
    /// The node.
    pub node: NodeName,
    /// `/etc/machine-id`, where the machine has one.
    pub machine_id: Option<String>,
    /// The kernel's boot id.
    pub boot_id: String,
}

/// The file store.
pub struct FileStore<D: Disk> {
    disk: D,
    host: Host,
    /// Acting for a node that is off: its machine is not asked for.
    for_dead_node: bool,
}

impl FileStore<disk::RealDisk> {
    /// The store in a directory, which need not be there yet.
    #[must_use]
    pub fn new(data_dir: PathBuf, host: Host) -> Self {
        Self::on(disk::RealDisk::new(data_dir), host)
    }
}

impl<D: Disk> FileStore<D> {
    /// The store on any disk; tests bring theirs.
    pub const fn on(disk: D, host: Host) -> Self {
        Self { disk, host, for_dead_node: false }
    }

    /// Acts for a node that is off and cannot act for itself; its machine is
    /// forgotten with the next session.
    #[must_use]
    pub fn for_dead_node(mut self) -> Self {
        self.for_dead_node = true;
        self
    }

    /// The disk, for tests to look at.
    pub const fn disk(&self) -> &D {
        &self.disk
    }

    /// Reads the store's format and id; `None` when there is no format yet.
    fn read_format(&self) -> Result<Option<String>, StoreError> {
        let path = Path::new(layout::FORMAT);
        let content = match self.disk.read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&self.disk, "read", path, error)),
        };
        let damaged = |reason: &str| StoreError::BadFormat { path: self.disk.root().join(path), reason: reason.to_owned() };
        let json = crate::json::Json::parse(&content.bytes).map_err(|error| damaged(&error.to_string()))?;
        let number = match json.find("format") {
            Some(crate::json::Json::Number(number)) => number.as_u64(),
            _ => None,
        };
        let found = number.ok_or_else(|| damaged("it names no format"))?;
        if record::FORMAT < found {
            return Err(StoreError::Newer { path: self.disk.root().to_owned(), found, known: record::FORMAT });
        }
        let id = json.find("id").and_then(|id| id.as_str()).ok_or_else(|| damaged("it has no id"))?;
        Ok(Some(id.to_owned()))
    }

    /// Refuses a directory with anything in it that is not ours: host-local's
    /// files, or a path that was meant for something else.
    fn check_not_foreign(&self) -> Result<(), StoreError> {
        let root = Path::new("");
        let names = self.disk.names(root).map_err(|error| failed(&self.disk, "list", root, error))?;
        let foreign = names.iter().map(|name| name.to_string_lossy()).find(|name| !OURS.contains(&&**name));
        let Some(name) = foreign else {
            return Ok(());
        };
        let host_local = self
            .disk
            .names(Path::new(&*name))
            .is_ok_and(|names| names.iter().any(|name| name.to_string_lossy().starts_with("last_reserved_ip")));
        let what = if host_local { "files of host-local in" } else { "found" };
        Err(StoreError::Foreign { path: self.disk.root().to_owned(), found: format!("{what} {}", crate::json::excerpt(&name)) })
    }

    /// Writes `format`, once, under the lock.
    fn write_format(&self) -> Result<String, StoreError> {
        let path = Path::new(layout::FORMAT);
        let random = self.disk.random().map_err(|error| failed(&self.disk, "read random bytes for", path, error))?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.place(path, format!("{{\"format\":{},\"id\":\"{id}\"}}\n", record::FORMAT).as_bytes())?;
        // Where locks fail, another may have been first: its word counts.
        Ok(self.read_format()?.unwrap_or(id))
    }

    /// Makes a small file with all its bytes or not at all; durable.
    fn place(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.ensure(&layout::temporary(&self.host.node))?;
        let temporary = unique(&self.disk, &self.host.node);
        let placed = self
            .disk
            .create(&temporary, bytes)
            .and_then(|_| self.disk.sync(&temporary))
            .and_then(|()| match self.disk.link(&temporary, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            })
            .and_then(|()| self.disk.sync(path.parent().unwrap_or(Path::new(""))));
        let _ = self.disk.unlink(&temporary);
        placed.map_err(|error| failed(&self.disk, "write", path, error))
    }

    /// Makes a directory and those above it, each durable before anything is
    /// put into it. The mark on a directory says that its parent was synced;
    /// whoever meets one without does that first.
    fn ensure(&self, directory: &Path) -> Result<(), StoreError> {
        match self.disk.is_marked(directory) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    self.ensure(parent)?;
                }
                match self.disk.make_directory(directory) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(failed(&self.disk, "make directory", directory, error));
                    }
                    _ => {}
                }
            }
            Err(error) => return Err(failed(&self.disk, "open directory", directory, error)),
        }
        let parent = directory.parent().unwrap_or(Path::new(""));
        self.disk.sync(parent).map_err(|error| failed(&self.disk, "sync", parent, error))?;
        self.disk.mark(directory).map_err(|error| failed(&self.disk, "mark", directory, error))
    }

    /// One node name, one machine: a second one would free the first one's
    /// addresses.
    fn check_machine(&self, access: Access) -> Result<(), StoreError> {
        let path = layout::machine_id(&self.host.node);
        if self.for_dead_node {
            return match self.disk.unlink(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&self.disk, "remove", &path, error)),
                _ => Ok(()),
            };
        }
        let Some(ours) = &self.host.machine_id else {
            return Ok(());
        };
        let noted = match self.disk.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if access == Access::Release {
                    return Ok(());
                }
                self.place(&path, format!("{ours}\n").as_bytes())?;
                // Two machines may have come at once: the link decided.
                self.disk.read(&path)
            }
            noted => noted,
        };
        let noted = noted.map_err(|error| failed(&self.disk, "read", &path, error))?;
        let theirs = String::from_utf8_lossy(&noted.bytes);
        if theirs.trim() == ours {
            return Ok(());
        }
        Err(StoreError::SecondMachine {
            node: self.host.node.to_string(),
            path: self.disk.root().join(&path),
            theirs: crate::json::excerpt(theirs.trim()),
            ours: crate::json::excerpt(ours),
        })
    }

    /// Waits for a lock: in the kernel's queue on a local filesystem, by
    /// trying again elsewhere.
    fn wait(&self, path: &Path, local: bool, deadline: &Deadline, lock: LockCall<'_>) -> Result<Box<dyn Held>, StoreError> {
        let refused = |error| refused_lock(&self.disk, path, error);
        let held = if local {
            match lock(path, Patience::Queue(deadline.left())).map_err(&refused)? {
                Locked::Held(held) => Some(held),
                Locked::Busy => None,
            }
        } else {
            retry::until(deadline, || match lock(path, Patience::Try).map_err(&refused)? {
                Locked::Held(held) => Ok(Some(held)),
                Locked::Busy => Ok(None),
            })?
        };
        held.ok_or_else(|| StoreError::Busy {
            path: below(&self.disk, path),
            waited: humantime::format_duration(deadline.limit()).to_string(),
            holder: self.disk.lock_holder(path),
        })
    }

    fn is_local(&self) -> Result<bool, StoreError> {
        self.disk.is_local().map_err(|error| failed(&self.disk, "look at the filesystem of", Path::new(""), error))
    }

    /// The store's lock. On a local filesystem, where no other stands behind
    /// it, the data directory itself: a file could be removed under its holder,
    /// and whoever comes next would make and lock another. On a shared one a
    /// file: not all of them lock directories.
    fn wait_store(&self, local: bool, deadline: &Deadline) -> Result<Box<dyn Held>, StoreError> {
        let path = Path::new(if local { "" } else { layout::LOCK });
        self.wait(path, local, deadline, &|path, patience| self.disk.lock(path, patience))
    }

    /// The lock that keeps calls of this machine apart, also where the shared
    /// filesystem's locks fail.
    fn wait_machine(&self, id: &str, deadline: &Deadline) -> Result<Box<dyn Held>, StoreError> {
        let path = Path::new(LOCAL_LOCKS).join(format!("{}-{id}.lock", layout::escape(self.host.node.as_str())));
        self.wait(&path, true, deadline, &|path, patience| self.disk.lock_local(path, patience))
    }

    /// See [`Store::open`].
    fn open_session(&self, access: Access, deadline: Deadline) -> Result<FileSession<'_, D>, StoreError> {
        if !self.exists()? {
            if access == Access::Release {
                return Ok(FileSession::absent(self, deadline));
            }
            self.disk.make_root().map_err(|error| failed(&self.disk, "make directory", Path::new(""), error))?;
        }
        let mut id = self.read_format()?;
        if id.is_none() {
            self.check_not_foreign()?;
            if access == Access::Release {
                return Ok(FileSession::absent(self, deadline));
            }
        }
        let local = self.is_local()?;
        // First the store's lock, for what is made once.
        let mut store_lock = None;
        if local || id.is_none() {
            store_lock = Some(self.wait_store(local, &deadline)?);
            if id.is_none() {
                id = self.read_format()?;
            }
        }
        let id = match id {
            Some(id) => id,
            None => self.write_format()?,
        };
        if local {
            self.check_machine(access)?;
            return Ok(FileSession::local(self, deadline, store_lock));
        }
        drop(store_lock);
        let machine_lock = self.wait_machine(&id, &deadline)?;
        self.check_machine(access)?;
        Ok(FileSession::shared(self, deadline, machine_lock))
    }

    fn exists(&self) -> Result<bool, StoreError> {
        self.disk.exists().map_err(|error| failed(&self.disk, "open directory", Path::new(""), error))
    }
}

type LockCall<'a> = &'a dyn Fn(&Path, Patience) -> io::Result<Locked>;

impl<D: Disk> Store for FileStore<D> {
    fn open(&self, access: Access, deadline: Deadline) -> Result<Box<dyn Session + '_>, StoreError> {
        Ok(Box::new(self.open_session(access, deadline)?))
    }

    fn list(&self, filter: &Filter) -> Result<Listing<'_>, StoreError> {
        if !self.exists()? || self.read_format()?.is_none() {
            return Err(StoreError::Absent { path: self.disk.root().to_owned() });
        }
        listing::list(&self.disk, filter.clone())
    }

    fn ready(&self) -> Result<(), StoreError> {
        self.disk.check_writable().map_err(|error| failed(&self.disk, "write to", Path::new(""), error))?;
        if self.exists()? && self.read_format()?.is_none() {
            self.check_not_foreign()?;
        }
        Ok(())
    }

    fn has_room(&self, scope: &Scope, candidates: &AddrSet) -> Result<bool, StoreError> {
        if !self.exists()? {
            return Ok(!candidates.is_empty());
        }
        if claim::find_free(&self.disk, scope, candidates, &hint::FullShards::read(&self.disk, scope))?.free.is_some() {
            return Ok(true);
        }
        Ok(claim::find_free(&self.disk, scope, candidates, &hint::FullShards::default())?.free.is_some())
    }
}

/// A name in the node's @tmp that no other process uses.
fn unique(disk: &dyn Disk, node: &NodeName) -> PathBuf {
    let nanos = disk.now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    layout::temporary(node).join(format!("{}.{nanos:x}", std::process::id()))
}

/// Removes a name; that it is gone already is as good.
fn remove(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    match disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(disk, "remove", path, error)),
        _ => Ok(()),
    }
}

/// A lock that was refused: the filesystem has none, or it failed.
fn refused_lock(disk: &dyn Disk, path: &Path, error: io::Error) -> StoreError {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS) => StoreError::NoLocks { path: below(disk, path), reason: reason(&error) },
        _ => failed(disk, "lock", path, error),
    }
}

/// A path for a message; the empty one is the data directory.
fn below(disk: &dyn Disk, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { disk.root().to_owned() } else { disk.root().join(path) }
}

/// Whether a file went between the look at its directory and the look at it. A
/// client of a network filesystem may open from its cache what the server no
/// longer has, and learn of it only when it reads. Not to be asked of one's own
/// entry: who looks for that is told.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

/// A failed system call, with its path.
fn failed(disk: &dyn Disk, action: &'static str, path: &Path, error: io::Error) -> StoreError {
    StoreError::Io { action, path: below(disk, path), reason: reason(&error), source: error }
}

/// Our words for what the kernel said. Runtimes take "no such file or
/// directory" and "not found" in a DEL's error for success, so those words
/// never appear.
fn reason(error: &io::Error) -> String {
    use nix::errno::Errno;
    let Some(errno) = error.raw_os_error().map(Errno::from_raw) else {
        return match error.kind() {
            io::ErrorKind::NotFound => "it is missing".to_owned(),
            _ => error.to_string(),
        };
    };
    let words = match errno {
        Errno::ENOENT => "it is missing",
        Errno::ENOSPC => "the filesystem is full (bytes or inodes), free space on it",
        Errno::EDQUOT => "the quota is used up, raise it or free space",
        Errno::EROFS => "the filesystem is mounted read-only, remount it",
        Errno::EACCES | Errno::EPERM => "permission denied, the plugin has to run as the directory's owner",
        Errno::EIO => "the medium reports an input/output error",
        Errno::EMFILE | Errno::ENFILE => "too many open files",
        Errno::ENOTDIR => "a part of the path is no directory, below the data directory a symbolic link is none, put a directory there",
        Errno::ELOOP => "a part of the path below the data directory is a symbolic link, remove it",
        Errno::EXDEV => "the data directory spans two filesystems, it has to be on one",
        Errno::EMLINK => "the filesystem allows no more links",
        Errno::EINVAL => "the kernel refuses it, or it is no regular file",
        other => return format!("{} ({other:?})", other.desc().to_lowercase()),
    };
    format!("{words} ({errno:?})")
}
