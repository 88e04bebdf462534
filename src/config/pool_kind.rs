//! How the object of a pool says what it is.

/// The group of the API in which pools are defined. Other groups have kinds of the same name.
pub(crate) const GROUP: &str = "hereabouts.dev";
/// The group with its version.
pub(crate) const API_VERSION: &str = "hereabouts.dev/v1alpha1";
/// The kind of a pool.
pub(crate) const KIND: &str = "IPPool";
