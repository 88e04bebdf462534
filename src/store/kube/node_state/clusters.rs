//! Finds the files of a cluster in the node state: at its top for the first cluster that this node
//! has used, below `clusters/` for each further one. So what is known of two clusters is never
//! mixed, and a call for one cluster forgets nothing of the other.

use super::State;
use super::cluster_identity::{FORMAT, NodeStateIdentity};
use crate::digest;
use crate::ipam::Allocation;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::objects::ip_allocation::IpAllocation;
use crate::store::kube::objects::ip_slice::{self, IpSlice};
use serde::Deserialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

const COMPLETE: &str = "complete";
const CLUSTERS: &str = "clusters";

/// The result of a search for a cluster's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// The files are complete for this node and boot, and this way is known.
    Complete,
    /// The files are of this cluster, as far as the ways show.
    Shown,
    /// Nothing shows which files are of this cluster.
    Unknown,
}

impl State {
    /// Returns the content of the file `complete`, or `None` if it is missing or damaged.
    pub(crate) fn identity(&self) -> Result<Option<NodeStateIdentity>, StoreError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            format: Option<u64>,
        }
        let Some(bytes) = self.read_unless_damaged(Path::new(COMPLETE))? else {
            return Ok(None);
        };
        match serde_json::from_slice::<Head>(&bytes) {
            Ok(Head { format: Some(found) }) if FORMAT < found => Err(StoreError::NewerState {
                path: self.disk().root().to_owned(),
                found,
                known: FORMAT,
            }),
            _ => Ok(serde_json::from_slice(&bytes).ok()),
        }
    }

    /// Marks the state as complete for this identity.
    pub(crate) fn complete(&self, identity: &NodeStateIdentity) -> Result<(), StoreError> {
        self.write(Path::new(COMPLETE), identity)
    }

    /// Returns the directories that can contain a cluster's files, the top first.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = PathBuf> {
        // Listed only if the top is not the right one.
        let below =
            std::iter::once_with(|| self.disk().names(Path::new(CLUSTERS)).unwrap_or_default())
                .flatten();
        std::iter::once(PathBuf::new()).chain(below.map(|name| Path::new(CLUSTERS).join(name)))
    }

    /// Returns the uids of all objects that are known, of slices, too.
    fn uids(&self) -> HashSet<String> {
        let slices = self.slices().unwrap_or_default().slices;
        let slices = slices.into_iter().filter_map(|slice| slice.object.metadata.uid);
        let hashes = self.hashes().unwrap_or_default();
        let objects = hashes.iter().flat_map(|hash| self.objects(hash).unwrap_or_default());
        objects.filter_map(|object| object.metadata.uid).chain(slices).collect()
    }
}

impl KubeStore {
    /// Selects the files of this cluster. In the usual case this reads one file.
    pub(crate) fn find_cluster(&self) -> Result<Known, StoreError> {
        let ours = self.identity();
        let mut shown = None;
        for directory in self.state.clusters() {
            self.state.go_to(&directory);
            match self.state.identity()? {
                Some(found) if found.knows(&ours.cluster) => {
                    return Ok(if found.is_of(&ours) { Known::Complete } else { Known::Shown });
                }
                Some(found) if found.is_reached_by(&self.api.server.way()) => {
                    shown = shown.or(Some(directory))
                }
                // A top that names no cluster may be of any cluster.
                None if directory == Path::new("") => shown = Some(directory),
                _ => {}
            }
        }
        self.state.go_to(shown.as_deref().unwrap_or(&self.own_files()));
        Ok(if shown.is_some() { Known::Shown } else { Known::Unknown })
    }

    /// Selects the files of a cluster about which the ways show nothing: the directory in which one
    /// of its objects is known. Uids are unique over all clusters. A node whose pods use only slices
    /// has no other objects.
    pub(crate) fn choose_cluster(
        &self,
        found: &[(IpAllocation, Allocation)],
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let has_slices = self.state.clusters().any(|directory| {
            self.state.go_to(&directory);
            self.state.slices().is_ok_and(|noted| !noted.slices.is_empty())
        });
        let slices: Vec<IpSlice> = match has_slices {
            true => self.api.list_objects(ip_slice::PLURAL, &self.own_selector(), deadline)?,
            false => Vec::new(),
        };
        let of_slices = slices.iter().filter_map(|slice| slice.metadata.uid.as_ref());
        let found = found.iter().filter_map(|(object, _)| object.metadata.uid.as_ref());
        let found: Vec<&String> = found.chain(of_slices).collect();
        let met = self.state.clusters().find(|directory| {
            self.state.go_to(directory);
            let known = self.state.uids();
            found.iter().any(|uid| known.contains(*uid))
        });
        self.state.go_to(met.as_deref().unwrap_or(&self.own_files()));
        Ok(())
    }

    /// Returns the directory in which the files of this cluster are created.
    fn own_files(&self) -> PathBuf {
        Path::new(CLUSTERS).join(digest::short(&["cluster", self.api.cluster()]))
    }

    /// Returns whether the state is of this node, machine and boot, and of this cluster as far as
    /// is known. Writes nothing.
    pub(crate) fn remembers(&self) -> Result<bool, StoreError> {
        let known = self.find_cluster()?;
        Ok(known == Known::Complete
            || known == Known::Shown
                && self.state.identity()?.is_some_and(|found| found.is_of(&self.identity())))
    }
}
