//! Whether a call of this node has seen that the cluster was set back: its mark in
//! the node state, looked for every few seconds. A `repair` is then not to wait for
//! its hour.

use super::flat_file;
use super::watch::Pause;
use crate::config::StoreKind;
use crate::plugin::machine::read_small;
use std::path::{Path, PathBuf};

/// See above.
pub(super) struct SetBack {
    flat: PathBuf,
    /// Where the node's own `/` is seen.
    root: PathBuf,
    /// The marks for which `repair` is running or was tried.
    tried: Vec<u8>,
    /// Those for which it has ended well: of another cluster, which it does not
    /// repair, they stay.
    repaired: Vec<u8>,
    pause: Pause,
}

impl SetBack {
    /// `namespace` is the node's mount namespace.
    pub(super) fn new(namespace: &Path, flat: PathBuf) -> Self {
        let root = super::host_root(namespace);
        Self { flat, root, tried: Vec::new(), repaired: Vec::new(), pause: Pause::default() }
    }

    /// Whether a `repair` is due. Each time that one fails the next waits longer.
    pub(super) fn is_due(&mut self) -> bool {
        let marks = self.marks();
        if marks.is_empty() {
            self.pause = Pause::default();
            return false;
        }
        if marks == self.repaired || !self.pause.is_over() {
            return false;
        }
        self.tried = marks;
        true
    }

    /// The `repair` that was due has ended.
    pub(super) fn ended(&mut self, well: bool) {
        if well {
            self.repaired.clone_from(&self.tried);
        }
    }

    #[cfg(feature = "kube")]
    fn marks(&self) -> Vec<u8> {
        let settings = read_small(&self.flat).ok().and_then(|bytes| flat_file::read_flat(&self.flat, &bytes).ok());
        let Some(settings) = settings.filter(|settings| matches!(settings.store.kind, StoreKind::Kubernetes { .. })) else {
            return Vec::new();
        };
        let node = settings.node_name.as_ref();
        node.map(|node| crate::store::kube::node_state::revision::marks(&self.root, &settings.store.data_dir, node)).unwrap_or_default()
    }

    #[cfg(not(feature = "kube"))]
    fn marks(&self) -> Vec<u8> {
        Vec::new()
    }
}
