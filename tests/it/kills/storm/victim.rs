//! One process: started under strace, killed from outside while it runs, and located by its own
//! trace.
//!
//! The moment is chosen by counting the lines of the trace as they come. When the kill arrives, the
//! process is somewhere further on, in a system call or between two. Only calls that change
//! something, wait, or start something are traced. A kill between them counts as after the last
//! one.

use super::super::strace::name_of;
use crate::support::sandbox::{Call, Ended};
use std::io::{BufRead, BufReader, Read};

/// strace as the grandchild, so that this test can kill the process. Its lines come on the stderr
/// of the process.
const UNDER_STRACE: &[&str] = &[
    "strace",
    "-D",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-e",
    "trace=openat,write,fsync,linkat,unlinkat,renameat,mkdirat,fchmod,flock,getppid,exit_group",
];

/// When to kill.
#[derive(Debug, Clone, Copy)]
pub(super) enum Aim {
    Never,
    /// After this many calls.
    Call(usize),
    /// After this many calls that follow the first write.
    AfterWrite(usize),
}

/// What happened to a process.
#[derive(Debug)]
pub(super) struct Fate {
    /// Without the trace.
    pub(super) ended: Ended,
    pub(super) killed: bool,
    /// Where it was killed, if this was between the first write and the exit.
    pub(super) at: Option<Place>,
}

/// A system call, and whether it was in progress or done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) call: String,
    pub(super) done: bool,
}

pub(super) fn run(call: &Call, aim: Aim) -> Fate {
    let mut child = call.start_under(UNDER_STRACE);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (mut trace, mut said) = (Vec::new(), String::new());
    let (mut calls, mut after_write, mut wrote) = (0, 0, false);
    // To its end: strace keeps it open as well, so the trace is then complete.
    while let Some(line) = lines.next().transpose().unwrap() {
        // A call that the kill met before it had begun has no name yet.
        if line.starts_with("syscall_") {
            continue;
        }
        if name_of(&line).is_none() {
            said.push_str(&line);
            said.push('\n');
            continue;
        }
        calls += 1;
        after_write += usize::from(wrote);
        wrote |= is_write(&line);
        let now = match aim {
            Aim::Never => false,
            Aim::Call(count) => calls == count,
            Aim::AfterWrite(count) => wrote && after_write == count,
        };
        if now {
            child.kill().unwrap();
        }
        trace.push(line);
    }
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let status = child.wait().unwrap().code();
    let killed = status.is_none();
    Fate {
        ended: Ended { status, stdout, stderr: said },
        killed,
        at: killed.then(|| place(&trace)).flatten(),
    }
}

/// Returns where a trace ends, if between the first write and the exit.
fn place(trace: &[String]) -> Option<Place> {
    let last = trace.last()?;
    let call = name_of(last)?.to_owned();
    let counts = trace.iter().any(|line| is_write(line)) && call != "exit_group";
    counts.then(|| Place { done: result(last).is_some(), call })
}

/// Returns what a call returned; `None` while it is in progress.
fn result(line: &str) -> Option<&str> {
    line.rsplit_once(" = ").map(|(_, result)| result).filter(|result| !result.starts_with('?'))
}

/// Returns whether a call has changed the store.
fn is_write(line: &str) -> bool {
    if result(line).is_none_or(|result| result.starts_with('-')) {
        return false;
    }
    match name_of(line) {
        Some("openat") => line.contains("O_EXCL"),
        Some("write") => !line.starts_with("write(1,") && !line.starts_with("write(2,"),
        Some(name) => ["linkat", "unlinkat", "renameat", "mkdirat", "fchmod"].contains(&name),
        None => false,
    }
}

#[test]
fn a_trace_tells_where_it_ends() {
    let write = r#"openat(6, "c@net1.0", O_WRONLY|O_CREAT|O_EXCL, 0600) = 12"#;
    let ends =
        |lines: &[&str]| place(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
    let at = |call: &str, done| Some(Place { call: call.to_owned(), done });
    assert_eq!(ends(&["fsync(6) = 0"]), None);
    assert_eq!(
        ends(&[r#"unlinkat(8, "exhausted", 0) = -1 ENOENT (No such file or directory)"#]),
        None
    );
    assert_eq!(ends(&[r#"write(1, "{}", 2) = 2"#]), None);
    assert_eq!(ends(&[r#"unlinkat(9, "10.1.2.3", 0 <unfinished ...>"#]), None);
    assert_eq!(ends(&[write]), at("openat", true));
    assert_eq!(ends(&[write, "fsync(12) = 0"]), at("fsync", true));
    assert_eq!(ends(&[write, "fsync(12 <unfinished ...>"]), at("fsync", false));
    assert_eq!(ends(&[write, "fsync(12)             = ?"]), at("fsync", false));
    assert_eq!(ends(&[write, "exit_group(0) = ?"]), None);
}
