//! The Kubernetes store when something fails between the plugin and the objects: the real
//! executable, a proxy that does what the test says, and a real API server that is killed, filled
//! or restored to an older state.
//!
//! ADD succeeds or returns a clear code within its deadline, and an address never has two holders.
//! DEL succeeds or returns an error that makes the runtime try again.

/// Records of another machine under this node's name.
mod another_machine;
/// What the node state keeps for scopes that hold nothing.
mod empty_scopes;
/// What is written today, and what was written earlier.
mod kept_state;
/// Killed at every system call.
mod kills;
/// Writes that the server carries out after their caller has given them up.
mod late;
/// State and objects of a later format.
mod newer;
/// Keys of objects that this version does not know.
mod newer_keys;
/// Node state that is gone, damaged, or another's.
mod node_state;
/// One call with one fault, on the way to the server or back.
mod on_the_way;
/// Answers and certificates that no further attempt changes.
mod refusals;
/// A node behind a proxy.
pub(crate) mod rig;
/// Users that lack one right, and tokens that have ended.
mod rights;
/// The servers are killed, filled, restored.
mod servers;
/// What a node sees of a cluster that was restored to an older state.
mod set_back;
/// Slices of a cluster that was restored.
mod slices_restored;
/// Eight nodes and thousands of calls at once, with all faults.
mod storm;

pub(crate) use rig::install;
