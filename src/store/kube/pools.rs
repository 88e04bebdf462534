//! Pools in the Kubernetes store: IPPool objects, and the labels of this node's Node object.
//!
//! An ADD of a network with pools needs both before it can choose an address. So that it does not
//! have to ask each time, the node keeps the last answer in its node state, for [`FRESH`]. A node
//! asks only for the pools that its own pods use, and only while pods are started: no list, no
//! watch, and nothing from a node that is idle. A change of a pool therefore counts on every node
//! after [`FRESH`] at most, also on a node that is cut off from the API server.
//!
//! A node that owns slices needs no API server for an ADD, so it uses a copy of a pool with slices of
//! any age while it owns slices. The DaemonSet reads the pools again each minute on such a node
//! (`slices sync`).
//!
//! The age of a copy is the time since the boot, which nobody sets back, and a copy of another boot
//! or another cluster is none. If the API server does not answer, an older copy would be of no use:
//! it must not give an address, and the repetition of an answer asks the API server, too.

use super::KubeStore;
use super::api::read::unreadable;
use super::api::retries::NODES;
use super::api::{Api, escape};
use super::objects::ip_allocation::{GROUP, VERSION};
use super::objects::ip_pool;
use crate::digest;
use crate::ipam::names_network;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::pools::{Read, StoredPool};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For how long an answer of the API server is used again.
const FRESH: Duration = Duration::from_secs(60);

/// The begin of the names of the files with copies of pools, and the file with that of the labels.
const POOL: &str = "pool-";
const LABELS: &str = "node-labels";

/// An answer that is kept, as it is written before the document.
#[derive(Serialize, Deserialize)]
struct Head {
    cluster: String,
    boot: String,
    /// When the API server was asked: milliseconds since the boot.
    asked: u64,
}

/// The part of an object that is kept.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pool {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    metadata: Metadata,
    spec: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deletion_timestamp: Option<String>,
}

#[derive(Deserialize)]
struct Node {
    metadata: NodeMetadata,
}

#[derive(Deserialize)]
struct NodeMetadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl KubeStore {
    /// Implements [`crate::store::Store::pool`].
    pub(super) fn read_pool(
        &self,
        name: &str,
        read: Read,
        deadline: &Deadline,
    ) -> Result<Option<StoredPool>, StoreError> {
        let lasts = |document: &[u8]| has_slices(document) && self.owns_slices();
        let copied =
            self.copied(&path_of_pool(name), read, &lasts, || self.api.pool(name, deadline))?;
        Ok(copied.map(|(document, is_copy)| StoredPool { document, is_copy }))
    }

    /// Implements [`crate::store::Store::node_labels`].
    pub(super) fn read_node_labels(
        &self,
        read: Read,
        deadline: &Deadline,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let node = self.host.node.as_str();
        let lasts = |_: &[u8]| self.owns_slices();
        let copied =
            self.copied(Path::new(LABELS), read, &lasts, || self.api.node_labels(node, deadline))?;
        let Some((document, _)) = copied else {
            return Err(no_node(&self.api.server.url(), node));
        };
        serde_json::from_slice(&document)
            .map_err(|error| unreadable(&self.api.server.url(), NODES, &error))
    }

    /// Reads the pools again of which the node has copies or owns slices, and the labels of the
    /// node if it has a copy of them. A pool that cannot be read keeps its copy.
    pub(super) fn refresh_copies(&self, deadline: &Deadline) -> Result<(), StoreError> {
        let mut names: BTreeSet<String> =
            self.noted_slices()?.into_iter().map(|slice| slice.object.spec.pool).collect();
        names.retain(|pool| !names_network(pool));
        let now = self.state.disk().since_boot();
        for file in self.state.names("")? {
            let path = Path::new(&file);
            if file.to_str().is_some_and(|name| name.starts_with(POOL))
                && let Some((document, _)) = self.copy(path, now)
                && let Ok(pool) = serde_json::from_slice::<Pool>(&document)
            {
                names.insert(pool.metadata.name);
            }
        }
        for name in names {
            self.read_pool(&name, Read::Present, deadline)?;
        }
        if self.copy(Path::new(LABELS), now).is_some() {
            self.read_node_labels(Read::Present, deadline)?;
        }
        Ok(())
    }

    /// Returns whether the node may give addresses from a slice now.
    fn owns_slices(&self) -> bool {
        let noted = self.state.slices().unwrap_or_default();
        noted.slices.iter().any(|slice| slice.is_usable(&self.host.boot_id))
    }

