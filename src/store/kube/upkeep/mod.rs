//! What an operator does with the Kubernetes store beyond the verbs: finds what is
//! wrong, repairs it, and frees what another machine of this node's name left.

pub(crate) mod finding;
pub(crate) mod repair;
pub(crate) mod take_over;
pub(crate) mod verify;
