//! Repeats a step until a signal ends it. The signals are handled here, because the first process
//! of a container has no default handlers: it would be killed after its grace period.

use super::super::output;
use crate::retry::{Deadline, jittered};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;
use std::time::Duration;

/// The time between two steps. The kubelet replaces a pod's token by a symbolic link, long before
/// the old token expires. A step reads a few small files. A change of the node's slices is published
/// within five seconds.
const EVERY_MILLISECONDS: u16 = 4_000;

/// The signals that end the wait.
const HEARD: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD];

/// The time to wait before the store is asked again. It grows each time, because all nodes of a
/// cluster ask at once, and pods take their time to end.
pub(super) struct Pause {
    again: Deadline,
    next: Duration,
}

impl Pause {
    const FIRST: Duration = Duration::from_secs(2);
    const LONGEST: Duration = Duration::from_secs(300);

    /// Returns whether the time is over. If so, the next wait begins.
    pub(super) fn is_over(&mut self) -> bool {
        if !self.again.left().is_zero() {
            return false;
        }
        self.again = Deadline::after(jittered(self.next));
        self.next = (self.next * 2).min(Self::LONGEST);
        true
    }

    /// Returns whether the waits grow no more: they have taken some minutes.
    pub(super) fn is_longest(&self) -> bool {
        self.next == Self::LONGEST
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self { again: Deadline::after(Duration::ZERO), next: Self::FIRST }
    }
}

/// Calls `step` and `beside` at once, then at intervals and after each child that has ended, until
/// SIGTERM or SIGINT. An error is printed once, and the step is tried again.
///
/// # Errors
/// It is not possible to wait for signals.
pub(super) fn watch(
    step: &mut dyn FnMut() -> anyhow::Result<Vec<String>>,
    beside: &mut dyn FnMut(bool),
) -> anyhow::Result<()> {
    let mask = SigSet::from_iter(HEARD);
    // The descriptor reports a blocked signal even if the process that started this one has left
    // the signal ignored.
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut failure = String::new();
    loop {
        match step() {
            Ok(changes) => {
                if !failure.is_empty() {
                    output::say("recovered");
                }
                failure.clear();
                changes.iter().for_each(|change| output::say(change));
            }
            Err(error) => {
                let text = format!("error: {}", output::in_one_line(&error));
                if text != failure {
                    output::say(&text);
                }
                failure = text;
            }
        }
        beside(false);
        match poll(
            &mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(EVERY_MILLISECONDS),
        ) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(signal) = signals.read_signal()? {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                output::say("stopping");
                beside(true);
                return Ok(());
            }
        }
    }
}
