//! The real executable, stopped and hindered by the kernel: killed at every system call in turn,
//! given an error by each one, and killed at random among many others. After each case, the checker
//! compares the store with what was printed.
//!
//! Failing steps of the disk port are in `every_step.rs`. Here, nothing in the process knows that
//! it is tested.

/// Errors in place of the store's system calls.
mod errors;
/// Killed at each call in turn.
mod every_call;
/// The same for what puts the plugin on a node.
#[cfg(feature = "kube")]
mod install;
/// The calls, and what must be stored before and after.
mod scene;
/// 64 at once, killed at random moments.
mod storm;
/// strace: lists the system calls, and stops or refuses one of them.
pub(crate) mod strace;
