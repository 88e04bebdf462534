//! hereabouts, a CNI IPAM plugin: it answers ADD with an address that no other pod in the cluster
//! holds.
//!
//! In reading order:
//! - [`addr`]: address arithmetic, without I/O
//! - [`json`]: a JSON tree that refuses repeated keys
//! - [`yaml`]: reads YAML as kubectl reads it
//! - [`environment`]: the environment variables, read once
//! - [`retry`]: deadlines, clocks, and the retry loop
//! - [`small_file`]: bounded reads of small files that belong to the machine
//! - `digest`: hashes that stand for a text where it does not fit
//! - [`ipam`]: the core, without I/O: who holds which address, which address comes next, which
//!   sandbox is alive
//! - [`config`]: turns the bytes of a configuration into a network that is ready to use
//! - [`cni`]: the protocol. It knows nothing of ranges or stores
//! - `api_client`: one HTTP request to a Kubernetes API server. It knows nothing of objects
//! - [`store`]: the place of the allocations
//! - `whereabouts`: the objects of Whereabouts, for the move from it
//! - [`wire`]: asks the kernel, and other hosts, who has an address
//! - [`plugin`]: the CNI verbs, one per file, which combine all of the above
//! - [`cli`]: the operator's commands
//! - `controller`: another executable, which answers claims and reports
//!
//! ARCHITECTURE.md shows which module may use which. A test checks it.

pub mod addr;
#[cfg(feature = "kube")]
pub mod api_client;
pub mod cli;
pub mod cni;
pub mod config;
#[cfg(feature = "controller")]
pub mod controller;
pub(crate) mod digest;
pub mod environment;
pub mod ipam;
pub mod json;
pub mod plugin;
pub mod retry;
pub mod small_file;
pub mod store;
#[cfg(feature = "kube")]
pub(crate) mod whereabouts;
pub mod wire;
pub mod yaml;
