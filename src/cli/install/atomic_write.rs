//! Writes a file completely or not at all: it is written to a temporary file in the same directory,
//! synced and renamed, and the directory is synced. If the process is killed, the old or the new
//! file remains, and at worst a temporary file as well, which the next install removes.

use anyhow::Context;
use fs2::FileExt as _;
use std::fs::{DirBuilder, File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt as _, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The start of the names of temporary files. A plugin never has such a name.
const ASIDE: &str = ".hereabouts-new-";

/// Shows to other installs and to uninstall that this install is running: a lock on the directory
/// of our files, which installs share.
pub(super) struct InstallLock {
    directory: PathBuf,
    held: Option<File>,
}

impl InstallLock {
    /// Returns a value that does not hold the lock yet.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, held: None }
    }

    /// Takes the lock, in a directory that is created again if it was removed. Returns whether no
    /// other install is running.
    ///
    /// # Errors
    /// The directory cannot be created or locked, or an uninstall is running.
    pub(super) fn show(&mut self) -> anyhow::Result<bool> {
        let path = &self.directory;
        let named = || format!("cannot lock {}", path.display());
        let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let at_path = identity(path.metadata().with_context(named)?);
        if self.held.as_ref().and_then(|held| held.metadata().ok()).map(identity) != Some(at_path) {
            self.held = Some(open_directory(path)?);
        }
        let Some(held) = &self.held else { return Ok(false) };
        let is_alone = held.try_lock_exclusive().is_ok();
        // If this fails, a process holds the exclusive lock: an uninstall, or an install that makes
        // the same check at this moment.
        fs2::FileExt::try_lock_shared(held).with_context(named)?;
        Ok(is_alone)
    }

    /// Takes the exclusive lock for a process that removes files. Returns `None` if an install is
    /// running.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub(super) fn alone(directory: &Path) -> anyhow::Result<Option<Self>> {
        let held = open_directory(directory)?;
        Ok(held
            .try_lock_exclusive()
            .is_ok()
            .then_some(Self { directory: directory.to_owned(), held: Some(held) }))
    }
}

fn open_directory(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Removes the temporary files that killed installs left in a directory. No other install may be
/// running.
///
/// # Errors
/// The errors of the kernel.
pub(super) fn remove_aside(directory: &Path) -> anyhow::Result<()> {
    let named = || format!("cannot tidy {}", directory.display());
    for entry in directory.read_dir().with_context(named)? {
        let entry = entry.with_context(named)?;
        if entry.file_name().to_string_lossy().starts_with(ASIDE) {
            std::fs::remove_file(entry.path()).with_context(named)?;
        }
    }
    Ok(())
}

/// Writes a file, unless it already has this content and these permissions. Returns whether it was
/// written.
///
/// # Errors
/// The errors of the kernel.
pub(super) fn put(path: &Path, mode: u32, content: &[u8]) -> anyhow::Result<bool> {
    let is_there = properties(path)
        .is_some_and(|found| found.mode == mode && found.size == content.len() as u64)
        && std::fs::read(path).is_ok_and(|found| found == content);
    if is_there {
        return Ok(false);
    }
    replace(path, mode, |file| file.write_all(content))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

fn replace(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let aside = directory.join(format!("{ASIDE}{:016x}", RandomState::new().hash_one(path)));
    let placed = write_aside(&aside, mode, write).and_then(|()| std::fs::rename(&aside, path));
    if placed.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    placed?;
    File::open(directory)?.sync_all()
}

fn write_aside(
    aside: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    // Other users cannot read a token before the file has its final permissions.
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(aside)?;
    write(&mut file)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Removes a file. Returns whether it existed.
///
/// # Errors
/// The errors of the kernel.
pub(super) fn remove(path: &Path) -> anyhow::Result<bool> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        done => done.with_context(|| format!("cannot remove {}", path.display()))?,
    }
    if let Some(directory) = path.parent() {
        open_directory(directory)?
            .sync_all()
            .with_context(|| format!("cannot sync {}", directory.display()))?;
    }
    Ok(true)
}

/// The properties that distinguish two states of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileProperties {
    inode: (u64, u64),
    size: u64,
    mode: u32,
    modified: (i64, i64),
}

/// Returns the properties of a regular file. Returns `None` for a symbolic link.
fn properties(path: &Path) -> Option<FileProperties> {
    let found = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(FileProperties {
        inode: (found.dev(), found.ino()),
        size: found.size(),
        mode: found.mode() & 0o7777,
        modified: (found.mtime(), found.mtime_nsec()),
    })
}

/// The executable of this process, as the source of a copy. It has some megabytes, so a file that
/// was compared once is recognized by its properties.
pub(super) struct Executable {
    source: File,
    known: Vec<(PathBuf, FileProperties)>,
}

impl Executable {
    /// Opens the executable of this process.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(super) fn own() -> anyhow::Result<Self> {
        let source = File::open("/proc/self/exe").context("cannot open /proc/self/exe")?;
        Ok(Self { source, known: Vec::new() })
    }

    /// Writes the executable, unless it is already there with the right permissions. Returns
    /// whether it was written.
    ///
    /// # Errors
    /// The errors of the kernel.
    pub(super) fn put(&mut self, path: &Path) -> anyhow::Result<bool> {
        let named = || format!("cannot write {}", path.display());
        let found = properties(path);
        if found.as_ref().is_some_and(|found| {
            self.known.iter().any(|(known, properties)| known == path && properties == found)
        }) {
            return Ok(false);
        }
        let is_there = found.is_some_and(|found| found.mode == 0o755)
            && self.is_same(path).with_context(named)?;
        if !is_there {
            let mut source = &self.source;
            source.rewind()?;
            replace(path, 0o755, |file| io::copy(&mut source, file).map(drop))
                .with_context(named)?;
        }
        self.known.retain(|(known, _)| known != path);
        self.known.extend(properties(path).map(|properties| (path.to_owned(), properties)));
        Ok(!is_there)
    }

    fn is_same(&self, path: &Path) -> io::Result<bool> {
        let mut other = File::open(path)?;
        if self.source.metadata()?.len() != other.metadata()?.len() {
            return Ok(false);
        }
        let (mut ours, mut theirs) = (vec![0; 256 * 1024], Vec::new());
        let mut offset = 0;
        loop {
            let length = self.source.read_at(&mut ours, offset)?;
            if length == 0 {
                return Ok(true);
            }
            theirs.clear();
            Read::by_ref(&mut other).take(length as u64).read_to_end(&mut theirs)?;
            if theirs != ours[..length] {
                return Ok(false);
            }
            offset += length as u64;
        }
    }
}

/// The text in every executable of hereabouts, of any version, and in no other file.
const MARK: &str =
    "this file is an executable of hereabouts, which hereabouts uninstall may remove";

/// Returns whether a file is an executable of hereabouts.
///
/// # Errors
/// The file cannot be read.
pub(super) fn is_our_executable(path: &Path) -> io::Result<bool> {
    // `black_box` keeps the text in the executable as bytes, in whatever way the comparison is
    // compiled.
    let mark = std::hint::black_box(MARK).as_bytes();
    let mut file = File::open(path)?;
    let mut window = Vec::new();
    loop {
        let length = Read::by_ref(&mut file).take(1 << 20).read_to_end(&mut window)?;
        if window.windows(mark.len()).any(|bytes| bytes == mark) {
            return Ok(true);
        }
        if length == 0 {
            return Ok(false);
        }
        // The text may span two reads.
        window.drain(..window.len().saturating_sub(mark.len()));
    }
}
