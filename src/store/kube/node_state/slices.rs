//! The slices of this node, as its node state knows them.
//!
//! The API server decides which node owns a slice; the notes say what this node has been told and
//! for which boot. A note is written before its request is sent, so that after a kill the next call
//! of any pod of the node finds what was asked for. The notes are not synced: after a power loss
//! there is another boot, in which each slice is used only after the API server has confirmed it.

use super::State;
use crate::ipam::{Block, Geometry, Scope, Slicing};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::disk::Held;
use crate::store::kube::objects::ip_slice::IpSlice;
use crate::store::kube::objects::names;
use crate::store::kube::objects::slice_geometry::SliceGeometry;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const SLICES: &str = "slices";
const CLAIMING: &str = "slices-lock";

/// What this node knows about its slices.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NotedSlices {
    /// The boot in which the node's slices were listed last.
    #[serde(default)]
    pub(crate) listed_in: String,
    /// The id of the file store with the addresses in the slices.
    #[serde(default)]
    pub(crate) files: String,
    /// The slices.
    pub(crate) slices: Vec<NotedSlice>,
}

/// A slice that this node owns, or has asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NotedSlice {
    /// The object as the server answered, or as it was asked for.
    pub(crate) object: IpSlice,
    pub(crate) state: SliceState,
    /// Since when it is empty, in milliseconds since the boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) empty_since: Option<i64>,
    /// Whether it was asked for because the cluster had lost its object. Pods may hold addresses of
    /// it, so it is never forgotten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) again: bool,
}

/// What the node may do with a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SliceState {
    /// It was asked for. Whether the node owns it is not known.
    Asked,
    /// The node owns it. Addresses are given from it in the boot that the object names.
    Owned,
    /// The node is about to give it back. No address is given from it.
    Closing,
    /// Another node owns it, or it was released. No address is given from it; what its pods hold
    /// stays recorded until they end.
    Lost,
}

impl NotedSlice {
    pub(crate) fn new(object: IpSlice, state: SliceState) -> Self {
        Self { object, state, empty_since: None, again: false }
    }

    /// Returns the name of the object.
    pub(crate) fn name(&self) -> &str {
        &self.object.metadata.name
    }

    /// Returns whether the slice is one of the pool.
    pub(crate) fn is_of(&self, pool: &str) -> bool {
        self.object.spec.pool == pool
    }

    /// Returns whether addresses may be given from the slice in this boot.
    pub(crate) fn is_usable(&self, boot: &str) -> bool {
        self.state == SliceState::Owned && self.object.spec.boot_id == boot
    }
}

/// A geometry as the API server has it, for the pool with this uid.
#[derive(Debug, Serialize, Deserialize)]
struct NotedGeometry {
    pool_uid: String,
    object: SliceGeometry,
}

impl State {
    /// Returns what is known about the slices.
    pub(crate) fn slices(&self) -> Result<NotedSlices, StoreError> {
        let path = Path::new(SLICES);
        let Some(bytes) = self.read_unless_damaged(path)? else {
            return Ok(NotedSlices::default());
        };
        serde_json::from_slice(&bytes).or_else(|error| {
            // Without notes no address is given from a slice until the API server has told which
            // slices there are, and what pods hold is recorded elsewhere.
            tracing::error!(%error, "the notes about slices are damaged; the slices of this boot are not used until the next boot");
            self.put_aside(&self.at(path))?;
            Ok(NotedSlices::default())
        })
    }

    /// Returns the blocks of a pool from which addresses may be given now, in the order of their
    /// addresses.
    pub(crate) fn usable_blocks(&self, pool: &str, boot: &str) -> Result<Vec<Block>, StoreError> {
        let noted = self.slices()?;
        let usable = noted.slices.iter().filter(|slice| slice.is_of(pool) && slice.is_usable(boot));
        let mut blocks: Vec<Block> = usable.map(|slice| slice.object.block()).collect();
        blocks.sort_by_key(Block::first);
        Ok(blocks)
    }

    /// Changes the notes, one process at a time.
    pub(crate) fn change_slices<T>(
        &self,
        deadline: &Deadline,
        change: impl FnOnce(&mut NotedSlices) -> T,
    ) -> Result<T, StoreError> {
        let _lock = self.lock_briefly(deadline)?;
        let mut noted = self.slices()?;
        let before = noted.clone();
        let result = change(&mut noted);
        if noted != before {
            self.write(Path::new(SLICES), &noted)?;
        }
        Ok(result)
    }

    /// Forgets the slices that this boot uses, if the files with their addresses are other ones than
    /// before: a pod may hold an address that is recorded nowhere, as after the loss of the disk.
    pub(crate) fn bind_files(
        &self,
        files: &str,
        boot: &str,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        if self.slices()?.files == files {
            return Ok(());
        }
        let forgotten = self.change_slices(deadline, |noted| {
            let before = noted.slices.len();
            if !noted.files.is_empty() && noted.files != files {
                noted.slices.retain(|slice| slice.object.spec.boot_id != boot);
            }
            files.clone_into(&mut noted.files);
            before - noted.slices.len()
        })?;
        if 0 < forgotten {
            tracing::error!(
                forgotten,
                "the files with the addresses in this node's slices are gone; the slices of this boot are not used until the next boot"
            );
        }
        Ok(())
    }

    /// Puts a slice in the place of the one of the same name, or after the others.
    pub(crate) fn note_slice(
        &self,
        slice: &NotedSlice,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        self.change_slices(deadline, |noted| {
            match noted.slices.iter_mut().find(|known| known.name() == slice.name()) {
                Some(known) => *known = slice.clone(),
                None => noted.slices.push(slice.clone()),
            }
        })
    }

    /// Removes a slice from the notes.
    pub(crate) fn forget_slice(&self, name: &str, deadline: &Deadline) -> Result<(), StoreError> {
        self.change_slices(deadline, |noted| noted.slices.retain(|known| known.name() != name))
    }

    /// Lets one process at a time claim slices and give them back. Nobody holds this lock while it
    /// gives addresses.
    pub(crate) fn lock_slices(&self, deadline: &Deadline) -> Result<Box<dyn Held>, StoreError> {
        self.lock(Path::new(CLAIMING), deadline)
    }

    /// Returns the uid of the geometry that is noted for a pool, if it cuts all its ranges.
    pub(crate) fn geometry(&self, slicing: &Slicing) -> Option<String> {
        let bytes = self.read(&geometry_file(&slicing.pool)).ok()??;
        let noted: NotedGeometry = serde_json::from_slice(&bytes).ok()?;
        let geometry: Geometry = noted.object.geometry().ok()?;
        let is_whole = slicing.geometry.ranges().len() <= geometry.ranges().len();
        let fits = noted.pool_uid == slicing.pool_uid
            && is_whole
            && geometry.agrees_with(&slicing.geometry);
        noted.object.metadata.uid.filter(|_| fits)
    }

    /// Notes the geometry of a pool. A failure costs a request.
    pub(crate) fn note_geometry(&self, slicing: &Slicing, object: SliceGeometry) {
        let noted = NotedGeometry { pool_uid: slicing.pool_uid.clone(), object };
        if let Err(error) = self.write(&geometry_file(&slicing.pool), &noted) {
            tracing::debug!(%error, "the geometry of a pool could not be noted");
        }
    }
}

fn geometry_file(pool: &str) -> PathBuf {
    format!("geometry-{}", names::of_scope(&Scope::of_slices(pool))).into()
}
