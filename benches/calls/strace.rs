//! Parses the output of strace.
//!
//! A call is traced for one purpose at a time. The first is what it touches, with the path of every
//! descriptor. The second is how long it takes. Then strace writes as little as possible, so that
//! it slows each call by about the same time.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// The purpose of a trace.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Detail {
    Paths,
    Times,
}

/// A system call, and what it touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) name: String,
    /// The descriptor that was passed to it.
    pub(crate) descriptor: Option<i32>,
    /// The last name in the arguments as an absolute path, else the path of the descriptor.
    pub(crate) path: String,
    /// The result: a number, or `-1` and the reason.
    pub(crate) result: String,
    /// Whether it opened `.`, which gives a second descriptor of a directory for listing it.
    pub(crate) opens_itself: bool,
}

impl Touch {
    pub(crate) fn has_failed(&self) -> bool {
        self.result.starts_with('-')
    }
}

/// A system call and its time, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) took: u64,
}

/// Returns whether strace exists, may trace, and supports nanoseconds.
pub(crate) fn is_usable(scratch: &Path) -> bool {
    let front = front(Detail::Times, scratch);
    let traced = Command::new("strace")
        .args(front.iter().skip(1))
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    traced.is_ok_and(|status| status.success())
}

/// Returns the part of the command line before the program.
pub(crate) fn front(detail: Detail, output: &Path) -> Vec<OsString> {
    let options: &[&str] = match detail {
        Detail::Paths => &["strace", "-y", "-o"],
        Detail::Times => &[
            "strace",
            "-e",
            "raw=all",
            "--absolute-timestamps=format:unix,precision:ns",
            "--syscall-times=ns",
            "-o",
        ],
    };
    options.iter().map(OsString::from).chain([output.into()]).collect()
}

/// Parses a trace with paths. Skips lines that are not calls.
pub(crate) fn touches(text: &str) -> Vec<Touch> {
    text.lines().filter_map(touch).collect()
}

fn touch(line: &str) -> Option<Touch> {
    let (name, rest) = call(line)?;
    let (arguments, result) = rest.rsplit_once(" = ").unwrap_or((rest, ""));
    let descriptor = arguments.split(['<', ',', ')']).next().and_then(|text| text.parse().ok());
    let own = annotation(arguments)
        .filter(|_| descriptor.is_some() || arguments.starts_with("AT_FDCWD"))
        .unwrap_or_default();
    // If there are two names, as for link, use the one that is created.
    let named = if name.ends_with("at") || name == "statx" {
        last_name(arguments)
    } else {
        quoted(arguments)
            .filter(|name| arguments.starts_with('"') && name.starts_with('/'))
            .map(|name| (String::new(), name))
    };
    let path = match &named {
        Some((_, name)) if name.starts_with('/') => name.clone(),
        Some((directory, name)) if !name.is_empty() && !directory.is_empty() => {
            format!("{directory}/{name}")
        }
        Some((_, name)) if !name.is_empty() => name.clone(),
        _ => own,
    };
    let opens_itself = named.is_some_and(|(_, name)| name == ".");
    let descriptor = if opens_itself {
        result.split('<').next().and_then(|text| text.parse().ok())
    } else {
        descriptor
    };
    let path = path.strip_suffix("/.").map(str::to_owned).unwrap_or(path);
    Some(Touch {
        name: name.to_owned(),
        descriptor,
        path,
        result: result.split('<').next().unwrap_or_default().trim().to_owned(),
        opens_itself,
    })
}

/// Parses a trace with times. The call that ends the process has no time: it gets 0.
pub(crate) fn spans(text: &str) -> Vec<Span> {
    text.lines().filter_map(span).collect()
}

fn span(line: &str) -> Option<Span> {
    let (start, rest) = line.split_once(' ')?;
    let (name, rest) = call(rest)?;
    let took = rest
        .rsplit_once('<')
        .and_then(|(_, took)| nanoseconds(took.strip_suffix('>')?))
        .unwrap_or(0);
    Some(Span { name: name.to_owned(), start: nanoseconds(start)?, took })
}

/// Parses seconds with nine digits after the decimal point, and returns nanoseconds.
fn nanoseconds(text: &str) -> Option<u64> {
    let (seconds, rest) = text.split_once('.')?;
    if rest.len() != 9 {
        return None;
    }
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(rest.parse().ok()?)
}

