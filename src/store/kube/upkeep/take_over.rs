//! Frees the records that another machine of this node's name has left behind. The authority for
//! this is the token that the kubelet put into the pod of the DaemonSet: it names the Node object
//! that this machine is.
//!
//! If the records name another Node object, the old one was deleted, so its machine is gone. If
//! they name the same one, it is a diskless machine that has started again, provided that every
//! record is of an earlier boot of this hardware. Anything else stays.

use crate::ipam::{Allocation, NodeRelation};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::api::Changed;
use crate::store::kube::api::paging::Place;
use crate::store::kube::objects::ip_allocation::IpAllocation;
use crate::store::kube::{KubeStore, PATIENCE};
use crate::store::upkeep::{IsLeftBehind, TakenOver};
use std::collections::{BTreeMap, BTreeSet};

/// A record of another machine under this node's name.
struct Foreign {
    object: IpAllocation,
    allocation: Allocation,
}

impl Foreign {
    fn machine(&self) -> &str {
        self.object.spec.machine.as_deref().unwrap_or_default()
    }
}

impl KubeStore {
    /// Implements [`crate::store::upkeep::Upkeep::take_over`].
    pub(crate) fn take_over_from(
        &self,
        uid: &str,
        is_left_behind: IsLeftBehind<'_>,
        deadline: &Deadline,
    ) -> Result<TakenOver, StoreError> {
        let foreign = self.foreign()?;
        // For each machine, the Node objects that its records name.
        let mut nodes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for one in &foreign {
            nodes.entry(one.machine()).or_default().extend(one.object.spec.node_uid.as_deref());
        }
        let relation = |one: &Foreign| match nodes.get(one.machine()) {
            Some(named) if named.contains(uid) => Some(NodeRelation::SameNode),
            Some(named) if !named.is_empty() => Some(NodeRelation::AnotherNode),
            _ => None,
        };
        // If one record may be of a machine that is alive, none of them is freed.
        let mut same = foreign.iter().filter(|one| relation(one) == Some(NodeRelation::SameNode));
        let all_left =
            same.all(|one| is_left_behind(&one.allocation.record, NodeRelation::SameNode));
        let mut taken = TakenOver::default();
        for one in &foreign {
            let gone = match relation(one) {
                Some(NodeRelation::SameNode) => all_left,
                Some(NodeRelation::AnotherNode) => {
                    is_left_behind(&one.allocation.record, NodeRelation::AnotherNode)
                }
                None => false,
            };
            match one.object.version().filter(|_| gone) {
                Some(version) => {
                    if self.shows_noted(deadline)? {
                        self.withdraw(&one.allocation, deadline)?;
                    }
                    let freed = self.api.delete(&one.object.metadata.name, &version, deadline)?;
                    taken
                        .freed
                        .extend(matches!(freed, Changed::Done(())).then(|| one.allocation.clone()));
                }
                None => taken.left.push(one.allocation.clone()),
            }
        }
        Ok(taken)
    }

    fn foreign(&self) -> Result<Vec<Foreign>, StoreError> {
        let selector = self.own_selector();
        let (mut found, mut place) = (Vec::new(), Place::default());
        while !place.is_ended() {
            for object in self
                .api
                .page_of_attachments(&selector, &mut place, &Deadline::after(PATIENCE))?
                .into_iter()
                .flatten()
            {
                let is_foreign = object.metadata.deletion_timestamp.is_none()
                    && self.is_of_another_machine(&object);
                if let Some(allocation) = object.allocation().ok().filter(|_| is_foreign) {
                    found.push(Foreign { object, allocation });
                }
            }
        }
        Ok(found)
    }
}
