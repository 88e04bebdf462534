//! The command line of the driver for imports. `scripts/bench --import` is the command for users.

use clap::Parser;
use std::path::PathBuf;

/// Measure the import of Whereabouts' addresses
#[derive(Parser)]
pub(crate) struct Options {
    /// The hereabouts to measure
    #[arg(long)]
    pub(crate) hereabouts: PathBuf,
    /// The kubectl to use
    #[arg(long)]
    pub(crate) kubectl: PathBuf,
    /// The path of scripts/cluster, which starts the API server
    #[arg(long)]
    pub(crate) cluster: PathBuf,
    /// The directory with the manifests of hereabouts
    #[arg(long)]
    pub(crate) deploy: PathBuf,
    /// The custom resource of network attachment definitions
    #[arg(long)]
    pub(crate) networks: PathBuf,
    /// The directory for the cluster. It must be on a disk
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// How many addresses pods hold
    #[arg(long, default_value_t = 10_000)]
    pub(crate) held: usize,
    /// In how many pools they are
    #[arg(long, default_value_t = 20)]
    pub(crate) pools: usize,
    /// Also write the table to this file
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}
