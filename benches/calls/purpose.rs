//! Finds the purpose of each system call of a plugin: the part of the work that it belongs to, and
//! a short text for the reader.
//!
//! Only names and paths are used, so that a change in the store's code moves a line of the profile
//! but breaks nothing.

use crate::strace::Touch;
use std::path::Path;

/// The parts of the time, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Process,
    Linking,
    Configuration,
    Machine,
    Lock,
    Looking,
    Syncs,
    Store,
    Output,
}

impl Part {
    pub(crate) const ALL: [Self; 9] = [
        Self::Process,
        Self::Linking,
        Self::Configuration,
        Self::Machine,
        Self::Lock,
        Self::Looking,
        Self::Syncs,
        Self::Store,
        Self::Output,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Linking => "linking",
            Self::Configuration => "configuration",
            Self::Machine => "machine",
            Self::Lock => "lock",
            Self::Looking => "looking",
            Self::Syncs => "syncs",
            Self::Store => "rest of the store",
            Self::Output => "answer and end",
        }
    }

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Process => {
                "fork, execve, C library, Rust runtime, exit, reaping: all that a process costs which does nothing"
            }
            Self::Linking => "shared libraries",
            Self::Configuration => "stdin and flat file, read and parsed",
            Self::Machine => "boot id, machine id, network namespace",
            Self::Lock => "open, take, check, let go",
            Self::Looking => "hints, and the listing that shows the lowest free address",
            Self::Syncs => "fsync",
            Self::Store => "directories, index, record, link, unlink",
            Self::Output => "the answer is written, what is open is closed",
        }
    }
}

/// The lowest descriptor of the locks.
const HIGH: i32 = 900;

/// The reader of one process's calls, in order.
pub(crate) struct Reader<'p> {
    /// The data directory.
    data: &'p Path,
    /// The descriptor of an unfinished listing.
    listing: Option<i32>,
    /// The second descriptor of the data directory, which the lock is on.
    lock: Option<i32>,
    part: Part,
}

impl<'p> Reader<'p> {
    pub(crate) const fn new(data: &'p Path) -> Self {
        Self { data, listing: None, lock: None, part: Part::Configuration }
    }

    /// Returns the part and the purpose of a call that belongs to the program itself.
    pub(crate) fn judge(&mut self, call: &Touch) -> (Part, &'static str) {
        let inside = Path::new(&call.path).strip_prefix(self.data).ok().and_then(Path::to_str);
        let is_lock = self.is_lock(call, inside);
        let is_listing = !is_lock
            && (call.opens_itself || self.listing.is_some() && call.descriptor == self.listing);
        if call.opens_itself && !is_lock {
            self.listing = call.descriptor;
        } else if is_listing && call.name == "close" {
            self.listing = None;
        }
        self.part = match (call.name.as_str(), inside) {
            ("fsync" | "fdatasync" | "sync_file_range" | "syncfs", _) => Part::Syncs,
            _ if self.part == Part::Output => Part::Output,
            ("getppid", _) if self.part != Part::Configuration => Part::Output,
            ("write", None) if call.descriptor == Some(1) => Part::Output,
            (_, Some(_)) if is_listing => Part::Looking,
            _ if is_lock => Part::Lock,
            (_, Some(path)) if is_hint(path) => Part::Looking,
            (_, Some(_)) => Part::Store,
            (_, None) if is_machine(&call.path) => Part::Machine,
            (_, None) if call.path.is_empty() && self.part == Part::Syncs => Part::Store,
            (_, None) if call.path.is_empty() => self.part,
            (_, None) => Part::Configuration,
        };
        (
            self.part,
            if is_lock && call.opens_itself {
                "once more, to lock it"
            } else {
                purpose(call, inside, is_listing)
            },
        )
    }

    /// Returns whether a call belongs to the lock. If the store is on this machine's own
    /// filesystem, the lock is on the data directory, which is opened a second time. Otherwise it
    /// is a file.
    fn is_lock(&mut self, call: &Touch, inside: Option<&str>) -> bool {
        if inside == Some("") && call.opens_itself {
            self.lock = call.descriptor;
        }
        let is_high = call.descriptor.is_some_and(|descriptor| HIGH <= descriptor);
        inside == Some("lock")
            || inside == Some("")
                && (is_high || self.lock.is_some() && call.descriptor == self.lock)
    }
}

