//! `deadlines`: how long each verb may take before it gives up by itself.

use super::{ConfigError, Merged};
use std::time::Duration;

/// How long each verb may take. Runtimes give DEL 60 s and GC 30 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// ADD; a fifth of it is kept for undoing.
    pub add: Duration,
    /// DEL.
    pub del: Duration,
    /// GC.
    pub gc: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { add: Duration::from_secs(30), del: Duration::from_secs(50), gc: Duration::from_secs(25) }
    }
}

/// Reads them; a verb that is not named keeps its own.
pub(super) fn deadlines(merged: &Merged<'_>) -> Result<Deadlines, ConfigError> {
    let mut deadlines = Deadlines::default();
    let Some(field) = merged.field("deadlines") else {
        return Ok(deadlines);
    };
    field.object()?;
    for (name, value) in field.value.entries() {
        let entry = field.inner(format!("{}.{}", field.path, field.key(name)), value);
        let limit = match name.as_str() {
            "add" => &mut deadlines.add,
            "del" => &mut deadlines.del,
            "gc" => &mut deadlines.gc,
            _ => {
                return Err(ConfigError::unsupported(
                    &entry.path,
                    format!("unknown verb, expected add, del or gc: {}", field.excerpt(value)),
                ));
            }
        };
        let expected = "expected a duration of 10ms to 1h with its unit, such as \"10s\" or \"500ms\"";
        *limit = match super::parse_duration(entry.text()?) {
            Ok(limit) if Duration::from_millis(10) <= limit && limit <= Duration::from_secs(3600) => limit,
            _ => return Err(entry.wrong(expected)),
        };
    }
    Ok(deadlines)
}
