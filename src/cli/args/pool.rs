//! `hereabouts pool` as clap reads it.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PoolCommand {
    /// Print the pools of other programs as pools of hereabouts
    ///
    /// Reads pools and lists of pools, in YAML or JSON: InClusterIPPool and
    /// GlobalInClusterIPPool of Cluster API, ClusterCIDRConfig of GKE on bare metal,
    /// ClusterCIDR, IPPool and NodeSlicePool of Whereabouts, IPPool and CIDRPool of
    /// NVIDIA, SpiderIPPool, IPPool of Calico, CiliumPodIPPool, CiliumLoadBalancerIPPool,
    /// and IPAddressPool of MetalLB.
    ///
    /// The pools go to stdout. Each setting without a counterpart is named on stderr. So
    /// is each object that is not converted. Held addresses are not converted: their pods
    /// keep them, and a pool does not know about them.
    ///
    /// Exit status: 0 everything is converted, 1 something is not, 2 wrong usage or a file
    /// that cannot be read.
    Convert(ConvertArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Files and directories with pools; - reads stdin
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    pub(crate) output: ManifestFormat,
}

/// How to print Kubernetes objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ManifestFormat {
    /// One YAML document for each object
    Yaml,
    /// One JSON List
    Json,
}
