//! `uninstall --watch`: keeps the plugin working until the node holds no addresses, then removes
//! it. The DaemonSet runs it when it is removed.
//!
//! The plugin serves the pods of its node until then, so its token must stay valid. It also stays
//! some time longer: the garbage collection of the kubelet repeats the DELs of a sandbox that is
//! gone, one to two minutes later, and it never completes if these DELs get no answer.

use super::files::Files;
use super::remove;
use super::watch::Pause;
use crate::cli::output;
use crate::retry::Deadline;
use anyhow::bail;
use std::path::Path;
use std::time::Duration;

/// The time between two checks that the node still holds no addresses.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// The state of `uninstall --watch`. See the module.
pub(super) struct Drain<'a> {
    files: Files,
    namespace: &'a Path,
    /// The time for which no addresses must have been held.
    idle: Duration,
    state: State,
}

enum State {
    /// Addresses are held, or this is unknown. `refusal` is the reason.
    Held { again: Pause, refusal: String },
    /// No addresses are held. The check is repeated.
    Idle { over: Deadline, check: Deadline },
    /// All files are removed.
    Left,
}

impl<'a> Drain<'a> {
    pub(super) fn new(files: Files, namespace: &'a Path, idle: Duration) -> Self {
        Self {
            files,
            namespace,
            idle,
            state: State::Held { again: Pause::default(), refusal: String::new() },
        }
    }

    /// Renews the token, and removes all files if this is allowed. Does nothing more after that.
    /// Returns the messages to print.
    ///
    /// # Errors
    /// The reason why the files may not be removed yet.
    pub(super) fn step(&mut self) -> anyhow::Result<Vec<String>> {
        if matches!(self.state, State::Left) {
            return Ok(Vec::new());
        }
        self.files.renew()?.iter().for_each(|change| output::say(change));
        let (is_due, is_over) = match &mut self.state {
            State::Held { again, .. } => (again.is_over(), self.idle.is_zero()),
            State::Idle { over, check } => {
                let is_over = over.left().is_zero();
                (is_over || check.left().is_zero(), is_over)
            }
            State::Left => (false, false),
        };
        let said = if is_due { self.check_holders(is_over) } else { Vec::new() };
        match &self.state {
            State::Held { refusal, .. } => bail!("{refusal}"),
            State::Idle { .. } | State::Left => Ok(said),
        }
    }

    /// Checks whether addresses are held. Removes all files if none have been held for long enough.
    /// Returns the messages to print.
    fn check_holders(&mut self, is_over: bool) -> Vec<String> {
        let (plan, flat) = (&self.files.plan, self.files.plan.flat_path());
        // Without a flat file, the plugin cannot serve any pod.
        let is_over = is_over || !flat.exists();
        let checked = if is_over {
            remove::remove(plan, self.namespace, false)
        } else {
            remove::refuse_while_held(&flat, &plan.node, self.namespace).map(|()| Vec::new())
        };
        let mut said = Vec::new();
        match (checked, &mut self.state) {
            (Err(error), State::Held { refusal, .. }) => *refusal = output::in_one_line(&error),
            (Err(error), state) => {
                *state =
                    State::Held { again: Pause::default(), refusal: output::in_one_line(&error) }
            }
            (Ok(changes), state) if is_over => {
                said = changes;
                said.push("done: this node no longer needs the DaemonSet".to_owned());
                *state = State::Left;
            }
            (Ok(_), State::Idle { check, .. }) => *check = Deadline::after(CHECK_EVERY),
            (Ok(_), state) => {
                let longer = output::duration(self.idle);
                said.push(format!("no addresses are held any more; the plugin stays {longer} longer for DELs that the kubelet repeats"));
                *state = State::Idle {
                    over: Deadline::after(self.idle),
                    check: Deadline::after(CHECK_EVERY),
                };
            }
        }
        said
    }
}