/// Returns the name of a call, and the text after the parenthesis. Returns `None` for the lines
/// about signals and the end of the process.
fn call(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.trim_start().split_once('(')?;
    let is_name =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((name, rest))
}

/// Returns the first text between quotes.
fn quoted(text: &str) -> Option<String> {
    Some(text.split_once('"')?.1.split_once('"')?.0.to_owned())
}

/// Returns the first path between angle brackets, without the mark of a deleted file.
fn annotation(text: &str) -> Option<String> {
    let path = text.split_once('<')?.1.split_once('>')?.0;
    Some(path.trim_end_matches(" (deleted)").to_owned())
}

/// Returns the last name in the arguments, and the directory before it.
fn last_name(arguments: &str) -> Option<(String, String)> {
    let end = arguments.rfind('"')?;
    let start = arguments.get(..end)?.rfind('"')?;
    let directory = arguments
        .get(..start)?
        .rsplit_once('<')
        .and_then(|(_, rest)| Some(rest.split_once('>')?.0.to_owned()));
    Some((directory.unwrap_or_default(), arguments.get(start + 1..end)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, name: &str, descriptor: Option<i32>, path: &str, result: &str) {
        let found = touch(line).unwrap();
        assert_eq!(
            (&*found.name, found.descriptor, &*found.path, &*found.result),
            (name, descriptor, path, result),
            "{line}"
        );
    }

    #[test]
    fn what_a_call_touches_is_read() {
        check("brk(NULL) = 0x30b5000", "brk", None, "", "0x30b5000");
        check(
            "readlink(\"/proc/self/exe\", \"/x/h\", 4096) = 31",
            "readlink",
            None,
            "/proc/self/exe",
            "31",
        );
        check("getrandom(\"\\x6e\\x92\", 8, GRND_NONBLOCK) = 8", "getrandom", None, "", "8");
        check(
            "read(4</s/format>, \"{\\\"format\\\":1\"..., 1024) = 53",
            "read",
            Some(4),
            "/s/format",
            "53",
        );
        check(
            "openat(3</s>, \"format\", O_RDONLY|O_CLOEXEC) = 4</s/format>",
            "openat",
            Some(3),
            "/s/format",
            "4",
        );
        check(
            "openat(3</s>, \"no\", O_RDONLY) = -1 ENOENT (No such file or directory)",
            "openat",
            Some(3),
            "/s/no",
            "-1 ENOENT (No such file or directory)",
        );
        check(
            "newfstatat(AT_FDCWD</cwd>, \"/dev/null\", {st_mode=S_IFCHR}, 0) = 0",
            "newfstatat",
            None,
            "/dev/null",
            "0",
        );
        check(
            "newfstatat(4</s/lock>, \"\", {st_mode=S_IFREG}, AT_EMPTY_PATH) = 0",
            "newfstatat",
            Some(4),
            "/s/lock",
            "0",
        );
        check(
            "linkat(6</s/n>, \"a.0\", 11</s/d>, \"10.0.0.1\", 0) = 0",
            "linkat",
            Some(6),
            "/s/d/10.0.0.1",
            "0",
        );
        check("fsync(11</s/d>) = 0", "fsync", Some(11), "/s/d", "0");
        check("exit_group(0) = ?", "exit_group", Some(0), "", "?");
        assert_eq!(touch("+++ exited with 0 +++"), None);
        assert_eq!(touch("--- SIGALRM {si_signo=SIGALRM} ---"), None);
    }

    #[test]
    fn a_listing_has_a_descriptor_of_its_own() {
        let found = touch("openat(11</s/d>, \".\", O_RDONLY|O_DIRECTORY) = 12</s/d>").unwrap();
        assert_eq!((found.descriptor, &*found.path, found.opens_itself), (Some(12), "/s/d", true));
    }

    #[test]
    fn times_are_read_to_the_nanosecond() {
        let found = span("1795245835.542321727 fsync(0xc)         = 0 <0.000356194>").unwrap();
        assert_eq!(
            found,
            Span { name: "fsync".to_owned(), start: 1_795_245_835_542_321_727, took: 356_194 }
        );
        assert_eq!(span("1795245835.543202403 exit_group(0)      = ?").unwrap().took, 0);
        assert_eq!(span("1795245835.543260702 +++ exited with 0 +++"), None);
    }
}
