//! The driver's command line. `scripts/bench` is what people type.

use clap::Parser;
use std::path::PathBuf;

/// Measure CNI calls of hereabouts and host-local side by side
#[derive(Parser)]
pub(crate) struct Options {
    /// The hereabouts to measure; without it host-local is measured alone
    #[arg(long)]
    pub(crate) hereabouts: Option<PathBuf>,
    /// The host-local to measure; without it hereabouts is measured alone
    #[arg(long)]
    pub(crate) host_local: Option<PathBuf>,
    /// The floor program; without it the floor is left out
    #[arg(long)]
    pub(crate) floor: Option<PathBuf>,
    /// Where the stores are made; must be on a disk
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Pairs of ADD and DEL for each plugin and number of records
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Pairs of host-local at 65000 records, where a call takes very long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slow_runs: u32,
    /// Rounds in which 32 processes at once fill a store to 3200 records and
    /// empty it again
    #[arg(long, default_value_t = 3)]
    pub(crate) fills: u32,
    /// Rounds of GC in a store of 100000 records; 0 leaves that out
    #[arg(long, default_value_t = 3)]
    pub(crate) collections: u32,
    /// The largest number of records to measure at
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) most: u32,
    /// Write the tables to this file as well
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Milliseconds that each number of writers works, three times over, at 1 to
    /// 64 writers; 0 leaves that out
    #[arg(long, default_value_t = 1000)]
    pub(crate) sweep: u64,
    /// Draw the charts into this directory
    #[arg(long)]
    pub(crate) charts: Option<PathBuf>,
    /// Show where the time of one ADD and one DEL goes, and measure nothing else
    #[arg(long, requires = "hereabouts", requires = "floor")]
    pub(crate) profile: bool,
    /// Fill one store of hereabouts up to this container and end; used by the
    /// program itself, so that the memory this takes is not in the measuring
    /// process
    #[arg(long, hide = true)]
    pub(crate) load: Option<u32>,
    /// From this container on
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) load_from: u32,
    /// As this node
    #[arg(long, hide = true, default_value = crate::NODE)]
    pub(crate) load_node: String,
}
