//! The options of `hereabouts usage` as clap reads them.

use super::{Format, StoreArgs};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// A NetworkAttachmentDefinition, conflist or plugin configuration; - reads stdin
    #[arg(value_name = "FILE", required_unless_present = "pool")]
    pub(crate) file: Option<PathBuf>,
    /// Show the ranges of this pool of the store; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) pool: Vec<String>,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
