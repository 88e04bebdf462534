//! The log file and its level: `log_file` and `log_level`.

use super::ConfigError;
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
    /// The reason why the configured file is not written. It is reported on stderr.
    pub refused: Option<String>,
}

/// The log levels of Whereabouts.
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

/// Reads the settings. A log that may not be written is no error of the call.
pub(super) fn parse(merged: &Merged<'_>, allowed: &[PathBuf]) -> Result<LogSettings, ConfigError> {
    let level = match merged.field("log_level") {
        None => LogLevel::Verbose,
        Some(field) => match field.text()? {
            "debug" => LogLevel::Debug,
            "verbose" => LogLevel::Verbose,
            "error" => LogLevel::Error,
            "panic" => LogLevel::Panic,
            _ => return Err(field.wrong("expected debug, verbose, error or panic")),
        },
    };
    let settings = LogSettings { file: None, level, below: None, is_listed: false, refused: None };
    let Some(Setting { field, own, .. }) = merged.find("log_file") else {
        return Ok(settings);
    };
    let file = match absolute(&field) {
        Ok(file) if !own && field.text()?.chars().any(char::is_control) => {
            let reason = format!(
                "{}: not written, because a path must have no control characters: {}",
                field.path,
                file.display()
            );
            return Ok(LogSettings { refused: Some(reason), ..settings });
        }
        Ok(file) => file,
        Err(error) if own => return Err(error),
        Err(error) => {
            return Ok(LogSettings { refused: Some(format!("not written: {error}")), ..settings });
        }
    };
    if own {
        return Ok(LogSettings { file: Some(file), ..settings });
    }
    let mut roots =
        allowed.iter().map(|root| (root.as_path(), true)).chain([(Path::new(OPEN_LOG), false)]);
    if let Some((root, is_listed)) = roots.find(|(root, _)| is_below(&file, root)) {
        return Ok(LogSettings {
            file: Some(file),
            below: Some(root.to_owned()),
            is_listed,
            ..settings
        });
    }
    // An ADD does not fail because its log cannot be written.
    let refused = format!(
        "{}: not written, because a log must be below {OPEN_LOG} or listed in allowed_paths of the node's flat file: {}",
        field.path,
        field.excerpt(field.value)
    );
    Ok(LogSettings { refused: Some(refused), ..settings })
}
