//! `uninstall --watch`: what the DaemonSet runs on its way out. The plugin
//! serves its node's pods to the end, so its token must not end before.

use super::super::output;
use super::files::Files;
use super::remove;
use super::watch::Pause;
use anyhow::bail;
use std::path::Path;

/// See above.
pub(super) struct Leaving<'a> {
    files: Files,
    namespace: &'a Path,
    pause: Pause,
    refusal: String,
    has_left: bool,
}

impl<'a> Leaving<'a> {
    pub(super) fn new(files: Files, namespace: &'a Path) -> Self {
        Self { files, namespace, pause: Pause::default(), refusal: String::new(), has_left: false }
    }

    /// Renews the token; removes all, if that may be. Then nothing more.
    ///
    /// # Errors
    /// Why it may not yet be.
    pub(super) fn step(&mut self) -> anyhow::Result<Vec<String>> {
        if self.has_left {
            return Ok(Vec::new());
        }
        self.files.renew()?.iter().for_each(|change| output::say(change));
        if self.pause.is_over() {
            match remove::remove(&self.files.plan, self.namespace, false) {
                Ok(mut changes) => {
                    self.has_left = true;
                    changes.push("done: this node can do without the DaemonSet".to_owned());
                    return Ok(changes);
                }
                Err(error) => self.refusal = format!("{error:#}"),
            }
        }
        bail!("{}", self.refusal)
    }
}
