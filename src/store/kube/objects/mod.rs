//! The custom resource of an address: its shape, and how objects and labels are
//! named.

pub(crate) mod error_text;
pub mod ip_allocation;
pub(crate) mod names;
