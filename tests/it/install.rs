//! `install` and `uninstall` as processes on nodes of their own: each node is a directory with the
//! directories for plugins and configuration, and a pod's token and CA. Rollouts, pods and the API
//! server are in `deploy.rs`.

/// While a call is in progress.
mod beside_a_call;
/// Over an install of another kind.
mod changing;
/// The files of a node, and installs that keep running.
pub(crate) mod node;
/// One run: what it writes, keeps and refuses.
mod once;
/// DELs that failed on the node.
mod owing;
/// What is removed, and when nothing is.
mod removal;
/// The periodic tasks: repair and sweep in the host's mount namespace.
mod sweeping;
/// Installs that keep running.
mod watching;
