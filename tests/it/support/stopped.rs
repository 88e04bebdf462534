//! A call of the real executable that is stopped right after a system call that the test chooses,
//! for as long as the test needs. strace sends the SIGSTOP and reports when it has taken effect, so
//! nothing waits for a time.

use super::sandbox::{Call, Ended};
use hereabouts::retry::Deadline;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// A system call on a path: the name as it is passed to the call, or the whole path if the call has
/// a descriptor.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) call: &'static str,
    pub(crate) path: String,
    /// The error that it returns instead of being made.
    error: Option<&'static str>,
}

impl Moment {
    pub(crate) fn new(call: &'static str, path: impl Into<String>) -> Self {
        Self { call, path: path.into(), error: None }
    }

    /// Returns the same for a system call that fails.
    pub(crate) fn failing(self, error: &'static str) -> Self {
        Self { error: Some(error), ..self }
    }
}

/// The words that make every lock of a call useless.
pub(crate) const NO_LOCKS: &[&str] =
    &["strace", "-D", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:retval=0"];

/// Returns whether calls can be stopped on this machine.
pub(crate) fn has_strace() -> bool {
    Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success())
}

/// A stopped call, see the module.
pub(crate) struct Stopped {
    child: Child,
    pid: Pid,
    stdout: Option<PipeReader>,
    /// Kept to notice when the last reader has closed the pipe.
    writer: Option<PipeWriter>,
    trace: BufReader<ChildStderr>,
    said: String,
    parent_gone: bool,
}

impl Stopped {
    /// Starts a call and returns when it has stopped after `moment`.
    pub(crate) fn after(call: &Call, moment: &Moment) -> Self {
        Self::start(call, moment, &[])
    }

    /// Does the same below a process that plays the caller, and can exit.
    pub(crate) fn below_caller(call: &Call, moment: &Moment) -> Self {
        Self::start(call, moment, &["sh", "-c", r#""$@"; exit $?"#, "sh"])
    }

    fn start(call: &Call, moment: &Moment, caller: &[&str]) -> Self {
        let Moment { call: name, path, error } = moment;
        let error = error.map_or_else(String::new, |error| format!(":error={error}"));
        let (trace, inject) =
            (format!("trace={name}"), format!("inject={name}{error}:signal=STOP:when=1"));
        // -D: the call is the child of the process that starts it, not of strace.
        let strace = ["strace", "-D", "-P", path, "-e", &trace, "-e", &inject];
        let outer: Vec<&str> = caller.iter().copied().chain(strace).collect();
        let mut command = call.command_under(&outer);
        let (stdout, writer) = std::io::pipe().unwrap();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(writer.try_clone().unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(command);
        child.stdin.take().unwrap().write_all(&call.stdin).unwrap();
        let mut trace = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("--- stopped by SIGSTOP ---\n") {
            assert_ne!(
                trace.read_line(&mut said).unwrap(),
                0,
                "{name} {path}: it ended without a stop:\n{said}"
            );
        }
        let id = child.id();
        let pid = if caller.is_empty() { id } else { only_child(id) };
        let pid = Pid::from_raw(pid.try_into().unwrap());
        Self {
            child,
            pid,
            stdout: Some(stdout),
            writer: Some(writer),
            trace,
            said,
            parent_gone: false,
        }
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Kills the caller of a call started [`Self::below_caller`].
    pub(crate) fn lose_caller(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.parent_gone = true;
    }

    /// Closes the end of stdout from which the result would be read.
    pub(crate) fn lose_reader(&mut self) {
        drop(self.stdout.take());
        // A process that another test is starting may have a copy until its exec.
        let mut broken = [PollFd::new(self.writer.as_ref().unwrap().as_fd(), PollFlags::empty())];
        assert_eq!(
            poll(&mut broken, PollTimeout::from(20_000u16)).unwrap(),
            1,
            "somebody still reads"
        );
    }

    /// Continues it to its end. Its stderr contains the trace as well. If its caller has exited,
    /// its status is unknown.
    pub(crate) fn go_on(mut self) -> Ended {
        kill(self.pid, Signal::SIGCONT).unwrap();
        drop(self.writer.take());
        let mut stdout = String::new();
        if let Some(mut pipe) = self.stdout.take() {
            pipe.read_to_string(&mut stdout).unwrap();
        }
        let mut stderr = std::mem::take(&mut self.said);
        self.trace.read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        Ended { status: status.code().filter(|_| !self.parent_gone), stdout, stderr }
    }
}

impl Drop for Stopped {
    /// A test that fails leaves no stopped process.
    fn drop(&mut self) {
        if !self.said.is_empty() {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn only_child(id: u32) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// A call that waits for a lock.
pub(crate) struct Waiting(Child);

impl Waiting {
    /// Starts a call and returns when the kernel has put it into the queue of a lock.
    pub(crate) fn start(call: &Call) -> Self {
        let mut child = call
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&call.stdin).unwrap();
        let (id, deadline) = (child.id().to_string(), Deadline::after(Duration::from_secs(20)));
        // "1: -> FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"
        let waits =
            |line: &str| line.contains("->") && line.split_whitespace().any(|word| word == id);
        // The table names no process for an attachment's lock: "72 0x3a5 0x26 ..." is fcntl(2) with
        // F_OFD_SETLKW.
        let waits_for_byte = || {
            let call = std::fs::read_to_string(format!("/proc/{id}/syscall")).unwrap_or_default();
            let mut words = call.split_whitespace();
            words.next() == Some("72") && words.nth(1) == Some("0x26")
        };
        while !waits_for_byte()
            && !std::fs::read_to_string("/proc/locks").unwrap().lines().any(waits)
        {
            assert!(
                child.try_wait().unwrap().is_none() && !deadline.left().is_zero(),
                "it does not wait"
            );
            std::thread::yield_now();
        }
        Self(child)
    }

    /// Returns how it ended.
    pub(crate) fn end(self) -> Ended {
        Ended::from(self.0.wait_with_output().unwrap())
    }
}
