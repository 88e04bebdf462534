//! Why a server could not be reached, and whether a later attempt may reach it.

/// Why something did not work, and whether it may by itself.
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
