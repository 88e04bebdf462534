//! Settles debts for `install --watch` and `uninstall --watch`. At each turn, it checks whether
//! this node has debts, and if so, `sweep --debts` settles what can be settled. `sweep` is a
//! process of its own in the host's mount namespace, as the other periodic tasks are. It is not
//! started while there are no debts.

use super::flat_file;
use crate::plugin::machine::{CONFIG_VARIABLE, read_small};
use crate::retry::Deadline;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// The shortest time between two checks.
const EVERY: Duration = Duration::from_secs(3);
/// The time for which a store that hangs can delay the debts of other stores.
const LIMIT: Duration = Duration::from_secs(60);

/// The process that settles debts, and the time of the next check. See the module.
pub(super) struct DebtSettlement<'a> {
    namespace: &'a Path,
    flat: PathBuf,
    due: Deadline,
    running: Option<(Child, Deadline)>,
}

impl<'a> DebtSettlement<'a> {
    pub(super) fn new(namespace: &'a Path, flat: PathBuf) -> Self {
        Self { namespace, flat, due: Deadline::after(Duration::ZERO), running: None }
    }

    /// Starts what is due and reaps what has ended. `end` kills the running process, which is safe
    /// at any moment.
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

    /// Returns whether there are files in this node's directory of debts, as the host sees it.
    /// Returns true if the directory cannot be read.
    fn may_owe(&self) -> bool {
        let Some(directory) = self.directory() else { return false };
        match std::fs::read_dir(directory) {
            Ok(mut names) => names.next().is_some(),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Returns the directory of debts below the root of the process whose mount namespace is the
    /// host's. Returns `None` if there is no flat file.
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
            // A debt that cannot be settled yet would be printed at every turn. `verify` reports
            // it.
            .stderr(Stdio::null())
            .spawn()
    }
}
