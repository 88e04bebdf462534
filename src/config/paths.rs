//! Paths that a configuration names.

use super::ConfigError;
use super::field::Field;
use std::path::{Component, Path, PathBuf};

/// Parses an absolute path without `..`. A relative path would depend on the runtime's working
/// directory, which no one chooses.
pub(super) fn absolute(field: &Field<'_>) -> Result<PathBuf, ConfigError> {
    let path = PathBuf::from(field.text()?);
    let plain = path.components().all(|part| !matches!(part, Component::ParentDir));
    if !path.is_absolute() || !plain || field.text()?.contains('\0') {
        return Err(field.wrong("expected an absolute path without \"..\""));
    }
    Ok(path)
}

pub(super) fn is_below(path: &Path, root: &Path) -> bool {
    path != root && path.starts_with(root)
}
