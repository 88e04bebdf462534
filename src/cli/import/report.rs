//! Prints what an import has found, one line for each address.

use crate::cli::output::Columns;
use crate::cli::{Format, output};
use anyhow::bail;
use serde_json::{Value, json};
use std::io::Write;

const HEADINGS: [&str; 7] = ["ADDRESS", "SCOPE", "NETWORK", "POD", "INTERFACE", "NODE", "WHAT"];

/// An address that another plugin has given, and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Row {
    /// The address, or what is there instead of one.
    pub(in crate::cli) address: String,
    /// The scope in which hereabouts keeps the address apart; empty for the unnamed one.
    pub(in crate::cli) scope: String,
    /// The name of the network configuration, if it is known.
    pub(in crate::cli) network: Option<String>,
    /// The pod as `namespace/name`, if there is one.
    pub(in crate::cli) pod: Option<String>,
    /// The container ID of the sandbox, if it is known.
    pub(in crate::cli) container: Option<String>,
    /// The interface in the pod, if it is known.
    pub(in crate::cli) interface: Option<String>,
    /// The node, if it is known.
    pub(in crate::cli) node: Option<String>,
    /// Where the other plugin has noted it: a file or an object.
    pub(in crate::cli) source: String,
    /// What happened.
    pub(in crate::cli) outcome: Outcome,
    /// What an operator should know about it besides.
    pub(in crate::cli) notes: Vec<String>,
    /// What is recorded, for programs: JSON as text, because a document takes many times its bytes.
    pub(in crate::cli) record: Option<Box<str>>,
}

/// What an import has done, or would do, with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was recorded before.
    Known,
    /// It is recorded now, or would be.
    New,
    /// It was recorded from elsewhere, and the node has added the namespace of the sandbox, or
    /// would.
    Completed,
    /// Its record, which was imported, is removed, or would be. Why.
    #[cfg_attr(not(feature = "kube"), allow(dead_code, reason = "only a cluster has such"))]
    Freed(String),
    /// It is not recorded, and need not be. Why.
    Gone(String),
    /// It is not recorded, and may be in use. Why, and what to do.
    Left {
        /// The reason.
        reason: String,
        /// What to do.
        hint: String,
    },
}

impl Outcome {
    /// Returns the word for programs. It is documented and stable.
    const fn word(&self) -> &'static str {
        match self {
            Self::Known => "recorded",
            Self::New => "new",
            Self::Completed => "completed",
            Self::Freed(_) => "freed",
            Self::Gone(_) => "gone",
            Self::Left { .. } => "left",
        }
    }
}

/// Prints the rows, and their count by outcome.
///
/// # Errors
/// Something is left.
pub(super) fn print(rows: &[Row], format: Format, is_dry_run: bool) -> anyhow::Result<()> {
    match format {
        Format::Json => print_json(rows)?,
        Format::Table => print_table(rows, is_dry_run)?,
    }
    match count(rows, "left") {
        0 => Ok(()),
        left => bail!(
            "{} {} left: the pods may use them, and hereabouts does not know it",
            output::count(left, "address"),
            if left == 1 { "is" } else { "are" },
        ),
    }
}

/// Writes one document, row by row: a document in memory takes many times its bytes.
fn print_json(rows: &[Row]) -> anyhow::Result<()> {
    let mut out = output::buffered();
    out.write_all(b"{\n  \"addresses\": [")?;
    for (at, row) in rows.iter().enumerate() {
        out.write_all(if at == 0 { b"\n    " } else { b",\n    " })?;
        // Converted to an output error, so that a reader that stops reading is not a failure.
        serde_json::to_writer(&mut out, &document(row)).map_err(std::io::Error::from)?;
    }
    out.write_all(if rows.is_empty() { b"]\n}\n" } else { b"\n  ]\n}\n" })?;
    Ok(out.flush()?)
}

fn count(rows: &[Row], word: &str) -> usize {
    rows.iter().filter(|row| row.outcome.word() == word).count()
}

fn print_table(rows: &[Row], is_dry_run: bool) -> anyhow::Result<()> {
    let new = if is_dry_run { "would be recorded" } else { "is recorded now" };
    let mut out = output::buffered();
    // What was recorded before is only counted.
    let shown = || rows.iter().filter(|row| row.outcome != Outcome::Known);
    if shown().next().is_some() {
        let table: Vec<[String; 7]> = shown().map(|row| cells(row, new, is_dry_run)).collect();
        let columns = Columns::fit(&HEADINGS, table.iter().map(<[String; 7]>::as_slice));
        out.write_all(columns.line(&HEADINGS).as_bytes())?;
        for cells in &table {
            out.write_all(columns.line(cells).as_bytes())?;
        }
    }
    writeln!(
        out,
        "{}: {} recorded before, {} {}, {}{} not needed, {} left",
        output::count(rows.len(), "address"),
        count(rows, "recorded"),
        count(rows, "new"),
        if is_dry_run { "would be recorded" } else { "recorded now" },
        changed(rows, is_dry_run),
        count(rows, "gone"),
        count(rows, "left"),
    )?;
    Ok(out.flush()?)
}

/// Returns how many records were completed or freed: few imports do either.
fn changed(rows: &[Row], is_dry_run: bool) -> String {
    let one = |word| match (count(rows, word), is_dry_run) {
        (0, _) => String::new(),
        (count, true) => format!("{count} would be {word}, "),
        (count, false) => format!("{count} {word} now, "),
    };
    ["completed", "freed"].map(one).concat()
}

fn cells(row: &Row, new: &str, is_dry_run: bool) -> [String; 7] {
    let text = |text: &Option<String>| output::printable(text.as_deref().unwrap_or("-"));
    let mut what = match &row.outcome {
        Outcome::Known => String::new(),
        Outcome::New => new.to_owned(),
        Outcome::Completed if is_dry_run => "would be completed".to_owned(),
        Outcome::Completed => "is completed now".to_owned(),
        Outcome::Freed(reason) if is_dry_run => format!("would be freed: {reason}"),
        Outcome::Freed(reason) => format!("is freed now: {reason}"),
        Outcome::Gone(reason) => format!("not needed: {reason}"),
        Outcome::Left { reason, hint } => format!("left: {reason}; hint: {hint}"),
    };
    row.notes.iter().for_each(|note| what.push_str(&format!("; note: {note}")));
    [
        output::printable(&row.address),
        if row.scope.is_empty() { "-".to_owned() } else { output::printable(&row.scope) },
        text(&row.network),
        text(&row.pod),
        text(&row.interface),
        text(&row.node),
        output::printable(&what),
    ]
}

/// Returns a row as JSON. The keys are documented and stable.
fn document(row: &Row) -> Value {
    let (reason, hint) = match &row.outcome {
        Outcome::Known | Outcome::New | Outcome::Completed => (None, None),
        Outcome::Freed(reason) | Outcome::Gone(reason) => (Some(reason), None),
        Outcome::Left { reason, hint } => (Some(reason), Some(hint)),
    };
    let record: Option<Value> =
        row.record.as_deref().and_then(|text| serde_json::from_str(text).ok());
    json!({
        "address": row.address,
        "scope": Some(&row.scope).filter(|scope| !scope.is_empty()),
        "network": row.network,
        "pod": row.pod,
        "container": row.container,
        "interface": row.interface,
        "node": row.node,
        "source": row.source,
        "state": row.outcome.word(),
        "reason": reason,
        "hint": hint,
        "notes": row.notes,
        "record": record,
    })
}
