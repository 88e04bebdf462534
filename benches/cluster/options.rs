//! The driver's command line. `scripts/bench --kubernetes` is what people type.

use clap::Parser;
use std::path::PathBuf;

/// Measure CNI calls of hereabouts and Whereabouts on one API server
#[derive(Parser)]
pub(crate) struct Options {
    /// The hereabouts to measure
    #[arg(long)]
    pub(crate) hereabouts: PathBuf,
    /// A hereabouts without the Kubernetes store, for what that store costs the
    /// other one
    #[arg(long)]
    pub(crate) without_kube: Option<PathBuf>,
    /// The Whereabouts to measure; without it hereabouts is measured alone
    #[arg(long)]
    pub(crate) whereabouts: Option<PathBuf>,
    /// kubectl
    #[arg(long)]
    pub(crate) kubectl: PathBuf,
    /// scripts/cluster, which starts the API server
    #[arg(long)]
    pub(crate) cluster: PathBuf,
    /// The manifests of hereabouts
    #[arg(long)]
    pub(crate) deploy: PathBuf,
    /// Where the cluster and the nodes' states are made; must be on a disk
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Few calls of each kind, nothing at more than 1000 entries
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write the tables to this file as well
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Draw the charts into this directory
    #[arg(long)]
    pub(crate) charts: Option<PathBuf>,
    /// Run this program once with what is on standard input, and print its peak
    /// memory in KiB; used by the program itself, because the kernel counts to a
    /// process what its parent had when it was started
    #[arg(long, hide = true)]
    pub(crate) peak: Option<PathBuf>,
}

/// How much of each is done.
pub(crate) struct Amounts {
    /// Numbers of entries at which both are measured.
    pub(crate) fills: &'static [usize],
    /// And ours alone.
    pub(crate) most: Option<usize>,
    /// Pairs of ADD and DEL of ours, one at a time.
    pub(crate) pairs: usize,
    /// Of theirs, for each of `fills`.
    pub(crate) their_pairs: &'static [usize],
    /// First ADDs of nodes.
    pub(crate) cold: usize,
    /// How many at once, how many ADDs of ours, how many of theirs.
    pub(crate) storms: &'static [(usize, usize, usize)],
    /// The same at the most entries that both have.
    pub(crate) filled_storm: (usize, usize, usize),
    /// ADDs of theirs with 20 nodes at once.
    pub(crate) their_nodes: usize,
    /// Addresses of the range that is to be filled exactly.
    pub(crate) exact: usize,
    /// ADDs against it when it is full, of ours and of theirs.
    pub(crate) against_full: (usize, usize),
    /// Pairs for the file store with and without the feature.
    pub(crate) feature_pairs: usize,
}

impl Options {
    pub(crate) fn amounts(&self) -> Amounts {
        if self.quick {
            return Amounts {
                fills: &[0, 1000],
                most: None,
                pairs: 40,
                their_pairs: &[10, 4],
                cold: 3,
                storms: &[(1, 40, 10), (10, 100, 10), (50, 200, 50)],
                filled_storm: (50, 200, 10),
                their_nodes: 20,
                exact: 100,
                against_full: (100, 20),
                feature_pairs: 200,
            };
        }
        Amounts {
            fills: &[0, 1000, 5000],
            most: Some(50_000),
            pairs: 200,
            their_pairs: &[60, 30, 15],
            cold: 10,
            storms: &[(1, 200, 60), (10, 500, 100), (50, 1000, 150), (200, 2000, 200)],
            filled_storm: (50, 1000, 50),
            their_nodes: 100,
            exact: 1000,
            against_full: (500, 100),
            feature_pairs: 2000,
        }
    }
}
