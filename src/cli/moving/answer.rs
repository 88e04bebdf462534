//! `move answer`, for the DaemonSet: notes the state of the move, and answers.

use crate::cli::args::moving::AnswerArgs;
use crate::cli::{StoreArgs, locate, output};
use crate::environment::Environment;
use crate::retry::Deadline;
use std::time::Duration;

/// The time limit of a look.
const LIMIT: Duration = Duration::from_secs(30);

/// What is printed if the next look is to be soon.
pub(in crate::cli) const SOON: &str = "soon";
/// What is printed otherwise.
const LATER: &str = "later";

pub(super) fn answer(environment: &Environment, args: &AnswerArgs) -> anyhow::Result<()> {
    let located = locate::locate(environment, &StoreArgs::default())?;
    let Some(store) = located.kubernetes()? else {
        return output::print(&format!("{LATER}\n"));
    };
    let is_urgent = store.answer_move(args.executable.into(), &Deadline::after(LIMIT))?;
    output::print(&format!("{}\n", if is_urgent { SOON } else { LATER }))
}
