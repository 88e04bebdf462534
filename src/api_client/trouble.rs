//! The reason why a server could not be reached, and whether a retry may reach it.

/// The reason for a failure, and whether it may end without any change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: String,
    pub(crate) may_pass: bool,
}

impl Trouble {
    pub(crate) fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), may_pass: true }
    }

    pub(crate) fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), may_pass: false }
    }
}
