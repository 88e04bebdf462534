//! Slices after the cluster was restored to an older state: an object may name a node that has given
//! the slice back since, while the pods of another node hold addresses of it.
//!
//! The first node knows that from its disk (`node_state/given_back`). It marks the object as
//! returned and gives no address from it. The name stays taken, so nobody can claim the block
//! meanwhile. The node whose pods hold addresses takes the object over, in one step. What nobody has
//! taken over ten minutes later, the first node removes.

use super::give_back::KEPT;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::api::Changed;
use crate::store::kube::node_state::slices::{Moment, NotedSlice, SliceState};
use crate::store::kube::objects::ip_slice::{self, IpSlice};
use crate::store::kube::objects::names;
use serde_json::json;
use std::time::Duration;

/// For how long after the cluster was restored a node without slices looks for objects that name it.
const LOOKED_FOR: Duration = Duration::from_secs(3600);

impl KubeStore {
    /// Returns whether an object may be there again that this node has to remove, though it has no
    /// slices.
    pub(super) fn may_be_named_again(&self) -> Result<bool, StoreError> {
        let given_back = self.state.given_back()?;
        let boot = &self.host.boot_id;
        let is_seen = |seen: &Option<Moment>| seen.as_ref().is_some_and(|seen| seen.boot == *boot);
        let is_recent = self.state.since_set_back().is_some_and(|since| since < LOOKED_FOR);
        Ok(!given_back.is_empty() && is_recent
            || given_back.iter().any(|known| is_seen(&known.seen)))
    }

    /// Marks the objects of slices that this node has given back, and removes those that were
    /// marked ten minutes ago. Returns the other objects.
    pub(super) fn without_given_back(
        &self,
        found: Vec<IpSlice>,
        deadline: &Deadline,
    ) -> Result<Vec<IpSlice>, StoreError> {
        let noted = self.state.slices()?.slices;
        let given_back = self.state.given_back()?;
        let mut others = Vec::new();
        for object in found {
            let uid = object.metadata.uid.as_deref();
            let known = given_back.iter().find(|known| Some(known.uid.as_str()) == uid);
            let is_noted = noted.iter().any(|slice| slice.name() == object.metadata.name);
            match known {
                Some(known) if !is_noted => {
                    self.return_again(&object, known.seen.as_ref(), deadline)?
                }
                _ => others.push(object),
            }
        }
        Ok(others)
    }

    /// Marks the object of a slice that this node has given back, or removes it.
    fn return_again(
        &self,
        object: &IpSlice,
        seen: Option<&Moment>,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let (name, Some(version)) = (&object.metadata.name, object.version()) else {
            return Ok(());
        };
        if object.is_of(&self.host.node, self.machine.as_deref()) {
            tracing::warn!(
                slice = name,
                "the cluster was restored and names a slice of this node that it has given back; the slice is not used"
            );
            let at = humantime::format_rfc3339_seconds(self.now()).to_string();
            let change = json!({"spec": {"returned": at}});
            let changed: Changed<IpSlice> =
                self.api.patch_object(ip_slice::PLURAL, name, change, &version, deadline)?;
            let is_marked = |changed: &IpSlice| changed.spec.returned.is_some();
            if !matches!(&changed, Changed::Done(changed) if is_marked(changed)) {
                // The next look sees what it is now. An older resource does not know the mark: then
                // the object stays, because no node would take it over.
                return Ok(());
            }
        } else if object.spec.returned.is_none() {
            // Released, or of another machine.
            return Ok(());
        }
        // After a reboot the time begins again.
        let now = self.moment();
        let seen = seen.and_then(|seen| Some((seen, seen.before(&now)?)));
        let is_old = seen.is_some_and(|(_, ago)| KEPT <= ago);
        if is_old {
            // A node that takes it over meanwhile changes the version.
            self.api.delete_object(ip_slice::PLURAL, name, &version, deadline)?;
        }
        let first = seen.map_or(&now, |(seen, _)| seen);
        let seen = if is_old { None } else { Some(first) };
        self.state.note_seen_again(&version.uid, seen, deadline)
    }

    /// Takes over the object of a slice of which pods of this node hold addresses, if its node has
    /// marked it as returned. Returns the object as it is then.
    pub(super) fn take_over_returned(
        &self,
        asked: &NotedSlice,
        found: &IpSlice,
        deadline: &Deadline,
    ) -> Result<Option<IpSlice>, StoreError> {
        let (wanted, spec) = (&asked.object.spec, &found.spec);
        let is_same = (&spec.pool, &spec.geometry, &spec.ipv4, &spec.ipv6)
            == (&wanted.pool, &wanted.geometry, &wanted.ipv4, &wanted.ipv6);
        let version = found
            .version()
            .filter(|_| is_same && spec.returned.is_some() && spec.released.is_none());
        let Some(version) = version else { return Ok(None) };
        let change = json!({
            "metadata": {"labels": {names::NODE: names::of_node(&self.host.node)}},
            "spec": {
                "node": wanted.node, "machine": wanted.machine, "nodeUID": wanted.node_uid,
                "bootID": wanted.boot_id, "since": wanted.since, "returned": null,
            },
        });
        let name = asked.name();
        match self.api.patch_object(ip_slice::PLURAL, name, change, &version, deadline)? {
            Changed::Done(object) => Ok(Some(object)),
            Changed::Conflict | Changed::Absent { .. } => Ok(None),
        }
    }

    /// Gets a slice again that another node had got, if pods of this node hold addresses of it and
    /// nobody owns it any more. Returns whether this node owns it now.
    pub(super) fn get_back_lost(
        &self,
        lost: &NotedSlice,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        // A copy of another machine's disk has the notes of that machine.
        let spec = &lost.object.spec;
        let is_own = spec.node == self.host.node.as_str() && spec.machine == self.machine;
        if lost.empty_since.is_some() || !is_own {
            return Ok(false);
        }
        let found: Option<IpSlice> =
            self.api.get_object(ip_slice::PLURAL, lost.name(), deadline)?;
        let is_free = |found: &IpSlice| {
            found.spec.returned.is_some()
                && found.spec.released.is_none()
                && found.metadata.deletion_timestamp.is_none()
        };
        match found.as_ref().is_none_or(is_free) {
            true => self.create_again(lost, deadline),
            false => Ok(false),
        }
    }

    /// Returns whether an object is that of a noted slice, as an older state of the cluster had it:
    /// in the boot before, or from before this node gave the slice back and claimed it again.
    pub(super) fn is_older_state(
        &self,
        noted: &NotedSlice,
        object: &IpSlice,
    ) -> Result<bool, StoreError> {
        if noted.state != SliceState::Owned
            || !object.is_of(&self.host.node, self.machine.as_deref())
        {
            return Ok(false);
        }
        let uid = object.metadata.uid.as_deref();
        if noted.object.metadata.uid.as_deref() == uid {
            return Ok(noted.boot_before.as_ref() == Some(&object.spec.boot_id));
        }
        let given_back = self.state.given_back()?;
        Ok(given_back.iter().any(|known| Some(known.uid.as_str()) == uid)
            && object.block() == noted.object.block())
    }
}
