//! How a pool is cut: the first node that claims a slice writes it down, and every other node compares.
//!
//! A pool has a uid, and a later pool of the same name has another one. A network that is cut by
//! `node_slice_size` has none, and its geometry may be deleted at any time at which no node owns a
//! slice of it, to cut it in another way. Therefore a node trusts its note about it only while it
//! owns such a slice. Otherwise it lists the slices after it has read or created the geometry, and
//! reads the geometry once more after it has created its slice: of two nodes that cut the network in
//! two ways, one sees the other.

use crate::ipam::{Block, Slicing, names_network};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::Changed;
use crate::store::kube::api::other_kinds::Created;
use crate::store::kube::objects::ip_slice::IpSlice;
use crate::store::kube::objects::slice_geometry::{self, SliceGeometry};
use serde_json::json;

impl KubeStore {
    /// Returns the uid of the geometry by which the pool is cut. The first node creates it.
    pub(super) fn geometry(
        &self,
        slicing: &Slicing,
        deadline: &Deadline,
    ) -> Result<String, StoreError> {
        let is_network = names_network(&slicing.pool);
        let noted = self.state.geometry(slicing);
        if let Some(uid) = noted
            && (!is_network || self.owns_slice_of(&slicing.pool)?)
        {
            return Ok(uid);
        }
        let wanted = SliceGeometry::of(slicing);
        let name = slice_geometry::name(&slicing.pool);
        let find = || self.api.get_object(slice_geometry::PLURAL, &name, deadline);
        let create = || self.api.create_object(slice_geometry::PLURAL, &name, &wanted, deadline);
        // All nodes but one find it.
        let mut object: SliceGeometry = match find()? {
            Some(found) => found,
            None => match create()? {
                Created::Made(object) => object,
                Created::Taken => find()?.ok_or(StoreError::Changed)?,
            },
        };
        let found = object.geometry();
        let agrees = found.as_ref().is_ok_and(|found| found.agrees_with(&slicing.geometry));
        if !agrees || object.spec.pool != slicing.pool {
            let found = found.map_or_else(|reason| reason, |_| words(&object.spec));
            return Err(StoreError::OtherGeometry {
                pool: slicing.pool.clone(),
                object: format!("{}/{name}", slice_geometry::PLURAL),
                found,
                wanted: words(&wanted.spec),
            });
        }
        // The pool has got further ranges.
        if object.spec.ranges.len() < wanted.spec.ranges.len() {
            let version = object.version().ok_or(StoreError::Changed)?;
            let more = json!({"spec": {"ranges": wanted.spec.ranges}});
            object = match self.api.patch_object(
                slice_geometry::PLURAL,
                &name,
                more,
                &version,
                deadline,
            )? {
                Changed::Done(object) => object,
                Changed::Conflict | Changed::Absent { .. } => return Err(StoreError::Changed),
            };
        }
        if is_network {
            self.refuse_other_cut(slicing, deadline)?;
        }
        let uid = object.metadata.uid.clone().ok_or(StoreError::Changed)?;
        self.state.note_geometry(slicing, object);
        Ok(uid)
    }
}

impl KubeStore {
    fn owns_slice_of(&self, pool: &str) -> Result<bool, StoreError> {
        Ok(!self.state.usable_blocks(pool, &self.host.boot_id)?.is_empty())
    }

    /// Refuses to cut a network in another way than its slices are.
    fn refuse_other_cut(&self, slicing: &Slicing, deadline: &Deadline) -> Result<(), StoreError> {
        let is_cut_so =
            |block: &Block| block.first().and_then(|first| slicing.geometry.slice_of(first));
        for slice in self.slices_of(&slicing.pool, deadline)? {
            let block = slice.block();
            if is_cut_so(&block) != Some(block.clone()) {
                return Err(StoreError::OtherCut {
                    network: slicing.pool.clone(),
                    wanted: words(&SliceGeometry::of(slicing).spec),
                    block: block.to_string(),
                    node: slice.spec.node,
                });
            }
        }
        Ok(())
    }

    /// Returns whether the geometry of the slice's network still cuts it so.
    pub(super) fn is_cut_so(
        &self,
        slice: &IpSlice,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let name = slice_geometry::name(&slice.spec.pool);
        let found: Option<SliceGeometry> =
            self.api.get_object(slice_geometry::PLURAL, &name, deadline)?;
        let geometry = found.and_then(|found| found.geometry().ok());
        let block = slice.block();
        let cut = geometry.zip(block.first()).and_then(|(cut, first)| cut.slice_of(first));
        Ok(cut == Some(block))
    }
}

/// Returns a geometry in words.
fn words(spec: &slice_geometry::Spec) -> String {
    let range = |range: &slice_geometry::Range| {
        let both = [range.ipv4.as_deref(), range.ipv6.as_deref()];
        both.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    };
    let ranges: Vec<String> = spec.ranges.iter().map(range).collect();
    let lengths = [spec.ipv4_mask_size, spec.ipv6_mask_size].into_iter().flatten();
    let lengths: Vec<String> = lengths.map(|length| format!("/{length}")).collect();
    format!("slices of {} in {}", lengths.join(" and "), ranges.join(", "))
}
