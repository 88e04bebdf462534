//! The command line of the driver for claims. `scripts/bench --claims` is the command for users.

use clap::Parser;
use std::path::PathBuf;

/// Measure hereabouts-controller and the provider of Cluster API on the same claims
#[derive(Parser)]
pub(crate) struct Options {
    /// The hereabouts-controller to measure
    #[arg(long)]
    pub(crate) controller: PathBuf,
    /// The provider to measure
    #[arg(long)]
    pub(crate) provider: PathBuf,
    /// The directory with the custom resources of Cluster API and of the provider
    #[arg(long)]
    pub(crate) resources: PathBuf,
    /// The kubectl to use
    #[arg(long)]
    pub(crate) kubectl: PathBuf,
    /// The path of scripts/cluster, which starts the API server
    #[arg(long)]
    pub(crate) cluster: PathBuf,
    /// The directory with the manifests of hereabouts
    #[arg(long)]
    pub(crate) deploy: PathBuf,
    /// The directory for the clusters. It must be on a disk
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// How many claims are made at once
    #[arg(long, default_value_t = 1000)]
    pub(crate) claims: usize,
    /// Then make so many claims in all, to measure the memory. 0 leaves this out
    #[arg(long, default_value_t = 0)]
    pub(crate) held: usize,
    /// How often both are measured, in turn
    #[arg(long, default_value_t = 1)]
    pub(crate) runs: usize,
    /// Instead measure the memory of hereabouts-controller with 10,000 addresses, 1,000 pods, leak
    /// candidates and 10,000 pools
    #[arg(long)]
    pub(crate) full: bool,
    /// Also write the table to this file
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}
