//! Writes the files of a plan to the node: flat file, kubeconfig, executable.

use super::super::HintedError;
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
    /// Whether all files have been written once.
    has_written: bool,
    /// The kubeconfig as it was last written.
    kubeconfig: String,
}

impl Files {
    /// Creates the state, and writes nothing.
    ///
    /// # Errors
    /// The executable of this process cannot be opened.
    pub(super) fn new(plan: Plan) -> anyhow::Result<Self> {
        let presence = InstallLock::new(plan.directory.clone());
        Ok(Self {
            plan,
            executable: Executable::own()?,
            presence,
            has_written: false,
            kubeconfig: String::new(),
        })
    }

    /// Writes the files that are missing or different, and returns the messages to print. The
    /// executable comes last, because pods use it from then on.
    ///
    /// While a rollout replaces one install by another, both are running, and they must not undo
    /// each other's work forever: a file that another install wrote stays until that install has
    /// ended, unless this install writes for the first time.
    ///
    /// # Errors
    /// The first file that cannot be written or that install did not write, or the error of
    /// `allow`.
    pub(super) fn put(
        &mut self,
        allow: &mut dyn FnMut(&Plan) -> anyhow::Result<ExecutablesAside>,
    ) -> anyhow::Result<Vec<String>> {
        let is_alone = self.presence.show()?;
        if is_alone && !self.has_written {
            atomic_write::remove_aside(&self.plan.directory)?;
            atomic_write::remove_aside(&self.plan.bin_dir)?;
            executables_aside::end_others(&self.plan.bin_dir)?;
        }
        let mut changes = Vec::new();
        let insists = is_alone || !self.has_written;
        let flat = self.plan.flat_path();
        // Held until all files are written.
        let mut _quiet = ExecutablesAside::default();
        if insists {
            refuse_of_others(&flat, is_our_flat_file)?;
            _quiet = allow(&self.plan)?;
        }
        self.put_kubeconfig(insists, &mut changes)?;
        if insists || !flat.exists() {
            atomic_write::put(&flat, 0o644, self.plan.flat.as_bytes())?
                .then(|| changes.push(wrote(&flat)));
        }
        for path in self.plan.executables() {
            if insists || !path.exists() {
                self.executable.put(&path)?.then(|| changes.push(wrote(&path)));
            }
        }
        if is_alone {
            self.remove_kubeconfig(&mut changes)?;
        }
        self.has_written = true;
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
        atomic_write::put(&path, credentials.mode, text.as_bytes())?
            .then(|| changes.push(wrote(&path)));
        self.kubeconfig = text;
        Ok(())
    }

    /// Removes the token of an earlier install of a different kind. The flat file no longer names
    /// it.
    fn remove_kubeconfig(&self, changes: &mut Vec<String>) -> anyhow::Result<()> {
        let path = self.plan.kubeconfig_path();
        let flat: Value = serde_json::from_str(&self.plan.flat)?;
        let is_needed =
            flat["kubernetes"]["kubeconfig"].as_str().is_some_and(|used| Path::new(used) == path);
        if !is_needed
            && read_small(&path).is_ok_and(|bytes| is_our_kubeconfig(&bytes))
            && atomic_write::remove(&path)?
        {
            changes.push(format!("removed {}", path.display()));
        }
        Ok(())
    }

    /// Renews the token and the CA if there is a kubeconfig that install wrote, and nothing else.
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

/// Refuses to replace a file that a person wrote. It may hold settings that install does not know,
/// for example another store that living pods use.
fn refuse_of_others(path: &Path, is_ours: fn(&[u8]) -> bool) -> anyhow::Result<()> {
    match read_small(path) {
        Ok(bytes) if !is_ours(&bytes) => {
            let message = format!("not written by hereabouts install: {}", path.display());
            Err(HintedError::new(message, "move it away, or pass its keys with --settings").into())
        }
        _ => Ok(()),
    }
}
