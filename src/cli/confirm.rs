//! Asks the operator before an action that cannot be undone.

use super::UsageError;
use std::io::{BufRead, IsTerminal, Write};

/// Returns the answer to a question on the terminal. `yes` answers it in advance.
pub(super) fn confirmed(yes: bool, verb: &str) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(UsageError::hinted(
            "stdin is not a terminal",
            format!("pass --yes to {verb} without being asked"),
        )
        .into());
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{verb}? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
