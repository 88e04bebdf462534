//! Maintenance of the Kubernetes store: finds problems, repairs them, and frees what another
//! machine of this node's name left.

pub(crate) mod finding;
pub(crate) mod repair;
pub(crate) mod take_over;
pub(crate) mod verify;
