//! The real executable, stopped and hindered by the kernel: killed at every
//! system call in turn, given an error by every one, killed at random in a
//! storm. After each the checker holds the store against what was printed.
//!
//! Failing steps of the disk port are in `every_step.rs`; here nothing of the
//! process knows that it is tested.

/// Errors in the place of the store's system calls.
mod errors;
/// Killed at each call in turn.
mod every_call;
/// The same for what puts the plugin on a node.
#[cfg(feature = "kube")]
mod install;
/// What is called, and what stands before and after.
mod scene;
/// 64 at once, killed at random moments.
mod storm;
/// strace: which calls there are, and how to stop or refuse one of them.
pub(crate) mod strace;
