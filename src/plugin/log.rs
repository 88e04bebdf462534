//! The log file, and stderr for what has no other place.

use crate::config::LogLevel;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use tracing::level_filters::LevelFilter;

/// Says a sentence on stderr, which callers forward to their own log. That
/// nobody may be there to read it is no failure.
pub fn complain(sentence: &str) {
    let _ = writeln!(io::stderr(), "hereabouts: {sentence}");
}

/// Appends to the file from now on. Never follows a symbolic link, never waits
/// for a FIFO.
///
/// # Errors
/// The file cannot be opened or is none.
pub fn start(path: &Path, level: LogLevel) -> io::Result<()> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = File::options().append(true).create(true).mode(0o600).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Verbose => LevelFilter::INFO,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Panic => LevelFilter::OFF,
    };
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_target(false).with_writer(Mutex::new(file));
    // A second call in one process keeps the first log.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
    Ok(())
}
