//! `install` and `uninstall` as processes on nodes of their own: a directory
//! each, with the plugins' directory, the configuration's, and a pod's token and
//! CA. Rollouts, pods and the API server are in `deploy.rs`.

/// Beside a call that is under way.
mod beside_a_call;
/// Over an install of another kind.
mod changing;
/// Where a node's files are, and installs that stay.
pub(crate) mod node;
/// One run: what it writes, keeps, refuses.
mod once;
/// DELs that failed on the node.
mod owing;
/// What is removed, and when not.
mod removal;
/// What stays beside: repair and sweep in the host's mount namespace.
mod sweeping;
/// Installs that stay.
mod watching;
