//! Whether a call of this node has seen that the cluster was set back: its mark in
//! the node state, looked for every few seconds. A `repair` is then not to wait for
//! its hour.

use super::options;
use super::watch::Pause;
use crate::config::StoreKind;
use crate::plugin::host::read_small;
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
    /// `namespace` is the node's mount namespace, below its process in /proc.
    pub(super) fn new(namespace: &Path, flat: PathBuf) -> Self {
        let process = namespace.parent().and_then(Path::parent).filter(|_| namespace.ends_with("ns/mnt"));
        let root = process.map_or_else(|| PathBuf::from("/"), |process| process.join("root"));
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
        let settings = read_small(&self.flat).ok().and_then(|bytes| options::read_flat(&self.flat, &bytes).ok());
        let Some(settings) = settings.filter(|settings| matches!(settings.store.kind, StoreKind::Kubernetes { .. })) else {
            return Vec::new();
        };
        let node = settings.node_name.as_ref();
        node.map(|node| crate::store::kube::revision::marks(&self.root, &settings.store.data_dir, node)).unwrap_or_default()
    }

    #[cfg(not(feature = "kube"))]
    fn marks(&self) -> Vec<u8> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_files_are_seen_through_the_process_whose_mounts_they_are_in() {
        for (namespace, root) in [("/proc/1/ns/mnt", "/proc/1/root"), ("/run/mounts", "/"), ("mnt", "/")] {
            assert_eq!(SetBack::new(Path::new(namespace), PathBuf::new()).root, Path::new(root), "{namespace}");
        }
    }
}
