//! The kernel's disk: each step is an `openat` with `O_NOFOLLOW`, relative to a directory that is
//! opened once.

use super::{Content, Disk, Inode, Kind, Locked, Patience, kinds, lock, lock_file, open_files};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, unlinkat};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

/// Records have a few hundred bytes. A larger file than this is not a record.
pub(in crate::store) const LARGEST: u64 = 1024 * 1024;

/// The number of directories that are kept open, well below the usual limit of 1024.
const MOST_OPEN: usize = 128;

/// The mark of a directory whose name is durable in its parent.
const MARK: Mode = Mode::S_ISVTX;

/// The kernel's disk.
pub struct RealDisk {
    root: PathBuf,
    /// The open directories by path: each is opened once in a process's short life. They are in
    /// order, so that the same call closes them in the same order each time. The keys are bytes:
    /// comparing paths component by component took a tenth of an ADD's own time.
    directories: RefCell<BTreeMap<OsString, Rc<OwnedFd>>>,
    /// New files: each is synced through the descriptor that wrote it.
    written: RefCell<BTreeMap<PathBuf, OwnedFd>>,
    /// Whether the opened data directory is on a local filesystem, once that was checked.
    local: Cell<Option<bool>>,
    /// What the type of the filesystem says, once that was checked.
    kind: OnceCell<Kind>,
}

impl RealDisk {
    /// Returns the disk below a data directory, which need not exist yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            directories: RefCell::default(),
            written: RefCell::default(),
            local: Cell::new(None),
            kind: OnceCell::new(),
        }
    }

    /// Returns a directory's descriptor. The empty path is the data directory, which is the only
    /// one that may be a symbolic link.
    fn directory(&self, path: &Path) -> io::Result<Rc<OwnedFd>> {
        if let Some(known) = self.directories.borrow().get(path.as_os_str()) {
            return Ok(Rc::clone(known));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = if path.file_name().is_some() {
            self.at(path, |directory, name| {
                openat(directory, name, flags | OFlag::O_NOFOLLOW, Mode::empty())
            })?
        } else {
            nix::fcntl::open(&self.root, flags, Mode::empty())?
        };
        let opened = Rc::new(opened);
        let mut directories = self.directories.borrow_mut();
        // A listing of a million records opens thousands of directories.
        if MOST_OPEN <= directories.len() {
            // The data directory stays the same, even if something is mounted over it, or
            // unmounted, while this process runs.
            directories.retain(|path, _| path.is_empty());
        }
        directories.insert(path.as_os_str().to_owned(), Rc::clone(&opened));
        Ok(opened)
    }

    /// Returns the descriptor of a name's directory, and the name in it.
    fn place<'p>(&self, path: &'p Path) -> io::Result<(Rc<OwnedFd>, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// Runs `work` with a name in its directory. If the directory was removed since it was opened,
    /// and possibly created again, opens it by its path and runs `work` once more.
    fn at<T>(
        &self,
        path: &Path,
        work: impl Fn(BorrowedFd<'_>, &OsStr) -> nix::Result<T>,
    ) -> io::Result<T> {
        let (directory, name) = self.place(path)?;
        match work(directory.as_fd(), name) {
            Err(Errno::ENOENT | Errno::ESTALE)
                if self.forget_removed(path.parent().unwrap_or(Path::new("")), &directory) =>
            {
                let (directory, name) = self.place(path)?;
                Ok(work(directory.as_fd(), name)?)
            }
            done => Ok(done?),
        }
    }

    /// Closes a directory that no longer exists, and those above it, which may have been removed
    /// too. Returns whether the directory was removed. Returns false for a filesystem that does not
    /// report this, and for the data directory.
    fn forget_removed(&self, path: &Path, opened: &OwnedFd) -> bool {
        self.forget_where_removed(path, &fstat(opened))
    }

    /// Does the same with the result of an fstat.
    fn forget_where_removed(&self, path: &Path, seen: &nix::Result<FileStat>) -> bool {
        let is_removed = match seen {
            Ok(stat) => stat.st_nlink == 0,
            Err(error) => matches!(error, Errno::ENOENT | Errno::ESTALE),
        };
        let is_known = is_removed && !path.as_os_str().is_empty();
        if is_known {
            self.directories
                .borrow_mut()
                .retain(|known, _| known.is_empty() || !path.starts_with(known));
        }
        is_known
    }

    fn stat(&self, path: &Path) -> io::Result<FileStat> {
        self.at(path, |directory, name| fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW))
    }

    fn open_file(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        self.at(path, |directory, name| {
            openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        })
    }
}

impl From<&FileStat> for Inode {
    fn from(stat: &FileStat) -> Self {
        Self { device: stat.st_dev, number: stat.st_ino }
    }
}

fn is_regular(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
}

