//! The verbs of the protocol, and their names in `CNI_COMMAND`.

/// A verb of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Verb {
    pub(super) fn find(text: &str) -> Option<Self> {
        [
            ("ADD", Self::Add),
            ("DEL", Self::Del),
            ("CHECK", Self::Check),
            ("GC", Self::Gc),
            ("STATUS", Self::Status),
            ("VERSION", Self::Version),
        ]
        .into_iter()
        .find(|(name, _)| *name == text)
        .map(|(_, verb)| verb)
    }
}
