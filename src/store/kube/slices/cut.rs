//! How a pool is cut: the first node that claims a slice writes it down, and every other node compares.

use crate::ipam::Slicing;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::Changed;
use crate::store::kube::api::other_kinds::Created;
use crate::store::kube::objects::slice_geometry::{self, SliceGeometry};
use serde_json::json;

impl KubeStore {
    /// Returns the uid of the geometry by which the pool is cut. The first node creates it.
    pub(super) fn geometry(
        &self,
        slicing: &Slicing,
        deadline: &Deadline,
    ) -> Result<String, StoreError> {
        if let Some(uid) = self.state.geometry(slicing) {
            return Ok(uid);
        }
        let wanted = SliceGeometry::of(slicing);
        let name = slice_geometry::name(&slicing.pool);
        let created = self.api.create_object(slice_geometry::PLURAL, &name, &wanted, deadline)?;
        let mut object = match created {
            Created::Made(object) => object,
            Created::Taken => {
                let found = self.api.get_object(slice_geometry::PLURAL, &name, deadline)?;
                found.ok_or(StoreError::Changed)?
            }
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
        let uid = object.metadata.uid.clone().ok_or(StoreError::Changed)?;
        self.state.note_geometry(slicing, object);
        Ok(uid)
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
