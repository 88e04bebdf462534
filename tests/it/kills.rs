//! The real executable, stopped by the kernel: killed at every system call in
//! turn. After each kill the checker holds the store against what was printed.
//!
//! Failing steps of the disk port are in `every_step.rs`; here nothing of the
//! process knows that it is tested.

/// Killed at each call in turn.
mod every_call;
/// What is called, and what stands before and after.
mod scene;
/// strace: which calls there are, and how to stop one of them.
mod strace;
