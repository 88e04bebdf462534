//! The log file, and stderr for messages that have no other place.

use super::named_file::Mounts;
use crate::config::{LogLevel, LogSettings};
use crate::ipam::PodRef;
use crate::small_file::regular;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use tracing::field::display;
use tracing::level_filters::LevelFilter;

/// The time to wait for a reader of stderr, in milliseconds.
const PATIENCE: u16 = 1_000;
/// The number of bytes that a pipe with room takes at once, so that no write blocks.
const AT_ONCE: usize = 4096;

/// Writes a sentence to stderr, which callers forward to their own log. It is not a failure if
/// nothing reads it. Waits at most `PATIENCE` per part if the pipe is full.
pub fn complain(sentence: &str) {
    let (stderr, line) = (io::stderr(), format!("hereabouts: {}\n", escape(sentence)));
    for part in line.as_bytes().chunks(AT_ONCE) {
        let ready = poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], PATIENCE);
        if !ready.is_ok_and(|ready| 0 < ready) || nix::unistd::write(stderr.as_fd(), part).is_err()
        {
            return;
        }
    }
}

/// What a call is about. It is in every line of the log, so that the lines of one pod are found by
/// its name or its uid.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The verb: ADD, DEL, CHECK, GC or STATUS.
    pub verb: String,
    /// The pod, if the runtime names one.
    pub pod: Option<PodRef>,
    /// The sandbox and its interface; GC and STATUS have none.
    pub sandbox: Option<(String, String)>,
    /// The name of the network configuration.
    pub network: String,
}

impl Subject {
    /// Adds it to each line from now on, until the process ends.
    fn stand_in_each_line(&self) {
        let pod = self.pod.as_ref().map(display);
        let uid = self.pod.as_ref().and_then(|pod| pod.uid.as_ref()).map(display);
        let (container, interface) = self
            .sandbox
            .as_ref()
            .map(|(container, interface)| (display(container), display(interface)))
            .unzip();
        let span = tracing::error_span!("call", verb = %self.verb, pod, uid, container, interface, network = %self.network);
        // The span is never left: a process is one call.
        std::mem::forget(span.entered());
    }
}

/// Appends to the file from now on. Never follows a symbolic link, never waits for a FIFO, never
/// opens a device.
///
/// # Errors
/// The file cannot be opened, or may not be written.
pub fn start(path: &Path, settings: &LogSettings, subject: &Subject) -> io::Result<()> {
    let file = match &settings.below {
        None => open_any(path)?,
        Some(root) => open_ours(path, root, settings.is_listed)?,
    };
    let level = match settings.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Verbose => LevelFilter::INFO,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Panic => LevelFilter::OFF,
    };
    let writer = Mutex::new(Escaped(file));
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .with_writer(writer);
    // A second call in one process keeps the first log.
    if tracing::subscriber::set_global_default(subscriber.finish()).is_ok() {
        subject.stand_in_each_line();
    }
    Ok(())
}

const APPEND: OFlag =
    OFlag::O_WRONLY.union(OFlag::O_APPEND).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// The mark of a file that hereabouts made for the network configurations that name it. The store's
/// directories carry the same mark.
const MARK: Mode = Mode::S_ISVTX;

/// Opens a file of the operator's choice. If only its directory is missing, the directory is
/// created: a node has no /var/log/hereabouts before its first log.
fn open_any(path: &Path) -> io::Result<File> {
    let look = || open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
    if matches!(look(), Err(Errno::ENOENT)) {
        let make = || open(path, APPEND | OFlag::O_CREAT | OFlag::O_EXCL, MODE);
        let made = match (make(), path.parent()) {
            (Err(Errno::ENOENT), Some(directory)) => {
                make_directory(directory).and_then(|_| Ok(make()?))
            }
            (made, _) => made.map_err(io::Error::from),
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok(made?.into()),
        }
    }
    reopen(&look()?)
}

/// Opens a file below a directory only if we made it, because a network configuration may name the
/// log of any other program.
fn open_ours(path: &Path, root: &Path, is_listed: bool) -> io::Result<File> {
    let mounts = Mounts::read()?;
    let allowed = if is_listed { vec![root.to_owned()] } else { Vec::new() };
    let beyond = || io::Error::other(format!("it is not below {}", root.display()));
    let (Ok(below), Some(name)) = (path.strip_prefix(root), path.file_name()) else {
        return Err(beyond());
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = match open(root, flags | OFlag::O_NOFOLLOW, Mode::empty()) {
        Err(Errno::ENOENT) => make_directory(root)?,
        found => found?,
    };
    mounts.check(&directory, root, &allowed)?;
    for part in below.parent().unwrap_or(Path::new("")).components() {
        directory =
            openat(directory.as_fd(), part.as_os_str(), flags | OFlag::O_NOFOLLOW, Mode::empty())?;
        mounts.check(&directory, path, &allowed)?;
    }
    match openat(directory.as_fd(), name, APPEND | OFlag::O_CREAT | OFlag::O_EXCL, MODE) {
        Err(Errno::EEXIST) => {}
        made => {
            let made = made?;
            fchmod(made.as_fd(), MODE | MARK)?;
            return Ok(made.into());
        }
    }
    let found = openat(
        directory.as_fd(),
        name,
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    mounts.check(&found, path, &allowed)?;
    regular(&found)?;
    let stat = fstat(found.as_fd())?;
    if !Mode::from_bits_truncate(stat.st_mode).contains(MARK)
        || stat.st_uid != nix::unistd::geteuid().as_raw()
    {
        return Err(io::Error::other("hereabouts did not create it; remove it or name another"));
    }
    reopen(&found)
}

/// Creates only the last directory of a path.
fn make_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::ENOENT.into());
    };
    let parent = open(parent, flags, Mode::empty())?;
    match mkdirat(parent.as_fd(), name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {
            Ok(openat(parent.as_fd(), name, flags | OFlag::O_NOFOLLOW, Mode::empty())?)
        }
        Err(error) => Err(error.into()),
    }
}

fn reopen(found: &OwnedFd) -> io::Result<File> {
    regular(found)?;
    File::options().append(true).open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Returns the text on one line, without anything that moves a terminal's cursor or turns the
/// direction of writing.
fn escape(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Writes each event as one line, whatever its values contain: names are chosen by authors who may
/// not write to a log.
struct Escaped(File);

impl Write for Escaped {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let mut escaped = escape(text.strip_suffix('\n').unwrap_or(&text));
        escaped.push('\n');
        self.0.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_its_values_hold() {
        let path = std::env::temp_dir().join(format!("hereabouts-log-{}", std::process::id()));
        let mut log = Escaped(open_any(&path).unwrap());
        log.write_all("ADD scope=x\nforged\u{1b}[2J\u{202e}\n".as_bytes()).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "ADD scope=x\\nforged\\u{1b}[2J\\u{202e}\n"
        );
        std::fs::remove_file(path).unwrap();
    }
}
