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
use std::time::Duration;

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
    /// When the node's slices were compared with the cluster last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) looked: Option<Moment>,
    /// When a call tried to compare them last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tried: Option<Moment>,
    /// The slices.
    pub(crate) slices: Vec<NotedSlice>,
}

/// A moment of a boot, by the time since the boot: nobody sets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment {
    pub(crate) boot: String,
    /// In milliseconds since the boot.
    pub(crate) at: i64,
}

impl Moment {
    /// Returns how long ago it was. `None` if it is of another boot than `now`, or later.
    pub(crate) fn before(&self, now: &Self) -> Option<Duration> {
        let ago = now.at.checked_sub(self.at).filter(|_| self.boot == now.boot)?;
        u64::try_from(ago).ok().map(Duration::from_millis)
    }
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
    /// The boot that the object named before this node wrote its present boot. A cluster that was
    /// restored names it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot_before: Option<String>,
    /// What may lie in a slice that was asked for: see [`Slicing::may_overlap`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) may_overlap: Vec<String>,
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

impl NotedSlices {
    /// Puts a slice in the place of the one of the same name, or after the others.
    pub(crate) fn put(&mut self, slice: NotedSlice) {
        match self.slices.iter_mut().find(|known| known.name() == slice.name()) {
            Some(known) => *known = slice,
            None => self.slices.push(slice),
        }
    }

    /// Returns the blocks of a pool from which addresses may be given in a boot, in the order of
    /// their addresses.
    pub(crate) fn usable_blocks(&self, pool: &str, boot: &str) -> Vec<Block> {
        let usable = self.slices.iter().filter(|slice| slice.is_of(pool) && slice.is_usable(boot));
        let mut blocks: Vec<Block> = usable.map(|slice| slice.object.block()).collect();
        blocks.sort_by_key(Block::first);
        blocks
    }
}

impl NotedSlice {
    /// Returns the note about an object. What was published is in no note: it decides nothing.
    pub(crate) fn new(object: IpSlice, state: SliceState) -> Self {
        let object = IpSlice { status: None, ..object };
        Self {
            object,
            state,
            empty_since: None,
            again: false,
            boot_before: None,
            may_overlap: Vec::new(),
        }
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

    /// Returns the blocks of a pool from which addresses may be given now, see
    /// [`NotedSlices::usable_blocks`].
    pub(crate) fn usable_blocks(&self, pool: &str, boot: &str) -> Result<Vec<Block>, StoreError> {
        Ok(self.slices()?.usable_blocks(pool, boot))
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

    /// Notes a slice, see [`NotedSlices::put`].
    pub(crate) fn note_slice(
        &self,
        slice: &NotedSlice,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        self.change_slices(deadline, |noted| noted.put(slice.clone()))
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
