//! The pools that networks name: those in the files of the check, otherwise those of the cluster, or
//! those that the plugin on this machine would find.

use crate::config::{ConfigError, Content, FlatFile, Pool, Settings, StoreKind, networks};
use crate::plugin::failure::Failure;
use crate::plugin::pools;
use std::collections::BTreeMap;

/// The pools in the files of the check, and in the cluster.
#[derive(Default)]
pub(super) struct KnownPools {
    in_files: BTreeMap<String, Vec<KnownPool>>,
    /// `None` if no cluster is read.
    in_cluster: Option<BTreeMap<String, KnownPool>>,
}

/// A pool, and the file that contains it, or the server.
#[derive(Clone)]
pub(super) struct KnownPool {
    pub(super) file: String,
    pub(super) pool: Pool,
}

/// What occurs in every document of a pool.
const MARK: &[u8] = b"IPPool";

impl KnownPools {
    /// Adds the valid pools in a file. Mistakes are reported when the file is checked.
    pub(super) fn add(&mut self, file: &str, bytes: &[u8]) {
        if !bytes.windows(MARK.len()).any(|part| part == MARK) {
            return;
        }
        each(file, bytes, &mut |known| {
            self.in_files.entry(known.pool.name.clone()).or_default().push(known);
        });
    }

    /// Adds the valid pools of a cluster.
    #[cfg(feature = "kube")]
    pub(super) fn add_cluster(&mut self, pools: Vec<KnownPool>) {
        let all = pools.into_iter().map(|known| (known.pool.name.clone(), known));
        self.in_cluster = Some(all.collect());
    }

    /// Returns the other files that contain a pool of this name.
    pub(super) fn others(&self, name: &str, file: &str) -> Vec<&str> {
        let all = self.in_files.get(name).into_iter().flatten().map(|known| known.file.as_str());
        all.filter(|other| *other != file).collect()
    }

    /// Returns a pool, or a note that says why it cannot be checked.
    ///
    /// # Errors
    /// The cluster has no such pool, or the plugin would not accept the file of the pool on this
    /// machine.
    pub(super) fn find(
        &self,
        name: &str,
        flat: Option<&FlatFile>,
        settings: Option<&Settings>,
    ) -> Result<Result<KnownPool, String>, ConfigError> {
        if let Some(known) = self.in_files.get(name).and_then(|all| all.first()) {
            return Ok(Ok(known.clone()));
        }
        // Which store a node uses may be known only there, so the cluster's pools come before files.
        if let Some(known) = self.in_cluster.as_ref().and_then(|all| all.get(name)) {
            return Ok(Ok(known.clone()));
        }
        let Some(settings) = settings else {
            return Ok(Err(format!("pool {name} was not checked, because the store is not known")));
        };
        if settings.store.kind != StoreKind::File {
            if self.in_cluster.is_some() {
                let reason = format!("no pool has the name {name}");
                return Err(ConfigError::meaning("ipam.pool", reason));
            }
            return Ok(Err(format!(
                "pool {name} was not checked, because it is in the cluster: pass --kubeconfig FILE"
            )));
        }
        let places = pools::places(name, flat, settings);
        let shown = |path: &std::path::PathBuf| path.display().to_string();
        let Some(place) = places.iter().find(|path| path.symlink_metadata().is_ok()) else {
            let looked: Vec<String> = places.iter().map(shown).collect();
            return Ok(Err(format!(
                "pool {name} was not checked, because this machine does not have it (looked for {}): check the file of the pool together with this one",
                looked.join(" and ")
            )));
        };
        match pools::read_file(name, flat, settings) {
            Ok(pool) => Ok(Ok(KnownPool { file: shown(place), pool })),
            Err(Failure::Config(error)) => Err(error),
            Err(other) => Err(ConfigError::meaning("ipam.pool", other.to_string())),
        }
    }
}

/// Calls `visit` with the valid pools in a text.
fn each(file: &str, bytes: &[u8], visit: &mut dyn FnMut(KnownPool)) {
    let _ = networks(bytes, "", &mut |found| {
        if let Content::Pool(document) = found.content
            && let Ok(pool) = Pool::parse(&document, "")
        {
            visit(KnownPool { file: file.to_owned(), pool });
        }
    });
}
