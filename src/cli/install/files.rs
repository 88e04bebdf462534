//! Puts the files of a plan on the node: flat file, kubeconfig, executable.

use super::super::Advised;
use super::atomic_write::{self, Executable, InstallLock};
use super::executables_aside::{self, ExecutablesAside};
use super::flat_file::is_our_flat_file;
use super::kubeconfig::{is_our_kubeconfig, render};
use super::plan::Plan;
use crate::plugin::machine::read_small;
use serde_json::Value;
use std::path::Path;

/// All files of a plan.
pub(super) struct Files {
    pub(super) plan: Plan,
    executable: Executable,
    presence: InstallLock,
    /// Whether all was written once.
    settled: bool,
    /// The kubeconfig as it was last written.
    kubeconfig: String,
}

impl Files {
    /// # Errors
    /// This process's executable cannot be opened.
    pub(super) fn new(plan: Plan) -> anyhow::Result<Self> {
        let presence = InstallLock::new(plan.directory.clone());
        Ok(Self { plan, executable: Executable::own()?, presence, settled: false, kubeconfig: String::new() })
    }

    /// Writes what is missing or different; says what. The executable comes
    /// last: from then on pods meet it.
    ///
    /// While a rollout replaces one install by another, both are here, and they
    /// do not undo each other's work for ever: what another wrote stays until
    /// that one has gone, or it was this one's first time.
    ///
    /// # Errors
    /// The first that cannot be written, or is another's; `allow` does not.
    pub(super) fn put(&mut self, allow: &mut dyn FnMut(&Plan) -> anyhow::Result<ExecutablesAside>) -> anyhow::Result<Vec<String>> {
        let is_alone = self.presence.show()?;
        if is_alone && !self.settled {
            atomic_write::remove_aside(&self.plan.directory)?;
            atomic_write::remove_aside(&self.plan.bin_dir)?;
            executables_aside::end_others(&self.plan.bin_dir)?;
        }
        let mut changes = Vec::new();
        let insists = is_alone || !self.settled;
        let flat = self.plan.flat_path();
        // Until all is written.
        let mut _quiet = ExecutablesAside::default();
        if insists {
            refuse_of_others(&flat, is_our_flat_file)?;
            _quiet = allow(&self.plan)?;
        }
        self.put_kubeconfig(insists, &mut changes)?;
        if insists || !flat.exists() {
            atomic_write::put(&flat, 0o644, self.plan.flat.as_bytes())?.then(|| changes.push(wrote(&flat)));
        }
        for path in self.plan.executables() {
            if insists || !path.exists() {
                self.executable.put(&path)?.then(|| changes.push(wrote(&path)));
            }
        }
        if is_alone {
            self.remove_kubeconfig(&mut changes)?;
        }
        self.settled = true;
        Ok(changes)
    }

    fn put_kubeconfig(&mut self, insists: bool, changes: &mut Vec<String>) -> anyhow::Result<()> {
        let Some(credentials) = &self.plan.credentials else {
            return Ok(());
        };
        let path = self.plan.kubeconfig_path();
        let text = render(credentials)?;
        if !insists && text == self.kubeconfig && path.exists() {
            return Ok(());
        }
        refuse_of_others(&path, is_our_kubeconfig)?;
        atomic_write::put(&path, credentials.mode, text.as_bytes())?.then(|| changes.push(wrote(&path)));
        self.kubeconfig = text;
        Ok(())
    }

    /// The token of an install of another kind, which the flat file no longer
    /// leads to.
    fn remove_kubeconfig(&self, changes: &mut Vec<String>) -> anyhow::Result<()> {
        let path = self.plan.kubeconfig_path();
        let flat: Value = serde_json::from_str(&self.plan.flat)?;
        let is_needed = flat["kubernetes"]["kubeconfig"].as_str().is_some_and(|used| Path::new(used) == path);
        if !is_needed && read_small(&path).is_ok_and(|bytes| is_our_kubeconfig(&bytes)) && atomic_write::remove(&path)? {
            changes.push(format!("removed {}", path.display()));
        }
        Ok(())
    }

    /// Renews token and CA where there is a kubeconfig of ours, and nothing else.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn renew(&mut self) -> anyhow::Result<Vec<String>> {
        let mut changes = Vec::new();
        if self.plan.kubeconfig_path().exists() {
            self.put_kubeconfig(true, &mut changes)?;
        }
        Ok(changes)
    }
}

fn wrote(path: &Path) -> String {
    format!("wrote {}", path.display())
}

/// A file that somebody wrote by hand says more than we know: another store,
/// say, under living pods.
fn refuse_of_others(path: &Path, is_ours: fn(&[u8]) -> bool) -> anyhow::Result<()> {
    match read_small(path) {
        Ok(bytes) if !is_ours(&bytes) => {
            let message = format!("not written by hereabouts install: {}", path.display());
            Err(Advised::new(message, "move it away, or pass its keys with --settings").into())
        }
        _ => Ok(()),
    }
}
