//! The custom resource of an address: its shape, and how objects and labels are
//! named.

pub mod ip_allocation;
pub(crate) mod names;
