//! Prints for the command line: data to stdout, everything else to stderr. Only `confirm` writes
//! its prompt by itself.

use super::{HintedError, UsageError};
use crate::addr::Range;
use crate::cni::Version;
use crate::config::ConfigError;
use crate::ipam::{Allocation, HeldAddress, ObjectRef, Source};
use crate::plugin::failure::Failure;
use crate::store::StoreError;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

/// Standard output. Its errors state that they come from it.
pub(super) struct Stdout(io::StdoutLock<'static>);

pub(super) fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(not_written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(not_written)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "map_err passes it by value")]
fn not_written(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to stdout: {error}"))
}

/// Returns standard output for a command that prints many rows while it reads.
pub(super) fn buffered() -> io::BufWriter<Stdout> {
    io::BufWriter::new(stdout())
}

/// Prints data to stdout.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = stdout();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Prints everything else to stderr.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Shows how far a command is, in the place of what was shown before. Empty to show nothing any more.
#[cfg(feature = "kube")]
pub(super) fn progress(text: &str) {
    let _ = write!(io::stderr(), "\r\x1b[K{text}");
}

/// Prints the text for a plugin that was started without a command: its versions and its usage.
pub(super) fn about(help: &str) {
    let versions: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
    say(&format!(
        "CNI hereabouts plugin v{}\nCNI protocol versions supported: {}\n\n{}",
        env!("CARGO_PKG_VERSION"),
        versions.join(", "),
        help.trim_end()
    ));
}

/// Prints the error, if there is one, and returns the exit status. A reader that stops reading (`|
/// head`) is not a failure.
pub(super) fn finish(done: anyhow::Result<()>) -> i32 {
    let Err(error) = done else {
        return 0;
    };
    if error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    {
        return 0;
    }
    say(&format!("error: {error:#}"));
    if let Some(hint) = hint_of(&error) {
        say(&format!("hint: {hint}"));
    }
    if error.is::<UsageError>() { 2 } else { 1 }
}

/// Returns the hint of an error: that of the outermost cause that has one.
pub(super) fn hint_of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let of_usage = || cause.downcast_ref::<UsageError>()?.hint.clone();
        let of_command = || Some(cause.downcast_ref::<HintedError>()?.hint.clone());
        let of_store = || cause.downcast_ref::<StoreError>()?.hint();
        let of_configuration = || cause.downcast_ref::<ConfigError>()?.hint.clone();
        let of_verb = || cause.downcast_ref::<Failure>()?.hint();
        of_usage().or_else(of_command).or_else(of_store).or_else(of_configuration).or_else(of_verb)
    })
}

/// Returns an error and its hint in one line, for a place that holds only one text.
pub(super) fn in_one_line(error: &anyhow::Error) -> String {
    let hint = hint_of(error).map_or_else(String::new, |hint| format!("; hint: {hint}"));
    format!("{error:#}{hint}")
}

/// Prints an error that does not end the command.
pub(super) fn say_error(error: &StoreError) {
    say(&with_hint(error));
}

/// Returns an error as it is printed: its hint has a line of its own.
pub(super) fn with_hint(error: &StoreError) -> String {
    let hint = error.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
    format!("{error}{hint}")
}

/// Prints an error of one record, after which the command continues with the others.
pub(super) fn warn(error: &StoreError) {
    say(&format!("warning: {}", with_hint(error)));
}

/// Returns rows under headings, with aligned columns.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let columns = Columns::fit(headings, rows.iter().map(Vec::as_slice));
    let mut text = columns.line(headings);
    rows.iter().for_each(|row| text.push_str(&columns.line(row)));
    text
}

/// The widths of the columns of a table, in characters. A hidden column has none.
pub(super) struct Columns(Vec<Option<usize>>);

impl Columns {
    /// Returns widths that fit the headings and the rows.
    pub(super) fn fit<'r>(headings: &[&str], rows: impl Iterator<Item = &'r [String]>) -> Self {
        let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        Self(widths.into_iter().map(Some).collect())
    }

    /// Hides a column.
    pub(super) fn hide(&mut self, column: usize) {
        if let Some(width) = self.0.get_mut(column) {
            *width = None;
        }
    }

    /// Returns one line of the table. A cell that is wider than its column shifts the ones after
    /// it.
    pub(super) fn line(&self, cells: &[impl AsRef<str>]) -> String {
        let shown = cells
            .iter()
            .zip(&self.0)
            .filter_map(|(cell, width)| width.map(|width| (cell.as_ref(), width)));
        let padded: Vec<String> = shown.map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    }
}

