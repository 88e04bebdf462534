//! A disk in memory behind the disk port: each system call is a step of the scheduler. Several
//! threads and nodes see the same disk.

use super::scheduler::{Scheduler, Touches};
use super::world::World;
use hereabouts::store::disk::{Content, Disk, Held, Inode, Locked, Patience};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2026, so that no time is before that of a record.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

#[derive(Debug, Clone)]
enum Node {
    File(Arc<[u8]>),
    Directory { names: BTreeMap<OsString, usize>, marked: bool },
}

/// The content of one disk. A copy costs little.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: Vec<Arc<Node>>,
    /// The number of names of each file.
    links: Vec<u64>,
    /// Whether the root exists.
    exists: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: vec![Arc::new(Node::Directory { names: BTreeMap::new(), marked: false })],
            links: vec![1],
            exists: false,
        }
    }
}

impl Tree {
    /// Adds names and contents to a hash. States that differ only in inode numbers are equal,
    /// except where the numbers matter.
    pub(super) fn hash_into(&self, state: &mut impl Hasher, numbered: bool) {
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        let mut todo = vec![0];
        while let Some(at) = todo.pop() {
            let count = seen.len();
            let first = !seen.contains_key(&at);
            seen.entry(at).or_insert(count).hash(state);
            match &*self.nodes[at] {
                Node::File(bytes) if first && numbered => (at, bytes).hash(state),
                Node::File(bytes) if first => bytes.hash(state),
                Node::File(_) => {}
                Node::Directory { names, marked } => {
                    marked.hash(state);
                    for (name, number) in names {
                        name.hash(state);
                        todo.push(*number);
                    }
                }
            }
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        path.components().try_fold(0, |at, part| match &*self.nodes[at] {
            Node::Directory { names, .. } => {
                names.get(part.as_os_str()).copied().ok_or_else(|| Errno::ENOENT.into())
            }
            Node::File(_) => Err(Errno::ENOTDIR.into()),
        })
    }

    fn place<'p>(&self, path: &'p Path) -> io::Result<(usize, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find(path.parent().unwrap_or(Path::new("")))?, name))
    }

    fn names_of(&mut self, at: usize) -> io::Result<&mut BTreeMap<OsString, usize>> {
        match Arc::make_mut(&mut self.nodes[at]) {
            Node::Directory { names, .. } => Ok(names),
            Node::File(_) => Err(Errno::ENOTDIR.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let (at, name) = self.place(path)?;
        let number = self.nodes.len();
        let names = self.names_of(at)?;
        if names.contains_key(name) {
            return Err(Errno::EEXIST.into());
        }
        names.insert(name.to_owned(), number);
        self.nodes.push(Arc::new(node));
        self.links.push(1);
        Ok(number)
    }

    /// Returns the file of this name in any directory.
    pub(super) fn inode_named(&self, wanted: &str) -> Option<usize> {
        self.nodes.iter().find_map(|node| match &**node {
            Node::Directory { names, .. } => names.get(OsStr::new(wanted)).copied(),
            Node::File(_) => None,
        })
    }

    /// Returns every file and its content. A file with several names appears under the first one.
    pub(super) fn tell(&self) -> Vec<String> {
        let mut seen: BTreeMap<usize, PathBuf> = BTreeMap::new();
        let mut tell = |path: PathBuf| {
            let number = self.find(&path).unwrap_or(0);
            match (seen.get(&number), &*self.nodes[number]) {
                (Some(first), _) => format!("{} is {}", path.display(), first.display()),
                (None, Node::File(bytes)) => {
                    let line = format!("{} {}", path.display(), String::from_utf8_lossy(bytes));
                    seen.insert(number, path);
                    line
                }
                (None, Node::Directory { .. }) => String::new(),
            }
        };
        self.files().into_iter().map(&mut tell).collect()
    }

    /// Returns every file below the root, for a test that inspects it.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![(PathBuf::new(), 0)];
        while let Some((path, at)) = todo.pop() {
            match &*self.nodes[at] {
                Node::File(_) => found.push(path),
                Node::Directory { names, .. } => {
                    todo.extend(names.iter().map(|(name, number)| (path.join(name), *number)))
                }
            }
        }
        found.sort();
        found
    }
}

/// The access of one call to a disk.
pub(super) struct ScheduledDisk {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) thread: usize,
    /// The name of the disk.
    pub(super) disk: String,
    /// The machine on which it is used: each machine has its own local locks.
    pub(super) machine: String,
    pub(super) local: bool,
    /// The flush of the call that fails, and the number of flushes so far.
    pub(super) bad_flush: Option<(usize, Arc<AtomicUsize>)>,
    /// How far its clock is ahead.
    pub(super) later: Duration,
}

