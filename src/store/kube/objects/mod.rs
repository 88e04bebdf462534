//! The custom resources: the shapes of an address and of a pool, and the names of objects and labels.

pub(crate) mod error_text;
pub mod ip_allocation;
pub mod ip_pool;
pub(crate) mod names;
pub mod unreadable;

/// The plural name of the resource.
pub const PLURAL: &str = "ipallocations";
/// The format of the record. It rises only if an older version would damage what a newer one wrote.
/// New keys alone do not raise it.
pub const FORMAT: u64 = 1;
