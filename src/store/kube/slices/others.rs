//! What else lies in a block that a node claims: addresses in other scopes, and slices of other pools.
//!
//! Addresses are looked at before the claim. An ADD of single addresses does not look at slices, so
//! a later look would protect from no more. Slices of other pools are looked at after the creation:
//! of two nodes that claim in two pools at the same time, the later one sees the slice of the
//! earlier one, and gives its own back.

use crate::ipam::{Block, Slicing};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::Changed;
use crate::store::kube::objects::ip_allocation::PLURAL;
use crate::store::kube::objects::ip_slice::{self, IpSlice};
use crate::store::kube::objects::names;
use crate::store::kube::objects::slice_geometry::{self, SliceGeometry};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::net::IpAddr;

/// An address that is held in another scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HeldElsewhere {
    address: IpAddr,
    /// The name of its object.
    name: String,
}

/// A slice of another pool.
#[derive(Debug, Deserialize)]
pub(super) struct OtherSlice {
    metadata: Version,
    spec: ip_slice::Spec,
    #[serde(default)]
    status: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    generation: Option<u64>,
    #[serde(default)]
    managed_fields: Vec<IgnoredAny>,
}

impl OtherSlice {
    /// Returns whether it has addresses of a block.
    pub(super) fn overlaps(&self, block: &Block) -> bool {
        self.spec.block().overlaps(block)
    }

    /// Returns whether the slice was created after another one, whose node therefore does not see
    /// it: the node of this slice gives it back. Before anything else is changed, the
    /// resourceVersion is the order of the creations. A change of the spec has another generation; a
    /// published status and a label of somebody else have not.
    fn is_later_than(&self, made: &IpSlice) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        let made = made.metadata.resource_version.as_deref().and_then(number);
        let was_changed = self.metadata.generation != Some(1)
            || self.status.is_some()
            || 1 < self.metadata.managed_fields.len();
        !was_changed && made.is_some() && made < number(&self.metadata.resource_version)
    }
}

impl KubeStore {
    /// Returns the addresses that IPAllocations hold in other scopes than that of the pool and those
    /// on other wires. A slice is claimed only where there are none: a network that named its range
    /// before may still have pods there.
    ///
    /// # Errors
    /// Also that the cluster was restored lately.
    pub(super) fn held_in_other_scopes(
        &self,
        slicing: &Slicing,
        deadline: &Deadline,
    ) -> Result<Vec<HeldElsewhere>, StoreError> {
        let own = slice_geometry::name(&slicing.pool);
        let named = slicing.may_overlap.iter().filter(|scope| !scope.is_empty());
        let passed: Vec<String> = std::iter::once(own)
            .chain(named.map(|scope| names::label(scope)))
            .map(|scope| format!("{scope}."))
            .collect();
        let passes_unnamed = slicing.may_overlap.iter().any(String::is_empty);
        let mut held = Vec::new();
        self.api.names(PLURAL, "", deadline, &mut |name| {
            let Some(address) = names::parse(name) else { return };
            let is_passed = passed.iter().any(|scope| name.starts_with(scope.as_str()))
                || passes_unnamed && names::text(address) == name;
            if !is_passed {
                held.push(HeldElsewhere { address, name: name.to_owned() });
            }
        })?;
        // The list may be the first answer that shows it.
        self.refuse_after_set_back()?;
        held.sort_unstable();
        held.dedup();
        Ok(held)
    }

    /// Returns the slices of other pools than this one and those on other wires, if their ranges
    /// contain addresses of a block. `made` is the object of the block: slices that were created
    /// after it do not count.
    pub(super) fn slices_of_other_pools(
        &self,
        (own, may_overlap): (&str, &[String]),
        block: &Block,
        made: Option<&IpSlice>,
        deadline: &Deadline,
    ) -> Result<Vec<OtherSlice>, StoreError> {
        let geometries: Vec<SliceGeometry> =
            self.api.list_objects(slice_geometry::PLURAL, "", deadline)?;
        let mut others = Vec::new();
        for geometry in geometries {
            let pool = &geometry.spec.pool;
            let is_other = pool != own && !may_overlap.contains(pool);
            let overlaps = geometry
                .geometry()
                .is_ok_and(|cut| cut.ranges().iter().any(|range| range.overlaps(block)));
            if is_other && overlaps {
                let found: Vec<OtherSlice> =
                    self.api.list_objects(ip_slice::PLURAL, &super::of_pool(pool), deadline)?;
                let is_later =
                    |other: &OtherSlice| made.is_some_and(|made| other.is_later_than(made));
                others.extend(found.into_iter().filter(|other| !is_later(other)));
            }
        }
        Ok(others)
    }

