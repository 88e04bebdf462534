//! The locks, all exclusive. A store, a machine and a scope have a flock on a file that is never
//! removed; an attachment has a lock on one byte of a file.
//!
//! On a local filesystem, waiters queue in the kernel, which is fair and four times better in the
//! tail than polling. A timer ends the wait, whatever state the parent process has left behind (a
//! blocked or ignored SIGALRM, a limit on timers). On a network filesystem no call waits in the
//! kernel: a waiter that is killed there can leave a lock that no process holds (measured on
//! CephFS). So the caller polls with [`Patience::Try`].
//!
//! The descriptor is moved to a high number: at exit the kernel closes descriptors in ascending
//! order, and the lock must be released after the files that it protects.

use super::{Held, Patience};
use crate::retry::{self, Deadline};
use fs2::FileExt;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Higher than any descriptor that the store opens.
const HIGH: i32 = 900;

/// A lock that is held until this value is dropped.
pub(crate) struct FileLock(File);

impl Held for FileLock {}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes the lock; returns `None` if it was not free in time.
pub(crate) fn take(file: File, patience: Patience) -> io::Result<Option<FileLock>> {
    let file = raise(file)?;
    let held = take_by(patience, || file.try_lock_exclusive(), || file.lock_exclusive())?;
    Ok(held.then_some(FileLock(file)))
}

/// Takes the lock on one byte of a file; returns `None` if it was not free in time.
///
/// The lock belongs to the open file, not to the process (`F_OFD_SETLK`). So it also excludes
/// another thread, and the close of another descriptor of the same file does not release it.
pub(crate) fn take_byte(file: File, byte: u64, patience: Patience) -> io::Result<Option<FileLock>> {
    let file = raise(file)?;
    let start = i64::try_from(byte).map_err(|_| Errno::EINVAL)?;
    #[allow(clippy::cast_possible_truncation, reason = "F_WRLCK and SEEK_SET are 1 and 0")]
    let lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: 1,
        l_pid: 0,
    };
    let take = |call: FcntlArg<'_>| Ok(fcntl(file.as_fd(), call).map(drop)?);
    let held = take_by(
        patience,
        || take(FcntlArg::F_OFD_SETLK(&lock)),
        || take(FcntlArg::F_OFD_SETLKW(&lock)),
    )?;
    Ok(held.then_some(FileLock(file)))
}

/// Tries once, and then waits as long as the patience allows. Returns whether the lock is held.
fn take_by(
    patience: Patience,
    attempt: impl Fn() -> io::Result<()>,
    wait: impl Fn() -> io::Result<()>,
) -> io::Result<bool> {
    // The lock is almost always free, and then needs no timer.
    match attempt() {
        Ok(()) => return Ok(true),
        Err(error) if is_busy(&error) => {}
        Err(error) => return Err(error),
    }
    let Patience::Queue(limit) = patience else {
        return Ok(false);
    };
    if limit.is_zero() {
        return Ok(false);
    }
    let waited = match alarm(limit) {
        Ok(_alarm) => wait(),
        // Without a timer nothing would end the wait in the queue.
        Err(error) => {
            tracing::debug!(%error, "no timer can be set; the lock is polled");
            return poll(&attempt, limit);
        }
    };
    match waited {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => Ok(false),
        Err(error) => Err(error),
    }
}

fn poll(attempt: &dyn Fn() -> io::Result<()>, limit: Duration) -> io::Result<bool> {
    let held = retry::until(&Deadline::after(limit), || match attempt() {
        Ok(()) => Ok(Some(())),
        Err(error) if is_busy(&error) => Ok(None),
        Err(error) => Err(error),
    })?;
    Ok(held.is_some())
}

/// Returns whether another process holds the lock. fcntl(2) may report that as EACCES too.
fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EAGAIN | Errno::EACCES))
}

/// Returns the same open file under a high descriptor, or unchanged if the limit on descriptors is
/// low.
fn raise(file: File) -> io::Result<File> {
    match fcntl(file.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(HIGH)) {
        Ok(high) => Ok(own(high)),
        Err(Errno::EINVAL | Errno::EMFILE) => Ok(file),
        Err(error) => Err(error.into()),
    }
}

#[allow(unsafe_code, reason = "fcntl returns a new descriptor as a number; nothing else owns it")]
fn own(descriptor: i32) -> File {
    // SAFETY: F_DUPFD_CLOEXEC has just returned it, so it is open and ours.
    File::from(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Interrupts this thread's system call when the time is over, and every 50 ms after that: a first
/// signal could arrive between the check of the clock and the call. Unblocks the signal, because
/// the signal mask is inherited: with the signal blocked, no timer would end the wait.
fn alarm(limit: Duration) -> io::Result<Timer> {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    #[allow(
        unsafe_code,
        reason = "a handler must be installed for a signal to interrupt instead of kill"
    )]
    // SAFETY: the handler does nothing, so it is safe in every context; no other code of this
    // process handles SIGALRM.
    unsafe {
        sigaction(Signal::SIGALRM, &action)?;
    }
    SigSet::from(Signal::SIGALRM).thread_unblock()?;
    let event = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGALRM, si_value: 0 });
    let mut timer = Timer::new(nix::time::ClockId::CLOCK_MONOTONIC, event)?;
    let again = Duration::from_millis(50);
    timer
        .set(Expiration::IntervalDelayed(limit.into(), again.into()), TimerSetTimeFlags::empty())?;
    Ok(timer)
}

/// Returns a description of the lock's holder from /proc/locks. The holder may be on another
/// machine.
pub(crate) fn describe_holder(inode: u64) -> String {
    let unseen = || "its holder is not visible from here".to_owned();
    let Ok(table) = std::fs::read_to_string("/proc/locks") else {
        return unseen();
    };
    let suffix = format!(":{inode}");
    let holder = table.lines().find_map(|line| {
        // "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"; waiters have "->".
        let words: Vec<&str> = line.split_whitespace().collect();
        let held = words.get(1) == Some(&"FLOCK")
            && words.get(5).is_some_and(|file| file.ends_with(&suffix));
        words.get(4).filter(|_| held).map(|pid| (*pid).to_owned())
    });
    holder.map_or_else(unseen, |pid| describe_process(&pid))
}

/// Returns a description of the process that holds the lock on one byte. /proc/locks does not name
/// the process of such a lock; the descriptors of each process do.
pub(crate) fn describe_byte_holder(inode: u64, byte: u64) -> String {
    let names = |directory: &str| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    // "lock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:00:5678 42 42"
    let (file, start) = (format!(":{inode}"), byte.to_string());
    let is_meant = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(2) == Some(&"OFDLCK")
            && words.get(6).is_some_and(|found| found.ends_with(&file))
            && words.get(7).is_some_and(|found| *found == start)
    };
    let holds = |pid: &String| {
        let directory = format!("/proc/{pid}/fdinfo");
        names(&directory)
            .iter()
            .filter(|number| number.parse().is_ok_and(|number: i32| HIGH <= number))
            .any(|number| {
                std::fs::read_to_string(format!("{directory}/{number}"))
                    .is_ok_and(|text| text.lines().any(is_meant))
            })
    };
    let pids =
        names("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    pids.into_iter().find(holds).map_or_else(
        || "its process cannot be seen from here".to_owned(),
        |pid| describe_process(&pid),
    )
}

fn describe_process(pid: &str) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => format!("process {pid} holds it"),
        name => format!("process {pid} ({name}) holds it"),
    }
}
