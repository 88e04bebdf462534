//! hereabouts, a CNI IPAM plugin: it answers ADD with an address that nobody
//! else in the cluster holds.
//!
//! In reading order:
//! - [`addr`]: address arithmetic; no I/O
//! - [`json`]: a JSON tree that refuses repeated keys
//! - [`environment`]: the variables that hereabouts reads
//! - [`retry`]: deadlines, the clock, and the retry loop
//! - [`small_file`]: bounded reads of small files that belong to the machine
//! - [`ipam`]: the pure core: who holds what, which address next
//! - [`config`]: bytes of a configuration to a network that is ready to use
//! - [`cni`]: the protocol; knows nothing of addresses or stores
//! - `api_client`: one HTTP request to a Kubernetes API server; knows no objects
//! - [`store`]: where allocations live
//! - [`plugin`]: all of it put together, one verb a file
//! - [`cli`]: the operator's commands
//!
//! Who may use whom is drawn in ARCHITECTURE.md and held by a test.

pub mod addr;
#[cfg(feature = "kube")]
pub mod api_client;
pub mod cli;
pub mod cni;
pub mod config;
pub(crate) mod digest;
pub mod environment;
pub mod ipam;
pub mod json;
pub mod plugin;
pub mod retry;
pub mod small_file;
pub mod store;
