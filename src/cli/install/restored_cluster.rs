//! Finds out whether a call of this node has seen that the cluster was restored to an older state.
//! It checks every few seconds for the mark of that call in the node state. If there is one,
//! `repair` runs at once and not at its scheduled time.

use super::flat_file;
use super::watch::Pause;
use crate::config::StoreKind;
use crate::plugin::machine::read_small;
use std::path::{Path, PathBuf};

/// The marks and the repairs for them. See the module.
pub(super) struct SetBack {
    flat: PathBuf,
    /// The path at which the node's own `/` is visible.
    root: PathBuf,
    /// The marks for which `repair` is running or was tried.
    tried: Vec<u8>,
    /// The marks for which `repair` has succeeded. Marks for a different cluster stay, because
    /// `repair` does not act on that cluster.
    repaired: Vec<u8>,
    pause: Pause,
}

impl SetBack {
    /// Creates the state. `namespace` is the node's mount namespace.
    pub(super) fn new(namespace: &Path, flat: PathBuf) -> Self {
        let root = super::host_root(namespace);
        Self { flat, root, tried: Vec::new(), repaired: Vec::new(), pause: Pause::default() }
    }

    /// Returns whether a `repair` is due. After each failure, the next one waits longer.
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

    /// Records the end of the `repair` that was due.
    pub(super) fn ended(&mut self, well: bool) {
        if well {
            self.repaired.clone_from(&self.tried);
        }
    }

    #[cfg(feature = "kube")]
    fn marks(&self) -> Vec<u8> {
        let settings = read_small(&self.flat)
            .ok()
            .and_then(|bytes| flat_file::read_flat(&self.flat, &bytes).ok());
        let Some(settings) =
            settings.filter(|settings| matches!(settings.store.kind, StoreKind::Kubernetes { .. }))
        else {
            return Vec::new();
        };
        let node = settings.node_name.as_ref();
        node.map(|node| {
            crate::store::kube::node_state::revision::marks(
                &self.root,
                &settings.store.data_dir,
                node,
            )
        })
        .unwrap_or_default()
    }

    #[cfg(not(feature = "kube"))]
    fn marks(&self) -> Vec<u8> {
        Vec::new()
    }
}
