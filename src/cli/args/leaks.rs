//! The options of `hereabouts leaks` as clap reads them.

use super::{Format, StoreArgs};
use crate::cli::selectors;
use clap::Args;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct LeaksArgs {
    /// Show only addresses of this network (the name in its configuration)
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// Show only addresses of this node
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Show only addresses of this pod
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) pod: Option<String>,
    /// Show only addresses of this pool, in the scope of the pool; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) pool: Vec<String>,
    /// Look again after this time, and show only what both looks have found; 2m is long enough
    #[arg(long, value_name = "TIME", value_parser = selectors::parse_duration)]
    pub(crate) wait: Option<Duration>,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