/// Reads a file to its end, at most one byte beyond `most`. If the file has as many bytes as its
/// size says, no further read looks for the end, because no call changes a file.
fn read_whole(file: &mut File, size: i64, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1024];
    let length = loop {
        match file.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    bytes.truncate(length);
    if i64::try_from(length) != Ok(size) || length == 0 {
        file.take(most.saturating_add(1).saturating_sub(length as u64)).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

impl Disk for RealDisk {
    fn root(&self) -> &Path {
        &self.root
    }

    fn exists(&self) -> io::Result<bool> {
        let Err(error) = self.directory(Path::new("")) else {
            return Ok(true);
        };
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        match std::fs::symlink_metadata(&self.root) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(other) => Err(other),
            // A dangling symbolic link does not mean that nothing is there: the store is meant to
            // be elsewhere.
            Ok(found) if found.is_symlink() => Err(io::Error::other(
                "a symbolic link to a directory that is missing or not mounted",
            )),
            // The directory was created between the two checks.
            Ok(_) => self.directory(Path::new("")).map(|_| true),
        }
    }

    fn make_root(&self) -> io::Result<()> {
        let missing: Vec<&Path> = self.root.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.into_iter().rev() {
            let mode = if path == self.root { 0o700 } else { 0o755 };
            match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), mode)
                .create(path)
            {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if let Some(parent) = path.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(())
    }

    fn is_local(&self) -> io::Result<bool> {
        if let Some(known) = self.local.get() {
            return Ok(known);
        }
        let opened = self.directory(Path::new(""));
        let kind = match &opened {
            Ok(directory) => nix::sys::statfs::fstatfs(directory.as_fd())?.filesystem_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let nearest =
                    self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
                nix::sys::statfs::statfs(nearest)?.filesystem_type()
            }
            Err(_) => return opened.map(|_| false),
        };
        use nix::sys::statfs as fs;
        // The list is short on purpose: a filesystem not known to be local is treated as shared,
        // which costs time and never an address. overlayfs can be on anything.
        let xfs = fs::XFS_SUPER_MAGIC;
        let local = [fs::EXT4_SUPER_MAGIC, xfs, fs::BTRFS_SUPER_MAGIC, fs::TMPFS_MAGIC];
        let (f2fs, zfs, bcachefs) = (0xf2f5_2010_u64, 0x2fc1_2fc1_u64, 0xca45_1a4e_u64);
        #[allow(
            clippy::cast_sign_loss,
            clippy::unnecessary_cast,
            reason = "magic numbers are bit patterns, their type differs by platform"
        )]
        let local =
            local.contains(&kind) || [f2fs, zfs, bcachefs].contains(&(kind.0 as u64 & 0xffff_ffff));
        self.local.set(opened.is_ok().then_some(local));
        Ok(local)
    }

    fn kind(&self) -> io::Result<Kind> {
        if let Some(known) = self.kind.get() {
            return Ok(known.clone());
        }
        if self.is_local()? {
            return Ok(Kind::Unknown);
        }
        let kind = match self.directory(Path::new("")) {
            Ok(directory) => kinds::of(directory.as_fd())?,
            Err(_) => {
                let nearest =
                    self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
                return kinds::of(
                    nix::fcntl::open(nearest, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?
                        .as_fd(),
                );
            }
        };
        Ok(self.kind.get_or_init(|| kind).clone())
    }

    fn moves_open_files(&self, directory: &Path) -> io::Result<bool> {
        open_files::are_moved(self, self.directory(directory)?.as_fd(), directory)
    }

    fn nested(&self, own: &[PathBuf]) -> Option<String> {
        super::nested::nested(&self.root, own)
    }

    fn unmounted(&self) -> io::Result<Option<String>> {
        super::mounts::unmounted(&self.root)
    }

    fn check_writable(&self) -> io::Result<()> {
        let nearest = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        if !nearest.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        nix::unistd::access(
            nearest,
            nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK,
        )?;
        let room = nix::sys::statfs::statfs(nearest)?;
        // Filesystems without inode tables report 0 of 0, and some FUSE filesystems 0 of many.
        let counts_files =
            room.files() != 0 && room.filesystem_type() != nix::sys::statfs::FUSE_SUPER_MAGIC;
        if room.blocks_available() == 0 || (counts_files && room.files_free() == 0) {
            return Err(Errno::ENOSPC.into());
        }
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Content> {
        self.read_large(path, LARGEST)
    }

    fn read_large(&self, path: &Path, most: u64) -> io::Result<Content> {
        let mut file = File::from(self.open_file(path, OFlag::O_RDONLY)?);
        let stat = fstat(file.as_fd())?;
        if !is_regular(&stat) {
            return Err(Errno::EINVAL.into());
        }
        let bytes = read_whole(&mut file, stat.st_size, most)?;
        Ok(Content { bytes, inode: Inode::from(&stat), links: stat.st_nlink })
    }

    fn inode(&self, path: &Path) -> io::Result<Inode> {
        Ok(Inode::from(&self.stat(path)?))
    }

    fn visit(&self, directory: &Path, visitor: &mut dyn FnMut(&OsStr, u64)) -> io::Result<()> {
        // Use a separate descriptor, because reading moves its position.
        let held = self.directory(directory)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = nix::dir::Dir::openat(held.as_fd(), ".", flags, Mode::empty())?;
        for entry in listing.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                visitor(OsStr::from_bytes(name), entry.ino());
            }
        }
        Ok(())
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.at(path, |directory, name| mkdirat(directory, name, Mode::S_IRWXU))
    }

    fn is_marked(&self, directory: &Path) -> io::Result<bool> {
        let seen = fstat(self.directory(directory)?.as_fd());
        let seen = if self.forget_where_removed(directory, &seen) {
            fstat(self.directory(directory)?.as_fd())
        } else {
            seen
        };
        Ok(Mode::from_bits_truncate(seen?.st_mode).contains(MARK))
    }

    fn mark(&self, directory: &Path) -> io::Result<()> {
        Ok(fchmod(self.directory(directory)?.as_fd(), Mode::S_IRWXU | MARK)?)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Inode> {
        let mut file =
            File::from(self.open_file(path, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?);
        let written = file.write_all(bytes).and_then(|()| Ok(Inode::from(&fstat(file.as_fd())?)));
        let inode = match written {
            Ok(inode) => inode,
            Err(error) => {
                // A full disk cut the file short: it would only be a dangling entry.
                let _ = self.unlink(path);
                return Err(error);
            }
        };
        self.written.borrow_mut().insert(path.to_owned(), file.into());
        Ok(inode)
    }

    #[allow(unsafe_code, reason = "no library offers sync_file_range(2)")]
    fn begin_sync(&self, path: &Path) {
        if let Some(file) = self.written.borrow().get(path) {
            // SAFETY: the descriptor is open, and the call touches no memory. The flush that
            // follows reports any failure.
            let _ = unsafe {
                nix::libc::sync_file_range(file.as_raw_fd(), 0, 0, nix::libc::SYNC_FILE_RANGE_WRITE)
            };
        }
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        if let Some(file) = self.written.borrow().get(path) {
            return Ok(fsync(file.as_fd())?);
        }
        let known = self.directories.borrow().get(path.as_os_str()).map(Rc::clone);
        match known {
            Some(directory) if self.forget_removed(path, &directory) => {
                Ok(fsync(self.directory(path)?.as_fd())?)
            }
            Some(directory) => Ok(fsync(directory.as_fd())?),
            None if path.as_os_str().is_empty() => Ok(fsync(self.directory(path)?.as_fd())?),
            None => Ok(fsync(self.open_file(path, OFlag::O_RDONLY)?)?),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_directory, from_name) = self.place(from)?;
        self.at(to, |directory, name| {
            linkat(from_directory.as_fd(), from_name, directory, name, AtFlags::empty())
        })
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        unlinkat(directory.as_fd(), name, UnlinkatFlags::RemoveDir)?;
        self.directories.borrow_mut().remove(path.as_os_str());
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        // Some FUSE filesystems keep a file that is open under another name.
        self.written.borrow_mut().remove(path);
        unlinkat(directory.as_fd(), name, UnlinkatFlags::NoRemoveDir)?;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_directory, from_name) = self.place(from)?;
        self.at(to, |directory, name| {
            renameat(from_directory.as_fd(), from_name, directory, name)
        })?;
        self.written.borrow_mut().remove(from);
        Ok(())
    }

    fn lock(&self, path: &Path, patience: Patience) -> io::Result<Locked> {
        if path.as_os_str().is_empty() {
            // Use a separate open file, because closing it releases the lock.
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let directory = openat(self.directory(path)?.as_fd(), ".", flags, Mode::empty())?;
            return Ok(lock::take(directory.into(), patience)?
                .map_or(Locked::Busy, |held| Locked::Held(Box::new(held))));
        }
        let open = |flag| Ok(File::from(self.open_file(path, OFlag::O_RDWR | flag)?));
        lock_file::take(open, || self.inode(path), patience)
    }

    fn lock_byte(&self, path: &Path, byte: u64, patience: Patience) -> io::Result<Locked> {
        let file = File::from(self.open_file(path, OFlag::O_RDWR)?);
        Ok(lock::take_byte(file, byte, patience)?
            .map_or(Locked::Busy, |held| Locked::Held(Box::new(held))))
    }

    fn lock_local(&self, path: &Path, patience: Patience) -> io::Result<Locked> {
        if let Some(parent) = path.parent() {
            std::os::unix::fs::DirBuilderExt::mode(
                std::fs::DirBuilder::new().recursive(true),
                0o700,
            )
            .create(parent)?;
        }
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let open = |flag| Ok(File::from(nix::fcntl::open(path, flags | flag, mode)?));
        lock_file::take(open, || Ok(Inode::from(&nix::sys::stat::lstat(path)?)), patience)
    }

    fn lock_holder(&self, path: &Path) -> String {
        let stat = if path.as_os_str().is_empty() {
            self.directory(path).and_then(|directory| Ok(fstat(directory.as_fd())?))
        } else {
            self.stat(path)
        };
        match stat {
            Ok(stat) => lock::describe_holder(stat.st_ino),
            Err(_) => "its holder is not visible".to_owned(),
        }
    }

    fn byte_holder(&self, path: &Path, byte: u64) -> String {
        match self.stat(path) {
            Ok(stat) => lock::describe_byte_holder(stat.st_ino, byte),
            Err(_) => "its holder is not visible".to_owned(),
        }
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the clock of the store, provided through this interface"
    )]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
