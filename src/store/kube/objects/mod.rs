//! The custom resources: the shapes of an address, of a pool and of its slices, and the names of
//! objects and labels.
//!
//! An IPAllocation has one of two holders: an attachment (`ip_allocation`) or a claim
//! (`claim_object`). `held` tells them apart. `evidence` reads the few fields of allocations, pods and
//! nodes by which leak candidates are found.

pub mod claim_object;
pub mod cluster_api;
pub(crate) mod error_text;
pub mod evidence;
pub mod held;
pub mod ip_allocation;
pub mod ip_allocation_status;
pub mod ip_pool;
pub mod ip_pool_status;
pub mod ip_slice;
pub mod ip_slice_status;
pub(crate) mod ipam_claim;
pub mod move_object;
pub(crate) mod names;
pub(crate) mod pod_annotations;
pub mod slice_geometry;
pub mod unreadable;

/// The plural name of the resource.
pub const PLURAL: &str = "ipallocations";
/// The format of the record. It rises only if an older version would damage what a newer one wrote.
/// New keys alone do not raise it.
///
/// An object without a format has format 1. Format 2 means that a claim holds the address: a
/// version that knows only attachments skips it and reports a newer version, instead of damage.
/// The records of attachments stay without a format.
pub const FORMAT: u64 = 2;
/// The format of an object that is held by a claim.
pub const FORMAT_OF_CLAIMS: u64 = 2;
