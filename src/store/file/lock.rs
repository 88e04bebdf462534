//! The one lock: flock, exclusive, on a file that is never removed.
//!
//! On a local filesystem waiters queue in the kernel, which is fair and four
//! times better in the tail than polling; a timer ends the wait, whatever the
//! process that started us has left us with (a blocked or ignored SIGALRM, a
//! limit on timers). On a network
//! filesystem nobody waits in the kernel: a waiter that is killed there can
//! leave a lock that no process holds (measured on CephFS), so the caller
//! polls with [`Patience::Try`].
//!
//! The descriptor is moved high: at exit the kernel closes descriptors in
//! ascending order, and the lock must go after the files it protects.

use super::disk::{Held, Patience};
use crate::store::retry::{self, Deadline};
use fs2::FileExt;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Above any descriptor that the store opens.
const HIGH: i32 = 900;

/// A lock that is held until this is dropped.
pub(super) struct FileLock(File);

impl Held for FileLock {}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes the lock, or `None` when it was not free in time.
pub(super) fn take(file: File, patience: Patience) -> io::Result<Option<FileLock>> {
    let file = raise(file)?;
    // Nearly always free: no timer then.
    match file.try_lock_exclusive() {
        Ok(()) => return Ok(Some(FileLock(file))),
        Err(error) if is_busy(&error) => {}
        Err(error) => return Err(error),
    }
    let Patience::Queue(limit) = patience else {
        return Ok(None);
    };
    if limit.is_zero() {
        return Ok(None);
    }
    let locked = match alarm(limit) {
        Ok(_alarm) => file.lock_exclusive(),
        // Without a timer nothing would end the wait in the queue.
        Err(error) => {
            tracing::debug!(%error, "no timer can be set, the lock is tried again and again");
            return poll(file, limit);
        }
    };
    match locked {
        Ok(()) => Ok(Some(FileLock(file))),
        Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => Ok(None),
        Err(error) => Err(error),
    }
}

fn poll(file: File, limit: Duration) -> io::Result<Option<FileLock>> {
    let held = retry::until(&Deadline::after(limit), || match file.try_lock_exclusive() {
        Ok(()) => Ok(Some(())),
        Err(error) if is_busy(&error) => Ok(None),
        Err(error) => Err(error),
    })?;
    Ok(held.map(|()| FileLock(file)))
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == fs2::lock_contended_error().raw_os_error()
}

/// The same open file under a high descriptor; where the limit on descriptors
/// is low, the one it has.
fn raise(file: File) -> io::Result<File> {
    match fcntl(file.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(HIGH)) {
        Ok(high) => Ok(own(high)),
        Err(Errno::EINVAL | Errno::EMFILE) => Ok(file),
        Err(error) => Err(error.into()),
    }
}

#[allow(unsafe_code, reason = "fcntl hands out a new descriptor as a number; nothing else owns it")]
fn own(descriptor: i32) -> File {
    // SAFETY: F_DUPFD_CLOEXEC returned it just now, so it is open and ours.
    File::from(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Interrupts this thread's system call when the time is over, and every
/// 50 ms after that: a first signal could fall between the look at the clock
/// and the call. The mask of signals is inherited: where the caller has blocked
/// this one, no timer would end anything.
fn alarm(limit: Duration) -> io::Result<Timer> {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    #[allow(unsafe_code, reason = "a handler must be installed for a signal to interrupt instead of kill")]
    // SAFETY: the handler does nothing, so it is safe in every context; no
    // other code of this process handles SIGALRM.
    unsafe {
        sigaction(Signal::SIGALRM, &action)?;
    }
    SigSet::from(Signal::SIGALRM).thread_unblock()?;
    let event = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGALRM, si_value: 0 });
    let mut timer = Timer::new(nix::time::ClockId::CLOCK_MONOTONIC, event)?;
    let again = Duration::from_millis(50);
    timer.set(Expiration::IntervalDelayed(limit.into(), again.into()), TimerSetTimeFlags::empty())?;
    Ok(timer)
}

/// Looks the lock's holder up in /proc/locks; it may be on another machine.
pub(super) fn describe_holder(inode: u64) -> String {
    let unseen = || "its holder is not to be seen from here".to_owned();
    let Ok(table) = std::fs::read_to_string("/proc/locks") else {
        return unseen();
    };
    let suffix = format!(":{inode}");
    let holder = table.lines().find_map(|line| {
        // "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"; waiters have "->".
        let words: Vec<&str> = line.split_whitespace().collect();
        let held = words.get(1) == Some(&"FLOCK") && words.get(5).is_some_and(|file| file.ends_with(&suffix));
        words.get(4).filter(|_| held).map(|pid| (*pid).to_owned())
    });
    let Some(pid) = holder else {
        return unseen();
    };
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => format!("process {pid} holds it"),
        name => format!("process {pid} ({name}) holds it"),
    }
}
