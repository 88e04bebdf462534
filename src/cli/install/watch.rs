//! Stays: does a step again and again until a signal ends it. As the first
//! process of a container it would otherwise have no handlers at all, and be
//! killed after its time.

use super::super::output;
use crate::retry::{Deadline, jittered};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;
use std::time::Duration;

/// How often to look. The kubelet swaps a pod's token by a symbolic link, long
/// before the old one ends; two small files are read.
const EVERY_MILLISECONDS: u16 = 5_000;

/// What ends the wait.
const HEARD: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD];

/// How long to wait before the store is asked again: each time longer, since
/// all nodes of a cluster ask at once, and pods take their time.
pub(super) struct Pause {
    again: Deadline,
    next: Duration,
}

impl Pause {
    const FIRST: Duration = Duration::from_secs(2);
    const LONGEST: Duration = Duration::from_secs(300);

    /// Whether it is time; then the next one begins.
    pub(super) fn is_over(&mut self) -> bool {
        if !self.again.left().is_zero() {
            return false;
        }
        self.again = Deadline::after(jittered(self.next));
        self.next = (self.next * 2).min(Self::LONGEST);
        true
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self { again: Deadline::after(Duration::ZERO), next: Self::FIRST }
    }
}

/// Calls `step` and `beside` at once, then from time to time and after each
/// child that has ended, until SIGTERM or SIGINT. What fails is said once, and
/// tried again.
///
/// # Errors
/// Signals cannot be waited for.
pub(super) fn watch(step: &mut dyn FnMut() -> anyhow::Result<Vec<String>>, beside: &mut dyn FnMut(bool)) -> anyhow::Result<()> {
    let mask = SigSet::from_iter(HEARD);
    // Of a signal that is blocked the descriptor tells, also where who started us
    // has left it ignored.
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
        match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], PollTimeout::from(EVERY_MILLISECONDS)) {
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
