//! `hereabouts pool` as clap reads it.

#[cfg(feature = "kube")]
use crate::cli::Format;
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
    /// Show which addresses the controller takes over from the provider of Cluster API
    ///
    /// hereabouts-controller takes over the pools of Cluster API's in-cluster provider. It
    /// holds the address of each IPAddress before it answers a claim, so that nobody gets
    /// that address again. This command shows it beforehand, for each InClusterIPPool and
    /// GlobalInClusterIPPool: which addresses are held already, which would be held, and
    /// which are in conflict, because somebody else holds them or two IPAddresses have the
    /// same one. In a conflict, both stay, and the controller's log names them.
    ///
    /// It reads the API and changes nothing. Without --dry-run it only says who adopts.
    ///
    /// Exit status: 0 no conflicts, 1 conflicts, or a list cannot be read, 2 wrong usage.
    #[cfg(feature = "kube")]
    Adopt(AdoptArgs),
}

#[cfg(feature = "kube")]
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// Show only these pools: NAMESPACE/NAME, or NAME of a GlobalInClusterIPPool
    #[arg(value_name = "POOL")]
    pub(crate) pools: Vec<String>,
    /// Show what the controller would do, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Read the management cluster that this kubeconfig points to
    #[arg(long, value_name = "FILE", required_if_eq("dry_run", "true"))]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
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
