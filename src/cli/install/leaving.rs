//! `uninstall --watch`: what the DaemonSet runs on its way out. The plugin
//! serves its node's pods to the end, so its token must not end before.

use super::super::output;
use super::files::Files;
use super::remove;
use crate::store::retry::{Deadline, jittered};
use anyhow::bail;
use std::path::Path;
use std::time::Duration;

/// How long to wait before the store is asked again: each time longer, since
/// all nodes of a cluster ask at once, and pods take their time.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// See above.
pub(super) struct Leaving<'a> {
    files: Files,
    namespace: &'a Path,
    again: Deadline,
    pause: Duration,
    refusal: String,
    has_left: bool,
}

impl<'a> Leaving<'a> {
    pub(super) fn new(files: Files, namespace: &'a Path) -> Self {
        Self { files, namespace, again: Deadline::after(Duration::ZERO), pause: FIRST, refusal: String::new(), has_left: false }
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
        if self.again.left().is_zero() {
            match remove::remove(&self.files.plan, self.namespace, false) {
                Ok(mut changes) => {
                    self.has_left = true;
                    changes.push("done: this node can do without the DaemonSet".to_owned());
                    return Ok(changes);
                }
                Err(error) => self.refusal = format!("{error:#}"),
            }
            self.again = Deadline::after(jittered(self.pause));
            self.pause = (self.pause * 2).min(LONGEST);
        }
        bail!("{}", self.refusal)
    }
}
