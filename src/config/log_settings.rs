//! The log file and its level: `log_file` and `log_level`.

use super::merge::{Merged, Setting};
use super::paths::{absolute, is_below};
use std::path::{Path, PathBuf};

/// The directory in which a network configuration may place a log without permission from the flat
/// file.
const OPEN_LOG: &str = "/var/log/hereabouts";

/// The log file and its level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The log file. If there is none, failures go to stderr.
    pub file: Option<PathBuf>,
    /// The threshold.
    pub level: LogLevel,
    /// The directory below which only a file that hereabouts created is written. `None` if the
    /// node's own flat file names the file.
    pub below: Option<PathBuf>,
    /// Whether `allowed_paths` lists that directory.
    pub is_listed: bool,
    /// The settings that were not followed. They are written to the log, if there is one.
    pub notes: Vec<String>,
}

/// The log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Addresses that were given out and freed.
    Verbose,
    /// Failures.
    Error,
    /// Only internal errors of the plugin.
    Panic,
}

/// The words for each level, in any case of their letters: those of Whereabouts, and those of other
/// programs.
const LEVELS: &[(&str, LogLevel)] = &[
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Debug),
    ("verbose", LogLevel::Verbose),
    ("info", LogLevel::Verbose),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Error),
    ("warning", LogLevel::Error),
    ("panic", LogLevel::Panic),
];

/// Reads the settings. A log setting never fails a call: what cannot be done is noted.
pub(super) fn parse(merged: &Merged<'_>, allowed: &[PathBuf]) -> LogSettings {
    let mut settings = LogSettings {
        file: None,
        level: LogLevel::Verbose,
        below: None,
        is_listed: false,
        notes: Vec::new(),
    };
    if let Some(field) = merged.field("log_level") {
        let word = field.value.as_str().unwrap_or_default();
        match LEVELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)) {
            Some((_, level)) => settings.level = *level,
            None => settings.notes.push(format!(
                "{}: unknown level, verbose is used, found {}",
                field.path,
                field.excerpt(field.value)
            )),
        }
    }
    // A network must not disable the node's log by naming a file that is not written.
    for setting in merged.settings("log_file") {
        match file(&setting, allowed) {
            Ok((file, place)) => {
                settings.file = Some(file);
                (settings.below, settings.is_listed) = match place {
                    Place::Any => (None, false),
                    Place::Below { root, is_listed } => (Some(root), is_listed),
                };
                break;
            }
            Err(note) => settings.notes.push(note),
        }
    }
    settings
}

/// Where a log may be.
enum Place {
    /// Anywhere, because the node's own flat file names it.
    Any,
    /// Below a directory, where only a file that hereabouts created is written.
    Below { root: PathBuf, is_listed: bool },
}

/// Returns the file that a setting names, or why it is not written.
fn file(setting: &Setting<'_>, allowed: &[PathBuf]) -> Result<(PathBuf, Place), String> {
    let Setting { field, own, .. } = setting;
    let file = absolute(field).map_err(|error| format!("{error}; it is not written"))?;
    if *own {
        return Ok((file, Place::Any));
    }
    let not_written = |reason: &str| {
        format!("{}: not written, {reason}, found {}", field.path, field.excerpt(field.value))
    };
    if file.to_string_lossy().chars().any(char::is_control) {
        return Err(not_written("because a path must have no control characters"));
    }
    let mut roots =
        allowed.iter().map(|root| (root.as_path(), true)).chain([(Path::new(OPEN_LOG), false)]);
    match roots.find(|(root, _)| is_below(&file, root)) {
        Some((root, is_listed)) => {
            let root = root.to_owned();
            Ok((file, Place::Below { root, is_listed }))
        }
        None => Err(not_written(&format!(
            "because a log must be below {OPEN_LOG} or listed in allowed_paths of the node's flat file"
        ))),
    }
}