    /// Returns the answer to a question, and whether it is a copy from the node state. A copy that
    /// cannot be read or written costs a request. `lasts` returns whether a copy is used however old
    /// it is.
    fn copied(
        &self,
        path: &Path,
        read: Read,
        lasts: &dyn Fn(&[u8]) -> bool,
        ask: impl FnOnce() -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Option<(Vec<u8>, bool)>, StoreError> {
        let keeps = !self.for_dead_node && self.find_cluster().is_ok();
        let asked = self.state.disk().since_boot();
        if keeps
            && read == Read::Copies
            && let Some((document, age)) = self.copy(path, asked)
            && (age < FRESH || lasts(&document))
        {
            return Ok(Some((document, true)));
        }
        let answer = ask()?;
        match &answer {
            _ if !keeps => {}
            Some(document) => self.keep_copy(path, asked, document),
            None => drop(self.state.remove(path)),
        }
        Ok(answer.map(|document| (document, false)))
    }

    /// Returns the answer in the node state and its age, if it is of this cluster and boot.
    fn copy(&self, path: &Path, now: Duration) -> Option<(Vec<u8>, Duration)> {
        let bytes = self.state.read(path).ok()??;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let head: Head = serde_json::from_slice(bytes.get(..end)?).ok()?;
        if head.cluster != self.api.cluster() || head.boot != self.host.boot_id {
            return None;
        }
        let age = now.checked_sub(Duration::from_millis(head.asked))?;
        Some((bytes.get(end + 1..)?.to_vec(), age))
    }

    fn keep_copy(&self, path: &Path, asked: Duration, document: &[u8]) {
        let head = Head {
            cluster: self.api.cluster().to_owned(),
            boot: self.host.boot_id.clone(),
            asked: u64::try_from(asked.as_millis()).unwrap_or(0),
        };
        let written =
            serde_json::to_vec(&head).map_err(|error| error.to_string()).and_then(|mut bytes| {
                bytes.push(b'\n');
                bytes.extend_from_slice(document);
                match self.state.replace(path, &bytes) {
                    // The first ADD of a node makes the place for it later.
                    Err(StoreError::Io { source, .. })
                        if source.kind() == io::ErrorKind::NotFound =>
                    {
                        self.unkept.borrow_mut().push((path.to_owned(), bytes));
                        Ok(())
                    }
                    written => written.map_err(|error| error.to_string()),
                }
            });
        if let Err(error) = written {
            tracing::debug!(%error, path = %path.display(), "a copy could not be kept in the node state");
        }
    }

    /// Keeps the copies for which there was no place before.
    pub(super) fn keep_unkept(&self) {
        for (path, bytes) in self.unkept.take() {
            if let Err(error) = self.state.replace(&path, &bytes) {
                tracing::debug!(%error, path = %path.display(), "a copy could not be kept in the node state");
            }
        }
    }
}

impl Api {
    /// Reads a pool. Returns `None` if no pool has that name.
    fn pool(&self, name: &str, deadline: &Deadline) -> Result<Option<Vec<u8>>, StoreError> {
        let path = format!("/apis/{GROUP}/{VERSION}/{}/{}", ip_pool::PLURAL, escape(name));
        self.read(ip_pool::PLURAL, name, &path, deadline, |body| {
            let pool: Pool = serde_json::from_slice(body)?;
            serde_json::to_vec(&pool)
        })
    }

    /// Reads the labels of a node. Returns `None` if there is no such node.
    fn node_labels(&self, node: &str, deadline: &Deadline) -> Result<Option<Vec<u8>>, StoreError> {
        let path = format!("/api/v1/nodes/{}", escape(node));
        self.read(NODES, node, &path, deadline, |body| {
            let node: Node = serde_json::from_slice(body)?;
            serde_json::to_vec(&node.metadata.labels)
        })
    }
}

fn path_of_pool(name: &str) -> PathBuf {
    PathBuf::from(format!("{POOL}{}", digest::short(&["pool", name])))
}

/// Returns whether the document is that of a pool with slices.
fn has_slices(document: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Head {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        #[serde(default)]
        slices: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice(document).is_ok_and(|head: Head| head.spec.slices.is_some())
}

/// Returns the error for a node of which the API server knows nothing.
fn no_node(server: &str, node: &str) -> StoreError {
    StoreError::Refused {
        server: server.to_owned(),
        call: format!("get {NODES}/{node}"),
        status: 404,
        reason: "no Node object has the name of this node, so its labels are unknown".to_owned(),
    }
}
