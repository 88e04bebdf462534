//! The pools that networks name: those in the files of the check, otherwise those that the plugin on
//! this machine would find.

use crate::config::{ConfigError, Content, FlatFile, Pool, Settings, StoreKind, networks};
use crate::plugin::failure::Failure;
use crate::plugin::pools;
use std::collections::BTreeMap;

/// The pools in the files of the check.
#[derive(Default)]
pub(super) struct KnownPools(BTreeMap<String, Vec<KnownPool>>);

/// A pool, and the file that contains it.
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
        let _ = networks(bytes, "", &mut |found| {
            if let Content::Pool(document) = found.content
                && let Ok(pool) = Pool::parse(&document, "")
            {
                let known = KnownPool { file: file.to_owned(), pool };
                self.0.entry(known.pool.name.clone()).or_default().push(known);
            }
        });
    }

    /// Returns the other files that contain a pool of this name.
    pub(super) fn others(&self, name: &str, file: &str) -> Vec<&str> {
        let all = self.0.get(name).into_iter().flatten().map(|known| known.file.as_str());
        all.filter(|other| *other != file).collect()
    }

    /// Returns a pool, or a note that says why it cannot be checked.
    ///
    /// # Errors
    /// The plugin would not accept the file of the pool on this machine.
    pub(super) fn find(
        &self,
        name: &str,
        flat: Option<&FlatFile>,
        settings: Option<&Settings>,
    ) -> Result<Result<KnownPool, String>, ConfigError> {
        if let Some(known) = self.0.get(name).and_then(|all| all.first()) {
            return Ok(Ok(known.clone()));
        }
        let Some(settings) = settings else {
            return Ok(Err(format!("pool {name} was not checked, because the store is not known")));
        };
        if settings.store.kind != StoreKind::File {
            return Ok(Err(format!(
                "pool {name} was not checked, because it is in the cluster: save it with \"kubectl get ippools.hereabouts.dev {name} -o yaml\", and check that file together with this one"
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
