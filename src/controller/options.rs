//! The options of the controller.

use clap::Parser;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Answers the claims of machines (Cluster API) out of pools, and reports what the cluster holds
#[derive(Debug, Parser)]
#[command(name = "hereabouts-controller", version)]
pub struct Options {
    /// The kubeconfig. By default $KUBECONFIG, and in a pod its ServiceAccount
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The address for health, readiness, metrics and the page
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Write only while this replica holds the lease. Needed if there are several replicas
    #[arg(long)]
    pub leader_elect: bool,
    /// The namespace of the lease
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    pub lease_namespace: String,
    /// Answer claims of Cluster API's pools although its own provider runs, too. Only safe if that
    /// provider watches other namespaces
    #[arg(long)]
    pub beside_provider: bool,
    /// Free the addresses of nodes whose Node object was deleted, and that give no sign of life for
    /// ten minutes. Pods of a node that is only cut off, or whose kubelet is stopped, lose their
    /// addresses: delete a Node only if its machine is off
    #[arg(long)]
    pub release_deleted_nodes: bool,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// The text for the user, which is also the help.
    pub fn read(arguments: impl Iterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments)
    }
}
