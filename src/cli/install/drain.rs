//! `uninstall --watch`: what the DaemonSet runs on its way out. The plugin
//! serves its node's pods to the end, so its token must not end before; and some
//! time longer: the kubelet's garbage collection makes the DELs of a sandbox that
//! is gone again, one to two minutes later, and where nothing answers them never
//! comes to an end with it.

use super::files::Files;
use super::remove;
use super::watch::Pause;
use crate::cli::output;
use crate::retry::Deadline;
use anyhow::bail;
use std::path::Path;
use std::time::Duration;

/// Between two looks whether the node still holds nothing.
const LOOK: Duration = Duration::from_secs(30);

/// See above.
pub(super) struct Drain<'a> {
    files: Files,
    namespace: &'a Path,
    /// So long nothing must have been held.
    idle: Duration,
    state: State,
}

enum State {
    /// Addresses are held, or it cannot be told; why.
    Held { again: Pause, refusal: String },
    /// Nothing is, and it is looked again.
    Idle { over: Deadline, look: Deadline },
    /// All is removed.
    Left,
}

impl<'a> Drain<'a> {
    pub(super) fn new(files: Files, namespace: &'a Path, idle: Duration) -> Self {
        Self { files, namespace, idle, state: State::Held { again: Pause::default(), refusal: String::new() } }
    }

    /// Renews the token; removes all, if that may be. Then nothing more.
    ///
    /// # Errors
    /// Why it may not yet be.
    pub(super) fn step(&mut self) -> anyhow::Result<Vec<String>> {
        if matches!(self.state, State::Left) {
            return Ok(Vec::new());
        }
        self.files.renew()?.iter().for_each(|change| output::say(change));
        let (is_due, is_over) = match &mut self.state {
            State::Held { again, .. } => (again.is_over(), self.idle.is_zero()),
            State::Idle { over, look } => {
                let is_over = over.left().is_zero();
                (is_over || look.left().is_zero(), is_over)
            }
            State::Left => (false, false),
        };
        let said = if is_due { self.look(is_over) } else { Vec::new() };
        match &self.state {
            State::Held { refusal, .. } => bail!("{refusal}"),
            State::Idle { .. } | State::Left => Ok(said),
        }
    }

    /// Looks whether something is held; removes all if nothing has been for long
    /// enough. What there is to say.
    fn look(&mut self, is_over: bool) -> Vec<String> {
        let (plan, flat) = (&self.files.plan, self.files.plan.flat_path());
        // Without a flat file nobody is served.
        let is_over = is_over || !flat.exists();
        let looked = if is_over {
            remove::remove(plan, self.namespace, false)
        } else {
            remove::refuse_while_held(&flat, &plan.node, self.namespace).map(|()| Vec::new())
        };
        let mut said = Vec::new();
        match (looked, &mut self.state) {
            (Err(error), State::Held { refusal, .. }) => *refusal = output::in_one_line(&error),
            (Err(error), state) => *state = State::Held { again: Pause::default(), refusal: output::in_one_line(&error) },
            (Ok(changes), state) if is_over => {
                said = changes;
                said.push("done: this node no longer needs the DaemonSet".to_owned());
                *state = State::Left;
            }
            (Ok(_), State::Idle { look, .. }) => *look = Deadline::after(LOOK),
            (Ok(_), state) => {
                let longer = humantime::format_duration(self.idle);
                said.push(format!("no addresses are held any more; the plugin stays {longer} longer for DELs that the kubelet repeats"));
                *state = State::Idle { over: Deadline::after(self.idle), look: Deadline::after(LOOK) };
            }
        }
        said
    }
}
