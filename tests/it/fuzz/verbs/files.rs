//! The file store and the store in memory: their answers are exactly those of the map.

use super::Held;
use super::claims::{Asked, Promise};
use super::world::{Names, World};
use crate::conformance::host;
use hereabouts::ipam::NodeName;
use hereabouts::store::Store;
use hereabouts::store::disk::RealDisk;
use hereabouts::store::file::FileStore;
use hereabouts::store::memory::MemoryStore;
use std::path::PathBuf;

const NODES: &[&str] = &["n1", "n2"];
const SCOPES: &[&str] = &["", "blue", "a/b"];

/// Two nodes on one directory.
pub(super) struct Directory {
    path: PathBuf,
    names: Names,
    stores: Vec<FileStore<RealDisk>>,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        let mut new = Self { path, names: Names::new(NODES, SCOPES), stores: Vec::new() };
        new.reopen();
        new
    }

    /// Returns whether the hint names these candidates, which are one range each.
    fn is_said_exhausted(&self, asked: &Asked<'_>) -> bool {
        let folder =
            asked.scope.name().map_or("@", |name| if name == "a/b" { "a%2Fb" } else { name });
        let text = std::fs::read_to_string(self.path.join("scopes").join(folder).join("exhausted"))
            .unwrap_or_default();
        let named = asked.candidates().ranges().map(|range| range.to_string()).collect::<String>();
        text.lines().any(|line| line.ends_with(&format!(" {named}")))
    }
}

impl World for Directory {
    fn names(&self) -> &Names {
        &self.names
    }

    fn store(&self, node: usize) -> &dyn Store {
        &self.stores[node]
    }

    /// The file store frees what this node made before its last boot, in every scope, before it
    /// reports "full". But it believes another node's note "exhausted" for 5 s.
    fn promise(&self, held: &mut Held, asked: &Asked<'_>) -> Promise {
        if asked.free(held).count() == 0 && !self.is_said_exhausted(asked) {
            asked.sweep(held, NODES[asked.node], |_| true);
        }
        Promise::lowest(asked.free(held))
    }

    fn reopen(&mut self) {
        self.stores =
            NODES.iter().map(|node| FileStore::new(self.path.clone(), host(node))).collect();
    }

    /// A machine takes longer to boot than "exhausted" is believed.
    fn reboot(&mut self, _: usize, _: bool) {
        for scope in std::fs::read_dir(self.path.join("scopes")).into_iter().flatten() {
            let _ = std::fs::remove_file(scope.unwrap().path().join("exhausted"));
        }
    }

    fn operator(&self, node: usize) -> Option<Box<dyn Store>> {
        Some(Box::new(FileStore::new(self.path.clone(), host(NODES[node])).for_dead_node()))
    }
}

/// The store of the first node only.
pub(super) struct Memory {
    names: Names,
    store: MemoryStore,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            names: Names::new(NODES, SCOPES),
            store: MemoryStore::new(NodeName::parse(NODES[0]).unwrap()),
        }
    }
}

impl World for Memory {
    fn names(&self) -> &Names {
        &self.names
    }

    fn store(&self, _: usize) -> &dyn Store {
        &self.store
    }

    fn node(&self, _: usize) -> usize {
        0
    }

    fn promise(&self, held: &mut Held, asked: &Asked<'_>) -> Promise {
        Promise::lowest(asked.free(held))
    }
}
