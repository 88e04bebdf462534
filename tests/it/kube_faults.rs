//! The Kubernetes store when something fails between the plugin and the
//! objects: the real executable, a proxy that does what the test says, a real
//! API server that is killed, filled or set back.
//!
//! ADD succeeds or answers a clear code within its deadline, and an address
//! never has two holders; DEL succeeds or answers an error that makes the
//! runtime try again.

/// Records of another machine under this node's name.
mod another_machine;
/// What the node state keeps for scopes that hold nothing.
mod empty_scopes;
/// What is written today, and what was written before.
mod kept_state;
/// Killed at every system call.
mod kills;
/// Writes that the server does after their caller has given them up.
mod late;
/// State and objects of a later format.
mod newer;
/// Keys of objects that this version does not know.
mod newer_keys;
/// Node state that is gone, damaged, or another's.
mod node_state;
/// One call, one fault, on the way to the server and back.
mod on_the_way;
/// Answers and certificates that no attempt will mend.
mod refusals;
/// A node behind a proxy.
pub(crate) mod rig;
/// Users that lack one right, and tokens that are no more.
mod rights;
/// The servers killed, filled, set back.
mod servers;
/// What a node sees of a cluster that was set back.
mod set_back;
/// Eight nodes, thousands of calls, all of it at once.
mod storm;

pub(crate) use rig::install;
