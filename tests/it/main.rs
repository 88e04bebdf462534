//! The integration tests: one binary, with one line for each module.

#![allow(missing_docs, reason = "tests say what they are for in their names")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed"
)]

/// Prints that a test is skipped and why, under the test's own name: `scripts/test` counts these
/// lines. `return skipped!("needs root")` ends a test.
macro_rules! skipped {
    ($($reason:tt)*) => {
        println!("SKIPPED {}: {}", std::thread::current().name().unwrap_or("?"), format_args!($($reason)*))
    };
}

mod support;

/// Nodes of Whereabouts and of hereabouts that give addresses out of one range.
#[cfg(feature = "kube")]
mod both_at_once;
/// Disks that are full, read-only, planted or damaged.
mod broken_disks;
/// The log of calls.
mod call_log;
/// Filesystems that ignore case.
mod case_folding;
/// Addresses that claims of Cluster API hold, as verbs and commands see them.
#[cfg(feature = "kube")]
mod claims;
/// The client of the Kubernetes API.
#[cfg(feature = "kube")]
mod client;
/// A real API server and etcd, with scripts/cluster.
#[cfg(feature = "kube")]
mod cluster;
/// The operator's commands.
mod commands;
/// Many processes at once.
mod concurrency;
/// `config check`: what it reads, what it prints, and its exit status.
mod config_check;
/// The list of behaviors that every store passes.
mod conformance;
/// The controller as a process: its lease, its HTTP server, its rights.
#[cfg(feature = "controller")]
mod controller;
/// How often a call syncs, and which calls write nothing.
mod costs;
/// What a DEL that fails leaves, and who settles it.
mod debts;
/// Every decision of ARCHITECTURE.md, section "Decisions".
mod decisions;
/// deploy/: manifests, chart, and both on a real API server.
#[cfg(feature = "kube")]
mod deploy;
/// Which address families an ADD gives, and in which order.
mod dual_stack;
/// Directories that nothing uses any more.
mod empty_directories;
/// Every step of every call fails.
mod every_step;
mod evidence;
/// `explain`: the answer of the next ADD, and why.
mod explain;
/// No process reads the answer, or the store is not what it should be.
mod faults;
/// Filesystems on which machines cannot share a store.
mod filesystems;
/// Stores that earlier and later versions wrote.
mod formats;
/// Thousands of changed inputs: configurations, stored bytes, sequences.
mod fuzz;
/// Gateways that existing records name.
mod gateways;
/// The help of every command, in full.
#[cfg(feature = "kube")]
mod help;
/// Moving in from other IPAM plugins while their pods run.
mod import;
/// `import whereabouts`: what it finds in a cluster of the real Whereabouts.
#[cfg(feature = "kube")]
mod import_whereabouts;
/// Addresses that the node itself or another host has.
mod in_use;
/// What a process inherits from its caller.
mod inherited;
/// `install` and `uninstall` on nodes of their own.
#[cfg(feature = "kube")]
mod install;
/// Calls that are stopped while others continue.
mod interleavings;
/// Claims of addresses that outlive a pod.
#[cfg(feature = "kube")]
mod ipam_claims;
/// The executable killed at every system call, refused by each, and killed among many others.
mod kills;
/// The requests of the Kubernetes store to the API server.
#[cfg(feature = "kube")]
mod kube_costs;
/// The API server fails in every way, is slow, or forgets.
#[cfg(feature = "kube")]
mod kube_faults;
/// Addresses whose holders are probably gone.
#[cfg(feature = "kube")]
mod leaks;
mod limits;
/// What a shared store has lost, and the notes that restore it.
mod lost_records;
/// Claims of Cluster API, answered by the controller.
#[cfg(feature = "controller")]
mod machines;
/// What the main plugins do with the answer.
mod main_plugins;
/// Many writers at once, against a model.
mod many_writers;
/// Every error as text, in full.
#[cfg(feature = "kube")]
mod messages;
/// The move from Whereabouts, on a real API server.
#[cfg(feature = "kube")]
mod moving;
/// Pods, Multus and macvlan on a real API server, nodes as network namespaces.
#[cfg(feature = "kube")]
mod multus;
mod named_files;
mod not_mounted;
/// What the commands print, in full.
#[cfg(feature = "kube")]
mod outputs;
/// Real host-local and Whereabouts beside hereabouts.
#[cfg(feature = "kube")]
mod peers;
/// The pools of other programs, printed as ours.
#[cfg(feature = "kube")]
mod pool_convert;
/// Named pools of addresses that networks share.
mod pools;
/// Power loss after any step, on a disk with a cache.
mod power_loss;
/// cnitool and the real main plugins, in network namespaces; the demo.
mod real_configurations;
mod real_parts;
/// A node whose name changes while its pods live.
mod renamed;
/// A pod whose sandbox is created again keeps its address.
mod reservations;
mod reuse_after;
mod same_address;
/// Every interleaving of two calls, step by step.
#[cfg(feature = "kube")]
mod schedules;
/// Two mounts of a real shared filesystem; started by scripts/test-shared-fs.
mod shared_fs;
/// Pools with slices: blocks that a node owns.
#[cfg(feature = "kube")]
mod slices;
/// The command that tests a filesystem, on good filesystems and on bad ones.
mod sticky;
mod store_test;
/// What another machine of a node's name has left.
#[cfg(feature = "kube")]
mod take_over;
/// Rules on the sources and documents themselves.
mod tidy;
/// Records of the previous version, with living pods.
mod upgrade;
/// `validate dual-stack` on a real API server.
#[cfg(feature = "kube")]
mod validate_dual_stack;
/// The test vectors of the protocol, with the real executable.
mod vectors;
/// What is wrong with a store, and its repair.
mod verify;
