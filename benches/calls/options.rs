//! The command line of the driver for file stores. `scripts/bench` is the command for users.

use clap::Parser;
use std::path::PathBuf;

/// Measure CNI calls of hereabouts and host-local side by side
#[derive(Parser)]
pub(crate) struct Options {
    /// The hereabouts to measure. Without it, only host-local is measured
    #[arg(long)]
    pub(crate) hereabouts: Option<PathBuf>,
    /// The host-local to measure. Without it, only hereabouts is measured
    #[arg(long)]
    pub(crate) host_local: Option<PathBuf>,
    /// The floor program. Without it, the floor is not measured
    #[arg(long)]
    pub(crate) floor: Option<PathBuf>,
    /// The directory for the stores. It must be on a disk
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Pairs of ADD and DEL per plugin and number of records
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Pairs of host-local at 65000 records, where a call takes very long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slow_runs: u32,
    /// Rounds in which 32 processes at once fill a store to 3200 records and empty it again
    #[arg(long, default_value_t = 3)]
    pub(crate) fills: u32,
    /// Rounds of GC in a store of 100000 records. 0 skips this measurement
    #[arg(long, default_value_t = 3)]
    pub(crate) collections: u32,
    /// The largest number of records to measure at
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) most: u32,
    /// Also write the tables to this file
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Milliseconds of work, three times for each number of writers from 1 to 64. 0 skips this
    /// measurement
    #[arg(long, default_value_t = 1000)]
    pub(crate) sweep: u64,
    /// Draw the charts into this directory
    #[arg(long)]
    pub(crate) charts: Option<PathBuf>,
    /// Show the parts of the time of one ADD and one DEL, and measure nothing else
    #[arg(long, requires = "hereabouts", requires = "floor")]
    pub(crate) profile: bool,
    /// Fill one store of hereabouts up to this container and exit. The program itself uses this, so
    /// that the memory for it is not in the measuring process
    #[arg(long, hide = true)]
    pub(crate) load: Option<u32>,
    /// The first container
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) load_from: u32,
    /// The node of the records
    #[arg(long, hide = true, default_value = crate::NODE)]
    pub(crate) load_node: String,
}
