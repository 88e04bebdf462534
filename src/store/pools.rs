//! What a store tells about pools, if it keeps them itself.

/// How current an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A copy that is a minute old will do.
    Copies,
    /// The answer has to be the present state.
    Present,
}

/// A pool as the store keeps it.
#[derive(Debug)]
pub struct StoredPool {
    /// The object in JSON.
    pub document: Vec<u8>,
    /// Whether it is a copy, so that the present pool may be another one.
    pub is_copy: bool,
}
