//! `hereabouts import` as clap reads it.

use super::{Format, StoreArgs};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Take over what host-local has given on this node
    ///
    /// Run it on the node. For each address in the files of host-local whose sandbox runs,
    /// it writes a record, so that DEL, CHECK, GC and sweep work as if hereabouts had given
    /// the address. It may be repeated: what is recorded already stays as it is. It does not
    /// change the files of host-local.
    ///
    /// The configuration of each network and the namespace of each sandbox come from the
    /// results that the container runtime or Multus keeps below --cache-dir.
    ///
    /// Exit status: 0 everything is recorded or its sandbox is gone, 1 something is left, or
    /// failure, 2 wrong usage.
    HostLocal(ImportHostLocalArgs),
    /// Take over what Whereabouts has given
    ///
    /// With --kubeconfig, from anywhere, it reads the IPPools, reservations and node slices
    /// of Whereabouts, and the pods, nodes and NetworkAttachmentDefinitions of the cluster.
    /// It records each address whose pod lives, is on a known node, and has the address on
    /// the interface by its network-status. An address whose pod is gone or has ended is not
    /// needed. Everything else is left, with the reason and what to do. The kubeconfig's user
    /// needs the right to list all of these, and to create ipallocations.
    ///
    /// On a node, without --kubeconfig, it records the addresses of the sandboxes that run
    /// there, and completes what was imported from elsewhere: it adds the namespace of the
    /// sandbox, so that sweep can tell whether the sandbox is gone.
    ///
    /// It never changes the objects of Whereabouts. It may be repeated.
    ///
    /// Exit status: 0 nothing is left, 1 something is left, or failure, 2 wrong usage.
    #[cfg(feature = "kube")]
    Whereabouts(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ImportHostLocalArgs {
    /// The data directory of host-local, which has a directory for each network
    #[arg(value_name = "DIR", default_value = "/var/lib/cni/networks")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) import: ImportArgs,
}

/// The options of every import.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Show what would be recorded, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Read the results that a runtime keeps here, below "results"; may be repeated
    #[arg(long, value_name = "DIR", default_values = ["/var/lib/cni", "/var/lib/cni/multus"])]
    pub(crate) cache_dir: Vec<PathBuf>,
    /// Read the networks as they will be from this file or directory; may be repeated
    ///
    /// Their network_name says in which scope an address is recorded. Without it, the scope is
    /// that of the configuration that the pod was started with.
    #[arg(long, value_name = "FILE")]
    pub(crate) network: Vec<PathBuf>,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
