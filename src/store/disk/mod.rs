//! The port to the disk: every system call of the file store goes through
//! [`Disk`], so that a test can fail, freeze or reorder each of them.
//!
//! All paths are relative to the data directory, and no part below it may be a
//! symbolic link. Knows nothing of records or orders.

pub(crate) mod error;
mod kinds;
pub(crate) mod lock;
mod mounts;
mod nested;
mod real;

pub(in crate::store) use real::LARGEST;
pub use real::RealDisk;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What identifies a file whatever name leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub number: u64,
}

/// A file's content and identity, of one and the same open file.
#[derive(Debug, Clone)]
pub struct Content {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Which file they are of.
    pub inode: Inode,
    /// How many names the file has.
    pub links: u64,
}

/// What is known of a filesystem by its type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kind {
    /// Nothing: what it keeps has to be tested.
    #[default]
    Unknown,
    /// It can never keep what machines that share a store need; why, in words.
    Unfit(String),
    /// What its server answered survives a power loss with a setting alone, in words.
    Needs(&'static str),
}

/// A lock that is held; closing it lets go.
pub trait Held {}

/// Whether a lock was to be had.
pub enum Locked {
    /// Held now.
    Held(Box<dyn Held>),
    /// Somebody else holds it.
    Busy,
}

/// How to wait for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    Try,
    /// In the kernel's queue, at most so long.
    Queue(std::time::Duration),
}

/// The system calls of the store.
pub trait Disk {
    /// The data directory, for messages.
    fn root(&self) -> &Path;
    /// Whether the data directory is there.
    fn exists(&self) -> io::Result<bool>;
    /// Makes the data directory and what is missing above it; durable.
    fn make_root(&self) -> io::Result<()>;
    /// Whether only this machine can reach the filesystem; before the directory is
    /// made, of the nearest one above.
    fn is_local(&self) -> io::Result<bool>;
    /// What is known of the filesystem by its type; of a local one nothing.
    fn kind(&self) -> io::Result<Kind> {
        Ok(Kind::Unknown)
    }
    /// The mount point at the data directory or above it that this machine's
    /// tables list and that has nothing mounted, in words.
    fn unmounted(&self) -> io::Result<Option<String>> {
        Ok(None)
    }
    /// What the data directory lies in or holds that is a store or node state, in
    /// words; `own` are the data directories of this node.
    fn nested(&self, own: &[PathBuf]) -> Option<String> {
        let _ = own;
        None
    }
    /// Whether the data directory, or the nearest directory above it, can be
    /// written.
    fn check_writable(&self) -> io::Result<()>;
    /// Reads a regular file; of one that is larger than any record, so much that
    /// it shows.
    fn read(&self, path: &Path) -> io::Result<Content>;
    /// The same of a file that may be larger than a record, up to `most` bytes.
    fn read_large(&self, path: &Path, most: u64) -> io::Result<Content> {
        let _ = most;
        self.read(path)
    }
    /// The identity of what stands at a name.
    fn inode(&self, path: &Path) -> io::Result<Inode>;
    /// Shows each name in a directory, in no order, without `.` and `..`; and
    /// the number of its inode, as far as the directory knows it.
    fn visit(&self, directory: &Path, visitor: &mut dyn FnMut(&OsStr, u64)) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        self.visit(directory, &mut |name, _| names.push(name.to_owned()))?;
        Ok(names)
    }
    /// Makes a directory, 0700, not yet marked.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Whether the directory carries the mark.
    fn is_marked(&self, directory: &Path) -> io::Result<bool>;
    /// Gives it the mark.
    fn mark(&self, directory: &Path) -> io::Result<()>;
    /// Makes a new file, 0600, with these bytes; not synced. What could not be
    /// written to its end is removed again, and nothing else is: where the error
    /// is another, what stands at the name is another's.
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Inode>;
    /// Begins to write a new file to the medium, so that it is part of what the
    /// next flush of another one commits. Promises nothing.
    fn begin_sync(&self, _path: &Path) {}
    /// Flushes a file or the names of a directory to the medium.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a directory that has no name in it; any other stays, and that is
    /// an error.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Removes a name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Puts a file in the place of another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes an exclusive lock on a file, which is made where it is missing; the
    /// empty path is the data directory itself.
    fn lock(&self, path: &Path, patience: Patience) -> io::Result<Locked>;
    /// Takes an exclusive lock on one byte of a file that is there. The byte
    /// itself need not be.
    fn lock_byte(&self, path: &Path, byte: u64, patience: Patience) -> io::Result<Locked>;
    /// Takes an exclusive lock on a file of this machine alone.
    fn lock_local(&self, path: &Path, patience: Patience) -> io::Result<Locked>;
    /// Who holds the lock on a file, in words, as far as can be seen.
    fn lock_holder(&self, path: &Path) -> String;
    /// Who holds the lock on one byte of a file, likewise.
    fn byte_holder(&self, path: &Path, byte: u64) -> String;
    /// 16 bytes nobody can guess.
    fn random(&self) -> io::Result<[u8; 16]>;
    /// The wall clock.
    fn now(&self) -> SystemTime;
}
