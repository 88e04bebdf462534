//! Waits for what nodes answer to a state of the move, and for calls that began before.

use super::api::Written;
use super::missing::{self, Missing};
use super::view::{MOVE, NodeView, View, read_move};
use super::{Operator, state};
use crate::cli::output;
use crate::retry::{Deadline, pause};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// How long a command waits. A node looks at the Move each minute.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time between two looks at the answers.
const LOOK: Duration = Duration::from_secs(5);

/// Since when all nodes have answered a generation. A command that was killed goes on from there.
const ANSWERED: &str = "hereabouts.dev/answered";

/// After `start`: the nodes that hereabouts serves already, for other networks.
pub(super) const TO_START: Answers = Answers {
    of: |node| node.has_daemon,
    lack: "serves pods, and has not seen the move yet",
    hint: "it answers within a minute; if not, look at the log of its pod of hereabouts, and repeat the command; if the machine is off for good, delete the Node and run \"hereabouts release --node NODE --kubeconfig FILE\"",
};

/// On the way back: the nodes that have records.
pub(super) const TO_OPEN: Answers = Answers {
    of: |node| 0 < node.records || node.has_daemon,
    lack: "does not write for Whereabouts yet",
    hint: "it answers within a minute; if not, look at the log of its pod of hereabouts, or stop the machine and run \"hereabouts release --node NODE --kubeconfig FILE\"",
};

/// Which nodes a command waits for, and what it says if one does not answer.
pub(super) struct Answers {
    of: fn(&NodeView) -> bool,
    /// What a node does that has not answered, after its name.
    lack: &'static str,
    hint: &'static str,
}

impl Answers {
    /// Waits until all these nodes have answered the present state.
    ///
    /// # Errors
    ///
    /// If some have not after two minutes: which ones, and what to do.
    pub(super) fn wait(&self, operator: &Operator<'_>, command: &str) -> anyhow::Result<()> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let object = read_move(&operator.api)?.context("the Move is gone")?;
            let view = View::read(&operator.api, &operator.lists()?)?;
            let lacks = self.missing(&view, object.spec.generation);
            if lacks.is_empty() || deadline.left().is_zero() {
                return missing::refuse(&lacks, command);
            }
            let nodes = output::count(lacks.len(), "node");
            output::say(&format!("waiting for the answers of {nodes}"));
            pause(&deadline, LOOK);
        }
    }

    /// Returns whether there is such a node.
    pub(super) fn concerns(&self, view: &View) -> bool {
        view.nodes.values().any(self.of)
    }

    /// Returns the nodes that have answered an earlier generation or none.
    pub(super) fn missing(&self, view: &View, generation: u64) -> Vec<Missing> {
        let late = view.nodes.iter().filter(|(_, node)| {
            (self.of)(node)
                && node.answer.as_ref().map_or(0, |answer| answer.generation) < generation
        });
        late.map(|(name, _)| Missing::new(format!("node {name} {}", self.lack), self.hint))
            .collect()
    }
}

/// Waits until every call has ended that went by the state before, after all nodes have answered.
///
/// # Errors
/// The API server refuses, or the Move is gone.
pub(super) fn wait_for_calls(operator: &Operator<'_>, longest: Duration) -> anyhow::Result<()> {
    loop {
        let object = operator.api.get(MOVE)?.context("the Move is gone")?;
        let now = super::now()?;
        let noted = object["metadata"]["annotations"][ANSWERED].as_str().unwrap_or_default();
        let generation = object["spec"]["generation"].to_string();
        let since = noted.split_once(' ').filter(|(of, _)| *of == generation);
        let Some((_, since)) = since else {
            note_answered(operator, &object, now)?;
            continue;
        };
        let passed = state::ago(since, now).unwrap_or_default();
        let left = longest.saturating_sub(passed);
        if left.is_zero() {
            return Ok(());
        }
        let left = Duration::from_secs(left.as_secs().saturating_add(1));
        let words = output::duration(left);
        output::say(&format!("waiting {words} for calls that go by the state before"));
        let turn = left.min(super::SAID);
        pause(&Deadline::after(turn), turn);
    }
}

fn note_answered(operator: &Operator<'_>, object: &Value, now: SystemTime) -> anyhow::Result<()> {
    let at = humantime::format_rfc3339_seconds(now);
    let text = format!("{} {at}", object["spec"]["generation"]);
    let change = json!({"metadata": {"annotations": {ANSWERED: text}}});
    // After a conflict, the caller reads the object again.
    match operator.api.merge(MOVE, &object["metadata"]["resourceVersion"], change)? {
        Written::Done(_) | Written::Conflict => Ok(()),
        Written::Absent => bail!("the Move is gone"),
    }
}
