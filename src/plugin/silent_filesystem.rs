//! The answer of a call that hangs in a system call beyond its deadline. A silent FUSE or NFS
//! server blocks an open(2) for as long as it is silent, and the call cannot check the clock in
//! that time. Cutting off the call is as safe as a kill.

use crate::cni::{Call, CniError, Code, Version};
use crate::config::Settings;
use std::path::PathBuf;
use std::time::Duration;

/// The time beyond the deadline: a call that gives up by itself gives a better answer.
const GRACE: Duration = Duration::from_millis(500);

/// When a call is late, and what it answers then.
pub struct Late {
    after: Duration,
    limit: Duration,
    version: Version,
    data_dir: PathBuf,
}

impl Late {
    /// Returns the values for a verb with these settings.
    pub(super) fn of(verb: &str, call: &Call, settings: &Settings) -> Self {
        let deadlines = &settings.deadlines;
        let limit = match verb {
            "DEL" => deadlines.del,
            "GC" => deadlines.gc,
            _ => deadlines.add,
        };
        Self {
            after: limit + GRACE,
            limit,
            version: call.version,
            data_dir: settings.store.data_dir.clone(),
        }
    }

    /// Returns the time after which the call is late, from when it begins to use its store.
    #[must_use]
    pub const fn after(&self) -> Duration {
        self.after
    }

    /// Reads from the store: the directory, its names, and the first file that every call reads.
    /// Returns when the server has answered, whatever it answered.
    pub fn read_store(&self) {
        let names = std::fs::read_dir(&self.data_dir).map(Iterator::count);
        let format = std::fs::read(self.data_dir.join("format"));
        drop((names, format));
    }

    /// Returns the error, and its encoding in the version of the call.
    #[must_use]
    pub fn answer(&self) -> (CniError, Vec<u8>) {
        let (directory, limit) = (self.data_dir.display(), humantime::format_duration(self.limit));
        let details = format!(
            "the filesystem of {directory} did not answer within {limit}: its server is silent or unreachable"
        );
        let error = CniError::new(Code::TryAgain, details);
        let document = error.encode(self.version);
        (error, document)
    }
}