    /// Removes the object of a slice from which nothing was given.
    pub(super) fn withdraw_slice(
        &self,
        made: &IpSlice,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let name = &made.metadata.name;
        let version = made.version().ok_or(StoreError::Changed)?;
        self.state.note_given_back(Some(&version.uid), deadline)?;
        match self.api.delete_object(ip_slice::PLURAL, name, &version, deadline)? {
            Changed::Done(()) | Changed::Absent { .. } => self.state.forget_slice(name, deadline),
            Changed::Conflict => Err(StoreError::Changed),
        }
    }

    /// Returns the error for a block in which somebody holds an address in another scope.
    pub(super) fn slice_in_use(
        &self,
        slicing: &Slicing,
        block: &Block,
        held: &HeldElsewhere,
        deadline: &Deadline,
    ) -> StoreError {
        let address = held.address;
        let found = self.api.get_of_attachment(&held.name, deadline).ok().flatten();
        let holder = match found.and_then(|found| found.allocation().ok()) {
            Some(found) => {
                let scope = found.scope.name().map_or_else(
                    || "the unnamed scope".to_owned(),
                    |scope| format!("the scope {scope}"),
                );
                let attachment = &found.record.attachment;
                let holder = found.record.pod.as_ref().map_or_else(
                    || format!("container {}", attachment.container),
                    |pod| format!("pod {pod}"),
                );
                format!("{holder} on the node {} holds {address} in {scope}", attachment.node)
            }
            None => format!("somebody holds {address} in another scope, as {} says", held.name),
        };
        StoreError::SliceInUse {
            pool: slicing.pool.clone(),
            block: block.to_string(),
            holder,
            address,
        }
    }
}

/// Returns the first of the addresses that is in a block.
pub(super) fn held_in<'h>(held: &'h [HeldElsewhere], block: &Block) -> Option<&'h HeldElsewhere> {
    held.iter().find(|held| block.contains(held.address))
}

/// Returns the error for a block that overlaps with one of the slices, if it does.
pub(super) fn overlap(
    slicing: &Slicing,
    block: &Block,
    others: &[OtherSlice],
) -> Option<StoreError> {
    let other = others.iter().find(|other| other.overlaps(block))?;
    Some(StoreError::SlicesOverlap {
        pool: slicing.pool.clone(),
        block: block.to_string(),
        owner: format!("the node {} owns {}", other.spec.node, other.spec.block()),
        other_pool: other.spec.pool.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slice_that_was_never_changed_counts_as_later() {
        let spec = serde_json::json!({
            "pool": "b", "geometry": "g", "ipv4": "10.0.0.0/24", "node": "n", "bootID": "b",
            "since": "2026-11-30T00:00:00Z",
        });
        let made =
            serde_json::json!({"metadata": {"name": "a", "resourceVersion": "20"}, "spec": spec});
        let made: IpSlice = serde_json::from_value(made).unwrap();
        let mut object = serde_json::json!({
            "metadata": {"resourceVersion": "25", "generation": 1, "managedFields": [{}]}, "spec": spec,
        });
        let is_later = |object: &serde_json::Value| {
            let other: OtherSlice = serde_json::from_value(object.clone()).unwrap();
            other.is_later_than(&made)
        };
        assert!(is_later(&object));
        for (place, value) in [
            ("/metadata/resourceVersion", serde_json::json!("15")),
            ("/metadata/generation", serde_json::json!(2)),
            ("/metadata/managedFields", serde_json::json!([{}, {}])),
        ] {
            let mut changed = object.clone();
            *changed.pointer_mut(place).unwrap() = value;
            assert!(!is_later(&changed), "{changed}");
        }
        object["status"] = serde_json::json!({"count": 1});
        assert!(!is_later(&object));
    }
}