fn is_hint(path: &str) -> bool {
    ["/full", "/exhausted", "/looking"]
        .iter()
        .any(|hint| path.starts_with("scopes/") && path.ends_with(hint))
}

fn is_machine(path: &str) -> bool {
    path.starts_with("/proc/") || path == "/etc/machine-id" || path.contains("/netns")
}

/// Returns the purpose of a call, by its name. For an open call, it depends on the path.
fn purpose(call: &Touch, inside: Option<&str>, is_listing: bool) -> &'static str {
    match call.name.as_str() {
        "fsync" | "fdatasync" => "wait until it is on the medium",
        "linkat" if inside.is_some_and(|path| path.starts_with("scopes/")) => {
            "the commit: the name is ours, or taken"
        }
        "linkat" => "a second name",
        "unlinkat" if inside.is_some_and(is_hint) => "the hint is not true any more",
        "unlinkat" if inside.is_some_and(|path| path.starts_with("scopes/")) => {
            "the commit: the address is free"
        }
        "unlinkat" => "the index entry goes",
        "write" if inside.is_some() => "the record",
        "write" => "the answer",
        "read" if call.result == "0" => "its end",
        "read" => "its content",
        "getdents64" if call.result == "0" => "its end",
        "getdents64" => "which addresses are held",
        "fcntl" | "lseek" | "fstat" | "newfstatat" if is_listing => {
            "by the C library, around a listing"
        }
        "fcntl" => "a high descriptor, closed last",
        "flock" => "take it",
        "fstatfs" => "is the filesystem this machine's own?",
        "close" => "let go",
        "getppid" => "is the caller still there?",
        "getrandom" => "keys of the hash tables",
        "brk" | "mmap" | "munmap" | "mremap" | "mprotect" => "memory",
        "openat" if call.opens_itself => "once more, to list it",
        "openat" => inside.map_or_else(|| opened_outside(&call.path), opened_inside),
        "newfstatat" | "fstat" | "statx" => looked_at(&call.path, inside),
        _ => "",
    }
}

fn opened_outside(path: &str) -> &'static str {
    match path {
        "/proc/sys/kernel/random/boot_id" => "which boot",
        "/etc/machine-id" => "which machine",
        _ if is_machine(path) => "the sandbox's namespace",
        _ => "the flat file",
    }
}

fn opened_inside(path: &str) -> &'static str {
    match path {
        "" => "the data directory",
        "format" => "is it a store, and of which format?",
        "lock" => "the lock",
        _ if is_hint(path) => "a hint",
        _ if path.ends_with("/@machine-id") => "is this node's name this machine's?",
        _ if path.contains('@')
            && path.ends_with(|end: char| end.is_ascii_digit())
            && path.starts_with("nodes/") =>
        {
            "what the attachment holds: the index entry"
        }
        _ if path.starts_with("scopes/") && path.matches('/').count() == 3 => "the record",
        _ => "one step down, no symbolic link",
    }
}

fn looked_at(path: &str, inside: Option<&str>) -> &'static str {
    match inside {
        Some("lock") => "is it still the file at that name?",
        Some(path) if path.starts_with("scopes/") && path.matches('/').count() == 3 => {
            "does the name lead to the record?"
        }
        Some(path)
            if path.starts_with("nodes/") && path.ends_with(|end: char| end.is_ascii_digit()) =>
        {
            "its identity"
        }
        Some(path) if path == "format" || path.ends_with("machine-id") || is_hint(path) => {
            "is it a regular file?"
        }
        Some(_) => "is the directory's name durable?",
        None if path == "/dev/null" || path.starts_with("pipe:") => {
            "will the answer reach anybody?"
        }
        None if path.contains("/ns") || path.contains("/netns") => "the sandbox's namespace",
        None => "its size and kind",
    }
}