/// Prints a JSON document.
pub(super) fn print_json(value: &Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Returns a number as JSON. One that JSON readers may not hold exactly is written as text.
pub(super) fn number(value: u128) -> Value {
    u64::try_from(value)
        .ok()
        .filter(|value| *value < 1 << 53)
        .map_or_else(|| json!(value.to_string()), |value| json!(value))
}

/// Returns an allocation as JSON. The keys are documented and stable.
pub(super) fn allocation(allocation: &Allocation) -> Value {
    let held = &allocation.record;
    let attachment = &held.attachment;
    json!({
        "address": allocation.address,
        "prefix": held.prefix,
        "gateway": held.gateway,
        "scope": allocation.scope.name(),
        "network": attachment.network.as_str(),
        "pod": held.pod.as_ref().map(|pod| json!({"namespace": pod.namespace, "name": pod.name, "uid": pod.uid})),
        "interface": attachment.ifname.as_str(),
        "container": attachment.container.as_str(),
        "node": attachment.node.as_str(),
        "netns": held.netns.as_ref().map(|netns| netns.path.to_string_lossy()),
        "bootID": held.boot_id,
        "since": since(allocation),
        "source": source(held.source),
    })
}

/// Returns an address of either kind of holder as JSON. The keys are documented and stable. An
/// address of a claim has all keys of one of an attachment, those of the attachment with null, and
/// `claim` and `pool`.
pub(super) fn held(held: &HeldAddress) -> Value {
    let held = match held {
        HeldAddress::Attachment(held) => return allocation(held),
        HeldAddress::Claim(held) => held,
    };
    let object = |object: &ObjectRef| {
        json!({
            "apiGroup": object.api_group,
            "kind": object.kind,
            "namespace": object.namespace,
            "name": object.name,
            "uid": object.uid,
        })
    };
    json!({
        "address": held.address,
        "prefix": held.prefix,
        "gateway": held.gateway,
        "scope": held.scope.name(),
        "network": null,
        "pod": null,
        "interface": null,
        "container": null,
        "node": null,
        "netns": null,
        "bootID": null,
        "since": time(held.since),
        "source": source(held.source),
        "claim": object(&held.claim),
        "pool": held.pool.as_ref().map(object),
    })
}

/// Returns the address and its holder in one line.
pub(super) fn holder(allocation: &Allocation) -> String {
    let held = &allocation.record;
    let pod = held
        .pod
        .as_ref()
        .map_or_else(String::new, |pod| format!(", pod {}", printable(&pod.to_string())));
    format!("{}  {}{pod}", allocation.address, printable(&held.attachment.to_string()))
}

/// Prints the outcome of the release of an address.
pub(super) fn released(address: &dyn std::fmt::Display, done: bool) -> anyhow::Result<()> {
    if done {
        return print(&format!("released {address}\n"));
    }
    say(&format!("{address} has been released or given to another holder in the meantime"));
    Ok(())
}

pub(super) fn since(allocation: &Allocation) -> String {
    time(allocation.record.since)
}

pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

pub(super) const fn source(source: Source) -> &'static str {
    match source {
        Source::Dynamic => "dynamic",
        Source::Requested => "requested",
        Source::Static => "static",
    }
}

/// Returns text from a record without control characters. A runtime chose the text, and control
/// characters must not reach a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Returns a time in its two largest units, such as `3d 2h` or `1m 30s`. Less than a minute is
/// precise.
pub(super) fn duration(time: Duration) -> String {
    let (minute, hour, day) = (60, 60 * 60, 24 * 60 * 60);
    let whole = time.as_secs();
    let (large, small) = match whole {
        _ if whole < minute => return humantime::format_duration(time).to_string(),
        _ if whole < hour => ((whole / minute, "m"), (whole % minute, "s")),
        _ if whole < day => ((whole / hour, "h"), (whole % hour / minute, "m")),
        _ => ((whole / day, "d"), (whole % day / hour, "h")),
    };
    match small {
        (0, _) => format!("{}{}", large.0, large.1),
        _ => format!("{}{} {}{}", large.0, large.1, small.0, small.1),
    }
}

pub(super) fn count(number: usize, what: &str) -> String {
    match (number, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) if what.ends_with('s') => format!("{number} {what}es"),
        (_, None) => format!("{number} {what}s"),
    }
}

/// Returns a range as `first-last`, or as one address.
pub(super) fn addresses(range: &Range) -> String {
    let (first, last) = (range.first_address(), range.last_address());
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}
