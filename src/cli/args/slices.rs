//! `hereabouts slices` as clap reads it.

use super::{Format, StoreArgs};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum SlicesCommand {
    /// List slices and the nodes that own them
    ///
    /// A slice is a block of a pool that one node owns. The node gives the addresses in it
    /// without a request, and publishes at most once a minute how many of them are held.
    /// AS OF is the age of what it has published last. It writes only what has changed.
    ///
    /// Exit status: 0 done, 1 failure, 2 wrong usage.
    List(SlicesListArgs),
    /// Remove a slice that was released, so that another node may claim it
    ///
    /// "hereabouts release --node NODE" releases the slices of a node that is off. They
    /// stay until it is certain that the node gives no address from them: they were
    /// released ten minutes ago and its kubelet has not renewed its Lease for as long, or
    /// the node has booted since.
    ///
    /// Exit status: 0 done, 1 failure, 2 wrong usage.
    Remove(SlicesRemoveArgs),
    /// Give back the empty slices of this node now
    ///
    /// The DaemonSet gives them back by itself, the last one of a pool after ten minutes. A
    /// slice stays while an address of it is held: "hereabouts list" shows by whom, and
    /// "hereabouts sweep" frees the addresses of pods that are gone.
    ///
    /// Exit status: 0 done, 1 failure, 2 wrong usage.
    Return,
    /// Compare the slices of this node with the cluster
    ///
    /// For the DaemonSet, which runs it each minute. Creates those again that the cluster
    /// has lost, stops the use of those that are not this node's any more, gives empty
    /// ones back, and publishes what is held in the others.
    #[command(hide = true)]
    Sync,
}

#[derive(Debug, Args)]
pub(crate) struct SlicesListArgs {
    /// Show only the slice of this address
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Option<std::net::IpAddr>,
    /// Show only slices of this pool; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) pool: Vec<String>,
    /// Show only slices of this node
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SlicesRemoveArgs {
    /// The names of the slices, as "kubectl get ipslices" shows them
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
