//! The real disk with faults: a step fails, or is carried out and returns an error; locks do not
//! lock; a link overwrites.

use hereabouts::store::disk::{Content, Disk, Held, Inode, Locked, Patience, RealDisk};
use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// The faults of the disk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// The step, from 0, that returns an error, and the errno.
    pub(crate) fails_at: Option<(usize, i32)>,
    /// Whether the step is carried out nevertheless.
    pub(crate) but_done: bool,
    /// Whether all later steps fail too.
    pub(crate) stays: bool,
    /// Whether every lock succeeds at once.
    pub(crate) no_locks: bool,
    /// Whether every lock on the filesystem succeeds at once. The machine's own lock is real.
    pub(crate) no_shared_locks: bool,
    /// Whether a link to a record's name replaces what exists, as a rename would.
    pub(crate) link_overwrites: bool,
    /// Whether nothing is flushed, for filling a store.
    pub(crate) unsynced: bool,
    /// Whether a rename removes the old file before it puts the new one in its place.
    pub(crate) rename_leaves_gap: bool,
    /// A link to a name that ends like this is refused this many times, as if it existed: a client
    /// with an old view of the directory.
    pub(crate) refuses: Option<(&'static str, usize)>,
    /// Whether the filesystem counts as one that machines share.
    pub(crate) shared: bool,
    /// Whether names that differ only in capital letters are one name.
    pub(crate) folds_case: bool,
    /// Whether each name shows its own inode, as on sshfs and on unions.
    pub(crate) inode_by_name: bool,
    /// Whether each file shows one link, as on sshfs.
    pub(crate) one_link: bool,
    /// The errno of a name that is taken.
    pub(crate) taken_errno: Option<i32>,
    /// The errno of every link.
    pub(crate) no_links: Option<i32>,
    /// The step before which another call does something. The step is then carried out as usual.
    pub(crate) interrupted_at: Option<usize>,
}

pub(crate) struct FaultyDisk<D = RealDisk> {
    pub(crate) inner: D,
    faults: Faults,
    step: Cell<usize>,
    refused: Cell<usize>,
    /// What another call does just before a step.
    pub(crate) meanwhile: Cell<Option<Box<dyn FnOnce()>>>,
}

struct Nothing;
impl Held for Nothing {}

impl FaultyDisk {
    pub(crate) fn new(root: std::path::PathBuf, faults: Faults) -> Self {
        Self::over(RealDisk::new(root), faults)
    }
}

impl<D: Disk> FaultyDisk<D> {
    pub(crate) fn over(inner: D, faults: Faults) -> Self {
        Self {
            inner,
            faults,
            step: Cell::new(0),
            refused: Cell::new(0),
            meanwhile: Cell::default(),
        }
    }

    /// Returns the number of steps so far.
    pub(crate) fn steps(&self) -> usize {
        self.step.get()
    }

    /// Returns the number of links that were refused.
    pub(crate) fn refused(&self) -> usize {
        self.refused.get()
    }

    /// Returns an inode as this disk shows it.
    fn shown(&self, path: &Path, inode: Inode) -> Inode {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let number = BuildHasherDefault::<DefaultHasher>::new().hash_one(path);
        if self.faults.inode_by_name { Inode { number, ..inode } } else { inode }
    }

    /// Returns the error for a name that is taken.
    fn told<T>(&self, made: io::Result<T>) -> io::Result<T> {
        match (made, self.faults.taken_errno) {
            (Err(error), Some(errno)) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(io::Error::from_raw_os_error(errno))
            }
            (made, _) => made,
        }
    }

    fn step<T>(&self, work: impl FnOnce(&D) -> io::Result<T>) -> io::Result<T> {
        let step = self.step.replace(self.step.get() + 1);
        if self.faults.interrupted_at == Some(step)
            && let Some(meanwhile) = self.meanwhile.take()
        {
            meanwhile();
        }
        match self.faults.fails_at {
            Some((at, errno)) if step == at || (self.faults.stays && at < step) => {
                if let Some(meanwhile) = self.meanwhile.take() {
                    meanwhile();
                }
                if self.faults.but_done {
                    work(&self.inner)?;
                }
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => work(&self.inner),
        }
    }
}

