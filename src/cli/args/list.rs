//! The options of `hereabouts list` as clap reads them.

use super::{Format, StoreArgs};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// List only addresses of this network (the name in its configuration)
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// List only addresses of this node
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// List only addresses of this pod
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) pod: Option<String>,
    /// List only addresses of this claim of Cluster API
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        conflicts_with_all = ["network", "node", "pod", "debts", "set_aside"]
    )]
    pub(crate) claim: Option<String>,
    /// List only addresses of this pool, in the scope of the pool; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "debts")]
    pub(crate) pool: Vec<String>,
    /// List only the debts of this node: DELs that failed and are not completed yet
    #[arg(long)]
    pub(crate) debts: bool,
    /// List only addresses that this node passes over, because it or another host uses them
    #[arg(long, conflicts_with = "debts")]
    pub(crate) set_aside: bool,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
