//! What an install or uninstall does on this node, decided before anything is written.

use crate::ipam::NodeName;
use std::path::PathBuf;

/// The name of the plugin, and the one that it takes over if asked.
pub(super) const NAMES: &[&str] = &["hereabouts", "whereabouts"];
/// All that is decided before anything is done.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where the executable goes.
    pub(super) bin_dir: PathBuf,
    /// Under which names.
    pub(super) names: &'static [&'static str],
    /// Where flat file and kubeconfig go.
    pub(super) directory: PathBuf,
    /// Whose they are.
    pub(super) node: NodeName,
    /// The flat file; empty where nothing is to be written, and where whatever
    /// is there will do.
    pub(super) flat: String,
    /// What the kubeconfig is made of; `None` where none is written.
    pub(super) credentials: Option<Credentials>,
    /// For a check: what the install says that stays here, of which the rest of
    /// the plan then says nothing.
    pub(super) running: Option<Result<(), String>>,
}

/// What the kubeconfig is made of.
#[derive(Debug)]
pub(super) struct Credentials {
    /// URL.
    pub(super) server: String,
    /// Read again each time.
    pub(super) token_file: PathBuf,
    /// Read again each time.
    pub(super) ca_file: PathBuf,
    /// Permissions of the kubeconfig.
    pub(super) mode: u32,
    /// A person names the server: a token is theirs then, not the pod's.
    pub(super) by_hand: bool,
}

impl Plan {
    /// Where the flat file is.
    pub(super) fn flat_path(&self) -> PathBuf {
        self.directory.join("hereabouts.conf")
    }

    /// Where the kubeconfig is.
    pub(super) fn kubeconfig_path(&self) -> PathBuf {
        self.directory.join("hereabouts.kubeconfig")
    }

    /// Where the executable is, by each of its names.
    pub(super) fn executables(&self) -> impl Iterator<Item = PathBuf> {
        self.names.iter().map(|name| self.bin_dir.join(name))
    }
}
