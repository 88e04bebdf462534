//! The command line of the driver for the Kubernetes store. `scripts/bench --kubernetes` is the
//! command for users.

use crate::slices;
use clap::Parser;
use std::path::PathBuf;

/// Measure CNI calls of hereabouts and Whereabouts on one API server
#[derive(Parser)]
pub(crate) struct Options {
    /// The hereabouts to measure
    #[arg(long)]
    pub(crate) hereabouts: PathBuf,
    /// A hereabouts without the Kubernetes store, to measure the cost of that store for the file
    /// store
    #[arg(long)]
    pub(crate) without_kube: Option<PathBuf>,
    /// The Whereabouts to measure. Without it, only hereabouts is measured
    #[arg(long)]
    pub(crate) whereabouts: Option<PathBuf>,
    /// The kubectl to use
    #[arg(long)]
    pub(crate) kubectl: PathBuf,
    /// The path of scripts/cluster, which starts the API server
    #[arg(long)]
    pub(crate) cluster: PathBuf,
    /// The directory with the manifests of hereabouts
    #[arg(long)]
    pub(crate) deploy: PathBuf,
    /// The directory for the cluster and the node states. It must be on a disk
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Make few calls of each kind, with at most 1000 entries
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure only pools with slices
    #[arg(long)]
    pub(crate) slices: bool,
    /// Also write the tables to this file
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Draw the charts into this directory
    #[arg(long)]
    pub(crate) charts: Option<PathBuf>,
    /// Run this program once with the standard input of this process, and print its peak memory in
    /// KiB. The program itself uses this, because the kernel counts the memory that the parent had
    /// at the start of a process as the memory of that process
    #[arg(long, hide = true)]
    pub(crate) peak: Option<PathBuf>,
}

/// The amount of work for each case.
pub(crate) struct Amounts {
    /// The numbers of entries at which both plugins are measured.
    pub(crate) fills: &'static [usize],
    /// The number of entries at which only hereabouts is measured.
    pub(crate) most: Option<usize>,
    /// The pairs of ADD and DEL of hereabouts, one at a time.
    pub(crate) pairs: usize,
    /// The pairs of Whereabouts, for each of `fills`.
    pub(crate) their_pairs: &'static [usize],
    /// The number of nodes whose first ADD is measured.
    pub(crate) cold: usize,
    /// For each storm: the calls at once, the ADDs of hereabouts, and those of Whereabouts.
    pub(crate) storms: &'static [(usize, usize, usize)],
    /// The same at the largest number of entries that both plugins have.
    pub(crate) filled_storm: (usize, usize, usize),
    /// The ADDs of Whereabouts with 20 nodes at once.
    pub(crate) their_nodes: usize,
    /// The number of addresses of the range that is filled exactly.
    pub(crate) exact: usize,
    /// The ADDs when that range is full, of hereabouts and of Whereabouts.
    pub(crate) against_full: (usize, usize),
    /// The pairs for the file store, with and without the Kubernetes store in the executable.
    pub(crate) feature_pairs: usize,
    /// The cases of slices.
    pub(crate) slices: slices::Amounts,
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
                slices: slices::Amounts {
                    pairs: 40,
                    their_pairs: [10, 4],
                    held: 1000,
                    pods: 10,
                    theirs: 20,
                    away: 100,
                },
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
            slices: slices::Amounts {
                pairs: 200,
                their_pairs: [60, 15],
                held: 5000,
                pods: 30,
                theirs: 100,
                away: 1000,
            },
        }
    }
}
