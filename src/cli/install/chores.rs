//! What `install --watch` runs beside, from time to time: `repair`, for what the
//! cluster may have lost of this node, and `sweep` right after it. Each is a
//! process of its own in the host's mount namespace: only there are the
//! runtime's namespaces what they are. Seen from elsewhere nothing counts as
//! dead.

use super::super::output;
use crate::store::retry::{Deadline, jittered};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The first comes soon after the start, but not on all nodes at once.
const SOON: Duration = Duration::from_secs(60);
/// None takes so long.
const LIMIT: Duration = Duration::from_secs(600);

/// See above.
pub(super) struct Chores<'a> {
    namespace: &'a Path,
    flat: PathBuf,
    every: Duration,
    due: Deadline,
    repaired: bool,
    running: Option<(Child, Deadline)>,
}

impl<'a> Chores<'a> {
    /// None at all when `every` is zero.
    pub(super) fn new(namespace: &'a Path, flat: PathBuf, every: Duration) -> Self {
        let soon = SOON.min(every);
        let due = Deadline::after(jittered(soon).saturating_sub(soon / 2));
        Self { namespace, flat, every, due, repaired: false, running: None }
    }

    /// Begins what is due and reaps what has ended; `end` stops what runs, which
    /// any of them may be at any moment.
    pub(super) fn turn(&mut self, end: bool) {
        if let Some((child, limit)) = &mut self.running {
            if end || limit.left().is_zero() {
                let _ = child.kill();
                let _ = child.wait();
            } else if matches!(child.try_wait(), Ok(None)) {
                return;
            }
            self.running = None;
        }
        if end || self.every.is_zero() || !self.due.left().is_zero() {
            return;
        }
        let command = if self.repaired { "sweep" } else { "repair" };
        match self.start(command) {
            Ok(child) => self.running = Some((child, Deadline::after(LIMIT))),
            Err(error) => output::say(&format!("error: cannot start {command}: {error}")),
        }
        if self.repaired {
            self.due = Deadline::after((self.every / 2).saturating_add(jittered(self.every)));
        }
        self.repaired = !self.repaired;
    }

    fn start(&self, command: &str) -> std::io::Result<Child> {
        Command::new("/proc/self/exe")
            .arg("--mount-namespace")
            .arg(self.namespace)
            .args([command, "--yes"])
            .env_clear()
            .env(crate::plugin::host::CONFIG_VARIABLE, &self.flat)
            .stdin(Stdio::null())
            .spawn()
    }
}
