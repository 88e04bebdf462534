//! The versions of the CNI specification: which ones the plugin supports, and which ones each verb
//! needs.

use super::{CniError, Code};
use crate::json::{Json, excerpt};

/// The supported versions of the CNI specification, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.1.0, also the version of a configuration that names none.
    V010,
    /// 0.2.0
    V020,
    /// 0.3.0
    V030,
    /// 0.3.1
    V031,
    /// 0.4.0, the first with CHECK.
    V040,
    /// 1.0.0
    V100,
    /// 1.1.0, the first with GC and STATUS.
    V110,
}

impl Version {
    /// All versions, oldest first.
    pub const ALL: &'static [Self] =
        &[Self::V010, Self::V020, Self::V030, Self::V031, Self::V040, Self::V100, Self::V110];
    /// The newest version.
    pub const NEWEST: Self = Self::V110;

    /// Returns the text in `cniVersion`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V010 => "0.1.0",
            Self::V020 => "0.2.0",
            Self::V030 => "0.3.0",
            Self::V031 => "0.3.1",
            Self::V040 => "0.4.0",
            Self::V100 => "1.0.0",
            Self::V110 => "1.1.0",
        }
    }

    /// Returns the version with exactly this name.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|version| version.as_str() == text)
    }

    /// Returns all names, in the format of the reference code's messages.
    #[must_use]
    pub fn list() -> String {
        let quoted: Vec<String> =
            Self::ALL.iter().map(|version| format!("\"{}\"", version.as_str())).collect();
        format!("[{}]", quoted.join(" "))
    }
}

/// Returns the text of `cniVersion`. A missing, `null` or empty value means 0.1.0.
pub(super) fn text_of(configuration: &Json) -> Result<&str, CniError> {
    match configuration.find("cniVersion") {
        None => Ok("0.1.0"),
        Some(Json::String(text)) if text.is_empty() => Ok("0.1.0"),
        Some(Json::String(text)) => Ok(text),
        Some(other) => Err(CniError::new(
            Code::Decode,
            format!("cniVersion: expected a string, found {}", other.excerpt()),
        )),
    }
}

/// Returns the version of an ADD or DEL.
///
/// # Errors
/// [`Code::Version`] for a version that is not supported.
pub(super) fn require(text: &str) -> Result<Version, CniError> {
    Version::find(text).ok_or_else(|| {
        CniError::new(
            Code::Version,
            format!("config is {}, plugin supports {}", excerpt(text), Version::list()),
        )
    })
}

/// Returns the version of a verb that was added after ADD and DEL.
///
/// # Errors
/// [`Code::Version`] for a version that is too old, or not supported. [`Code::Decode`] for a text
/// that is not a version.
pub(super) fn require_from(text: &str, oldest: Version, verb: &str) -> Result<Version, CniError> {
    let too_old = || {
        let details =
            format!("{verb} needs cniVersion {} or later: {}", oldest.as_str(), excerpt(text));
        CniError::with_message(
            Code::Version,
            format!("config version does not allow {verb}"),
            details,
        )
    };
    if let Some(version) = Version::find(text) {
        return if version < oldest { Err(too_old()) } else { Ok(version) };
    }
    let parts = numbers(text).ok_or_else(|| {
        CniError::new(
            Code::Decode,
            format!("cniVersion: expected a version such as 1.1.0, found {}", excerpt(text)),
        )
    })?;
    if parts < numbers(oldest.as_str()).unwrap_or_default() {
        return Err(too_old());
    }
    let details = format!("config is {}, plugin supports {}", excerpt(text), Version::list());
    Err(CniError::with_message(
        Code::Version,
        format!("plugin version does not allow {verb}"),
        details,
    ))
}

/// Parses up to three numbers separated by dots.
fn numbers(text: &str) -> Option<[u32; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split('.');
    for number in &mut numbers {
        match parts.next() {
            Some(part) if part.bytes().all(|b| b.is_ascii_digit()) => {
                *number = part.parse().ok()?
            }
            Some(_) => return None,
            None => break,
        }
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_versions() {
        for text in
            ["1.0", "v1.0.0", "01.0.0", "1.1.0-rc1", " 1.1.0", "0.9.9", "1.2.0", "2.0.0", "abc"]
        {
            assert_eq!(require(text).unwrap_err().code, Code::Version, "{text}");
        }
    }

    #[test]
    fn later_verbs_tell_too_old_from_too_new_from_nonsense() {
        let gate = |text: &str| {
            require_from(text, Version::V110, "GC").map_err(|error| (error.code, error.msg))
        };
        assert_eq!(gate("1.1.0"), Ok(Version::V110));
        assert_eq!(gate("1.0.0").unwrap_err().1, "config version does not allow GC");
        assert_eq!(gate("2.0.0").unwrap_err().1, "plugin version does not allow GC");
        assert_eq!(gate("1.1").unwrap_err().0, Code::Version);
        assert_eq!(gate("abc").unwrap_err().0, Code::Decode);
    }
}
