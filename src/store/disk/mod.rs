//! The interface to the disk: every system call of the file store goes through [`Disk`], so that a
//! test can fail, freeze or reorder each of them.
//!
//! All paths are relative to the data directory, and no part of a path below it may be a symbolic
//! link. This layer knows nothing about records or orders.

pub(crate) mod error;
mod kinds;
pub(crate) mod lock;
mod lock_file;
mod mounts;
mod nested;
mod open_files;
mod real;

pub(in crate::store) use real::LARGEST;
pub use real::RealDisk;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The identity of a file, which is the same under each of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// The device number.
    pub device: u64,
    /// The inode number.
    pub number: u64,
}

/// A file's content and identity, both of the same open file.
#[derive(Debug, Clone)]
pub struct Content {
    /// All bytes of the file.
    pub bytes: Vec<u8>,
    /// The file that they belong to.
    pub inode: Inode,
    /// The number of names that the file has.
    pub links: u64,
}

/// What the type of a filesystem says about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kind {
    /// Nothing: its guarantees must be tested.
    #[default]
    Unknown,
    /// It can never guarantee what a shared store needs. The text says why.
    Unfit(String),
    /// Answers of its server survive a power loss only with this setting.
    Needs(&'static str),
}

/// A lock that is held. Dropping it releases the lock.
pub trait Held {}

/// The result of an attempt to take a lock.
pub enum Locked {
    /// The lock is now held.
    Held(Box<dyn Held>),
    /// Another call or process holds the lock.
    Busy,
}

/// How to wait for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Without waiting.
    Try,
    /// In the kernel's queue, for at most this time.
    Queue(Duration),
}

/// The system calls of the store.
pub trait Disk {
    /// Returns the data directory, for messages.
    fn root(&self) -> &Path;
    /// Returns whether the data directory exists.
    fn exists(&self) -> io::Result<bool>;
    /// Creates the data directory and its missing parents durably.
    fn make_root(&self) -> io::Result<()>;
    /// Returns whether only this machine can reach the filesystem. Before the directory is created,
    /// this is about the nearest directory above it.
    fn is_local(&self) -> io::Result<bool>;
    /// Returns what the type of the filesystem says about it; nothing for a local one.
    fn kind(&self) -> io::Result<Kind> {
        Ok(Kind::Unknown)
    }
    /// Returns whether the mount moves a file that is open out of the way before another file takes
    /// its name. The name is then free for a moment.
    fn moves_open_files(&self, directory: &Path) -> io::Result<bool> {
        let _ = directory;
        Ok(false)
    }
    /// Returns a description of a mount point, at the data directory or above it, that this
    /// machine's tables list and that has nothing mounted.
    fn unmounted(&self) -> io::Result<Option<String>> {
        Ok(None)
    }
    /// Returns a description of the store or node state that the data directory is in or contains.
    /// `own` are the data directories of this node.
    fn nested(&self, own: &[PathBuf]) -> Option<String> {
        let _ = own;
        None
    }
    /// Checks that the data directory, or the nearest directory above it, is writable.
    fn check_writable(&self) -> io::Result<()>;
    /// Reads a regular file. If the file is larger than any record, reads only enough to show that.
    fn read(&self, path: &Path) -> io::Result<Content>;
    /// Does the same for a file that may be larger than a record. Reads up to `most` bytes.
    fn read_large(&self, path: &Path, most: u64) -> io::Result<Content> {
        let _ = most;
        self.read(path)
    }
    /// Returns the identity of the file at a name.
    fn inode(&self, path: &Path) -> io::Result<Inode>;
    /// Calls `visitor` with each name in a directory, in no order and without `.` and `..`, and
    /// with the inode number that the directory has for it.
    fn visit(&self, directory: &Path, visitor: &mut dyn FnMut(&OsStr, u64)) -> io::Result<()>;
    /// Returns the names in a directory, in no order.
    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        self.visit(directory, &mut |name, _| names.push(name.to_owned()))?;
        Ok(names)
    }
    /// Creates a directory with mode 0700, without the mark.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Returns whether the directory has the mark.
    fn is_marked(&self, directory: &Path) -> io::Result<bool>;
    /// Gives the directory the mark.
    fn mark(&self, directory: &Path) -> io::Result<()>;
    /// Creates a new file with mode 0600 and these bytes. Does not sync it. If the bytes cannot be
    /// written completely, removes the file again. Removes nothing after any other error, because
    /// then another call's file is at the name.
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Inode>;
    /// Starts writing a new file to the medium, so that the next flush of another file commits it
    /// too. Guarantees nothing.
    fn begin_sync(&self, _path: &Path) {}
    /// Flushes a file, or the names in a directory, to the medium.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes an empty directory. Any other directory stays, which is an error.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Removes a name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, and replaces the file at the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes an exclusive lock on a file, which is created if it is missing. The empty path is the
    /// data directory itself.
    fn lock(&self, path: &Path, patience: Patience) -> io::Result<Locked>;
    /// Takes an exclusive lock on one byte of an existing file. The byte itself need not exist.
    fn lock_byte(&self, path: &Path, byte: u64, patience: Patience) -> io::Result<Locked>;
    /// Takes an exclusive lock on a file that only this machine uses.
    fn lock_local(&self, path: &Path, patience: Patience) -> io::Result<Locked>;
    /// Returns a description of the holder of the lock on a file, as far as it can be seen.
    fn lock_holder(&self, path: &Path) -> String;
    /// Returns a description of the holder of the lock on one byte of a file, as far as it can be
    /// seen.
    fn byte_holder(&self, path: &Path, byte: u64) -> String;
    /// Returns 16 unpredictable bytes.
    fn random(&self) -> io::Result<[u8; 16]>;
    /// Returns the time of the wall clock.
    fn now(&self) -> SystemTime;
    /// Returns the time since this machine has booted, its sleep included (CLOCK_BOOTTIME). Nobody
    /// sets it back.
    fn since_boot(&self) -> Duration {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
            .map_or(Duration::MAX, Duration::from)
    }
}
