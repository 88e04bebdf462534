//! Objects that are not a record that this version can read.

use super::error_text::on_one_line;
use super::{FORMAT, PLURAL};
use crate::store::StoreError;

/// Why an object is not a readable record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No version of hereabouts wrote it like this.
    #[error("{0}")]
    Damaged(String),
    /// A later version wrote the object.
    #[error("format {0}, but this version reads only up to {FORMAT}")]
    Newer(u64),
}

impl Unreadable {
    /// Returns the corresponding error, which names the object.
    pub(crate) fn of(&self, name: &str) -> StoreError {
        match self {
            Self::Damaged(reason) => damaged(name, reason),
            Self::Newer(found) => StoreError::Newer {
                path: format!("{PLURAL}/{name}").into(),
                found: *found,
                known: FORMAT,
            },
        }
    }
}

/// Returns the error for an object that no version of hereabouts wrote.
pub(crate) fn damaged(name: &str, reason: &str) -> StoreError {
    StoreError::DamagedObject { name: format!("{PLURAL}/{name}"), reason: on_one_line(reason) }
}
