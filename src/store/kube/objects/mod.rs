//! The custom resource of an address: its shape, and the names of objects and labels.

pub(crate) mod error_text;
pub mod ip_allocation;
pub(crate) mod names;
