//! `deadlines`: the time that each verb may take before it gives up.

use super::{ConfigError, Merged};
use std::time::Duration;

/// The time limit of each verb. Runtimes allow 60 s for DEL and 30 s for GC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// The limit of ADD. A fifth of it is reserved for undoing a failed ADD.
    pub add: Duration,
    /// The limit of DEL.
    pub del: Duration,
    /// The limit of GC.
    pub gc: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            add: Duration::from_secs(30),
            del: Duration::from_secs(50),
            gc: Duration::from_secs(25),
        }
    }
}

/// Reads the setting. A verb that is not named keeps its default.
pub(super) fn deadlines(merged: &Merged<'_>) -> Result<Deadlines, ConfigError> {
    let mut deadlines = Deadlines::default();
    let Some(field) = merged.field("deadlines") else {
        return Ok(deadlines);
    };
    field.object()?;
    for (name, value) in field.value.entries() {
        let entry = field.inner(field.path_of(&field.key(name)), value);
        let limit = match name.as_str() {
            "add" => &mut deadlines.add,
            "del" => &mut deadlines.del,
            "gc" => &mut deadlines.gc,
            _ => {
                return Err(ConfigError::unsupported(
                    &entry.path,
                    format!(
                        "unknown verb, expected add, del or gc, found {}",
                        field.excerpt(value)
                    ),
                ));
            }
        };
        let expected =
            "expected a duration of 10ms to 1h with its unit, such as \"10s\" or \"500ms\"";
        *limit = match super::parse_duration(entry.text()?) {
            Ok(limit)
                if Duration::from_millis(10) <= limit && limit <= Duration::from_secs(3600) =>
            {
                limit
            }
            _ => return Err(entry.wrong(expected)),
        };
    }
    Ok(deadlines)
}