struct LockHeld {
    scheduler: Arc<Scheduler>,
    thread: usize,
    name: String,
}

impl Held for LockHeld {}

impl Drop for LockHeld {
    fn drop(&mut self) {
        self.scheduler.unlock(self.thread, &self.name);
    }
}

const fn identity(number: usize) -> Inode {
    Inode { device: 1, number: number as u64 }
}

/// Notes what a step on a disk touches.
struct Noted<'t> {
    tree: &'t mut Tree,
    touches: &'t mut Touches,
    disk: &'t str,
}

impl Noted<'_> {
    fn reads(&mut self, path: &Path) {
        self.touches.read((self.disk, "name", path));
        // A name may be missing because a directory above it is missing.
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| self.tree.find(directory).is_err()) {
            self.touches.read((self.disk, "name", directory));
            above = directory.parent();
        }
    }

    fn writes(&mut self, path: &Path) {
        self.touches.write((self.disk, "name", path));
        self.touches.write((self.disk, "listing", path.parent()));
    }

    fn links(&mut self, number: usize) {
        self.touches.write((self.disk, "links", number));
    }
}

impl ScheduledDisk {
    fn step<T>(&self, what: &str, path: &Path, work: impl FnOnce(&mut Noted<'_>) -> T) -> T {
        let label = || format!("{what} {}:{}", self.disk, path.display());
        self.scheduler.step(self.thread, label, |world, touches| {
            let tree = world.disks.entry(self.disk.clone()).or_default();
            work(&mut Noted { tree, touches, disk: &self.disk })
        })
    }

    fn take(
        &self,
        name: String,
        patience: Patience,
        work: impl FnOnce(&mut World, &mut Touches),
    ) -> Locked {
        let patience = match patience {
            Patience::Try => Duration::ZERO,
            Patience::Queue(limit) => limit,
        };
        if !self.scheduler.lock(self.thread, &name, patience, work) {
            return Locked::Busy;
        }
        Locked::Held(Box::new(LockHeld {
            scheduler: Arc::clone(&self.scheduler),
            thread: self.thread,
            name,
        }))
    }
}

impl Disk for ScheduledDisk {
    fn root(&self) -> &Path {
        Path::new("/store")
    }
    fn exists(&self) -> io::Result<bool> {
        self.step("exists", Path::new(""), |on| {
            on.reads(Path::new(""));
            Ok(on.tree.exists)
        })
    }
    fn make_root(&self) -> io::Result<()> {
        self.step("make", Path::new(""), |on| {
            if !on.tree.exists {
                on.writes(Path::new(""));
                on.tree.exists = true;
            }
            Ok(())
        })
    }
    fn is_local(&self) -> io::Result<bool> {
        Ok(self.local)
    }
    fn check_writable(&self) -> io::Result<()> {
        Ok(())
    }
    fn read(&self, path: &Path) -> io::Result<Content> {
        self.step("read", path, |on| {
            on.reads(path);
            let number = on.tree.find(path)?;
            on.touches.read((on.disk, "links", number));
            let Node::File(bytes) = &*on.tree.nodes[number] else {
                return Err(Errno::EINVAL.into());
            };
            Ok(Content {
                bytes: bytes.to_vec(),
                inode: identity(number),
                links: on.tree.links[number],
            })
        })
    }
    fn inode(&self, path: &Path) -> io::Result<Inode> {
        self.step("inode", path, |on| {
            on.reads(path);
            on.tree.find(path).map(identity)
        })
    }
    fn visit(&self, directory: &Path, visitor: &mut dyn FnMut(&OsStr, u64)) -> io::Result<()> {
        let names = self.step("list", directory, |on| {
            on.reads(directory);
            on.touches.read((on.disk, "listing", Some(directory)));
            match &*on.tree.nodes[on.tree.find(directory)?] {
                Node::Directory { names, .. } => Ok(names.clone()),
                Node::File(_) => Err(io::Error::from(Errno::ENOTDIR)),
            }
        })?;
        names.iter().for_each(|(name, number)| visitor(name, identity(*number).number));
        Ok(())
    }
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.step("mkdir", path, |on| {
            let made = on.tree.add(path, Node::Directory { names: BTreeMap::new(), marked: false });
            if made.is_ok() {
                on.writes(path)
            } else {
                on.reads(path)
            }
            made.map(drop)
        })
    }
    fn is_marked(&self, directory: &Path) -> io::Result<bool> {
        self.step("is marked", directory, |on| {
            on.reads(directory);
            on.touches.read((on.disk, "mark", directory));
            match &*on.tree.nodes[on.tree.find(directory)?] {
                Node::Directory { marked, .. } => Ok(*marked),
                Node::File(_) => Err(Errno::ENOTDIR.into()),
            }
        })
    }
    fn mark(&self, directory: &Path) -> io::Result<()> {
        self.step("mark", directory, |on| {
            on.touches.write((on.disk, "mark", directory));
            let number = on.tree.find(directory)?;
            if let Node::Directory { marked, .. } = Arc::make_mut(&mut on.tree.nodes[number]) {
                *marked = true;
            }
            Ok(())
        })
    }
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Inode> {
        self.step("create", path, |on| {
            let made = on.tree.add(path, Node::File(bytes.into()));
            if made.is_ok() {
                on.writes(path)
            } else {
                on.reads(path)
            }
            made.map(identity)
        })
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step("sync", path, |_| match &self.bad_flush {
            Some((bad, count)) if count.fetch_add(1, Ordering::Relaxed) == *bad => {
                Err(Errno::EIO.into())
            }
            _ => Ok(()),
        })
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("link", to, |on| {
            on.reads(from);
            on.reads(to);
            let number = on.tree.find(from)?;
            let (at, name) = on.tree.place(to)?;
            if on.tree.names_of(at)?.contains_key(name) {
                return Err(Errno::EEXIST.into());
            }
            on.writes(to);
            on.links(number);
            on.tree.names_of(at)?.insert(name.to_owned(), number);
            on.tree.links[number] += 1;
            Ok(())
        })
    }
    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.step("rmdir", path, |on| {
            on.reads(path);
            on.touches.read((on.disk, "listing", Some(path)));
            match &*on.tree.nodes[on.tree.find(path)?] {
                Node::Directory { names, .. } if names.is_empty() => {}
                Node::Directory { .. } => return Err(Errno::ENOTEMPTY.into()),
                Node::File(_) => return Err(Errno::ENOTDIR.into()),
            }
            on.writes(path);
            let (at, name) = on.tree.place(path)?;
            on.tree.names_of(at)?.remove(name);
            Ok(())
        })
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.step("unlink", path, |on| {
            on.reads(path);
            let (at, name) = on.tree.place(path)?;
            let Some(number) = on.tree.names_of(at)?.remove(name) else {
                return Err(Errno::ENOENT.into());
            };
            on.writes(path);
            on.links(number);
            on.tree.links[number] -= 1;
            Ok(())
        })
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename", to, |on| {
            on.reads(from);
            let number = on.tree.find(from)?;
            let ((source, old), (target, new)) = (on.tree.place(from)?, on.tree.place(to)?);
            on.writes(from);
            on.writes(to);
            on.links(number);
            // Two names of one file: nothing happens.
            if on.tree.find(to).is_ok_and(|other| other == number) {
                return Ok(());
            }
            if let Some(replaced) = on.tree.names_of(target)?.insert(new.to_owned(), number) {
                on.links(replaced);
                on.tree.links[replaced] -= 1;
            }
            on.tree.names_of(source)?.remove(old);
            Ok(())
        })
    }
    fn lock(&self, path: &Path, patience: Patience) -> io::Result<Locked> {
        let name = format!("{}:{}", self.disk, path.display());
        Ok(self.take(name, patience, |world, touches| {
            let tree = world.disks.entry(self.disk.clone()).or_default();
            if tree.find(path).is_err() && tree.add(path, Node::File(Arc::from([]))).is_ok() {
                Noted { tree, touches, disk: &self.disk }.writes(path);
            }
        }))
    }
    fn lock_byte(&self, path: &Path, byte: u64, patience: Patience) -> io::Result<Locked> {
        self.step("look at", path, |on| {
            on.reads(path);
            on.tree.find(path).map(drop)
        })?;
        Ok(self.take(format!("{}:{}#{byte}", self.disk, path.display()), patience, |_, _| {}))
    }
    fn byte_holder(&self, _path: &Path, _byte: u64) -> String {
        String::new()
    }
    fn lock_local(&self, path: &Path, patience: Patience) -> io::Result<Locked> {
        Ok(self.take(format!("{}:{}", self.machine, path.display()), patience, |_, _| {}))
    }
    fn lock_holder(&self, _path: &Path) -> String {
        String::new()
    }
    fn random(&self) -> io::Result<[u8; 16]> {
        let thread = u8::try_from(self.thread).unwrap_or(0);
        Ok([7 + thread; 16])
    }
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + EPOCH + self.later + self.scheduler.now()
    }
    /// Stands still within a call, so that what is noted does not depend on the schedule.
    fn since_boot(&self) -> Duration {
        EPOCH + self.later
    }
}
