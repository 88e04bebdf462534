//! `hereabouts store` as clap reads it.

use super::{Format, selectors};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum StoreCommand {
    /// Create a store that machines share, and print its id
    ///
    /// Mount the filesystem, then run this once, on one machine. It prints a random id
    /// and keeps it in the store. If DIR already contains a store, it prints the id of
    /// that store.
    ///
    /// Set the id as store_id in the flat file of each node. A node then refuses every
    /// call while its data_dir does not contain this store. For example, the directory
    /// is empty while the filesystem is not mounted.
    ///
    /// ADD never creates a store on a filesystem that machines share. It also never
    /// creates one in a directory that a flat file names.
    Init(InitArgs),
    /// Forget which store this node has used in a directory
    ///
    /// A node records which store it uses in DIR, and then refuses any other store there.
    /// Run this on the node if it must use another store in DIR. Before that, delete all
    /// pods of the node that hold addresses of the old store.
    Forget(PlaceArgs),
    /// Test whether a filesystem is safe for a store
    ///
    /// Run it on two machines at the same time, with the same directory of a shared
    /// filesystem such as NFS. The two machines find each other there. They use the same
    /// system calls as the store, and test four things. Links: only one machine can
    /// create a name. Locks: only one machine can hold a lock. Renames: a name is never
    /// free while its file is replaced. Old views: how long a machine does not see a
    /// change of the other machine.
    ///
    /// The test takes up to a minute. It works in DIR/.hereabouts-store-test. It removes
    /// this directory at the end, unless it is interrupted. It does not touch a store in
    /// DIR.
    ///
    /// Exit status: 0 safe, 1 unsafe or not proven, 2 wrong usage. Without a second
    /// machine, nothing is proven. The store is safe even if locks do not work between
    /// machines, because links decide who gets an address.
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Recreate a lost store under its old id
    ///
    /// Afterwards, run repair on each node: it recreates the records of the node's pods.
    #[arg(long, value_name = "ID", value_parser = crate::config::parse_store_id)]
    pub(crate) id: Option<String>,
    /// Refuse if this node has used another store: for `install`
    #[arg(long, hide = true)]
    pub(crate) first: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// A directory on the filesystem to test
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Wait this long for the other machine
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = selectors::parse_duration)]
    pub(crate) wait: std::time::Duration,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}
