//! What `install --watch` and `uninstall --watch` do about debts: each turn they
//! look whether this node owes anything, and let `sweep --debts` pay what can be
//! paid. That is a process of its own in the host's mount namespace, as the other
//! tasks are. While nothing is owed, none is started.

use super::flat_file;
use crate::plugin::machine::{CONFIG_VARIABLE, read_small};
use crate::retry::Deadline;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// Between two looks at least.
const EVERY: Duration = Duration::from_secs(3);
/// A store that hangs keeps the others' debts waiting for so long.
const LIMIT: Duration = Duration::from_secs(60);

/// See above.
pub(super) struct DebtPayment<'a> {
    namespace: &'a Path,
    flat: PathBuf,
    due: Deadline,
    running: Option<(Child, Deadline)>,
}

impl<'a> DebtPayment<'a> {
    pub(super) fn new(namespace: &'a Path, flat: PathBuf) -> Self {
        Self { namespace, flat, due: Deadline::after(Duration::ZERO), running: None }
    }

    /// Begins what is due and reaps what has ended; `end` stops what runs, which
    /// it may be at any moment.
    pub(super) fn turn(&mut self, end: bool) {
        if let Some((child, limit)) = &mut self.running {
            if super::reap(child, limit, end).is_none() {
                return;
            }
            self.running = None;
        }
        if end || !self.due.left().is_zero() {
            return;
        }
        self.due = Deadline::after(EVERY);
        if self.may_owe() {
            self.running = self.start().ok().map(|child| (child, Deadline::after(LIMIT)));
        }
    }

    /// Whether something stands where this node notes its debts, as the host sees
    /// it. What cannot be looked at may.
    fn may_owe(&self) -> bool {
        let Some(directory) = self.directory() else { return false };
        match std::fs::read_dir(directory) {
            Ok(mut names) => names.next().is_some(),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Below the root of the process whose mount namespace is the host's; `None`
    /// where no flat file is (yet, or any more).
    fn directory(&self) -> Option<PathBuf> {
        let flat = read_small(&self.flat).ok()?;
        let debts = flat_file::read_flat(&self.flat, &flat).ok()?.debts_dir;
        Some(super::host_root(self.namespace).join(debts.strip_prefix("/").unwrap_or(&debts)))
    }

    fn start(&self) -> std::io::Result<Child> {
        super::on_the_host(self.namespace)
            .args(["sweep", "--debts", "--yes"])
            .env(CONFIG_VARIABLE, &self.flat)
            .stdin(Stdio::null())
            // What cannot be paid yet would be said at every turn; `verify` says it.
            .stderr(Stdio::null())
            .spawn()
    }
}