impl<D: Disk> Disk for FaultyDisk<D> {
    fn root(&self) -> &Path {
        self.inner.root()
    }
    fn exists(&self) -> io::Result<bool> {
        self.step(Disk::exists)
    }
    fn make_root(&self) -> io::Result<()> {
        self.step(Disk::make_root)
    }
    fn is_local(&self) -> io::Result<bool> {
        Ok(!self.faults.shared && self.inner.is_local()?)
    }
    fn check_writable(&self) -> io::Result<()> {
        self.inner.check_writable()
    }
    fn read(&self, path: &Path) -> io::Result<Content> {
        let content = self.step(|disk| disk.read(path))?;
        let links = if self.faults.one_link { 1 } else { content.links };
        Ok(Content { inode: self.shown(path, content.inode), links, ..content })
    }
    fn inode(&self, path: &Path) -> io::Result<Inode> {
        let folded = std::path::PathBuf::from(path.to_string_lossy().to_lowercase());
        Ok(self.shown(
            path,
            self.step(|disk| disk.inode(if self.faults.folds_case { &folded } else { path }))?,
        ))
    }
    fn visit(&self, directory: &Path, visitor: &mut dyn FnMut(&OsStr, u64)) -> io::Result<()> {
        self.step(|disk| {
            disk.visit(directory, &mut |name, number| {
                visitor(name, if self.faults.inode_by_name { u64::MAX } else { number })
            })
        })
    }
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.told(self.step(|disk| disk.make_directory(path)))
    }
    fn is_marked(&self, directory: &Path) -> io::Result<bool> {
        self.step(|disk| disk.is_marked(directory))
    }
    fn mark(&self, directory: &Path) -> io::Result<()> {
        self.step(|disk| disk.mark(directory))
    }
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Inode> {
        Ok(self.shown(path, self.told(self.step(|disk| disk.create(path, bytes)))?))
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        if self.faults.unsynced {
            return Ok(());
        }
        self.step(|disk| disk.sync(path))
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.faults.link_overwrites && to.starts_with("scopes") {
            let twin = from.with_extension("twin");
            self.inner.link(from, &twin)?;
            return self.inner.rename(&twin, to);
        }
        if self
            .faults
            .refuses
            .is_some_and(|(name, times)| to.ends_with(name) && self.refused.get() < times)
        {
            self.refused.set(self.refused.get() + 1);
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if let Some(errno) = self.faults.no_links {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.told(self.step(|disk| disk.link(from, to)))
    }
    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.step(|disk| disk.remove_directory(path))
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.step(|disk| disk.unlink(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.faults.rename_leaves_gap {
            let _ = self.inner.unlink(to);
            (0..1000).for_each(|_| std::thread::yield_now());
        }
        self.step(|disk| disk.rename(from, to))
    }
    fn lock(&self, path: &Path, patience: Patience) -> io::Result<Locked> {
        if self.faults.no_locks || self.faults.no_shared_locks {
            return Ok(Locked::Held(Box::new(Nothing)));
        }
        self.step(|disk| disk.lock(path, patience))
    }
    fn lock_byte(&self, path: &Path, byte: u64, patience: Patience) -> io::Result<Locked> {
        if self.faults.no_locks {
            return Ok(Locked::Held(Box::new(Nothing)));
        }
        self.step(|disk| disk.lock_byte(path, byte, patience))
    }
    fn lock_local(&self, path: &Path, patience: Patience) -> io::Result<Locked> {
        if self.faults.no_locks {
            return Ok(Locked::Held(Box::new(Nothing)));
        }
        self.inner.lock_local(path, patience)
    }
    fn lock_holder(&self, path: &Path) -> String {
        self.inner.lock_holder(path)
    }
    fn byte_holder(&self, path: &Path, byte: u64) -> String {
        self.inner.byte_holder(path, byte)
    }
    fn random(&self) -> io::Result<[u8; 16]> {
        self.step(Disk::random)
    }
    fn now(&self) -> SystemTime {
        self.inner.now()
    }
}
