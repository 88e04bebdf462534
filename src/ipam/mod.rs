//! The core of the allocation: who holds which address, which address comes next, and which sandbox
//! is alive.
//!
//! It does no I/O, and uses no clock and no environment. The caller passes everything. Its errors
//! are errors of the domain. It knows neither the protocol nor a store.

pub mod adoption;
mod alive;
mod allocate;
mod attachment;
mod claim_allocation;
mod family_order;
mod ids;
mod ipam_claim;
pub mod leak;
pub mod off_node;
mod order;
mod request;
mod request_error;
mod reservation;
mod slicing;
mod sticky;
mod texts;
mod view;

pub use alive::{
    Doubt, Examined, Here, Life, NodeRelation, Seen, classify_record, is_left_behind,
    is_of_other_hardware,
};
pub use allocate::{Plan, PlanError, is_half_done, plan};
pub use attachment::{Allocation, Attachment, AttachmentSet, Netns, Part, Record, Source, Version};
pub use claim_allocation::{ClaimAllocation, HeldAddress, IPAM_CLAIM, IPAM_CLAIM_GROUP, ObjectRef};
pub use family_order::order_by_family;
pub use ids::{ContainerId, IdError, IfName, NetworkName, NodeName, PodRef, Scope};
pub use ipam_claim::{ClaimPod, ClaimProblem, IpamClaim, Machine, USERS, assign, slot_of_user};
pub use order::AllocationOrder;
pub use request::{
    Candidates, ConfiguredRange, Most, RangeSet, Requested, Slot, Static, check, check_statics,
    slots, subnets,
};
pub use request_error::RequestError;
pub use reservation::{Owner, OwnerKind, Reservation, Reservations};
pub use slicing::{Block, Geometry, Slicing, names_network};
pub use sticky::{Sticky, StickyOwner, of_owner};
pub use texts::Texts;
pub use view::{Directory, MountNamespace, View};
