//! Holds what an install or uninstall does on this node, decided before anything is written.

use crate::ipam::NodeName;
use std::path::PathBuf;

/// The name of the plugin, and the name that it takes over on request.
pub(super) const NAMES: &[&str] = &["hereabouts", "whereabouts"];

/// All decisions of an install or uninstall.
#[derive(Debug)]
pub(super) struct Plan {
    /// The directory of the executable.
    pub(super) bin_dir: PathBuf,
    /// The names of the executable.
    pub(super) names: &'static [&'static str],
    /// The directory of the flat file and the kubeconfig.
    pub(super) directory: PathBuf,
    /// The node that they are for.
    pub(super) node: NodeName,
    /// The flat file. It is empty if none is to be written, or if any existing one will do.
    pub(super) flat: String,
    /// The contents of the kubeconfig; `None` if none is written.
    pub(super) credentials: Option<Credentials>,
    /// For a check: the state of the running install. If there is one, the rest of the plan is not
    /// used.
    pub(super) running: Option<Result<(), String>>,
}

/// The contents of the kubeconfig.
#[derive(Debug)]
pub(super) struct Credentials {
    /// The URL of the API server.
    pub(super) server: String,
    /// The file of the token. It is read each time.
    pub(super) token_file: PathBuf,
    /// The file of the CA. It is read each time.
    pub(super) ca_file: PathBuf,
    /// The permissions of the kubeconfig.
    pub(super) mode: u32,
    /// Whether a person named the server. In that case, the token is also given by that person, and
    /// is not the pod's.
    pub(super) by_hand: bool,
}

impl Plan {
    /// Returns the path of the flat file.
    pub(super) fn flat_path(&self) -> PathBuf {
        self.directory.join("hereabouts.conf")
    }

    /// Returns the path of the kubeconfig.
    pub(super) fn kubeconfig_path(&self) -> PathBuf {
        self.directory.join("hereabouts.kubeconfig")
    }

    /// Returns the paths of the executable, one for each of its names.
    pub(super) fn executables(&self) -> impl Iterator<Item = PathBuf> {
        self.names.iter().map(|name| self.bin_dir.join(name))
    }
}
