//! Decides whether an install may replace the store that the node's flat file names. It may not
//! while pods of this node hold addresses there, because their DELs would ask the new store. If the
//! store stays the same, no store is asked.

use super::super::output;
use super::executables_aside::ExecutablesAside;
use super::plan::Plan;
use super::watch::Pause;
use super::{flat_file, kubeconfig, remove};
use crate::config::{Settings, StoreKind};
use crate::environment::Environment;
use crate::plugin::machine::read_small;
use crate::plugin::stores;
use anyhow::{Context, bail};
use std::path::Path;

/// The decision, with its earlier refusal. See the module.
pub(super) struct StoreGuard<'a> {
    environment: &'a Environment,
    namespace: &'a Path,
    /// Whether a person runs the install. An install that keeps running gets its API server from
    /// the cluster that it is in, and the URL and the CA of that cluster may change over time.
    by_hand: bool,
    pause: Pause,
    refusal: String,
}

impl<'a> StoreGuard<'a> {
    pub(super) fn new(environment: &'a Environment, namespace: &'a Path, by_hand: bool) -> Self {
        Self { environment, namespace, by_hand, pause: Pause::default(), refusal: String::new() }
    }

    /// Returns the permission. If a store was asked, no call of the plugin begins before the caller
    /// has done the change: an ADD that ended between the answer and the change would leave an
    /// address in a store that no DEL asks.
    ///
    /// # Errors
    /// The reason why the store may not be replaced.
    pub(super) fn allow(&mut self, plan: &Plan) -> anyhow::Result<ExecutablesAside> {
        let flat = plan.flat_path();
        let present = read_small(&flat);
        if present.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(ExecutablesAside::default());
        }
        // A flat file that cannot be read does not show its store, so the store is asked.
        let stays = present.is_ok_and(|bytes| self.stays(plan, &bytes).unwrap_or(false));
        if stays {
            return Ok(ExecutablesAside::default());
        }
        if self.refusal.is_empty() || self.pause.is_over() {
            let asked = remove::quiet_node(plan, self.namespace);
            match asked.with_context(|| format!("{} names another store or node", flat.display())) {
                Ok(quiet) => {
                    self.refusal.clear();
                    return Ok(quiet);
                }
                Err(error) => self.refusal = output::in_one_line(&error),
            }
        }
        bail!("{}", self.refusal)
    }

    /// Returns whether the store and the node are those of the current flat file.
    fn stays(&self, plan: &Plan, present: &[u8]) -> anyhow::Result<bool> {
        if present == plan.flat.as_bytes() {
            return Ok(!self.is_another_cluster(plan)?);
        }
        let flat = plan.flat_path();
        let (before, after) = (
            flat_file::read_flat(&flat, present)?,
            flat_file::read_flat(&flat, plan.flat.as_bytes())?,
        );
        Ok(before.node_name == after.node_name && self.is_same_store(plan, &before, &after)?)
    }

    fn is_same_store(
        &self,
        plan: &Plan,
        before: &Settings,
        after: &Settings,
    ) -> anyhow::Result<bool> {
        match (&before.store.kind, &after.store.kind) {
            (StoreKind::File, StoreKind::File) => {
                let same_id = before.store.id.is_none() || before.store.id == after.store.id;
                Ok(same_id && before.store.data_dir == after.store.data_dir)
            }
            (
                StoreKind::Kubernetes { kubeconfig: before },
                StoreKind::Kubernetes { kubeconfig: after },
            ) if before == after => Ok(!self.is_another_cluster(plan)?),
            (
                StoreKind::Kubernetes { kubeconfig: before },
                StoreKind::Kubernetes { kubeconfig: after },
            ) => {
                let to_be = match &plan.credentials {
                    Some(credentials) => credentials.server.clone(),
                    None => stores::server(after, &self.environment.proxy)?,
                };
                Ok(stores::server(before, &self.environment.proxy)?.trim_end_matches('/')
                    == to_be.trim_end_matches('/'))
            }
            _ => Ok(false),
        }
    }

    /// Returns whether the new credentials are for a different cluster. A cluster may get another
    /// URL or another CA; a different cluster has both.
    fn is_another_cluster(&self, plan: &Plan) -> anyhow::Result<bool> {
        let path = plan.kubeconfig_path();
        let Some(credentials) = plan.credentials.as_ref().filter(|_| self.by_hand && path.exists())
        else {
            return Ok(false);
        };
        let (before, after) =
            (String::from_utf8(read_small(&path)?)?, kubeconfig::render(credentials)?);
        let differ =
            |key: &str| kubeconfig::line_of(&before, key) != kubeconfig::line_of(&after, key);
        Ok(differ("server: ") && differ("certificate-authority-data: "))
    }
}
