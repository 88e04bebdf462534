//! `move status`: how far a move is, and what is missing for the next step.

use super::Operator;
use super::answers::TO_OPEN;
use super::missing::{self, Missing};
use super::state;
use super::view::{NodeView, View};
use crate::cli::import::report::{Outcome, Row};
use crate::cli::import::whereabouts::Survey;
use crate::cli::published::ago;
use crate::cli::{Format, output};
use crate::store::kube::objects::move_object::{Executable, MoveState};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::SystemTime;

const HEADINGS: [&str; 6] =
    ["NODE", "WHEREABOUTS IS", "ANSWERED", "AGO", "RECORDS", "NOT COMPLETED"];

/// What stands in Whereabouts' pools.
struct Entries {
    ours: usize,
    recorded: usize,
    new: usize,
    gone: usize,
    left: usize,
}

pub(super) fn status(operator: &Operator<'_>, format: Format) -> anyhow::Result<()> {
    let lists = operator.lists()?;
    // An entry is always there before its record is gone.
    let survey = Survey::read(&lists)?;
    let view = View::read(&operator.api, &lists)?;
    let count =
        |is: fn(&Outcome) -> bool| survey.rows().filter(|row: &&Row| is(&row.outcome)).count();
    let entries = Entries {
        // An address stands in each pool that has it.
        ours: survey.ours().map(|entry| entry.uid).collect::<HashSet<_>>().len(),
        recorded: count(|outcome| *outcome == Outcome::Known),
        new: count(|outcome| *outcome == Outcome::New),
        gone: count(|outcome| matches!(outcome, Outcome::Gone(_))),
        left: count(|outcome| matches!(outcome, Outcome::Left { .. })),
    };
    let state = view.object.as_ref().map(|object| object.spec.state);
    let missing = match &view.object {
        None => missing::to_start(&view, &survey),
        Some(object) => match object.spec.state {
            MoveState::Ended => missing::to_start(&view, &survey),
            MoveState::Shared | MoveState::Closing => {
                let mut missing = missing::cleaners(&view);
                missing.extend(missing::to_finish(&view, &survey, object));
                missing.extend(missing::not_recorded(&survey));
                missing
            }
            MoveState::Finished => Vec::new(),
            MoveState::Opening => TO_OPEN.missing(&view, object.spec.generation),
        },
    };
    let now = operator.located.machine.now;
    match format {
        Format::Json => output::print_json(&document(&view, &entries, &missing, now)),
        Format::Table => print(&view, &entries, &missing, state, now),
    }
}

/// Returns the next command, and what it does.
const fn next(state: Option<MoveState>) -> &'static str {
    match state {
        None => "hereabouts move start",
        Some(MoveState::Ended) => {
            "when no node has the executable of hereabouts, kubectl delete move whereabouts"
        }
        Some(MoveState::Shared) => {
            "hereabouts move finish; on the way back, hereabouts move back --node NODE"
        }
        Some(MoveState::Closing) => "hereabouts move finish",
        Some(MoveState::Finished) => "none; \"hereabouts move back\" goes back",
        Some(MoveState::Opening) => "hereabouts move back",
    }
}

const fn whose(executable: Executable) -> &'static str {
    match executable {
        Executable::None => "absent",
        Executable::Hereabouts => "hereabouts",
        Executable::Other => "Whereabouts",
    }
}

fn row(name: &str, node: &NodeView, now: SystemTime) -> Vec<String> {
    let answer = node.answer.as_ref();
    let dash = || "-".to_owned();
    let age = answer.and_then(|answer| state::ago(&answer.at, now));
    vec![
        output::printable(name),
        answer.map_or_else(|| "not known".to_owned(), |answer| whose(answer.executable).to_owned()),
        answer.map_or_else(dash, |answer| answer.generation.to_string()),
        age.map_or_else(dash, ago),
        node.records.to_string(),
        node.not_completed.to_string(),
    ]
}

fn print(
    view: &View,
    entries: &Entries,
    missing: &[Missing],
    state: Option<MoveState>,
    now: SystemTime,
) -> anyhow::Result<()> {
    let mut text = match &view.object {
        None => "state: nothing is moved\n".to_owned(),
        Some(object) => format!(
            "state: {}, generation {}, since {}{}\n",
            object.spec.state,
            object.spec.generation,
            output::printable(&object.spec.since),
            state::age(object, now).map_or_else(String::new, |age| format!(" ({})", ago(age))),
        ),
    };
    text.push_str(&format!(
        "addresses of Whereabouts: {} of nodes of hereabouts, {} recorded, {} not recorded, {} not needed, {} left\n",
        entries.ours, entries.recorded, entries.new, entries.gone, entries.left
    ));
    for (what, _) in &view.cleaners {
        text.push_str(&format!("runs, and removes addresses: {}\n", output::printable(what)));
    }
    if !view.nodes.is_empty() {
        let rows: Vec<Vec<String>> =
            view.nodes.iter().map(|(name, node)| row(name, node, now)).collect();
        text.push_str(&output::table(&HEADINGS, &rows));
    }
    for Missing { what, hint } in missing {
        text.push_str(&format!(
            "missing: {}\n  to do: {}\n",
            output::printable(what),
            output::printable(hint)
        ));
    }
    text.push_str(&format!("next: {}\n", next(state)));
    output::print(&text)
}

fn document(view: &View, entries: &Entries, missing: &[Missing], now: SystemTime) -> Value {
    let object = view.object.as_ref();
    let nodes = view.nodes.iter().map(|(name, node)| {
        let answer = node.answer.as_ref();
        json!({
            "name": name,
            "executable": answer.map(|answer| json!(answer.executable)),
            "generation": answer.map(|answer| answer.generation),
            "answeredSecondsAgo": answer
                .and_then(|answer| state::ago(&answer.at, now)).map(|ago| ago.as_secs()),
            "records": node.records, "notCompleted": node.not_completed,
        })
    });
    let cleaners = view.cleaners.iter().map(|(what, hint)| json!({"what": what, "hint": hint}));
    let state = object.map(|object| object.spec.state);
    json!({
        "state": state.map(|state| state.to_string()),
        "generation": object.map(|object| object.spec.generation),
        "since": object.map(|object| object.spec.since.clone()),
        "entries": {
            "ofHereabouts": entries.ours, "recorded": entries.recorded, "new": entries.new,
            "gone": entries.gone, "left": entries.left,
        },
        "nodes": nodes.collect::<Vec<_>>(),
        "cleaners": cleaners.collect::<Vec<_>>(),
        "missing": missing.iter().map(Missing::document).collect::<Vec<_>>(),
        "next": next(state),
    })
}
